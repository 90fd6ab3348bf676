"""Readings around intramuscular sessions, placed by their instants; a reading with a day only is not used.

Each table is made once for a cohort and a measure, since several sections ask for it: nobody changes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pandas as pd

from crps_outcomes.analysis.cohort import TREATED

if TYPE_CHECKING:
    from crps_outcomes.analysis.cohort import Cohort

_SESSION = ["subject_id", "session"]


def window_readings(cohort: Cohort, measure: str) -> pd.DataFrame:
    """Highest and lowest value in the window after the first injection, a row per session that has one.

    The window is open at its start and closed at its end; a reading at the very moment of the injection is pre-dose.
    """
    return cohort.once(_in_window, measure)


def _in_window(cohort: Cohort, measure: str) -> pd.DataFrame:
    by_session = timed_readings(cohort, measure).groupby(_SESSION)["value"]
    return pd.DataFrame({"highest": by_session.max(), "lowest": by_session.min()}).reset_index()


def timed_readings(cohort: Cohort, measure: str) -> pd.DataFrame:
    """subject_id, session, value and minutes since the first injection of every reading in the window."""
    return cohort.once(_timed, measure)


def _timed(cohort: Cohort, measure: str) -> pd.DataFrame:
    first, last = cohort.protocol.safety.window_minutes
    placed = _placed(cohort, measure, "backward", pd.Timedelta(minutes=last))
    placed["minutes"] = (placed["taken_at"] - placed["began_at"]).dt.total_seconds() / 60
    inside = placed[(placed["minutes"] > first) & (placed["minutes"] <= last)]
    return inside[[*_SESSION, "value", "minutes"]]


def pre_dose_readings(cohort: Cohort, measure: str) -> pd.DataFrame:
    """The last value before or at the first injection, within the minutes declared, a row per session that has one."""
    return cohort.once(_pre_dose, measure)


def _pre_dose(cohort: Cohort, measure: str) -> pd.DataFrame:
    within = pd.Timedelta(minutes=cohort.protocol.safety.pre_dose_minutes)
    placed = _placed(cohort, measure, "forward", within)
    return pd.DataFrame({"last": placed.groupby(_SESSION)["value"].last()}).reset_index()


def _placed(
    cohort: Cohort, measure: str, direction: Literal["backward", "forward"], within: pd.Timedelta
) -> pd.DataFrame:
    """Each reading with the session it belongs to: the latest one before it, or the next one at or after it."""
    begun = cohort.sessions[cohort.sessions["began_at"].notna()][[*_SESSION, "began_at"]].sort_values("began_at")
    placed = pd.merge_asof(
        _readings(cohort, measure), begun, left_on="taken_at", right_on="began_at", by="subject_id",
        direction=direction, tolerance=within, allow_exact_matches=direction == "forward",
    )  # fmt: skip
    return placed[placed["session"].notna()].copy()


def _readings(cohort: Cohort, measure: str) -> pd.DataFrame:
    """The values of treated people that have an instant, in the order of time, ties by source."""
    observations = cohort.tables.observations
    own = cohort.of(observations[observations["measure"] == measure], TREATED)
    own = own[own["taken_at"].notna() & own["value"].notna()]
    return own.sort_values(["taken_at", "source_ref", "item"])[["subject_id", "taken_at", "value"]]
