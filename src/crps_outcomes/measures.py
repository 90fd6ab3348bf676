"""``crps-outcomes measures`` and ``measure show``: what the catalogue holds, and one measure explained."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads the signature at run time
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from crps_outcomes.console import CODES, StudyOption, stops
from crps_outcomes.errors import DefinitionError
from crps_outcomes.measure_pages import page, pages
from crps_outcomes.measure_resource import as_resource
from crps_outcomes.study import load, locate

app = typer.Typer(no_args_is_help=True, help="Measures: one explained, with its codes and sources.")


@stops
def measures(study: StudyOption = None) -> None:
    """All measures of the study, by domain.

    Example: [bold]crps-outcomes measures --study my-clinic[/bold]
    """
    found = load(locate(study))
    table = Table("measure", "title", "domain", "role", "better", "range")
    for _, one in sorted(found.measures.items(), key=lambda pair: (pair[1].domain, pair[0])):
        role = "declared outcome" if one in found.reported else one.role
        table.add_row(one.id, one.title, one.domain, role, one.direction, f"{one.range[0]:g} to {one.range[1]:g}")
    Console().print(table)
    typer.echo(f"{len(found.measures)} measures")


@app.callback()
def measure() -> None:
    """Measures: one explained, with its codes and sources."""


@app.command(epilog=CODES)
@stops
def show(
    name: Annotated[str, typer.Argument(help="The measure's id, such as pain_nrs.", show_default=False)],
    study: StudyOption = None,
    *,
    fhir: Annotated[bool, typer.Option("--fhir", help="As a FHIR R4 Measure resource, in JSON.")] = False,
) -> None:
    """One measure: where it stands in FHIR, how it is scored, what matters, and what is known about each of that.

    Example: [bold]crps-outcomes measure show pain_nrs --fhir[/bold]
    """
    found = load(locate(study))
    if name not in found.measures:
        raise DefinitionError(f"{name}: no such measure; there are {', '.join(sorted(found.measures))}")
    if fhir:
        typer.echo(json.dumps(as_resource(found.measure(name)), indent=2, ensure_ascii=False))
    else:
        Console().print(Markdown(page(found.measure(name), found).split("\n", 2)[2]))


@app.command(epilog=CODES, hidden=True)
@stops
def docs(
    folder: Annotated[Path, typer.Argument(help="The docs folder to write into.", show_default=False)],
    study: StudyOption = None,
) -> None:
    """Write the pages that the catalogue and the tables generate."""
    made = pages(load(locate(study)))
    (folder / "measures").mkdir(parents=True, exist_ok=True)
    for old in set((folder / "measures").glob("*.md")) - {folder / name for name in made}:
        old.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    typer.echo(f"{len(made)} pages")
