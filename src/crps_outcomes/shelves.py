"""``crps-outcomes status`` and ``crps-outcomes withdraw``: what the reports that are there are worth today."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from crps_outcomes import library
from crps_outcomes.console import OutOption, StudyOption, home_at, stops
from crps_outcomes.params import Edition
from crps_outcomes.study import load, locate

if TYPE_CHECKING:
    from crps_outcomes.study import Study

STATUS_CODES = "Exit codes: [bold]0[/] every kind has a final report in its time; [bold]1[/] one is late or missing."


@stops
def status(
    report: Annotated[
        list[str] | None, typer.Option("--report", help="A report that has to be there; may be repeated.")
    ] = None,
    edition: Annotated[Edition, typer.Option("--edition", help="The edition of these.")] = Edition.internal,
    study: StudyOption = None,
    out: OutOption = None,
) -> None:
    """Say whether the newest final report of each kind may still be read as the present state.

    Kinds are those that were ever made, and those named with --report. Example: [bold]crps-outcomes status --report evidence[/bold]
    """
    wanted = [(name, edition.value) for name in report or ()]
    found = library.verdicts(home_at(out), _today(load(locate(study))), wanted)
    typer.echo("\n".join(verdict.text for verdict in found) or "no report was ever made here")
    if not found or not all(verdict.is_good for verdict in found):
        raise typer.Exit(1)


@stops
def withdraw(
    run: Annotated[str, typer.Argument(help="The run, as its folder below runs/ is called.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the internal library. Name no patient.")],
    study: StudyOption = None,
    out: OutOption = None,
) -> None:
    """Mark a run as not to be used any more, and write the libraries anew; its folder stays.

    Example: [bold]crps-outcomes withdraw evidence-internal-2026-06-12-ddbf6f0f71dd --reason "Wrong week 4 window"[/bold]
    """
    home, found = home_at(out), load(locate(study))
    library.withdraw(home, run, reason, _today(found))
    typer.echo(str(library.publish(home, found, _today(found))))


def _today(study: Study) -> date:
    return datetime.now(ZoneInfo(study.protocol.timezone)).date()
