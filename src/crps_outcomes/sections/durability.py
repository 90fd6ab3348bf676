"""How long a response lasts, what ended it, and when treatment began again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crps_outcomes.figure_kit import drawing
from crps_outcomes.layout import TEXT_WIDTH_MM, noted, row, text_columns
from crps_outcomes.marks import NO_INTERVAL, NOT_AVAILABLE
from crps_outcomes.numbers import count, fixed, people, percent, plural
from crps_outcomes.report_model import Figure, Section, Table
from crps_outcomes.survival_figure import Step, Survival, column_width_mm, survival
from crps_outcomes.wording import (
    capital,
    improved,
    k_of_n,
    mean_in_words,
    sentences,
    share_limits,
    share_line,
    why_hidden,
)

if TYPE_CHECKING:
    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row

RESPONDERS, EARLIEST = "responders", "responders, earliest loss"
LEAST_AT_RISK = 10
INTERNAL_ONLY = "How long responses last is shown in the internal edition only"
WHY_INTERNAL = "A step of such a curve, and the time at which it comes, can be one person."
ENDS = {
    "a score": "A score that was no response any more",
    "further series": "A further series began",
    "procedure": "A procedure",
    "treatment started": "Another treatment was started",
    "treatment restarted": "Another treatment was started again",
    "treatment stopped": "Another treatment was stopped",
    "other ketamine route": "Ketamine by another route",
    "stopped for harm": "Stopped for a harm",
    "death": "Death",
    "last score": "Still responding at the last score",
}


def durability(facts: Facts) -> Section:
    """The curve from response to loss with its at-risk table, shares still responding, ends, and re-treatment."""
    if facts.is_release:
        return Section("durability", "How long it lasts", INTERNAL_ONLY, WHY_INTERNAL, text={"notes": ()})
    return Section(
        id="durability",
        short="How long it lasts",
        finding=_finding(facts),
        lede=_lede(facts),
        figures={"curve": _curve(facts)},
        tables={"at_risk": _at_risk(facts), "still": _still(facts), "ends": _ends(facts)},
        text={"notes": _notes(facts)},
    )


def _of(facts: Facts, statistic: str, population: str = RESPONDERS, **keys: str) -> Estimate:
    return facts.one("durability", statistic, population=population, **keys)


def _finding(facts: Facts) -> str:
    responded, middle = _of(facts, "responded", "treated"), _of(facts, "median")
    if responded.mark:
        return f"How long responses last is not shown: {why_hidden(responded)}"
    if not responded.k:
        return f"Nobody had a response that could be followed ({people(responded.n or 0)} with a score)"
    if not middle.mark:
        return f"Half of {plural(responded.k, 'response')} were lost by {_median_in_words(middle)} after they began"
    if middle.reason.startswith("not reached"):
        return f"More than half of {plural(responded.k, 'response')} were not seen to be lost"
    return f"{people(responded.k)} responded, too few to say how long a response lasts"


def _median_in_words(middle: Estimate) -> str:
    """Such as "week 9.0 (95% CI 4.7 to 10.0)", counted from the first response."""
    return f"week {mean_in_words(middle, 1)}"


def _lede(facts: Facts) -> str:
    plan = facts.protocol.plan.durability
    return (
        f"From the first score with {improved(facts.primary, plan.percent)} than at the start, to the first later score "
        "without, or to an event that the plan counts as a loss. Among people who responded, so nothing is said about "
        "the others; without a comparison group, the natural course is part of it."
    )


# --- the curve ------------------------------------------------------------------------------------------------------


def _curve(facts: Facts) -> Figure:
    figure = Figure(
        title="People still responding, by weeks since their first response.",
        encoding=(
            "Kaplan–Meier steps, from ten people on with a pointwise 95% log–log band; a tick is a person whose loss was "
            "not seen. The curve drops at the visit that showed the loss; the loss itself came some time between that visit and the one before."
        ),
        empty="A curve needs three people who responded, and a loss among them.",
    )
    found = _drawn(facts)
    if found is None:
        return figure
    with drawing(facts.study.root / "templates"):
        return replace(figure, svg=survival(found, "survival", _alt(facts, found)))


def _drawn(facts: Facts) -> Survival | None:
    rows = sorted(facts.every("durability", "curve", population=RESPONDERS), key=lambda e: int(e.group))
    if not rows or any(e.estimate is None for e in rows):
        return None
    steps = tuple(Step(int(e.group) / 7, e.estimate or 0.0, e.lower, e.upper) for e in rows)
    ticks = tuple(int(e.group) / 7 for e in facts.every("durability", "tick", population=RESPONDERS))
    middle = _of(facts, "median")
    return Survival(
        steps, tuple(sorted(ticks)), tuple(int(e.group) for e in _columns(facts)), _few_from(facts),
        middle.estimate, _label(middle), max(*ticks, steps[-1].week) if ticks else steps[-1].week,
    )  # fmt: skip


def _few_from(facts: Facts) -> float:
    """The week from which fewer than ten people are at risk: the last at which ten still were."""
    rows = [
        *facts.every("durability", "curve", population=RESPONDERS),
        *facts.every("durability", "tick", population=RESPONDERS),
    ]
    return max((int(e.group) / 7 for e in rows if (e.n or 0) >= LEAST_AT_RISK), default=0.0)


def _label(middle: Estimate) -> str:
    if middle.mark:
        return "The median is not reached" if middle.reason.startswith("not reached") else "No median: too few people"
    return f"Median: {_median_in_words(middle)}"


def _alt(facts: Facts, curve: Survival) -> str:
    responded = _of(facts, "responded", "treated")
    return (
        f"Kaplan–Meier curve of {plural(responded.k or 0, 'response')}. {curve.label}. After the last loss seen, at week "
        f"{fixed(curve.steps[-1].week, 1)}, {percent(curve.steps[-1].share, responded.k or 0)} remain. Numbers in the tables "
        "that follow."
    )


# --- tables ---------------------------------------------------------------------------------------------------------


def _columns(facts: Facts) -> tuple[Estimate, ...]:
    return tuple(sorted(facts.every("durability", "at_risk", population=RESPONDERS), key=lambda e: int(e.group)))


def _at_risk(facts: Facts) -> Table:
    columns = _columns(facts)
    counted = {
        "Still at risk": [e.n for e in columns],
        "Lost before": [e.k for e in columns],
        "Censored before": [e.n_missing for e in columns],
    }
    is_drawn = _drawn(facts) is not None
    width = column_width_mm(len(columns)) if is_drawn else 0.0
    table = Table(
        title="At risk, lost and censored, by week.",
        encoding="In each column the three add up to everyone who responded.",
        columns=text_columns(
            ("Week", TEXT_WIDTH_MM - width * len(columns)), *((e.key(e.group), width) for e in columns)
        ),
        rows=tuple(row(label, *(count(n or 0) for n in numbers)) for label, numbers in counted.items())
        if is_drawn
        else (),
        empty="There is no curve, so nobody is counted below it.",
        style="heat dense",
    )
    return noted(table, facts)


def _still(facts: Facts) -> Table:
    weeks = facts.protocol.plan.durability.weeks
    is_known = any(not e.mark for e in facts.every("durability", "still"))
    table = Table(
        title="Share still responding.",
        encoding="With 95% interval. The first two columns count weeks from the first response, the last from the first dose.",
        columns=text_columns(
            ("Week", 14), ("Of people who responded", 50), ("The same, every loss as early as possible", 54),
            ("Of all treated: an unbroken response", 56),
        ),
        rows=tuple(_still_row(facts, f"{week}") for week in weeks) if is_known else (),
        empty="Too few people, or none, could be followed.",
        style="dense fixed",
    )  # fmt: skip
    return noted(
        table, facts,
        "As early as possible: at the last score that was a response, because a loss is seen at visits only. Of all treated: "
        "with a start score and a visit due; a missing score counts as not responding, and so does a response that was lost and "
        "came back.",
    )  # fmt: skip


def _still_row(facts: Facts, week: str) -> Row:
    seen, earliest = (_of(facts, "still", population, group=week) for population in (RESPONDERS, EARLIEST))
    return row(week, _share_cell(seen), _share_cell(earliest), share_line(_of(facts, "still", "treated", group=week)))


def _share_cell(found: Estimate) -> str:
    """A share read from a curve, or why there is none."""
    if found.estimate is None:
        return found.reason if found.mark == NOT_AVAILABLE and found.reason else found.mark
    if found.has_interval:
        return share_limits(found)
    reason = NO_INTERVAL if found.reason.startswith("fewer") else found.reason.removesuffix(": no interval")
    return f"{percent(found.estimate, found.n or 0)} ({reason})"


def _ends(facts: Facts) -> Table:
    found = [(how, e) for how in ("lost", "censored") for e in facts.every("durability", how, population=RESPONDERS)]
    rows = tuple(
        row(ENDS.get(e.group, capital(e.group)), "loss" if how == "lost" else "loss not seen", k_of_n(e))
        for how, e in sorted(found, key=lambda pair: (pair[0] == "censored", -(pair[1].k or 0)))
        if e.k
    )
    table = Table(
        title="What ended the responses.",
        encoding="Whatever came first; the counts add up to everyone who responded.",
        columns=text_columns(("What was seen", 84), ("Counts as", 45), ("People", 45)),
        rows=rows,
        empty="Nobody responded.",
        style="dense fixed",
    )
    return noted(table, facts)


# --- words ----------------------------------------------------------------------------------------------------------


def _notes(facts: Facts) -> tuple[str, ...]:
    return tuple(words for words in (_mean(facts), _earlier(facts), _retreatment(facts)) if words)


def _mean(facts: Facts) -> str:
    """Median and mean under both ends of the time in which a loss can have come."""
    mean = next(iter(facts.every("durability", "mean_time", population=RESPONDERS)), None)
    if mean is None or mean.mark:
        return ""
    earliest = _of(facts, "median", EARLIEST)
    return sentences(
        f"Mean time in response within the first {mean.key(mean.group)} weeks: {mean_in_words(mean, 1, unit='weeks')}.",
        "The median is the first time at which half or fewer still respond"
        + (f"; with every loss as early as possible it is {_median_in_words(earliest)}." if not earliest.mark else "."),
    )


def _earlier(facts: Facts) -> str:
    found = _of(facts, "after_an_event")
    if not found.k:
        return ""
    return (
        f"{capital(people(found.k))} had such an event before the first response, which may follow from it; "
        "their responses are counted like the others."
    )


def _retreatment(facts: Facts) -> str:
    again, gap = _of(facts, "retreated", "treated", group=""), facts.protocol.plan.durability.retreatment_gap_days
    if again.mark:
        return f"Re-treatment: not shown, because {why_hidden(again)}."
    read = [
        f"{_share_cell(e)} within {e.key(e.group)} weeks" for e in facts.every("durability", "retreated", population="treated")
        if e.group and not e.mark
    ]  # fmt: skip
    timed = f" Kaplan–Meier, from the last session of the first series: {'; '.join(read)}." if read and again.k else ""
    return sentences(
        f"Re-treatment is a session {count(gap)} days or more after the one before.{timed}",
        f"Of those on record so far, it came to {k_of_n(again)} people whose first series is over; "
        "follow-up differs, so that is no rate.",
        f"In {people(again.n_missing or 0)} the first series may still go on." if again.n_missing else "",
    )
