"""Publishing: one folder that appears whole or not at all, and no text a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from itertools import product

import pandas as pd
import pytest
from report_fixture import model, provenance, releasable

from crps_outcomes.errors import PipelineError
from crps_outcomes.home import Home
from crps_outcomes.report_model import Cell, Column, Table
from crps_outcomes.stages import publish as stage
from crps_outcomes.stages.publish import csv_of_frame, csv_of_table, current, publish
from crps_outcomes.stages.render import Rendered
from failing_disk import watched
from power_cut import CONTENTS, SURVIVING, Disk

RENDERED = Rendered(html="<!DOCTYPE html><title>report</title>", pdf=b"%PDF-1.7")
FORMULAS = (
    "=1+1",
    "+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1+1",
    "＋1",
    "－1",
    "＠x",
    "  =1",
    '=HYPERLINK("x")',
)


@pytest.fixture
def home(tmp_path) -> Home:
    return Home.at(tmp_path / "home")


def do(home, rendered=RENDERED):
    return publish(rendered, model(), releasable(), provenance(), home)


def test_the_run_folder_holds_pages_tables_numbers_and_provenance(home):
    run = do(home)
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert {"report.pdf", "report.html", "estimates.csv", "tables.xlsx", "provenance.json"} <= names
    assert "tables/01-summary-key.csv" in names
    assert any(re.fullmatch(r"tables/\d\d-pain-change\.csv", name) for name in names)
    assert run.name == provenance().run_id
    record = json.loads((run / "provenance.json").read_text())
    assert (record["snapshot"], record["study"], record["code"]) == ("5" * 64, "7" * 64, "c" * 64)


def test_everything_lies_in_the_run_folder_but_the_pointer(home):
    run = do(home)
    others = [path for path in home.root.rglob("*") if path.is_file() and run not in path.parents]
    assert [path.name for path in others] == ["CURRENT-evidence-internal"]
    assert current(home.runs, "evidence", "internal") == run
    assert current(home.runs, "evidence", "release") is None


def test_files_are_readable_by_their_owner_only(home):
    assert {path.stat().st_mode & 0o077 for path in do(home).rglob("*")} == {0}


def test_publishing_the_same_again_keeps_the_folder(home):
    first = do(home)
    made = first.stat().st_mtime_ns
    assert do(home) == first
    assert first.stat().st_mtime_ns == made


def test_the_same_inputs_with_other_bytes_are_refused_and_nothing_is_replaced(home):
    first = do(home)
    with pytest.raises(PipelineError, match="other bytes"):
        do(home, replace(RENDERED, pdf=b"%PDF-other"))
    assert (first / "report.pdf").read_bytes() == RENDERED.pdf


@pytest.mark.parametrize("fails_at", [0, 3, 7])
def test_a_write_that_fails_leaves_no_folder_and_no_pointer(home, monkeypatch, fails_at):
    written = []

    def full(path, data):
        if len(written) == fails_at:
            raise OSError("no space left")
        written.append(path)
        path.write_bytes(data)

    monkeypatch.setattr(stage, "write_private", full)
    with pytest.raises(OSError, match="space"):
        do(home)
    assert [*home.runs.iterdir()] == []


# --- CSV ------------------------------------------------------------------------------------------------------------


def test_t23_a_power_cut_leaves_the_whole_report_or_none_and_a_pointer_to_a_whole_one(home):
    disk, found = Disk(home.root), []

    def before(operation):
        found.extend(disk.left(SURVIVING[name], contents) for name, contents in product(SURVIVING, CONTENTS))
        disk.do(operation)

    with watched(home.root, before):
        run = do(home)
    whole = {path.relative_to(home.root).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for left in found:
        files = {
            path: content
            for path, content in left.items()
            if path.startswith(f"runs/{run.name}/") and content is not None
        }
        assert files in [{}, whole]
        assert bool(files) >= any(path.startswith("runs/CURRENT") for path in left)
    assert len(found) > 100


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_looks_like_a_formula_is_defused_in_cells_and_heads(text):
    table = Table("t", (Column(text, 10), Column("n", 10)), ((Cell(text), Cell("1")),))
    frame = pd.DataFrame({text: [text], "n": [-3.5]})
    for made in (csv_of_table(table), csv_of_frame(frame)):
        head, row = csv.reader(io.StringIO(made, newline=""))
        assert head[0] == row[0] == f"'{text}"


def test_numbers_stay_numbers_and_missing_stays_empty():
    frame = pd.DataFrame({"value": pd.array([-3.5, None], dtype="Float64"), "k": pd.array([-1, 2], dtype="Int64")})
    read = pd.read_csv(io.StringIO(csv_of_frame(frame)))
    assert read["value"].tolist()[0] == -3.5
    assert read["value"].isna().tolist() == [False, True]
    assert read["k"].tolist() == [-1, 2]


def test_the_estimates_come_back_as_they_were(home):
    read = pd.read_csv(do(home) / "estimates.csv", keep_default_na=False, na_values={"estimate": [""]})
    own = releasable().estimates
    assert read["estimate_id"].tolist() == own["estimate_id"].tolist()
    assert read["estimate"].dropna().tolist() == own["estimate"].dropna().tolist()


def test_the_release_run_holds_no_number_of_a_hidden_row(home):
    hidden = releasable(64, "release")
    run = publish(RENDERED, model(64, "release"), hidden, provenance("release"), home)
    rows = pd.read_csv(run / "estimates.csv").set_index("estimate_id")
    gone = rows.loc[hidden.estimates.loc[hidden.estimates["suppressed"] != "", "estimate_id"]]
    assert len(gone) > 10
    assert gone[["n", "k", "n_missing", "estimate", "lower", "upper", "sd"]].isna().all(axis=None)
