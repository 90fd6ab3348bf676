"""Estimates of one measure in visit order, as points a figure or sparkline can draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.figures import Point
from crps_outcomes.layout import listed
from crps_outcomes.numbers import fixed, people
from crps_outcomes.wording import at, mean_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crps_outcomes.definitions import Measure, Visit
    from crps_outcomes.facts import Estimate, Facts

BASELINE = "baseline"


def week_of(visit: Visit) -> float:
    """The week of a visit, counted from the first dose."""
    return round(int(visit.day) / 7, 1)


def moments(facts: Facts) -> tuple[tuple[str, float], ...]:
    """Baseline and every planned visit with its week."""
    return ((BASELINE, 0.0), *((visit.id, week_of(visit)) for visit in facts.visits))


def mean_points(facts: Facts, section: str, measure_id: str) -> tuple[Point, ...]:
    """The means that may be shown, from baseline on."""
    found = ((week, facts.one(section, "mean", measure=measure_id, visit=visit)) for visit, week in moments(facts))
    return tuple(_point(week, row) for week, row in found if row.estimate is not None and not row.mark)


def share_points(facts: Facts, section: str, statistic: str, **keys: str) -> tuple[Point, ...]:
    """Shares in percent that may be shown, visit by visit."""
    found = ((week, facts.one(section, statistic, visit=visit, **keys)) for visit, week in moments(facts))
    return tuple(_point(week, row) for week, row in found if row.estimate is not None and not row.mark)


def _point(week: float, row: Estimate) -> Point:
    return Point(week, row.n or 0, row.estimate or 0.0, row.lower, row.upper)


def course_in_words(facts: Facts, points: Sequence[Point], measure: Measure) -> str:
    """The first and last mean of a line, for text alternatives."""
    first, last = points[0], points[-1]
    return (
        f"{measure.short}: mean {fixed(first.mean, measure.decimals)} at {_moment(facts, first.week)}"
        f" ({people(first.n)}), {fixed(last.mean, measure.decimals)} at {_moment(facts, last.week)} ({people(last.n)})."
    )


def _moment(facts: Facts, week: float) -> str:
    return next((at(visit) for visit in facts.visits if week_of(visit) == week), "the start")


def unit_words(measure: Measure) -> str:
    """The unit of a change: points for scores, else what the measure calls its unit."""
    label = measure.unit_label
    return "points" if label.startswith("points") or not label else f"{label} points" if label == "T-score" else label


def change_at(
    facts: Facts, section: str, measure: Measure, visits: Sequence[Visit], statistic: str = "mean_change"
) -> str:
    """Such as "−2.3 points at week 4 (95% CI −2.8 to −1.8) and −1.9 points at week 12 (...)"; "" when none is known."""
    parts = []
    for visit in visits:
        row = facts.one(section, statistic, measure=measure.id, visit=visit.id)
        if not row.mark:
            value = mean_in_words(row, max(measure.decimals, 1), signed=True, unit=unit_words(measure))
            parts.append(value.replace(" (", f" at {at(visit)} (", 1))
    return listed(parts)
