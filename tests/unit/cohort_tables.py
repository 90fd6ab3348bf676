"""Small cohorts for tests: people in words, the pipeline's tables out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crps_outcomes.context import treatment_table
from crps_outcomes.estimators import is_responder
from crps_outcomes.study import Study, load, locate
from crps_outcomes.tables import (
    CONTEXT,
    DOSES,
    EVENTS,
    LEDGER,
    OBSERVATIONS,
    OUTCOMES,
    REJECTIONS,
    SUBJECTS,
    Tables,
    build,
    finish,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

DAY_0 = datetime(2025, 1, 6, 10, tzinfo=UTC)
AS_OF = date(2026, 6, 30)
PAIN = "pain_nrs"
FUNCTION = "promis_physical_function"


@cache
def the_study() -> Study:
    """The study folder of this checkout, with fewer rounds of chance, so that tests take milliseconds."""
    study = load(locate())
    plan = study.protocol.plan
    few = plan.model_copy(update={
        "repeated_measures": plan.repeated_measures.model_copy(update={"bootstrap_samples": 20}),
        "missing_data": plan.missing_data.model_copy(update={"imputations": 5}),
        "precision": plan.precision.model_copy(update={"simulations": 5}),
    })  # fmt: skip
    return replace(study, protocol=study.protocol.model_copy(update={"plan": few}))


@dataclass(frozen=True)
class Person:
    """One enrolled person. ``known``: measure -> visit -> value; a visit without value is missing or ``not_due``.

    ``doses_mg``: one intramuscular session a week from day 0, one injection each; none means never treated.
    """

    id: str
    known: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    doses_mg: tuple[float | None, ...] = (40.0,)
    weight_kg: float | None = 80.0
    not_due: frozenset[str] = frozenset()
    sex: str = "female"
    crps_type: str = "I"
    age_years: float | None = 45.0
    years_ill: float | None = 3.0

    @property
    def is_treated(self) -> bool:
        return bool(self.doses_mg) and self.crps_type != "no diagnosis"

    @property
    def has_baseline(self) -> bool:
        return self.is_treated and "baseline" in self.known.get(PAIN, {})

    @property
    def is_analysed(self) -> bool:
        return self.has_baseline and any(visit != "baseline" for visit in self.known.get(PAIN, {}))


def cohort(
    people: Iterable[Person],
    *,
    observations: Iterable[Mapping[str, Any]] = (),
    events: Iterable[Mapping[str, Any]] = (),
    rejections: Iterable[Mapping[str, Any]] = (),
    doses: pd.DataFrame | None = None,
) -> Tables:
    """All tables of a cohort; ``doses`` replaces the weekly sessions."""
    listed, events = tuple(people), build(EVENTS, events)
    first_days = {one.id: DAY_0.date() for one in listed if one.is_treated}
    return Tables(
        context=build(CONTEXT, (_context(one) for one in listed)),
        treatments=treatment_table(events, first_days, the_study()),
        subjects=build(SUBJECTS, (_subject(one) for one in listed)),
        doses=build(DOSES, (row for one in listed for row in _doses(one))) if doses is None else doses,
        observations=build(OBSERVATIONS, observations),
        events=events,
        outcomes=_outcomes([one for one in listed if one.is_treated]),
        rejections=build(REJECTIONS, rejections),
        ledger=build(LEDGER, ()),
    )


def with_pain(number: int, *values: float | None, **more: Any) -> Person:
    """A person whose pain at baseline, week 1, 2, 4, 8, 12 and 26 is ``values``, None where there is none."""
    visits = ("baseline", *(visit.id for visit in the_study().protocol.visits))
    known = {visit: value for visit, value in zip(visits, values, strict=False) if value is not None}
    return Person(f"p{number:04d}", {PAIN: known, **more.pop("others", {})}, **more)


def event(number: int, subject_id: str, term: str, **more: Any) -> dict[str, Any]:
    """An adverse event on day 0, an hour after the first injection, in session 1."""
    at = DAY_0 + timedelta(hours=1)
    return {
        "source_ref": f"AdverseEvent/{number}", "subject_id": subject_id, "kind": "adverse event", "term": term,
        "onset_at": at, "onset_on": _day(at), "severity": "mild", "is_serious": False, "session": 1, "category": "",
        "status": "", **more,
    }  # fmt: skip


def reading(
    number: int, subject_id: str, measure: str, value: float, minutes: float | None, **more: Any
) -> dict[str, Any]:
    """A value some minutes after the first injection of day 0; None gives the day only."""
    at = None if minutes is None else DAY_0 + timedelta(minutes=minutes)
    return {
        "source_ref": f"Observation/{number}", "item": "", "subject_id": subject_id, "measure": measure,
        "value": value, "unit": "", "taken_at": at, "taken_on": _day(at or DAY_0), "status": "final", "version": "1",
        "upper_normal": None, "derivation": "", **more,
    }  # fmt: skip


def rejected(number: int, rule: str, **more: Any) -> dict[str, Any]:
    return {
        "resource_ref": f"Observation/r{number}", "resource_type": "Observation", "rule": rule,
        "reason": "words about the rule", "stage": "tabulate", **more,
    }  # fmt: skip


def random_people(seed: int, n: int, *, share_lost: float = 0.2, share_treated: float = 0.95) -> list[Person]:
    """People whose pain falls by about 2 points, with values missing at random; every outcome measure is filled."""
    chance = np.random.default_rng(seed)
    return [_random_person(chance, number, share_lost, share_treated) for number in range(n)]


def random_events(seed: int, people: Sequence[Person], terms: Sequence[str]) -> list[dict[str, Any]]:
    """About one adverse event for every second treated person, the first terms being the more frequent ones."""
    chance = np.random.default_rng(seed)
    treated = [one for one in people if one.is_treated]
    weights = 1 / np.arange(1, len(terms) + 1)
    rows = []
    for number in range(len(treated) // 2):
        person = treated[int(chance.integers(len(treated)))]
        term = str(chance.choice(terms, p=weights / weights.sum()))
        severity = str(chance.choice(["mild", "moderate", "severe"], p=[0.7, 0.2, 0.1]))
        rows.append(event(number, person.id, term, severity=severity))
    return rows


def _random_person(chance: np.random.Generator, number: int, lost: float, treated: float) -> Person:
    study = the_study()
    visits = [visit.id for visit in study.protocol.visits]
    values: dict[str, dict[str, float]] = {}
    for measure in (one for one in study.measures.values() if one.role == "outcome"):
        low, high = measure.range
        known = {visit: _clipped(chance.normal(0.45, 0.2), low, high) for visit in visits if chance.random() > lost}
        if measure.domain != "global change" and chance.random() > lost / 4:
            known["baseline"] = _clipped(chance.normal(0.7, 0.12), low, high)
        values[measure.id] = known
    doses = tuple(float(chance.integers(20, 80)) for _ in range(int(chance.integers(1, 9))))
    return Person(
        f"p{number:04d}", values, doses if chance.random() < treated else (),
        sex=str(chance.choice(["female", "male", "unknown"], p=[0.7, 0.28, 0.02])),
        crps_type=str(chance.choice(["I", "II", "not specified"], p=[0.7, 0.2, 0.1])),
        age_years=float(chance.integers(20, 75)), years_ill=float(chance.uniform(0.3, 12)),
        not_due=frozenset(("week_26",) if chance.random() < 0.15 else ()),
    )  # fmt: skip


def _clipped(share: float, low: float, high: float) -> float:
    return float(np.round(np.clip(low + share * (high - low), low, high)))


def _subject(person: Person) -> dict[str, Any]:
    onset = None if person.years_ill is None else _day(DAY_0 - timedelta(days=round(person.years_ill * 365.25)))
    return {
        "subject_id": person.id, "enrolled_on": _day(DAY_0),
        "first_dose_at": DAY_0 if person.is_treated else None,
        "first_dose_on": _day(DAY_0) if person.is_treated else None,
        "sex": person.sex, "age_years": person.age_years, "crps_type": person.crps_type,
        "crps_match": "" if person.crps_type == "no diagnosis" else "icd-10-cm", "onset_on": onset,
        "is_treated": person.is_treated, "has_baseline": person.has_baseline, "is_analysed": person.is_analysed,
        "exclusion": "" if person.is_analysed else "left",
    }  # fmt: skip


def _context(person: Person) -> dict[str, Any]:
    """The context of one person: the limb by a letter of the id, so that no random stream moves."""
    limbs, states = ("upper", "upper", "lower", "not recorded"), ("clinical", "research", "not known")
    number = int(person.id[1:]) if person.id[1:].isdigit() else 0
    return {
        "subject_id": person.id, "limb": limbs[number % 4], "side": "right", "limb_match": "code",
        "years_since_onset": person.years_ill, "onset_precision": "day", "budapest": states[number % 3],
        "n_tried": None, "refractory": ("yes", "no")[number % 5 == 0],
    }  # fmt: skip


def _doses(person: Person) -> Iterator[dict[str, Any]]:
    for number, mg in enumerate(person.doses_mg, 1):
        at = DAY_0 + timedelta(weeks=number - 1)
        known = mg is not None and person.weight_kg is not None
        yield {
            "source_ref": f"MedicationAdministration/{person.id}-{number}", "subject_id": person.id, "given_at": at,
            "given_on": _day(at), "route": "im", "session": number, "series": 1, "dose_mg": mg,
            "mg_per_kg": mg / person.weight_kg if known else None, "weight_kg": person.weight_kg,
            "dose_basis": "mg", "flags": "" if known else "weight older than 90 days",
        }  # fmt: skip


def _outcomes(people: Sequence[Person]) -> pd.DataFrame:
    study = the_study()
    visits = ["baseline", *(visit.id for visit in study.protocol.visits)]
    rows = [
        _outcome(person, measure.id, visit)
        for person in people
        for measure in study.measures.values()
        if measure.role == "outcome"
        for visit in visits
        if not (visit == "baseline" and measure.domain == "global change")
    ]
    frame = pd.DataFrame.from_records(rows, columns=list(OUTCOMES.columns))
    value, baseline = frame["value"].astype("Float64"), frame["baseline"].astype("Float64")
    later = frame["visit"] != "baseline"
    change = (value - baseline).where(later)
    frame = frame.assign(change=change, percent_change=100 * change / baseline.mask(baseline == 0))
    directions = {measure.id: measure.direction for measure in study.measures.values()}
    for percent in (30, 50):
        lower = is_responder(baseline, value, percent, "lower")
        higher = is_responder(baseline, value, percent, "higher")
        is_higher = frame["measure"].map(directions) == "higher"
        frame[f"is_responder_{percent}"] = lower.mask(is_higher, higher).where(later)
    return finish(OUTCOMES, frame)


def _outcome(person: Person, measure: str, visit: str) -> dict[str, Any]:
    known = person.known.get(measure, {})
    value = known.get(visit)
    state = "observed" if value is not None else "not due" if visit in person.not_due else "missing"
    return {
        "subject_id": person.id, "measure": measure, "visit": visit, "value": value, "baseline": known.get("baseline"),
        "state": state, "derivation": "", "source_refs": "", "taken_on": None, "study_day": None,
    }  # fmt: skip


def _day(at: datetime) -> pd.Timestamp:
    return pd.Timestamp(at.date())
