"""The invented people: who they are, when they come, what they feel and record. Facts only, no FHIR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

from crps_outcomes.synthetic.options import stream
from crps_outcomes.synthetic.population import PlannedVisit, jittered_day, planned
from crps_outcomes.synthetic.response import COURSES, GLOBAL_CHANGE, PAIN, Traits, enter, record, true_value
from crps_outcomes.synthetic.sessions import Course, Liver, Session, Weighing, course_of_treatment
from crps_outcomes.synthetic.treatments import Treatment, treatments_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crps_outcomes.study import Study
    from crps_outcomes.synthetic.options import Options

FIRST_STRANGER = 900_001
DANGLING_ID = "crps-999999"

#: What is special about a person, by number: (every how many, which one). Everybody else is simply enrolled.
ROLES: Mapping[str, tuple[int, int]] = {
    "inactive": (20, 7),
    "ended": (40, 18),
    "consent inactive": (40, 13),
    "consent denied": (40, 23),
    "never treated": (40, 33),
    "intravenous only": (80, 59),
}
#: Roles of people the enrolment rule counts as enrolled.
ENROLLED_ROLES = frozenset({"enrolled", "never treated", "intravenous only"})
CONSENT_ROLES = frozenset({"consent inactive", "consent denied"})

#: How a person's doses are written; the handbook's variants, by the person's number.
DOSE_STYLES = (
    *(("mg",) * 8),
    "mg/kg",
    "mg/kg",
    "mg/kg",
    "mL",
    "mL",
    "mL",
    "contained",
    "contained",
    "mcg",
    "g",
    "hydrochloride",
    "label strength",
)
ROUTE_STYLES = ("snomed", "snomed", "snomed", "edqm", "text")
PROMIS_STYLES = ("first", "first", "first", "second", "first", "both", "first", "second", "first", "second")
SHARE_FEMALE = 0.75
SHARE_TYPE_I = 0.80
SHARE_MISSED_VISIT = 0.04
HAZARD_FIRST_INTERVAL = 0.03
HAZARD_INTERCEPT = -2.2


@dataclass(frozen=True)
class Setting:
    """What all people of a cohort share."""

    options: Options
    study: Study

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.study.protocol.timezone)

    @cached_property
    def visits(self) -> tuple[PlannedVisit, ...]:
        return planned(sorted(self.study.protocol.visits, key=lambda visit: visit.day))

    def at(self, day: date, minute: int) -> datetime:
        """The instant at ``minute`` of a local day."""
        return datetime.combine(day, time(minute // 60, minute % 60), self.zone)


@dataclass(frozen=True)
class Style:
    """How the site happens to write this person's data."""

    dose: str
    route: str
    promis: str  # "first", "second" or "both" of the measure's codes
    has_items: bool  # questionnaire items instead of totals
    is_nested: bool
    has_coded_answers: bool
    writes_utc: bool
    weighs_in_pounds: bool


@dataclass(frozen=True)
class Score:
    """One recorded questionnaire score. ``visit`` is "screening", "baseline" or a visit of the protocol."""

    measure: str
    visit: str
    at: datetime
    value: float
    true: float


@dataclass(frozen=True)
class Person:
    """Everything that happened to one invented person."""

    index: int
    role: str
    is_female: bool
    born_on: date
    crps_type: str
    onset_on: date
    screened_at: datetime
    first_dose_on: date
    last_on: date  # last day with data
    left_after: str  # visit after which the person stopped coming, or ""
    style: Style
    scores: tuple[Score, ...]
    true_course: Mapping[str, Mapping[str, float]]  # measure -> visit -> noise-free value on the day of the visit
    sessions: tuple[Session, ...]
    weighings: tuple[Weighing, ...]
    liver: tuple[Liver, ...]
    treatments: tuple[Treatment, ...]

    @property
    def id(self) -> str:
        return person_id(self.index)


@dataclass(frozen=True)
class Days:
    """The calendar of one person."""

    screened_on: date
    baseline_on: date | None  # None: the screening score is the only one before the first dose
    first_dose_on: date


@dataclass(frozen=True)
class Attendance:
    """Which planned visits take place, on which day, and when the person stops coming."""

    days: tuple[tuple[PlannedVisit, int], ...]
    left_after: str
    last_on: date


#: (measure, visit) -> recorded and true value.
Scores = Mapping[tuple[str, str], tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    """The skeleton of a person's story."""

    index: int
    role: str
    days: Days
    traits: Traits
    visits: Mapping[str, int]  # visit -> day after the first dose
    scores: Scores  # of all visits, whether or not they take place
    attendance: Attendance


def person_id(index: int) -> str:
    return f"crps-{index:06d}"


def role_of(index: int) -> str:
    """The role that goes with a person's number."""
    if index >= FIRST_STRANGER:
        return "stranger"
    return next((role for role, (every, which) in ROLES.items() if index % every == which), "enrolled")


def make_person(index: int, setting: Setting) -> Person:
    """One person, the same whatever the number of people in the cohort."""
    plot = _plot(index, setting)
    rng = stream(setting.options, index, "person")
    is_female = bool(rng.random() < SHARE_FEMALE)
    care = course_of_treatment(_course(plot, is_female=is_female), setting)
    return Person(
        index=index,
        role=plot.role,
        is_female=is_female,
        born_on=_birthday(rng, plot.days.first_dose_on),
        crps_type="I" if rng.random() < SHARE_TYPE_I else "II",
        onset_on=plot.days.screened_on - timedelta(days=int(np.clip(np.exp(rng.normal(6.9, 0.8)), 120, 9000))),
        screened_at=setting.at(plot.days.screened_on, 540),
        first_dose_on=plot.days.first_dose_on,
        last_on=plot.attendance.last_on,
        left_after=plot.attendance.left_after,
        style=_style(index, stream(setting.options, index, "style")),
        scores=tuple(_dated(rng, plot, setting)),
        true_course=_true_course(plot.traits, plot.visits),
        sessions=care.sessions,
        weighings=care.weighings,
        liver=care.liver,
        treatments=treatments_of(index, plot.days.first_dose_on, plot.attendance.last_on, setting),
    )


def _plot(index: int, setting: Setting) -> Plot:
    """Everything about a person that other things hang on."""
    rng = stream(setting.options, index, "visits")
    days = _days(rng, setting)
    visits = _visit_days(rng, setting)
    feels = stream(setting.options, index, "response")
    traits, screening = enter(feels, 1, setting.options)
    scores = _scores(feels, traits, screening[0], visits)
    attendance = _attendance(stream(setting.options, index, "dropout"), days, visits, scores, setting)
    return Plot(index, role_of(index), days, traits, visits, scores, attendance)


# --- the calendar -------------------------------------------------------------------------------------------------


def _days(rng: np.random.Generator, setting: Setting) -> Days:
    back = int(rng.integers(25, setting.options.enrolment_days))
    around = setting.options.ends_on - timedelta(days=back)
    first = around - timedelta(days=max(around.weekday() - int(rng.integers(0, 2)), 0))  # Monday or Tuesday
    screened = first - timedelta(days=int(rng.integers(8, 22)))
    screened -= timedelta(days=max(screened.weekday() - 4, 0))
    second = first - timedelta(days=int(rng.integers(0, 4))) if rng.random() < setting.options.second_baseline else None
    return Days(screened, second, first)


def _visit_days(rng: np.random.Generator, setting: Setting) -> dict[str, int]:
    return {visit.id: int(jittered_day(rng, visit, 1)[0]) for visit in setting.visits}


def _birthday(rng: np.random.Generator, first_dose_on: date) -> date:
    years = float(np.clip(rng.normal(46, 13), 18.1, 75.9))
    return first_dose_on - timedelta(days=int(years * 365.25))


def _attendance(
    rng: np.random.Generator, days: Days, visits: Mapping[str, int], scores: Scores, setting: Setting
) -> Attendance:
    """Visits until the data end or the person stops coming; the worse the last score, the likelier that is."""
    baseline = scores[PAIN, "screening" if days.baseline_on is None else "baseline"][0]
    kept: list[tuple[PlannedVisit, int]] = []
    leaves, misses = rng.random(len(setting.visits)), rng.random(len(setting.visits))
    hazard, seen = HAZARD_FIRST_INTERVAL, ""
    for place, visit in enumerate(setting.visits):
        if setting.options.dropout and leaves[place] < hazard:
            last = days.first_dose_on + timedelta(days=visits[seen] if seen else 1)
            return Attendance(tuple(kept), seen or "baseline", min(last, setting.options.ends_on))
        on = days.first_dose_on + timedelta(days=visits[visit.id])
        if on <= setting.options.ends_on and misses[place] >= SHARE_MISSED_VISIT:
            kept.append((visit, visits[visit.id]))
            change = scores[PAIN, visit.id][0] - baseline
            hazard, seen = leaving_hazard(change, setting.options.dropout_slope), visit.id
    return Attendance(tuple(kept), "", setting.options.ends_on)


def leaving_hazard(change: float, slope: float) -> float:
    """The chance of not coming to the next visit after a recorded change of pain (negative: less pain)."""
    return float(1.0 / (1.0 + np.exp(-(HAZARD_INTERCEPT + slope * change))))


# --- what is felt and recorded ------------------------------------------------------------------------------------


def _scores(rng: np.random.Generator, traits: Traits, screening: float, visits: Mapping[str, int]) -> Scores:
    """The scores of every visit, whether or not it will take place."""
    found = {(PAIN, "screening"): (float(screening), float(traits.pain[0]))}
    days = np.array([[0.0, *visits.values()]])
    for measure in (PAIN, *COURSES, GLOBAL_CHANGE):
        true = true_value(traits, measure, days)
        recorded = record(rng, measure, true)
        pairs = zip(("baseline", *visits), recorded[0], true[0], strict=True)
        found |= {(measure, visit): (float(value), float(truth)) for visit, value, truth in pairs}
    del found[GLOBAL_CHANGE, "baseline"]  # nobody can say what has changed before anything was done
    return found


def _true_course(traits: Traits, visits: Mapping[str, int]) -> dict[str, dict[str, float]]:
    days = np.array([[0.0, *visits.values()]])
    return {
        measure: {
            visit: round(float(value), 3)
            for visit, value in zip(("baseline", *visits), true_value(traits, measure, days)[0], strict=True)
        }
        for measure in (PAIN, *COURSES)
    }


def _dated(rng: np.random.Generator, plot: Plot, setting: Setting) -> Iterator[Score]:
    """The scores that are really taken, each with its instant: in the morning, before any dose of that day."""
    taken = [("screening", plot.days.screened_on), ("baseline", plot.days.baseline_on)]
    if plot.role != "never treated":
        taken += [(visit.id, plot.days.first_dose_on + timedelta(days=day)) for visit, day in plot.attendance.days]
    for visit, on in taken:
        minute = int(rng.integers(96, 109)) * 5  # 8:00 to 9:00
        if on is None:
            continue
        for place, ((measure, _), (value, true)) in enumerate(_of_visit(plot.scores, visit, plot.days).items()):
            yield Score(measure, visit, setting.at(on, minute + place), value, true)


def _of_visit(scores: Scores, visit: str, days: Days) -> Scores:
    """The scores of one visit. Without a second appointment the whole first battery is filled in at screening."""
    if visit != "screening":
        return {key: pair for key, pair in scores.items() if key[1] == visit}
    battery = {key: pair for key, pair in scores.items() if key[1] == "baseline" and key[0] != PAIN}
    own = {(PAIN, "screening"): scores[PAIN, "screening"]}
    return own if days.baseline_on is not None else own | battery


# --- care and style -----------------------------------------------------------------------------------------------


def _course(plot: Plot, *, is_female: bool) -> Course:
    return Course(
        index=plot.index,
        is_treated=plot.role != "never treated",
        kind="iv" if plot.role == "intravenous only" else "im",
        screened_on=plot.days.screened_on,
        first_dose_on=plot.days.first_dose_on,
        last_on=plot.attendance.last_on,
        is_female=is_female,
        is_maintained=bool(plot.traits.is_maintained[0]),
        responder_class=int(plot.traits.responder_class[0]),
    )


def _style(index: int, rng: np.random.Generator) -> Style:
    """Where a test needs every variant to occur the person's number decides, elsewhere chance."""
    return Style(
        dose=DOSE_STYLES[index * 7 % len(DOSE_STYLES)],
        route=ROUTE_STYLES[index % len(ROUTE_STYLES)],
        promis=PROMIS_STYLES[index % len(PROMIS_STYLES)],
        has_items=index % 3 != 0,
        is_nested=index % 4 == 0,
        has_coded_answers=index % 5 > 1,
        writes_utc=bool(rng.random() < 0.10),
        weighs_in_pounds=bool(rng.random() < 0.15),
    )
