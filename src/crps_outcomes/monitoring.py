"""What the quality report watches: the part of mappings/protocol.toml under [quality].

A target, a rebase or another rule changes what the charts say, so each is written down here with its reason.
"""

from __future__ import annotations

from datetime import date  # noqa: TC003 - pydantic reads it at run time
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, StringConstraints, model_validator

from crps_outcomes.declaration import Definition

Better = Literal["higher", "lower", "none"]
WatchedId = Literal[
    "on_time", "monitored", "days_to_first_dose", "as_planned", "sessions_per_week", "response", "adverse_events"
]
#: Page 1 has room for so many.
MOST_IN_FRONT = 5
LEAST_FOR_BASELINE = 12


class Watchable(NamedTuple):
    """What can be watched month by month: its scale, and which way is better."""

    better: Better
    unit: str
    each: str  # what the denominator of a month counts
    what: str  # what a month says, in words


WATCHABLE: dict[WatchedId, Watchable] = {
    "on_time": Watchable(
        "higher", "%", "due", "primary scores in the window, of those whose window closed in the month"
    ),
    "monitored": Watchable(
        "higher",
        "%",
        "sessions",
        "sessions with blood pressure before and after and oxygen saturation after, of the sessions held",
    ),
    "days_to_first_dose": Watchable(
        "lower", "days", "people", "median days from enrolment to the first dose, of people first treated in the month"
    ),
    "as_planned": Watchable(
        "higher",
        "%",
        "people",
        "first series with the sessions planned, of those whose planned time ended in the month",
    ),
    "sessions_per_week": Watchable("none", "sessions a week", "", "intramuscular sessions held, per seven days"),
    "response": Watchable(
        "higher",
        "%",
        "people",
        "responders, of people with a score whose window of the primary visit closed in the month",
    ),
    "adverse_events": Watchable(
        "lower", "per 100 sessions", "sessions", "adverse events that began in the month, per 100 sessions"
    ),
}


class Rebase(Definition):
    """A day from which the process is another one, with the reason in writing: it stands on the chart."""

    on: date
    reason: Annotated[str, StringConstraints(min_length=1, max_length=60)]


class Watched(Definition):
    """One measure of the service. ``front`` puts it on page 1; the others are process measures of the pages behind."""

    id: WatchedId
    label: str
    front: bool = False
    target: float | None = None
    chart: Literal["xmr", "p", "p_prime"] = "xmr"
    fixed_after: int = Field(default=0, ge=0)  # limits from the first so many months of a process; 0: from all
    rebases: tuple[Rebase, ...] = ()

    @property
    def better(self) -> Better:
        return WATCHABLE[self.id].better

    @property
    def unit(self) -> str:
        return WATCHABLE[self.id].unit

    @property
    def is_share(self) -> bool:
        return self.unit == "%"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if 0 < self.fixed_after < LEAST_FOR_BASELINE:
            raise ValueError(f"fixed_after: limits are fixed from at least {LEAST_FOR_BASELINE} months, or 0 for never")
        if self.chart != "xmr" and not self.is_share:
            raise ValueError(f'chart: "{self.chart}" is for percentages; {self.id} needs "xmr"')
        days = [rebase.on for rebase in self.rebases]
        if days != sorted(set(days)):
            raise ValueError("rebases: the days must rise")
        return self


class PlannedSeries(Definition):
    """How many sessions the first series should have, and within how many days; what adherence is measured by."""

    sessions: int = Field(ge=1)
    within_days: int = Field(ge=1)


class Quality(Definition):
    """What the quality report watches and by which rules."""

    variant: Literal["mdc_2021", "mdc_2023"] = "mdc_2023"  # whether a point outside the limits counts as near them
    screen: bool = True  # leave out very large moving ranges once, before limits are worked out
    months: int = Field(default=36, ge=13)  # the latest complete months that are charted
    series: PlannedSeries | None = None
    list_days: int = Field(default=28, ge=1)  # how far back the action list goes
    answer_days: int = Field(default=90, ge=1)  # and for answers that go to a safety review
    measures: tuple[Watched, ...] = ()

    @model_validator(mode="after")
    def _measures_fit(self) -> Self:
        ids = [measure.id for measure in self.measures]
        if len(set(ids)) != len(ids):
            raise ValueError("measures: each may be watched once")
        if sum(measure.front for measure in self.measures) > MOST_IN_FRONT:
            raise ValueError(f"measures: at most {MOST_IN_FRONT} have room on page 1 (front = true)")
        if "as_planned" in ids and self.series is None:
            raise ValueError("measures: as_planned needs [quality.series]: how many sessions within how many days")
        return self
