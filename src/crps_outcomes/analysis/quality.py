"""How the service runs, month by month: the numbers behind every process chart, and the lines of the charts.

Months are those of the local calendar, and a month counts when its last day is over: the running one is left out. A month
describes what happened in it, everybody there, so its shares have no interval; chance is judged by the chart.
"""

from __future__ import annotations

from calendar import monthrange
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd

from crps_outcomes import spc
from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.rows import DESCRIPTION, Key, count_row, described_share_row, median_row, rate_row, row
from crps_outcomes.analysis.safety import adverse_events
from crps_outcomes.analysis.vital_signs import pre_dose_readings, window_readings
from crps_outcomes.charting import MEDIAN, METHODS, Monthly, chart_of, chart_of_gaps
from crps_outcomes.estimators import Interval, as_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row
    from crps_outcomes.monitoring import Watched, WatchedId

RARE = "serious"
LONGEST, CROSSINGS = "longest run", "crossings of the median"


def quality(cohort: Cohort) -> list[Row]:
    """One row per measure and complete month, then centre, limits and signals of each chart, and rare events."""
    if cohort.as_of is None:
        return []
    found = [row for watched in cohort.protocol.quality.measures for row in _of_one(cohort, watched)]
    return [*found, *_rare(cohort)]


def _key(statistic: str, measure: str, visit: str = "", group: str = "") -> Key:
    return Key("quality", statistic, TREATED, measure, visit, group)


def _of_one(cohort: Cohort, watched: Watched) -> Iterator[Row]:
    rows = [*MONTHLY[watched.id](cohort, watched.id)]
    yield from rows
    known = [one for one in rows if one["statistic"] == "month" and one["estimate"] is not None]
    if known:
        series = Monthly(*(tuple(one[name] for one in known) for name in ("visit", "estimate", "n")))
        charted = chart_of(watched, cohort.protocol.quality, series)
        yield from _lines(watched.id, charted, series.months, watched.unit, METHODS[watched.chart])
        is_signal, name = spc.is_signal(charted), spc.standing(charted, watched.better)
        yield count_row(_key("latest", watched.id, series.months[-1], name), int(is_signal), unit="signals", n=1)


# --- months -------------------------------------------------------------------------------------------------------


def months_of(cohort: Cohort, days: pd.Series) -> tuple[str, ...]:
    """The complete months from the first of the days to the day of the data, at most as many as are charted."""
    known = days[days.notna()]
    if known.empty or cohort.as_of is None:
        return ()
    after = pd.Timestamp(cohort.as_of) + pd.Timedelta(days=1)
    months = pd.period_range(known.min(), after, freq="M")[:-1]  # the month of the next day is not over
    return tuple(str(month) for month in months[-cohort.protocol.quality.months :])


def _by_month(days: pd.Series) -> pd.Series:
    names: pd.Series = days.dt.strftime("%Y-%m")
    return names


# --- shares -------------------------------------------------------------------------------------------------------


def _shares(cohort: Cohort, measure: WatchedId, seen: pd.DataFrame) -> Iterator[Row]:
    """A row per month from cases with ``on`` and ``is_hit``; a case without an answer counts as missing."""
    grouped = seen.groupby(_by_month(seen["on"]))["is_hit"]
    counts = pd.DataFrame({"k": grouped.sum(), "n": grouped.count(), "all": grouped.size()}).to_dict("index")
    for month in months_of(cohort, seen["on"]):
        own = counts.get(month, {"k": 0, "n": 0, "all": 0})
        key, n = _key("month", measure, month), int(own["n"])
        yield described_share_row(key, int(own["k"]), n, n_missing=int(own["all"]) - n)


def _on_time(cohort: Cohort, measure: WatchedId) -> Iterator[Row]:
    due = closing_visits(cohort, cohort.protocol.outcomes.primary_visit)
    due = due[due["state"] != "not due"]
    yield from _shares(cohort, measure, due.assign(on=due["closes_on"], is_hit=due["state"] == "observed"))


def closing_visits(cohort: Cohort, visit: str) -> pd.DataFrame:
    """The primary measure at one visit, a row per treated person, with ``planned_on`` and ``closes_on``."""
    plan = next(one for one in cohort.protocol.visits if one.id == visit)
    outcomes = cohort.of(cohort.tables.outcomes, TREATED)
    own = outcomes[(outcomes["measure"] == cohort.protocol.outcomes.primary) & (outcomes["visit"] == visit)]
    own = own.merge(
        cohort.populations[TREATED][["subject_id", "first_dose_on"]], on="subject_id", validate="one_to_one"
    )
    return own.assign(
        planned_on=own["first_dose_on"] + pd.Timedelta(days=plan.day),
        closes_on=own["first_dose_on"] + pd.Timedelta(days=plan.window_days[1]),
    )


def _response(cohort: Cohort, measure: WatchedId) -> Iterator[Row]:
    due = closing_visits(cohort, cohort.protocol.outcomes.primary_visit)
    due = due[due["state"] != "not due"]
    percent = cohort.protocol.outcomes.responder_percents[0]
    yield from _shares(cohort, measure, due.assign(on=due["closes_on"], is_hit=due[f"is_responder_{percent}"]))


def _monitored(cohort: Cohort, measure: WatchedId) -> Iterator[Row]:
    sessions = sessions_with_monitoring(cohort)
    hit = (sessions["has_pressure"] & sessions["has_oxygen"]).astype("boolean")
    yield from _shares(cohort, measure, sessions.assign(on=sessions["began_on"], is_hit=hit))


def sessions_with_monitoring(cohort: Cohort) -> pd.DataFrame:
    """Sessions with ``has_pressure`` (both pressures before and after the injection) and ``has_oxygen`` (after it)."""
    plan = cohort.protocol.safety
    wanted = {
        "has_pressure": [
            read(cohort, name)
            for name in (plan.systolic, plan.diastolic)
            for read in (pre_dose_readings, window_readings)
        ],
        "has_oxygen": [window_readings(cohort, plan.oxygen_saturation)],
    }
    sessions = cohort.sessions
    own = pd.MultiIndex.from_frame(sessions[["subject_id", "session"]])
    for name, frames in wanted.items():
        there = [own.isin(pd.MultiIndex.from_frame(frame[["subject_id", "session"]])) for frame in frames]
        sessions = sessions.assign(**{name: pd.DataFrame(there).all().to_numpy()})
    return sessions


def _as_planned(cohort: Cohort, measure: WatchedId) -> Iterator[Row]:
    """Of the first series whose planned time is over, those with at least the sessions planned in it."""
    plan = cohort.protocol.quality.series
    if plan is None or cohort.as_of is None:
        return
    sessions = cohort.sessions[cohort.sessions["series"] == 1]
    day = (sessions["began_on"] - sessions["first_dose_on"]).dt.days
    held = sessions[day < plan.within_days].groupby("subject_id")["session"].count()
    people = cohort.populations[TREATED][["subject_id", "first_dose_on"]]
    ends = people["first_dose_on"] + pd.Timedelta(days=plan.within_days - 1)
    enough = held.reindex(people["subject_id"], fill_value=0).astype("Int64") >= plan.sessions
    seen = people.assign(on=ends, is_hit=enough.array)
    yield from _shares(cohort, measure, seen[ends <= pd.Timestamp(cohort.as_of)])


# --- numbers ------------------------------------------------------------------------------------------------------


def _days_to_first_dose(cohort: Cohort, measure: WatchedId) -> Iterator[Row]:
    """Days from enrolment to first dose; somebody enrolled after the first dose, or on no known day, counts as missing."""
    people = cohort.populations[TREATED]
    days = (people["first_dose_on"] - people["enrolled_on"]).dt.days.astype("Int64")
    days = days.where(days >= 0)
    month = _by_month(people["first_dose_on"])
    for name in months_of(cohort, people["first_dose_on"]):
        own = days[month == name]
        missing = int(own.isna().sum())
        yield median_row(_key("month", measure, name), as_values(own), unit="days", n_missing=missing)


def _sessions_per_week(cohort: Cohort, measure: WatchedId) -> Iterator[Row]:
    """Sessions per seven days; the month of the very first session is left out, because it is not whole."""
    began = cohort.sessions["began_on"]
    counts = _by_month(began).value_counts().to_dict()
    first = f"{began.min():%Y-%m}" if began.notna().any() else ""
    for month in months_of(cohort, began):
        if month != first:
            k = int(counts.get(month, 0))
            per_week = 7 * k / monthrange(int(month[:4]), int(month[5:]))[1]
            found = Interval(k, per_week, None, None, "count per seven days", reason=DESCRIPTION)
            yield row(_key("month", measure, month), found, unit="sessions a week", k=k, n_missing=0)


def _adverse_events(cohort: Cohort, measure: WatchedId) -> Iterator[Row]:
    began = cohort.sessions["began_on"]
    sessions = _by_month(began).value_counts().to_dict()
    onset = adverse_events(cohort)["onset_on"]
    events = _by_month(onset).value_counts().to_dict()
    for month in months_of(cohort, began):
        key = _key("month", measure, month)
        yield rate_row(key, int(events.get(month, 0)), int(sessions.get(month, 0))) | {"n_missing": 0}
    undated = int(onset.isna().sum())
    yield count_row(_key("undated", measure), undated, unit="events", n=len(onset)) | {"n_missing": 0}


MONTHLY: Mapping[WatchedId, Callable[[Cohort, WatchedId], Iterator[Row]]] = {
    "on_time": _on_time,
    "monitored": _monitored,
    "days_to_first_dose": _days_to_first_dose,
    "as_planned": _as_planned,
    "sessions_per_week": _sessions_per_week,
    "response": _response,
    "adverse_events": _adverse_events,
}


# --- lines of the charts ------------------------------------------------------------------------------------------


def _lines(measure: str, charted: spc.Chart, labels: Sequence[str], unit: str, method: str) -> Iterator[Row]:
    """Centre and limits of every segment, its points and signals, the runs of a run chart, and what the latest point ends."""
    for segment in charted.segments:
        own = labels[segment.start : segment.start + len(segment.values)]
        parts = spc.episodes(segment)
        yield count_row(_key("points", measure, own[0]), sum(map(len, parts)), unit="points", n=len(own))
        yield count_row(_key("episodes", measure, own[0]), len(parts), unit="signals")
        yield _centre(_key("centre", measure, own[0]), segment, unit, method)
        if segment.is_run_chart:
            yield from _runs(measure, segment, own[0])
        for part in parts:
            key = _key("signal", measure, own[part[0]], segment.hits[part[0]][0].rule)
            yield count_row(key, len(part), unit="points", n=len(own)) | {"n_missing": 0}
    if segment.hits[-1]:
        start = spc.began(segment)
        yield count_row(_key("since", measure, own[start], segment.hits[-1][0].rule), len(own) - start, unit="points")


def _centre(key: Key, segment: spc.Segment, unit: str, method: str) -> Row:
    lines = segment.lines[-1]
    words = MEDIAN if segment.is_run_chart else f"{method}; {segment.n_screened} ranges left out"
    reason = f"fewer than {spc.LEAST_FOR_LIMITS} points: no limits" if segment.is_run_chart else ""
    found = Interval(segment.n_baseline, lines.centre, lines.lower, lines.upper, words, reason=reason)
    return row(key, found, unit=unit, n_missing=0)


def _runs(measure: str, segment: spc.Segment, start: str) -> Iterator[Row]:
    found = spc.runs(segment)
    for group, k in ((LONGEST, found.longest), (CROSSINGS, found.crossings)):
        yield count_row(_key("runs", measure, start, group), k, unit="points", n=found.n_useful) | {"n_missing": 0}


# --- rare events --------------------------------------------------------------------------------------------------


def _rare(cohort: Cohort) -> Iterator[Row]:
    """Sessions held from one serious adverse event to the next, and since the last one."""
    events = adverse_events(cohort)
    is_serious = events["is_serious"].notna() & events["is_serious"] & events["onset_on"].notna()
    days = events.loc[is_serious, "onset_on"].sort_values()
    began = cohort.sessions["began_on"]
    began = began[began.notna()].sort_values()
    held = [int(n) for n in began.searchsorted(days, side="right")]
    gaps = [two - one for one, two in pairwise(held)]
    labels = [f"{number:03d}" for number in range(2, len(held) + 1)]
    for label, gap in zip(labels, gaps, strict=True):
        yield _gap("between", label, gap)
    if gaps:
        charted = chart_of_gaps(gaps, cohort.protocol.quality)
        yield from _lines(RARE, charted, labels, "sessions", METHODS["g"])
    yield _gap("since_last", "", len(began) - (held[-1] if held else 0))


def _gap(statistic: str, number: str, gap: int) -> dict[str, Any]:
    return count_row(_key(statistic, RARE, number), gap, unit="sessions") | {"n_missing": 0}
