"""How far a score falls by itself because people entered treatment when it was high (regression to the mean).

Source of the formula: a normal population cut off from below at the entry score, of which the second score is the
first one drawn back to the mean by one minus the correlation of the two (Davis 1976, Am J Epidemiol 104:493-498).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crps_outcomes.estimators import Values

#: Where the entry score may lie, in standard deviations from the mean of everybody: beyond, nothing can be told apart.
LOWEST, HIGHEST = -6.0, 3.0


@dataclass(frozen=True)
class Population:
    """Mean and standard deviation of the people there would be without an entry score; arrays of equal shape."""

    mean: Values
    sd: Values


def expected_fall(population: Population, reliability: float, edge: float) -> Values:
    """The mean fall, sd (1 - reliability) phi(z) / (1 - Phi(z)) with z = (edge - mean) / sd."""
    z = (edge - population.mean) / population.sd
    return np.asarray(population.sd * (1 - reliability) * _hazard(z), dtype=np.float64)


def unselected(means: Values, variances: Values, edge: float) -> Population:
    """The maximum-likelihood normal distribution behind scores that lie at ``edge`` or above.

    The mean and the variance (divided by n) of the scores say all there is to know, so the two likelihood equations are
    one equation for z; it is solved on a grid. nan where no normal distribution cut off below ``HIGHEST`` standard
    deviations above its mean fits.
    """
    above, (grid, ratios) = means - edge, _ratios()
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = variances / above**2
        z = np.interp(ratio, ratios, grid, right=np.nan)
        is_whole = ratio < ratios[0]  # so far above the edge that nobody is cut off
        sd = np.where(is_whole, np.sqrt(variances), above / (_hazard(z) - z))
    return Population(np.where(is_whole, means, edge - z * sd), sd)


def edge_of(scores: Values, entry: float) -> float:
    """Where the scale is cut: half a point below the entry score where every score is a whole number."""
    return entry - 0.5 if bool(np.all(scores == np.round(scores))) else entry


def resampled(n: int, rounds: int, seed: int) -> NDArray[np.int64]:
    """Bootstrap samples of ``n`` people: a row of places for each round, the same for the same seed."""
    return np.random.default_rng(seed).integers(n, size=(rounds, n))


def _hazard(z: Values) -> Values:
    return np.asarray(np.exp(norm.logpdf(z) - norm.logsf(z)), dtype=np.float64)


@cache
def _ratios() -> tuple[Values, Values]:
    """Each z of the grid and what it makes of variance over the squared mean above the edge; both rise."""
    z = np.linspace(LOWEST, HIGHEST, 9001)
    hazard = _hazard(z)
    return z, np.asarray((1 - hazard * (hazard - z)) / (hazard - z) ** 2, dtype=np.float64)
