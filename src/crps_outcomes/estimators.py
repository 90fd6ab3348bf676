"""The statistics of the report, as thin typed calls on scipy and statsmodels.

Every function takes plain numbers without missing values and says in ``method`` what it did. None of them decides
whether a number may be printed: the small-n rule lives in ``analysis/rows.py``, disclosure in ``disclosure.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.rates import confint_poisson

from crps_outcomes.marks import MEDIAN_RANGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Values = NDArray[np.float64]

#: 7 to 4.9 is a 30 % fall, but not in binary floating point; this is far below any difference a scale can show.
TOLERANCE = 1e-9

#: Up to so many values every subset is tried by the sign-flip interval; beyond, so many random ones.
SIGN_FLIP_EXACT_MOST, SIGN_FLIP_SUBSETS = 14, 3999

BOOTSTRAP_RESAMPLES = 2000

#: Walsh averages grow with the square of n; beyond this the t interval says the same.
HODGES_LEHMANN_MOST = 1000


@dataclass(frozen=True)
class Interval:
    """One estimate with its 95 % interval, or the reason why a part of it does not exist.

    ``lower`` and ``upper`` are confidence limits unless ``method`` names something else (quartiles, for example).
    ``reason`` is "" when nothing is lacking.
    """

    n: int
    estimate: float | None
    lower: float | None
    upper: float | None
    method: str
    sd: float | None = None
    reason: str = ""


# --- response -----------------------------------------------------------------------------------------------------


def is_responder(baseline: pd.Series, value: pd.Series, percent: float, direction: str) -> pd.Series:
    """Whether each value is better than its baseline by at least ``percent`` of the baseline.

    ``direction`` is the measure's: "lower" or "higher" is better. A negative percent asks for "no worse than".
    Missing where baseline or value is missing, where the baseline is 0 or below (a share of it means nothing), and
    everywhere for a measure without direction. Returns the nullable ``boolean`` type on the index of ``baseline``.
    """
    start, now = baseline.astype("Float64"), value.astype("Float64")
    sign = {"lower": 1.0, "higher": -1.0}.get(direction)
    if sign is None:
        return pd.Series(pd.NA, index=baseline.index, dtype="boolean")
    reached = (start - now) * sign >= start * (percent / 100) - TOLERANCE
    return reached.astype("boolean").where(start > 0)


# --- numbers ------------------------------------------------------------------------------------------------------


def mean_t(values: Values, alpha: float = 0.05) -> Interval:
    """The mean with its t interval, which misses ``alpha`` of the time."""
    method = "mean, t interval"
    n = len(values)
    if n == 0:
        return Interval(0, None, None, None, method, reason="no values")
    mean = float(np.mean(values))
    if n == 1:
        return Interval(1, mean, None, None, method, reason="one value: no interval")
    sd = float(np.std(values, ddof=1))
    if is_constant(values):
        return Interval(n, mean, None, None, method, sd=0.0, reason="all values are equal: no interval")
    return Interval(n, mean, *t_limits(mean, sd, n, alpha), method, sd=sd)


def t_limits(mean: float, sd: float, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """The limits of the t interval of a mean of ``n`` values."""
    lower, upper = stats.t.interval(1 - alpha, n - 1, loc=mean, scale=sd / n**0.5)
    return float(lower), float(upper)


def p_of_no_change(values: Values) -> float:
    """The two-sided p-value of the t test that the mean is 0; below 0.05 exactly where the t interval leaves 0 out."""
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def adjusted(p_values: Sequence[float], method: str) -> Values:
    """p-values adjusted for their number: "holm", "bonferroni" or "fdr_bh" (Benjamini-Hochberg)."""
    if not p_values:
        return np.array([], dtype=np.float64)
    return np.asarray(multipletests(p_values, method=method)[1], dtype=np.float64)


def median_quartiles(values: Values) -> Interval:
    """The median with lower and upper quartile (linear interpolation, Hyndman and Fan type 7)."""
    method = "median (quartiles)"
    if len(values) == 0:
        return Interval(0, None, None, None, method, reason="no values")
    low, middle, high = (float(item) for item in np.quantile(values, [0.25, 0.5, 0.75]))
    return Interval(len(values), middle, low, high, method)


def median_range(values: Values) -> Interval:
    """The median with the smallest and the largest value as lower and upper; they describe and promise nothing."""
    if len(values) == 0:
        return Interval(0, None, None, None, MEDIAN_RANGE, reason="no values")
    low, middle, high = (float(function(values)) for function in (np.min, np.median, np.max))
    return Interval(len(values), middle, low, high, MEDIAN_RANGE)


def quantile(values: Values, percent: float) -> Interval:
    """One quantile (linear interpolation, type 7); a description of the people seen, so it has no interval."""
    method = "quantile (linear interpolation)"
    if len(values) == 0:
        return Interval(0, None, None, None, method, reason="no values")
    return Interval(
        len(values),
        float(np.quantile(values, percent / 100)),
        None,
        None,
        method,
        reason="describes the people seen: no interval",
    )


def hodges_lehmann(values: Values) -> Interval:
    """The pseudomedian: the median of all pairwise means, with the interval that the signed-rank test would give.

    Zero changes are kept as values. The interval uses the exact distribution of the signed-rank statistic up to 50
    values and its normal approximation beyond, as ``scipy.stats.wilcoxon`` does; with ties it is conservative.
    Source: Hollander, Wolfe, Chicken, Nonparametric Statistical Methods, sections 3.2 and 3.3.
    """
    method = "median change, Hodges-Lehmann interval, zero changes kept"
    n = len(values)
    if n == 0:
        return Interval(0, None, None, None, method, reason="no values")
    if n > HODGES_LEHMANN_MOST:
        return Interval(n, float(np.median(values)), None, None, method, reason="more than 1000 values: no interval")
    if is_constant(values):
        return Interval(n, float(values[0]), None, None, method, reason="all values are equal: no interval")
    first, second = np.triu_indices(n)
    walsh = np.sort((values[first] + values[second]) / 2)
    rank = _signed_rank_quantile(n)
    if rank == 0:
        return Interval(n, float(np.median(walsh)), None, None, method, reason="too few values for a 95 % interval")
    return Interval(n, float(np.median(walsh)), float(walsh[rank - 1]), float(walsh[-rank]), method)


@cache
def _signed_rank_quantile(n: int) -> int:
    """The largest rank whose lower tail is at most 2.5 %: that many Walsh averages from each end; 0 if there is none."""
    if n > 50:
        spread = (n * (n + 1) * (2 * n + 1) / 24) ** 0.5
        return int(np.floor(n * (n + 1) / 4 - stats.norm.ppf(0.975) * spread))
    ranks = ([0.5] + [0.0] * (i - 1) + [0.5] for i in range(1, n + 1))
    *_, chance = accumulate((np.array(rank) for rank in ranks), np.convolve)
    return int(np.searchsorted(np.cumsum(chance), 0.025, side="right"))


def sign_flip(values: Values, chance: np.random.Generator) -> Interval:
    """The mean with the interval that the sign-flip permutation test does not reject, zero changes kept as values.

    It asks for changes that lie evenly about their centre, and for no other shape. The means of all subsets of the
    values cut the line into pieces that hold the centre with equal probability (Hartigan 1969, doi:10.2307/2283057);
    beyond 14 values ``chance`` draws 3,999 subsets, which keeps that property.
    """
    method = "mean, sign-flip permutation interval, zero changes kept"
    n = len(values)
    if n == 0:
        return Interval(0, None, None, None, method, reason="no values")
    mean = float(np.mean(values))
    if is_constant(values):
        return Interval(n, mean, None, None, method, reason="all values are equal: no interval")
    means = np.sort(_subset_means(values, chance))
    rank = int((len(means) + 1) * 0.025)
    if rank == 0:
        return Interval(n, mean, None, None, method, reason="too few values for a 95 % interval")
    return Interval(n, mean, float(means[rank - 1]), float(means[-rank]), method)


def _subset_means(values: Values, chance: np.random.Generator) -> Values:
    """The mean of every subset that is not empty, or of many random ones."""
    n = len(values)
    if n <= SIGN_FLIP_EXACT_MOST:
        chosen = (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1
    else:
        chosen = chance.integers(0, 2, (SIGN_FLIP_SUBSETS, n))
        chosen = chosen[chosen.any(axis=1)]
    return np.asarray(chosen @ values / chosen.sum(axis=1), dtype=np.float64)


def bootstrap_mean(values: Values, chance: np.random.Generator) -> Interval:
    """The mean with its bias-corrected and accelerated (BCa) bootstrap interval from 2,000 resamples of people."""
    method = "mean, BCa bootstrap interval"
    n = len(values)
    if n < 2 or is_constant(values):
        reason = "all values are equal: no interval" if n > 1 else "fewer than 2 values: no interval"
        return Interval(n, float(np.mean(values)) if n else None, None, None, method, reason=reason)
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=BOOTSTRAP_RESAMPLES, method="BCa", vectorized=True, rng=chance
    ).confidence_interval
    return Interval(n, float(np.mean(values)), float(found.low), float(found.high), method)


def spread(values: Values) -> Interval:
    """The standard deviation with its chi-square interval, which asks for values that are about normal."""
    method = "standard deviation, chi-square interval"
    n = len(values)
    if n < 2 or is_constant(values):
        reason = "all values are equal: no interval" if n > 1 else "fewer than 2 values: no standard deviation"
        return Interval(n, 0.0 if n > 1 else None, None, None, method, reason=reason)
    sd = float(np.std(values, ddof=1))
    lower, upper = (sd * float((n - 1) / stats.chi2.ppf(share, n - 1)) ** 0.5 for share in (0.975, 0.025))
    return Interval(n, sd, lower, upper, method)


def mean_clustered(values: Values, clusters: NDArray[Any]) -> Interval:
    """The mean of several values per person, with a t interval that allows for them being alike within a person.

    ``clusters`` names the person of each value. n counts values; the interval has people - 1 degrees of freedom
    (cluster-robust variance of the intercept, as statsmodels gives it).
    """
    method = "mean over sessions, t interval that allows for several sessions of one person"
    n, n_people = len(values), len(np.unique(clusters))
    if n == 0:
        return Interval(0, None, None, None, method, reason="no values")
    mean = float(np.mean(values))
    sd = float(np.std(values, ddof=1)) if n > 1 else None
    if n_people < 2 or is_constant(values):
        reason = "all values are equal: no interval" if n > 1 and is_constant(values) else "one person: no interval"
        return Interval(n, mean, None, None, method, sd=sd, reason=reason)
    codes = np.unique(clusters, return_inverse=True)[1]
    fit = OLS(values, np.ones(n)).fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True)
    lower, upper = fit.conf_int(0.05)[0]
    return Interval(n, mean, float(lower), float(upper), method, sd=sd)


def pearson(one: Values, other: Values) -> Interval:
    """The correlation of two values of each person, with the interval of Fisher's z."""
    method, n = "Pearson correlation, Fisher z interval", len(one)
    if n < 2 or is_constant(one) or is_constant(other):
        return Interval(
            n, None, None, None, method, reason="no spread in one of the two" if n > 1 else "fewer than 2 people"
        )
    found = stats.pearsonr(one, other)
    r = float(found.statistic)
    if n < 4 or abs(r) >= 1 - TOLERANCE:
        reason = "fewer than 4 people: no interval" if n < 4 else "all points lie on one line: no interval"
        return Interval(n, r, None, None, method, reason=reason)
    lower, upper = found.confidence_interval(0.95)
    return Interval(n, r, float(lower), float(upper), method)


def is_constant(values: Values) -> bool:
    """No spread beyond rounding error: an interval from it would be a false promise."""
    return len(values) > 0 and bool(np.ptp(values) <= TOLERANCE)


# --- counts -------------------------------------------------------------------------------------------------------


def wilson(k: int, n: int) -> Interval:
    """A share in percent with its Wilson score interval."""
    return _share(k, n, "wilson", "Wilson interval")


def clopper_pearson(k: int, n: int) -> Interval:
    """A share in percent with its exact interval, which never covers less than 95 %."""
    return _share(k, n, "beta", "Clopper-Pearson exact interval")


def jeffreys(k: int, n: int) -> Interval:
    """A share in percent with its equal-tailed Jeffreys interval."""
    return _share(k, n, "jeffreys", "Jeffreys interval")


def _share(k: int, n: int, method: str, words: str) -> Interval:
    if n == 0:
        return Interval(0, None, None, None, words, reason="nobody in the denominator")
    lower, upper = proportion_confint(k, n, alpha=0.05, method=method)
    return Interval(n, 100 * k / n, 100 * max(float(lower), 0.0), 100 * min(float(upper), 1.0), words)


def one_sided_upper(k: int, n: int) -> Interval:
    """A share in percent with the upper limit only: with 95 % confidence the true share is not above it."""
    words = "one-sided exact 95 % upper limit"
    if n == 0:
        return Interval(0, None, None, None, words, reason="nobody in the denominator")
    _, upper = proportion_confint(k, n, alpha=0.10, method="beta")
    return Interval(n, 100 * k / n, None, 100 * min(float(upper), 1.0), words)


def one_sided_upper_for_zero(n: int) -> Interval:
    """What none in ``n`` still allows: the exact 95 % upper limit of the share, 100 (1 - 0.05^(1/n)) percent."""
    return one_sided_upper(0, n)


def poisson_rate_exact(events: int, exposure: int, per: float = 100.0) -> Interval:
    """Events per ``per`` units of exposure with the exact Poisson interval (Garwood)."""
    words = f"rate per {per:g}, exact Poisson interval"
    if exposure == 0:
        return Interval(0, None, None, None, words, reason="no exposure")
    lower, upper = confint_poisson(events, exposure, method="exact-c", alpha=0.05)
    low = 0.0 if events == 0 else float(lower) * per
    return Interval(exposure, events / exposure * per, low, float(upper) * per, words)


# --- balance ------------------------------------------------------------------------------------------------------

BALANCE = "standardised difference"


def standardised_difference(one: Values, other: Values) -> Interval:
    """Difference of means in units of the root mean of the two variances (Austin 2009). n counts both groups."""
    n = len(one) + len(other)
    if min(len(one), len(other)) < 2:
        return Interval(n, None, None, None, BALANCE, reason="fewer than 2 values in a group")
    spread = float(np.sqrt((np.var(one, ddof=1) + np.var(other, ddof=1)) / 2))
    return _scaled(float(np.mean(one) - np.mean(other)), spread, n)


def standardised_difference_binary(k_one: int, n_one: int, k_other: int, n_other: int) -> Interval:
    """Difference of two shares in units of the root mean of p (1 - p) (Austin 2009). n counts both groups."""
    n = n_one + n_other
    if min(n_one, n_other) < 2:
        return Interval(n, None, None, None, BALANCE, reason="fewer than 2 people in a group")
    p, q = k_one / n_one, k_other / n_other
    return _scaled(p - q, float(np.sqrt((p * (1 - p) + q * (1 - q)) / 2)), n)


def _scaled(difference: float, spread: float, n: int) -> Interval:
    if abs(difference) <= TOLERANCE:
        return Interval(n, 0.0, None, None, BALANCE, reason="a description of balance: no interval")
    if spread <= TOLERANCE:
        return Interval(n, None, None, None, BALANCE, reason="no spread in either group")
    return Interval(n, difference / spread, None, None, BALANCE, reason="a description of balance: no interval")


def as_values(numbers: pd.Series | Sequence[float]) -> Values:
    """The numbers that are there, as a float array: the one place of the statistics where missing values are left out."""
    series = pd.Series(numbers, dtype="Float64")
    return np.asarray(series[series.notna()].to_numpy(dtype="float64"), dtype=np.float64)


def as_floats(numbers: pd.Series) -> Values:
    """A nullable column as a float array of the same length, nan where there is none."""
    return np.asarray(numbers.astype("Float64").to_numpy(dtype="float64", na_value=float("nan")), dtype=np.float64)


def as_nullable(numbers: Values) -> pd.arrays.FloatingArray:
    """The way back: nan becomes missing."""
    return pd.arrays.FloatingArray(numbers, np.isnan(numbers))
