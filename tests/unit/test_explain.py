"""A printed number leads back to its row, its rule, the rows of people, and the resources with their versions."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from crps_outcomes import explaining, pipeline, pulls
from crps_outcomes.cli import app
from crps_outcomes.errors import DefinitionError, DisclosureError
from crps_outcomes.explaining import COUNTS, RULES, explain
from crps_outcomes.home import Home
from crps_outcomes.params import Edition
from crps_outcomes.stages.analyse import SECTIONS
from crps_outcomes.study import load, locate
from crps_outcomes.synthetic import Options, generate, write_ndjson
from crps_outcomes.traced import short_id
from study_folder import short_study

COMPLETED = "completeness/completed/treated/pain_nrs/baseline/-"


FEWER = {"bootstrap_samples": 20, "imputations": 5, "simulations": 5}


@pytest.fixture(scope="module")
def study_root(tmp_path_factory):
    """A study folder with fewer rounds of chance, whose evidence report has two sections: all rows, and few pages."""
    return short_study(tmp_path_factory.mktemp("study"), FEWER, evidence=["completeness", "provenance"])


@pytest.fixture(scope="module")
def made(tmp_path_factory, study_root):
    """A home with a snapshot of twelve invented people, the folder of their report, and the study."""
    home, options, study = tmp_path_factory.mktemp("home"), Options(patients=12, seed=5), load(study_root)
    files = write_ndjson(generate(options, study), home / "cohort")
    digest = pulls.pull(home, study_root, pulls.Asked(str(files), "search"), {}, lambda _: None)
    basis = pipeline.Basis(digest, study_root, options.ends_on)
    return Home.at(home), pipeline.report(home, basis, "evidence", Edition.internal), study


@pytest.fixture(scope="module", autouse=True)
def _once():
    """What is worked out anew from the one snapshot is worked out once for all tests."""
    kept, anew = {}, explaining._made_anew

    def once(home, study, snapshot, as_of):
        if snapshot.digest not in kept:
            kept[snapshot.digest] = anew(home, study, snapshot, as_of)
        return kept[snapshot.digest]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explaining, "_made_anew", once)
        yield


def _explained(made, asked, run=None):
    home, folder, study = made
    return explain(home, study, run or folder.name, asked)


def test_a_number_leads_to_the_rows_and_the_versions_of_the_resources_behind_it(made):
    found = _explained(made, COMPLETED)
    observed = [row for row in found.rows["outcomes"] if row["state"] == "observed"]
    refs = {ref for row in observed for ref in row["source_refs"].split()}
    assert len(observed) == int(found.row["k"])
    assert refs <= {ref for ref, version in found.sources if version.isdigit()}
    assert found.rule["described_in"] == "docs/statistics.md, Completeness and flow"
    assert "worked out anew from the snapshot: the same numbers" in found.notes


def test_a_month_leads_to_its_sessions_and_a_line_of_its_chart_to_those_of_every_month(made):
    rows = pd.read_csv(made[1] / "estimates.csv")
    rows = rows[(rows["section"] == "quality") & (rows["measure"] == "sessions_per_week")].set_index("statistic")
    month, line = (_explained(made, rows.loc[[name], "estimate_id"].iloc[-1]) for name in ("month", "centre"))
    held = {(str(row["given_on"])[:7], row["source_ref"]) for row in month.rows["doses"]}
    assert {name for name, _ in held} == {month.row["visit"]}
    assert len({(row["session"], row["source_ref"]) for row in month.rows["doses"]}) == int(month.row["k"])
    assert {ref for _, ref in held} == {ref for ref, version in month.sources if version.isdigit()}
    assert {ref for _, ref in held} < {row["source_ref"] for row in line.rows["doses"]}
    for found in (month, line):
        assert found.rule["described_in"] == "docs/statistics.md, Quality, month by month"
        assert "worked out anew from the snapshot: the same numbers" in found.notes


@pytest.mark.parametrize("measure", ["on_time", "monitored", "days_to_first_dose"])
def test_every_kind_of_month_leads_to_resources_with_their_versions(made, measure):
    rows = pd.read_csv(made[1] / "estimates.csv")
    rows = rows[(rows["section"] == "quality") & (rows["statistic"] == "month") & (rows["measure"] == measure)]
    found = _explained(made, rows.loc[rows["k"].fillna(rows["n"]) > 0, "estimate_id"].iloc[-1])
    assert "worked out anew from the snapshot: the same numbers" in found.notes
    assert all(version.isdigit() for _, version in found.sources)
    assert found.sources


def test_the_short_id_and_latest_lead_to_the_same_number(made):
    assert _explained(made, short_id(COMPLETED), "latest") == _explained(made, COMPLETED)


def test_a_box_of_the_flow_leads_to_its_people(made):
    found = _explained(made, "counts/treated/n_subjects")
    boxes = [note for note in found.notes if note.startswith("worked out anew")]
    assert boxes == [f"worked out anew from the snapshot: {len(found.rows['subjects'])}"]


def test_no_row_names_a_person_but_by_resources(made):
    assert all("subject_id" not in row for rows in _explained(made, COMPLETED).rows.values() for row in rows)


def test_another_study_folder_is_refused(made, tmp_path):
    home, folder, _ = made
    other = short_study(tmp_path)
    (other / "mappings" / "protocol.toml").write_text(
        (locate() / "mappings" / "protocol.toml").read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8"
    )
    with pytest.raises(DefinitionError, match="is not the one of this run"):
        explain(home, load(other), folder.name, COMPLETED)


def test_a_changed_number_is_said_to_have_changed(made):
    home, folder, _ = made
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
    home, folder, _ = made
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
    home, folder, study = made
    where = ["--out", str(home.root), "--study", str(study.root)]
    result = CliRunner().invoke(app, ["explain", folder.name, short_id(COMPLETED), *where])
    assert result.exit_code == 0
    for words in (COMPLETED, "rule: docs/statistics.md", "OUTCOMES: ", "Observation/"):
        assert words in result.output
    asked = CliRunner().invoke(app, ["explain", "latest", COMPLETED, "--json", *where])
    assert json.loads(asked.output)["estimate_id"] == COMPLETED


def test_every_section_of_estimates_has_a_rule_whose_heading_is_in_the_docs():
    headings = (locate() / "docs" / "statistics.md").read_text(encoding="utf-8").splitlines()
    assert {section.__name__ for section in SECTIONS} - {"response_rules"} | {COUNTS} == {*RULES}
    assert all(f"### {rule.heading}" in headings for rule in RULES.values())
