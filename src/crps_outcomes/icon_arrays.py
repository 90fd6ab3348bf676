"""A share as 100 drawn people: whole people only, all of them on the page, those of whom nothing is known among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.report_model import Icon
from crps_outcomes.traced import refs_of, traced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crps_outcomes.report_model import IconKind

PEOPLE, PER_ROW = 100, 20
STEP_X, STEP_Y = 11.7, 15.9
WIDTH, HEIGHT = PER_ROW * STEP_X, PEOPLE / PER_ROW * STEP_Y


def out_of_hundred(k: int, n: int) -> int:
    """How many of 100 that is: rounded, but never to nobody or to everybody when it is neither."""
    least, most = (1 if k else 0), (99 if k < n else 100)
    found: int = traced(min(max(round(100 * k / n), least), most), *refs_of(k, n))
    return found


def hundred(sizes: Mapping[IconKind, int]) -> tuple[Icon, ...]:
    """Each of the 100 people in its place, in points, row by row.

    Raises:
        ValueError: the sizes do not add up to 100.
    """
    if sum(sizes.values()) != PEOPLE or min(sizes.values()) < 0:
        raise ValueError("an icon array should have 100 people")
    kinds = [kind for kind, size in sizes.items() for _ in range(size)]
    return tuple(
        Icon(round(place % PER_ROW * STEP_X, 1), round(place // PER_ROW * STEP_Y, 1), kind)
        for place, kind in enumerate(kinds)
    )
