"""The response model: what people truly feel over time, and what a questionnaire records of it.

Arrays hold one row per person. Pain is a trait plus measurement noise, so that people chosen for a high score fall
back towards their trait with no treatment at all (regression to the mean). After the first dose a person's own share
of relief builds up over weeks 1 to 4 and, from week 6 on, fades with the person's own half-life, slower under
maintenance doses. Function follows late, less, and only loosely. All numbers are inventions chosen to be plausible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crps_outcomes.synthetic.options import Options

Numbers = NDArray[np.float64]

PAIN = "pain_nrs"
GLOBAL_CHANGE = "pgic"

#: End of the weekly doses: relief starts to fade here. Days after the first dose.
FADES_FROM_DAY = 42
#: Maintenance doses make relief last this many times longer.
MAINTENANCE_FACTOR = 3.0
SHARE_MAINTAINED = 0.6
FUNCTION_LAG_DAYS = 14
NO_CHANGE = 4.0  # PGIC answer "No change"


@dataclass(frozen=True)
class Scale:
    """How a true value becomes a recorded one: noise, the ends of the scale, and the smallest step."""

    low: float
    high: float
    decimals: int
    noise_sd: float


@dataclass(frozen=True)
class Course:
    """One measure: its level before treatment, how it hangs on pain, and its change at full relief.

    ``per_pain``: units per point of pain above the mean. ``at_full``: mean change when all pain is gone.
    ``own_sd``: part of the change that has nothing to do with pain relief.
    """

    mean: float
    per_pain: float
    sd: float
    at_full: float
    own_sd: float
    lag_days: int = 0


SCALES: Mapping[str, Scale] = {
    PAIN: Scale(0, 10, 0, 1.0),
    "promis_physical_function": Scale(22.5, 60.0, 1, 2.4),
    "promis_pain_interference": Scale(41.6, 75.6, 1, 2.4),
    "phq9": Scale(0, 27, 0, 1.6),
    "gad7": Scale(0, 21, 0, 1.6),
    "eq_vas": Scale(0, 100, 0, 7.0),
    GLOBAL_CHANGE: Scale(1, 7, 0, 0.6),
}

COURSES: Mapping[str, Course] = {
    "promis_physical_function": Course(34.0, -0.9, 4.8, 4.0, 2.0, FUNCTION_LAG_DAYS),
    "promis_pain_interference": Course(66.5, 1.2, 3.2, -9.0, 1.8, 4),
    "phq9": Course(11.0, 0.8, 4.6, -4.5, 1.6, 4),
    "gad7": Course(8.0, 0.5, 4.0, -3.0, 1.4, 4),
    "eq_vas": Course(47.0, -3.5, 11.0, 22.0, 6.0, 4),
}

PAIN_MEAN, PAIN_SD = 7.1, 1.3

#: Share of people, mean and SD of the relief (share of pain gone) of responders, partial responders, non-responders.
CLASSES = ((0.45, 0.62, 0.12), (0.30, 0.30, 0.08), (0.25, 0.00, 0.07))


@dataclass(frozen=True)
class Traits:
    """What is fixed in each person; every array has one entry per person."""

    pain: Numbers
    relief: Numbers  # share of pain gone at best; below 0 for those who get worse
    build_days: Numbers
    half_life_days: Numbers
    is_maintained: NDArray[np.bool_]
    responder_class: NDArray[np.int64]  # 0 responder, 1 partial, 2 non-responder
    levels: Mapping[str, Numbers]
    gains: Mapping[str, Numbers]

    def take(self, chosen: NDArray[np.int64]) -> Traits:
        """The traits of the chosen people only."""
        return Traits(
            self.pain[chosen],
            self.relief[chosen],
            self.build_days[chosen],
            self.half_life_days[chosen],
            self.is_maintained[chosen],
            self.responder_class[chosen],
            {name: level[chosen] for name, level in self.levels.items()},
            {name: gain[chosen] for name, gain in self.gains.items()},
        )


def draw_traits(rng: np.random.Generator, n_people: int, effect: float = 1.0) -> Traits:
    """Traits of ``n_people`` who have not been selected yet."""
    pain = PAIN_MEAN + PAIN_SD * rng.standard_normal(n_people)
    shares, means, sds = (np.array(column) for column in zip(*CLASSES, strict=True))
    kind = np.searchsorted(np.cumsum(shares)[:-1], rng.random(n_people), side="right")
    relief = np.minimum(means[kind] + sds[kind] * rng.standard_normal(n_people), 0.95)
    return Traits(
        pain=pain,
        relief=effect * relief,
        build_days=9.0 * np.exp(0.35 * rng.standard_normal(n_people)),
        half_life_days=70.0 * np.exp(0.5 * rng.standard_normal(n_people)),
        is_maintained=rng.random(n_people) < SHARE_MAINTAINED,
        responder_class=kind,
        levels={name: _levels(rng, course, pain) for name, course in COURSES.items()},
        gains={name: effect * _gains(rng, course, relief) for name, course in COURSES.items()},
    )


def _levels(rng: np.random.Generator, course: Course, pain: Numbers) -> Numbers:
    own = course.sd * rng.standard_normal(len(pain))
    return course.mean + course.per_pain * (pain - PAIN_MEAN) + own


def _gains(rng: np.random.Generator, course: Course, relief: Numbers) -> Numbers:
    return course.at_full * relief + course.own_sd * rng.standard_normal(len(relief))


def enter(rng: np.random.Generator, n_people: int, options: Options) -> tuple[Traits, Numbers]:
    """Traits and recorded screening scores of ``n_people`` whose screening score is at least the entry score."""
    candidates = 2 * n_people + 16
    while True:
        traits = draw_traits(rng, candidates, options.effect)
        screening = record(rng, PAIN, traits.pain)
        accepted = np.flatnonzero(screening >= options.entry_score)[:n_people]
        if len(accepted) == n_people:
            return traits.take(accepted), screening[accepted]
        candidates *= 2


def unfolding(traits: Traits, days: Numbers, lag_days: float = 0.0) -> Numbers:
    """How much of a person's full change is there on each day after the first dose: 0 before it, at most 1.

    ``days`` has one row per person, or one entry per person.
    """
    extra = (slice(None), *([None] * (days.ndim - 1)))
    since = np.maximum(days - lag_days, 0.0)
    built = 1.0 - np.exp(-since / traits.build_days[extra])
    half_life = traits.half_life_days * np.where(traits.is_maintained, MAINTENANCE_FACTOR, 1.0)
    return np.asarray(built * np.exp2(-np.maximum(days - FADES_FROM_DAY, 0.0) / half_life[extra]))


def true_value(traits: Traits, measure: str, days: Numbers) -> Numbers:
    """The noise-free value on each day; PGIC is a latent position between 1 and 7 around "No change"."""
    extra = (slice(None), *([None] * (days.ndim - 1)))
    if measure == PAIN:
        return np.asarray(traits.pain[extra] * (1.0 - traits.relief[extra] * unfolding(traits, days)))
    if measure == GLOBAL_CHANGE:
        return np.asarray(NO_CHANGE - 4.2 * traits.relief[extra] * unfolding(traits, days))
    course = COURSES[measure]
    gained = traits.gains[measure][extra] * unfolding(traits, days, course.lag_days)
    return np.asarray(traits.levels[measure][extra] + gained)


def record(rng: np.random.Generator, measure: str, true: Numbers) -> Numbers:
    """What is written down: the true value plus noise, rounded to the scale's step and cut off at its ends."""
    scale = SCALES[measure]
    noisy = true + scale.noise_sd * rng.standard_normal(true.shape)
    return np.asarray(np.clip(np.round(noisy, scale.decimals), scale.low, scale.high))
