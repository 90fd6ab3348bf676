"""How one number goes with another: slopes and rank correlation over people, and slopes within people.

Thin calls on scipy and statsmodels. Values come without missing numbers, arrays of one length. "Within" compares a
person only with that person's own other values; "between" compares the means of people. No function here says why.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats
from statsmodels.genmod.cov_struct import Exchangeable
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_estimating_equations import GEE
from statsmodels.regression.linear_model import OLS
from statsmodels.regression.mixed_linear_model import MixedLM

from crps_outcomes.estimators import Interval, is_constant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crps_outcomes.estimators import Values

LINE = "slope of a straight line (least squares), t interval"
RANKS = "Spearman rank correlation, interval by Fisher's z (Bonett and Wright 2000)"
MIXED = "mixed model with a random intercept per person (REML), cluster-robust t interval with people − 1 degrees of freedom"
DEVIATIONS = "least squares on the deviations from each person's mean, cluster-robust t interval with people − 1 degrees of freedom"
FALLBACK = f"{DEVIATIONS}, because the mixed model did not converge"
ODDS = (
    "odds ratio, logistic model by generalised estimating equations, sessions of a person alike (exchangeable), "
    "bias-reduced robust t interval"
)
NO_SPREAD = "all doses or all values are equal: no slope"
NOT_APART = "dose and time go together throughout: no slope"
ON_A_LINE = "all points lie on one line: no interval"


@dataclass(frozen=True)
class Slopes:
    """The slope inside people and the slope over the means of people. ``n`` counts people."""

    within: Interval
    between: Interval


@dataclass(frozen=True)
class _Design:
    """Values and doses with the person of each as a code from 0, and the doses split into both parts."""

    values: Values
    people: NDArray[np.intp]
    within: Values
    between: Values  # the person's mean, less the mean over people
    beside: Values  # a column per covariate

    @property
    def n(self) -> int:
        return int(self.people.max()) + 1

    @property
    def columns(self) -> Values:
        """Constant, both parts of the dose, covariates; the second part only where people differ in it."""
        parts = [np.ones(len(self.values)), self.within, *([self.between] if self.has_between else []), self.beside]
        return np.column_stack(parts)

    @property
    def has_between(self) -> bool:
        return not is_constant(self.between)

    @property
    def is_whole(self) -> bool:
        """Whether every column says something that the others do not."""
        return bool(np.linalg.matrix_rank(self.columns) == self.columns.shape[1])


# --- over people ----------------------------------------------------------------------------------------------------


def slope(doses: Values, values: Values) -> Interval:
    """The slope of ``values`` on ``doses``, one of each per person."""
    n = len(values)
    if n < 3:
        return Interval(n, None, None, None, LINE, reason="fewer than 3 people: no estimate")
    if is_constant(doses):
        return Interval(n, None, None, None, LINE, reason=NO_SPREAD)
    fit = OLS(values, np.column_stack([np.ones(n), doses])).fit()
    found = Interval(n, float(fit.params[1]), None, None, LINE, reason=ON_A_LINE)
    return found if is_constant(fit.resid) else _limited(found, fit.conf_int(0.05)[1])


def rank_correlation(doses: Values, values: Values) -> Interval:
    """Spearman's correlation of one value of each per person; ties share their rank."""
    n = len(values)
    if n < 4:
        return Interval(n, None, None, None, RANKS, reason="fewer than 4 people: no estimate")
    if is_constant(doses) or is_constant(values):
        return Interval(n, None, None, None, RANKS, reason="all doses or all values are equal: no correlation")
    rho = float(stats.spearmanr(doses, values).statistic)
    if abs(rho) > 1 - 1e-9:
        return Interval(n, rho, None, None, RANKS, reason="the order is the same throughout: no interval")
    wide = stats.norm.ppf(0.975) * ((1 + rho**2 / 2) / (n - 3)) ** 0.5
    return _limited(Interval(n, rho, None, None, RANKS), np.tanh(np.arctanh(rho) + wide * np.array([-1, 1])))


# --- within people --------------------------------------------------------------------------------------------------


def varied(doses: Values, people: NDArray[Any]) -> int:
    """How many people have doses that differ: nobody else says anything about a slope within people."""
    return sum(not is_constant(doses[people == one]) for one in np.unique(people))


def within_slope(doses: Values, values: Values, people: NDArray[Any]) -> Interval:
    """The common slope of values on doses inside people."""
    if len(values) == 0 or not varied(doses, people):
        return Interval(0, None, None, None, DEVIATIONS, reason=NO_SPREAD)
    return _deviations(_design(doses, values, people, None))


def within_between(doses: Values, values: Values, people: NDArray[Any], beside: Values | None = None) -> Slopes:
    """Both slopes from one mixed model; where it does not converge, each by least squares, and the method says so.

    ``beside`` holds covariates, a column each, such as `occasions`.
    The interval is cluster-robust because neighbouring changes of one person share a score. After weighting by the
    model's variances (the quasi-demeaning of random-effects regression) least squares gives the model's own estimates.
    """
    if len(values) == 0 or not varied(doses, people):
        none = Interval(0, None, None, None, MIXED, reason=NO_SPREAD)
        return Slopes(none, none)
    design = _design(doses, values, people, beside)
    if not design.is_whole:
        none = Interval(design.n, None, None, None, MIXED, reason=NOT_APART)
        return Slopes(none, none)
    shares = _model_shares(design)
    if shares is None:
        means = _person_means(design.values, design.people)
        firsts = np.unique(design.people, return_index=True)[1]
        between = slope(design.between[firsts], means[firsts])
        return Slopes(
            replace(_deviations(design), method=FALLBACK),
            replace(between, method=f"{LINE}, over the means of people, because the mixed model did not converge"),
        )
    return _weighted(design, shares)


def odds_within(doses: Values, happened: Values, people: NDArray[Any], beside: Values | None = None) -> Interval:
    """The odds ratio of an event (0 or 1) per unit of dose inside people, the dose's mean of each person held.

    Where the model does not converge: the difference in the share per unit of dose by `within_slope`, and the method
    says so. The t interval has people less coefficients as degrees of freedom (statsmodels gives z only).
    """
    if len(happened) == 0 or not varied(doses, people) or is_constant(happened):
        return Interval(0, None, None, None, ODDS, reason=NO_SPREAD)
    design = _design(doses, happened, people, beside)
    if not design.is_whole:
        return Interval(design.n, None, None, None, ODDS, reason=NOT_APART)
    fitted = _logistic(design)
    if fitted is None:
        found = _deviations(design)
        return replace(found, method=f"difference in share, {DEVIATIONS}, because the logistic model did not converge")
    estimate, error = fitted
    wide = stats.t.ppf(0.975, max(design.n - design.columns.shape[1], 1)) * error
    return _limited(
        Interval(design.n, float(np.exp(estimate)), None, None, ODDS),
        np.exp([estimate - wide, estimate + wide]),
    )


def occasions(names: NDArray[Any]) -> Values:
    """A column of 0 and 1 for every occasion but the first: with them the mean of each occasion is taken out."""
    return np.asarray(names[:, None] == np.unique(names)[None, 1:], dtype=np.float64)


def _design(doses: Values, values: Values, people: NDArray[Any], beside: Values | None) -> _Design:
    codes = np.unique(people, return_inverse=True)[1]
    means = _person_means(doses, codes)
    firsts = np.unique(codes, return_index=True)[1]
    none = np.empty((len(values), 0))
    between = means - float(np.mean(means[firsts]))
    return _Design(values, codes, doses - means, between, none if beside is None else beside)


def _person_means(values: Values, codes: NDArray[np.intp]) -> Values:
    """For each value the mean of its person."""
    means = np.bincount(codes, values) / np.bincount(codes)
    return np.asarray(means[codes], dtype=np.float64)


def _deviations(design: _Design) -> Interval:
    own, *columns = (
        column - _person_means(column, design.people) for column in (design.values, design.within, *design.beside.T)
    )
    fit = OLS(own, np.column_stack(columns)).fit(cov_type="cluster", cov_kwds={"groups": design.people}, use_t=True)
    found = Interval(design.n, float(fit.params[0]), None, None, DEVIATIONS, reason=ON_A_LINE)
    return found if is_constant(fit.resid) else _limited(found, fit.conf_int(0.05)[0])


def _model_shares(design: _Design) -> Values | None:
    """By which share each value is taken as a deviation from its person's mean, by the model; None: no convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a variance of 0 is an answer, not a fault; convergence is asked for below
        try:
            model = MixedLM(design.values, design.columns, groups=design.people)
            fit = model.fit(reml=True, method="powell")  # needs no gradient, which fails where the variance is 0
            between, within = float(np.asarray(fit.cov_re)[0, 0]), float(fit.scale)
        except (np.linalg.LinAlgError, ValueError):
            return None
    if not fit.converged or not np.isfinite([between, within]).all() or within <= 0:
        return None
    sizes = np.bincount(design.people)[design.people]
    return np.asarray(1 - np.sqrt(within / (within + sizes * max(between, 0.0))), dtype=np.float64)


def _weighted(design: _Design, shares: Values) -> Slopes:
    def part(column: Values) -> Values:
        return np.asarray(column - shares * _person_means(column, design.people), dtype=np.float64)

    columns = np.column_stack([part(column) for column in design.columns.T])
    fit = OLS(part(design.values), columns).fit(cov_type="cluster", cov_kwds={"groups": design.people}, use_t=True)
    limits = fit.conf_int(0.05)
    none = Interval(design.n, None, None, None, MIXED, reason=NO_SPREAD)
    found = [Interval(design.n, float(one), None, None, MIXED, reason=ON_A_LINE) for one in fit.params]
    if not is_constant(fit.resid):
        found = [_limited(one, own) for one, own in zip(found, limits, strict=True)]
    return Slopes(found[1], found[2] if design.has_between else none)


def _logistic(design: _Design) -> tuple[float, float] | None:
    """Log odds ratio and its standard error; None where nothing sensible was found."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # separation and convergence are judged by what comes out
        try:
            model = GEE(
                design.values, design.columns, groups=design.people, family=Binomial(), cov_struct=Exchangeable()
            )
            fit = model.fit(cov_type="bias_reduced", maxiter=100)
            estimate, error = float(fit.params[1]), float(fit.bse[1])
        except (np.linalg.LinAlgError, ValueError, FloatingPointError):
            return None
    is_told_apart = bool((np.abs(fit.fittedvalues - design.values) < CERTAIN).all())
    is_sound = (
        fit.converged and np.isfinite([estimate, error]).all() and 0 < error < LARGEST_ERROR and not is_told_apart
    )
    return (estimate, error) if is_sound else None


#: Where doses tell events from none completely an odds ratio means nothing: the largest error of its logarithm, and how
#: near to 0 or 1 every fitted chance lies then.
LARGEST_ERROR, CERTAIN = 10.0, 1e-6


def _limited(found: Interval, limits: Any) -> Interval:
    """The estimate with its limits, and no reason any more."""
    lower, upper = (float(one) for one in limits)
    return replace(found, lower=lower, upper=upper, reason="")
