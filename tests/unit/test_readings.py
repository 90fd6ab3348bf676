"""Where a value may stand, and what is refused because it could be two things."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from study_day import STUDY, run

LOINC = "http://loinc.org"
PHQ9 = "https://example.org/crps-outcomes/Questionnaire/phq9"
ITEMS = ["44250-9", "44255-8", "44259-0", "44254-1", "44251-7", "44258-2", "44252-5", "44253-3", "44260-8"]


def observation(*codes: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation", "id": "o", "status": "final", "subject": {"reference": "Patient/p1"},
        "code": {"coding": [{"system": LOINC, "code": code} for code in codes]},
        "effectiveDateTime": "2026-01-05T09:00:00-05:00", **more,
    }  # fmt: skip


def response(*items: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "QuestionnaireResponse", "id": "q", "status": "completed", "questionnaire": PHQ9,
        "subject": {"reference": "Patient/p1"}, "authored": "2026-01-05T09:00:00-05:00", "item": list(items),
    }  # fmt: skip


def answered(number: int, *values: int, **more: Any) -> dict[str, Any]:
    return {"linkId": f"phq9-{number}", "answer": [{"valueInteger": value} for value in values], **more}


def read(*resources: dict[str, Any], study: Any = STUDY) -> tuple[list[tuple[str, str, float]], list[str]]:
    """(measure, item, value) of every row, and the rules of what was refused."""
    rows, _, rejections = run(resources, study=study)
    found = rows.observations
    return list(zip(found["measure"], found["item"], found["value"], strict=True)), sorted(rejections["rule"])


@pytest.mark.parametrize(
    "codes",
    [
        ("72514-3", "44261-6"),  # pain and PHQ-9
        ("75261-8", "72514-3"),  # two questions about pain
        ("71961-7", "71962-5"),  # a T-score and the raw sum of the same items
        ("77854-8", "71957-5"),  # participation of version 2 and satisfaction of version 1
        ("44250-9", "44255-8"),  # two items
        ("44261-6", "44260-8"),  # a total and an item
    ],
)
def test_an_observation_whose_codings_say_two_things_is_refused(codes):
    assert read(observation(*codes, valueInteger=7)) == ([], ["two-values"])


def test_one_pressure_panel_gives_both_pressures_and_one_pulse_oximetry_one_saturation():
    parts = [
        {"code": {"coding": [{"system": LOINC, "code": code}]}, "valueQuantity": {"value": value, "code": "mm[Hg]"}}
        for code, value in (("8480-6", 130), ("8462-4", 80))
    ]
    found, refused = read(observation("85354-9", component=parts))
    assert sorted(found) == [("diastolic_pressure", "8462-4", 80), ("systolic_pressure", "8480-6", 130)]
    assert refused == []
    assert read(observation("59408-5", "2708-6", valueQuantity={"value": 97, "code": "%"}))[0] == [
        ("oxygen_saturation", "", 97)
    ]


def test_two_answers_to_one_question_are_refused_wherever_they_stand():
    assert read(response(answered(1, 0, 3)))[1] == ["items-missing", "two-values"]
    assert "two-values" in read(response(answered(1, 0), {"linkId": "again", "item": [answered(1, 0)]}))[1]


def test_a_component_that_stands_twice_in_a_panel_is_refused():
    part = {"code": {"coding": [{"system": LOINC, "code": ITEMS[0]}]}, "valueInteger": 1}
    assert read(observation("44249-1", component=[part, part])) == ([], ["two-values"])


def test_an_item_is_found_by_its_definition_and_below_an_answer():
    by_definition = {**answered(1, 1), "linkId": "7", "definition": f"http://loinc.org/fhir/Questionnaire#/{ITEMS[0]}"}
    below = {"linkId": "any", "answer": [{"valueBoolean": True, "item": [answered(2, 2)]}]}
    found, _ = read(response(by_definition, below))
    assert found == [("phq9", "phq9-1", 1), ("phq9", "phq9-2", 2)]


def test_a_number_written_as_text_is_an_answer_only_where_the_measure_says_so():
    text = {"linkId": "phq9-1", "answer": [{"valueString": "2"}]}
    assert read(response(text))[1] == ["answer-unknown", "items-missing"]
    phq9 = STUDY.measure("phq9")
    told = phq9.model_copy(update={"items": phq9.items.model_copy(update={"read_text": True})})
    study = replace(STUDY, measures={**STUDY.measures, "phq9": told})
    assert read(response(text), study=study)[0] == [("phq9", "phq9-1", 2)]


def test_a_panel_that_holds_neither_components_nor_members_has_no_value():
    assert read(observation("44249-1", valueInteger=12)) == ([], ["value-missing"])


def test_items_at_two_moments_do_not_make_one_score():
    half = [
        observation(code, valueInteger=1, effectiveDateTime=f"2026-01-0{5 + (place > 4)}T09:00:00-05:00")
        | {"id": f"o{place}"}
        for place, code in enumerate(ITEMS)
    ]
    outcomes = run(half)[1].outcomes.set_index(["measure", "visit"])
    assert outcomes.loc[("phq9", "baseline"), "state"] == "missing"
    whole = [{**one, "effectiveDateTime": "2026-01-05T09:00:00-05:00"} for one in half]
    outcomes = run(whole)[1].outcomes.set_index(["measure", "visit"])
    assert outcomes.loc[("phq9", "baseline"), "value"] == 9
    assert outcomes.loc[("phq9", "baseline"), "source_refs"] == " ".join(f"Observation/o{place}" for place in range(9))
