"""From a number of section quality back to the rows of its months: what each watched measure reads, and by which day."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.quality import closing_visits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from crps_outcomes.analysis.cohort import Cohort

Dated = tuple[str, pd.DataFrame, pd.Series]  # a table's name, its rows, and the day of each


def rows_of_months(cohort: Cohort, row: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """The rows behind a number, by table: of one month, or of every month for what is said of the whole chart."""
    month = row["visit"] if row["statistic"] == "month" else ""
    found = READ.get(row["measure"], _sessions_and_events)(cohort)
    return {name: frame[(on.dt.strftime("%Y-%m") == month) | (month == "")] for name, frame, on in found}


def _scores(cohort: Cohort) -> Iterator[Dated]:
    """Scores at the primary visit, in the month in which its window closed."""
    due = closing_visits(cohort, cohort.protocol.outcomes.primary_visit)
    yield "outcomes", due.drop(columns=["first_dose_on", "planned_on", "closes_on"]), due["closes_on"]


def _first_doses(cohort: Cohort) -> Iterator[Dated]:
    people = cohort.populations[TREATED]
    yield "subjects", people.assign(source_ref="Patient/" + people["subject_id"]), people["first_dose_on"]


def _sessions(cohort: Cohort) -> Iterator[Dated]:
    yield "doses", cohort.session_doses, cohort.session_doses["given_on"]


def _monitoring(cohort: Cohort) -> Iterator[Dated]:
    """Sessions, and the readings that monitoring in full asks for."""
    yield from _sessions(cohort)
    safety, readings = cohort.protocol.safety, cohort.of(cohort.tables.observations, TREATED)
    wanted = {safety.systolic, safety.diastolic, safety.oxygen_saturation}
    own = readings[readings["measure"].isin(wanted)]
    yield "observations", own, own["taken_on"]


def _sessions_and_events(cohort: Cohort) -> Iterator[Dated]:
    yield from _sessions(cohort)
    events = cohort.of(cohort.tables.events, TREATED)
    own = events[events["kind"] == "adverse event"]
    yield "events", own, own["onset_on"]


READ: Mapping[str, Callable[[Cohort], Iterator[Dated]]] = {
    "on_time": _scores,
    "response": _scores,
    "monitored": _monitoring,
    "days_to_first_dose": _first_doses,
    "as_planned": _sessions,
    "sessions_per_week": _sessions,
    "adverse_events": _sessions_and_events,
    "serious": _sessions_and_events,
}
