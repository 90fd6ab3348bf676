"""How long a response lasts: from the first score that is a response to its loss, and from a series to the next one.

A response begins at the first score that is better than the start by the percent the plan declares. It is lost at the
first later score that is not, or by an event of the plan's strategies with the effect "loss"; an event with the effect
"censor" ends the watching. A score and an event on one day: the score was first. Whose loss was not seen is censored
at the last score that was a response, because later nobody knows. Losses by a score are seen at visits only: the
response ended some time after the last good score, and the curve drops at the day of the bad one. "Earliest" is the
other end of that time: every loss at the last good score.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.estimand import durability_events
from crps_outcomes.analysis.responders import with_baseline
from crps_outcomes.analysis.rows import (
    A_COUNT,
    LEAST_FOR_ESTIMATE,
    Key,
    absent_row,
    count_row,
    described_share_row,
    row,
    share_row,
    small_n,
)
from crps_outcomes.estimators import Interval, is_responder
from crps_outcomes.survival import (
    KAPLAN_MEIER,
    kaplan_meier,
    mean_time,
    median_time,
    risk_table,
    share_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row
    from crps_outcomes.definitions import Measure, Visit
    from crps_outcomes.survival import KaplanMeier

RESPONDERS = "responders"
EARLIEST = "responders, earliest loss"
A_SCORE = "a score"
LAST_SCORE = "last score"
SO_FAR = "of those on record so far; follow-up differs: no interval"
#: Steps in weeks between the columns of the at-risk table.
_STEPS = (1, 2, 4, 8, 13, 26, 52, 104, 208)  # the last one is enough for 32 years
_LEAST_STEPS, _MOST_STEPS = 4, 8


class Score(NamedTuple):
    """A follow-up score of one person, by study day."""

    day: int
    is_response: bool


class Event(NamedTuple):
    """An event that can end a response, or the watching of it."""

    day: int
    kind: str
    effect: str  # "loss" or "censor"


@dataclass(frozen=True)
class Response:
    """One person's response in study days. ``end``: what ended it, or the watching of it."""

    first: int
    last_good: int  # the last score that was a response
    ended: int
    is_lost: bool
    end: str

    @property
    def days(self) -> int:
        return self.ended - self.first

    @property
    def least_days(self) -> int:
        """How long it lasted at least, as far as anybody saw."""
        return self.last_good - self.first

    def is_held_on(self, day: int) -> bool:
        """Whether a good score on that day belongs to the response that began first."""
        return self.first <= day <= self.last_good


def durability(cohort: Cohort) -> list[Row]:
    """Time from response to loss, shares still responding, what ended the responses, and time to re-treatment."""
    measure = cohort.study.measures[cohort.protocol.outcomes.primary]
    if measure.range[0] != 0:
        return [*_retreatment(cohort)]  # a percentage means something only on a scale that starts at 0
    events = _events(cohort)
    found = responses(cohort, measure, events)
    known = [one for one in found.values() if one is not None]
    lost = np.array([one.is_lost for one in known], dtype=np.bool_)
    seen = kaplan_meier(np.array([one.days / 7 for one in known]), lost)
    earliest = kaplan_meier(np.array([one.least_days / 7 for one in known]), lost)
    return [
        _responded(cohort, measure, found),
        _after_an_event(measure, found, events),
        *_ends(cohort, measure, known),
        *_steps(measure, known, seen),
        *_at_risk(measure, seen),
        *(one for name, curve in ((RESPONDERS, seen), (EARLIEST, earliest)) for one in _read(cohort, measure, name, curve)),
        *_of_all_treated(cohort, measure, found),
        *_retreatment(cohort),
    ]  # fmt: skip


# --- responses ----------------------------------------------------------------------------------------------------


def responses(cohort: Cohort, measure: Measure, events: Mapping[str, Sequence[Event]]) -> dict[str, Response | None]:
    """The first response of every treated person with a start above 0 and a later score; None for who had none."""
    return {person: first_response(own, events.get(person, ())) for person, own in _scores(cohort, measure).items()}


def first_response(scores: Sequence[Score], events: Sequence[Event]) -> Response | None:
    """The rule for one person; both sequences in the order of their days, a loss before a censoring on one day."""
    first = next((score.day for score in scores if score.is_response), None)
    if first is None:
        return None
    bad = next((score.day for score in scores if score.day > first and not score.is_response), None)
    event = next((event for event in events if event.day >= first), None)
    ends = [day for day in (bad, event.day if event else None) if day is not None]
    until = min(ends, default=None)
    good = max(score.day for score in scores if score.is_response and (until is None or score.day <= until))
    if bad is not None and bad == until:
        return Response(first, good, bad, is_lost=True, end=A_SCORE)
    if event and event.effect == "loss":
        return Response(first, good, event.day, is_lost=True, end=event.kind)
    return Response(first, good, good, is_lost=False, end=event.kind if event else LAST_SCORE)


def _scores(cohort: Cohort, measure: Measure) -> dict[str, list[Score]]:
    """The follow-up scores of treated people that can be told from the start; a visit's own day where none is recorded."""
    outcomes = cohort.of(cohort.tables.outcomes, TREATED)
    own = outcomes[(outcomes["measure"] == measure.id) & (outcomes["visit"] != "baseline")]
    percent = cohort.protocol.plan.durability.percent
    response = is_responder(own["baseline"], own["value"], percent, measure.direction)
    days = _study_days(cohort, own)
    found: dict[str, list[Score]] = {}
    told = response.notna()
    for person, day, is_response in zip(own["subject_id"][told], days[told], response[told], strict=True):
        found.setdefault(str(person), []).append(Score(int(day), bool(is_response)))
    return {person: sorted(scores) for person, scores in sorted(found.items())}


def _study_days(cohort: Cohort, outcomes: pd.DataFrame) -> pd.Series:
    """The study day of each row; where none is recorded, the planned day of its visit."""
    planned = outcomes["visit"].map({visit.id: visit.day for visit in cohort.protocol.visits}).astype("Int64")
    return outcomes["study_day"].where(outcomes["study_day"].notna(), planned)


def _events(cohort: Cohort) -> dict[str, list[Event]]:
    first_days = cohort.populations[TREATED].set_index("subject_id")["first_dose_on"]
    found: dict[str, list[Event]] = {}
    for one in durability_events(cohort).to_dict("records"):
        day = (one["happened_on"] - first_days[one["subject_id"]]).days
        found.setdefault(one["subject_id"], []).append(Event(day, one["kind"], one["effect"]))
    return found


# --- rows ---------------------------------------------------------------------------------------------------------


def _key(measure: Measure, statistic: str, population: str, group: str = "", visit: str = "") -> Key:
    return Key("durability", statistic, population, measure.id, visit, group)


def _responded(cohort: Cohort, measure: Measure, found: Mapping[str, Response | None]) -> Row:
    """Who responded at any visit, of those with a score that can be told."""
    k = sum(one is not None for one in found.values())
    return share_row(_key(measure, "responded", TREATED), k, len(found), n_missing=cohort.n(TREATED) - len(found))


def _after_an_event(
    measure: Measure, found: Mapping[str, Response | None], events: Mapping[str, Sequence[Event]]
) -> Row:
    """Responders to whom such an event had happened before they responded: it ends nothing, but a reader should know."""
    known = {person: one for person, one in found.items() if one is not None}
    k = sum(any(event.day < one.first for event in events.get(person, ())) for person, one in known.items())
    return _counted(_key(measure, "after_an_event", RESPONDERS), k, len(known))


def _ends(cohort: Cohort, measure: Measure, known: Sequence[Response]) -> Iterator[Row]:
    """What ended the responses, or the watching of them: the counts add up to the responders."""
    rules = (rule for rule in cohort.protocol.plan.intercurrent if rule.durability != "ignored")
    named = dict.fromkeys((rule.durability == "loss", str(rule.event)) for rule in rules)
    for is_lost, end in (
        (True, A_SCORE), *sorted(named, key=lambda pair: not pair[0]), (False, LAST_SCORE),
    ):  # fmt: skip
        k = sum((one.is_lost, one.end) == (is_lost, end) for one in known)
        yield _counted(_key(measure, "lost" if is_lost else "censored", RESPONDERS, end), k, len(known))


def _counted(key: Key, k: int, n: int) -> Row:
    """A count of n people where nobody can be missing."""
    return count_row(key, k, unit="people", n=n)


def _steps(measure: Measure, known: Sequence[Response], curve: KaplanMeier) -> Iterator[Row]:
    """The curve after each day of a loss, with the people at risk as n and the losses as k; and each censoring."""
    for time, at_risk, events in zip(curve.times, curve.at_risk, curve.events, strict=True):
        found = replace(small_n(share_at(curve, float(time))), n=int(at_risk))
        yield row(_key(measure, "curve", RESPONDERS, _days(time)), found, unit="%", k=int(events))
    days, counts = np.unique([one.days for one in known if not one.is_lost], return_counts=True)
    for day, k in zip(days, counts, strict=True):
        n = sum(one.days >= day for one in known)
        yield _counted(_key(measure, "tick", RESPONDERS, f"{day}"), int(k), n)


def _days(weeks: float) -> str:
    return f"{round(weeks * 7)}"


def _at_risk(measure: Measure, curve: KaplanMeier) -> Iterator[Row]:
    """n: still at risk at a week; k: losses before it; n_missing: censored before it. They add up to the responders."""
    method = "people at risk; k: lost before, n_missing: censored before"
    for found in risk_table(curve, week_grid(curve.longest)):
        still = Interval(found.at_risk, float(found.at_risk), None, None, method, reason=A_COUNT)
        key = _key(measure, "at_risk", RESPONDERS, f"{found.time:g}")
        yield row(key, still, unit="people", k=found.events, n_missing=found.censored)


def week_grid(longest: float) -> tuple[int, ...]:
    """Round weeks from 0 to the longest time or beyond: five to nine of them, for the columns of a table."""
    step = next((step for step in _STEPS if longest <= step * _MOST_STEPS), _STEPS[-1])
    last = min(max(ceil(longest / step), _LEAST_STEPS), _MOST_STEPS)
    return tuple(range(0, step * last + 1, step))


def _read(cohort: Cohort, measure: Measure, population: str, curve: KaplanMeier) -> Iterator[Row]:
    """Shares still responding, median and mean time, read from a curve."""
    weeks = cohort.protocol.plan.durability.weeks
    for week, found in zip(weeks, risk_table(curve, weeks), strict=True):
        key = _key(measure, "still", population, f"{week}")
        yield row(key, _ruled(share_at(curve, week)), unit="%", n_missing=found.censored)
    censored = int((~curve.is_event).sum())
    yield row(
        _key(measure, "median", population), _limits_of_many(median_time(curve)), unit="weeks", n_missing=censored
    )
    horizon = horizon_of(curve, weeks)
    area = _ruled(mean_time(curve, horizon))
    yield row(_key(measure, "mean_time", population, f"{horizon}"), area, unit="weeks", n_missing=censored)


def _ruled(found: Interval) -> Interval:
    """The small-n rule; where three people or more have no estimate, its own reason says more."""
    return found if found.estimate is None and found.n >= LEAST_FOR_ESTIMATE else small_n(found)


def _limits_of_many(found: Interval) -> Interval:
    """The small-n rule; a lower limit alone is no interval to print."""
    ruled = _ruled(found)
    return ruled if ruled.upper is not None else replace(ruled, lower=None)


def horizon_of(curve: KaplanMeier, weeks: Sequence[int]) -> int:
    """The longest declared week up to which the curve is known, else the shortest one."""
    return max((week for week in weeks if week <= curve.longest or curve.is_finished), default=min(weeks))


def _of_all_treated(cohort: Cohort, measure: Measure, found: Mapping[str, Response | None]) -> Iterator[Row]:
    """Who is in an unbroken response at a week after the first dose, of all treated people whose visit is due.

    A missing score counts as no response, as does a response that was lost before, even if it came back.
    """
    for week in cohort.protocol.plan.durability.weeks:
        key, visit = _key(measure, "still", TREATED, f"{week}"), _visit_in(cohort, week)
        if visit is None:
            yield absent_row(key, "no planned visit in this week", unit="%", method="Wilson interval")
            continue
        due = with_baseline(cohort, measure, visit.id)
        held = _held_at(cohort, measure, visit.id, found)
        missing = int(due["value"].isna().sum())
        yield share_row(replace(key, visit=visit.id), len(held), len(due), n_missing=missing)


def _visit_in(cohort: Cohort, week: int) -> Visit | None:
    """The visit whose window holds the last day of that week."""
    visits = cohort.protocol.visits
    return next((one for one in visits if one.window_days[0] <= 7 * week <= one.window_days[1]), None)


def _held_at(cohort: Cohort, measure: Measure, visit: str, found: Mapping[str, Response | None]) -> list[str]:
    outcomes = cohort.of(cohort.tables.outcomes, TREATED)
    own = outcomes[(outcomes["measure"] == measure.id) & (outcomes["visit"] == visit) & outcomes["value"].notna()]
    days = _study_days(cohort, own)
    pairs = ((str(person), int(day)) for person, day in zip(own["subject_id"], days, strict=True))
    return [person for person, day in pairs if (one := found.get(person)) is not None and one.is_held_on(day)]


# --- re-treatment -------------------------------------------------------------------------------------------------


def _retreatment(cohort: Cohort) -> Iterator[Row]:
    """From the last session of the first series to the first session after the gap that makes it a re-treatment.

    A series is over when the gap has passed without a session; people whose series is not are n_missing. Watched until
    the as-of day, or death.
    """
    key, plan = Key("durability", "retreated", TREATED), cohort.protocol.plan.durability
    spans = [span for span in _breaks(cohort) if span[0] >= plan.retreatment_gap_days]
    n_open = cohort.n(TREATED) - len(spans)
    came = np.array([again for _, again in spans], dtype=np.bool_)
    curve = kaplan_meier(np.array([days / 7 for days, _ in spans]), came)
    yield described_share_row(key, int(curve.is_event.sum()), curve.n, reason=SO_FAR, n_missing=n_open)
    for week in (week for week in plan.weeks if 7 * week > plan.retreatment_gap_days):
        yield row(key.of(f"{week}"), _ruled(_happened(share_at(curve, week))), unit="%", n_missing=n_open)
    middle = _limits_of_many(median_time(curve))
    yield row(replace(key, statistic="time_to_retreatment"), middle, unit="weeks", n_missing=n_open)


def _happened(still: Interval) -> Interval:
    """The share to whom it has happened, from the share to whom it has not."""
    turned = (None if share is None else 100 - share for share in (still.estimate, still.upper, still.lower))
    estimate, lower, upper = turned
    return replace(still, estimate=estimate, lower=lower, upper=upper, method=f"1 - {KAPLAN_MEIER}")


def _breaks(cohort: Cohort) -> Iterator[tuple[int, bool]]:
    """Days from the end of each person's first series to the next session, or to where the watching ends; whether it came."""
    sessions, gap = cohort.sessions, cohort.protocol.plan.durability.retreatment_gap_days
    last_seen = pd.Timestamp(cohort.as_of) if cohort.as_of else sessions["began_on"].max()
    events = cohort.tables.intercurrent
    dated = events[(events["kind"] == "death") & events["happened_on"].notna()]
    deaths = dated.groupby("subject_id")["happened_on"].min()
    for person, days in sessions.groupby("subject_id", sort=True)["began_on"]:
        known = sorted(day for day in days if pd.notna(day))
        again = next(((later - day).days for day, later in pairwise(known) if (later - day).days >= gap), None)
        if again is not None:
            yield again, True
        elif known:
            yield (min(last_seen, deaths.get(person, last_seen)) - known[-1]).days, False
