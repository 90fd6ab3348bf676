"""Harms with people, not sessions, as the unit: intervals by person, what none still allows, and slopes on the dose."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.rows import LEAST_FOR_INTERVAL, Key, row
from crps_outcomes.analysis.vital_signs import window_readings
from crps_outcomes.by_person import LEAST_AFFECTED, rate_by_person, share_by_person
from crps_outcomes.estimators import Interval, as_values, one_sided_upper_for_zero
from crps_outcomes.slopes import MIXED, ODDS, odds_within, varied, within_between

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pandas as pd

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row
    from crps_outcomes.estimators import Values

#: Slopes are given per so many mg/kg: one step of titration.
STEP = 0.1
WITH_EVENT = "with an event"
MEASURED = "has measurements of its own: no limit from reports"


def harms_by_person(cohort: Cohort, groups: Mapping[str, pd.DataFrame]) -> Iterator[Row]:
    """Rates by term and the share of sessions with an event, with intervals that allow for repeats in one person."""
    sessions = _sessions_of(cohort)
    for group, own in groups.items():
        found = rate_by_person(_counted(own, sessions), _sizes(sessions))
        yield row(_key("rate_by_person", group=group), found, unit="per 100 sessions", k=len(own))
    affected = _affected_sessions(groups["any"], cohort)
    yield by_person_row(cohort, _key("session_by_person", group=WITH_EVENT), affected)


def by_person_row(cohort: Cohort, key: Key, reached: pd.DataFrame) -> Row:
    """A share of sessions by person. ``reached``: subject_id and is_reached, a row per session that tells."""
    grouped = reached.groupby("subject_id", sort=True)["is_reached"]
    found = share_by_person(as_values(grouped.sum()), as_values(grouped.size()))
    k, n_missing = int(reached["is_reached"].sum()), cohort.n(TREATED) - grouped.ngroups
    return row(key, found, unit="%", k=k, n_missing=n_missing)


def absent_harms(cohort: Cohort, seen: Iterable[str]) -> Iterator[Row]:
    """For every kind of harm of the codelist that nobody has on record: what none still allows if everybody was asked.

    A kind with measurements of its own gets no limit: they, not the silence of the reports, say how often it came.
    """
    declared = {listed.group for listed in cohort.study.codelists[cohort.protocol.safety.event_codelist]}
    limit = one_sided_upper_for_zero(cohort.n(TREATED))
    supposing = replace(limit, method=f"share of people, {limit.method}, supposing that nothing went unrecorded")
    measured = replace(limit, upper=None, method="share of people on record", reason=limit.reason or MEASURED)
    for kind in sorted(declared - set(seen)):
        found = measured if kind in cohort.protocol.safety.measured_harms else supposing
        yield row(_key("harm_absent", group=kind), found, unit="%", k=0)


def harms_by_dose(cohort: Cohort, events: pd.DataFrame) -> Iterator[Row]:
    """Within people: odds of an event and height of dissociation per 0.1 mg/kg of the session. Exploratory."""
    yield _odds(cohort, events)
    measure = cohort.protocol.safety.dissociation
    if measure:
        yield _dissociation(cohort, measure)


def _key(statistic: str, measure: str = "", group: str = "") -> Key:
    return Key("safety", statistic, TREATED, measure, group=group)


# --- by person ------------------------------------------------------------------------------------------------------


def _sessions_of(cohort: Cohort) -> pd.Series:
    """Sessions of each treated person."""
    return cohort.sessions.groupby("subject_id", sort=True)["session"].count()


def _sizes(sessions: pd.Series) -> Values:
    return as_values(sessions)


def _counted(events: pd.DataFrame, sessions: pd.Series) -> Values:
    """Events of each person with sessions, 0 where there are none."""
    return as_values(events.groupby("subject_id").size().reindex(sessions.index, fill_value=0))


def _affected_sessions(events: pd.DataFrame, cohort: Cohort) -> pd.DataFrame:
    """Every session with its dose and whether an event began in it."""
    own = set(events.loc[events["session"].notna(), ["subject_id", "session"]].itertuples(index=False, name=None))
    sessions = cohort.sessions[["subject_id", "session", "mg_per_kg"]]
    keys = sessions[["subject_id", "session"]].itertuples(index=False, name=None)
    return sessions.assign(is_reached=[key in own for key in keys])


# --- by dose --------------------------------------------------------------------------------------------------------


def _odds(cohort: Cohort, events: pd.DataFrame) -> Row:
    sessions = _affected_sessions(events, cohort)
    known = sessions[sessions["mg_per_kg"].notna()]
    doses, people = as_values(known["mg_per_kg"]) / STEP, known["subject_id"].to_numpy("object")
    happened = known["is_reached"].to_numpy("float64")
    key, n = _key("dose_odds", group=WITH_EVENT), len(np.unique(people))
    n_affected = len(np.unique(people[happened == 1]))
    unit, missing = f"odds ratio per {STEP} mg/kg", cohort.n(TREATED) - n
    reason = _why_not(varied(doses, people)) or (
        f"events in sessions of fewer than {LEAST_AFFECTED} people: no slope" if n_affected < LEAST_AFFECTED else ""
    )
    none = Interval(n, None, None, None, ODDS, reason=reason)
    found = none if reason else odds_within(doses, happened, people, _order(known))
    return row(key, found, unit=unit, k=int(happened.sum()), n_missing=missing)


def _dissociation(cohort: Cohort, measure: str) -> Row:
    peaks = window_readings(cohort, measure).merge(
        cohort.sessions[["subject_id", "session", "mg_per_kg"]], on=["subject_id", "session"], validate="one_to_one"
    )
    known = peaks[peaks["mg_per_kg"].notna()]
    doses, people = as_values(known["mg_per_kg"]) / STEP, known["subject_id"].to_numpy("object")
    n, reason = len(np.unique(people)), _why_not(varied(doses, people))
    none = Interval(n, None, None, None, MIXED, reason=reason)
    found = none if reason else within_between(doses, as_values(known["highest"]), people, _order(known)).within
    unit = f"points per {STEP} mg/kg"
    return row(_key("dose_slope", measure), found, unit=unit, n_missing=cohort.n(TREATED) - n)


def _order(sessions: pd.DataFrame) -> Values:
    """The number of each session in its person as a covariate: doses rise and people get used to them with time."""
    return sessions["session"].to_numpy("float64")[:, None]


def _why_not(n_varied: int) -> str:
    if n_varied < LEAST_FOR_INTERVAL:
        return f"fewer than {LEAST_FOR_INTERVAL} people whose dose differed between sessions: no slope"
    return ""
