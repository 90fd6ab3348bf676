"""Pages about single people of an invented cohort: one with everything, one with one score, one with doses and nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd
from cohort_tables import DAY_0, PAIN, cohort, event, reading, the_study
from cohort_tables import Person as Invented
from report_fixture import provenance

from crps_outcomes import pseudonyms
from crps_outcomes.person import Person, each
from crps_outcomes.stages.compose import compose_person

if TYPE_CHECKING:
    from datetime import date

    from crps_outcomes.provenance import Provenance
    from crps_outcomes.report_model import ReportModel
    from crps_outcomes.tables import Tables

KEY = b"k" * 32
FULL, SINGLE, DOSES_ONLY, UNSURE = "p0001", "p0002", "p0003", "p0004"
VISITS = ("baseline", "week_1", "week_2", "week_4", "week_8", "week_12", "week_26")


def code_of(subject: str) -> str:
    return pseudonyms.code(KEY, subject)


def origin(as_of: date | None = None, **changes) -> Provenance:
    return replace(provenance(), report="patient", **({"as_of": as_of} if as_of else {}), **changes)


def _course(*values: float | None) -> dict[str, float]:
    return {visit: value for visit, value in zip(VISITS, values, strict=False) if value is not None}


@cache
def tables() -> Tables:
    people = [
        Invented(
            FULL,
            {
                PAIN: _course(7, 6, 4, 4, 5, 4.5),
                "promis_physical_function": _course(34.2, 35, None, 39.1, 38, 37.2),
                "promis_pain_interference": _course(67, 66, 64, 60.2, None, 61),
                "phq9": _course(12, 11, 9, 8, 9, 8),
                "gad7": _course(9, 9, 8, 6, 7, 7),
                "eq_vas": _course(45, 50, None, 62, 60, 58),
                "pgic": _course(None, 3, 2, 2, 3, 2),
            },
            doses_mg=(30, 40, 40, 50, 50, 60, 60, 60, 60),
            not_due=frozenset({"week_26"}),
        ),
        Invented(SINGLE, {PAIN: _course(6)}, doses_mg=(40,)),
        Invented(DOSES_ONLY, {}, doses_mg=(40, 45, None, 50)),
        Invented(UNSURE, {PAIN: _course(8, 7)}, doses_mg=(35,), crps_type="no diagnosis"),
    ]
    made = cohort(people, observations=_readings(), events=_events())
    is_unsure = made.subjects["subject_id"] == UNSURE
    first = {"first_dose_at": pd.Timestamp(DAY_0), "first_dose_on": _day(DAY_0)}
    subjects = made.subjects.assign(**{name: made.subjects[name].mask(is_unsure, day) for name, day in first.items()})
    return replace(made, subjects=subjects)


def _readings():
    for session in range(6):
        for offset, minutes in enumerate((-10, 20, 60)):
            at = DAY_0 + pd.Timedelta(weeks=session, minutes=minutes)
            value = 122 + (0, 24, 9)[offset] + session
            yield reading(10 * session + offset, FULL, "systolic_pressure", value, None, taken_at=at, taken_on=_day(at))
            oxygen = {"taken_at": at, "taken_on": _day(at)}
            yield reading(100 + 10 * session + offset, FULL, "oxygen_saturation", 97 - offset, None, **oxygen)
    on = {"taken_on": _day(DAY_0 + pd.Timedelta(weeks=12)), "item": "phq9-9"}
    yield reading(500, FULL, "phq9", 2, None, **on)


def _events():
    for number, (term, severity) in enumerate(
        (
            ("Nausea", "mild"),
            ("Nausea", "moderate"),
            ("Dissociation or perceptual change", "mild"),
            ("Dizziness", "mild"),
        )
    ):
        yield event(
            number, FULL, term, severity=severity, onset_on=_day(DAY_0 + pd.Timedelta(weeks=number)), is_serious=False
        )


def _day(at) -> pd.Timestamp:
    return pd.Timestamp(at.date())


def person(subject: str = FULL, own: Provenance | None = None, study=None, of: Tables | None = None) -> Person:
    every = dict(each(of or tables(), study or the_study(), own or origin(), code_of))
    return every[code_of(subject)]


def page(subject: str = FULL, own: Provenance | None = None, study=None) -> ReportModel:
    return compose_person(person(subject, own, study), the_study().reports["patient"])
