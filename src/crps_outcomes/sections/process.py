"""The other process measures, and every measure of the last twelve months as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.layout import noted, row, text_columns
from crps_outcomes.marks import NOT_APPLICABLE
from crps_outcomes.monitoring import WATCHABLE
from crps_outcomes.numbers import month
from crps_outcomes.report_model import Section, Table
from crps_outcomes.sections.charts import drawn, finding, numbers, told_inside
from crps_outcomes.watching import big_value, counts_in_brief, watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crps_outcomes.facts import Facts
    from crps_outcomes.watching import Watch

MONTHS_SHOWN = 12
_SHORT = {
    "on_time": "Scores on time",
    "monitored": "Fully monitored",
    "days_to_first_dose": "Days to first dose",
    "as_planned": "Series as planned",
    "sessions_per_week": "Sessions a week",
    "response": "Responders",
    "adverse_events": "Events per 100 sessions",
}


def process(facts: Facts) -> Section:
    """Charts of the measures that are not on page 1, and the months of all."""
    watches = watched(facts, front=False)
    section = Section(
        id="process",
        short="Process measures",
        finding=finding(watches, "behind page 1"),
        lede="How the service runs: planned sessions held, and how many sessions a week. Drawn and judged like the charts before.",
        figures=drawn(facts, watches, wide=len(watches) % 2),
        tables={
            **({"numbers": numbers(facts, watches, "Numbers behind these charts.")} if watches else {}),
            "months": _months(facts, watched(facts)),
        },
    )
    return told_inside(section) if facts.is_release else section


def _months(facts: Facts, watches: Sequence[Watch]) -> Table:
    found = {own.visit: own for watch in watches for own in watch.rows}
    names = sorted(found)[-MONTHS_SHOWN:]
    table = Table(
        title=f"The last {MONTHS_SHOWN} complete months.",
        encoding="Value of the month, and what it rests on. A month describes everybody in it, so it has no interval.",
        columns=text_columns(("Month", 16), *((_SHORT[one.measure.id], 158 / max(len(watches), 1)) for one in watches)),
        rows=tuple(row(found[name].key(month(name)), *(_cell(one, name) for one in watches)) for name in names),
        empty="No month is complete yet.",
        style="tight fixed",
    )
    what = (f"{one.measure.label}: {WATCHABLE[one.measure.id].what}." for one in watches)
    return noted(table, facts, "\N{EN DASH}: no value, because too few were counted that month.", *what)


def _cell(watch: Watch, name: str) -> str:
    found = next((own for own in watch.rows if own.visit == name), None)
    if found is None:
        return NOT_APPLICABLE
    rests = counts_in_brief(watch, found)
    if found.mark or found.estimate is None:
        return "\N{EN DASH}" if found.k is None else f"\N{EN DASH} ({rests})"
    return f"{big_value(watch, found)} ({rests})"
