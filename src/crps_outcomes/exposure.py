"""Administrations into doses of ketamine base, sessions and series.

Rules and variants: mg as is; mg/kg times the latest weight before the dose; mL times the strength of the Medication;
strengths stated as hydrochloride divided by 1.1533 (10, 50 and 100 mg of base are 11.53, 57.67 and 115.33 mg of
hydrochloride: Ketalar prescribing information); an infusion is its rate times its time. Racemic ketamine and esketamine
are never pooled, and routes are kept apart.
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
_KETAMINE = re.compile(r"\bketamine\b", re.IGNORECASE)
_RACEMIC = re.compile(r"\brac(?:emic)?\b|±|\bR\s*[,/]\s*S\b|\bS\s*[,/]\s*R\b|RS-", re.IGNORECASE)
#: One of the two forms of the molecule: esketamine, arketamine, S-ketamine, (S)-ketamine, S(+)-ketamine, S ketamine.
_ONE_FORM = re.compile(
    r"\b(?:es|ar|dex)ketamine\b|(?<![\w'’])\(?[SR]\)?[\s()+\-–−]*ketamine\b", re.IGNORECASE
)  # fmt: skip
_MUSCLE = re.compile(r"\b(?:deltoid|gluteus|gluteal|vastus|ventrogluteal|dorsogluteal|muscle)\b", re.IGNORECASE)
_HYDROCHLORIDE = re.compile(r"\bhydrochloride\b|\bHCl\b", re.IGNORECASE)
_TEXT_ROUTES = {
    "im": re.compile(r"\bi\.?m\b|\bintramuscular(?:ly)?\b", re.IGNORECASE),
    "iv": re.compile(r"\bi\.?v\b|\bintravenous(?:ly)?\b", re.IGNORECASE),
    "sc": re.compile(r"\bs\.?c\b|\bsubcut(?:aneous(?:ly)?)?\b", re.IGNORECASE),
    "nasal": re.compile(r"\b(?:intra)?nasal(?:ly)?\b", re.IGNORECASE),
    "oral": re.compile(r"\boral(?:ly)?\b|\bby mouth\b|\bp\.?o\b", re.IGNORECASE),
}
_KNOWN_ROUTES = frozenset(_TEXT_ROUTES)
_LABEL_BASE_MG_PER_ML = (10.0, 50.0, 100.0)
_STRENGTH_WORDS = re.compile(r"(\d+(?:\.\d+)?) mg/mL")
#: Rates of infusion: unit -> what makes it mg (or mg/kg) per hour, and whether it is per kilogram.
_RATES = {
    "mg/h": (1, False), "mg/min": (60, False), "ug/min": (0.06, False), "ug/h": (0.001, False),
    "mg/kg/h": (1, True), "mg/kg/min": (60, True), "ug/kg/min": (0.06, True), "ug/kg/h": (0.001, True),
}  # fmt: skip
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
    medication = medication_of(given, pharmacy)
    if medication is None:
        return Rejection(given.ref, "medication-missing")
    if rule := _substance(medication, pharmacy.study):
        return Rejection(given.ref, rule)
    when = moment(written_date(given), pharmacy.study.protocol.timezone)
    if when.on is None:
        return Rejection(given.ref, "date-too-coarse" if written_date(given) else "date-missing")
    weight, flags = _weight(weights, when.on, pharmacy.study)
    dose = _dose_of(given, Dosing(medication, weight, pharmacy.study))
    route, route_flags = read_route(given.dosage, pharmacy.study)
    rule = dose.rule or _implausible(dose, route, pharmacy.study)
    if rule:
        return Rejection(given.ref, rule)
    when_flags = ("date only",) if when.at is None else ()
    drug_flags = () if _is_coded(medication, pharmacy.study) else ("drug found by its words",)
    return {
        "source_ref": given.ref,
        "subject_id": subject_id(given),
        "given_at": when.at,
        "given_on": when.on,
        "session": None,
        "series": None,
        "route": route,
        **_amount(dose, weight),
        "flags": "; ".join((*dose.flags, *route_flags, *flags, *when_flags, *drug_flags)),
    }


def _amount(dose: Dose, weight: float | None) -> Row:
    per_kg = dose.mg_per_kg if dose.mg_per_kg is not None else dose.mg / weight if dose.mg and weight else None
    return {"dose_mg": dose.mg, "mg_per_kg": per_kg, "weight_kg": weight, "dose_basis": dose.basis}


def _implausible(dose: Dose, route: str, study: Study) -> str:
    """The range is one of the protocol's own route: an infusion of days holds more, and is reported apart."""
    if route != study.protocol.exposure.route and route in _KNOWN_ROUTES:
        return "" if dose.mg is None or dose.mg > 0 else "dose-out-of-range"
    low, high = study.protocol.exposure.dose_range_mg
    return "" if dose.mg is None or low <= dose.mg <= high else "dose-out-of-range"


# --- the drug -----------------------------------------------------------------------------------------------------


Medicated = fhir.MedicationAdministration | fhir.MedicationRequest | fhir.MedicationStatement


def medication_of(given: Medicated, pharmacy: Pharmacy) -> fhir.Medication | None:
    """The Medication a resource names: inline, contained or referenced; None when it cannot be found."""
    if given.medication_codeable_concept is not None:
        return fhir.Medication(code=given.medication_codeable_concept)
    reference = given.medication_reference or fhir.Reference()
    if reference.reference.startswith("#"):
        wanted = ("Medication", reference.reference[1:])
        inner = (one for one in given.contained if (one.get("resourceType"), one.get("id")) == wanted)
        return next((msgspec.convert(one, fhir.Medication) for one in inner), None)
    return pharmacy.medications.get(fhir.id_in(reference, "Medication"))


def is_ketamine(medication: fhir.Medication, study: Study) -> bool:
    """Whether the drug is ketamine in any form."""
    return _substance(medication, study) != "not-ketamine"


def _substance(medication: fhir.Medication, study: Study) -> str:
    """The rule that refuses this drug, or "" for racemic ketamine. Words that name one form of it refuse any code."""
    rules, texts = study.protocol.exposure, _words(medication)
    excluded = any(study.group_of(rules.excluded_drug_codelist, *code) for code in _codes(medication))
    if excluded or (_ONE_FORM.search(texts) and not _RACEMIC.search(texts)):
        return "not-racemic-ketamine"
    return "" if _is_coded(medication, study) or _KETAMINE.search(texts) else "not-ketamine"


def _is_coded(medication: fhir.Medication, study: Study) -> bool:
    rules = study.protocol.exposure
    lists = (rules.drug_codelist, rules.strength_codelist)
    return any(study.group_of(listing, *code) for listing in lists for code in _codes(medication))


def _concepts(medication: fhir.Medication) -> list[fhir.CodeableConcept]:
    return [medication.code, *(part.item_codeable_concept for part in medication.ingredient)]


def _codes(medication: fhir.Medication) -> list[tuple[str, str]]:
    return [(coding.system, coding.code) for concept in _concepts(medication) for coding in concept.coding]


def _words(medication: fhir.Medication) -> str:
    return " | ".join(said(concept) for concept in _concepts(medication))


def said(concept: fhir.CodeableConcept) -> str:
    """Everything a concept says in words."""
    return " | ".join(text for text in (concept.text, *(coding.display for coding in concept.coding)) if text)


# --- the dose -----------------------------------------------------------------------------------------------------


def _dose_of(given: fhir.MedicationAdministration, dosing: Dosing) -> Dose:
    """The dose stated, or the rate times the time it ran."""
    rated = given.dosage.dose is None and (given.dosage.rate_quantity or given.dosage.rate_ratio)
    return _from_rate(given, dosing) if rated else read_dose(given.dosage.dose, dosing)


def read_dose(quantity: fhir.Quantity | None, dosing: Dosing) -> Dose:
    """The dose in mg of base. A number without a unit, or a unit that is not mass, mass/kg or volume, is refused."""
    if quantity is None or quantity.value is None:
        return Dose(rule="dose-missing")
    if quantity.comparator:
        return Dose(rule="value-not-exact")
    read = next((read for target, read in _DOSE_KINDS.items() if _is(_unit(quantity), target)), None)
    return read(quantity, dosing) if read else Dose(rule="dose-unit-unknown")


@dataclass(frozen=True)
class Dosing:
    """What a dose may need beside its number: the Medication's strength and the person's weight."""

    medication: fhir.Medication
    weight_kg: float | None
    study: Study

    @property
    def names_salt(self) -> bool:
        return bool(_HYDROCHLORIDE.search(_words(self.medication)))

    def base(self, mg: float) -> float:
        """The ketamine base in an amount of hydrochloride."""
        return mg / self.study.protocol.exposure.hydrochloride_per_base


def _unit(quantity: fhir.Quantity) -> str:
    """The unit in UCUM's spelling; micrograms are often written mcg inside a longer unit too."""
    return unit_of(quantity).replace("mcg", "ug")


def _is(unit: str, target: str) -> bool:
    if unit == target or "/" in unit or "/" in target:  # UCUM would also turn "%" into mg/kg: only true spellings
        return unit == target or (target == "mg/kg" and unit in {"ug/kg", "g/kg"})
    return factor(unit, target) is not None


def _from_mass(quantity: fhir.Quantity, dosing: Dosing) -> Dose:
    """A mass of "ketamine hydrochloride" is base, as on the label, unless the protocol says that the site weighs salt."""
    unit, mg = _unit(quantity), _in(quantity, "mg")
    basis = "mg" if unit == "mg" else f"{unit} to mg"
    if not dosing.names_salt:
        return Dose(mg, basis)
    if dosing.study.protocol.exposure.hydrochloride_mass == "salt":
        return Dose(dosing.base(mg), f"{basis}, hydrochloride to base", ("hydrochloride converted",))
    return Dose(mg, basis, ("mg of hydrochloride read as base",))


def _from_weight(quantity: fhir.Quantity, dosing: Dosing) -> Dose:
    if dosing.weight_kg is None:
        return Dose(rule="dose-weight-missing")
    mg_per_kg = _in(quantity, "mg/kg")
    return Dose(mg_per_kg * dosing.weight_kg, "mg/kg x weight", mg_per_kg=mg_per_kg)


def _from_volume(quantity: fhir.Quantity, dosing: Dosing) -> Dose:
    strengths = _strengths(dosing)
    if len(strengths) != 1:
        return Dose(rule="dose-volume-without-strength")
    strength = strengths[0]
    mg = _in(quantity, "mL") * strength
    if dosing.names_salt and strength not in _LABEL_BASE_MG_PER_ML:
        return Dose(dosing.base(mg), "mL x strength, hydrochloride to base", ("hydrochloride converted",))
    # The labels of ketamine hydrochloride state base: 10, 50 or 100 mg/mL.
    return Dose(mg, "mL x strength", ("strength read as base",) if dosing.names_salt else ())


def _strengths(dosing: Dosing) -> list[float]:
    """Strengths in mg/mL: of the ketamine in the Medication, else the one a site's list gives for its code."""
    medication, study = dosing.medication, dosing.study
    parts = [part for part in medication.ingredient if part.strength is not None]
    if len(parts) > 1:  # a mixture: only the ketamine in it counts
        parts = [part for part in parts if is_ketamine(fhir.Medication(code=part.item_codeable_concept), study)]
    stated = [strength for part in parts if part.strength and (strength := mg_per_ml(part.strength)) is not None]
    groups = {study.group_of(study.protocol.exposure.strength_codelist, *code) for code in _codes(medication)}
    listed = {float(found[1]) for group in groups if group and (found := _STRENGTH_WORDS.fullmatch(group))}
    return stated or sorted(listed)


def _from_rate(given: fhir.MedicationAdministration, dosing: Dosing) -> Dose:
    """An infusion: rate times the time between start and end, both of which must be instants."""
    per_hour = _per_hour(given.dosage)
    zone = dosing.study.protocol.timezone
    start, end = (moment(text, zone).at for text in (given.effective_period.start, given.effective_period.end))
    if per_hour is None:
        return Dose(rule="dose-unit-unknown")
    if start is None or end is None or end <= start:
        return Dose(rule="dose-missing")
    amount, is_per_kg = per_hour
    total = amount * (end - start).total_seconds() / 3600
    if not is_per_kg:
        return Dose(total, "rate x time")
    if dosing.weight_kg is None:
        return Dose(rule="dose-weight-missing")
    return Dose(total * dosing.weight_kg, "rate x time x weight", mg_per_kg=total)


def _per_hour(dosage: fhir.Dosage) -> tuple[float, bool] | None:
    """mg, or mg/kg, per hour and which of the two; None for a rate in other units."""
    rate = dosage.rate_quantity
    if dosage.rate_ratio is not None:
        rate = _as_quantity(dosage.rate_ratio)
    if rate is None or rate.value is None or rate.comparator or _unit(rate) not in _RATES:
        return None
    times, is_per_kg = _RATES[_unit(rate)]
    return rate.value * times, is_per_kg


def _as_quantity(ratio: fhir.Ratio) -> fhir.Quantity | None:
    """A ratio such as 25 mg in 1 h as the quantity 25 mg/h."""
    top, bottom = ratio.numerator, ratio.denominator
    if top is None or bottom is None or top.value is None or not bottom.value:
        return None
    return fhir.Quantity(value=top.value / bottom.value, code=f"{_unit(top)}/{_unit(bottom)}")


_DOSE_KINDS: dict[str, Callable[[fhir.Quantity, Dosing], Dose]] = {
    "mg": _from_mass,
    "mg/kg": _from_weight,
    "mL": _from_volume,
}


def _in(quantity: fhir.Quantity, target: str) -> float:
    return (quantity.value or 0) * (factor(_unit(quantity), target) or 0)


def mg_per_ml(strength: fhir.Ratio) -> float | None:
    """A strength in mg/mL, or None when numerator or denominator is not a mass in a volume."""
    top, bottom = strength.numerator, strength.denominator
    if top is None or bottom is None or top.value is None or not bottom.value:
        return None
    mass, volume = factor(_unit(top), "mg"), factor(_unit(bottom), "mL")
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
    """The route and its flags. A muscle is flagged, and taken for a route only where the protocol says so."""
    rules, words = study.protocol.exposure, said(dosage.route)
    groups = {study.group_of(rules.route_codelist, coding.system, coding.code) for coding in dosage.route.coding}
    groups.discard(None)
    if not groups:  # a code decides before words
        groups = {route for route, pattern in _TEXT_ROUTES.items() if pattern.search(words)}
    if len(groups) == 1:
        return groups.pop() or "other", ()
    if groups or dosage.route.coding or words:
        return _inferred("other", ("route not recognised",), "body site recorded as route", dosage.route, study)
    return _inferred("not recorded", ("route not recorded",), "site is a muscle", dosage.site, study)


def _inferred(
    route: str, flags: tuple[str, ...], muscle_flag: str, where: fhir.CodeableConcept, study: Study
) -> tuple[str, tuple[str, ...]]:
    rules = study.protocol.exposure
    is_muscle = _MUSCLE.search(said(where)) or any(
        study.group_of(rules.muscle_codelist, coding.system, coding.code) for coding in where.coding
    )
    if not is_muscle:
        return route, flags
    if rules.muscle_means_intramuscular:
        return "im", (*flags, muscle_flag, "route taken from the muscle")
    return route, (*flags, muscle_flag)


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
