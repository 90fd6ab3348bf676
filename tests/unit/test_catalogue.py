"""The catalogue in words and in FHIR: pages that are current, resources that are valid, commands that explain."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fhir.resources.R4B.measure import Measure as MeasureResource
from study_day import STUDY
from typer.testing import CliRunner

from crps_outcomes import cli, tables
from crps_outcomes.definitions import Compact, Measure
from crps_outcomes.measure_pages import dictionary, page, pages
from crps_outcomes.measure_resource import as_resource
from crps_outcomes.validation import VALID, judge

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", sorted(pages(STUDY)))
def test_a_generated_page_is_what_the_catalogue_says(name):
    assert (DOCS / name).read_text(encoding="utf-8") == pages(STUDY)[name], f"docs/{name}: run `make docs`"


def test_no_page_is_left_of_a_measure_that_is_gone():
    assert {path.relative_to(DOCS).as_posix() for path in (DOCS / "measures").iterdir()} <= set(pages(STUDY))


@pytest.mark.parametrize("name", sorted(STUDY.measures))
def test_a_measure_is_a_valid_fhir_measure(name):
    resource = as_resource(STUDY.measure(name))
    assert judge("Measure", json.dumps(resource).encode()) == VALID
    notation = (resource.get("improvementNotation") or {"coding": [{"code": "none"}]})["coding"][0]["code"]
    assert notation == {"lower": "decrease", "higher": "increase", "none": "none"}[STUDY.measure(name).direction]
    assert MeasureResource.model_validate(resource).copyright == STUDY.measure(name).licence


def test_the_names_of_fhir_measures_differ():
    assert len({as_resource(one)["name"] for one in STUDY.measures.values()}) == len(STUDY.measures)


def test_the_dictionary_has_every_table_and_every_column():
    text = dictionary()
    schemas = [
        one for name, one in vars(tables).items() if type(one).__name__ == "DataFrameSchema" and name == one.name
    ]  # one table may be checked more strictly under another name
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == [one.name for one in schemas]
    for schema in schemas:
        section = text.split(f"## {schema.name}\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(schema.columns)


@pytest.mark.parametrize("domain", [one for one in Compact.__args__ if one])
def test_every_domain_of_compact_has_a_measure(domain):
    assert any(one.compact == domain and one.role == "outcome" for one in STUDY.measures.values())


def test_what_is_unconfirmed_is_marked_so_on_the_page():
    text = page(STUDY.measure("phq9"), STUDY)
    assert "phq9-9: LOINC `44260-8` [unconfirmed]" in text
    assert "| −5 | individual change | Kroenke, Loewe | unconfirmed |" in text


def test_whatever_is_confirmed_names_where_it_was_seen():
    for measure in STUDY.measures.values():
        codes = [code for source in measure.sources for code in (*source.codes, *source.component)]
        stated = [*codes, *measure.items.codes, *measure.items.panels, *measure.thresholds]
        assert [one for one in stated if one.state == "confirmed" and not one.source] == [], measure.id


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["measures"], f"{len(STUDY.measures)} measures"),
        (["measure", "show", "pain_nrs"], "72514-3"),
        (["measure", "show", "phq9_item9"], "goes to the safety review"),
        (["measure", "show", "eq5d_index", "--fhir"], '"resourceType": "Measure"'),
    ],
)
def test_a_command_explains(arguments, says, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0
    assert says in done.stdout


def test_a_measure_that_is_not_there_is_a_definition_error():
    done = CliRunner().invoke(cli.app, ["measure", "show", "astrology"])
    assert done.exit_code == 2
    assert "no such measure" in done.stderr


# --- what check refuses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"range": [10, 0]}, "range: the first number must be below the second"),
        ({"sources": [], "questionnaires": [], "items": {}}, "says nowhere where its value stands"),
        ({"score": {"method": "sum", "min_items": 4}}, "there are 3 items"),
        ({"score": {"method": "t_score"}}, "need a table"),
        ({"score": {"method": "physical_summary"}}, "measures are named"),
        ({"items": {}}, "items need a range or a list of answers"),
        ({"items": {"range": [0, 4], "reversed": ["x-9"]}}, "items that are not there"),
        ({"items": {"range": [0, 4], "of": "pcs"}}, "which items of the other measure"),
        ({"questionnaires": [{"questionnaire": "u", "link_ids": ["a", "b", "c"]}, {"questionnaire": "v", "link_ids": ["a"]}]},
         "the same number of linkIds"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
        ({"step": 0}, "greater than 0"),
        ({"compact": "astrology"}, "Input should be"),
    ],
)  # fmt: skip
def test_a_definition_that_cannot_be_right_is_refused_with_its_reason(change, says):
    sound = {
        "id": "x", "title": "X", "short": "X", "domain": "pain", "role": "outcome", "direction": "lower", "range": [0, 12],
        "range_kind": "scale", "unit": "{score}", "decimals": 0, "missing_rule": "all", "licence": "none",
        "questionnaires": [{"questionnaire": "u", "link_ids": ["x-1", "x-2", "x-3"]}],
        "items": {"range": [0, 4]}, "score": {"method": "sum", "min_items": 3},
    }  # fmt: skip
    Measure.model_validate(sound)
    with pytest.raises(ValueError, match=re.escape(says)):
        Measure.model_validate({**sound, **change})
