"""The command as a user runs it, from a source to the folder of the run: what it publishes, and what it refuses."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from crps_outcomes import pipeline
from crps_outcomes.fhir import folder_source
from crps_outcomes.home import Home
from crps_outcomes.params import Edition
from crps_outcomes.stages.pull import pull
from crps_outcomes.study import load, locate
from crps_outcomes.synthetic import Options, generate, write_ndjson
from faulty_server import FaultyServer, Inject
from study_folder import short_study

pytestmark = pytest.mark.prefect


@pytest.fixture(scope="module")
def cohort():
    return generate(Options(patients=24, seed=5), load(locate()))


def command(source: str, home: Path, verb: str = "run", *options: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.run(
        [sys.executable, "-c", "from crps_outcomes.cli import main; main()", verb, "--source", source, *options],
        env=environment | {"CRPS_OUTCOMES_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def newest(resources):
    """What a server would hold: the last version of each."""
    return list({(one["resourceType"], one["id"]): one for own in resources.values() for one in own}.values())


def test_the_same_data_in_another_order_and_without_the_scheduler_give_the_same_bytes(cohort, tmp_path):
    study = short_study(tmp_path, evidence=["summary", "flow", "pain", "responders", "safety", "provenance"])
    done = command(str(write_ndjson(cohort, tmp_path / "cohort")), tmp_path / "one", "run", "--study", str(study))
    assert done.returncode == 0, done.stderr
    shuffled = write_ndjson(cohort, tmp_path / "shuffled")
    for path in sorted(shuffled.glob("*.ndjson")):
        lines = path.read_text().splitlines(keepends=True)
        random.Random(1).shuffle(lines)
        path.write_text("".join(lines))
    home = Home.at(tmp_path / "two")
    snapshot = pull(folder_source(shuffled), load(study).protocol, home).snapshot
    basis = pipeline.Basis(snapshot.digest, study, date.fromisoformat(snapshot.manifest.data_as_of))
    runs = (Path(done.stdout.splitlines()[-1]), pipeline.report(home.root, basis, "evidence", Edition.internal))
    assert len({json.loads((run / "provenance.json").read_text())["snapshot"] for run in runs}) == 1
    one, two = ({path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()} for run in runs)
    assert {Path("report.pdf"), Path("estimates.csv")} < {*one}
    assert [name for name in one.keys() | two.keys() if one.get(name) != two.get(name)] == []


def test_a_page_that_is_missing_ends_in_exit_4_and_nothing_is_published(cohort, tmp_path):
    with FaultyServer(newest(cohort.resources), Inject("F07 lost page")).listen() as address:
        done = command(address, tmp_path)
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.startswith("Stopped. ")
    assert "F07" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path).glob("runs/*")) + list((tmp_path).glob("snapshots/*"))
    assert (tmp_path / "prefect" / "server.log").read_text(encoding="utf-8") == ""
    assert {path.stat().st_mode & 0o077 for path in tmp_path.rglob("*")} == {0}


def test_a_line_that_is_missing_ends_in_exit_4_and_there_is_no_snapshot(cohort, tmp_path):
    folder = write_ndjson(cohort, tmp_path / "cohort")
    path = folder / "QuestionnaireResponse.ndjson"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    done = command(str(folder), tmp_path / "home", "pull")
    assert done.returncode == 4
    assert "F36" in done.stderr
    assert not [*(tmp_path / "home").glob("runs/*"), *(tmp_path / "home").glob("snapshots/*")]
