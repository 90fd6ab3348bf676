"""Faults in elements nobody reads: declared, counted, and never more than what is declared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from study_day import STUDY, Forgetful, run

from crps_outcomes.definitions import Tolerance
from crps_outcomes.validation import VALID, covers, first_refused, judge_all

PAIN: dict[str, Any] = {
    "resourceType": "Observation", "id": "a", "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "72514-3"}]},
    "subject": {"reference": "Patient/p1"}, "effectiveDateTime": "2026-01-05T09:00:00-05:00", "valueInteger": 7,
}  # fmt: skip


def outcome(study=STUDY, **deviation: Any) -> tuple[int, list[tuple[str, str]]]:
    """How many values are read of the pain score with this deviation, and the rows of REJECTIONS."""
    rows, _, rejections = run([{**PAIN, **deviation}], study=study)
    return len(rows.observations), list(zip(rejections["rule"], rejections["reason"], strict=True))


@pytest.mark.parametrize(
    "deviation",
    [
        {"text": {"status": "generated"}},
        {"extension": [{"valueString": "x"}]},
        {"note": [{}]},
        {"performer": [{"reference": ""}]},
        {"identifier": [{"value": ""}]},
        {"text": {"status": "generated"}, "note": [{}]},
    ],
)
def test_a_declared_harmless_fault_is_used_and_counted(deviation):
    n, told = outcome(**deviation)
    assert n == 1
    assert [rule for rule, _ in told] == ["tolerated-deviation"]


@pytest.mark.parametrize(
    "deviation",
    [
        {"vendorThing": 1},
        {"note": [{}], "vendorThing": 1},
        {"effectiveDateTime": "2026-01-05T09:00-05:00"},
        {"code": {"coding": [{"system": "http://loinc.org", "code": "72514-3 "}]}},
        {"subject": {"reference": "Patient/p1", "foo": 1}},
    ],
)
def test_any_other_fault_refuses_the_resource_whatever_else_is_tolerated(deviation):
    n, told = outcome(**deviation)
    assert n == 0
    assert [rule for rule, _ in told] == ["not-valid-fhir"]


def test_without_a_declaration_nothing_is_tolerated():
    assert outcome(replace(STUDY, tolerances=()), note=[{}])[0] == 0


def test_the_row_names_path_and_rule_and_never_the_value():
    _, told = outcome(performer=[{"reference": "", "display": "Dr Example"}])
    assert "performer.0.reference" in told[0][1]
    assert "Example" not in told[0][1]


def test_a_resource_with_more_faults_than_are_told_is_refused():
    assert outcome(note=[{} for _ in range(40)])[0] == 0


@pytest.mark.parametrize(
    ("pattern", "path", "is_covered"),
    [
        ("note.**", "note.0.text", True), ("note.**", "note", True), ("note.**", "notes.0", False),
        ("extension.*.url", "extension.3.url", True), ("extension.*.url", "extension.3.valueString", False),
        ("extension.*.url", "extension.3", False), ("meta.tag.**", "meta.tag.0.code", True),
        ("meta.tag.**", "meta.lastUpdated", False),
    ],
)  # fmt: skip
def test_a_path_covers_what_it_says(pattern, path, is_covered):
    assert covers(pattern, path) is is_covered


def test_a_tolerance_holds_for_its_resource_types_only():
    note = Tolerance(resource_types=("Observation",), path="note.**", reason="r")
    assert first_refused("Observation", "note.0.text: missing", [note]) == VALID
    assert first_refused("Procedure", "note.0.text: missing", [note]) == "note.0.text: missing"


@pytest.mark.parametrize("path", ["code.**", "valueQuantity.**", "subject.**", "*.**", "effectiveDateTime", "meta.**"])
def test_an_element_that_is_read_cannot_be_tolerated(path):
    with pytest.raises(ValueError, match=r"path"):
        Tolerance(resource_types=("Observation",), path=path, reason="r")


def test_verdicts_remembered_from_before_all_faults_were_told_are_not_used():
    class Remembering(Forgetful):
        def get_many(self, hashes):
            self.asked = list(hashes)
            return {}

    memory = Remembering()
    judge_all([("Observation", b"{}")], memory)
    assert memory.asked != ["44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"]  # sha256 of {}
