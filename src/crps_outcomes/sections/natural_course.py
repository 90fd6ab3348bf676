"""How much of the change would be expected without any treatment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.layout import listed, noted, number_columns, row, text_columns
from crps_outcomes.numbers import count, fixed, people
from crps_outcomes.report_model import Cell, Section, Table
from crps_outcomes.sections.context import untreated_in_words
from crps_outcomes.wording import at, counted, mean_in_cell, mean_in_words, mean_or_why, why_hidden

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row

DECLARED, ESTIMATED = "declared", "estimated"
ABOUT = 2  # up to twice the expected change, a change it cannot be told from is called expected
INTERNAL_ONLY = "Shown in the internal edition only: its counts are not part of the audit for release."


def natural_course(facts: Facts) -> Section:
    """Observed change, the change expected from the choice of people alone, and what was known before treatment."""
    return Section(
        id="natural_course",
        short="Change expected without treatment",
        finding=_finding(facts),
        lede=(
            "People start treatment when their score is high. A score that is high partly by chance falls by itself the "
            "next time: regression to the mean. The course of the illness and hope come on top; nobody here went untreated."
        ),
        tables={"expected": _expected(facts), **({} if facts.is_release else {"sensitivity": _sensitivity(facts)})},
        text={"course": _words(facts)},
    )


def _of(facts: Facts, statistic: str, group: str = "") -> Estimate:
    return facts.one("natural_course", statistic, group=group)


def _finding(facts: Facts) -> str:
    observed, expected, left = (
        _of(facts, "observed"), _of(facts, "expected", DECLARED), _of(facts, "left"),
    )  # fmt: skip
    if facts.is_release:
        return "How much change to expect without treatment is in the internal edition only"
    if expected.mark or observed.mark:
        lacking = expected if expected.mark else observed
        return f"How much change to expect without treatment cannot be said: {why_hidden(lacking)}"
    change, alone = fixed(observed.estimate or 0.0, 1, signed=True), fixed(expected.estimate or 0.0, 2, signed=True)
    name, when = facts.primary.short, at(facts.primary_visit)
    if not left.has_interval or not (left.lower or 0) <= 0 <= (left.upper or 0):
        return f"{name} changed by {change} points by {when}; regression to the mean alone would give {alone}"
    if abs(observed.estimate or 0) <= ABOUT * abs(expected.estimate or 0):
        return (
            f"A change of this size is expected without treatment: {name.lower()} changed by {change} points by {when}, "
            f"and regression to the mean alone gives {alone}"
        )
    return (
        f"{name} changed by {change} points by {when}, which cannot be told from the {alone} that regression to the mean "
        "alone gives"
    )


# --- tables ---------------------------------------------------------------------------------------------------------


def _expected(facts: Facts) -> Table:
    rows = () if facts.is_release else tuple(_rows(facts))
    table = Table(
        title=f"Observed change and the change expected by regression to the mean alone, {at(facts.primary_visit)}.",
        encoding="People in the outcome analysis. What is left holds treatment, the course of the illness, hope and "
        "attention together; it is not an effect.",
        columns=(
            *text_columns(("", 92)),
            *number_columns(("People", 18), ("Without", 18), ("Points (95% CI)", 46)),
        ),
        rows=rows,
        empty=INTERNAL_ONLY if facts.is_release else "Nothing is known about change, expected or observed.",
        style="fixed",
    )
    return noted(table, facts, *(_notes(facts) if rows else ()))


def _rows(facts: Facts) -> Iterator[Row]:
    rule = facts.protocol.plan.regression
    reliability = f"reliability {rule.reliability:g} [{rule.reliability_state}]"
    named = (
        ("Observed change", _of(facts, "observed")),
        (f"Expected by regression to the mean alone, {reliability}", _of(facts, "expected", DECLARED)),
        ("Observed minus expected, people with a change", _of(facts, "left")),
        ("Slope per week before the first dose", _of(facts, "slope_before")),
    )
    for name, found in named:
        if found.statistic:
            yield row(name, count(found.n or 0), counted(found.n_missing), mean_or_why(found, 2))


def _notes(facts: Facts) -> tuple[str, ...]:
    expected = _of(facts, "expected", DECLARED)
    mean, sd = (_of(facts, "everybody", group) for group in ("mean", "standard deviation"))
    everybody = (
        f"Everybody, those below the entry score too: mean {fixed(mean.estimate or 0, 1)}, SD {fixed(sd.estimate or 0, 1)}."
        if not mean.mark and not sd.mark
        else ""
    )
    method = f"Expected: {expected.method}; the reliability counts as known." if expected.method else ""
    left = _of(facts, "left")
    own = (
        ""
        if left.mark
        else "Observed minus expected: what is expected of the people with a change, by their own scores."
    )
    return (method, own, everybody)


def _sensitivity(facts: Facts) -> Table:
    found = [one for one in facts.every("natural_course", "expected") if one.group != DECLARED and not one.mark]
    own = _of(facts, "reliability")
    named = [
        (
            f"{ESTIMATED}, {fixed(0 if own.estimate is None else own.estimate, 2)}"
            if e.group == ESTIMATED
            else e.key(e.group),
            e,
        )
        for e in found
    ]
    width = (174.0 - 40) / max(len(named), 1)
    table = Table(
        title="The same with other reliabilities.",
        encoding="Reliability: correlation of two scores of one person some weeks apart. The lower it is, the more change "
        "is expected.",
        columns=(*text_columns(("Reliability", 40)), *number_columns(*((name, width) for name, _ in named))),
        rows=(row("Expected change", *(_pair(e) for _, e in named)),) if named else (),
        empty="Nothing can be worked out for any reliability.",
        style="fixed",
    )
    return noted(table, facts)


def _pair(found: Estimate) -> Cell:
    """The value with its limits below it."""
    value, _, limits = mean_in_cell(found, 2, signed=True).partition(" (")
    return Cell(value, sub=limits.removesuffix(")"))


# --- words ----------------------------------------------------------------------------------------------------------


def _words(facts: Facts) -> tuple[str, ...]:
    own = () if facts.is_release else (_entry(facts), _reliability(facts), _slope(facts))
    return tuple(line for line in (*own, *_placebo(facts)) if line)


def _entry(facts: Facts) -> str:
    """The entry rule, and whose baseline is not the score they entered by."""
    rule = facts.protocol.plan.regression
    if rule.entry_at_least is None:
        return (
            "The plan declares no entry score, so the change expected from the choice of people cannot be worked out."
        )
    by = {e.group: e.k or 0 for e in facts.every("natural_course", "people")}
    which = {"baseline": "at baseline", "first score": "at the first score before treatment"}[rule.entry_score]
    words = f"Entry score declared in the plan: {rule.entry_at_least:g} or more {which}."
    parts = [
        f"{people(by[group])} {text}"
        for group, text in (
            ("entered on the baseline", "entered on the baseline itself"),
            ("has an earlier score", "had an earlier score, so their baseline was not chosen for being high"),
            ("below the entry score", "lay below it and count as not chosen"),
        )
        if by.get(group)
    ]
    return f"{words} {listed(parts)}." if parts else words


def _reliability(facts: Facts) -> str:
    rule, found = facts.protocol.plan.regression, _of(facts, "reliability")
    source = f" ({rule.reliability_source})" if rule.reliability_source else ""
    declared = f"Reliability {rule.reliability:g} is declared in the plan{source} [{rule.reliability_state}]"
    if found.mark:
        return f"{declared}; it cannot be estimated here: {why_hidden(found)}."
    return f"{declared}; estimated here from scores before the first dose: {mean_in_words(found, 2)}, {people(found.n or 0)}."


def _slope(facts: Facts) -> str:
    found = _of(facts, "slope_before")
    if not found.statistic:
        return ""
    if found.mark:
        return f"Course before the first dose: not known, {why_hidden(found)}."
    return (
        f"Course before the first dose: {mean_in_words(found, 2, signed=True, unit='points per week')}, "
        f"{people(found.n or 0)}; being chosen by a high first score bends it downwards too."
    )


def _placebo(facts: Facts) -> Iterator[str]:
    """How pain went in published groups without ketamine, for orientation."""
    for group in facts.study.evidence.untreated:
        yield f"Published course without ketamine, for orientation: {untreated_in_words(group)}"
