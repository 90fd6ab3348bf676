"""The mean course of one measure over all visits at once: repeated measures by REML, visit as category.

No Python library fits an unstructured covariance, so the likelihood stands here (ADR 12), for that and for the simpler
ones; R and statsmodels are what it is checked against. Whatever the working covariance, the interval is robust to its being wrong: a sandwich over people
with as many degrees of freedom as people seen at the visit less one. With complete data it is the paired t interval.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, stats

from crps_outcomes.errors import PipelineError
from crps_outcomes.estimators import TOLERANCE, Interval, is_constant, mean_t

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from crps_outcomes.estimators import Values

#: What is tried next when a covariance cannot be fitted; after the last the paired change is given.
SIMPLER = {"unstructured": "random intercept", "random slope": "random intercept"}
STEEPEST = 1e-3  # of the gradient of the log-likelihood where the search has ended
NOTHING = 1e-4  # a variance, as a share of that of the scores, that is as good as none


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
        sigma, loglik = _found(scores, COVARIANCES[covariance](weeks), own)
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


@dataclass(frozen=True)
class Covariance:
    """Effects of a person over the visits, visits x effects, whose covariance is free; with noise of each score, or none."""

    effects: Values
    has_noise: bool = True


COVARIANCES: Mapping[str, Callable[[Values], Covariance]] = {
    "random intercept": lambda weeks: Covariance(np.ones((len(weeks), 1))),
    "random slope": lambda weeks: Covariance(np.column_stack([np.ones(len(weeks)), weeks])),
    "unstructured": lambda weeks: Covariance(np.eye(len(weeks)), has_noise=False),
}


def _found(scores: Values, covariance: Covariance, design: Values) -> tuple[Values, float]:
    """Sigma and restricted log-likelihood at the maximum, searched with exact gradients over the logarithmic Cholesky
    factor of the effects and the logarithm of the noise. Scores are scaled first, so that one tolerance fits all.
    """
    scale = float(np.sqrt(np.nanmean(np.nanvar(scores, axis=0))))
    if scale <= TOLERANCE:
        raise FitError("there is no variance")
    rows, columns = np.tril_indices(covariance.effects.shape[1])
    start = np.append(np.where(rows == columns, np.log(0.7), 0.0), np.log(0.5))
    known = (covariance, _patterns(scores / scale), design)
    with np.errstate(all="ignore"):  # a step too far is taken back by the search
        found = optimize.minimize(
            _missed, start, known, jac=True, method="BFGS", options={"maxiter": 500, "gtol": STEEPEST / 10}
        )
    if not np.isfinite(found.fun) or np.abs(found.jac).max() > STEEPEST:
        raise FitError("the search for its maximum did not end")
    factor, noise = _taken_apart(found.x, covariance)
    if np.diag(factor).min() ** 2 < NOTHING or (covariance.has_noise and noise < NOTHING):
        raise FitError("a variance in it came out as nothing")
    n_free = int((~np.isnan(scores)).sum()) - design.shape[1]
    return _sigma(factor, noise, covariance) * scale**2, -float(found.fun) - n_free * float(np.log(scale))


def _taken_apart(packed: Values, covariance: Covariance) -> tuple[Values, float]:
    """The Cholesky factor of the effects and the variance of the noise, from what the search moves."""
    factor = np.zeros((covariance.effects.shape[1],) * 2)
    factor[np.tril_indices(len(factor))] = packed[:-1]
    np.fill_diagonal(factor, np.exp(np.diag(factor)))
    return factor, float(np.exp(packed[-1])) if covariance.has_noise else 0.0


def _sigma(factor: Values, noise: float, covariance: Covariance) -> Values:
    spread = covariance.effects @ factor
    return spread @ spread.T + noise * np.eye(len(spread))


def _missed(packed: Values, covariance: Covariance, patterns: list[_Pattern], design: Values) -> tuple[float, Values]:
    """Minus the restricted log-likelihood, and its slope by what the search moves."""
    factor, noise = _taken_apart(packed, covariance)
    loglik, slope = _reml(_sigma(factor, noise, covariance), patterns, design)
    by_factor = 2 * covariance.effects.T @ slope @ covariance.effects @ factor
    np.fill_diagonal(by_factor, np.diag(by_factor) * np.diag(factor))
    return -loglik, -np.append(by_factor[np.tril_indices(len(factor))], noise * np.trace(slope))


@dataclass(frozen=True)
class _Pattern:
    """The people seen at the same visits: which, how many, the sum of their scores and the sum of their cross-products."""

    seen: NDArray[np.intp]
    n: int
    total: Values
    cross: Values


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
