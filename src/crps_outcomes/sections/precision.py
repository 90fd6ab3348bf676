"""How much evidence this is: the width of the primary interval now, and how many people would make it narrow enough."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crps_outcomes.analysis.precision import BOOTSTRAP, CLOSED_FORM, HODGES_LEHMANN, SIGN_FLIP, SIMULATED, T
from crps_outcomes.facts import shown
from crps_outcomes.figure_kit import drawing
from crps_outcomes.figures import Width, narrowing
from crps_outcomes.layout import noted, number_columns, row, text_columns
from crps_outcomes.marks import NOT_APPLICABLE
from crps_outcomes.numbers import count, fixed, interval, people, plural
from crps_outcomes.report_model import Figure, Section, Table
from crps_outcomes.series import unit_words
from crps_outcomes.wording import at, capital, mean_in_cell, share_line, why_hidden

if TYPE_CHECKING:
    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row

INTERNAL_ONLY = "Shown in the internal edition only: what it is worked out from is not checked for release."
WAYS = (SIMULATED, CLOSED_FORM)
NAMES = {
    T: "Mean, t interval (primary)",
    HODGES_LEHMANN: "Middle of all pairwise means, Hodges–Lehmann interval",
    SIGN_FLIP: "Mean, sign-flip permutation interval; zero changes kept",
    BOOTSTRAP: "Mean, bootstrap interval (BCa)",
}


def precision(facts: Facts) -> Section:
    """Half-width now and later, the change by other methods, and the looks the plan declares."""
    return Section(
        id="precision",
        short="How much evidence is this?",
        finding=_finding(facts),
        lede=(
            "How far chance alone could move the primary result. Who came, who was missing and what else happened are "
            "further limits, and no number of people removes them."
        ),
        figures={"width": _width(facts)},
        tables={"people": _people(facts), "methods": _methods(facts), "looks": _looks(facts)},
        text={"absent": _absent(facts), "looks": _looks_in_words(facts)},
    )


def _absent(facts: Facts) -> tuple[str, ...]:
    """Why there is neither figure nor table."""
    if facts.is_release:
        return (INTERNAL_ONLY,)
    if _one(facts, "half_width").estimate is None:
        return (
            "How many people would be enough is worked out from the spread of the changes, and too little is known of it.",
        )
    return ()


def _one(facts: Facts, statistic: str, group: str = "") -> Estimate:
    return facts.one("precision", statistic, group=group)


def _needed(facts: Facts) -> Estimate:
    """By simulation, or by formula where the plan asks for no simulation."""
    found = (_one(facts, "people_needed", way) for way in WAYS)
    return next((one for one in found if one.n is not None), _one(facts, "people_needed"))


def _finding(facts: Facts) -> str:
    if facts.is_release:
        return "How many more people a narrower interval needs is told in the internal edition"
    half = _one(facts, "half_width")
    if half.estimate is None:
        return f"How certain the change in {_name(facts)} is cannot be said ({why_hidden(half)})"
    known = (
        f"The change in {_name(facts)} at {at(facts.primary_visit)} is known to ±{_width_words(facts, half.estimate)}"
    )
    if half.estimate <= facts.protocol.plan.precision.half_width:
        open_yet = "; the spread seen so far leaves open whether that holds" if _is_open(facts, half) else ""
        return f"{known}, within the aim of ±{_aim(facts)}{open_yet}"
    return f"{known}; for the aim of ±{_aim(facts)}, {_needed_words(facts)} would be needed"


def _is_open(facts: Facts, half: Estimate) -> bool:
    """Whether the half-width would be above the aim if the spread were at its upper limit."""
    return half.upper is None or half.upper > facts.protocol.plan.precision.half_width


def _name(facts: Facts) -> str:
    return facts.primary.short.lower()


def _width_words(facts: Facts, value: float) -> str:
    return f"{fixed(value, 2)} {unit_words(facts.primary)}"


def _aim(facts: Facts) -> str:
    return fixed(facts.protocol.plan.precision.half_width, 2)


def _needed_words(facts: Facts) -> str:
    """Such as "about 88 analysed people (65 to 125)"; open upwards where the plan's largest number is not enough."""
    needed, most = _needed(facts), facts.protocol.plan.precision.most_people
    if needed.estimate is None:
        least = f" ({fixed(needed.lower, 0)} at the very least)" if needed.lower is not None else ""
        return f"more than {people(most)}{least}"
    return f"about {fixed(needed.estimate, 0)} analysed people ({_range(needed, most)})"


def _range(needed: Estimate, most: int) -> str:
    low = needed.lower or 0
    if needed.upper is None:
        return f"{fixed(low, 0)} to more than {count(most)}"
    return interval(low, needed.upper, lambda value: fixed(value, 0))


# --- figure ---------------------------------------------------------------------------------------------------------


def _width(facts: Facts) -> Figure:
    now, needed = _one(facts, "half_width"), _needed(facts)
    points = tuple(
        Width(int(one.group), one.estimate, one.lower, one.upper)
        for one in facts.every("precision", "half_width_at")
        if one.estimate is not None and one.lower is not None and one.upper is not None
    )
    figure = Figure(
        title="Half-width of the 95% interval by number of people analysed.",
        encoding="Line: from the spread seen here. Band: what that spread could be (95% interval). Dot: now.",
        empty="There are too few changes to draw how the interval would narrow.",
    )
    if now.estimate is None or now.n is None or now.n_missing is None or len(points) < 2:
        return figure
    aim, due = facts.protocol.plan.precision.half_width, now.n + now.n_missing
    alt = (
        f"Line chart. Half-width {fixed(now.estimate, 2)} with {people(due)} now; {_needed_words(facts)} for {_aim(facts)}. "
        "Numbers in the table that follows."
    )
    points = _as_far_as_needed(sorted(points, key=lambda one: one.people), due, needed)
    if due > points[-1].people and now.lower is not None and now.upper is not None:  # more than the plan works out
        points = (*points, Width(due, now.estimate, now.lower, now.upper))
    with drawing(facts.study.root / "templates"):
        axis = f"Half-width, {unit_words(facts.primary)}"
        return replace(figure, svg=narrowing(points, (due, now.estimate), aim, axis, alt))


def _as_far_as_needed(points: list[Width], due: int, needed: Estimate) -> tuple[Width, ...]:
    """The curve up to a little beyond now and what is needed, so that the part that matters is not squeezed."""
    wanted = max(due, needed.upper or points[-1].people) * 1.1
    return tuple(point for i, point in enumerate(points) if point.people <= wanted or i < 2)


# --- tables ---------------------------------------------------------------------------------------------------------


def _people(facts: Facts) -> Table:
    half = _one(facts, "half_width")
    table = Table(
        title="What the interval's width rests on, and how many people would narrow it.",
        encoding="In brackets: 95% intervals; for numbers of people, the range that the standard deviation leaves open.",
        columns=(*text_columns(("Quantity", 104)), *number_columns(("Value", 70))),
        rows=tuple(row(*pair) for pair in _quantities(facts)) if half.estimate is not None else (),
        empty="The spread of the changes is not known.",
    )
    return noted(
        table, facts,
        "The simulation draws normal scores before and at the visit with the standard deviations, correlation and share "
        "without a score of this cohort. It says nothing about people unlike those analysed here.",
    )  # fmt: skip


def _quantities(facts: Facts) -> tuple[tuple[str, str], ...]:
    visit, half = at(facts.primary_visit), _one(facts, "half_width")
    most = facts.protocol.plan.precision.most_people
    lines = [
        (
            f"Analysed people with a score at {visit} that counts by the plan, of those due",
            share_line(_one(facts, "seen")),
        ),
        ("Standard deviation of the change", mean_in_cell(_one(facts, "sd"), 2)),
        (f"Correlation of the scores at the start and at {visit}", mean_in_cell(_one(facts, "correlation"), 2)),
        ("Half-width of the interval now", mean_in_cell(half, 2)),
        ("Half-width aimed at by the plan", _aim(facts)),
    ]
    for way in WAYS:
        needed = _one(facts, "people_needed", way)
        if needed.n is not None or needed.reason.startswith("more than"):
            lines.append((f"Analysed people needed for it, by {way}", _needed_in_cell(needed, most)))
    lines.append(("More people than now", _more(facts, half, most)))
    return tuple(lines)


def _needed_in_cell(needed: Estimate, most: int) -> str:
    if needed.estimate is None:
        return f"more than {count(most)}"
    return f"{fixed(needed.estimate, 0)} ({_range(needed, most)})"


def _more(facts: Facts, half: Estimate, most: int) -> str:
    needed, due = _needed(facts), (half.n or 0) + (half.n_missing or 0)
    if needed.estimate is None:
        return f"more than {_at_least_none(most - due)}"
    low, middle = (_at_least_none((value or 0) - due) for value in (needed.lower, needed.estimate))
    high = f"more than {count(most - due)}" if needed.upper is None else _at_least_none(needed.upper - due)
    return f"{middle} ({low} to {high})"


def _at_least_none(more: float) -> str:
    return fixed(more, 0) if more > 0 else fixed(more - more, 0)


def _methods(facts: Facts) -> Table:
    found = {name: _one(facts, "change", name) for name in NAMES}
    decimals = max(facts.primary.decimals, 1) + 1
    table = Table(
        title=f"The change in {_name(facts)} at {at(facts.primary_visit)} by other methods.",
        encoding="If the rows disagree, the shape of the values matters; the first row stays the primary one.",
        columns=(*text_columns(("Method", 104)), *number_columns(("Change (95% CI)", 70))),
        rows=tuple(
            row(NAMES[name], mean_in_cell(one, decimals, signed=True)) for name, one in found.items() if shown([one])
        ),
        empty="No method gives an interval.",
    )
    return noted(table, facts)


# --- looks ----------------------------------------------------------------------------------------------------------


def _looks(facts: Facts) -> Table:
    found = [_one(facts, "look", str(look.people)) for look in facts.protocol.plan.looks]
    table = Table(
        title="Looks declared in advance.",
        encoding="Critical value in standard errors, instead of 1.96. Each look is of the first people by the day of their "
        "score and stays as it is when others follow; all looks together err 5 times in 100.",
        columns=(
            *text_columns(("First people with a change", 50)),
            *number_columns(("Critical value", 34), ("State", 30), ("Change, interval at this look", 60)),
        ),
        rows=tuple(_look(facts, one) for one in found if one.estimate is not None),
        empty="No look is shown.",
    )
    return noted(table, facts)


def _look(facts: Facts, look: Estimate) -> Row:
    there = _one(facts, "change_at_look", look.group)
    state = capital(look.reason.partition("; ")[2])
    value = mean_in_cell(there, 2, signed=True) if there.n is not None else NOT_APPLICABLE
    return row(look.key(look.group), fixed(look.estimate or 0.0, 3), state, value)


def _looks_in_words(facts: Facts) -> tuple[str, ...]:
    looks = facts.protocol.plan.looks
    if not looks:
        return (
            "No look before the end is declared in the plan. This report is made again and again as people arrive, and its "
            "intervals are not widened for that: an interval picked because of what it shows misses more often than it says.",
        )
    return (
        f"The plan declares {plural(len(looks), 'look')}, the last at {people(looks[-1].people)}. Only at a look may the "
        "result end or change the study; alpha spending of the O'Brien–Fleming type (Lan and DeMets). A look is of the "
        "first people by the day of their score, whenever the report is made; reports in between are not looks.",
    )
