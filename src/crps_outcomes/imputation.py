"""Multiple imputation of missing scores, and how bad they would have to be for a finding to vanish.

Chained equations with Bayesian normal regression (Rubin 1987; method "norm" of the R package mice), all imputations drawn
side by side. statsmodels has chained equations too, but takes minutes where this takes milliseconds (ADR 12).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, stats

from crps_outcomes.estimators import TOLERANCE, Interval, is_constant, mean_t

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from crps_outcomes.estimators import Values

ROUNDS = 10
RIDGE = 1e-5  # as mice has it: what keeps predictors that say the same apart
PEOPLE_PER_PREDICTOR = 5
FLAT = "all values are equal: no interval"


@dataclass(frozen=True)
class Pooled:
    """One estimate from many imputed tables by Rubin's rules; ``share`` is the part of its variance that imputation adds."""

    estimate: float
    within: float
    between: float
    share: float
    freedom: float

    @property
    def total(self) -> float:
        return self.within / (1 - self.share)

    def limits(self) -> tuple[float, float]:
        """The 95 % interval."""
        lower, upper = stats.t.interval(0.95, self.freedom, loc=self.estimate, scale=self.total**0.5)
        return float(lower), float(upper)


@dataclass(frozen=True)
class Imputed:
    """One score at one visit, for the people from whom it was due.

    ``change``: imputations x people, the change from the start with every missing score filled in. ``is_missing``: per
    person. ``worse``: +1 where a higher score is worse, else -1.
    """

    change: Values
    is_missing: NDArray[np.bool_]
    worse: float


# --- filling in -----------------------------------------------------------------------------------------------------


def impute(table: Values, predictors: Mapping[int, Sequence[int]], imputations: int, seed: int) -> Values:
    """Copies of the table without holes, imputations x people x columns.

    Args:
        table: people x columns, nan where there is none.
        predictors: the columns each column is predicted from, best first; few people get only the first ones.
        imputations: how many copies.
        seed: of the draws.
    """
    chance = np.random.default_rng(seed)
    centre, scale = np.nanmean(table, axis=0), np.nanstd(table, axis=0)
    scale = np.where(scale > TOLERANCE, scale, 1.0)
    scaled = (table - centre) / scale
    holes = np.isnan(scaled)
    filled = np.repeat(scaled[None], imputations, axis=0)
    broken = [int(column) for column in np.flatnonzero(holes.any(axis=0))]
    for column in broken:
        seen = scaled[~holes[:, column], column]
        filled[:, holes[:, column], column] = chance.choice(seen, (imputations, int(holes[:, column].sum())))
    for _ in range(ROUNDS):
        for column in broken:
            _redraw(filled, holes[:, column], column, predictors[column], chance)
    return np.asarray(filled * scale + centre, dtype=np.float64)


def _redraw(
    filled: Values, hole: NDArray[np.bool_], column: int, predictors: Sequence[int], chance: np.random.Generator
) -> None:
    """New values for the holes of one column in every copy: a line through those seen, with its uncertainty, plus noise."""
    seen, most = ~hole, max(1, int((~hole).sum()) // PEOPLE_PER_PREDICTOR)
    chosen = filled[:, :, list(predictors[:most])]
    known = np.concatenate([np.ones((*chosen.shape[:2], 1)), chosen], axis=2)
    x, y = known[:, seen], filled[:, seen, column][..., None]
    cross = x.transpose(0, 2, 1) @ x
    inverse = np.linalg.inv(
        cross + np.eye(cross.shape[1]) * (RIDGE * np.diagonal(cross, axis1=1, axis2=2) + TOLERANCE)[:, None]
    )
    slopes = inverse @ (x.transpose(0, 2, 1) @ y)
    free = max(int(seen.sum()) - x.shape[2], 1)
    sigma = np.sqrt(((y - x @ slopes) ** 2).sum(axis=1) / chance.chisquare(free, (len(filled), 1)))[..., None]
    slopes += sigma * (np.linalg.cholesky(inverse) @ chance.standard_normal(slopes.shape))
    drawn = known[:, ~seen] @ slopes
    filled[:, ~seen, column] = (drawn + sigma * chance.standard_normal(drawn.shape))[..., 0]


# --- pooling --------------------------------------------------------------------------------------------------------


def pool(estimates: Values, variances: Values, freedom: float) -> Pooled:
    """Rubin's rules, with the degrees of freedom of Barnard and Rubin (1999, Biometrika 86:948-955).

    ``freedom``: the degrees of freedom there would be if nothing were missing.
    """
    m, within, between = len(estimates), float(np.mean(variances)), float(np.var(estimates, ddof=1))
    added = (1 + 1 / m) * between
    share = added / (within + added) if added > 0 else 0.0
    observed = (freedom + 1) / (freedom + 3) * freedom * (1 - share)
    combined = observed if share == 0 else 1 / (share**2 / (m - 1) + 1 / observed)
    return Pooled(float(np.mean(estimates)), within, between, share, combined)


def pooled_change(imputed: Imputed, delta: float = 0.0) -> Interval:
    """The mean change with every missing score ``delta`` worse than it was imputed, with its interval."""
    n, method = len(imputed.is_missing), _method(len(imputed.change), delta)
    if not imputed.is_missing.any():
        found = mean_t(imputed.change[0])
        return Interval(
            n, found.estimate, found.lower, found.upper, f"{method}: no score is missing", reason=found.reason
        )
    change = _shifted(imputed, delta)
    if _is_flat(imputed):
        return Interval(n, float(change.mean()), None, None, method, reason=FLAT)
    pooled = _pooled(change)
    return Interval(n, pooled.estimate, *pooled.limits(), method)


def tipping_point(imputed: Imputed, most: float) -> Interval:
    """How much worse than imputed the missing scores must be for the interval of the mean change to include no change.

    0 where it does so already, none where not even ``most`` is enough or nothing is missing.
    """
    n, method = len(imputed.is_missing), "tipping point of the imputed change"
    if not imputed.is_missing.any():
        return Interval(n, None, None, None, method, reason="no score is missing")
    if _is_flat(imputed):
        return Interval(n, None, None, None, method, reason=FLAT)

    def distance(delta: float) -> float:
        """Of no change from the limit of the interval on its side, 0 or below where the interval includes it."""
        lower, upper = _pooled(_shifted(imputed, delta)).limits()
        return -upper if imputed.worse > 0 else lower

    if distance(0.0) <= 0:
        return Interval(
            n, 0.0, None, None, method, reason="the interval is not on the better side of no change as it is"
        )
    if distance(most) > 0:
        return Interval(n, None, None, None, method, reason="not even if they were worse by the whole scale")
    found = optimize.brentq(distance, 0.0, most, xtol=1e-6)
    return Interval(n, float(found), None, None, method, reason="a threshold: no interval")


def _method(imputations: int, delta: float) -> str:
    worse = f", missing scores {delta:g} worse" if delta else ""
    return f"{imputations} imputations, Rubin's rules, Barnard-Rubin degrees of freedom{worse}"


def _is_flat(imputed: Imputed) -> bool:
    """Whether the changes of the people seen have no spread; that the imputed ones differ a little adds no knowledge."""
    return is_constant(imputed.change[0, ~imputed.is_missing])


def _shifted(imputed: Imputed, delta: float) -> Values:
    return imputed.change + imputed.worse * delta * imputed.is_missing


def _pooled(change: Values) -> Pooled:
    n = change.shape[1]
    return pool(change.mean(axis=1), change.var(axis=1, ddof=1) / n, n - 1)
