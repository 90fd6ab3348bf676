"""``crps-outcomes faults``: a FHIR server, or a folder, of invented people that goes wrong as it is told to.

The kit stands in tests/faulty_server of the checkout and comes with the study folder in an installation; it is loaded
from there, because the pipeline itself never needs it.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from crps_outcomes.study import load, locate

app = typer.Typer(no_args_is_help=True, help="Test a FHIR client: a server or folder of invented people, with faults.")

CodeArgument = Annotated[str, typer.Argument(help='A fault of the list, such as F07 or "F21 cut".', show_default=False)]
OutOption = Annotated[Path, typer.Option("--out", help="Folder for the NDJSON files.")]
PageOption = Annotated[int | None, typer.Option("--page", min=0, help="Page, file or poll it strikes; 0 is every one.")]
AtOption = Annotated[str, typer.Option("--at", help="Place: page, count, kickoff, status, manifest, file, token, ...")]
TimesOption = Annotated[int, typer.Option("--times", min=1, help="How often it strikes; then all is well.")]
TextOption = Annotated[str | None, typer.Option("--option", help="What the list calls its option: JSON or text.")]
JwksOption = Annotated[
    Path | None,
    typer.Option(
        "--jwks", exists=True, dir_okay=False, help='Public keys of SMART client "client", who then needs tokens.'
    ),
]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 is any free one.")]
SecondsOption = Annotated[float, typer.Option("--seconds", min=0, help="It stops by itself after this long.")]
TypeOption = Annotated[str, typer.Option("--type", help="Resource type it strikes.")]
PatientsOption = Annotated[int, typer.Option("--patients", min=1, help="How many people.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same people.")]


def kit() -> Any:
    """The package ``faulty_server``."""
    name = "faulty_server"
    if name not in sys.modules:
        folder = locate() / "tests" / name
        found = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
        assert found is not None
        assert found.loader is not None
        sys.modules[name] = module_from_spec(found)
        found.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@app.callback(invoke_without_command=True)
def faults(
    *, wants_list: Annotated[bool, typer.Option("--list", help="All faults, and the sources each can strike.")] = False
) -> None:
    """Test a FHIR client: a server or folder of invented people, with faults."""
    if wants_list:
        Console().print(_table(kit().CATALOGUE))


@app.command()
def serve(  # noqa: PLR0913, PLR0917 - one argument per option of the command
    code: CodeArgument = "",
    page: PageOption = None,
    at: AtOption = "",
    resource_type: TypeOption = "Observation",
    times: TimesOption = 1_000_000,
    option: TextOption = None,
    jwks: JwksOption = None,
    port: PortOption = 0,
    patients: PatientsOption = 20,
    seed: SeedOption = 1,
    seconds: SecondsOption = 3600,
) -> None:
    """Serve invented people on 127.0.0.1 with a fault, or without one; the last line is the address.

    Example: [bold]crps-outcomes faults serve F07 --page 2[/bold]
    """
    place = _place(code, at) if code else ""
    injects = [kit().Inject(code, page, resource_type, times, _read(option), place)] if code else []
    smart = kit().Smart("client", json.loads(jwks.read_text(encoding="utf-8"))) if jwks else None
    server = kit().FaultyServer(_people(patients, seed), *injects, smart=smart, now=lambda: datetime.now(UTC))
    try:
        with server.listen(port=port) as address:
            typer.echo(address)
            sys.stdout.flush()
            Event().wait(seconds)
    except OSError as error:
        raise typer.BadParameter("another program has this port; 0 finds a free one", param_hint="--port") from error


@app.command()
def write(
    code: CodeArgument,
    out: OutOption,
    resource_type: TypeOption = "Observation",
    option: TextOption = None,
    patients: PatientsOption = 20,
    seed: SeedOption = 1,
) -> None:
    """Write invented people as a folder of NDJSON files with a fault; the last line is the folder.

    Example: [bold]crps-outcomes faults write F36 --out build/spoiled[/bold]
    """
    if "folder" not in _variant(code).sources:
        raise typer.BadParameter(f"{code} cannot strike a folder; see crps-outcomes faults --list", param_hint="CODE")
    inject = kit().Inject(code, resource_type=resource_type, option=_read(option))
    typer.echo(kit().write_folder(_people(patients, seed), out, inject))


def _read(option: str | None) -> Any:
    """JSON if it is some (a number, a list), else the text itself (an address)."""
    try:
        return None if option is None else json.loads(option)
    except ValueError:
        return option


def _variant(code: str) -> Any:
    if code not in kit().VARIANTS:
        raise typer.BadParameter("no such fault; see crps-outcomes faults --list", param_hint="CODE")
    return kit().VARIANTS[code]


def _place(code: str, at: str) -> str:
    places = _variant(code).places
    if at and at not in places:
        raise typer.BadParameter(f"{code} can strike at {', '.join(places)}", param_hint="--at")
    return at


def _people(patients: int, seed: int) -> list[Any]:
    """The last version of every resource of a synthetic cohort: what a server would hold."""
    from crps_outcomes.synthetic import Options, generate  # noqa: PLC0415 - listing the faults needs no cohort

    cohort = generate(Options(patients=patients, seed=seed), load(locate()))
    versions = (one for own in cohort.resources.values() for one in own)
    return list({(one["resourceType"], one["id"]): one for one in versions}.values())


def _table(catalogue: Any) -> Table:
    table = Table("fault", "what happens", "sources", box=None, pad_edge=False)
    for fault in catalogue:
        table.add_row(fault.code, f"[bold]{fault.title}[/]", ", ".join(fault.sources))
        for one in fault.variants:
            table.add_row("", f'"{one.name}" {one.what}', ", ".join(one.sources))
    return table
