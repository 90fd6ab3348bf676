"""No valid FHIR ever raises: whatever a record says about doses, events, diagnoses and findings is a row or a rejection."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study_day import AS_OF, DIAGNOSIS, DOSE, PERSON, STUDY, Forgetful

from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.analysis.participants import participants
from crps_outcomes.analysis.safety import safety
from crps_outcomes.context import context
from crps_outcomes.fhirtime import Moment, moment
from crps_outcomes.stages.score import score
from crps_outcomes.stages.screen import screen
from crps_outcomes.stages.tabulate import tabulate
from crps_outcomes.tables import LEDGER, REJECTIONS, Tables, build

LISTED = [(code.system, code.code) for listing in STUDY.codelists.values() for code in listing]
MEASURED = [
    (c.system, c.code)
    for m in STUDY.measures.values()
    for source in m.sources
    for c in (*source.codes, *source.component)
]
WORDS = ["ketamine", "S-ketamine", "(R,S)-ketamine HCl", "IM", "left deltoid", "nausea", "CRPS of the right hand", "grade 3", "present",
         "no", "gabapentin", "stellate ganglion block", "x", "±", "ketamine hydrochloride 50 mg/mL", "Ⅳ", "S.C."]  # fmt: skip
UNITS = [
    "mg",
    "mg/kg",
    "mL",
    "ug",
    "mcg/kg",
    "g",
    "mg/h",
    "ug/kg/min",
    "%",
    "[IU]",
    "kg",
    "mm[Hg]",
    "{score}",
    "{",
    "m[",
    "mg/",
    "mg//mL",
    "1",
]

dates = st.sampled_from(
    ["2025", "2025-06", "2025-06-30", "2026-01-10", "2026-01-10T10:20:00-05:00", "2026-01-10T23:59:59.999999Z",
     "2026-02-20T10:00:00+14:00", "0001-01-01", "9999-12-31T23:59:59-12:00", "2026-05-01"]
)  # fmt: skip
numbers = st.sampled_from([0, -0.0, 1, 0.6, 50, 57.67, 1e-300, 1e300, -3, 10**30])
quantities = st.fixed_dictionaries(
    {}, optional={"value": numbers, "unit": st.sampled_from(UNITS), "code": st.sampled_from(UNITS), "comparator": st.sampled_from("<>"),
                  "system": st.just("http://unitsofmeasure.org")},
).filter(bool)  # fmt: skip
ratios = st.fixed_dictionaries({"numerator": quantities, "denominator": quantities})
codings = st.sampled_from([*LISTED, *MEASURED, ("http://example.org", "x")]).map(
    lambda pair: {"system": pair[0], "code": pair[1]}
)
concepts = st.one_of(
    st.fixed_dictionaries(
        {"coding": st.lists(codings, min_size=1, max_size=2)}, optional={"text": st.sampled_from(WORDS)}
    ),
    st.sampled_from(WORDS).map(lambda text: {"text": text}),
)
periods = st.fixed_dictionaries({}, optional={"start": dates, "end": dates}).filter(bool)
ABOUT = st.just({"reference": "Patient/p1"})
answers: dict[str, Any] = {
    "valueQuantity": quantities, "valueInteger": st.integers(-5, 100), "valueBoolean": st.booleans(),
    "valueCodeableConcept": concepts, "valueString": st.sampled_from(WORDS),
}  # fmt: skip


def resource(name: str, required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"resourceType": st.just(name), "subject": ABOUT, **required}, optional=optional)


def one_answer() -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(st.just({}), *(st.fixed_dictionaries({name: value}) for name, value in answers.items()))


def joined(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {name: value for part in found for name, value in part.items()})


vials = st.fixed_dictionaries(
    {"resourceType": st.just("Medication"), "id": st.just("vial")},
    optional={
        "code": concepts,
        "ingredient": st.lists(
            st.fixed_dictionaries({"itemCodeableConcept": concepts}, optional={"strength": ratios}),
            min_size=1,
            max_size=2,
        ),
    },
)
drugs = st.one_of(
    st.fixed_dictionaries({"medicationCodeableConcept": concepts}),
    st.fixed_dictionaries(
        {"medicationReference": st.just({"reference": "#vial"}), "contained": st.lists(vials, min_size=1, max_size=1)}
    ),
    st.just({"medicationReference": {"reference": "Medication/nowhere"}}),
)
whens = st.one_of(
    st.fixed_dictionaries({"effectiveDateTime": dates}),
    st.fixed_dictionaries({"effectivePeriod": periods}),
    st.just({}),
)
dosages = st.fixed_dictionaries(
    {"text": st.sampled_from(WORDS)},
    optional={"dose": quantities, "route": concepts, "site": concepts, "rateQuantity": quantities},
)
given_doses = joined(
    resource("MedicationAdministration", {"status": st.sampled_from(["completed", "stopped", "not-done", "unknown"])},
             {"dosage": dosages, "statusReason": st.lists(concepts, min_size=1, max_size=2)}),
    drugs, whens,
)  # fmt: skip
requests = joined(
    resource("MedicationRequest", {"status": st.sampled_from(["active", "stopped"]), "intent": st.sampled_from(["order", "plan"])},
             {"authoredOn": dates, "doNotPerform": st.booleans(), "statusReason": concepts}),
    drugs,
)  # fmt: skip
statements = joined(
    resource("MedicationStatement", {"status": st.sampled_from(["active", "completed"])}, {}), drugs, whens
)
procedures = joined(
    resource("Procedure", {"status": st.just("completed"), "code": concepts}, {}),
    st.one_of(
        st.fixed_dictionaries({"performedDateTime": dates}),
        st.fixed_dictionaries({"performedPeriod": periods}),
        st.just({}),
    ),
)
harms = resource(
    "AdverseEvent", {"actuality": st.just("actual")},
    {"event": concepts, "date": dates, "detected": dates, "severity": concepts, "seriousness": concepts,
     "suspectEntity": st.just([{"instance": {"reference": "MedicationAdministration/dose"}}])},
)  # fmt: skip
conditions = joined(
    resource("Condition", {}, {"code": concepts, "bodySite": st.lists(concepts, min_size=1, max_size=2), "recordedDate": dates,
                               "evidence": st.lists(st.fixed_dictionaries({"code": st.lists(concepts, min_size=1, max_size=2)}),
                                                    min_size=1, max_size=1)}),
    st.one_of(st.fixed_dictionaries({"onsetDateTime": dates}), st.fixed_dictionaries({"onsetPeriod": periods}), st.just({})),
)  # fmt: skip
components = st.lists(joined(st.fixed_dictionaries({"code": concepts}), one_answer()), min_size=1, max_size=3)
observations = joined(
    resource("Observation", {"status": st.just("final"), "code": concepts}, {"component": components}),
    one_answer(),
    whens,
)
anything = st.one_of(given_doses, requests, statements, procedures, harms, conditions, observations)


def account_for(found: list[dict[str, Any]], *, is_treated: bool) -> Tables:
    """The tables of one person with these resources; accepted + rejected = received, or an assertion fails."""
    numbered = [one | {"id": f"n{place}"} for place, one in enumerate(found)]
    known = [PERSON, *([DIAGNOSIS, DOSE] if is_treated else []), *numbered]
    lines = [(one["resourceType"], json.dumps(one).encode()) for one in known]
    screened = screen(lines, {"p1": "p1"}, as_of=AS_OF, study=STUDY, verdicts=Forgetful())
    rows = tabulate(screened, STUDY)
    scored = score(rows, {"p1": None}, STUDY, as_of=AS_OF)
    own = context(rows, scored.subjects, STUDY)
    rejections = (*screened.rejections, *rows.rejections, *scored.rejections)
    frames = (rows.doses, rows.observations, rows.events, rows.findings)
    used = {ref for frame in frames for ref in frame["source_ref"]} | rows.diagnosed_in
    received = {f"{one['resourceType']}/{one['id']}" for one in known} - {"Patient/p1"}
    assert used | {one.resource_ref for one in rejections} == received
    return Tables(
        scored.subjects, rows.doses, rows.observations, rows.events, scored.outcomes, build(REJECTIONS, ()),
        build(LEDGER, ()), rows.findings, own.context, own.treatments, own.intercurrent,
    )  # fmt: skip


PATIENT = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "٢٠٢٦-01-01"])
def test_a_date_that_no_table_can_hold_names_no_day(text):
    assert moment(text, "America/New_York") == Moment(None, None)


@given(st.lists(anything, min_size=4, max_size=10), st.booleans())
@settings(PATIENT, max_examples=20)
def test_every_resource_becomes_a_row_or_a_rejection_and_nothing_raises(found, is_treated):
    account_for(found, is_treated=is_treated)


@given(st.lists(anything, min_size=4, max_size=10))
@settings(PATIENT, max_examples=5)
def test_whatever_became_a_row_can_be_analysed(found):
    cohort = Cohort(account_for(found, is_treated=True), STUDY, AS_OF)
    assert participants(cohort)
    assert safety(cohort)
