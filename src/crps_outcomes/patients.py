"""``crps-outcomes patient``: a page about each person, from the newest snapshot. How they are made: `person_pages`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from crps_outcomes import progress
from crps_outcomes.console import OutOption, StudyOption, home_at, stops
from crps_outcomes.errors import DefinitionError
from crps_outcomes.params import Edition
from crps_outcomes.study import load, locate


@stops
def patient(  # noqa: PLR0913, PLR0917 - one argument per option of the command
    code: Annotated[list[str] | None, typer.Option("--patient", help="A person's code; may be repeated.")] = None,
    study: StudyOption = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="The day the pages speak of, YYYY-MM-DD.")] = None,
    edition: Annotated[
        Edition, typer.Option("--edition", help="internal; a release edition is refused.")
    ] = Edition.internal,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes. Without it: one per core.")
    ] = None,
    out: OutOption = None,
    *,
    everybody: Annotated[bool, typer.Option("--all", help="A page about everybody with a dose.")] = False,
) -> None:
    """Make a page about one person, or about everybody, from the newest snapshot; the last line is the folder.

    Example: [bold]crps-outcomes patient --all[/bold]
    """
    if everybody == bool(code):
        raise DefinitionError(
            "patient: either --all or --patient CODE; codes stand on the action list of the quality report"
        )
    from crps_outcomes import person_pages, pipeline  # noqa: PLC0415 - other commands need no statistics to start
    from crps_outcomes.stages.compose import refuse_release  # noqa: PLC0415 - the same

    home, root = home_at(out), locate(study)
    refuse_release(load(root).reports[person_pages.REPORT], edition.value)
    basis = pipeline.basis(home.root, root, "latest", as_of)
    with progress.shown() as tell:
        folder, made = person_pages.pages(home, basis, code or (), edition.value, workers or os.cpu_count() or 1, tell)
    for line in person_pages.told(made):
        typer.echo(line, err=True)
    typer.echo(str(folder))
    person_pages.complain(made)
    pipeline.refuse_draft(home.root, basis, [folder.name])
