"""Rows of ESTIMATES: every one has n, n_missing, a method, and an interval or the reason why there is none.

The small-n rule lives here and nowhere else: below 3 no estimate; below 10 no interval, the median with the range
beside a mean, shares and rates as counts; from 10 on t and Hodges-Lehmann, Wilson, exact Poisson.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from crps_outcomes import estimators

if TYPE_CHECKING:
    from crps_outcomes.estimators import Interval, Values

Row = dict[str, Any]

LEAST_FOR_ESTIMATE = 3
LEAST_FOR_INTERVAL = 10

A_COUNT = "a count: no interval"
DESCRIPTION = "a description of the data: no interval"


@dataclass(frozen=True)
class Key:
    """What a row is about; ``id`` is its estimate_id."""

    section: str
    statistic: str
    population: str = ""
    measure: str = ""
    visit: str = ""
    group: str = ""

    @property
    def id(self) -> str:
        parts = (self.section, self.statistic, self.population, self.measure, self.visit, self.group)
        return "/".join(part or "-" for part in parts)

    def of(self, group: str) -> Key:
        """The same key for another group."""
        return replace(self, group=group)


def row(key: Key, interval: Interval, *, unit: str, k: int | None = None, n_missing: int = 0) -> Row:
    """One row from a key and an estimate, as it is; ``n_missing`` stays 0 only where nothing can be missing."""
    return {
        "estimate_id": key.id, **vars(key), "n": interval.n, "n_missing": n_missing, "k": k,
        "estimate": interval.estimate, "lower": interval.lower, "upper": interval.upper, "sd": interval.sd,
        "unit": unit, "method": interval.method, "reason": interval.reason, "suppressed": "",
    }  # fmt: skip


def small_n(interval: Interval, what: str = "people", *, n: int | None = None) -> Interval:
    """The interval with the small-n rule applied; ``n`` counts what carries the rule when it is not ``interval.n``."""
    size = interval.n if n is None else n
    if size < LEAST_FOR_ESTIMATE:
        reason = f"fewer than {LEAST_FOR_ESTIMATE} {what}: no estimate"
        return replace(interval, estimate=None, lower=None, upper=None, sd=None, reason=reason)
    if size < LEAST_FOR_INTERVAL:
        reason = f"fewer than {LEAST_FOR_INTERVAL} {what}: no interval"
        return replace(interval, lower=None, upper=None, reason=reason)
    return interval


def counts_only(interval: Interval, what: str = "people") -> Interval:
    """A share or a rate with the small-n rule applied: below 10 its counts speak alone."""
    if not 0 < interval.n < LEAST_FOR_INTERVAL:
        return interval
    reason = f"fewer than {LEAST_FOR_INTERVAL} {what}: counts only"
    return replace(interval, estimate=None, lower=None, upper=None, reason=reason)


def middle(values: Values) -> Interval:
    """What stands beside a mean change: median and range below 10 values, the Hodges-Lehmann interval from there on."""
    if LEAST_FOR_ESTIMATE <= len(values) < LEAST_FOR_INTERVAL:
        reason = f"fewer than {LEAST_FOR_INTERVAL} people: median and range, no interval"
        return replace(estimators.median_range(values), reason=reason)
    return small_n(estimators.hodges_lehmann(values))


def mean_row(key: Key, values: Values, *, unit: str, n_missing: int = 0) -> Row:
    """Mean, t interval and standard deviation of one value per person."""
    return row(key, small_n(estimators.mean_t(values)), unit=unit, n_missing=n_missing)


def median_row(key: Key, values: Values, *, unit: str, n_missing: int = 0, what: str = "people") -> Row:
    """Median with quartiles as lower and upper; quartiles describe, so they need no more than 3 values."""
    found = estimators.median_quartiles(values)
    if found.n < LEAST_FOR_ESTIMATE:
        found = small_n(found, what)
    return row(key, found, unit=unit, n_missing=n_missing)


def share_row(key: Key, k: int, n: int, *, n_missing: int = 0, what: str = "people") -> Row:
    """A share of n in percent with its Wilson interval; fewer than 10 give counts only."""
    return row(key, counts_only(estimators.wilson(k, n), what), unit="%", k=k, n_missing=n_missing)


def exact_share_row(key: Key, k: int, n: int, *, n_missing: int = 0, what: str = "people") -> Row:
    """The same with the Clopper-Pearson interval, for where coverage has to be guaranteed."""
    return row(key, counts_only(estimators.clopper_pearson(k, n), what), unit="%", k=k, n_missing=n_missing)


SHARES = {"wilson": share_row, "clopper-pearson": exact_share_row}  # by the key of the plan


def described_share_row(key: Key, k: int, n: int, *, reason: str = DESCRIPTION, n_missing: int = 0) -> Row:
    """A share in percent where the n is everything there is, so that an interval would answer no question."""
    percent = 100 * k / n if n else None
    found = estimators.Interval(n, percent, None, None, "share", reason=reason if n else "nobody in the denominator")
    return row(key, found, unit="%", k=k, n_missing=n_missing)


def count_row(key: Key, k: int, *, unit: str, n: int | None = None) -> Row:
    """A bare count; n is the count itself where it is a part of nothing."""
    found = estimators.Interval(k if n is None else n, float(k), None, None, "count", reason=A_COUNT)
    return row(key, found, unit=unit, k=k)


def rate_row(key: Key, events: int, sessions: int) -> Row:
    """Events per 100 sessions with the exact Poisson interval; fewer than 10 sessions give counts only."""
    found = counts_only(estimators.poisson_rate_exact(events, sessions), "sessions")
    return row(key, found, unit="per 100 sessions", k=events)


def absent_row(key: Key, reason: str, *, unit: str, method: str, k: int | None = None) -> Row:
    """A row that only says why there is nothing to say."""
    return row(key, estimators.Interval(0, None, None, None, method, reason=reason), unit=unit, k=k)
