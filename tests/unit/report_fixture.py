"""A report's input for tests: an invented cohort with a plausible response, analysed and disclosed by the pipeline.

Every number is drawn from a fixed seed. No person stands behind any of them.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from cohort_tables import DAY_0, PAIN, Person, cohort, event, reading, rejected, the_study

from crps_outcomes.facts import Facts
from crps_outcomes.headlines import headlines
from crps_outcomes.plan_history import Difference, PlanChange, PlanRecord
from crps_outcomes.provenance import Provenance
from crps_outcomes.restatement import THEN, Again, FileChange, Reason, Restatement, Why
from crps_outcomes.stages.analyse import Analysis, analyse
from crps_outcomes.stages.compose import compose
from crps_outcomes.stages.disclose import disclose
from crps_outcomes.tables import CHANGES, DOSES, INTERCURRENT, LEDGER, Tables, build

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crps_outcomes.disclosure import Releasable
    from crps_outcomes.report_model import ReportModel

AS_OF = date(2026, 6, 12)
SEED = 20260612
HEADLINE_SECTIONS = ("endpoints", "pain", "responders", "function", "safety", "completeness", "quality")
TERMS = {
    "Dissociation or perceptual change": 0.16, "Nausea": 0.10, "Dizziness": 0.06, "Sedation beyond 60 minutes": 0.05,
    "Headache": 0.03, "Injection-site reaction": 0.02, "Vomiting": 0.012, "Distressing emergence reaction": 0.006,
}  # fmt: skip
TREATMENTS = {"gabapentinoid": 0.55, "SNRI": 0.3, "NSAID": 0.4, "opioid": 0.35}
REFUSED = {
    "duplicate": ("pull", 41), "superseded": ("pull", 18), "not-valid-fhir": ("screen", 7), "status-not-accepted": ("screen", 12),
    "value-out-of-range": ("tabulate", 3), "unit-unknown": ("tabulate", 5), "not-racemic-ketamine": ("tabulate", 2),
}  # fmt: skip
TYPES = ("AdverseEvent", "Condition", "Encounter", "MedicationAdministration", "MedicationRequest", "Observation", "Patient",
         "Procedure", "QuestionnaireResponse")  # fmt: skip


@cache
def tables(n: int = 64, seed: int = SEED) -> Tables:
    """The tables of a cohort of ``n`` enrolled people, most of them treated and followed up."""
    chance = np.random.default_rng([seed, n])
    people = [_person(chance, number) for number in range(n)]
    treated = [person for person in people if person.is_treated]
    made = cohort(
        people,
        observations=_readings(chance, treated),
        events=[*_events(chance, treated), *_treatments(chance, treated)],
        rejections=_refusals(n),
        doses=_doses(chance, treated),
    )
    return replace(made, ledger=_ledger(n), changes=_changes(), intercurrent=_afterwards(treated))


@cache
def analysis(n: int = 64) -> Analysis:
    reasons = {
        "membership not active": 12,
        "consent refused or withdrawn": 3,
        "consent expired": 0,
        "not at the source": 1,
    }
    return analyse(tables(n), the_study(), as_of=AS_OF, not_enrolled=reasons)


@cache
def releasable(n: int = 64, edition: str = "internal") -> Releasable:
    found = disclose(analysis(n), tables(n), the_study(), edition)
    return replace(found, restatement=restated(analysis(n).estimates, edition))


def restated(estimates: pd.DataFrame, edition: str, report: str = "evidence") -> Restatement:
    """What changed since an invented last report, whose figures are those of ``estimates``, some of them a little off."""
    rules = Restatement(
        run_id=f"{report}-{edition}-2026-06-05-0123456789ab", as_of="2026-06-05", snapshot="2" * 64,
        study=("6" * 64, "7" * 64), files=(FileChange("mappings/measures/pain_nrs.toml", "1" * 64, "3" * 64),),
        code=("d" * 64, "c" * 64), versions=(("weasyprint", "69.0", "70.0"),),
        plan=(PlanChange("2026-06-12", "b" * 64, "a" * 64, (Difference("outcomes: primary visit", "week 8", "week 4"),)),),
    )  # fmt: skip
    if edition == "release":
        return rules
    then = estimates[estimates["section"].isin(HEADLINE_SECTIONS)].reset_index(drop=True)
    fewer = (then["section"] == "pain") & (then["n"] > 3)
    then["n"] = then["n"].mask(fewer, then["n"] - 2)
    then["estimate"] = then["estimate"].mask(fewer, then["estimate"] + 0.2)
    figures = headlines(the_study(), the_study().reports[report], then)
    people = (("amended", 1), ("entered", 2))
    whys = {
        one.id: Why(people if one.section in {"pain", "quality"} else (), by_rules=one.section == "function")
        for one in figures
    }
    reasons = (Reason("entered", 2, 61, 38), Reason("left", 0, 0, 0), Reason("follow-up", 9, 143, 17), Reason("late", 1, 3, 0),
               Reason("amended", 2, 2, 1), Reason("entered-in-error", 1, 1, 1), Reason("deleted", 1, 1, 0))  # fmt: skip
    known = then.assign(estimate_id=THEN + then["estimate_id"])
    return replace(rules, reasons=reasons, then=known, whys=whys, again=Again(len(then) - 3, len(then)))


def provenance(edition: str = "internal") -> Provenance:
    """Digests that say nothing about the running code, so that golden files stay what they are."""
    return Provenance(
        snapshot="5" * 64, study="7" * 64, code="c" * 64, as_of=AS_OF, edition=edition, report="evidence",
        data_status="complete", source_kind="rest", selector="group: im-ketamine-crps",
        software={"python": "3.11", "weasyprint": "70.0"}, is_synthetic=True, compared_with="2" * 64,
        compared_with_on="2026-06-11", plan=PlanRecord("a" * 64, "2026-06-11", "2026-05-04"), valid_until="2026-07-17",
        before_run=f"evidence-{edition}-2026-06-05-0123456789ab", restated="b" * 64,
    )  # fmt: skip


def facts(n: int = 64, edition: str = "internal") -> Facts:
    return Facts(releasable(n, edition), the_study(), the_study().reports["evidence"], provenance(edition))


@cache
def model(n: int = 64, edition: str = "internal") -> ReportModel:
    return compose(releasable(n, edition), the_study(), the_study().reports["evidence"], provenance(edition))


# --- people ---------------------------------------------------------------------------------------------------------


class Story(NamedTuple):
    """What happens to one person: first pain score, response from 0 to 1, week from which nothing is heard, visits to come."""

    start: float
    response: float
    lost_from: int
    not_due: frozenset[str]


def _person(chance: np.random.Generator, number: int) -> Person:
    """Pain falls most in the first weeks and comes back in part; function follows it weakly."""
    start, response = chance.normal(7.1, 1.1), float(chance.beta(1.3, 1.9))
    lost_from = int(chance.choice([1, 2, 4, 8, 12, 26, 99], p=[0.02, 0.02, 0.03, 0.05, 0.05, 0.08, 0.75]))
    not_due = frozenset(("week_26",) if number % 6 == 0 else ()) | (
        frozenset(("week_12",)) if number % 12 == 0 else frozenset()
    )
    values = {
        measure: dict(_course(chance, measure, Story(start, response, lost_from, not_due)))
        for measure in _SCALES | {"pgic": (0, 0)}
    }
    has_start = chance.random() > 0.06
    if not has_start:
        values[PAIN].pop("baseline", None)
    return Person(
        f"s{number:04d}", values, doses_mg=(40.0,) if chance.random() < 0.94 else (), not_due=not_due,
        weight_kg=float(chance.normal(76, 14)), sex="female" if chance.random() < 0.76 else "male",
        crps_type=str(chance.choice(["I", "II", "not specified"], p=[0.72, 0.12, 0.16])),
        age_years=float(int(chance.normal(46, 12))), years_ill=float(chance.gamma(1.6, 2.0)) + 0.2,
    )  # fmt: skip


#: measure -> mean at the start, change of a full response
_SCALES = {
    PAIN: (None, -6.0), "promis_physical_function": (34.0, 8.0), "promis_pain_interference": (67.0, -11.0),
    "phq9": (12.0, -6.0), "gad7": (9.0, -4.0), "eq_vas": (46.0, 26.0),
}  # fmt: skip
_SHARE_LEFT = {"week_1": 0.8, "week_2": 0.95, "week_4": 1.0, "week_8": 0.9, "week_12": 0.75, "week_26": 0.5}


def _course(chance: np.random.Generator, measure: str, story: Story) -> Iterator[tuple[str, float]]:
    start, response, lost_from, not_due = story
    low, high = the_study().measures[measure].range
    middle, full = _SCALES.get(measure, (0, 0))
    spread = (high - low) * 0.05
    own = start if middle is None else chance.normal(middle, 2 * spread)
    if measure != "pgic":
        yield "baseline", float(np.clip(np.round(own), low, high))
    for visit, share in _SHARE_LEFT.items():
        week = int(visit.removeprefix("week_"))
        if visit in not_due or week >= lost_from or chance.random() < 0.04:
            continue
        if measure == "pgic":
            value = 5 - 4 * response * share + chance.normal(0, 0.6)
        else:
            value = own + full * response * share + chance.normal(0, spread)
        yield visit, float(np.clip(np.round(value), low, high))


# --- what happened to them ------------------------------------------------------------------------------------------


def _doses(chance: np.random.Generator, people: Sequence[Person]) -> pd.DataFrame:
    return build(DOSES, (row for person in people for row in _sessions(chance, person)))


def _sessions(chance: np.random.Generator, person: Person) -> Iterator[dict[str, Any]]:
    week, dose = 0.0, float(chance.choice([0.4, 0.5, 0.6]))
    for session in range(1, int(chance.integers(3, 11)) + 1):
        at = DAY_0 + timedelta(days=int(week * 7))
        route = "not recorded" if session == 3 and chance.random() < 0.05 else "im"
        mg = round(dose * (person.weight_kg or 75), 1)
        yield {
            "source_ref": f"MedicationAdministration/{person.id}-{session}", "subject_id": person.id, "given_at": at,
            "given_on": pd.Timestamp(at.date()), "route": route, "session": session if route == "im" else None,
            "series": 1 if route == "im" else None, "dose_mg": mg, "mg_per_kg": mg / (person.weight_kg or 75),
            "weight_kg": person.weight_kg, "dose_basis": "mg",
            "flags": "weight older than 90 days" if session > 7 else "route not recorded" if route != "im" else "",
        }  # fmt: skip
        week += float(chance.choice([0.5, 1, 1, 2, 3]))
        dose = min(dose + float(chance.choice([0, 0.05, 0.1, 0.2])), 1.4)


def _events(chance: np.random.Generator, people: Sequence[Person]) -> Iterator[dict[str, Any]]:
    number = 0
    for person in people:
        for term, rate in TERMS.items():
            for _ in range(int(chance.poisson(6 * rate))):
                number += 1
                severity = str(chance.choice(["mild", "moderate", "severe"], p=[0.7, 0.24, 0.06]))
                session = int(chance.integers(1, 7))
                yield event(number, person.id, term, severity=severity, session=session, category=_category(term))


def _category(term: str) -> str:
    """The kind of harm by the words of the term, as the pipeline finds it."""
    return min(the_study().groups_said(the_study().protocol.safety.event_codelist, term), default="")


def _treatments(chance: np.random.Generator, people: Sequence[Person]) -> Iterator[dict[str, Any]]:
    for number, person in enumerate(people):
        for term, share in TREATMENTS.items():
            if chance.random() < share:
                yield event(
                    90_000 + number,
                    person.id,
                    term,
                    kind="co-treatment",
                    status="active" if number % 3 else "stopped",
                    source_ref=f"MedicationRequest/{person.id}-{term}",
                )
        if chance.random() < 0.2:
            yield event(0, person.id, "sympathetic block", kind="procedure", source_ref=f"Procedure/{person.id}")


def _afterwards(people: Sequence[Person]) -> pd.DataFrame:
    """An opioid started in one person of four and a block in one of seven, every second before week 4, not by chance."""
    kinds = {"treatment started": ("opioid", 4), "procedure": ("sympathetic block", 7)}
    return build(INTERCURRENT, (
        {"subject_id": person.id, "kind": kind, "term": term, "happened_on": pd.Timestamp(DAY_0.date()) + pd.Timedelta(days=day),
         "study_day": day, "source_ref": f"{kind}/{person.id}"}
        for kind, (term, every) in kinds.items() for place, person in enumerate(people[::every]) for day in [40 - 28 * (place % 2)]
    ))  # fmt: skip


def _readings(chance: np.random.Generator, people: Sequence[Person]) -> Iterator[dict[str, Any]]:
    for place, person in enumerate(people):
        number = 1000 * (place + 1)
        if chance.random() < 0.9:
            start = float(chance.normal(126, 12))
            for offset, minutes in enumerate((-10, 20, 60)):
                rise = 0 if minutes < 0 else float(chance.normal(16, 9))
                yield reading(number + offset, person.id, "systolic_pressure", round(start + rise), minutes)
                yield reading(
                    number + 10 + offset, person.id, "diastolic_pressure", round(0.6 * (start + rise)), minutes
                )
            yield reading(number + 20, person.id, "oxygen_saturation", round(min(99, chance.normal(96, 2))), 20)
        if chance.random() < 0.8:
            at = pd.Timestamp(DAY_0.date()) + pd.Timedelta(days=30)
            for offset, measure in enumerate(("alt", "ast")):
                value = float(np.round(chance.lognormal(3.2, 0.4)))
                yield reading(number + 30 + offset, person.id, measure, value, None, taken_on=at, upper_normal=40.0)


def _refusals(n: int) -> list[dict[str, Any]]:
    rows = []
    for rule, (stage, many) in REFUSED.items():
        for number in range(max(1, many * n // 64)):
            rows.append(
                rejected(len(rows) + number + 1, rule, stage=stage, resource_ref=f"Observation/{rule}-{number}")
            )
    return rows


def _changes() -> pd.DataFrame:
    seen = [("Observation", "changed", 2), ("Observation", "entered-in-error", 1), ("Observation", "new", 1204),
            ("QuestionnaireResponse", "deleted", 1)]  # fmt: skip
    return build(CHANGES, ({"resource_type": name, "change": change, "n": n} for name, change, n in seen))


def _ledger(n: int) -> pd.DataFrame:
    return build(LEDGER, (
        {
            "query_id": f"q{place:02d}", "part": 1, "resource_type": name, "asked": 200, "declared": n * (place + 1),
            "received": n * (place + 1), "distinct": n * (place + 1), "accepted": n * (place + 1), "rejected": 0, "hole": "",
        }
        for place, name in enumerate(TYPES)
    ))  # fmt: skip
