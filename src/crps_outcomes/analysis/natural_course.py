"""How much of the change would be expected without any treatment: regression to the mean, and the slope before it.

People start treatment when their pain is high. A score that was high partly by chance falls by itself, and this says by
how much. The natural course of the illness, attention and hope are not in it: no number here is an effect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from crps_outcomes.analysis.cohort import ANALYSED
from crps_outcomes.analysis.estimand import changes
from crps_outcomes.analysis.rows import LEAST_FOR_INTERVAL, Key, count_row, mean_row, row, small_n
from crps_outcomes.estimators import Interval, as_floats, as_values
from crps_outcomes.regression_to_mean import Population, edge_of, expected_fall, resampled, unselected
from crps_outcomes.slopes import slope, within_slope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row
    from crps_outcomes.estimators import Values

DECLARED, ESTIMATED = "declared", "estimated"
RELIABILITIES = (0.5, 0.6, 0.7, 0.8, 0.9)
ENTERED, ENTERED_EARLIER, BELOW = "entered on the baseline", "has an earlier score", "below the entry score"
MEAN, SD = "mean", "standard deviation"
#: Two scores nearer than this say more about a day than about a course. [project rule]
LEAST_DAYS_APART = 7
#: With more samples than this in which no distribution fits, the interval has no end that could be named.
MOST_WITHOUT_FIT = 0.025
CUT = "normal distribution cut off at the entry score (maximum likelihood), bootstrap of people"
FORMULA = "SD × (1 − reliability) × φ(z) / (1 − Φ(z)) for people whose baseline is the score they entered by"
NO_RULE = "no entry score is declared"
FEW_ENTERED = f"fewer than {LEAST_FOR_INTERVAL} people at or above the entry score: no estimate"
NO_FIT = "no normal distribution fits the scores above the entry score"
ALL_ALIKE = "the same in every bootstrap sample: no interval"
LEFT = (
    "observed change minus expected one, which is −(1 − reliability) × (score − mean of everybody) of the same people; "
    "bootstrap of people"
)


@dataclass(frozen=True)
class _Entry:
    """One entry per analysed person: the score they entered by (nan where below the rule), whether it is the baseline
    too, and the change at the primary visit (nan where none counts).
    """

    score: Values
    is_baseline: Values  # 1 or 0
    change: Values
    edge: float  # where the scale is cut

    @property
    def n_fit(self) -> int:
        return int((~np.isnan(self.score)).sum())


@dataclass(frozen=True)
class _Figures:
    """What the rows are made of: one number each for the people seen, one per bootstrap sample, or both declared."""

    mean: Values
    sd: Values
    fall_if_unreliable: Values  # of everybody, were the reliability 0: the fall is this times one minus it
    observed: Values
    fall_if_followed: Values  # the same fall of those only who have a change, from their own scores


def natural_course(cohort: Cohort) -> list[Row]:
    """Observed change, the change expected by regression to the mean alone, the rest, and the slope before treatment."""
    before = scores_before(cohort)
    reliability = _reliability(cohort, before)
    return [_observed(cohort), reliability, _slope_before(cohort, before), *_expected(cohort, before, reliability)]


def _key(statistic: str, cohort: Cohort, group: str = "", visit: str = "") -> Key:
    return Key("natural_course", statistic, ANALYSED, cohort.protocol.outcomes.primary, visit, group)


def _unit(cohort: Cohort) -> str:
    return cohort.study.measures[cohort.protocol.outcomes.primary].unit_label


def _change_key(cohort: Cohort, statistic: str, group: str = "") -> Key:
    return _key(statistic, cohort, group, cohort.protocol.outcomes.primary_visit)


def _observed(cohort: Cohort) -> Row:
    """The primary change as the plan counts it: scores after a hypothetical event are left out."""
    plan = cohort.protocol.outcomes
    found = as_values(changes(cohort, plan.primary, plan.primary_visit))
    n_missing = cohort.at(plan.primary, plan.primary_visit, ANALYSED).n_due - len(found)
    return mean_row(_change_key(cohort, "observed"), found, unit=_unit(cohort), n_missing=n_missing)


# --- before the first dose ------------------------------------------------------------------------------------------


def scores_before(cohort: Cohort) -> pd.DataFrame:
    """subject_id, days (0 or below), value: scores of the analysed before the first dose, the latest one of each day."""
    plan, observations = cohort.protocol.plan.regression, cohort.tables.observations
    is_score = (observations["measure"] == cohort.protocol.outcomes.primary) & (observations["item"] == "")
    own = cohort.of(observations[is_score & observations["value"].notna()], ANALYSED)
    first = cohort.populations[ANALYSED][["subject_id", "first_dose_at", "first_dose_on"]]
    dated = own.merge(first, on="subject_id", validate="many_to_one")
    dated["days"] = (dated["taken_on"] - dated["first_dose_on"]).dt.days
    is_before = (dated["days"] < 0) | ((dated["days"] == 0) & (dated["taken_at"] < dated["first_dose_at"]))
    inside = dated[is_before & (dated["days"] >= -plan.before_days)]
    inside = inside.sort_values(["subject_id", "days", "taken_at", "source_ref"])
    return inside.drop_duplicates(["subject_id", "days"], keep="last")[["subject_id", "days", "value"]]


def _far_apart(before: pd.DataFrame) -> pd.DataFrame:
    """The scores of people whose first and last one lie at least a week apart."""
    days = before.groupby("subject_id")["days"]
    return before[days.transform("max") - days.transform("min") >= LEAST_DAYS_APART]


def _reliability(cohort: Cohort, before: pd.DataFrame) -> Row:
    """The slope of the last on the first score before the first dose: choosing people by the first does not bend it."""
    grouped = _far_apart(before).groupby("subject_id", sort=True)["value"]
    first, last = as_values(grouped.first()), as_values(grouped.last())
    found = replace(slope(first, last), method="slope of the last on the first score before the first dose, t interval")
    if len(first) < LEAST_FOR_INTERVAL:
        reason = f"fewer than {LEAST_FOR_INTERVAL} people with two scores a week apart before the first dose"
        found = replace(found, estimate=None, lower=None, upper=None, reason=reason)
    return row(_key("reliability", cohort), found, unit="", n_missing=cohort.n(ANALYSED) - len(first))


def _slope_before(cohort: Cohort, before: pd.DataFrame) -> Row:
    """Points per week before the first dose, within people."""
    own = _far_apart(before)
    weeks, people = as_values(own["days"].astype("Float64")) / 7, own["subject_id"].to_numpy("object")
    n = own["subject_id"].nunique()
    found = within_slope(weeks, as_values(own["value"]), people)
    if n < LEAST_FOR_INTERVAL:
        reason = f"fewer than {LEAST_FOR_INTERVAL} people with two scores a week apart before the first dose"
        found = Interval(n, None, None, None, found.method, reason=reason)
    unit = f"{_unit(cohort).split(',')[0]} per week"
    return row(_key("slope_before", cohort), found, unit=unit, n_missing=cohort.n(ANALYSED) - n)


# --- expected -------------------------------------------------------------------------------------------------------


def _expected(cohort: Cohort, before: pd.DataFrame, reliability: Row) -> Iterator[Row]:
    """The change expected without treatment, by reliability, and what the observed change leaves."""
    plan = cohort.protocol.plan.regression
    known = _reliabilities(plan.reliability, reliability["estimate"])
    if plan.entry_at_least is None:
        yield from _nothing_expected(cohort, known, 0, NO_RULE)
        return
    entry = _entries(cohort, before, plan.entry_at_least)
    yield from _entered(cohort, entry)
    if entry.n_fit < LEAST_FOR_INTERVAL:
        yield from _nothing_expected(cohort, known, entry.n_fit, FEW_ENTERED)
        return
    seen, samples = _figures(cohort, entry), _sampled(cohort, entry)
    yield from _population(cohort, entry, seen, samples)
    for group, value in known.items():
        yield _expected_row(cohort, entry, group, (_fall(seen, value), _falls(samples, value)))
    yield _left(cohort, entry, seen, samples)


def _nothing_expected(cohort: Cohort, groups: Iterable[str], n: int, reason: str) -> Iterator[Row]:
    none = Interval(n, None, None, None, FORMULA, reason=reason)
    keys = (*(_change_key(cohort, "expected", group) for group in groups), _change_key(cohort, "left"))
    for key in keys:
        yield row(key, none, unit=_unit(cohort), n_missing=cohort.n(ANALYSED) - n)


def _reliabilities(declared: float, estimated: float | None) -> Mapping[str, float]:
    """By name: the declared one, those of the sensitivity table, and the estimated one where it is a correlation."""
    known = {DECLARED: declared} | {f"{value:.1f}": value for value in RELIABILITIES}
    return known | ({ESTIMATED: estimated} if estimated is not None and 0 < estimated < 1 else {})


def _entries(cohort: Cohort, before: pd.DataFrame, entry: float) -> _Entry:
    """The score people entered by: their baseline, or by the plan the first one before the first dose, where there is one."""
    plan = cohort.protocol.outcomes
    start = cohort.at(plan.primary, "baseline", ANALYSED)
    baselines = start.people(start.is_observed)["value"].sort_index()  # so that samples do not hang on the rows' order
    score, is_baseline = as_floats(baselines), np.ones(len(baselines))
    if cohort.protocol.plan.regression.entry_score == "first score":
        grouped = before.groupby("subject_id")["value"]
        firsts, sizes = grouped.first().reindex(baselines.index), grouped.size().reindex(baselines.index)
        score = as_floats(firsts.where(firsts.notna(), baselines))
        is_baseline = np.where(as_floats(sizes) > 1, 0.0, 1.0)
    return _Entry(
        score=np.where(score >= entry, score, np.nan),
        is_baseline=is_baseline,
        change=as_floats(changes(cohort, plan.primary, plan.primary_visit).reindex(baselines.index)),
        edge=edge_of(score[~np.isnan(score)], entry),
    )


def _entered(cohort: Cohort, entry: _Entry) -> Iterator[Row]:
    """How many people entered on their baseline, have an earlier score, or lie below the declared entry score."""
    is_in = ~np.isnan(entry.score)
    counts = {
        ENTERED: is_in & (entry.is_baseline == 1), ENTERED_EARLIER: is_in & (entry.is_baseline == 0), BELOW: ~is_in,
    }  # fmt: skip
    for group, own in counts.items():
        yield count_row(_key("people", cohort, group), int(own.sum()), unit="people", n=len(own))


def _figures(cohort: Cohort, entry: _Entry, chosen: NDArray[np.int64] | None = None) -> _Figures:
    """The figures of the people chosen: rows of places, one sample each; without, everybody once."""
    places = np.arange(len(entry.score)) if chosen is None else chosen
    scores, followed = entry.score[places], entry.change[places]
    population = _distribution(cohort, scores, entry.edge)
    on_baseline = (~np.isnan(scores)) * entry.is_baseline[places]
    with np.errstate(divide="ignore", invalid="ignore"):
        fall = expected_fall(population, 0.0, entry.edge) * np.asarray(on_baseline.mean(axis=-1))
    above = np.where(on_baseline == 1, scores - population.mean[..., None], 0.0)
    own = _mean(np.where(np.isnan(followed), np.nan, above))
    return _Figures(population.mean, population.sd, fall, _mean(followed), own)


def _distribution(cohort: Cohort, scores: Values, edge: float) -> Population:
    plan = cohort.protocol.plan.regression
    if plan.population_mean is not None and plan.population_sd is not None:
        shape = scores.shape[:-1]
        return Population(np.full(shape, plan.population_mean), np.full(shape, plan.population_sd))
    means = _mean(scores)
    return unselected(means, _mean((scores - means[..., None]) ** 2), edge)


def _mean(values: Values) -> Values:
    """The mean of the numbers that are there, along the last axis; nan where there is none."""
    is_there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        total = np.where(is_there, values, 0.0).sum(axis=-1) / is_there.sum(axis=-1)
    return np.asarray(total, dtype=np.float64)


def _sampled(cohort: Cohort, entry: _Entry) -> _Figures | None:
    """The same figures in bootstrap samples of people; None where none are to be drawn."""
    plan, n = cohort.protocol.plan, len(entry.score)
    rounds = plan.repeated_measures.bootstrap_samples
    if not rounds:
        return None

    return _figures(cohort, entry, resampled(n, rounds, plan.seed))


def _fall(figures: _Figures, reliability: float) -> float:
    return float((1 - reliability) * figures.fall_if_unreliable)


def _falls(samples: _Figures | None, reliability: float) -> Values | None:
    return None if samples is None else (1 - reliability) * samples.fall_if_unreliable


def _bounded(n: int, estimate: float, samples: Values | None, method: str) -> Interval:
    """The estimate with the bootstrap's percentiles; a sample in which nothing fits counts as beyond every end."""
    if not np.isfinite(estimate):
        return Interval(n, None, None, None, method, reason=NO_FIT)
    if samples is None:
        return Interval(n, estimate, None, None, method, reason="the plan has no bootstrap: no interval")
    found = samples[np.isfinite(samples)]
    if len(found) < (1 - MOST_WITHOUT_FIT) * len(samples):
        reason = "in too many bootstrap samples no distribution fits: no interval"
        return Interval(n, estimate, None, None, method, reason=reason)
    if np.ptp(found) == 0:
        return Interval(n, estimate, None, None, method, reason=ALL_ALIKE)
    lower, upper = np.quantile(found, [0.025, 0.975])
    return Interval(n, estimate, float(lower), float(upper), method)


def _population(cohort: Cohort, entry: _Entry, seen: _Figures, samples: _Figures | None) -> Iterator[Row]:
    """Mean and standard deviation of everybody, those too who lie below the entry score."""
    plan = cohort.protocol.plan.regression
    parts = {MEAN: ("mean", plan.population_mean), SD: ("sd", plan.population_sd)}
    for group, (name, declared) in parts.items():
        key = _key("everybody", cohort, group)
        if declared is not None:
            found = Interval(entry.n_fit, declared, None, None, "declared in the plan", reason="declared: no interval")
        else:
            found = _bounded(
                entry.n_fit, float(getattr(seen, name)), None if samples is None else getattr(samples, name), CUT
            )
        yield row(key, found, unit=_unit(cohort), n_missing=len(entry.score) - entry.n_fit)


def _expected_row(cohort: Cohort, entry: _Entry, group: str, fall: tuple[float, Values | None]) -> Row:
    estimate, samples = fall
    method = f"{FORMULA}; {CUT if cohort.protocol.plan.regression.population_mean is None else 'declared population'}"
    found = _bounded(entry.n_fit, -estimate, None if samples is None else -samples, method)
    return row(
        _change_key(cohort, "expected", group), found, unit=_unit(cohort),
        n_missing=len(entry.score) - entry.n_fit,
    )  # fmt: skip


def _left(cohort: Cohort, entry: _Entry, seen: _Figures, samples: _Figures | None) -> Row:
    """Observed minus expected change of the people who have a change, both from the same bootstrap samples."""
    share = 1 - cohort.protocol.plan.regression.reliability
    n = int((~np.isnan(entry.change)).sum())
    estimate = float(seen.observed + share * seen.fall_if_followed)
    drawn = None if samples is None else samples.observed + share * samples.fall_if_followed
    found = small_n(_bounded(n, estimate, drawn, LEFT), "people with a change")
    return row(_change_key(cohort, "left"), found, unit=_unit(cohort), n_missing=len(entry.change) - n)
