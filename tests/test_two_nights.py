"""Amended, entered in error and deleted between two nights: the second report has other figures, and says why."""

from __future__ import annotations

import subprocess
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from crps_outcomes import derive, pipeline
from crps_outcomes.fhir import rest_source
from crps_outcomes.fhir.client import Surroundings
from crps_outcomes.home import Home
from crps_outcomes.params import Edition
from crps_outcomes.snapshot import open_snapshot
from crps_outcomes.stages.pull import pull
from crps_outcomes.study import load
from crps_outcomes.synthetic import Options, generate
from faulty_server import BASE, FaultyServer
from study_folder import short_study

if TYPE_CHECKING:
    from pathlib import Path


class Night:
    """A pull and the report made of it."""

    def __init__(self, server: FaultyServer, home: Home, study: Path, day: date) -> None:
        source = rest_source(BASE, transport=server.transport(), surroundings=Surroundings(sleep=lambda _: None))
        self.snapshot = pull(source, load(study).protocol, home).snapshot
        self.basis = pipeline.Basis(self.snapshot.digest, study, day)
        self.folder = pipeline.report(home.root, self.basis, "evidence", Edition.internal)

    @property
    def text(self) -> str:
        command = ["pdftotext", "-layout", self.folder / "report.pdf", "-"]
        return " ".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())

    @property
    def change_at_week_4(self) -> pd.Series:
        rows = pd.read_csv(self.folder / "estimates.csv")
        wanted = (rows["section"] == "pain") & (rows["statistic"] == "mean_change") & (rows["visit"] == "week_4")
        return rows[wanted & (rows["measure"] == "pain_nrs")].iloc[0]


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """Two nights, and the week 4 changes expected of the second.

    Between them one pain score becomes 10, one is called an error, and one is deleted.
    """
    home, now = Home.at(tmp_path_factory.mktemp("home")), datetime(2026, 11, 1, 4, 30, tzinfo=UTC)
    study = short_study(tmp_path_factory.mktemp("study"), evidence=["summary", "restatement", "pain", "provenance"])
    cohort = generate(Options(patients=30, seed=11), load(study)).resources
    newest = {(one["resourceType"], one["id"]): one for own in cohort.values() for one in own if "id" in one}
    server = FaultyServer(list(newest.values()), now=lambda: now)
    day = date(2026, 10, 1)
    first = Night(server, home, study, day)
    plan = derive.plan(open_snapshot(first.snapshot.folder), load(study), home, as_of=day)
    outcomes = derive.gather(plan).outcomes
    chosen = outcomes[
        (outcomes["measure"] == "pain_nrs") & (outcomes["visit"] == "week_4") & outcomes["change"].notna()
    ]
    refs = [refs.split()[0] for refs in chosen["source_refs"][:3]]
    amended, wrong, gone = (newest["Observation", ref.split("/")[1]] for ref in refs)
    now = datetime(2026, 11, 1, 12, tzinfo=UTC)
    meta = {"versionId": "9", "lastUpdated": "2026-11-01T11:00:00Z"}
    value = (
        {"valueInteger": 10}
        if "valueInteger" in amended
        else {"valueQuantity": amended["valueQuantity"] | {"value": 10}}
    )
    server.put(amended | {"status": "amended", "meta": meta} | value)
    server.put(wrong | {"status": "entered-in-error", "meta": meta})
    server.delete("Observation", gone["id"])
    now = datetime(2026, 11, 2, 4, 30, tzinfo=UTC)
    changes = [*chosen["change"][3:], chosen["change"].iloc[0] - chosen["value"].iloc[0] + 10]
    return first, Night(server, home, study, day), changes


def test_the_second_report_says_what_changed_and_since_when(nights):
    _, second, _ = nights
    told = "Since the last report (data of 1 Oct 2026): records: 1 amended, 1 entered in error, 1 deleted"
    assert told in second.text
    for reason in ("Amended 1 1 1", "Entered in error 1 1 1", "Deleted 1 1 1", "New patients 0 0 0"):
        assert reason in second.text
    assert "Analysis plan, definitions and program are those of the last report." in second.text


def test_the_second_report_has_the_figures_of_what_is_left(nights):
    first, second, changes = nights
    assert first.change_at_week_4["n"] == len(changes) + 2
    assert second.change_at_week_4["n"] == len(changes)
    assert second.change_at_week_4["estimate"] == pytest.approx(sum(changes) / len(changes))


def test_the_first_report_still_says_what_it_said(nights):
    first, *_ = nights
    assert "This is the first report of its kind made here" in first.text
    assert (first.folder / "report.pdf").exists()
