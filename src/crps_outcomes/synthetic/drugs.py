"""How an injection of ketamine is written down: every variant of dose, strength and route the handbook lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crps_outcomes.synthetic import fhir_resources as fhir

if TYPE_CHECKING:
    from collections.abc import Callable

    from crps_outcomes.definitions import ListedCode
    from crps_outcomes.study import Study
    from crps_outcomes.synthetic.fhir_resources import Json
    from crps_outcomes.synthetic.people import Person
    from crps_outcomes.synthetic.sessions import Session

RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
BASE_MG_PER_ML = 50.0
HYDROCHLORIDE_MG_PER_ML = 57.67  # the label's 50 mg of base
BASE_MEDICATION = "ketamine-50-mg-per-ml"
HYDROCHLORIDE_MEDICATION = "ketamine-hydrochloride-57.67-mg-per-ml"
MUSCLES = ("left deltoid muscle", "right deltoid muscle", "left vastus lateralis muscle")
ROUTE_TEXTS = {"im": "IM", "iv": "intravenous", "sc": "subcutaneous"}


@dataclass(frozen=True)
class Drugs:
    """What the study's codelists call ketamine and the routes."""

    ketamine: ListedCode
    routes: dict[str, dict[str, ListedCode]]  # "snomed" or "edqm" -> route -> code
    hydrochloride_per_base: float


@dataclass(frozen=True)
class Injection:
    """medication[x] and dosage of one administration, and the dose of base it stands for."""

    drug: Json
    dosage: Json
    mg: float | None
    mg_per_kg: float | None
    variant: str


@dataclass(frozen=True)
class Amount:
    """The dose element of one variant, the Medication it needs, and the base it stands for."""

    dose: Json
    drug: Json
    mg: float | None
    mg_per_kg: float | None = None


def drugs_of(study: Study) -> Drugs:
    """Ketamine and routes as this study's codelists spell them."""
    rules = study.protocol.exposure
    ketamine = next(code for code in study.codelists[rules.drug_codelist] if code.system == RXNORM)
    routes: dict[str, dict[str, ListedCode]] = {"snomed": {}, "edqm": {}}
    for code in study.codelists[rules.route_codelist]:
        family = "edqm" if "edqm" in code.system else "snomed"
        routes[family].setdefault(code.group, code)
    return Drugs(ketamine, routes, rules.hydrochloride_per_base)


def medications(drugs: Drugs) -> dict[str, Json]:
    """The Medication resources that administrations refer to, by id."""
    return {
        BASE_MEDICATION: fhir.medication(
            BASE_MEDICATION,
            fhir.concept([drugs.ketamine], "ketamine 50 mg/mL, stated as base"),
            fhir.concept([drugs.ketamine]),
            (BASE_MG_PER_ML, 1),
        ),
        HYDROCHLORIDE_MEDICATION: fhir.medication(
            HYDROCHLORIDE_MEDICATION,
            fhir.concept([drugs.ketamine], "ketamine hydrochloride 57.67 mg/mL"),
            fhir.concept([drugs.ketamine], "ketamine hydrochloride"),
            (HYDROCHLORIDE_MG_PER_ML, 1),
        ),
    }


def give(person: Person, session: Session, mg: float, drugs: Drugs) -> Injection:
    """One injection in this person's way of writing; infusions and subcutaneous doses always come in mg."""
    variant = person.style.dose if session.kind == "im" else "mg"
    weight = next((one.kg for one in reversed(person.weighings) if one.at <= session.at), person.weighings[0].kg)
    amount = AMOUNTS[variant](mg, weight, drugs)
    site = {"site": {"text": MUSCLES[session.number % len(MUSCLES)]}} if session.kind == "im" else {}
    dosage = {**site, "route": route(drugs, person.style.route, session.kind), "dose": amount.dose}
    return Injection(amount.drug, dosage, amount.mg, amount.mg_per_kg, variant)


def route(drugs: Drugs, style: str, kind: str) -> Json:
    """The route as a SNOMED CT or EDQM code, or in words where the list has no code."""
    code = drugs.routes.get(style, {}).get(kind)
    return fhir.concept([code]) if code else {"text": ROUTE_TEXTS[kind]}


# --- variants of the dose -----------------------------------------------------------------------------------------


def plain(drugs: Drugs) -> Json:
    """Ketamine by code, without a strength."""
    return {"medicationCodeableConcept": fhir.concept([drugs.ketamine], "ketamine")}


def _in_mg(mg: float, weight_kg: float, drugs: Drugs) -> Amount:  # noqa: ARG001 - one signature for all variants
    return Amount(fhir.quantity(mg, "mg"), plain(drugs), mg)


def _in_mcg(mg: float, weight_kg: float, drugs: Drugs) -> Amount:  # noqa: ARG001
    written = {"value": fhir.number(1000 * mg), "unit": "mcg", "system": fhir.UCUM, "code": "ug"}
    return Amount(written, plain(drugs), mg)


def _in_grams(mg: float, weight_kg: float, drugs: Drugs) -> Amount:  # noqa: ARG001
    return Amount(fhir.quantity(mg / 1000, "g"), plain(drugs), mg)


def _per_kg(mg: float, weight_kg: float, drugs: Drugs) -> Amount:
    per_kg = round(mg / weight_kg, 2)
    return Amount(fhir.quantity(per_kg, "mg/kg"), plain(drugs), None, per_kg)


def _volume(mg: float, weight_kg: float, drugs: Drugs) -> Amount:  # noqa: ARG001
    referred = {"medicationReference": {"reference": f"Medication/{BASE_MEDICATION}"}}
    return Amount(fhir.quantity(mg / BASE_MG_PER_ML, "mL"), referred, mg)


def _contained(mg: float, weight_kg: float, drugs: Drugs) -> Amount:  # noqa: ARG001
    inner = fhir.medication(
        "vial", fhir.concept([drugs.ketamine], "ketamine 500 mg in 10 mL"), fhir.concept([drugs.ketamine]), (500, 10)
    )
    return Amount(fhir.quantity(mg / BASE_MG_PER_ML, "mL"), _inside(inner), mg)


def _label_strength(mg: float, weight_kg: float, drugs: Drugs) -> Amount:  # noqa: ARG001
    inner = fhir.medication(
        "vial",
        fhir.concept([drugs.ketamine], "ketamine hydrochloride injection, 50 mg/mL"),
        fhir.concept([drugs.ketamine], "ketamine hydrochloride"),
        (BASE_MG_PER_ML, 1),
    )
    return Amount(fhir.quantity(mg / BASE_MG_PER_ML, "mL"), _inside(inner), mg)


def _hydrochloride(mg: float, weight_kg: float, drugs: Drugs) -> Amount:  # noqa: ARG001
    ml = round(mg / BASE_MG_PER_ML, 2)
    referred = {"medicationReference": {"reference": f"Medication/{HYDROCHLORIDE_MEDICATION}"}}
    base = ml * HYDROCHLORIDE_MG_PER_ML / drugs.hydrochloride_per_base
    return Amount(fhir.quantity(ml, "mL"), referred, base)


def _inside(medication: Json) -> Json:
    return {"contained": [medication], "medicationReference": {"reference": f"#{medication['id']}"}}


AMOUNTS: dict[str, Callable[[float, float, Drugs], Amount]] = {
    "mg": _in_mg,
    "mcg": _in_mcg,
    "g": _in_grams,
    "mg/kg": _per_kg,
    "mL": _volume,
    "contained": _contained,
    "label strength": _label_strength,
    "hydrochloride": _hydrochloride,
}
