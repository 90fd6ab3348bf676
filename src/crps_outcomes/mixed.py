"""The mean course of one measure over all visits at once: repeated measures by REML, visit as category.

Random intercept and random slope come from statsmodels; the unstructured covariance, which no Python library offers,
is fitted here (ADR 12). Whatever the working covariance, the interval is robust to its being wrong: a sandwich over people
with as many degrees of freedom as people seen at the visit less one. With complete data it is the paired t interval.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, stats
from statsmodels.regression.mixed_linear_model import MixedLM

from crps_outcomes.errors import PipelineError
from crps_outcomes.estimators import Interval, is_constant, mean_t

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from crps_outcomes.estimators import Values

#: What is tried next when a covariance cannot be fitted; after the last the paired change is given.
SIMPLER = {"unstructured": "random intercept", "random slope": "random intercept"}
STEEPEST = 1e-3  # of the gradient of the unstructured likelihood where the search has ended


class FitError(PipelineError):
    """The model has no trustworthy maximum; the message says what was wrong with it."""


@dataclass(frozen=True)
class Fit:
    """A fitted course.

    ``sigma`` is the covariance of one person's scores, visits x visits. ``means`` are the coefficients of the design (the
    mean at each visit, where visit is a category), ``model_based`` and ``robust`` their two covariance matrices.
    """

    covariance: str
    sigma: Values
    loglik: float
    means: Values
    model_based: Values
    robust: Values


def changes(scores: Values, weeks: Values, covariance: str) -> list[Interval]:
    """The mean change from the first visit at every later one, by the model or by the fallback its method names.

    Args:
        scores: people x visits, nan where there is none; everybody has the first, every visit has two scores or more.
        weeks: of the visits, which only a random slope asks for.
        covariance: a key of COVARIANCES.
    """
    try:
        found = fit(scores, weeks, covariance)
    except FitError as problem:
        words = f"the model with {covariance} did not fit, {problem}"
        if covariance in SIMPLER:
            simpler = changes(scores, weeks, SIMPLER[covariance])
            return [replace(one, method=f"{one.method}; {words}") for one in simpler]
        paired = [mean_t(_paired(scores, visit)) for visit in range(1, scores.shape[1])]
        return [replace(one, method=f"paired change of the people seen, t interval: {words}") for one in paired]
    return [_change(found, scores, visit) for visit in range(1, scores.shape[1])]


def fit(scores: Values, weeks: Values, covariance: str, design: Values | None = None) -> Fit:
    """The model by REML. ``design`` is visits x coefficients; by default every visit has a mean of its own.

    Raises:
        FitError: no convergence, a variance of nothing, or a covariance that cannot be inverted.
    """
    own = np.eye(scores.shape[1]) if design is None else design
    try:
        sigma, loglik = COVARIANCES[covariance](scores, weeks, own)
        return Fit(covariance, sigma, loglik, *_weighted(scores, sigma, own))
    except np.linalg.LinAlgError:
        raise FitError("its covariance has no inverse") from None


def _paired(scores: Values, visit: int) -> Values:
    change = scores[:, visit] - scores[:, 0]
    return change[~np.isnan(change)]


def _change(found: Fit, scores: Values, visit: int) -> Interval:
    if is_constant(seen := _paired(scores, visit)):
        return mean_t(seen)
    contrast = np.zeros(scores.shape[1])
    contrast[[0, visit]] = -1, 1
    n_seen = int((~np.isnan(scores[:, visit])).sum())
    error = float(np.sqrt(contrast @ found.robust @ contrast * n_seen / (n_seen - 1)))
    mean = float(contrast @ found.means)
    method = f"mixed model by REML, {found.covariance}, robust t interval"
    lower, upper = stats.t.interval(0.95, n_seen - 1, loc=mean, scale=error)
    return Interval(len(scores), mean, float(lower), float(upper), method)


def _weighted(scores: Values, sigma: Values, design: Values) -> tuple[Values, Values, Values]:
    """Generalised least squares: coefficients, their covariance if sigma is right, and their sandwich covariance."""
    parts = []
    for person in scores:
        seen = ~np.isnan(person)
        weighted = np.linalg.solve(sigma[np.ix_(seen, seen)], design[seen]).T
        parts.append((weighted @ design[seen], weighted @ person[seen]))
    bread = np.linalg.inv(sum(part[0] for part in parts))
    means = bread @ sum(part[1] for part in parts)
    pulls = np.array([right - left @ means for left, right in parts])
    return means, bread, bread @ (pulls.T @ pulls) @ bread


# --- covariances ----------------------------------------------------------------------------------------------------


def _random_intercept(scores: Values, weeks: Values, design: Values) -> tuple[Values, float]:
    return _random_effects(scores, design, np.ones((len(weeks), 1)))


def _random_slope(scores: Values, weeks: Values, design: Values) -> tuple[Values, float]:
    return _random_effects(scores, design, np.column_stack([np.ones(len(weeks)), weeks]))


def _random_effects(scores: Values, design: Values, effects: Values) -> tuple[Values, float]:
    """Covariance over the visits and REML log-likelihood of the model that statsmodels fits."""
    person, visit = np.nonzero(~np.isnan(scores))
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")  # what statsmodels complains about on the way is judged by where it ends
        model = MixedLM(scores[person, visit], design[visit], groups=person, exog_re=effects[visit])
        found = model.fit(reml=True, method=["bfgs", "lbfgs", "powell"])
    within, between = float(found.scale), np.asarray(found.cov_re)
    if not found.converged:
        raise FitError("the search for its maximum did not end")
    if np.linalg.eigvalsh(between)[0] <= 1e-6 * within or within <= 1e-9:
        raise FitError("a variance in it came out as nothing")
    return effects @ between @ effects.T + within * np.eye(len(effects)), float(found.llf)


@dataclass(frozen=True)
class _Pattern:
    """The people seen at the same visits: which, how many, the sum of their scores and the sum of their cross-products."""

    seen: NDArray[np.intp]
    n: int
    total: Values
    cross: Values


def _unstructured(scores: Values, weeks: Values, design: Values) -> tuple[Values, float]:
    """Every variance and covariance of its own, searched over the logarithmic Cholesky factor with exact gradients."""
    patterns, lower = _patterns(scores), np.tril_indices(len(weeks))
    start = (
        float(np.nanmean(np.nanvar(scores, axis=0))) * (np.eye(len(weeks)) + 1) / 2
    )  # equal variances, correlation 1/2

    def missed(packed: Values) -> tuple[float, Values]:
        factor = _unpacked(packed, lower)
        loglik, slope = _reml(factor @ factor.T, patterns, design)
        by_factor = 2 * slope @ factor
        np.fill_diagonal(by_factor, np.diag(by_factor) * np.diag(factor))
        return -loglik, -by_factor[lower]

    root = np.linalg.cholesky(start)
    np.fill_diagonal(root, np.log(np.diag(root)))
    found = optimize.minimize(
        missed, root[lower], jac=True, method="BFGS", options={"maxiter": 500, "gtol": STEEPEST / 10}
    )
    if not np.isfinite(found.fun) or np.abs(found.jac).max() > STEEPEST:
        raise FitError("the search for its maximum did not end")
    factor = _unpacked(found.x, lower)
    return factor @ factor.T, -float(found.fun)


def _unpacked(packed: Values, lower: tuple[NDArray[np.intp], NDArray[np.intp]]) -> Values:
    factor = np.zeros((lower[0][-1] + 1,) * 2)
    factor[lower] = packed
    np.fill_diagonal(factor, np.exp(np.diag(factor)))
    return factor


def _patterns(scores: Values) -> list[_Pattern]:
    shapes, which = np.unique(~np.isnan(scores), axis=0, return_inverse=True)
    found = []
    for number, shape in enumerate(shapes):
        own = scores[which == number][:, shape]
        found.append(_Pattern(np.flatnonzero(shape), len(own), own.sum(axis=0), own.T @ own))
    return found


def _reml(sigma: Values, patterns: list[_Pattern], design: Values) -> tuple[float, Values]:
    """The restricted log-likelihood at the best means for this sigma, and its slope by every entry of sigma."""
    weights = [np.linalg.inv(sigma[np.ix_(p.seen, p.seen)]) for p in patterns]
    inner = sum(p.n * design[p.seen].T @ w @ design[p.seen] for p, w in zip(patterns, weights, strict=True))
    bread = np.linalg.inv(inner)
    means = bread @ sum(design[p.seen].T @ w @ p.total for p, w in zip(patterns, weights, strict=True))
    loglik, slope = -np.linalg.slogdet(inner)[1], np.zeros_like(sigma)
    for p, w in zip(patterns, weights, strict=True):
        mean = design[p.seen] @ means
        rest = p.cross - np.outer(p.total, mean) - np.outer(mean, p.total) + p.n * np.outer(mean, mean)
        spread = design[p.seen] @ bread @ design[p.seen].T
        loglik += p.n * np.linalg.slogdet(w)[1] - float(np.sum(w * rest))
        slope[np.ix_(p.seen, p.seen)] += (w @ (rest + p.n * spread) @ w - p.n * w) / 2
    n_free = sum(p.n * len(p.seen) for p in patterns) - design.shape[1]
    return (loglik - n_free * np.log(2 * np.pi)) / 2, slope


COVARIANCES: Mapping[str, Callable[[Values, Values, Values], tuple[Values, float]]] = {
    "random intercept": _random_intercept,
    "random slope": _random_slope,
    "unstructured": _unstructured,
}
