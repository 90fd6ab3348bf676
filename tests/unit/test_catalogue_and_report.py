"""What a catalogue of many measures leaves as it is, and the tables and reasons that come with it."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from study_day import STUDY, run

from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.errors import DefinitionError
from crps_outcomes.study import CARD, load

LOINC = "http://loinc.org"


def pain(name: str, value: float | None, at: str, **more: Any) -> dict[str, Any]:
    number = {} if value is None else {"valueQuantity": {"value": value}}
    return {
        "resourceType": "Observation", "id": name, "status": "final", "code": {"coding": [{"system": LOINC, "code": "72514-3"}]},
        "subject": {"reference": "Patient/p1"}, "effectiveDateTime": at, **number, **more,
    }  # fmt: skip


def pseq(value: int) -> dict[str, Any]:
    system = "https://example.org/crps-outcomes/CodeSystem/measures"
    return {**pain("s", value, "2026-01-05T09:00:00-05:00"), "code": {"coding": [{"system": system, "code": "pseq"}]}}


def test_reports_print_the_outcomes_the_protocol_declares_and_no_other_measure():
    plan = STUDY.protocol.outcomes
    declared = {plan.primary, plan.function, plan.global_change, *plan.secondary}
    assert {one.id for one in STUDY.reported} == declared
    assert len(STUDY.measures) > 40
    assert Cohort.outcome_measures.func(_Holder()) == STUDY.reported


class _Holder:
    study = STUDY


def test_a_measure_nobody_declared_has_rows_only_in_those_it_was_recorded_in():
    without = run([])[1].outcomes
    assert set(without["measure"]) == {one.id for one in STUDY.reported}
    outcomes = run([pseq(40)])[1].outcomes.set_index(["measure", "visit"])
    assert outcomes.loc[("pseq", "baseline"), "value"] == 40
    assert outcomes.loc[("pseq", "week_4"), "state"] == "missing"


def test_a_descriptor_has_a_baseline_and_nothing_after_it():
    dn4 = {**pseq(5), "code": {"coding": [{"system": pseq(5)["code"]["coding"][0]["system"], "code": "dn4"}]}}
    outcomes = run([dn4])[1].outcomes
    assert outcomes.loc[outcomes["measure"] == "dn4", "visit"].tolist() == ["baseline"]


def test_several_values_of_a_day_are_counted_where_one_of_them_was_chosen():
    day = "2026-02-07T{}:00:00-05:00"
    outcomes = run([pain("a", 6, day.format("09")), pain("b", 4, day.format("17")), pain("c", 5, "2026-01-05")])[
        1
    ].outcomes
    row = outcomes.set_index(["measure", "visit"]).loc[("pain_nrs", "week_4")]
    assert (row["value"], row["derivation"]) == (4, "latest of 2 that day")
    assert outcomes.set_index(["measure", "visit"]).loc[("pain_nrs", "baseline"), "derivation"] == ""


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (
            {"coding": [{"system": "x", "code": "asked-declined"}]},
            "the source says why there is no value (asked-declined)",
        ),
        ({"coding": [{"system": "x", "code": "patient Anna was asleep"}]}, "the source says why there is no value"),
        ({"text": "patient Anna was asleep"}, "the source says why there is no value"),
    ],
)
def test_a_missing_value_keeps_its_reason_and_no_words_of_the_source(reason, told):
    rejections = run([pain("a", None, "2026-01-05", dataAbsentReason=reason)])[2]
    assert rejections["reason"].tolist() == [told]


# --- tables that a site supplies -----------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path):
    for folder in CARD:
        shutil.copytree(STUDY.root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "mappings" / "tables").mkdir(exist_ok=True)

    def with_table(text: str, name: str = "promis_anxiety") -> Any:
        (tmp_path / "mappings" / "tables" / f"{name}.csv").write_text(text, encoding="utf-8")
        return load(tmp_path)

    return with_table


def test_a_table_is_read_and_changes_the_identity_of_the_study(site):
    study = site("item,level,value\n,9,57.7\n")
    assert study.tables == {"promis_anxiety": {("", 9.0): 57.7}}
    assert study.digest != site("item,level,value\n,9,57.8\n").digest


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("item,level,value\n,9,57.7\n,9,58\n", "mappings/tables/promis_anxiety.csv: 9 is listed twice"),
        ("item,level,value\n,nine,57.7\n", "mappings/tables/promis_anxiety.csv:2: level"),
        ("item,level,value\n,9,nan\n", "mappings/tables/promis_anxiety.csv:2: value"),
        ("item,level,t\n,9,57.7\n", "mappings/tables/promis_anxiety.csv:2: "),
    ],
)
def test_a_mistake_in_a_table_names_file_and_line(site, text, says):
    with pytest.raises(DefinitionError) as caught:
        site(text)
    assert says in str(caught.value)


def test_the_study_folder_comes_without_any_licensed_table():
    assert STUDY.tables == {}
