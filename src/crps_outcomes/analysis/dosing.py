"""What was given: sessions, doses, intervals, routes, and the findings about the dose records.

Everything counts completed administrations of racemic ketamine to treated people; sessions are intramuscular.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.rows import Key, count_row, described_share_row, median_row
from crps_outcomes.estimators import TOLERANCE, as_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row

#: Lower edge of each dose band in mg/kg and its name. [project rule]
BANDS = (
    (0.0, "<0.5 mg/kg"),
    (0.5, "0.5 to <0.75"),
    (0.75, "0.75 to <1.0"),
    (1.0, "1.0 to <1.25"),
    (1.25, "1.25 or more"),
)
NOT_KNOWN = "not known"
LEAST_TO_TITRATE = 3  # sessions; a line through two says nothing about a plan
BAND_NAMES = (*(name for _, name in BANDS), NOT_KNOWN)

LAST_WEEK = 12
WEEKS = (*(f"week {number}" for number in range(LAST_WEEK)), f"week {LAST_WEEK}+")


def dosing(cohort: Cohort) -> list[Row]:
    """Counts, medians, the week by dose table, routes and flags."""
    return [*_counts(cohort), *_medians(cohort), *_heat_table(cohort), *_routes(cohort), *_flags(cohort)]


def _key(statistic: str, **parts: str) -> Key:
    return Key("dosing", statistic, TREATED, **parts)


def _counts(cohort: Cohort) -> Iterator[Row]:
    yield count_row(_key("count", group="sessions"), len(cohort.sessions), unit="sessions")
    yield count_row(_key("count", group="people"), cohort.n(TREATED), unit="people")
    yield count_row(_key("count", group="doses"), len(cohort.session_doses), unit="doses")


# --- medians ------------------------------------------------------------------------------------------------------


def _medians(cohort: Cohort) -> Iterator[Row]:
    sessions = cohort.sessions
    people = sessions.groupby("subject_id", sort=True)
    per_person = {
        "sessions_per_person": ("sessions", people["session"].count()),
        "cumulative_mg": ("mg", people["dose_mg"].sum(skipna=False)),
        "cumulative_mg_per_kg": ("mg/kg", people["mg_per_kg"].sum(skipna=False)),
        "series_per_person": ("series", people["series"].nunique()),
    }
    for name, unit in (("dose_mg", "mg"), ("mg_per_kg", "mg/kg")):
        yield _median(name, sessions[name], unit, "sessions")
    for name, (unit, values) in per_person.items():
        yield _median(name, values, unit, "people")
    yield _median("titration_mg_per_kg", titration(sessions), "mg/kg per session", "people")
    yield _median("interval_days", _intervals(sessions), "days", "intervals")


def _median(measure: str, values: pd.Series, unit: str, what: str) -> Row:
    missing = int(values.isna().sum())
    return median_row(_key("median", measure=measure), as_values(values), unit=unit, n_missing=missing, what=what)


def titration(sessions: pd.DataFrame) -> pd.Series:
    """By person: mg/kg added from one session to the next, the straight line through the first series.

    Missing for people with fewer than three sessions in it whose dose per kilogram is known.
    """
    first = sessions[(sessions["series"] == 1) & sessions["mg_per_kg"].notna()]
    x, y = first["session"].astype("float64"), first["mg_per_kg"].astype("float64")
    moments = pd.DataFrame({"n": 1.0, "x": x, "y": y, "xx": x * x, "xy": x * y}).groupby(first["subject_id"]).sum()
    spread = moments["n"] * moments["xx"] - moments["x"] ** 2
    slope = (moments["n"] * moments["xy"] - moments["x"] * moments["y"]) / spread.where(spread > 0)
    everybody = sorted(sessions["subject_id"].unique())
    return slope.where(moments["n"] >= LEAST_TO_TITRATE).reindex(everybody).astype("Float64")


def _intervals(sessions: pd.DataFrame) -> pd.Series:
    """Days from each session to the one before it in the same series."""
    ordered = sessions.sort_values(["subject_id", "session"])
    days: pd.Series = ordered.groupby(["subject_id", "series"], sort=True)["began_on"].diff().dropna().dt.days
    return days


# --- week by dose -------------------------------------------------------------------------------------------------


def _heat_table(cohort: Cohort) -> Iterator[Row]:
    """Number of sessions and of people in every cell of week since the first dose by dose band, empty cells included."""
    sessions = cohort.sessions
    cells = pd.DataFrame(
        {
            "visit": _weeks(sessions),
            "group": dose_bands(sessions["mg_per_kg"]),
            "subject_id": sessions["subject_id"],
        }
    )
    counted = cells.groupby(["visit", "group"])["subject_id"].agg(["count", "nunique"])
    found = {(str(week), str(band)): (int(k), int(n)) for (week, band), k, n in counted.itertuples(name=None)}
    for week in WEEKS:
        for band in BAND_NAMES:
            k, n = found.get((week, band), (0, 0))
            yield count_row(_key("sessions", visit=week, group=band), k, unit="sessions", n=n)


def _weeks(sessions: pd.DataFrame) -> pd.Series:
    days = (sessions["began_on"] - sessions["first_dose_on"]).dt.days
    number = (days // 7).clip(0, LAST_WEEK).astype("Int64")
    return number.map(dict(enumerate(WEEKS))).astype("str")


def dose_bands(mg_per_kg: pd.Series) -> pd.Series:
    """The dose band of each session; a dose on an edge belongs to the band that starts there."""
    edges = [*(edge for edge, _ in BANDS), float("inf")]
    shifted = mg_per_kg.astype("Float64").to_numpy(dtype="float64", na_value=float("nan")) + TOLERANCE
    named = pd.cut(shifted, edges, right=False, labels=[name for _, name in BANDS])
    return pd.Series(named, index=mg_per_kg.index).astype("object").where(mg_per_kg.notna(), NOT_KNOWN).astype("str")


# --- routes and flags ---------------------------------------------------------------------------------------------


def _routes(cohort: Cohort) -> Iterator[Row]:
    counts = cohort.administrations["route"].value_counts().sort_index()
    for route, k in counts.items():
        yield described_share_row(_key("route", group=str(route)), int(k), len(cohort.administrations))


def _flags(cohort: Cohort) -> Iterator[Row]:
    flags = cohort.administrations["flags"]
    counts = flags[flags != ""].str.split("; ").explode().value_counts().sort_index()
    for flag, k in counts.items():
        yield described_share_row(_key("flag", group=str(flag)), int(k), len(cohort.administrations))
