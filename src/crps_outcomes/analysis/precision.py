"""How much evidence there is: the width of the interval of the primary change now, and how many people would narrow it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from crps_outcomes import estimators
from crps_outcomes.analysis.cohort import ANALYSED
from crps_outcomes.analysis.estimand import changes
from crps_outcomes.analysis.looks import looks
from crps_outcomes.analysis.rows import LEAST_FOR_INTERVAL, Key, absent_row, row, share_row
from crps_outcomes.estimators import Interval, as_floats

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row
    from crps_outcomes.estimators import Values

#: How the mean or middle of the primary change is estimated a second time, to see whether the method matters.
T, HODGES_LEHMANN, SIGN_FLIP, BOOTSTRAP = "t", "Hodges-Lehmann", "sign-flip", "bootstrap"
SIGN_FLIP_BELOW = 30  # people
SIMULATED, CLOSED_FORM = "simulation", "closed form"
STEP = 5  # people between two points of the curve
_STREAM = 11  # keeps this section's draws apart from others of the same seed


@dataclass(frozen=True)
class Fitted:
    """What the simulation takes from this cohort at the primary visit."""

    sd_start: float
    sd_after: float
    correlation: float
    share_seen: float  # of the analysed people whose visit is due

    @property
    def sd_change(self) -> float:
        both = 2 * self.correlation * self.sd_start * self.sd_after
        return sqrt(max(self.sd_start**2 + self.sd_after**2 - both, 0.0))


@dataclass(frozen=True)
class Seen:
    """The analysed people at the primary visit: both scores of those whose change counts by the plan, and how many are due."""

    start: Values
    after: Values
    n_due: int

    @property
    def changes(self) -> Values:
        """Sorted, so that no draw depends on the order of rows."""
        return np.sort(self.after - self.start)

    @property
    def n_missing(self) -> int:
        return self.n_due - len(self.start)


def precision(cohort: Cohort) -> list[Row]:
    """Half-width now, people needed for the declared aim, the change by other methods, and the looks declared."""
    seen = _seen(cohort)
    return [*_now(cohort, seen), *_other_methods(cohort, seen), *_looks(cohort, seen)]


def _seen(cohort: Cohort) -> Seen:
    plan = cohort.protocol.outcomes
    visited = cohort.at(plan.primary, plan.primary_visit, ANALYSED)
    counted = visited.people(visited.is_observed).loc[changes(cohort, plan.primary, plan.primary_visit).index]
    return Seen(as_floats(counted["baseline"]), as_floats(counted["value"]), visited.n_due)


def _key(cohort: Cohort, statistic: str, group: str = "") -> Key:
    plan = cohort.protocol.outcomes
    return Key("precision", statistic, ANALYSED, plan.primary, plan.primary_visit, group)


def _row(cohort: Cohort, seen: Seen, key: Key, interval: Interval, unit: str | None = None) -> Row:
    own = cohort.study.measures[cohort.protocol.outcomes.primary].unit_label
    return row(key, interval, unit=own if unit is None else unit, n_missing=seen.n_missing)


# --- now and later --------------------------------------------------------------------------------------------------


def _now(cohort: Cohort, seen: Seen) -> Iterator[Row]:
    spread = estimators.spread(seen.changes)
    half = half_width(spread)
    if half.reason:
        for statistic, unit in (("half_width", ""), ("people_needed", "people")):
            found = absent_row(_key(cohort, statistic), half.reason, unit=unit, method=half.method)
            yield found | {"n": spread.n, "n_missing": seen.n_missing}
        return
    fitted = _fitted(seen)
    yield _row(cohort, seen, _key(cohort, "half_width"), half)
    yield _row(cohort, seen, _key(cohort, "sd"), spread)
    yield _row(cohort, seen, _key(cohort, "correlation"), _correlation(seen, fitted), "")
    yield share_row(_key(cohort, "seen"), len(seen.start), seen.n_due)
    yield from _later(cohort, seen, fitted, spread)


def half_width(spread: Interval) -> Interval:
    """Half the t interval of a mean with this standard deviation; lower and upper from the interval of the latter."""
    method = "half of the 95 % t interval; range: chi-square interval of the standard deviation"
    n = spread.n
    if n < LEAST_FOR_INTERVAL:
        return Interval(n, None, None, None, method, reason=f"fewer than {LEAST_FOR_INTERVAL} people: no interval")
    if spread.estimate is None or spread.lower is None or spread.upper is None:
        return Interval(n, None, None, None, method, reason=spread.reason)
    factor = float(stats.t.ppf(0.975, n - 1)) / sqrt(n)
    return Interval(n, spread.estimate * factor, spread.lower * factor, spread.upper * factor, method)


def _fitted(seen: Seen) -> Fitted:
    start, after = (float(np.std(values, ddof=1)) for values in (seen.start, seen.after))
    flat = estimators.is_constant(seen.start) or estimators.is_constant(seen.after)
    correlation = 0.0 if flat else float(np.corrcoef(seen.start, seen.after)[0, 1])
    return Fitted(start, after, correlation, len(seen.start) / seen.n_due)


def _correlation(seen: Seen, fitted: Fitted) -> Interval:
    method = "Pearson correlation of the scores before and at the visit, Fisher interval"
    n = len(seen.start)
    if estimators.is_constant(seen.start) or estimators.is_constant(seen.after):
        return Interval(n, None, None, None, method, reason="all values are equal: no correlation")
    limits = stats.pearsonr(seen.start, seen.after).confidence_interval()
    return Interval(n, fitted.correlation, float(limits.low), float(limits.high), method)


def _later(cohort: Cohort, seen: Seen, fitted: Fitted, spread: Interval) -> Iterator[Row]:
    plan = cohort.protocol.plan
    chance = np.random.default_rng([plan.seed, _STREAM])
    rounds, most = plan.precision.simulations, plan.precision.most_people
    curves = {CLOSED_FORM: expected_half_widths(fitted, most)}
    if rounds:
        curves[SIMULATED] = simulated_half_widths(fitted, most, rounds, chance)
    ways = {SIMULATED: f"simulation, {rounds} rounds", CLOSED_FORM: "closed form"}
    for way, curve in curves.items():
        found = people_needed(curve, plan.precision.half_width, spread)
        words = f"{ways[way]}; range: chi-square interval of the standard deviation"
        yield _row(cohort, seen, _key(cohort, "people_needed", way), replace(found, method=words), "people")
    best = curves.get(SIMULATED, curves[CLOSED_FORM])
    low, high = _factors(spread)
    for people in range(LEAST_FOR_INTERVAL, most + 1, STEP):
        at = float(best[people])
        if np.isfinite(at):
            point = Interval(
                spread.n, at, at * low, at * high, f"{ways[SIMULATED if rounds else CLOSED_FORM]}, half-width"
            )
            yield _row(cohort, seen, _key(cohort, "half_width_at", str(people)), point)


def simulated_half_widths(fitted: Fitted, most: int, rounds: int, chance: np.random.Generator) -> Values:
    """The mean half-width at 0, 1, ... ``most`` analysed people; infinite where an interval cannot be had.

    Each round is one long cohort: normal scores before and after with the standard deviations and correlation of this
    one, and people without a score as often as here. Its first so many people are the smaller cohorts.
    """
    before, own = chance.standard_normal((2, rounds, most))
    after = fitted.correlation * before + sqrt(max(1 - fitted.correlation**2, 0.0)) * own
    is_seen = chance.random((rounds, most)) < fitted.share_seen
    change = np.where(is_seen, fitted.sd_after * after - fitted.sd_start * before, 0.0)
    n, total, squares = (np.cumsum(one, axis=1) for one in (is_seen, change, change**2))
    enough = n >= 2
    least_two = np.maximum(n, 2)
    variance = np.maximum(squares - total**2 / least_two, 0.0) / (least_two - 1)
    half = np.where(enough, _t_factors(most)[least_two] * np.sqrt(variance), np.inf)
    return np.concatenate([[np.inf], half.mean(axis=0)])


def _t_factors(most: int) -> Values:
    """What turns a standard deviation into a half-width, by number of values; nothing below 2."""
    n = np.arange(2, max(most, 2) + 1)
    return np.concatenate([[np.inf, np.inf], stats.t.ppf(0.975, n - 1) / np.sqrt(n)])


def expected_half_widths(fitted: Fitted, most: int) -> Values:
    """The same by formula: t times the standard deviation over the root of the people with a score."""
    n = np.arange(most + 1) * fitted.share_seen
    enough = np.maximum(n, 2.0)
    return np.where(n >= 2, stats.t.ppf(0.975, enough - 1) * fitted.sd_change / np.sqrt(enough), np.inf)


def _factors(spread: Interval) -> tuple[float, float]:
    """How much smaller and larger the standard deviation could be."""
    assert spread.estimate
    assert spread.lower is not None
    assert spread.upper is not None
    return spread.lower / spread.estimate, spread.upper / spread.estimate


def people_needed(curve: Values, aim: float, spread: Interval) -> Interval:
    """From how many people on the half-width stays at the aim or below, for the spread seen and for both its limits."""
    low, high = _factors(spread)
    estimate, lower, upper = (_first_below(curve * factor, aim) for factor in (1.0, low, high))
    reason = "" if upper is not None else f"more than {len(curve) - 1} people"
    return Interval(spread.n, estimate, lower, upper, "", reason=reason)


def _first_below(curve: Values, aim: float) -> float | None:
    too_wide = np.flatnonzero(curve > aim)
    needed = int(too_wide[-1]) + 1
    return float(max(needed, LEAST_FOR_INTERVAL)) if needed < len(curve) else None


# --- the same change by other methods -------------------------------------------------------------------------------


def _other_methods(cohort: Cohort, seen: Seen) -> Iterator[Row]:
    chance = np.random.default_rng([cohort.protocol.plan.seed, _STREAM + 1])
    values = seen.changes
    if len(values) < LEAST_FOR_INTERVAL:
        return
    found = {T: estimators.mean_t(values), HODGES_LEHMANN: estimators.hodges_lehmann(values)}
    if len(values) < SIGN_FLIP_BELOW:
        found[SIGN_FLIP] = estimators.sign_flip(values, chance)
    found[BOOTSTRAP] = estimators.bootstrap_mean(values, chance)
    for name, interval in found.items():
        yield _row(cohort, seen, _key(cohort, "change", name), interval)


# --- looks ----------------------------------------------------------------------------------------------------------


def _looks(cohort: Cohort, seen: Seen) -> Iterator[Row]:
    """The critical value of every look, and the change with the interval of each look that was reached."""
    plan = cohort.protocol.outcomes
    n = len(changes(cohort, plan.primary, plan.primary_visit))
    unit = cohort.study.measures[plan.primary].unit_label
    for one in looks(cohort):
        words = "not reached" if one.change is None else "reached"
        bound = Interval(n, one.bound, None, None, "Lan-DeMets, O'Brien-Fleming type", reason=f"a boundary; {words}")
        key = _key(cohort, "look", str(one.people))
        yield row(key, bound, unit="standard errors", n_missing=seen.n_due - n)
        if one.change is not None:
            yield row(_key(cohort, "change_at_look", str(one.people)), one.change, unit=unit)
