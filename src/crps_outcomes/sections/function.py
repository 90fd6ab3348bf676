"""What stands beside pain: function, interference, mood and quality of life."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crps_outcomes.facts import shown
from crps_outcomes.figure_kit import drawing
from crps_outcomes.figures import Panel, small_multiples
from crps_outcomes.layout import listed, noted, number_columns, row, text_columns
from crps_outcomes.marks import NOT_AVAILABLE
from crps_outcomes.numbers import fixed, people
from crps_outcomes.report_model import Cell, Figure, Section, Table
from crps_outcomes.series import BASELINE, change_at, course_in_words, mean_points
from crps_outcomes.wording import (
    at,
    better,
    counted,
    k_of_n,
    marked,
    mean_in_cell,
    mean_in_words,
    share_in_cell,
    share_limits,
    why_hidden,
)

if TYPE_CHECKING:
    from crps_outcomes.definitions import Measure, Visit
    from crps_outcomes.facts import Facts
    from crps_outcomes.layout import Row

GROUPS = {
    "both": "Less pain and better function",
    "pain only": "Less pain only",
    "function only": "Better function only",
    "neither": "Neither",
}
PUBLISHED_CORRELATIONS = (
    f"Published for context: {fixed(-0.22, 2)} in painful diabetic neuropathy and {fixed(-0.05, 2)} in postherpetic neuralgia, other "
    "conditions and another scale of function, SF-36 PF10 (Patel 2018, doi:10.1097/j.pain.0000000000001324)."
)


def function(facts: Facts) -> Section:
    """Function beside pain: change in every measure, and both together in the same people."""
    return Section(
        id="function",
        short="Function and mood beside pain",
        finding=_finding(facts),
        lede=(
            "Pain can change without function, so both are always shown. People in the analysis; observed scores only."
        ),
        figures={"panels": _panels(facts)},
        tables={"changes": _changes(facts), "joint": _joint(facts)},
        text={"together": () if facts.is_release else (*_one_only(facts), *_correlations(facts))},
    )


def _finding(facts: Facts) -> str:
    changes = change_at(facts, "function", facts.function, (facts.primary_visit, facts.later_visit))
    if changes:
        return f"{facts.function.short} changed by {changes}"
    found = facts.one("function", "mean_change", measure=facts.function.id, visit=facts.primary_visit.id)
    return f"The change in {facts.function.short.lower()} is not shown: {why_hidden(found)}"


def _section_of(facts: Facts, measure: Measure) -> str:
    return "pain" if measure.id == facts.primary.id else "function"


def _scales(facts: Facts) -> tuple[Measure, ...]:
    """Every outcome measure that has a mean; the global impression is counted, not averaged."""
    return tuple(m for m in facts.outcome_measures if m.id != facts.protocol.outcomes.global_change)


# --- small multiples ------------------------------------------------------------------------------------------------


def _panels(facts: Facts) -> Figure:
    known = [(measure, mean_points(facts, _section_of(facts, measure), measure.id)) for measure in _scales(facts)]
    drawn = [(measure, points) for measure, points in known if len(points) > 1]
    figure = Figure(
        title="Every measure over the same weeks.",
        encoding="Mean with 95% confidence interval; weeks since the first dose below, each measure on its own scale.",
        empty="Lines over time need a mean at two visits or more; there are too few scores that may be shown.",
    )
    if not drawn:
        return figure
    panels = [Panel(measure.short, better(measure), points, measure.range) for measure, points in drawn]
    courses = " ".join(course_in_words(facts, points, measure) for measure, points in drawn)
    alt = f"Small line charts of means. {courses} Changes in the table that follows."
    with drawing(facts.study.root / "templates"):
        return replace(figure, svg=small_multiples(panels, "panels", alt))


# --- changes --------------------------------------------------------------------------------------------------------


def _changes(facts: Facts) -> Table:
    visits = (facts.primary_visit, facts.later_visit)
    heads = [
        (text, width) for visit in visits for text, width in (("n", 10.0), (f"Change at {at(visit)} (95% CI)", 41.0))
    ]
    table = Table(
        title="Change from the start in every measure.",
        encoding="Mean change; n: people with both scores.",
        columns=(
            *text_columns(("Measure", 38)),
            *number_columns(("Start mean", 19), *heads),
            *text_columns(("Better", 15)),
        ),
        rows=tuple(_changes_row(facts, measure, visits) for measure in _scales(facts) if _is_known(facts, measure)),
        empty="No mean score of any measure may be shown: too few people, or none, have one.",
        style="fixed",
    )
    return noted(table, facts, "What change matters in one person stands with the measures under Methods.")


def _is_known(facts: Facts, measure: Measure) -> bool:
    return bool(shown(facts.every(_section_of(facts, measure), "mean", measure=measure.id)))


def _changes_row(facts: Facts, measure: Measure, visits: tuple[Visit, ...]) -> Row:
    section, decimals = _section_of(facts, measure), max(measure.decimals, 1)
    start = facts.one(section, "mean", measure=measure.id, visit=BASELINE)
    cells = [start.mark or fixed(start.estimate or 0.0, decimals)]
    for visit in visits:
        change = facts.one(section, "mean_change", measure=measure.id, visit=visit.id)
        cells += [counted(change.n, change.mark or NOT_AVAILABLE), mean_in_cell(change, decimals, signed=True)]
    return row(measure.short, *cells, measure.direction)


# --- pain and function together -------------------------------------------------------------------------------------


def _joint(facts: Facts) -> Table:
    visits = (facts.primary_visit, facts.later_visit)
    rows = tuple(
        _joint_row(facts, visit)
        for visit in visits
        if shown(facts.every("function", "pain_and_function", visit=visit.id))
    )
    width = 152.0 / len(GROUPS)
    table = Table(
        title="Pain and function in the same people.",
        encoding=f"People with both scores. {_joint_rule(facts)}",
        columns=text_columns(("Visit", 22), *((name, width) for name in GROUPS.values())),
        rows=rows,
        empty="Too few people, or none, have both scores, so pain and function cannot be put together.",
        style="fixed",
    )
    return noted(table, facts)


def _joint_rule(facts: Facts) -> str:
    if not facts.function.thresholds:
        return "The function measure declares no change that matters in one person."
    threshold = facts.function.thresholds[0]
    size = fixed(threshold.value, 0 if threshold.value == int(threshold.value) else 1, signed=True)
    rule = marked(f"{facts.function.short} changed by {size} or better", threshold.state)
    return f"Less pain: by 30% or more. Better function: {rule}."


def _joint_row(facts: Facts, visit: Visit) -> Row:
    found = (facts.one("function", "pain_and_function", visit=visit.id, group=group) for group in GROUPS)
    return row(visit.label, *(Cell(share_in_cell(e), sub=share_limits(e)) for e in found))


def _one_only(facts: Facts) -> tuple[str, ...]:
    """Who improved in one of the two only."""
    visit = facts.primary_visit
    pain, other = (
        facts.one("function", "pain_and_function", visit=visit.id, group=group)
        for group in ("pain only", "function only")
    )
    if pain.mark or other.mark:
        return ()
    return (f"At {at(visit)}, {k_of_n(pain)} people had less pain only and {k_of_n(other)} better function only.",)


def _correlations(facts: Facts) -> tuple[str, ...]:
    """How far the two changes go together, with published values for context; no test."""
    visits = dict.fromkeys((facts.primary_visit, facts.later_visit))
    found = [(visit, facts.one("function", "correlation", visit=visit.id)) for visit in visits]
    known = [f"{mean_in_words(e, 2)} at {at(visit)} ({people(e.n or 0)})" for visit, e in found if not e.mark]
    if not known:
        return (f"How far change in pain and change in function go together is not shown: {why_hidden(found[0][1])}.",)
    pair = f"{facts.primary.short.lower()} and change in {facts.function.short.lower()}"
    return (f"Pearson correlation between change in {pair}: {listed(known)}.", PUBLISHED_CORRELATIONS)
