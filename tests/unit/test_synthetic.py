"""The synthetic cohort: repeatable, valid FHIR but for labelled faults, and truly what it says it is."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
from fhir.resources.R4B import get_fhir_model_class
from golden_cases import CASES
from pydantic import ValidationError

from crps_outcomes.errors import DefinitionError
from crps_outcomes.rejections import RULES
from crps_outcomes.study import load, locate
from crps_outcomes.synthetic import Options, generate, population_truth, write_ndjson
from crps_outcomes.synthetic.drugs import AMOUNTS
from crps_outcomes.synthetic.mess import FAULTS
from crps_outcomes.synthetic.people import Setting, _plot
from crps_outcomes.synthetic.response import PAIN

NOT_VALID = {"not-valid-fhir", "status-missing"}
DOSE_FLAGS = {
    "weight older than 90 days",
    "weight jump over 20%",
    "date only",
    "route not recorded",
    "route not recognised",
    "site is a muscle",
    "body site recorded as route",
    "drug found by its words",
    "hydrochloride converted",
    "strength read as base",
}


@pytest.fixture(scope="module")
def study():
    return load(locate())


@pytest.fixture(scope="module")
def cohort(study):
    return generate(Options(patients=80), study)


@pytest.fixture(scope="module")
def story(study):
    """Skeletons of 400 people: all their scores, whether or not they stay to give them."""
    setting = Setting(Options(patients=400), study)
    return [_plot(index, setting) for index in range(1, 401)]


def _files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _owner(resource):
    reference = resource.get("subject") or resource.get("patient") or resource.get("individual") or {}
    match = re.search(r"crps-\d{6}", reference.get("reference", resource["id"]))
    return match.group() if match else ""


# --- repeatable ---------------------------------------------------------------------------------------------------


def test_the_same_options_give_the_same_bytes(study, tmp_path):
    options = Options(patients=12)
    first = _files(write_ndjson(generate(options, study), tmp_path / "first"))
    second = _files(write_ndjson(generate(options, study), tmp_path / "second"))
    assert first == second
    other = _files(write_ndjson(generate(replace(options, seed=2), study), tmp_path / "other"))
    assert other["Observation.ndjson"] != first["Observation.ndjson"]


def test_a_person_is_the_same_whatever_the_number_of_people(study):
    few, more = (generate(Options(patients=n), study) for n in (6, 15))
    own = {f"crps-{index:06d}" for index in range(1, 7)}
    for name in set(few.resources) - {"Group", "Medication", "ResearchStudy"}:
        one, other = ([r for r in cohort.resources[name] if _owner(r) in own] for cohort in (few, more))
        assert one == other
    assert [f for f in more.truth["faults"] if any(person in f["resource_ref"] for person in own)] == few.truth[
        "faults"
    ]
    assert all(more.truth["patients"][person] == few.truth["patients"][person] for person in own)


def test_the_truth_of_the_population_is_repeatable_and_does_not_depend_on_the_cohort():
    small, large = (population_truth(Options(patients=n, mess=n > 5), n_people=20_000) for n in (3, 90))
    assert small == large
    assert population_truth(Options(seed=2), n_people=20_000) != small


def test_the_cohort_is_small_enough_to_load_everywhere(cohort):
    counts = Counter(_owner(one) for own in cohort.resources.values() for one in own)
    assert sum(map(len, cohort.resources.values())) < 25_000
    assert 130 <= np.mean([n for person, n in counts.items() if person]) <= 220


# --- valid FHIR, invented people ----------------------------------------------------------------------------------


def test_every_resource_is_valid_fhir_unless_it_is_labelled(study):
    cohort = generate(Options(patients=20), study)
    labelled = {fault["resource_ref"] for fault in cohort.truth["faults"] if fault["rule"] in NOT_VALID}
    refused = set()
    for name, resources in cohort.resources.items():
        model = get_fhir_model_class(name)
        for resource in resources:
            try:
                model.model_validate(resource)
            except ValidationError:
                refused.add(f"{name}/{resource['id']}")
    assert refused == labelled
    assert refused


def test_nobody_has_a_name_that_could_be_real_and_everything_is_tagged_as_test_data(cohort):
    for patient in cohort.resources["Patient"]:
        assert [name["family"] for name in patient["name"]] == [f"Synthetic-{patient['id'].removeprefix('crps-')}"]
        assert set(patient) == {
            "resourceType",
            "id",
            "meta",
            "identifier",
            "active",
            "name",
            "gender",
            "birthDate",
        }  # no address, no telephone
    tags = {tag["code"] for own in cohort.resources.values() for one in own for tag in one["meta"]["tag"]}
    assert tags == {"HTEST"}


def test_ids_and_codes_leave_no_doubt(cohort, study):
    ids = [one["id"] for own in cohort.resources.values() for one in own]
    assert all(re.fullmatch(r"[A-Za-z0-9.-]{1,64}", identity) for identity in ids)
    known = {code.code for measure in study.measures.values() for source in measure.sources for code in source.codes}
    loinc = {
        coding["code"]
        for one in cohort.resources["Observation"]
        for coding in one["code"].get("coding", ())
        if "example.org" not in coding["system"]
    }
    assert loinc <= known


def test_the_people_are_the_people_of_a_crps_clinic(cohort):
    people = cohort.resources["Patient"]
    assert 0.6 < np.mean([one["gender"] == "female" for one in people]) < 0.9
    types = Counter(one["crps_type"] for one in cohort.truth["patients"].values())
    assert 0.65 < types["I"] / sum(types.values()) < 0.95
    assert all("1949" <= one["birthDate"][:4] <= "2008" for one in people)  # 18 to 75 years at the first dose


# --- who is enrolled ----------------------------------------------------------------------------------------------


def test_four_lists_name_the_same_people(cohort, study):
    rules, ends_on = study.protocol.enrolment, cohort.options.ends_on.isoformat()
    (group,) = cohort.resources["Group"]
    members = {
        member["entity"]["reference"]
        for member in group["member"]
        if not member.get("inactive") and member["period"].get("end", "9999") >= ends_on
    }
    known = {f"Patient/{one['id']}" for one in cohort.resources["Patient"]}
    lists = {
        "ResearchSubject": ("individual", rules.research_subject_statuses),
        "EpisodeOfCare": ("patient", rules.episode_statuses),
        "CarePlan": ("subject", rules.care_plan_statuses),
    }
    for name, (who, statuses) in lists.items():
        named = {one[who]["reference"] for one in cohort.resources[name] if one["status"] in statuses}
        assert named == members & known
    assert len(members - known) == 1  # the member without a Patient


def test_the_lists_hold_people_who_left_who_withdrew_and_who_never_were_there(cohort):
    told = cohort.truth["cohort"]
    (group,) = cohort.resources["Group"]
    assert sum(bool(member.get("inactive")) for member in group["member"]) >= 2
    assert any("end" in member["period"] for member in group["member"])
    parts = ("enrolled", "inactive", "dangling", "consent_revoked")
    assert told["n_listed"] == len(group["member"]) == sum(len(told[part]) for part in parts)
    listed = json.dumps([cohort.resources[name] for name in ("Group", "ResearchSubject", "EpisodeOfCare", "CarePlan")])
    assert len(told["not_listed"]) >= 2
    assert not any(stranger in listed for stranger in told["not_listed"])
    refusals = {
        one["status"] if one["status"] != "active" else one["provision"]["type"] for one in cohort.resources["Consent"]
    }
    assert refusals == {"permit", "deny", "inactive"}


def test_some_enrolled_people_are_never_treated_and_some_not_analysed(cohort):
    told = cohort.truth["cohort"]
    assert set(told["analysed"]) < set(told["treated"]) < set(told["enrolled"])


# --- what is in the charts ----------------------------------------------------------------------------------------


def test_every_way_of_writing_a_dose_and_a_route_occurs(cohort):
    doses = [dose for person in cohort.truth["patients"].values() for dose in person["doses"].values()]
    assert {dose["variant"] for dose in doses if dose["route"] == "im"} == set(AMOUNTS)
    assert {dose["route"] for dose in doses} == {"im", "iv", "sc", "not recorded", "other"}
    routes = Counter(
        coding["system"] if coding else "text"
        for one in cohort.resources["MedicationAdministration"]
        if (route := one["dosage"].get("route"))
        for coding in route.get("coding", [None])
    )
    assert {"http://snomed.info/sct", "http://standardterms.edqm.eu", "text"} <= set(routes)


def test_doses_are_titrated_within_the_protocols_range(cohort):
    sessions = [one for person in cohort.truth["patients"].values() for one in person["sessions"] if one["mg_per_kg"]]
    first = [one["mg_per_kg"] for one in sessions if one["session"] == 1]
    later = [one["mg_per_kg"] for one in sessions if one["session"] >= 5]
    assert 0.3 < np.median(first) < 0.5 < np.median(later) < 1.0


def test_some_sessions_are_not_monitored(cohort):
    safety = cohort.truth["safety"]
    for name in ("systolic_pressure", "oxygen_saturation"):
        monitored = safety["monitored"][name]
        assert 0.85 < monitored / safety["n_sessions"] < 0.97


def test_both_code_families_totals_and_items_occur(cohort):
    codes = Counter(
        tuple(coding["code"] for coding in one["code"].get("coding", ())) for one in cohort.resources["Observation"]
    )
    assert codes[("71961-7",)]
    assert codes[("77865-4",)]
    assert codes[("71961-7", "77865-4")]
    assert codes[("44261-6",)]
    assert len(cohort.resources["QuestionnaireResponse"]) > 100


# --- faults -------------------------------------------------------------------------------------------------------


def test_every_fault_occurs_at_least_twice_among_80_people(cohort):
    found = Counter(fault["fault"] for fault in cohort.truth["faults"])
    assert {name: found[name] for name in FAULTS if found[name] < 2} == {}


def test_every_fault_names_a_rule_a_flag_or_what_to_expect(cohort):
    written = {f"{name}/{one['id']}" for name, own in cohort.resources.items() for one in own}
    for fault in cohort.truth["faults"]:
        assert fault["resource_ref"] in written
        assert fault["rule"] in {*RULES, *DOSE_FLAGS, ""}
        assert fault["rule"] or fault["expected"]
        assert fault["data_source"] == "ndjson" or fault["rule"] not in {"superseded", "duplicate", "subject-missing"}


def test_the_document_explains_every_fault_and_option():
    text = (locate() / "docs" / "synthetic-cohort.md").read_text(encoding="utf-8")
    assert [name for name in FAULTS if f"| {name} |" not in text] == []
    assert [field.name for field in fields(Options) if f"| `{field.name}` |" not in text] == []


def test_every_rule_has_a_fault_or_a_golden_case_that_should_meet_it(cohort):
    met = {fault["rule"] for fault in cohort.truth["faults"]}
    met |= {one["rule"] for cases in CASES.values() for case in cases for one in case["rejections"]}
    assert set(RULES) - met <= {"subject-not-enrolled", "merged-record", "unreadable", "medication-missing"}


def test_versions_and_duplicates_stand_in_writing_order(cohort):
    lines = {}
    for one in cohort.resources["Observation"]:
        lines.setdefault(one["id"], []).append(one)
    twice = [versions for versions in lines.values() if len(versions) == 2]
    newer = [pair for pair in twice if pair[0] != pair[1]]
    assert len(newer) >= 2
    assert len(twice) - len(newer) >= 2
    for old, new in newer:
        assert (old["meta"]["versionId"], new["meta"]["versionId"]) == ("1", "2")
        assert old["meta"]["lastUpdated"] < new["meta"]["lastUpdated"]


def test_no_person_whose_data_never_count_has_a_faulty_chart(cohort):
    counted = set(cohort.truth["cohort"]["enrolled"])
    assert all(re.search(r"crps-\d{6}", fault["resource_ref"]).group() in counted for fault in cohort.truth["faults"])


def test_without_mess_only_flagged_doses_are_labelled(study):
    clean = generate(Options(patients=20, mess=False), study)
    assert {fault["rule"] for fault in clean.truth["faults"]} <= {"hydrochloride converted", "strength read as base"}
    ids = [one["id"] for one in clean.resources["Observation"]]
    assert len(ids) == len(set(ids))


# --- the folder ---------------------------------------------------------------------------------------------------


def test_the_folder_is_a_bulk_export_with_the_truth_beside_it(study, tmp_path):
    cohort = generate(Options(patients=5), study)
    folder = write_ndjson(cohort, tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["requiresAccessToken"] is False
    assert manifest["error"] == []
    for entry in manifest["output"]:
        lines = (folder / entry["url"]).read_text().splitlines()
        assert len(lines) == entry["count"] == len(cohort.resources[entry["type"]])
        assert {json.loads(line)["resourceType"] for line in lines} == {entry["type"]}
    assert not any("truth" in entry["url"] for entry in manifest["output"])
    assert json.loads((folder / "truth" / "truth.json").read_text()) == json.loads(json.dumps(cohort.truth))


def test_nothing_was_updated_after_the_export(cohort):
    last = max(one["meta"]["lastUpdated"] for own in cohort.resources.values() for one in own)
    assert last == cohort.transaction_time == "2026-10-31T23:45:00Z"


def test_options_that_make_no_cohort_are_refused():
    for wrong in ({"patients": 0}, {"seed": -1}, {"entry_score": 10}, {"enrolment_days": 10}):
        with pytest.raises(DefinitionError):
            Options(**wrong)


# --- the response model ---------------------------------------------------------------------------------------------


def _change(story, visit):
    """Recorded change of pain from the latest score before the first dose, for everybody."""
    baselines = [one.scores[PAIN, "baseline" if one.days.baseline_on else "screening"][0] for one in story]
    return np.array([one.scores[PAIN, visit][0] for one in story]) - baselines


def _stayed(story, visit):
    return np.array([visit in {kept.id for kept, _ in one.attendance.days} for one in story])


def test_people_in_a_cohort_change_as_the_population_does(story):
    truth = population_truth(Options())
    for visit in ("week_4", "week_12"):
        change = _change(story, visit)
        error = truth.sd_change[PAIN][visit] / np.sqrt(len(change))
        assert abs(change.mean() - truth.mean_change[PAIN][visit]) < 3 * error
        assert abs(change.std(ddof=1) / truth.sd_change[PAIN][visit] - 1) < 0.15


def test_leaving_depends_on_the_outcome_so_that_observed_responders_look_too_good(story):
    visit = "week_12"
    due = np.array([(Options().ends_on - one.days.first_dose_on).days >= 98 for one in story])
    change, stayed = _change(story, visit), _stayed(story, visit)
    assert change[due & stayed].mean() < change[due].mean() < change[due & ~stayed].mean()
    assert 0.1 < np.mean(~stayed[due]) < 0.5


def test_without_dropout_nobody_leaves(study):
    setting = Setting(Options(dropout=False), study)
    assert {_plot(index, setting).attendance.left_after for index in range(1, 60)} == {""}


def test_function_improves_less_than_pain_and_only_loosely_with_it(story):
    truth = population_truth(Options())
    function = "promis_physical_function"
    for visit in ("week_4", "week_12"):
        pain = -truth.mean_change[PAIN][visit] / truth.baseline_sd[PAIN]
        assert 0 < truth.mean_change[function][visit] / truth.baseline_sd[function] < 0.5 * pain
    gained = [one.scores[function, "week_12"][0] - one.scores[function, "baseline"][0] for one in story]
    assert -0.5 < np.corrcoef(_change(story, "week_12"), gained)[0, 1] < -0.05


def test_relief_builds_up_and_fades():
    from crps_outcomes.synthetic.population import PlannedVisit  # noqa: PLC0415 - the visits of this test alone

    visits = tuple(PlannedVisit(str(day), day, 0) for day in (1, 28, 182))
    change = population_truth(Options(), visits, n_people=20_000).noise_free_change[PAIN]
    assert change["28"] < change["182"] < change["1"] < 0


def test_with_no_true_effect_pain_still_falls_by_regression_to_the_mean():
    options = Options(effect=0.0, entry_score=7, second_baseline=0.0)
    truth = population_truth(options)
    # sigma (1 - rho) phi(z) / (1 - Phi(z)) for mean 7.1, SD sqrt(1.3^2 + 1), scores of 7 and more (6.5 before rounding)
    assert truth.mean_change[PAIN]["week_4"] == pytest.approx(-0.354, abs=0.06)  # the scale ends at 10: a little more
    assert truth.noise_free_change[PAIN]["week_4"] == 0
    assert population_truth(replace(options, second_baseline=1.0)).mean_change[PAIN]["week_4"] == pytest.approx(
        0, abs=0.02
    )


def test_adverse_events_become_more_frequent_with_the_dose(cohort):
    names = (re.match(r"(crps-\d{6}-\w+)-event", one["id"]) for one in cohort.resources["AdverseEvent"])
    counts = Counter(match.group(1) for match in names if match)
    sessions = [
        (session["mg_per_kg"], counts[session["administrations"][0].split("/")[1].rsplit("-dose", 1)[0]])
        for person in cohort.truth["patients"].values()
        for session in person["sessions"]
        if session["mg_per_kg"]
    ]
    doses, events = (np.array(column) for column in zip(*sessions, strict=True))
    low, high = np.quantile(doses, [1 / 3, 2 / 3])
    assert events[doses > high].mean() > 1.3 * events[doses < low].mean()
