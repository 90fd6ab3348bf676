"""Month by month: the measures of page 1 as process charts, and the same numbers as a table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from crps_outcomes.control_figures import Control, control, place_of
from crps_outcomes.figure_kit import drawing
from crps_outcomes.layout import listed, noted, number_columns, row, text_columns
from crps_outcomes.marks import NOT_APPLICABLE, NOT_AVAILABLE
from crps_outcomes.numbers import count, plural
from crps_outcomes.report_model import Cell, Figure, Section, Table
from crps_outcomes.sections.quality import WHY_INSIDE
from crps_outcomes.watching import (
    alt_of,
    big_value,
    counts_of,
    decimals,
    number_of,
    shown_value,
    signals,
    signals_in_words,
    sizes_in_words,
    watched,
)
from crps_outcomes.wording import capital

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crps_outcomes.facts import Facts
    from crps_outcomes.layout import Row
    from crps_outcomes.watching import Watch


def charts(facts: Facts) -> Section:
    """The charts of the front measures: an odd one wide, or two, the others side by side."""
    watches = watched(facts, front=True)
    section = Section(
        id="charts",
        short="Month by month",
        finding=finding(watches, "watched"),
        lede=(
            "A month outside the limits, seven in a row on one side of the mean, seven rising or falling in a row, or two of "
            "three near a limit are unlikely to be chance. Below 13 months there is a median and no limits. Where fewer than 20 are counted "
            "in a month, single cases move its point."
        ),
        figures=drawn(facts, watches, wide=2 - len(watches) % 2),
        tables={"numbers": numbers(facts, watches, "Numbers behind the charts.")},
    )
    return told_inside(section) if facts.is_release else section


def told_inside(section: Section) -> Section:
    """The section without months, and why."""
    return replace(
        section, finding=f"{section.short}: in the internal edition only", lede=WHY_INSIDE, figures={}, tables={}
    )


def finding(watches: Sequence[Watch], what: str) -> str:
    """Which of the measures signal in their latest month."""
    charted = [one for one in watches if one.chart]
    found = signals(charted)
    if not charted:
        return f"No measure {what} has a complete month yet"
    if not found:
        return f"No signal of change in the latest month of {plural(number_of(charted), 'measure')} {what}"
    verb = "signals" if len(found) == 1 else "signal"
    return (
        f"{count(number_of(found))} of {plural(number_of(charted), 'measure')} {what} {verb} a change: "
        f"{listed(one.name for one in found)}"
    )


# --- figures --------------------------------------------------------------------------------------------------------


def drawn(facts: Facts, watches: Sequence[Watch], wide: int) -> dict[str, Figure]:
    """A figure for each measure with a month, the first ``wide`` of them over the whole width."""
    return {
        one.id: _figure(facts, one, "wide" if place < wide else "small")
        for place, one in enumerate(one for one in watches if one.chart and not facts.is_release)
    }


def _figure(facts: Facts, watch: Watch, size: Literal["wide", "small"]) -> Figure:
    unit = "" if watch.measure.unit.lower() in watch.measure.label.lower() else f" ({watch.measure.unit})"
    figure = Figure(
        title=f"{watch.measure.label}{unit}.",
        encoding=f"{_kind(watch)}{_fixed(watch)} {sizes_in_words(watch)}".strip(),
        is_small=size == "small",
    )
    if watch.chart is None:
        return figure
    places = [place_of(name) for name in watch.series.months]
    own = Control(
        chart=watch.chart,
        at=tuple(places),
        states=watch.states,
        decimals=decimals(watch),
        suffix="%" if watch.measure.is_share else "",
        target=watch.measure.target,
        top=100.0 if watch.measure.is_share else None,
        marks=tuple((places[i], f"{reason}, {watch.month(i)}") for i, reason in watch.rebases),
    )
    with drawing(facts.study.root / "templates"):
        return replace(
            figure, svg=control(own, size, watch.id, f"{alt_of(watch)} Numbers in the table of this section.")
        )


def _kind(watch: Watch) -> str:
    if watch.chart is None or watch.chart.last.is_run_chart:
        return "Run chart with median."
    return {"xmr": "XmR chart.", "p": "p chart.", "p_prime": "p\N{PRIME} chart."}[watch.measure.chart]


def _fixed(watch: Watch) -> str:
    if watch.chart is None or not watch.chart.last.is_fixed:
        return ""
    return f" Limits fixed from {plural(watch.told(watch.chart.last.n_baseline, 'centre', watch.chart.last.start), 'month')}."


# --- table ----------------------------------------------------------------------------------------------------------


def numbers(facts: Facts, watches: Sequence[Watch], title: str) -> Table:
    """Latest month, lines and signals of each measure."""
    plan = facts.protocol.quality
    table = Table(
        title=title,
        encoding="Lower and upper process limit; below 13 months the median in place of the mean.",
        columns=(
            *text_columns(("Measure", 44)),
            *number_columns(("Months", 15), ("Latest", 28), ("Mean", 12), ("Lower", 13), ("Upper", 14)),
            *text_columns(("Months that signal", 48)),
        ),
        rows=tuple(_row(one) for one in watches),
        empty="The protocol names no such measure ([[quality.measures]]).",
        style="dense fixed",
    )
    screen = "very large moving ranges left out once" if plan.screen else "all moving ranges used"
    near = "counts" if plan.variant == "mdc_2023" else "does not count"
    return noted(
        table,
        facts,
        f"Limits: mean and 2.66 mean moving ranges, {screen}; cut to the scale where they are printed, uncut for the rules. "
        f"Two of three: a month outside the limits {near} as near them.",
    )


def _row(watch: Watch) -> Row:
    if watch.chart is None:
        return row(watch.measure.label, "0", *[NOT_AVAILABLE] * 4, "No signal")
    lines, latest = watch.chart.last.lines[-1], watch.known[-1]
    lower, upper = (NOT_APPLICABLE if x is None else shown_value(watch, x) for x in (lines.lower, lines.upper))
    return row(
        watch.measure.label,
        count(watch.n_months),
        Cell(big_value(watch, latest), sub=counts_of(watch, latest)),
        shown_value(watch, lines.centre),
        lower,
        upper,
        capital(signals_in_words(watch)),
    )
