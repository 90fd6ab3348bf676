"""A printed number leads back to its row, its rule, the rows of people, and the resources with their versions."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from crps_outcomes import pipeline, pulls
from crps_outcomes.cli import app
from crps_outcomes.errors import DefinitionError, DisclosureError
from crps_outcomes.explaining import COUNTS, RULES, explain
from crps_outcomes.home import Home
from crps_outcomes.params import Edition
from crps_outcomes.stages.analyse import SECTIONS
from crps_outcomes.study import load, locate
from crps_outcomes.synthetic import Options, generate, write_ndjson
from crps_outcomes.traced import short_id

COMPLETED = "completeness/completed/treated/pain_nrs/baseline/-"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A home with a snapshot of twelve invented people, and the folder of their report."""
    home, options = tmp_path_factory.mktemp("home"), Options(patients=12, seed=5)
    files = write_ndjson(generate(options, load(locate())), home / "cohort")
    digest = pulls.pull(home, locate(), pulls.Asked(str(files), "search"), {}, lambda _: None)
    basis = pipeline.Basis(digest, locate(), options.ends_on)
    return Home.at(home), pipeline.report(home, basis, "evidence", Edition.internal)


def _explained(made, asked, run=None):
    home, folder = made
    return explain(home, load(locate()), run or folder.name, asked)


def test_a_number_leads_to_the_rows_and_the_versions_of_the_resources_behind_it(made):
    found = _explained(made, COMPLETED)
    observed = [row for row in found.rows["outcomes"] if row["state"] == "observed"]
    refs = {ref for row in observed for ref in row["source_refs"].split()}
    assert len(observed) == int(found.row["k"])
    assert refs <= {ref for ref, version in found.sources if version.isdigit()}
    assert found.rule["described_in"] == "docs/statistics.md, Completeness and flow"
    assert "worked out anew from the snapshot: the same numbers" in found.notes


def test_the_short_id_and_latest_lead_to_the_same_number(made):
    assert _explained(made, short_id(COMPLETED), "latest") == _explained(made, COMPLETED)


def test_a_box_of_the_flow_leads_to_its_people(made):
    found = _explained(made, "counts/treated/n_subjects")
    boxes = [note for note in found.notes if note.startswith("worked out anew")]
    assert boxes == [f"worked out anew from the snapshot: {len(found.rows['subjects'])}"]


def test_no_row_names_a_person_but_by_resources(made):
    assert all("subject_id" not in row for rows in _explained(made, COMPLETED).rows.values() for row in rows)


def test_another_study_folder_is_refused(made, tmp_path):
    home, folder = made
    other = tmp_path / "study"
    shutil.copytree(
        locate(), other, ignore=shutil.ignore_patterns(".*", "tests", "docs", "build", "src", "node_modules")
    )
    (other / "mappings" / "protocol.toml").write_text(
        (locate() / "mappings" / "protocol.toml").read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8"
    )
    with pytest.raises(DefinitionError, match="is not the one of this run"):
        explain(home, load(other), folder.name, COMPLETED)


def test_a_changed_number_is_said_to_have_changed(made):
    home, folder = made
    copy = home.runs / "evidence-internal-copy"
    shutil.copytree(folder, copy)
    text = (copy / "estimates.csv").read_text(encoding="utf-8")
    line = next(one for one in text.splitlines() if one.startswith(COMPLETED))
    fields = line.split(",")
    fields[7] = "99"
    (copy / "estimates.csv").write_text(text.replace(line, ",".join(fields)), encoding="utf-8")
    assert "worked out anew from the snapshot: NOT the same numbers" in _explained(made, COMPLETED, copy.name).notes


@pytest.fixture
def release(made):
    """The run's folder as a release in which one number is hidden and another is shown."""
    home, folder = made
    copy = home.runs / "evidence-release-copy"
    shutil.copytree(folder, copy)
    record = json.loads((folder / "provenance.json").read_text(encoding="utf-8")) | {"edition": "release"}
    (copy / "provenance.json").write_text(json.dumps(record), encoding="utf-8")
    text = (copy / "estimates.csv").read_text(encoding="utf-8")
    lines = [f"{one}low" if one.startswith(COMPLETED) else one for one in text.splitlines()]
    (copy / "estimates.csv").write_text("\n".join(lines), encoding="utf-8")
    yield copy
    shutil.rmtree(copy)


@pytest.mark.parametrize("asked", [COMPLETED, "no/such/number/-/-/-", "counts/treated/n_subjects"])
def test_what_a_release_hides_is_not_explained(made, release, asked):
    with pytest.raises(DisclosureError):
        _explained(made, asked, release.name)


def test_what_a_release_shows_is_explained_without_people(made, release):
    found = _explained(made, "dosing/count/treated/-/-/sessions", release.name)
    assert (found.rows, found.sources) == ({}, ())
    assert found.row["method"] == "count"


@pytest.mark.parametrize(("run", "asked"), [("no-such-run", COMPLETED), ("../..", COMPLETED), ("", "E0000000")])
def test_a_run_or_a_number_that_is_not_there_is_refused(made, run, asked):
    with pytest.raises(DefinitionError):
        _explained(made, asked, run or None)


def test_the_command_prints_the_walk(made):
    home, folder = made
    result = CliRunner().invoke(app, ["explain", folder.name, short_id(COMPLETED), "--out", str(home.root)])
    assert result.exit_code == 0
    for words in (COMPLETED, "rule: docs/statistics.md", "OUTCOMES: ", "Observation/"):
        assert words in result.output
    asked = CliRunner().invoke(app, ["explain", "latest", COMPLETED, "--json", "--out", str(home.root)])
    assert json.loads(asked.output)["estimate_id"] == COMPLETED


def test_every_section_of_estimates_has_a_rule_whose_heading_is_in_the_docs():
    headings = (locate() / "docs" / "statistics.md").read_text(encoding="utf-8").splitlines()
    assert {section.__name__ for section in SECTIONS} - {"response_rules"} | {COUNTS} == {*RULES}
    assert all(f"### {rule.heading}" in headings for rule in RULES.values())
