"""The analysis plan, the part of mappings/protocol.toml that is declared before the data are looked at.

Everything here can change a number or its meaning, so a change after data were seen is printed in the report.
"""

from __future__ import annotations

from datetime import date  # noqa: TC003 - pydantic reads it at run time
from typing import Literal, Self

from pydantic import Field, model_validator

from crps_outcomes.declaration import Definition, Identifier, State

IntercurrentKind = Literal[
    "treatment started", "treatment restarted", "treatment stopped", "procedure", "other ketamine route",
    "further series", "stopped for harm", "death",
]  # fmt: skip
Grouping = Literal["sex", "crps_type", "age", "limb", "refractory", "years_since_onset"]


class Intercurrent(Definition):
    """What happens to a person's scores after one kind of event (ICH E9(R1)).

    ``change``: for the mean change, scores after it count (treatment policy) or do not (hypothetical). ``response``:
    scores after it count, or it makes the person a non-responder (composite). ``durability``: the event is ignored,
    ends the response (loss), or ends the observation (censor).
    """

    event: IntercurrentKind
    terms: tuple[str, ...] = ()  # only these classes, names or routes; none: all of the kind
    change: Literal["treatment policy", "hypothetical"] = "treatment policy"
    response: Literal["treatment policy", "composite"] = "treatment policy"
    durability: Literal["ignored", "loss", "censor"] = "ignored"

    @property
    def name(self) -> str:
        """Such as "treatment started: opioid"."""
        return f"{self.event}: {', '.join(self.terms)}" if self.terms else self.event

    def covers(self, event: str, term: str) -> bool:
        """Whether the rule speaks about such an event."""
        return event == self.event and (not self.terms or term in self.terms)


class KeySecondary(Definition):
    """One key secondary endpoint; their order is the order of the list."""

    measure: Identifier
    visit: Identifier
    summary: Literal["mean change", "responders"] = "mean change"
    percent: int = 30  # of a share of responders


class Subgroups(Definition):
    """Groups fixed in advance. They are described, each with its own interval, and never compared by a test."""

    by: tuple[Grouping, ...] = ()
    age_cuts: tuple[float, ...] = (50,)  # years of age at which a new group begins
    years_cuts: tuple[float, ...] = (1, 5)  # years since onset at which a new group begins
    least_people: int = Field(default=10, ge=3)  # in each group shown
    least_cohort: int = Field(default=40, ge=10)  # analysed people, below which there are no subgroups at all

    @model_validator(mode="after")
    def _cuts_rise(self) -> Self:
        for name, cuts in (("age_cuts", self.age_cuts), ("years_cuts", self.years_cuts)):
            if list(cuts) != sorted(set(cuts)):
                raise ValueError(f"{name}: the cuts must rise")
        if len(set(self.by)) != len(self.by):
            raise ValueError("by: a grouping is listed twice")
        return self


class RepeatedMeasures(Definition):
    """The mixed model of the primary measure over all visits."""

    covariance: Literal["by number of people", "random intercept", "random slope", "unstructured"] = (
        "by number of people"
    )
    bootstrap_samples: int = Field(default=500, ge=0)  # of people, where the model's own interval is not to be had


class MissingData(Definition):
    """The sensitivity analyses of missing scores."""

    imputations: int = Field(default=20, ge=5)
    deltas: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)  # how much worse the missing scores could be, in points


class Durability(Definition):
    """When a response is lost: the first score after it that is not better than the start by ``percent``."""

    percent: int = Field(default=30, ge=1, le=100)
    weeks: tuple[int, ...] = (4, 12, 26)  # at which the share still responding is read
    retreatment_gap_days: int = Field(default=28, ge=1)  # a session after so long without one is a re-treatment


class RegressionToTheMean(Definition):
    """What the expected fall without any treatment is worked out from."""

    entry_at_least: float | None = None  # people enter treatment at this score of the primary measure or above
    entry_score: Literal["baseline", "first score"] = (
        "baseline"  # which score of a person the entry rule was applied to
    )
    reliability: float = Field(default=0.7, gt=0, lt=1)  # correlation of two scores of one person some weeks apart
    reliability_state: State = "example"
    reliability_source: str = ""
    population_mean: float | None = (
        None  # of everybody, also those below the entry score; else estimated from the scores
    )
    population_sd: float | None = Field(default=None, gt=0)
    before_days: int = Field(default=180, ge=28)  # how far back scores count for the slope before the start

    @model_validator(mode="after")
    def _population_is_whole(self) -> Self:
        if (self.population_mean is None) != (self.population_sd is None):
            raise ValueError("population_mean and population_sd: both or neither")
        return self


class Precision(Definition):
    """How narrow the interval of the primary change should be, and how it is found when that will be so."""

    half_width: float = Field(default=0.5, gt=0)  # of the 95 % interval, in units of the primary measure
    simulations: int = Field(default=200, ge=0)
    most_people: int = Field(default=400, ge=50)


class Look(Definition):
    """A planned look at the data before the end: at so many analysed people, out of the last look's number."""

    people: int = Field(ge=10)


class Plan(Definition):
    """The analysis plan. ``declared_on`` is the day the clinic fixed it; what is checked is when a run first saw it."""

    version: str = "1"
    declared_on: date | None = None
    intercurrent: tuple[Intercurrent, ...] = ()
    key_secondary: tuple[KeySecondary, ...] = ()
    multiplicity: Literal["hierarchical", "holm"] = "hierarchical"
    subgroups: Subgroups = Subgroups()
    repeated_measures: RepeatedMeasures = RepeatedMeasures()
    missing_data: MissingData = MissingData()
    durability: Durability = Durability()
    regression: RegressionToTheMean = RegressionToTheMean()
    precision: Precision = Precision()
    looks: tuple[Look, ...] = ()
    responder_interval: Literal["wilson", "clopper-pearson"] = "wilson"  # the second never covers less than 95 %
    seed: int = 20260101  # of every bootstrap, imputation and simulation

    @model_validator(mode="after")
    def _looks_rise(self) -> Self:
        sizes = [look.people for look in self.looks]
        if sizes != sorted(set(sizes)):
            raise ValueError("looks: the numbers of people must rise")
        return self
