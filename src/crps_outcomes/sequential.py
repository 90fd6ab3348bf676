"""Looks at the data before the end: how much wider an interval must be so that all looks together err 5 times in 100.

An interval that is read again and again as people arrive misses the truth more often than it says. Looks declared in
advance share the 5 % out (Lan and DeMets 1983, doi:10.1093/biomet/70.3.659), by the O'Brien-Fleming-type function: very
little of it early, nearly all of it at the end.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats
from scipy.integrate import simpson
from scipy.optimize import brentq

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ALPHA = 0.05
_POINTS = 201  # of the grid of each integral; boundaries are then right to three decimals
_FARTHEST = 8.0  # standard errors, beyond which nothing is lost


def spent(share: float) -> float:
    """How much of the 5 % may be spent up to a ``share`` (0 to 1] of all people, both sides together."""
    return float(4 * stats.norm.sf(stats.norm.isf(ALPHA / 4) / share**0.5))


def boundaries(shares: Sequence[float]) -> tuple[float, ...]:
    """The critical value of each look, in standard errors, in the place of 1.96.

    A look so early that it may spend next to nothing gets the farthest value there is, 8: nothing can cross it.

    Args:
        shares: of all people at each look, rising, the last one 1.
    """
    found: list[float] = []
    for look, target in enumerate(spent(share) for share in shares):

        def excess(bound: float, look: int = look, target: float = target) -> float:
            return sum(crossings((*found, bound), shares[: look + 1])) - target

        is_beyond = excess(_FARTHEST) > 0
        found.append(_FARTHEST if is_beyond else float(brentq(excess, 0.5, _FARTHEST, xtol=1e-7)))
    return tuple(found)


def crossings(bounds: Sequence[float], shares: Sequence[float]) -> tuple[float, ...]:
    """The chance that a mean of true value 0 first lies beyond the bound at each look, both sides together.

    The sum so far is a random walk with independent steps, so its density is carried from look to look by one integral
    each (Armitage, McPherson and Rowe 1969).
    """
    times = np.asarray(shares, dtype=np.float64)
    edges = np.asarray(bounds) * np.sqrt(times)
    grid = np.linspace(-edges[0], edges[0], _POINTS)
    density = stats.norm.pdf(grid, scale=np.sqrt(times[0]))
    beyond = [float(2 * stats.norm.sf(bounds[0]))]
    for (before, now), edge in zip(pairwise(times), edges[1:], strict=True):
        step = np.sqrt(now - before)
        out = stats.norm.sf(edge - grid, scale=step) + stats.norm.cdf(-edge - grid, scale=step)
        beyond.append(float(simpson(density * out, x=grid)))
        grid, density = _carried(grid, density, edge, step)
    return tuple(beyond)


def _carried(
    grid: NDArray[np.float64], density: NDArray[np.float64], edge: float, step: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The density after one more step, on the values that do not cross."""
    following = np.linspace(-edge, edge, _POINTS)
    reached = stats.norm.pdf(following[:, None] - grid, scale=step)
    return following, np.asarray(simpson(density * reached, x=grid, axis=1), dtype=np.float64)
