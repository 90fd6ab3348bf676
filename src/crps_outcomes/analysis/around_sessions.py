"""What happens in the two hours after an injection: readings by time, and when events begin."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes import estimators
from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.rows import Key, median_row, row, small_n
from crps_outcomes.analysis.vital_signs import pre_dose_readings, timed_readings
from crps_outcomes.estimators import as_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row

#: Minutes since the first injection that divide the window; the window's own ends come from the protocol.
MARKS = (15, 30, 60, 90)
ANY = "any"


def around_sessions(cohort: Cohort, events: pd.DataFrame) -> Iterator[Row]:
    """Blood pressure against the start, oxygen saturation, dissociation and sedation by time; onset of events."""
    plan = cohort.protocol.safety
    for measure in plan.watched:
        yield from _course(cohort, measure, is_change=measure in {plan.systolic, plan.diastolic})
    yield from _onsets(cohort, events)


def bins(window: tuple[int, int]) -> tuple[str, ...]:
    """Such as "0 to 15"; each is open at its start and closed at its end."""
    return tuple(f"{low} to {high}" for low, high in pairwise(_edges(window)))


def _edges(window: tuple[int, int]) -> list[int]:
    first, last = window
    return [first, *(mark for mark in MARKS if first < mark < last), last]


def _course(cohort: Cohort, measure: str, *, is_change: bool) -> Iterator[Row]:
    """The mean by time since the injection; several readings of one session and time are averaged first."""
    readings = timed_readings(cohort, measure)
    if is_change:
        readings = readings.merge(pre_dose_readings(cohort, measure), on=["subject_id", "session"])
        readings = readings.assign(value=readings["value"] - readings["last"])
    window = cohort.protocol.safety.window_minutes
    labels = bins(window)
    placed = pd.cut(readings["minutes"], _edges(window), labels=list(labels)).astype("object")
    means = (
        readings.assign(bin=placed).groupby(["bin", "subject_id", "session"], sort=True)["value"].mean().reset_index()
    )
    unit = cohort.study.measures[measure].unit_label
    for label in labels:
        own = means[means["bin"] == label]
        found = estimators.mean_clustered(as_values(own["value"]), own["subject_id"].to_numpy("object"))
        found = small_n(found, n=own["subject_id"].nunique())
        key = Key("safety", "course", TREATED, measure, group=label)
        yield row(key, found, unit=unit, n_missing=len(cohort.sessions) - len(own))


def _onsets(cohort: Cohort, events: pd.DataFrame) -> Iterator[Row]:
    """Minutes from the first injection to the event, of the events of a session whose instants are both known."""
    linked = events.merge(
        cohort.sessions[["subject_id", "session", "began_at"]], on=["subject_id", "session"], validate="many_to_one"
    )
    minutes = (linked["onset_at"] - linked["began_at"]).dt.total_seconds() / 60
    after = linked.assign(minutes=minutes.where(minutes >= 0))
    groups = {ANY: after, **{str(term): own for term, own in after.groupby("term", sort=True)}}
    for group, own in groups.items():
        known = as_values(own["minutes"].astype("Float64"))
        key = Key("safety", "onset", TREATED, group=group)
        yield median_row(key, known, unit="minutes", n_missing=len(own) - len(known), what="events")
