"""What was given: sessions, doses, intervals, routes, and the findings about the dose records.

Everything counts completed administrations of racemic ketamine to treated people; sessions are intramuscular.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.members import behind
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
    counted = {
        "sessions": cohort.sessions["subject_id"],
        "people": cohort.people(TREATED),
        "doses": cohort.session_doses["subject_id"],
    }
    for group, people in counted.items():
        yield behind(count_row(_key("count", group=group), len(people), unit=group), k=people, n=people)


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
        yield _median(name, sessions.set_index("subject_id")[name], unit, "sessions")
    for name, (unit, values) in per_person.items():
        yield _median(name, values, unit, "people")
    yield _median("titration_mg_per_kg", titration(sessions), "mg/kg per session", "people")
    yield _median("interval_days", _intervals(sessions), "days", "intervals")


def _median(measure: str, values: pd.Series, unit: str, what: str) -> Row:
    """The median of values by subject_id, one or several of each."""
    lacking, there = values.index[values.isna()], values[values.notna()]
    key = _key("median", measure=measure)
    found = median_row(key, as_values(values), unit=unit, n_missing=len(lacking), what=what)
    return behind(found, values=there.items(), n=there.index, n_missing=lacking)


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
    days: pd.Series = ordered.groupby(["subject_id", "series"], sort=True)["began_on"].diff().dt.days
    return days.set_axis(ordered["subject_id"]).dropna()


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
    who = {(str(week), str(band)): list(own) for (week, band), own in cells.groupby(["visit", "group"])["subject_id"]}
    for week in WEEKS:
        for band in BAND_NAMES:
            k, n = found.get((week, band), (0, 0))
            people = who.get((week, band), [])
            cell = count_row(_key("sessions", visit=week, group=band), k, unit="sessions", n=n)
            yield behind(cell, k=people, n=set(people))


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
    given = cohort.administrations
    for route, k in given["route"].value_counts().sort_index().items():
        found = described_share_row(_key("route", group=str(route)), int(k), len(given))
        yield behind(found, k=given.loc[given["route"] == route, "subject_id"], n=given["subject_id"])


def _flags(cohort: Cohort) -> Iterator[Row]:
    flags = cohort.administrations.set_index("subject_id")["flags"]
    each = flags[flags != ""].str.split("; ").explode()
    for flag, k in each.value_counts().sort_index().items():
        found = described_share_row(_key("flag", group=str(flag)), int(k), len(flags))
        yield behind(found, k=each.index[each == flag], n=flags.index)
