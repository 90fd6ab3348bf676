"""A site's own codes: ConceptMap and ValueSet files, what is wrong with one, and what nobody mapped yet."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from study_day import STUDY, run

from crps_outcomes.codes import unmapped_in
from crps_outcomes.errors import DefinitionError
from crps_outcomes.study import CARD, load

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = "https://clinic.example/codes"
LOINC = "http://loinc.org"
PAIN = {
    "resourceType": "Observation", "id": "a", "status": "final",
    "code": {"coding": [{"system": LOCAL, "code": "PAIN-10"}]},
    "subject": {"reference": "Patient/p1"}, "effectiveDateTime": "2026-01-05T09:00:00-05:00", "valueInteger": 7,
}  # fmt: skip


def concept_map(*targets: dict[str, Any], source: str = LOCAL, target: str = LOINC) -> dict[str, Any]:
    elements = [{"code": one.pop("own"), "target": [one]} for one in targets]
    return {"resourceType": "ConceptMap", "status": "active",
            "group": [{"source": source, "target": target, "element": elements}]}  # fmt: skip


def value_set(name: str, *codes: str) -> dict[str, Any]:
    return {"resourceType": "ValueSet", "status": "active", "name": name,
            "compose": {"include": [{"system": LOCAL, "concept": [{"code": code} for code in codes]}]}}  # fmt: skip


@pytest.fixture
def site(tmp_path: Path):
    """A copy of the study folder that takes FHIR files of the site."""
    for folder in CARD:
        shutil.copytree(STUDY.root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))

    def with_file(content: Any, name: str = "site.json") -> Any:
        folder = tmp_path / "mappings" / "concept-maps"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return load(tmp_path)

    return with_file


def test_a_local_code_counts_as_the_code_it_is_mapped_to(site):
    study = site(concept_map({"own": "PAIN-10", "code": "72514-3", "equivalence": "equivalent"}))
    rows, _, _ = run([PAIN], study=study)
    assert rows.observations[["measure", "value"]].to_numpy().tolist() == [["pain_nrs", 7]]
    assert run([PAIN])[0].observations.empty


def test_the_codes_of_a_value_set_count_as_the_measure_it_names(site):
    study = site(value_set("pain_nrs", "PAIN-10", "PAIN-11"))
    assert run([PAIN], study=study)[0].observations["measure"].tolist() == ["pain_nrs"]


def test_a_local_drug_code_is_translated_too(site):
    rxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm"
    study = site(concept_map({"own": "KET", "code": "6130", "equivalence": "equal"}, target=rxnorm))
    assert study.group_of("ketamine", LOCAL, "KET") == study.group_of("ketamine", rxnorm, "6130")
    assert STUDY.group_of("ketamine", LOCAL, "KET") is None


@pytest.mark.parametrize(
    "equivalence", ["wider", "narrower", "inexact", "relatedto", "unmatched", "disjoint", "the same"]
)
def test_what_is_not_the_same_is_not_followed(site, equivalence):
    study = site(concept_map({"own": "PAIN-10", "code": "72514-3", "equivalence": equivalence}))
    assert study.maps == {}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "site.json: not a FHIR resource as JSON"),
        ({"resourceType": "CodeSystem", "status": "active", "content": "complete"}, "resourceType: a ConceptMap or ValueSet"),
        ({"resourceType": "ConceptMap", "status": "active", "group": [{"element": []}]}, "group.0"),
        ({"resourceType": "ConceptMap", "group": []}, "status: required element missing"),
        (concept_map({"own": "X", "code": "0000-0", "equivalence": "equal"}), "group.0.element.0.target.0: no measure"),
        (concept_map({"own": "44261-6", "code": "72514-3", "equivalence": "equal"}, source=LOINC),
         "group.0.element.0.target.0: http://loinc.org|44261-6 already has a meaning"),
        (value_set("astrology", "X"), "name: it should be the id of the measure"),
        ({"resourceType": "ValueSet", "status": "active", "name": "pain_nrs", "compose": {"include": [{"system": LOCAL}]}},
         "compose.include.0: codes are to be listed one by one"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_and_element(site, content, says):
    with pytest.raises(DefinitionError, match=r"mappings/concept-maps/site\.json") as caught:
        site(content)
    assert says in str(caught.value)


class Holding:
    """A snapshot that holds these resources."""

    def __init__(self, *resources: dict[str, Any]) -> None:
        self.resources = resources

    def types(self) -> set[str]:
        return {one["resourceType"] for one in self.resources}

    def lines(self, name: str) -> list[bytes]:
        return [json.dumps(one).encode() for one in self.resources if one["resourceType"] == name]


def observation(number: int, code: str, person: str = "p1") -> dict[str, Any]:
    coding = {"system": LOINC, "code": code, "display": f"Display of {code}"}
    return {"resourceType": "Observation", "id": str(number), "code": {"coding": [coding]},
            "subject": {"reference": f"Patient/{person}"}}  # fmt: skip


def test_unmapped_codes_come_by_frequency_and_those_a_measure_takes_do_not():
    held = Holding(
        observation(1, "8302-2"), observation(2, "39156-5"), observation(3, "39156-5", "p2"), observation(4, "72514-3"),
        observation(5, "38221-8"),
        {"resourceType": "QuestionnaireResponse", "id": "q", "questionnaire": "https://clinic.example/Q/sleep|2",
         "subject": {"reference": "Patient/p1"}},
    )  # fmt: skip
    found = unmapped_in(held, STUDY)
    assert [(one.n, one.n_people, one.code) for one in found] == [
        (2, 2, "39156-5"),
        (1, 1, "8302-2"),
        (1, 1, "https://clinic.example/Q/sleep"),
    ]
    assert found[0].display == "Display of 39156-5"


def test_what_a_site_maps_is_no_longer_unmapped(site):
    study = site(concept_map({"own": "8302-2", "code": "72514-3", "equivalence": "equal"}, source=LOINC))
    assert unmapped_in(Holding(observation(1, "8302-2")), study) == []
