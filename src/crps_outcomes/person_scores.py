"""What a change of one person is held against: the start score, the declared thresholds, the reliable change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crps_outcomes.estimators import TOLERANCE
from crps_outcomes.numbers import fixed
from crps_outcomes.series import BASELINE

if TYPE_CHECKING:
    from crps_outcomes.definitions import Measure
    from crps_outcomes.person import Person, Score

MOST_THRESHOLDS = 3


@dataclass(frozen=True)
class Held:
    """A threshold of change at the height it has for one person: "−30% [unconfirmed]" is at 4.9 for who began with 7."""

    at: float
    change: float
    words: str


def start_of(person: Person, measure: Measure) -> Score | None:
    """The score before the first dose."""
    return next((one for one in person.scores(measure.id) if one.visit == BASELINE), None)


def thresholds_of(person: Person, measure: Measure) -> tuple[Held, ...]:
    """Each declared threshold once, the confirmed source of equal ones; none without a start score."""
    start = start_of(person, measure)
    if start is None:
        return ()
    found: dict[tuple[float, bool], str] = {}
    for one in measure.thresholds:
        key = (one.value, one.kind.startswith("percent"))
        if one.state == "confirmed" or key not in found:
            found[key] = one.state
    held = [_held(start.value, value, state, is_percent=is_percent) for (value, is_percent), state in found.items()]
    return tuple(held[:MOST_THRESHOLDS])


def _held(start: float, value: float, state: str, *, is_percent: bool) -> Held:
    change = start * value / 100 if is_percent else value
    size = fixed(value, 0 if value == int(value) else 1, signed=True)
    mark = "" if state == "confirmed" else f" [{state}]"
    return Held(start + change, change, f"{size}{'%' if is_percent else ''}{mark}")


def reached(change: float, held: Held) -> bool:
    """Whether a change goes at least as far as the threshold, in its direction."""
    return change * (1 if held.change > 0 else -1) >= abs(held.change) - TOLERANCE if held.change else False


def is_reliable(measure: Measure, change: float) -> str:
    """Such as "beyond 2.2 [example]", "within 2.2", or "not declared"."""
    if measure.error is None:
        return "not declared"
    limit = measure.error.reliable_change
    mark = "" if measure.error.state == "confirmed" else f" [{measure.error.state}]"
    return f"{'beyond' if abs(change) > limit + TOLERANCE else 'within'} {fixed(limit, 1)}{mark}"
