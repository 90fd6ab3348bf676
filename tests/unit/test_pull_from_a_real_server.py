"""Against SEKMET, a FHIR server we did not write: the same counts from server and folder, and as another client counts."""

from __future__ import annotations

import subprocess
import sys
import time

import httpx
import pytest
from fhirpy import SyncFHIRClient
from small_cohort import KEPT, cohort, counts, newer, observation, protocol, write_folder

from crps_outcomes.demo_server import serve
from crps_outcomes.fhir import folder_source, open_source
from crps_outcomes.home import Home
from crps_outcomes.stages.pull import pull

pytestmark = pytest.mark.server

# Enough Observations for several pages, one of them amended, and one without the status FHIR requires.
RESOURCES = [
    *cohort(),
    *(observation(f"more-{number:03d}", "abc"[number % 3], number % 11) for number in range(300)),
    newer(observation("more-000", "a", 7)),
    {"resourceType": "Observation", "id": "no-status", "subject": {"reference": "Patient/a"}},
]
OWN = protocol(page_size=40, patients_per_query=2)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(base URL, NDJSON folder, server folder) of a loaded server."""
    folder = write_folder(tmp_path_factory.mktemp("export"), RESOURCES)
    data = tmp_path_factory.mktemp("server")
    with serve(folder, data) as base:
        yield base, folder, data


def test_server_and_folder_give_the_same_counts_and_the_server_one_digest(served, tmp_path):
    base, folder, _ = served
    first, second = (pull(open_source(base), OWN, Home.at(tmp_path)) for _ in range(2))
    read = pull(folder_source(folder), OWN, Home.at(tmp_path))
    assert counts(first) == counts(read) == KEPT | {"Observation": 313}
    assert first.snapshot.digest == second.snapshot.digest
    assert (first.state, read.state) == ("complete", "complete")
    assert first.enrolment == read.enrolment


@pytest.mark.parametrize("level", ["system", "patient", "group"])
def test_an_export_gives_the_digest_of_the_search(level, served, tmp_path):
    base, _, _ = served
    searched = pull(open_source(base), OWN, Home.at(tmp_path / "search"))
    exported = pull(open_source(base, method="export", level=level), OWN, Home.at(tmp_path / "export"))
    assert (exported.snapshot.digest, exported.state) == (searched.snapshot.digest, "complete")
    assert exported.snapshot.manifest.software == searched.snapshot.manifest.software


def test_another_client_counts_the_same(served, tmp_path):
    base, _, _ = served
    client, own = SyncFHIRClient(base), pull(open_source(base), OWN, Home.at(tmp_path))
    names = ("Patient", "Observation", "MedicationAdministration", "AdverseEvent")
    found = {name: client.resources(name).limit(50).fetch_all() for name in names}
    ours = {name: [one for one in found[name] if _patient(one) in {"a", "b", "c"}] for name in names}
    assert {name: len(ours[name]) for name in names} == {name: counts(own)[name] for name in names}
    by_patient = client.resources("Observation").search(patient="a,b,c").limit(50).fetch_all()
    assert len(by_patient) == len(ours["Observation"])
    assert sum(one["valueQuantity"]["value"] == 7 for one in by_patient if one["id"] == "more-000") == 1


def _patient(one):
    return one["id"] if one["resourceType"] == "Patient" else str(one["subject"]["reference"]).removeprefix("Patient/")


def test_a_second_night_ends_in_the_snapshot_of_a_whole_pull(served, tmp_path):
    _, folder, _ = served
    with serve(folder, tmp_path / "server") as base:
        first = pull(open_source(base), OWN, Home.at(tmp_path / "nightly"))
        amended = observation("more-001", "b", 10) | {"status": "amended"}
        assert httpx.put(f"{base}/Observation/more-001", json=amended).is_success
        assert httpx.put(f"{base}/Observation/later", json=observation("later", "c", 2)).is_success
        assert httpx.delete(f"{base}/Observation/more-002").is_success
        second = pull(open_source(base), OWN, Home.at(tmp_path / "nightly"))
        whole = pull(open_source(base), OWN, Home.at(tmp_path / "whole"))
    assert first.snapshot.digest != second.snapshot.digest == whole.snapshot.digest
    changes = second.snapshot.changes().set_index(["resource_type", "change"])["n"].to_dict()
    assert changes == {("Observation", "changed"): 1, ("Observation", "new"): 1, ("Observation", "deleted"): 1}


def test_a_cohort_that_is_loaded_is_not_loaded_again(served, tmp_path):
    _, folder, _ = served
    said = []
    with serve(folder, tmp_path, progress=said.append) as base:
        first = _count(base)
    assert said[-1] == f"Loading the demo server: {len(RESOURCES)} of {len(RESOURCES)} resources"
    said.clear()
    with serve(folder, tmp_path, progress=said.append) as base:
        assert (_count(base), said) == (first, [])
    assert first == sum(one["resourceType"] == "Observation" for one in RESOURCES) - 1  # one stands in two versions


def _count(base):
    return httpx.get(f"{base}/Observation?_summary=count").json()["total"]


def test_the_server_dies_with_the_program_that_started_it(served, tmp_path):
    _, folder, _ = served
    program = (
        "import os, sys; from pathlib import Path; from crps_outcomes.demo_server import serve\n"
        "with serve(Path(sys.argv[1]), Path(sys.argv[2])) as base:\n"
        "    print(base, flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, folder, tmp_path], check=False, capture_output=True, text=True
    )
    base = killed.stdout.strip()
    assert base.startswith("http://127.0.0.1:")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{base}/metadata", timeout=2)
        except httpx.HTTPError:
            return
        time.sleep(0.1)
    pytest.fail("the server outlived its parent by 20 s")
