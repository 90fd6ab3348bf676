"""What a synthetic cohort may be asked to be, and the random streams that make it repeatable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from crps_outcomes.errors import DefinitionError

#: One stream per person and topic, so that a change in one topic leaves the others as they were.
STREAMS = (
    "person",
    "response",
    "visits",
    "dropout",
    "sessions",
    "treatments",
    "style",
    "mess",
    "more treatments",
    "treatment ends",
    "scales",
    "more liver",
    "examination",
)
_POPULATION_KEY = 1_000_000_000
_LARGEST_ENTRY_SCORE = 9


@dataclass(frozen=True)
class Options:
    """The size, seed and truth of a cohort. The same options give the same bytes.

    ``patients`` are the people the Group lists and who have a Patient resource; a few strangers come on top.
    Without a second baseline the screening score is the baseline, and pain falls by regression to the mean.
    ``effect`` multiplies every true change (0: pain falls by regression to the mean alone). ``dropout_slope`` is the
    log odds of leaving per point of recorded pain change (0: leaving does not depend on the outcome).
    ``adverse_event_slope`` is the log hazard per mg/kg.
    """

    patients: int = 80
    seed: int = 1
    dropout: bool = True
    mess: bool = True
    ends_on: date = date(2026, 10, 31)
    enrolment_days: int = 425  # first doses are spread over about 14 months before the end
    entry_score: int = 5  # lowest screening pain score of anyone who is let in
    second_baseline: float = 0.75  # how often pain is scored again just before the first dose
    effect: float = 1.0
    dropout_slope: float = 0.45
    adverse_event_slope: float = 1.8

    def __post_init__(self) -> None:
        """Refuse what would make no cohort.

        Raises:
            DefinitionError: an option lies outside what the model can do.
        """
        if self.patients < 1 or self.seed < 0:
            raise DefinitionError("synthetic cohort: patients should be at least 1 and seed at least 0")
        if not 0 <= self.entry_score <= _LARGEST_ENTRY_SCORE:
            raise DefinitionError(f"synthetic cohort: entry_score should lie in 0 to {_LARGEST_ENTRY_SCORE}")
        if self.enrolment_days < 60:
            raise DefinitionError("synthetic cohort: enrolment_days should be at least 60")


def stream(options: Options, index: int, topic: str) -> np.random.Generator:
    """The random numbers of one person and topic: the same whatever the number of people."""
    key = (index, STREAMS.index(topic))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(options.seed, spawn_key=key)))


def population_stream(options: Options) -> np.random.Generator:
    """The random numbers of the virtual population, apart from those of any person."""
    sequence = np.random.SeedSequence(options.seed, spawn_key=(_POPULATION_KEY,))
    return np.random.Generator(np.random.PCG64(sequence))
