"""The truth of the population behind a cohort, by simulating the response model for very many virtual people."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from crps_outcomes.synthetic.options import population_stream
from crps_outcomes.synthetic.response import COURSES, PAIN, Numbers, Traits, enter, record, true_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crps_outcomes.definitions import Visit
    from crps_outcomes.synthetic.options import Options

#: Options that change a cohort but not the population behind it.
_NOT_THE_POPULATIONS: dict[str, Any] = {"patients": 1, "dropout": False, "mess": False, "enrolment_days": 425}
_TOLERANCE = 1e-9  # exact 30 % reductions must count although 7 - 4.9 is not 2.1 in binary


@dataclass(frozen=True)
class PlannedVisit:
    """A visit day and how far from it people may come; a normal jitter of 2.5 SD fills the smaller half-window."""

    id: str
    day: int
    half_window_days: int


#: Weeks 4 and 12 of the example protocol.
WEEKS_4_AND_12 = (PlannedVisit("week_4", 28, 7), PlannedVisit("week_12", 84, 14))


@dataclass(frozen=True)
class PopulationTruth:
    """True means as they would be recorded from everybody, nobody leaving early.

    ``change`` is follow-up minus baseline as recorded: integer pain scores, cut off at 0 and 10, baseline the latest
    score before the first dose. It holds the regression to the mean; ``noise_free_change`` does not.
    """

    n_people: int
    baseline_mean: Mapping[str, float]
    baseline_sd: Mapping[str, float]
    mean_change: Mapping[str, Mapping[str, float]]  # measure -> visit -> mean
    sd_change: Mapping[str, Mapping[str, float]]
    noise_free_change: Mapping[str, Mapping[str, float]]
    responder_percent: Mapping[str, Mapping[str, float]]  # "30" or "50" -> visit -> % of people


def planned(visits: Sequence[Visit]) -> tuple[PlannedVisit, ...]:
    """The protocol's visits in the terms of the response model."""
    return tuple(
        PlannedVisit(one.id, one.day, min(one.day - one.window_days[0], one.window_days[1] - one.day)) for one in visits
    )


def jittered_day(rng: np.random.Generator, visit: PlannedVisit, n_people: int) -> Numbers:
    """The day each person really comes, always inside the window."""
    half = visit.half_window_days
    return np.asarray(visit.day + np.clip(np.rint(rng.standard_normal(n_people) * half / 2.5), -half, half))


def population_truth(
    options: Options, visits: Sequence[PlannedVisit] = WEEKS_4_AND_12, n_people: int = 200_000
) -> PopulationTruth:
    """The truth for these options: a function of the response model and the seed, never of a cohort."""
    return _simulated(replace(options, **_NOT_THE_POPULATIONS), tuple(visits), n_people)


@lru_cache(maxsize=8)
def _simulated(options: Options, visits: tuple[PlannedVisit, ...], n_people: int) -> PopulationTruth:
    rng = population_stream(options)
    traits, screening = enter(rng, n_people, options)
    before = _baselines(rng, traits, screening, options.second_baseline)
    days = {visit.id: jittered_day(rng, visit, n_people) for visit in visits}
    true = {name: {visit: true_value(traits, name, day) for visit, day in days.items()} for name in before}
    after = {name: {visit: record(rng, name, values) for visit, values in own.items()} for name, own in true.items()}
    changes = {name: _less(own, before[name]) for name, own in after.items()}
    starts = {PAIN: traits.pain, **traits.levels}
    return PopulationTruth(
        n_people=n_people,
        baseline_mean=_means(before),
        baseline_sd=_sds(before),
        mean_change={name: _means(own) for name, own in changes.items()},
        sd_change={name: _sds(own) for name, own in changes.items()},
        noise_free_change={name: _means(_less(own, starts[name])) for name, own in true.items()},
        responder_percent={
            str(percent): {visit: _responders(before[PAIN], values, percent) for visit, values in after[PAIN].items()}
            for percent in (30, 50)
        },
    )


def _baselines(
    rng: np.random.Generator, traits: Traits, screening: Numbers, second_baseline: float
) -> dict[str, Numbers]:
    second = record(rng, PAIN, traits.pain)
    taken = rng.random(len(screening)) < second_baseline
    others = {name: record(rng, name, traits.levels[name]) for name in COURSES}
    return {PAIN: np.where(taken, second, screening), **others}


def _less(values: Mapping[str, Numbers], start: Numbers) -> dict[str, Numbers]:
    return {name: own - start for name, own in values.items()}


def _means(values: Mapping[str, Numbers]) -> dict[str, float]:
    return {name: _rounded(own.mean()) for name, own in values.items()}


def _sds(values: Mapping[str, Numbers]) -> dict[str, float]:
    return {name: _rounded(own.std(ddof=1)) for name, own in values.items()}


def _responders(baseline: Numbers, values: Numbers, percent: int) -> float:
    able = baseline > 0  # a baseline of 0 cannot fall by a percentage
    responded = (baseline - values >= percent / 100 * baseline - _TOLERANCE)[able]
    return _rounded(100 * responded.mean())


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 4)
