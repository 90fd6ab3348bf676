"""A cohort that began treatment month by month, and in whom the service changed on the way, for the quality report.

The people are those of `report_fixture`; everything that happened to each of them is moved by so many days.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd
import report_fixture
from cohort_tables import DAY_0, event, reading, the_study

from crps_outcomes.facts import Facts
from crps_outcomes.pseudonyms import code
from crps_outcomes.stages.analyse import Analysis, analyse
from crps_outcomes.stages.compose import compose
from crps_outcomes.stages.disclose import disclose, with_actions
from crps_outcomes.tables import EVENTS, OBSERVATIONS, Tables, build, finish

if TYPE_CHECKING:
    from crps_outcomes.disclosure import Releasable
    from crps_outcomes.provenance import Provenance
    from crps_outcomes.report_model import ReportModel

AS_OF = date(2026, 12, 10)
DAYS = 640  # from the first person's first dose to the last one's
KEY = b"a key for tests"
WATCHED_LESS_FROM = pd.Timestamp("2026-09-01")
READINGS = (
    ("systolic_pressure", -10, 124.0), ("diastolic_pressure", -10, 78.0), ("systolic_pressure", 20, 141.0),
    ("diastolic_pressure", 20, 86.0), ("oxygen_saturation", 20, 97.0),
)  # fmt: skip


@cache
def tables(n: int = 64) -> Tables:
    """The people of the other fixture, one after the other, and not all at once."""
    own = report_fixture.tables(n)
    shifts = {name: DAYS * place // max(n - 1, 1) for place, name in enumerate(sorted(own.subjects["subject_id"]))}
    moved = replace(
        own,
        **{
            name: _moved(getattr(own, name), shifts)
            for name in ("subjects", "doses", "observations", "events", "intercurrent")
        },
    )
    return _as_of(_watched(_with_answers(_with_serious(moved))), shifts)


def _moved(frame: pd.DataFrame, shifts: dict[str, int]) -> pd.DataFrame:
    days = frame["subject_id"].map(shifts).astype("int64")
    by = pd.to_timedelta(days, unit="D")
    is_person = "enrolled_on" in frame  # whose onset of CRPS stays where it is
    dates = frame.select_dtypes(["datetime", "datetimetz"]).columns.drop("onset_on" if is_person else [])
    moved = frame.assign(**{name: frame[name] + by for name in dates})
    if not is_person:
        return moved
    wait = pd.to_timedelta(7 + 13 * days % 35, unit="D")  # one to six weeks, by place
    return moved.assign(enrolled_on=moved["enrolled_on"] - wait)


def _with_serious(own: Tables) -> Tables:
    """A serious event in every eighth person."""
    people = own.subjects[own.subjects["is_treated"]]
    extra = [
        event(
            70_000 + place, one.subject_id, "Raised blood pressure", is_serious=True, severity="severe",
            onset_at=one.first_dose_at + pd.Timedelta(hours=1), onset_on=one.first_dose_on,
        )
        for place, one in enumerate(people.itertuples()) if place % 8 == 4
    ]  # fmt: skip
    return replace(own, events=finish(EVENTS, pd.concat([own.events, build(EVENTS, extra)], ignore_index=True)))


def _with_answers(own: Tables) -> Tables:
    """In every tenth person an answer to the last item of the PHQ-9 that goes to a safety review, two weeks in."""
    people = own.subjects[own.subjects["is_treated"]].iloc[::10]
    day = people["first_dose_on"] + pd.Timedelta(days=14)
    rows = [
        {
            "source_ref": f"QuestionnaireResponse/{name}", "item": "phq9-9", "subject_id": name, "measure": "phq9",
            "value": 1.0, "unit": "", "taken_at": None, "taken_on": at, "status": "completed", "version": "1",
            "upper_normal": None, "derivation": "",
        }
        for name, at in zip(people["subject_id"], day, strict=True)
    ]  # fmt: skip
    extra = build(OBSERVATIONS, rows)
    return replace(own, observations=finish(OBSERVATIONS, pd.concat([own.observations, extra], ignore_index=True)))


def _watched(own: Tables) -> Tables:
    """Readings before and after nearly every session; from a day on after every other one only."""
    sessions = own.doses[own.doses["session"].notna()].reset_index(drop=True)
    rows = []
    for place, one in enumerate(sessions.itertuples()):
        if place % 13 == 0 or (one.given_on >= WATCHED_LESS_FROM and place % 2 == 0):
            continue
        for offset, (measure, minutes, value) in enumerate(READINGS):
            at = one.given_at + pd.Timedelta(minutes=minutes)
            number = 1_000_000 + 10 * place + offset
            rows.append(reading(number, one.subject_id, measure, value, None, taken_at=at, taken_on=one.given_on))
    others = own.observations[~own.observations["measure"].isin([measure for measure, _, _ in READINGS])]
    return replace(own, observations=finish(OBSERVATIONS, pd.concat([others, build(OBSERVATIONS, rows)])))


def _as_of(own: Tables, shifts: dict[str, int]) -> Tables:
    """Visits whose window is open on the day of the data are not due, whatever was scored in the other fixture."""
    plan = {visit.id: visit.window_days[1] for visit in the_study().protocol.visits}
    first = pd.Timestamp(DAY_0.date()) + pd.to_timedelta(
        own.outcomes["subject_id"].map(shifts).astype("int64"), unit="D"
    )
    closes = first + pd.to_timedelta(own.outcomes["visit"].map(plan).fillna(0), unit="D")
    is_open = (closes >= pd.Timestamp(AS_OF)) & (own.outcomes["visit"] != "baseline")
    numbers = ["value", "change", "percent_change", "is_responder_30", "is_responder_50"]
    outcomes = own.outcomes.copy()
    outcomes[numbers] = outcomes[numbers].mask(is_open)
    closed = outcomes["state"].mask(outcomes["state"] == "not due", "missing")
    happened = own.doses["given_on"] <= pd.Timestamp(AS_OF)
    return replace(
        own,
        outcomes=outcomes.assign(state=closed.mask(is_open, "not due")),
        doses=own.doses[happened].reset_index(drop=True),
        events=own.events[~(own.events["onset_on"] > pd.Timestamp(AS_OF))].reset_index(drop=True),
        observations=own.observations[own.observations["taken_on"] <= pd.Timestamp(AS_OF)].reset_index(drop=True),
    )


@cache
def analysis(n: int = 64) -> Analysis:
    return analyse(tables(n), the_study(), as_of=AS_OF)


@cache
def releasable(n: int = 64, edition: str = "internal") -> Releasable:
    """What each edition shows; the release edition is that of the other fixture, which its audit has seen already."""
    if edition == "release":
        return report_fixture.releasable(n, edition)
    found = disclose(analysis(n), tables(n), the_study(), edition)
    found = replace(found, restatement=report_fixture.restated(analysis(n).estimates, edition, "quality"))
    return with_actions(found, tables(n), the_study(), lambda subject: code(KEY, subject), AS_OF)


def provenance(edition: str = "internal") -> Provenance:
    return replace(report_fixture.provenance(edition), report="quality", as_of=AS_OF)


def facts(n: int = 64, edition: str = "internal") -> Facts:
    return Facts(releasable(n, edition), the_study(), the_study().reports["quality"], provenance(edition))


@cache
def model(n: int = 64, edition: str = "internal") -> ReportModel:
    return compose(releasable(n, edition), the_study(), the_study().reports["quality"], provenance(edition))
