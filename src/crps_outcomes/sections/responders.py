"""How many people improved by how much, with two denominators side by side, and by their own verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crps_outcomes.facts import shown
from crps_outcomes.figure_kit import drawing
from crps_outcomes.figures import Curve, Mark, cumulative, label_share
from crps_outcomes.layout import listed, noted, number_columns, row, text_columns, tint
from crps_outcomes.marks import NOT_AVAILABLE
from crps_outcomes.numbers import count
from crps_outcomes.report_model import Cell, Figure, Section, Table
from crps_outcomes.wording import at, improved, share_in_words, share_line, why_hidden

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crps_outcomes.definitions import Measure, Visit
    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row

OBSERVED, MISSING = "observed", "missing = non-responder"
CURVE_NAMES = {OBSERVED: "with a score", MISSING: "missing counted as not improved"}
LEAST_STEPS = 6


def responders(facts: Facts) -> Section:
    """The cumulative curve at the primary visit and the responders at every visit."""
    return Section(
        id="responders",
        short="How many improved",
        finding=_finding(facts),
        lede=(
            "Two denominators: people with a score at the visit, and everyone treated with a start score whose visit is "
            "due, a missing score counted as not improved. A start score of 0 cannot be evaluated."
        ),
        figures={"curve": _curve(facts)},
        tables={"shares": _shares(facts), "global_change": _global_change(facts)},
    )


def responder(facts: Facts, percent: int, population: str, visit: str) -> Estimate:
    """Responders by ``percent`` at a visit, in one of the two populations."""
    return facts.one("responders", "responder", population=population, visit=visit, group=str(percent))


def best_known(facts: Facts, percent: int, visit: str) -> tuple[str, Estimate]:
    """The denominator to report first: people with a score, or where that is hidden everyone whose visit is due."""
    observed, missing = (responder(facts, percent, population, visit) for population in (OBSERVED, MISSING))
    return (MISSING, missing) if observed.mark and not missing.mark else (OBSERVED, observed)


def responders_in_words(population: str, found: Estimate) -> str:
    """Such as "34 of 58 people with a score (59%, 95% CI 46 to 70)", or the same for everyone whose visit is due."""
    who = {OBSERVED: "people with a score", MISSING: "people whose score was due"}[population]
    return share_in_words(found).replace(" (", f" {who} (", 1)


def _finding(facts: Facts) -> str:
    first, visit = facts.protocol.outcomes.responder_percents[0], facts.primary_visit
    population, found = best_known(facts, first, visit.id)
    if found.mark:
        return f"How many had {improved(facts.primary, first)} at {at(visit)} is not shown: {why_hidden(found)}"
    return f"At {at(visit)}, {responders_in_words(population, found)} had {improved(facts.primary, first)}"


def _curve(facts: Facts) -> Figure:
    known = [curve for population in (OBSERVED, MISSING) if (curve := _steps(facts, population))]
    figure = Figure(
        title=f"How many people improved by how much at {at(facts.primary_visit)}.",
        encoding="Read up from any amount of improvement to the share of people who reached it; left of 0% is worsening.",
        empty="A curve of improvement needs more steps whose numbers may be shown; see the table.",
    )
    if not known:
        return figure
    marks = [_mark(facts, percent, known[0].population) for percent in facts.protocol.outcomes.responder_percents]
    labels = [mark for mark in marks if mark and mark.at in known[0].x]
    axis = f"Improvement in {facts.primary.short.lower()} score from start to {at(facts.primary_visit)}, at least"
    with drawing(facts.study.root / "templates"):
        return replace(figure, svg=cumulative(known, labels, axis, "curve", _alt(facts, labels, known[0])))


def _steps(facts: Facts, population: str) -> Curve | None:
    """The curve; None when any of its points is hidden, because a curve with holes gives them away."""
    rows = sorted(facts.every("responders", "improved_by", population=population), key=lambda e: float(e.group))
    if len(rows) < LEAST_STEPS or any(e.mark or not e.has_interval for e in rows):
        return None
    columns = zip(*((float(e.group), e.estimate, e.lower, e.upper) for e in rows), strict=True)
    x, share, lower, upper = (tuple(float(value or 0.0) for value in column) for column in columns)
    return Curve(x, share, lower, upper, rows[0].n or 0, population, CURVE_NAMES[population])


def _mark(facts: Facts, percent: int, population: str) -> Mark | None:
    found = responder(facts, percent, population, facts.primary_visit.id)
    if not found.has_interval or found.estimate is None or found.lower is None or found.upper is None:
        return None
    label = label_share(found.estimate, found.n or 0, percent, found.lower, found.upper)
    return Mark(float(percent), found.estimate, label)


def _alt(facts: Facts, marks: Sequence[Mark], curve: Curve) -> str:
    return (
        f"Cumulative responder curve at {at(facts.primary_visit)}, {curve.name} (n = {count(curve.n)}). "
        f"{listed(mark.label for mark in marks)}. Numbers in the table that follows."
    )


def _shares(facts: Facts) -> Table:
    percents = facts.protocol.outcomes.responder_percents
    pairs = [(percent, population) for percent in percents for population in (OBSERVED, MISSING)]
    rows = tuple(_shares_row(facts, visit.id, visit.label, pairs) for visit in facts.visits)
    width = (174.0 - 22) / max(len(pairs), 1)
    names = {OBSERVED: "with a score", MISSING: "missing = not improved"}
    table = Table(
        title="Responders by visit.",
        encoding=f"Count of people, share and 95% {facts.protocol.plan.responder_interval.title()} interval.",
        columns=text_columns(
            ("Visit", 22), *((f"≥ {percent}%, {names[population]}", width) for percent, population in pairs)
        ),
        rows=rows if shown(facts.every("responders", "responder")) else (),
        empty="Nobody, or too few people to show, could be evaluated for response.",
        style="dense fixed",
    )
    return noted(table, facts)


def _shares_row(facts: Facts, visit: str, label: str, pairs: list[tuple[int, str]]) -> Row:
    found = (responder(facts, percent, population, visit) for percent, population in pairs)
    return row(label, *(share_line(e) for e in found))


# --- global impression of change ------------------------------------------------------------------------------------


def _global_change(facts: Facts) -> Table:
    measure = facts.study.measures[facts.protocol.outcomes.global_change]
    rows = tuple(_answer_row(facts, measure, answer.display) for answer in measure.answers)
    width = min(22.0, 134.0 / len(facts.visits))
    table = Table(
        title=f"{measure.title}, by visit.",
        encoding="Count of people with each answer; the darker, the larger the share of those who answered.",
        columns=(
            *text_columns(("Answer", 174 - width * len(facts.visits))),
            *number_columns(*((_head(facts, measure, visit), width) for visit in facts.visits)),
        ),
        rows=rows if shown(facts.every("function", "share", measure=measure.id)) else (),
        empty=f"No answer to the {measure.title[:1].lower()}{measure.title[1:]} may be shown, or none is on record.",
        style="heat dense",
    )
    named = listed(answer.display.lower() for answer in measure.answers[:1])
    return noted(
        table, facts, f"Answers are read by their words, never by their number; the first row, {named}, is best."
    )


def _head(facts: Facts, measure: Measure, visit: Visit) -> str:
    rows = facts.every("function", "share", measure=measure.id, visit=visit.id)
    n = next((e.n for e in rows if not e.mark and e.n is not None), None)
    return f"{visit.label} (n = {count(n)})" if n is not None else visit.label


def _answer_row(facts: Facts, measure: Measure, answer: str) -> Row:
    found = [facts.one("function", "share", measure=measure.id, visit=visit.id, group=answer) for visit in facts.visits]
    return row(answer, *(_answer_cell(e) for e in found))


def _answer_cell(estimate: Estimate) -> Cell:
    if estimate.mark or estimate.k is None:
        return Cell(estimate.mark or NOT_AVAILABLE)
    return Cell(count(estimate.k), tint=tint(estimate.k, max(estimate.n or 0, 1)))
