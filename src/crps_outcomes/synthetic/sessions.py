"""What happens at the clinic: injections, vital signs around them, adverse events, body weight, liver tests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from crps_outcomes.synthetic.options import stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crps_outcomes.synthetic.people import Setting
    from crps_outcomes.synthetic.response import Numbers

#: Days after the first dose: twice a week, for some a third week of that, weekly to week 6, then every four weeks.
TWICE_WEEKLY = (0, 3, 7, 10)
THIRD_WEEK = (14, 17)
WEEKLY = (21, 28, 35, 42)
MAINTENANCE = (70, 98, 126, 154, 182)
SHARE_THIRD_WEEK, SHARE_SKIPPED_WEEKLY = 0.4, 0.30
SHARE_UNMONITORED, SHARE_BOOSTED = 0.08, 0.12

START_MG_PER_KG, STEP_MG_PER_KG, MOST_MG_PER_KG = 0.4, 0.1, 1.0
DOSE_STEP_MG = 2.5

#: Minutes from the first injection; the rise of pressure at each, as a share of its peak.
VITALS_AT: Mapping[int, float] = {-10: 0.0, 15: 0.8, 30: 1.0, 60: 0.5, 90: 0.15}
#: SD of one reading: systolic, diastolic, heart rate, breathing rate, saturation.
NOISE = np.array([4.0, 3.0, 4.0, 1.3, 0.7])
SHARE_DIPS = 0.01  # sessions in which the saturation falls below 90 %
HEART_RATE_AT, BREATHING_AT = (-10, 30, 60), (-10, 30)

#: Chance per session at 0.7 mg/kg.
ADVERSE_EVENTS: Mapping[str, float] = {
    "nausea": 0.07,
    "vomiting": 0.02,
    "dissociation": 0.10,
    "dizziness": 0.08,
    "raised blood pressure": 0.03,
    "headache": 0.03,
    "anxiety": 0.02,
    "sedation": 0.05,
}
REFERENCE_MG_PER_KG = 0.7
SEVERITIES, SEVERITY_SHARES = ("mild", "moderate", "severe"), (0.68, 0.27, 0.05)
#: Who has the one serious event, and whose liver values rise, by number: (every how many, which one).
SERIOUS, LIVER_RISE = (53, 31), (37, 9)
EARLIER_INTRAVENOUS, LATER_SUBCUTANEOUS = (23, 4), (29, 12)


@dataclass(frozen=True)
class Course:
    """What decides a person's treatment."""

    index: int
    is_treated: bool
    kind: str  # route of the sessions: "im", or "iv" for people who only ever had infusions
    screened_on: date
    first_dose_on: date
    last_on: date
    is_female: bool
    is_maintained: bool
    responder_class: int


@dataclass(frozen=True)
class Vital:
    """One round of vital signs. Heart and breathing rate are not taken every time."""

    minute: int
    at: datetime
    systolic: int
    diastolic: int
    saturation: int
    heart_rate: int | None
    respiratory_rate: int | None


@dataclass(frozen=True)
class Event:
    """An adverse event of a session."""

    term: str
    severity: str
    at: datetime
    is_serious: bool = False


@dataclass(frozen=True)
class Session:
    """Injections of one visit to the clinic; ``kind`` is the route by which the drug is given."""

    number: int
    kind: str  # "im", "iv" or "sc"
    at: datetime
    doses_mg: tuple[float, ...]  # first injection and booster, ketamine base
    mg_per_kg: float
    vitals: tuple[Vital, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Weighing:
    at: datetime
    kg: float


@dataclass(frozen=True)
class Liver:
    at: datetime
    alt: int
    ast: int


@dataclass(frozen=True)
class Care:
    """All care of one person, in order of time."""

    sessions: tuple[Session, ...]
    weighings: tuple[Weighing, ...]
    liver: tuple[Liver, ...]


def course_of_treatment(course: Course, setting: Setting) -> Care:
    """Sessions, weighings and liver tests from screening to the last day with data."""
    rng = stream(setting.options, course.index, "sessions")
    days = [day for day in _session_days(rng, course) if course.first_dose_on + timedelta(days=day) <= course.last_on]
    if not course.is_treated:
        days = []
    weighings = tuple(_weighings(rng, course, days, setting))
    injected = tuple(_sessions(rng, course, days, weighings, setting))
    return Care(
        sessions=(*_other_routes(course, setting), *injected),
        weighings=weighings,
        liver=tuple(_liver(rng, course, days, setting)),
    )


def _session_days(rng: np.random.Generator, course: Course) -> list[int]:
    third = THIRD_WEEK if rng.random() < SHARE_THIRD_WEEK else ()
    weekly = [day for day in WEEKLY if rng.random() >= SHARE_SKIPPED_WEEKLY]
    return [*TWICE_WEEKLY, *third, *weekly, *(MAINTENANCE if course.is_maintained else ())]


def _weighings(rng: np.random.Generator, course: Course, days: list[int], setting: Setting) -> Iterator[Weighing]:
    """Weight at screening and then every 4 to 8 weeks, at a session."""
    centre, spread = (72, 14) if course.is_female else (86, 15)
    weight = float(np.clip(rng.normal(centre, spread), 46, 140))
    yield Weighing(setting.at(course.screened_on, 565), round(weight, 1))
    due = course.screened_on + timedelta(days=28)
    for on in (course.first_dose_on + timedelta(days=day) for day in days):
        wait, drift = int(rng.integers(25, 50)), float(rng.normal(0, 0.006))
        if on >= due:
            weight *= 1 + drift
            yield Weighing(setting.at(on, 550), round(weight, 1))
            due = on + timedelta(days=wait)


# --- injections ---------------------------------------------------------------------------------------------------


def _sessions(
    rng: np.random.Generator, course: Course, days: list[int], weighings: tuple[Weighing, ...], setting: Setting
) -> Iterator[Session]:
    """Doses go up step by step to a person's own most (higher where pain does not respond) and down after trouble."""
    most = min(rng.uniform(0.6, 1.0) + 0.1 * (course.responder_class == 2), MOST_MG_PER_KG)
    wanted = START_MG_PER_KG
    resting = rng.normal((124, 76, 74), (11, 7, 9))
    for place, day in enumerate(days):
        at = setting.at(course.first_dose_on + timedelta(days=day), int(rng.integers(38, 57)) * 15)
        weight = next(one.kg for one in reversed(weighings) if one.at <= at)
        doses = _doses(rng, wanted * weight)
        per_kg = sum(doses) / weight
        events = tuple(_events(rng, at, per_kg, setting.options.adverse_event_slope))
        if _is_serious_session(course.index, place, len(days)):
            events = (*events, Event("raised blood pressure", "severe", at + timedelta(minutes=35), is_serious=True))
        vitals = tuple(_vitals(rng, at, per_kg, resting, events))
        yield Session(
            place + 1, course.kind, at, doses, per_kg, () if rng.random() < SHARE_UNMONITORED else vitals, events
        )
        trouble = any(event.severity != "mild" for event in events)
        wanted = float(np.clip(wanted + (-0.1 if trouble else STEP_MG_PER_KG), 0.3, most))


def _doses(rng: np.random.Generator, wanted_mg: float) -> tuple[float, ...]:
    """The injection rounded to what a syringe shows, and now and then a fifth more as a booster."""
    boosted = rng.random() < SHARE_BOOSTED
    first = _to_step(wanted_mg)
    return (first, _to_step(0.2 * wanted_mg)) if boosted else (first,)


def _to_step(mg: float) -> float:
    return max(round(mg / DOSE_STEP_MG), 1) * DOSE_STEP_MG


def _is_serious_session(index: int, place: int, n_sessions: int) -> bool:
    return index % SERIOUS[0] == SERIOUS[1] and place == min(2, n_sessions - 1)


def _events(rng: np.random.Generator, at: datetime, mg_per_kg: float, slope: float) -> Iterator[Event]:
    for term, base in ADVERSE_EVENTS.items():
        happens = rng.random() < adverse_event_chance(base, mg_per_kg, slope)
        severity = SEVERITIES[int(np.searchsorted(np.cumsum(SEVERITY_SHARES), rng.random(), side="right").clip(0, 2))]
        minute = int(rng.integers(2, 13)) * 5
        if happens:
            yield Event(term, severity, at + timedelta(minutes=minute))


def adverse_event_chance(base: float, mg_per_kg: float, slope: float) -> float:
    """The chance of an event in a session of this dose; ``base`` is the chance at 0.7 mg/kg."""
    return float(min(base * np.exp(slope * (mg_per_kg - REFERENCE_MG_PER_KG)), 0.95))


def _vitals(
    rng: np.random.Generator, at: datetime, mg_per_kg: float, resting: Numbers, events: tuple[Event, ...]
) -> Iterator[Vital]:
    peak = 6 + 16 * mg_per_kg + rng.normal(0, 5) + 25 * any(event.term == "raised blood pressure" for event in events)
    dips = rng.random() < SHARE_DIPS
    systolic, diastolic, heart = resting.tolist()
    for minute, share in VITALS_AT.items():
        noise = (NOISE * rng.standard_normal(len(NOISE))).tolist()
        saturation = 97.6 + noise[4] - 1.2 * share * mg_per_kg - (9 if dips and minute == 30 else 0)
        yield Vital(
            minute=minute,
            at=at + timedelta(minutes=minute),
            systolic=_whole(systolic + noise[0] + share * peak, 85, 230),
            diastolic=_whole(diastolic + noise[1] + 0.55 * share * peak, 45, 130),
            saturation=_whole(saturation, 82, 100),
            heart_rate=_whole(heart + noise[2] + 9 * share, 40, 160) if minute in HEART_RATE_AT else None,
            respiratory_rate=_whole(15 + noise[3], 8, 30) if minute in BREATHING_AT else None,
        )


def _whole(value: float, low: int, high: int) -> int:
    return min(max(round(value), low), high)


# --- other routes and liver tests ---------------------------------------------------------------------------------


def _other_routes(course: Course, setting: Setting) -> Iterator[Session]:
    """Series by another route: before screening, or weeks after the first injection. They are never IM exposure."""
    every, which = EARLIER_INTRAVENOUS
    if course.index % every == which:
        yield from _plain_series("iv", course.screened_on - timedelta(days=50), 5, 30.0, setting)
    every, which = LATER_SUBCUTANEOUS
    later = course.first_dose_on + timedelta(days=50)
    if course.index % every == which and later + timedelta(days=10) <= course.last_on:
        yield from _plain_series("sc", later, 3, 25.0, setting)


def _plain_series(kind: str, first_on: date, n_sessions: int, mg: float, setting: Setting) -> Iterator[Session]:
    for place in range(n_sessions):
        at = setting.at(first_on + timedelta(days=2 * place), 600)
        yield Session(place + 1, kind, at, (mg,), 0.0)


def _liver(rng: np.random.Generator, course: Course, days: list[int], setting: Setting) -> Iterator[Liver]:
    """ALT and AST at screening and every 4 to 6 weeks, at a session."""
    usual = np.exp(rng.normal((3.1, 3.05), 0.3))
    yield Liver(setting.at(course.screened_on, 570), *_enzymes(rng, usual))
    due = course.first_dose_on + timedelta(days=28)
    rises = course.index % LIVER_RISE[0] == LIVER_RISE[1]
    for on in (course.first_dose_on + timedelta(days=day) for day in days):
        wait, values = int(rng.integers(28, 42)), _enzymes(rng, usual)
        if on >= due:
            yield Liver(setting.at(on, 555), *((values[0] + 110, values[1] + 80) if rises else values))
            due = on + timedelta(days=wait)


def _enzymes(rng: np.random.Generator, usual: Numbers) -> tuple[int, int]:
    alt, ast = np.clip(np.rint(usual * np.exp(rng.normal(0, 0.15, 2))), 7, 110)
    return int(alt), int(ast)
