"""The command line: ``crps-outcomes demo | synthesize | check | run``.

Messages and progress go to stderr; stdout ends with the folder of the run. The clock and the environment are read here
and in ``flows/`` only.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, ParamSpec

import typer
from rich.console import Console
from rich.markup import escape

from crps_outcomes import orchestration, progress, settings
from crps_outcomes.deployments import read as read_deployments
from crps_outcomes.errors import EXIT_CODES, PipelineError
from crps_outcomes.failures import translate
from crps_outcomes.home import Home
from crps_outcomes.params import Edition, NightlyParams, parse
from crps_outcomes.patient_list import list_for
from crps_outcomes.settings import HOME, PATIENT_LIST, TOKEN_FILE
from crps_outcomes.study import load, locate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crps_outcomes.study import Study

Arguments = ParamSpec("Arguments")
NIGHTLY = ("flows/nightly.py", "nightly_outcomes")

_MEANINGS = (f"[bold]{code}[/] {meaning.replace(';', ',')}" for code, meaning in EXIT_CODES.items())
_CODES = f"Exit codes: {'; '.join(_MEANINGS)}."

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Outcomes reporting for intramuscular ketamine in Complex Regional Pain Syndrome, from FHIR to PDF.",
    epilog=_CODES,
)

StudyOption = Annotated[
    Path | None, typer.Option("--study", help="Study folder. Without it: the one that comes with this installation.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help=f"Folder below which all is written. Without it: ${HOME}, else build.")
]
ReportOption = Annotated[list[str] | None, typer.Option("--report", help="Report to make; may be repeated. Without it: evidence.")]
AsOfOption = Annotated[str | None, typer.Option("--as-of", help="The day the report speaks of, YYYY-MM-DD. Without it: the newest day in the data.")]
EditionOption = Annotated[Edition, typer.Option("--edition", help="internal shows small cells, release hides them.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show the scheduler's own log.")]
PatientsOption = Annotated[int, typer.Option("--patients", min=1, help="How many people.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same people.")]


def main() -> None:
    """The entry point of the ``crps-outcomes`` command."""
    os.umask(0o077)  # all that is written may hold patient data
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that child processes are stopped
    app()


def stops(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Turn an error into one message on stderr and its exit code; never a traceback, never a foreign exception's text."""

    @wraps(command)
    def told(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except PipelineError as error:
            code = _tell(error)
        except (KeyboardInterrupt, SystemExit, typer.Exit, typer.Abort):
            raise
        except Exception as error:  # noqa: BLE001 - its text may hold a patient's data
            code = _tell(translate(error, _home(None).root, command.__name__))
        else:
            return
        raise typer.Exit(code)

    return told


@app.command(epilog=_CODES)
@stops
def demo(
    patients: PatientsOption = 80,
    seed: SeedOption = 7,
    edition: EditionOption = Edition.internal,
    out: OutOption = None,
    *,
    verbose: VerboseOption = False,
) -> None:
    """Invent a cohort, serve it from a real FHIR server on this machine, and make the report from that server.

    Example: [bold]crps-outcomes demo --patients 40[/bold]
    """
    from crps_outcomes.demo_server import serve  # noqa: PLC0415 - the FHIR server is an extra of the installation

    started = time.monotonic()
    with _prefect(home := _home(out), is_verbose=verbose) as ready, progress.shown() as tell:
        tell("Inventing patients")
        cohort = _synthesize(patients, seed, home.root / "demo" / f"cohort-{patients}-{seed}", load(locate()))
        with serve(cohort.folder, home.root / "demo" / "server", progress=tell) as address:
            tell("Waiting for the scheduler")
            wanted = {"source": address, "edition": edition, "home": str(home.root), "as_of": cohort.ends_on}
            runs = _report(parse(NightlyParams, wanted), ready)
    typer.echo(f"{patients} synthetic patients, from nothing to report in {time.monotonic() - started:.0f} s")
    _show(runs)


@app.command(epilog=_CODES)
@stops
def synthesize(
    patients: PatientsOption,
    seed: SeedOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for the NDJSON files and the truth behind them.")],
    study: StudyOption = None,
) -> None:
    """Write a cohort of invented people as FHIR R4 resources, one NDJSON file per type.

    Example: [bold]crps-outcomes synthesize --patients 200 --seed 1 --out build/cohort[/bold]
    """
    cohort = _synthesize(patients, seed, out, load(locate(study)))
    typer.echo(str(cohort.folder.resolve()))


@app.command(epilog=_CODES)
@stops
def check(study: StudyOption = None) -> None:
    """Read the study folder and prefect.yaml as a compiler would: every mistake with file, line and key.

    Example: [bold]crps-outcomes check --study my-clinic[/bold]
    """
    root = locate(study)
    found = settings.checked(root)
    typer.echo("\n".join(_summary(found)))
    if (root / "prefect.yaml").is_file():
        names = ", ".join(deployment.name for deployment in read_deployments(root / "prefect.yaml").deployments)
        typer.echo(f"deployments: {names}")
    typer.echo(f"{root}: in order")


@app.command(epilog=_CODES)
@stops
def run(  # noqa: PLR0913, PLR0917 - one argument per option of the command
    source: Annotated[str, typer.Option("--source", help="Address of a FHIR R4 server, or a folder of NDJSON files.")],
    study: StudyOption = None,
    report: ReportOption = None,
    as_of: AsOfOption = None,
    edition: EditionOption = Edition.internal,
    out: OutOption = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File with the server's bearer token, mode 600. Or set $CRPS_OUTCOMES_TOKEN."),
    ] = None,
    patients: Annotated[
        Path | None,
        typer.Option(
            "--patients",
            help=f'CSV file with the enrolled, mode 600, where the protocol\'s selector is "list". Or set ${PATIENT_LIST}.',
        ),
    ] = None,
    *,
    verbose: VerboseOption = False,
) -> None:
    """Pull from a FHIR server or a folder, and make the report; the last line is the folder it is in.

    Example: [bold]crps-outcomes run --source https://fhir.example.org/r4 --edition release[/bold]
    """
    where = source if "://" in source else str(Path(source).resolve())
    wanted = {"source": where, "reports": report or ["evidence"], "as_of": as_of, "edition": edition}
    home = _home(out)
    folders = {"study": str(study.resolve()) if study else None, "home": str(home.root)}
    params = parse(NightlyParams, {**wanted, **folders})
    selector = load(settings.study(params)).protocol.enrolment.selector
    _offer(TOKEN_FILE, token_file)
    _offer(PATIENT_LIST, patients)
    settings.token(os.environ)  # refuses a file that is not there, or that others may read, before anything starts
    list_for(selector, settings.patients(os.environ))
    with _prefect(home, is_verbose=verbose) as ready, progress.shown():
        runs = _report(params, ready)
    _show(runs)


def _tell(error: PipelineError) -> int:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]Stopped.[/] {escape(str(error))}")
    return error.exit_code


def _home(out: Path | None) -> Home:
    return Home.at(settings.home(os.environ, str(out) if out else None))


@contextmanager
def _prefect(home: Home, *, is_verbose: bool) -> Iterator[Callable[[], None]]:
    for name, value in orchestration.settings(home.prefect, is_verbose=is_verbose).items():
        os.environ.setdefault(name, value)
    with orchestration.server(os.environ, home.prefect) as ready:
        yield ready


def _report(params: NightlyParams, ready: Callable[[], None]) -> list[Path]:
    file, function = NIGHTLY
    return [Path(folder) for folder in orchestration.run_flow(locate() / file, function, params, ready)]


class _Cohort(NamedTuple):
    """Invented people on disk, and the last day of their data: a server dates what it stores by its own clock."""

    folder: Path
    ends_on: str


def _synthesize(patients: int, seed: int, folder: Path, study: Study) -> _Cohort:
    from crps_outcomes.synthetic import Options, generate, write_ndjson  # noqa: PLC0415 - only two commands need it

    options = Options(patients=patients, seed=seed)
    write_ndjson(generate(options, study), folder)
    return _Cohort(folder, options.ends_on.isoformat())


def _offer(variable: str, file: Path | None) -> None:
    """Tell the flow where a private file is; that is never a parameter, because parameters are stored."""
    if file is not None:
        os.environ[variable] = str(file.resolve())


def _summary(study: Study) -> Iterator[str]:
    protocol = study.protocol
    codes = Counter(row.state for rows in study.codelists.values() for row in rows)
    yield f"protocol: {protocol.title}, version {protocol.version}{' (example)' if protocol.is_example else ''}"
    yield f"enrolment: by {protocol.enrolment.selector}"
    yield f"visits: {', '.join(f'{visit.label} (days {visit.window_days[0]}-{visit.window_days[1]})' for visit in protocol.visits)}"
    yield f"measures: {', '.join(sorted(study.measures))}"
    yield f"codelists: {', '.join(sorted(study.codelists))}; codes {', '.join(f'{n} {state}' for state, n in sorted(codes.items()))}"
    yield f"reports: {', '.join(f'{one.id} ({len(one.sections)} sections)' for one in study.reports.values())}"


def _show(runs: Sequence[Path]) -> None:
    for run_folder in runs:
        for name in ("report.pdf", "report.html"):
            typer.echo(f"{name}: {run_folder / name}")
    for run_folder in runs:
        typer.echo(str(run_folder))
