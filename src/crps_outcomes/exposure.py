"""Administrations into doses of ketamine base, sessions and series.

Rules and variants: mg as is; mg/kg times the latest weight before the dose; mL times the strength of the Medication;
strengths stated as hydrochloride divided by 1.1533 (10, 50 and 100 mg of base are 11.53, 57.67 and 115.33 mg of
hydrochloride: Ketalar prescribing information). Racemic ketamine and esketamine are never pooled.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from crps_outcomes import resources as fhir
from crps_outcomes.fhirtime import moment
from crps_outcomes.rejections import Rejection
from crps_outcomes.stages.screen import subject_id, written_date
from crps_outcomes.units import factor, unit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from crps_outcomes.study import Study

Row = dict[str, Any]
_KETAMINE = re.compile(r"(?<![\w(+)-])ketamine\b", re.IGNORECASE)  # not esketamine, S-ketamine or S(+)-ketamine
_ESKETAMINE = re.compile(r"\besketamine\b|\bS\s*(?:\(\+\))?\s*-\s*ketamine\b", re.IGNORECASE)
_MUSCLE = re.compile(r"\b(?:deltoid|gluteus|gluteal|vastus|ventrogluteal|muscle)\b", re.IGNORECASE)
_TEXT_ROUTES = {"im": "im", "intramuscular": "im", "iv": "iv", "intravenous": "iv", "sc": "sc", "subcutaneous": "sc"}
_LABEL_BASE_MG_PER_ML = (10.0, 50.0, 100.0)
_LARGE_WEIGHT_JUMP = 0.20


@dataclass(frozen=True)
class Weights:
    """Body weights of one person, in order of time."""

    days: tuple[date, ...] = ()
    kilograms: tuple[float, ...] = ()

    def before(self, day: date) -> tuple[float, date, bool] | None:
        """The latest weight at or before ``day``, its day, and whether it differs from the one before by over 20 %."""
        place = bisect_right(self.days, day)
        if not place:
            return None
        now = self.kilograms[place - 1]
        before = self.kilograms[place - 2] if place > 1 else now
        return now, self.days[place - 1], abs(now - before) > _LARGE_WEIGHT_JUMP * before


@dataclass(frozen=True)
class Dose:
    """A dose in mg of ketamine base, how it came about, and what to flag; or the rule that refused it."""

    mg: float | None = None
    basis: str = ""
    flags: tuple[str, ...] = ()
    rule: str = ""
    mg_per_kg: float | None = None


@dataclass(frozen=True)
class Pharmacy:
    """What is needed to read an administration: the study's codelists and the Medications it refers to."""

    study: Study
    medications: Mapping[str, fhir.Medication] = field(default_factory=dict)


def read_administration(given: fhir.MedicationAdministration, pharmacy: Pharmacy, weights: Weights) -> Row | Rejection:
    """One DOSES row without session and series, or the rule that refused the administration."""
    medication = _medication(given, pharmacy)
    if medication is None:
        return Rejection(given.ref, "medication-missing")
    if rule := _substance(medication, pharmacy.study):
        return Rejection(given.ref, rule)
    when = moment(written_date(given), pharmacy.study.protocol.timezone)
    if when.on is None:
        return Rejection(given.ref, "date-too-coarse" if written_date(given) else "date-missing")
    weight, flags = _weight(weights, when.on, pharmacy.study)
    dose = read_dose(given.dosage.dose, medication, weight, pharmacy.study)
    if dose.rule:
        return Rejection(given.ref, dose.rule)
    when_flags = ("date only",) if when.at is None else ()
    return {
        "source_ref": given.ref,
        "subject_id": subject_id(given),
        "given_at": when.at,
        "given_on": when.on,
        "session": None,
        "series": None,
        **_amount_and_route(given, dose, weight, (*flags, *when_flags), pharmacy.study),
    }


def _amount_and_route(
    given: fhir.MedicationAdministration, dose: Dose, weight: float | None, flags: tuple[str, ...], study: Study
) -> Row:
    route, route_flags = read_route(given.dosage, study)
    per_kg = dose.mg_per_kg if dose.mg_per_kg is not None else dose.mg / weight if dose.mg and weight else None
    return {
        "route": route,
        "dose_mg": dose.mg,
        "mg_per_kg": per_kg,
        "weight_kg": weight,
        "dose_basis": dose.basis,
        "flags": "; ".join((*dose.flags, *route_flags, *flags)),
    }


# --- the drug -----------------------------------------------------------------------------------------------------


def _medication(given: fhir.MedicationAdministration, pharmacy: Pharmacy) -> fhir.Medication | None:
    """The Medication an administration names: inline, contained or referenced; None when it cannot be found."""
    if given.medication_codeable_concept is not None:
        return fhir.Medication(code=given.medication_codeable_concept)
    reference = given.medication_reference or fhir.Reference()
    if reference.reference.startswith("#"):
        inner = (one for one in given.contained if one.get("id") == reference.reference[1:])
        return next((msgspec.convert(one, fhir.Medication) for one in inner), None)
    return pharmacy.medications.get(fhir.id_in(reference, "Medication"))


def _substance(medication: fhir.Medication, study: Study) -> str:
    """The rule that refuses this drug, or "" for racemic ketamine. A code decides before a text."""
    rules = study.protocol.exposure
    concepts = [medication.code, *(part.item_codeable_concept for part in medication.ingredient)]
    codes = [(coding.system, coding.code) for concept in concepts for coding in concept.coding]
    texts = " | ".join(text for concept in concepts for text in (concept.text, *(c.display for c in concept.coding)))
    if any(study.group_of(rules.excluded_drug_codelist, *code) for code in codes) or _ESKETAMINE.search(texts):
        return "not-racemic-ketamine"
    known = any(study.group_of(rules.drug_codelist, *code) for code in codes)
    return "" if known or _KETAMINE.search(texts) else "not-ketamine"


# --- the dose -----------------------------------------------------------------------------------------------------


def read_dose(
    quantity: fhir.Quantity | None, medication: fhir.Medication, weight_kg: float | None, study: Study
) -> Dose:
    """The dose in mg of base. A number without a unit, or a unit that is not mass, mass/kg or volume, is refused."""
    if quantity is None or quantity.value is None:
        return Dose(rule="dose-missing")
    read = next((read for target, read in _DOSE_KINDS.items() if _is(unit_of(quantity), target)), None)
    if read is None:
        return Dose(rule="dose-unit-unknown")
    dose = read(quantity, Dosing(medication, weight_kg, study))
    low, high = study.protocol.exposure.dose_range_mg
    if dose.mg is not None and not low <= dose.mg <= high:
        return Dose(rule="dose-out-of-range")
    return dose


@dataclass(frozen=True)
class Dosing:
    """What a dose may need beside its number: the Medication's strength and the person's weight."""

    medication: fhir.Medication
    weight_kg: float | None
    study: Study


def _is(unit: str, target: str) -> bool:
    if unit == target or "/" in unit or "/" in target:  # UCUM would also turn "%" into mg/kg: only true spellings
        return unit == target or (target == "mg/kg" and unit in {"ug/kg", "g/kg"})
    return factor(unit, target) is not None


def _from_mass(quantity: fhir.Quantity, dosing: Dosing) -> Dose:  # noqa: ARG001 - one signature for all kinds
    unit = unit_of(quantity)
    return Dose(_in(quantity, "mg"), "mg" if unit == "mg" else f"{unit} to mg")


def _from_weight(quantity: fhir.Quantity, dosing: Dosing) -> Dose:
    if dosing.weight_kg is None:
        return Dose(rule="dose-weight-missing")
    mg_per_kg = _in(quantity, "mg/kg")
    return Dose(mg_per_kg * dosing.weight_kg, "mg/kg x weight", mg_per_kg=mg_per_kg)


def _from_volume(quantity: fhir.Quantity, dosing: Dosing) -> Dose:
    strengths = [
        (part, strength)
        for part in dosing.medication.ingredient
        if part.strength is not None and (strength := mg_per_ml(part.strength)) is not None
    ]
    if len(strengths) != 1:
        return Dose(rule="dose-volume-without-strength")
    part, strength = strengths[0]
    mg, concept = _in(quantity, "mL") * strength, part.item_codeable_concept
    salt = "hydrochloride" in " ".join((concept.text, *(c.display for c in concept.coding))).casefold()
    if salt and strength not in _LABEL_BASE_MG_PER_ML:
        base = mg / dosing.study.protocol.exposure.hydrochloride_per_base
        return Dose(base, "mL x strength, hydrochloride to base", ("hydrochloride converted",))
    # The labels of ketamine hydrochloride state base: 10, 50 or 100 mg/mL.
    return Dose(mg, "mL x strength", ("strength read as base",) if salt else ())


_DOSE_KINDS: dict[str, Callable[[fhir.Quantity, Dosing], Dose]] = {
    "mg": _from_mass,
    "mg/kg": _from_weight,
    "mL": _from_volume,
}


def _in(quantity: fhir.Quantity, target: str) -> float:
    return (quantity.value or 0) * (factor(unit_of(quantity), target) or 0)


def mg_per_ml(strength: fhir.Ratio) -> float | None:
    """A strength in mg/mL, or None when numerator or denominator is not a mass in a volume."""
    top, bottom = strength.numerator, strength.denominator
    if top is None or bottom is None or top.value is None or not bottom.value:
        return None
    mass, volume = factor(unit_of(top), "mg"), factor(unit_of(bottom), "mL")
    return None if mass is None or volume is None else top.value * mass / (bottom.value * volume)


def _weight(weights: Weights, day: date, study: Study) -> tuple[float | None, tuple[str, ...]]:
    found = weights.before(day)
    if found is None:
        return None, ()
    kilograms, weighed_on, jumped = found
    if (day - weighed_on).days > study.protocol.exposure.weight_max_age_days:
        return None, (f"weight older than {study.protocol.exposure.weight_max_age_days} days",)
    return kilograms, ("weight jump over 20%",) if jumped else ()


# --- the route ----------------------------------------------------------------------------------------------------


def read_route(dosage: fhir.Dosage, study: Study) -> tuple[str, tuple[str, ...]]:
    """The route and its flags. A muscle as site is flagged, never taken for a route."""
    rules = study.protocol.exposure
    groups = {study.group_of(rules.route_codelist, coding.system, coding.code) for coding in dosage.route.coding}
    texts = {dosage.route.text.strip().casefold(), *(c.display.strip().casefold() for c in dosage.route.coding)}
    groups |= {
        _TEXT_ROUTES[text.removesuffix(" route")] for text in texts if text.removesuffix(" route") in _TEXT_ROUTES
    }
    groups.discard(None)
    if len(groups) == 1:
        return groups.pop() or "other", ()
    if groups or dosage.route.coding or dosage.route.text:
        return "other", ("route not recognised",)
    site = " ".join((dosage.site.text, *(coding.display for coding in dosage.site.coding)))
    return "not recorded", ("route not recorded", *(("site is a muscle",) if _MUSCLE.search(site) else ()))


# --- sessions and series --------------------------------------------------------------------------------------------


def with_sessions(rows: Iterable[Row], study: Study) -> list[Row]:
    """The rows with session and series numbers, for doses by the protocol's route only."""
    rules = study.protocol.exposure
    numbered: list[Row] = []
    by_subject: dict[str, list[Row]] = {}
    for row in rows:
        if row["route"] == rules.route:
            by_subject.setdefault(row["subject_id"], []).append(row)
        else:
            numbered.append(row)
    for own in by_subject.values():
        numbered.extend(_numbered(sorted(own, key=lambda row: (_instant(row), row["source_ref"])), study))
    return numbered


def _numbered(rows: list[Row], study: Study) -> list[Row]:
    rules = study.protocol.exposure
    session, series, numbered = 0, 0, []
    before: Row | None = None
    for row in rows:
        if before is None or not _same_session(before, row, rules.session_gap_hours):
            apart = before is None or (row["given_on"] - before["given_on"]).days > rules.series_gap_days
            session, series = session + 1, series + apart
        numbered.append(row | {"session": session, "series": series})
        before = row
    return numbered


def _same_session(before: Row, row: Row, gap_hours: float) -> bool:
    if before["given_at"] is None or row["given_at"] is None:
        return bool(before["given_on"] == row["given_on"])
    return bool(row["given_at"] - before["given_at"] <= timedelta(hours=gap_hours))


def _instant(row: Row) -> datetime:
    at: datetime | None = row["given_at"]
    return at or datetime.combine(row["given_on"], time(12), UTC)
