"""How many people improved by how much, with two denominators side by side, and by their own verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crps_outcomes.facts import shown
from crps_outcomes.figure_kit import drawing
from crps_outcomes.figures import Curve, Mark, cumulative, label_share
from crps_outcomes.layout import TEXT_WIDTH_MM, listed, noted, number_columns, row, text_columns, tint
from crps_outcomes.marks import NOT_AVAILABLE
from crps_outcomes.numbers import count, fixed, in_words, people
from crps_outcomes.report_model import Cell, Figure, Section, Table
from crps_outcomes.wording import (
    at,
    capital,
    improved,
    marked,
    sentences,
    share_in_cell,
    share_in_words,
    share_limits,
    share_line,
    why_hidden,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crps_outcomes.definitions import Measure, Visit
    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row

OBSERVED, MISSING = "observed", "missing = non-responder"
CURVE_NAMES = {OBSERVED: "with a score", MISSING: "missing counted as not improved"}
LEAST_STEPS = 6
RULE_MM = 50.0
COMPOSITE, RELIABLE = "composite of pain and function", "reliable change"
MUCH, MINIMALLY = "much improved or better", "minimally improved or better"
EVERY, SOME, NO = "every rule", "some rules", "no rule"
WITH_GLOBAL_CHANGE, AT_ALL = "first percent and much improved", "at all"


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
        tables={
            "shares": _shares(facts),
            **({} if facts.is_release else {"rules": _rules(facts)}),
            "global_change": _global_change(facts),
        },
        text={"rules": () if facts.is_release else (*_agreement(facts), *_worse(facts))},
    )


def responder(facts: Facts, percent: int, population: str, visit: str) -> Estimate:
    """Responders by ``percent`` at a visit, in one of the two populations."""
    return facts.one("responders", "responder", population=population, visit=visit, group=str(percent))


def as_planned(facts: Facts, percent: int) -> Estimate:
    """Responders at the primary visit as the plan counts them: a missing score or a composite event is no response."""
    return facts.one("endpoints", "responder", visit=facts.primary_visit.id, group=str(percent))


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


# --- several rules --------------------------------------------------------------------------------------------------


def _rules(facts: Facts) -> Table:
    visits = dict.fromkeys((facts.primary_visit, facts.later_visit))
    populations = {OBSERVED: "with an answer", MISSING: "missing = not improved"}
    pairs = [(visit, population) for visit in visits for population in populations]
    names = _rule_names(facts)
    rows = tuple(
        row(words, *(_rule_cell(facts, name, visit, population) for visit, population in pairs))
        for name, words in names.items()
    )
    width = (TEXT_WIDTH_MM - RULE_MM) / len(pairs)
    table = Table(
        title=f"How many improved, by {in_words(len(rows))} rules.",
        encoding="The same people are asked by every rule: treated, with a start score, the visit due.",
        columns=text_columns(
            ("Rule", RULE_MM), *((f"{visit.label}, {populations[population]}", width) for visit, population in pairs)
        ),
        rows=rows if shown(facts.every("responders", "rule")) else (),
        empty="Nobody, or too few people to show, could be evaluated for response.",
        style="dense fixed",
    )
    return noted(table, facts, _composite_note(facts), "[example]: not a published value; the clinic declares its own.")


def _rule_names(facts: Facts) -> dict[str, str]:
    """Every rule of ESTIMATES in words, in the order of the table."""
    pain, answer = facts.primary, facts.study.measures[facts.protocol.outcomes.global_change].short
    composite = facts.study.composite
    reliable = f"Reliable change in {pain.short.lower()}"
    if pain.error:
        size = fixed(pain.error.reliable_change, 2)
        reliable = marked(f"{reliable}: better by more than {size} points", pain.error.state)
    return {
        **{f"{percent}": capital(improved(pain, percent)) for percent in facts.protocol.outcomes.responder_percents},
        COMPOSITE: composite.title if composite else "Composite of pain and function",
        RELIABLE: reliable,
        MUCH: f"{answer}: much improved or better",
        MINIMALLY: f"{answer}: minimally improved or better",
    }


def _rule_cell(facts: Facts, name: str, visit: Visit, population: str) -> Cell:
    found = facts.one("responders", "rule", population=population, visit=visit.id, group=name)
    is_untold = found.k is None and found.reason
    return Cell(found.reason) if is_untold else Cell(share_in_cell(found), sub=share_limits(found))


def _composite_note(facts: Facts) -> str:
    """What the composite is, and what stands in for what in it."""
    composite = facts.study.composite
    if composite is None:
        return ""
    return sentences(
        *(f"{marked(one.text, one.state)}." for one in composite.citations[:1]),
        composite.notes.removeprefix("1 is a response. "),
    )


def _agreement(facts: Facts) -> tuple[str, ...]:
    visit = facts.primary_visit
    every, some, no = (facts.one("responders", "agreement", visit=visit.id, group=group) for group in (EVERY, SOME, NO))
    both = facts.one("responders", "agreement", visit=visit.id, group=WITH_GLOBAL_CHANGE)
    if not every.n or every.k is None or some.k is None or no.k is None:
        return ()
    together = (
        f"At {at(visit)}, of {people(every.n)} in whom every rule recorded can be told, {count(every.k)} improved by all of "
        f"them, {count(some.k)} by some and {count(no.k)} by none."
    )
    percent = facts.protocol.outcomes.responder_percents[0]
    pair = f"{capital(improved(facts.primary, percent))} and an answer of much improved or better agreed in "
    return (together, f"{pair}{share_in_words(both)}.") if both.n else (together,)


def _worse(facts: Facts) -> tuple[str, ...]:
    visit, error = facts.primary_visit, facts.primary.error
    found = {group: facts.one("responders", "worse", visit=visit.id, group=group) for group in (AT_ALL, RELIABLE)}
    if found[AT_ALL].k is None or not found[AT_ALL].n:
        return ()
    beyond = (
        f", and by more than {fixed(error.reliable_change, 2)} points in {share_in_words(found[RELIABLE])}"
        if error
        else ""
    )
    return (f"{facts.primary.short} was worse than at the start in {share_in_words(found[AT_ALL])}{beyond}.",)


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
