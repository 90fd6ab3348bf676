"""What was watched and what was seen: adverse events, vital signs around sessions, liver values.

An event counts from the first dose on. Unmonitored is not normal: every share of sessions has the sessions with a
reading as denominator, and says how many have none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes import estimators
from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.dosing import NOT_KNOWN
from crps_outcomes.analysis.rows import (
    Key,
    absent_row,
    count_row,
    described_share_row,
    rate_row,
    row,
    share_row,
    small_n,
)
from crps_outcomes.analysis.vital_signs import pre_dose_readings, window_readings
from crps_outcomes.estimators import TOLERANCE, as_values

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row

ANY = "any"
ANY_SEVERE = "any severe"
SERIOUS = "serious"
#: Groups of our own that a site's term must not be mistaken for.
RESERVED = (ANY, ANY_SEVERE, SERIOUS)
THIRDS = ("lowest third", "middle third", "highest third")


def safety(cohort: Cohort) -> list[Row]:
    """Adverse events, monitoring, vital signs, liver values, and events by dose."""
    events = adverse_events(cohort)
    return [
        *event_rows(cohort, events),
        _serious(cohort, events),
        *_blood_pressure(cohort),
        *_oxygen(cohort),
        *_liver(cohort),
        *_by_dose(cohort, events),
    ]


def _key(statistic: str, **parts: str) -> Key:
    return Key("safety", statistic, TREATED, **parts)


# --- adverse events -----------------------------------------------------------------------------------------------


def adverse_events(cohort: Cohort) -> pd.DataFrame:
    """Adverse events of treated people that did not begin before the first dose; without a day they count.

    On the day of the first dose an event counts unless its instant is before that of the dose.
    """
    events = cohort.of(cohort.tables.events, TREATED)
    events = events[events["kind"] == "adverse event"]
    first = cohort.populations[TREATED][["subject_id", "first_dose_at", "first_dose_on"]]
    dated = events.merge(first, on="subject_id", validate="many_to_one")
    before = (dated["onset_on"] < dated["first_dose_on"]) | (dated["onset_at"] < dated["first_dose_at"])
    own_words = dated["term"].mask(dated["term"].isin(RESERVED), dated["term"] + " (term of the site)")
    return dated.assign(term=own_words.replace("", "not named"))[~before]


def event_rows(cohort: Cohort, events: pd.DataFrame) -> Iterator[Row]:
    """Events per 100 sessions and people with at least one, for every term and for all together."""
    groups = {ANY: events, ANY_SEVERE: events[events["severity"] == "severe"]}
    groups |= {str(term): part for term, part in events.groupby("term", sort=True)}
    for group, own in groups.items():
        yield rate_row(_key("per_100_sessions", group=group), len(own), len(cohort.sessions))
        yield share_row(_key("people", group=group), own["subject_id"].nunique(), cohort.n(TREATED))
    serious = events.loc[events["is_serious"].fillna(value=False), "subject_id"]
    yield share_row(_key("people", group=SERIOUS), serious.nunique(), cohort.n(TREATED))


def _serious(cohort: Cohort, events: pd.DataFrame) -> Row:
    """The number of serious events; with none, what none still allows as a share of people."""
    key = _key("serious", group=SERIOUS)
    k, n = int(events["is_serious"].sum()), cohort.n(TREATED)
    if k:
        return count_row(key, k, unit="events", n=n)
    limit = estimators.one_sided_upper_for_zero(n)
    return row(key, replace(limit, method=f"share of people, {limit.method}"), unit="%", k=0)


# --- vital signs --------------------------------------------------------------------------------------------------


def _blood_pressure(cohort: Cohort) -> Iterator[Row]:
    plan = cohort.protocol.safety
    for measure, cut in ((plan.systolic, plan.systolic_at_least), (plan.diastolic, plan.diastolic_at_least)):
        during = window_readings(cohort, measure)
        paired = pre_dose_readings(cohort, measure).merge(
            during, on=["subject_id", "session"], validate="one_to_one", suffixes=("_before", "")
        )
        yield _monitored(cohort, measure, len(paired))
        yield _cut(cohort, "at_least", measure, cut, during["highest"] >= cut - TOLERANCE)
        if measure == plan.systolic:
            yield _peak_rise(cohort, measure, paired)


def _oxygen(cohort: Cohort) -> Iterator[Row]:
    plan = cohort.protocol.safety
    during = window_readings(cohort, plan.oxygen_saturation)
    yield _monitored(cohort, plan.oxygen_saturation, len(during))
    below = during["lowest"] < plan.oxygen_below - TOLERANCE
    yield _cut(cohort, "below", plan.oxygen_saturation, plan.oxygen_below, below)


def _monitored(cohort: Cohort, measure: str, k: int) -> Row:
    return described_share_row(_key("monitored", measure=measure), k, len(cohort.sessions))


def _cut(cohort: Cohort, statistic: str, measure: str, cut: float, reached: pd.Series) -> Row:
    """Sessions beyond a cut, of the sessions with a reading in the window."""
    n = len(reached)
    key = _key(statistic, measure=measure, group=f"{cut:g}")
    return share_row(key, int(reached.sum()), n, n_missing=len(cohort.sessions) - n, what="sessions")


def _peak_rise(cohort: Cohort, measure: str, paired: pd.DataFrame) -> Row:
    """Highest reading in the window minus the last one before the dose, averaged over sessions."""
    found = estimators.mean_clustered(as_values(paired["highest"] - paired["last"]), paired["subject_id"].to_numpy())
    found = small_n(found, n=paired["subject_id"].nunique())
    unit = cohort.study.measures[measure].unit_label
    return row(_key("peak_rise", measure=measure), found, unit=unit, n_missing=len(cohort.sessions) - len(paired))


# --- liver --------------------------------------------------------------------------------------------------------


def _liver(cohort: Cohort) -> Iterator[Row]:
    multiple = cohort.protocol.safety.liver_multiple_of_upper_normal
    for measure in cohort.protocol.safety.liver:
        highest = _highest_multiple(cohort, measure)
        k, n = int((highest > multiple + TOLERANCE).sum()), len(highest)
        found = share_row(_key("liver_above", measure=measure), k, n, n_missing=cohort.n(TREATED) - n)
        yield found | {"method": f"{found['method']}; above {multiple:g} times the upper limit of normal of the source"}


def _highest_multiple(cohort: Cohort, measure: str) -> pd.Series:
    """Per person the highest value after the first dose, as a multiple of the limit that the source states."""
    observations = cohort.tables.observations
    own = cohort.of(observations[observations["measure"] == measure], TREATED)
    first = cohort.populations[TREATED][["subject_id", "first_dose_at", "first_dose_on"]]
    dated = own.merge(first, on="subject_id", validate="many_to_one")
    later_that_day = (dated["taken_at"] > dated["first_dose_at"]) & (dated["taken_on"] == dated["first_dose_on"])
    usable = ((dated["taken_on"] > dated["first_dose_on"]) | later_that_day) & (dated["upper_normal"] > 0)
    after = dated[usable & dated["value"].notna()]
    return (after["value"] / after["upper_normal"]).groupby(after["subject_id"], sort=True).max()


# --- by dose ------------------------------------------------------------------------------------------------------


def _by_dose(cohort: Cohort, events: pd.DataFrame) -> Iterator[Row]:
    """Events per 100 sessions by third of the session dose: exploratory, because dose follows response."""
    sessions = cohort.sessions
    thirds = dose_thirds(sessions["mg_per_kg"])
    sizes = thirds.value_counts().to_dict()
    linked = events.merge(
        sessions[["subject_id", "session"]].assign(third=thirds), on=["subject_id", "session"], validate="many_to_one"
    )
    counts = linked["third"].value_counts().to_dict()
    for group in (*THIRDS, NOT_KNOWN):
        yield _third(group, counts, sizes)


def _third(group: str, counts: Mapping[Hashable, int], sizes: Mapping[Hashable, int]) -> Row:
    k, n = int(counts.get(group, 0)), int(sizes.get(group, 0))
    key = _key("by_dose", group=group)
    if n == 0:
        return absent_row(key, "no session in this group", unit="per 100 sessions", method="rate per 100", k=k)
    found = rate_row(key, k, n)
    return found | {"method": f"{found['method']}; exploratory"}


def dose_thirds(mg_per_kg: pd.Series) -> pd.Series:
    """The third of the dose range each session falls into; equal doses are never split between two thirds."""
    known = as_values(mg_per_kg)
    if not len(known):
        return pd.Series(NOT_KNOWN, index=mg_per_kg.index, dtype="str")
    low, high = (float(edge) + TOLERANCE for edge in pd.Series(known).quantile([1 / 3, 2 / 3]))
    above_low, above_high = mg_per_kg > low, mg_per_kg > high
    number = above_low.astype("Int64") + above_high.astype("Int64")
    return number.map(dict(enumerate(THIRDS))).astype("object").where(mg_per_kg.notna(), NOT_KNOWN).astype("str")
