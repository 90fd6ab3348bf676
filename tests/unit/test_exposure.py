"""Doses: every way a record can state an intramuscular dose is converted to mg of base, or refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from study_day import DIAGNOSIS, DOSE, PERSON, STUDY, run

from crps_outcomes import resources as fhir
from crps_outcomes.exposure import Dosing, read_dose, read_route

if TYPE_CHECKING:
    from crps_outcomes.study import Study

UCUM = "http://unitsofmeasure.org"
RACEMIC = {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "6130"}]}


def dose(number: int = 1, **changes: Any) -> dict[str, Any]:
    one = {**DOSE, "id": f"dose{number}", "dosage": dict(DOSE["dosage"])}
    for key, value in changes.items():
        if key in {"dose", "route", "site"}:
            one["dosage"][key] = value
            if value is None:
                del one["dosage"][key]
        else:
            one[key] = value
            if value is None:
                del one[key]
    return one


def amount(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def medication(strength_mg: float, name: str = "ketamine", per_ml: float = 1) -> dict[str, Any]:
    return {
        "resourceType": "Medication",
        "id": "vial",
        "code": RACEMIC,
        "ingredient": [
            {
                "itemCodeableConcept": {"text": name},
                "strength": {"numerator": amount(strength_mg, "mg"), "denominator": amount(per_ml, "mL")},
            }
        ],
    }


def weight(kilograms: float, day: str = "2026-01-05", number: int = 1) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"weight{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": day,
        "valueQuantity": amount(kilograms, "kg"),
    }


def doses(*resources: dict[str, Any]) -> pd.DataFrame:
    return run([PERSON, DIAGNOSIS, *resources], person=False)[0].doses


def refused(*resources: dict[str, Any]) -> set[tuple[str, str]]:
    table = run([PERSON, DIAGNOSIS, *resources], person=False)[2]
    return set(zip(table["resource_ref"], table["rule"], strict=True))


@pytest.mark.parametrize(
    ("given", "others", "mg", "mg_per_kg", "basis"),
    [
        (dose(dose=amount(50, "mg")), [weight(80)], 50, 0.625, "mg"),
        (dose(dose=amount(50000, "ug")), [weight(80)], 50, 0.625, "ug to mg"),
        (dose(dose={"value": 50000, "unit": "mcg"}), [], 50, None, "ug to mg"),
        (dose(dose=amount(0.05, "g")), [], 50, None, "g to mg"),
        (dose(dose=amount(0.75, "mg/kg")), [weight(75)], 56.25, 0.75, "mg/kg x weight"),
        (
            dose(
                dose=amount(1.2, "mL"),
                medicationCodeableConcept=None,
                medicationReference={"reference": "Medication/vial"},
            ),
            [medication(50)],
            60,
            None,
            "mL x strength",
        ),
        (
            dose(
                dose=amount(1, "mL"), medicationCodeableConcept=None, medicationReference={"reference": "#vial"},
                contained=[medication(500, per_ml=10)],
            ),
            [],
            50,
            None,
            "mL x strength",
        ),
        (
            dose(
                dose=amount(1, "mL"),
                medicationCodeableConcept=None,
                medicationReference={"reference": "Medication/vial"},
            ),
            [medication(57.67, "ketamine hydrochloride")],
            50,
            None,
            "mL x strength, hydrochloride to base",
        ),
        (
            dose(
                dose=amount(1, "mL"),
                medicationCodeableConcept=None,
                medicationReference={"reference": "Medication/vial"},
            ),
            [medication(50, "ketamine hydrochloride")],
            50,
            None,
            "mL x strength",
        ),
    ],
)  # fmt: skip
def test_dose_in_mg_of_base(given, others, mg, mg_per_kg, basis):
    [row] = doses(given, *others).to_dict("records")
    assert row["dose_mg"] == pytest.approx(mg, rel=1e-3)  # 57.67 / 1.1533 = 50.004
    assert row["dose_basis"] == basis
    if mg_per_kg is None:
        assert pd.isna(row["mg_per_kg"])
    else:
        assert row["mg_per_kg"] == pytest.approx(mg_per_kg)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (dose(dose=None), "dose-missing"),
        (dose(dose={"unit": "mg"}), "dose-missing"),
        (dose(dose={"value": 50}), "dose-unit-unknown"),
        (dose(dose=amount(50, "%")), "dose-unit-unknown"),
        (dose(dose=amount(50, "[IU]")), "dose-unit-unknown"),
        (dose(dose=amount(1, "mL")), "dose-volume-without-strength"),
        (dose(dose=amount(0.75, "mg/kg")), "dose-weight-missing"),
        (dose(dose=amount(5000, "mg")), "dose-out-of-range"),
        (dose(dose=amount(0.2, "mg")), "dose-out-of-range"),
        (dose(status="not-done"), "status-not-accepted"),
        (dose(status="in-progress"), "status-not-accepted"),
        (dose(status="on-hold"), "status-not-accepted"),
        (dose(status="unknown"), "status-not-accepted"),
        (dose(status="entered-in-error"), "status-not-accepted"),
        (dose(effectiveDateTime="2026-01"), "date-too-coarse"),
        (dose(medicationCodeableConcept={"text": "esketamine 25 mg"}), "not-racemic-ketamine"),
        (dose(medicationCodeableConcept={"text": "S-ketamine"}), "not-racemic-ketamine"),
        (dose(medicationCodeableConcept={"text": "S(+)-ketamine"}), "not-racemic-ketamine"),
        (
            dose(medicationCodeableConcept={"coding": [{"system": "http://www.whocc.no/atc", "code": "N01AX14"}]}),
            "not-racemic-ketamine",
        ),
        (dose(medicationCodeableConcept={"text": "midazolam"}), "not-ketamine"),
        (
            dose(medicationCodeableConcept=None, medicationReference={"reference": "Medication/nowhere"}),
            "medication-missing",
        ),
        (
            dose(medicationCodeableConcept=None, medicationReference={"reference": "#nowhere"}),
            "medication-missing",
        ),
    ],
)
def test_what_is_no_dose_is_refused_by_name(given, rule):
    assert refused(given) == {("MedicationAdministration/dose1", rule)}


def test_a_weight_after_the_dose_or_too_old_is_not_used():
    assert refused(dose(dose=amount(0.75, "mg/kg")), weight(80, "2026-01-11")) >= {
        ("MedicationAdministration/dose1", "dose-weight-missing")
    }
    [row] = doses(dose(), weight(80, "2025-10-01")).to_dict("records")
    assert pd.isna(row["mg_per_kg"])
    assert row["flags"] == "weight older than 90 days"


def test_the_latest_weight_before_the_dose_counts_and_a_jump_is_flagged():
    [row] = doses(dose(), weight(80, "2026-01-05"), weight(110, "2026-01-09", 2)).to_dict("records")
    assert row["weight_kg"] == 110
    assert row["flags"] == "weight jump over 20%"


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ({"coding": [{"system": "http://snomed.info/sct", "code": "78421000"}]}, "im"),
        ({"coding": [{"system": "http://standardterms.edqm.eu", "code": "20035000"}]}, "im"),
        ({"text": "IM"}, "im"),
        ({"text": "intramuscular"}, "im"),
        ({"coding": [{"system": "http://snomed.info/sct", "code": "47625008"}]}, "iv"),
        ({"text": "subcutaneous route"}, "sc"),
        ({"text": "by mouth"}, "oral"),
        ({"text": "I.M. injection"}, "im"),
        ({"text": "given intramuscularly"}, "im"),
        ({"text": "IM or IV"}, "other"),
        ({"text": "rectal"}, "other"),
        ({"coding": [{"system": "http://snomed.info/sct", "code": "46713006"}]}, "nasal"),
        ({"coding": [{"system": "http://snomed.info/sct", "code": "47625008", "display": "IM"}]}, "iv"),
        ({"coding": [{"system": "http://snomed.info/sct", "code": "206007", "display": "Gluteus"}]}, "other"),
    ],
)
def test_route(route, expected):
    [row] = doses(dose(route=route)).to_dict("records")
    assert row["route"] == expected
    assert pd.isna(row["session"]) == (expected != "im")


def test_a_muscle_as_site_is_flagged_and_never_taken_for_a_route():
    [row] = doses(dose(route=None, site={"text": "left deltoid"})).to_dict("records")
    assert row["route"] == "not recorded"
    assert row["flags"] == "route not recorded; site is a muscle"


def at(number: int, when: str) -> dict[str, Any]:
    return dose(number, effectiveDateTime=when)


def test_boosters_within_hours_are_one_session_and_gaps_of_weeks_start_a_series():
    table = doses(
        at(1, "2026-01-10T10:00:00-05:00"),
        at(2, "2026-01-10T10:30:00-05:00"),
        at(3, "2026-01-10T15:00:00-05:00"),  # 4.5 hours after the booster: a second session
        at(4, "2026-01-17"),  # a day without a time is a session of its own
        at(5, "2026-02-14T10:00:00-05:00"),  # 28 days later: the same series
        at(6, "2026-03-15T10:00:00-04:00"),  # 29 days later: a new one
    )
    assert table["session"].tolist() == [1, 1, 2, 3, 4, 5]
    assert table["series"].tolist() == [1, 1, 1, 1, 1, 2]


def test_a_series_of_six_doses_adds_up():
    table = doses(*(at(i, f"2026-01-{10 + i}T10:00:00-05:00") | {"dosage": dose(dose=amount(0.75, "mg/kg"))["dosage"]}
                    for i in range(1, 7)), weight(75))  # fmt: skip
    assert table["dose_mg"].sum() == pytest.approx(337.5)


# --- known answers ----------------------------------------------------------------------------------------------------

SALT = {"text": "ketamine hydrochloride"}
VIAL = {"medicationCodeableConcept": None, "medicationReference": {"reference": "Medication/vial"}}


def site_weighing(hydrochloride_mass: str) -> Study:
    """The study of a site whose doses in mg of "ketamine hydrochloride" are base, or salt."""
    exposure = STUDY.protocol.exposure.model_copy(update={"hydrochloride_mass": hydrochloride_mass})
    return replace(STUDY, protocol=STUDY.protocol.model_copy(update={"exposure": exposure}))


@pytest.mark.parametrize(("salt_mg", "base_mg"), [(57.67, 50), (115.33, 100), (11.53, 10)])
def test_hydrochloride_is_divided_into_base_as_mass_and_as_strength(salt_mg, base_mg):
    salt = fhir.Medication(code=fhir.CodeableConcept(text="ketamine hydrochloride"))
    weighed = read_dose(fhir.Quantity(salt_mg, code="mg"), Dosing(salt, None, site_weighing("salt")))
    assert weighed.mg == pytest.approx(base_mg, abs=0.005)  # 57.67 / 1.1533 = 50.004
    assert weighed.flags == ("hydrochloride converted",)
    [row] = doses(dose(dose=amount(1, "mL"), **VIAL), medication(salt_mg, "ketamine HCl")).to_dict("records")
    assert row["dose_mg"] == pytest.approx(base_mg, abs=0.005)
    assert row["flags"] == "hydrochloride converted"


def test_mg_of_hydrochloride_are_base_as_on_the_label_and_flagged_unless_the_protocol_says_salt():
    [row] = doses(dose(medicationCodeableConcept=SALT)).to_dict("records")
    assert row["dose_mg"] == 50
    assert row["flags"] == "mg of hydrochloride read as base; drug found by its words"


def test_the_salt_may_be_named_by_the_medication_alone():
    named = medication(57.67) | {"code": SALT}
    [row] = doses(dose(dose=amount(1, "mL"), **VIAL), named).to_dict("records")
    assert row["dose_mg"] == pytest.approx(50, abs=0.005)


def infusion(number: int, rate: dict[str, Any], start: str, end: str) -> dict[str, Any]:
    given = dose(number, dose=None, route={"text": "intravenous"}, effectiveDateTime=None)
    given["dosage"] |= rate
    return given | {"effectivePeriod": {"start": start, "end": end}}


def test_ten_infusions_of_four_hours_at_25_mg_an_hour_are_1000_mg():
    table = doses(*(infusion(n, {"rateQuantity": amount(25, "mg/h")}, f"2026-01-{n:02d}T10:00:00-05:00",
                             f"2026-01-{n:02d}T14:00:00-05:00") for n in range(1, 11)))  # fmt: skip
    assert table["dose_mg"].sum() == pytest.approx(1000)
    assert set(table["route"]) == {"iv"}
    assert table["session"].isna().all()


def test_an_infusion_of_days_is_reported_apart_and_not_refused_for_its_size():
    ratio = {"rateRatio": {"numerator": amount(22.2, "mg"), "denominator": amount(1, "h")}}
    [row] = doses(infusion(1, ratio, "2026-01-01T00:00:00Z", "2026-01-05T04:48:00Z")).to_dict("records")
    assert row["dose_mg"] == pytest.approx(22.2 * 24 * 4.2)  # 2238 mg
    assert row["dose_basis"] == "rate x time"


def test_a_rate_per_kilogram_takes_the_weight_and_keeps_both_numbers():
    given = infusion(1, {"rateQuantity": amount(0.35, "mg/kg/h")}, "2026-01-10T10:00:00Z", "2026-01-10T14:00:00Z")
    [row] = doses(given, weight(80)).to_dict("records")
    assert (row["dose_mg"], row["mg_per_kg"]) == (pytest.approx(112), pytest.approx(1.4))
    assert refused(given) == {("MedicationAdministration/dose1", "dose-weight-missing")}


@pytest.mark.parametrize(
    ("rate", "start", "end", "rule"),
    [
        (amount(25, "mL/h"), "2026-01-10T10:00:00Z", "2026-01-10T14:00:00Z", "dose-unit-unknown"),
        (amount(25, "mg/h"), "2026-01-10T10:00:00Z", "2026-01-10T10:00:00Z", "dose-missing"),
        (amount(25, "mg/h"), "2026-01-10", "2026-01-11", "dose-missing"),
    ],
)
def test_a_rate_that_gives_no_amount_is_refused(rate, start, end, rule):
    assert refused(infusion(1, {"rateQuantity": rate}, start, end)) == {("MedicationAdministration/dose1", rule)}


# --- which drug, which strength, which muscle ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    ["(S)-ketamine", "S ketamine", "(S) ketamine 25 mg", "S(+) ketamine", "arketamine", "(R)-ketamine", "Esketamine"],
)
def test_one_form_of_the_molecule_is_never_racemic_ketamine(words):
    assert refused(dose(medicationCodeableConcept={"text": words})) == {
        ("MedicationAdministration/dose1", "not-racemic-ketamine")
    }
    coded = {**RACEMIC, "text": words}
    assert refused(dose(medicationCodeableConcept=coded)) == {
        ("MedicationAdministration/dose1", "not-racemic-ketamine")
    }


@pytest.mark.parametrize(
    "words", ["ketamine 50 mg/mL", "rac-ketamine", "(R,S)-ketamine", "racemic ketamine", "this patient's ketamine"]
)
def test_racemic_ketamine_in_words_counts_and_is_flagged(words):
    [row] = doses(dose(medicationCodeableConcept={"text": words})).to_dict("records")
    assert row["flags"] == "drug found by its words"


def test_a_volume_takes_the_strength_a_sites_list_gives_its_product():
    product = {"coding": [{"system": "https://example.org/crps-outcomes/drug", "code": "ketamine-50"}]}
    [row] = doses(dose(dose=amount(1.2, "mL"), medicationCodeableConcept=product)).to_dict("records")
    assert (row["dose_mg"], row["flags"]) == (60, "")


def test_in_a_mixture_only_the_strength_of_ketamine_counts():
    mixed = medication(50)
    mixed["ingredient"].append({**mixed["ingredient"][0], "itemCodeableConcept": {"text": "midazolam"}})
    [row] = doses(dose(dose=amount(1, "mL"), **VIAL), mixed).to_dict("records")
    assert row["dose_mg"] == 50
    twice = medication(50)
    twice["ingredient"] *= 2
    assert refused(dose(dose=amount(1, "mL"), **VIAL), twice) == {
        ("MedicationAdministration/dose1", "dose-volume-without-strength")
    }


def test_a_contained_resource_of_another_type_is_no_medication():
    other = {"resourceType": "Questionnaire", "id": "vial", "status": "active", "code": [{"code": "x"}]}
    given = dose(medicationCodeableConcept=None, medicationReference={"reference": "#vial"}, contained=[other])
    assert refused(given) == {("MedicationAdministration/dose1", "medication-missing")}


def test_a_dose_that_is_not_exact_is_refused():
    assert refused(dose(dose=amount(50, "mg") | {"comparator": "<"})) == {
        ("MedicationAdministration/dose1", "value-not-exact")
    }


def test_micrograms_per_kilogram_in_the_words_of_a_syringe_pump():
    [row] = doses(dose(dose={"value": 750, "unit": "mcg/kg"}), weight(80)).to_dict("records")
    assert row["dose_mg"] == pytest.approx(60)


def test_a_muscle_recorded_without_a_route_is_a_route_only_where_the_protocol_says_so():
    muscle = {"coding": [{"system": "http://snomed.info/sct", "code": "206007"}]}
    exposure = STUDY.protocol.exposure.model_copy(update={"muscle_means_intramuscular": True})
    trusting = replace(STUDY, protocol=STUDY.protocol.model_copy(update={"exposure": exposure}))
    for written in ({"route": muscle}, {"site": {"text": "left deltoid"}}):
        dosage = fhir.decode("MedicationAdministration", json.dumps(dose(route=None) | {"dosage": written}).encode())
        assert read_route(dosage.dosage, STUDY)[0] != "im"
        route, flags = read_route(dosage.dosage, trusting)
        assert route == "im"
        assert flags[-1] == "route taken from the muscle"
