"""A pull as a whole: one digest however the data arrive, everything accounted for, or nothing published."""

from __future__ import annotations

import json
import tempfile
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_cohort import (
    KEPT,
    cohort,
    consent,
    counts,
    group,
    member,
    ndjson,
    newer,
    observation,
    protocol,
    pulled_from,
    resource,
    selecting,
    write_folder,
    write_manifest,
)  # fmt: skip
from test_enrolment import SAID, of_another_cohort

from crps_outcomes import resources as fhir
from crps_outcomes.enrolment import SELECTOR_TYPES, enrol
from crps_outcomes.errors import IncompleteDataError, NoPatientsError
from crps_outcomes.fhir import folder_source
from crps_outcomes.home import Home
from crps_outcomes.stages.pull import pull, wanted_types
from faulty_server import PARAMETERS, FaultyServer, Inject

FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
OBSERVATIONS = [one for one in cohort() if one["resourceType"] == "Observation"]
OTHERS = [one for one in cohort() if one["resourceType"] != "Observation"]
#: One Observation was amended; its older version and a copy of another may arrive at any place.
ARRIVING = [*OBSERVATIONS[1:], newer(OBSERVATIONS[0]), OBSERVATIONS[0], OBSERVATIONS[1]]


def pulled_here(folder, own=None):
    return pull(folder_source(folder), own or protocol(), Home.at(folder / "home"))


@pytest.fixture(scope="module")
def digest(tmp_path_factory):
    resources = [*OTHERS, newer(OBSERVATIONS[0]), *OBSERVATIONS[1:]]
    return pulled_here(write_folder(tmp_path_factory.mktemp("clean"), resources)).snapshot.digest


@FEW
@given(st.permutations(ARRIVING), st.integers(1, 7), st.integers(1, 4), st.integers(1, 3))
def test_pages_chunks_order_and_duplicates_leave_no_trace(digest, order, page_size, people, workers):
    own = protocol(page_size=page_size, patients_per_query=people, workers=workers)
    with tempfile.TemporaryDirectory() as home:
        found = pulled_from(FaultyServer([*order, *OTHERS]), Path(home), own)
        assert (found.snapshot.digest, found.state) == (digest, "complete")
        assert (found.ledger["accepted"] + found.ledger["rejected"] == found.ledger["received"]).all()


@FEW
@given(st.permutations(ARRIVING), st.lists(st.integers(0, len(ARRIVING)), max_size=3), st.booleans())
def test_files_order_and_duplicates_leave_no_trace(digest, order, cuts, is_listed):
    bounds = [0, *sorted(cuts), len(order)]
    with tempfile.TemporaryDirectory() as name:
        folder = write_folder(Path(name), OTHERS, is_listed=False)
        files = {f"{one['resourceType']}.ndjson": one["resourceType"] for one in OTHERS}
        for number, (start, end) in enumerate(pairwise(bounds)):
            (folder / f"Observation.{number}.ndjson").write_bytes(ndjson(order[start:end]))
            files[f"Observation.{number}.ndjson"] = "Observation"
        if is_listed:
            write_manifest(
                folder, {one: (kind, (folder / one).read_bytes().count(b"\n")) for one, kind in files.items()}
            )
        found = pulled_here(folder)
        assert (found.snapshot.digest, found.state) == (digest, "complete" if is_listed else "unverified")


PAGES = st.sampled_from([("Observation", page) for page in range(1, 5)] + [("AdverseEvent", 1), ("Patient", 1)])


@FEW
@given(PAGES)
def test_a_page_that_is_lost_is_always_missed(place):
    name, page = place
    with tempfile.TemporaryDirectory() as home, pytest.raises(IncompleteDataError, match=f"{name}.*F07"):
        pulled_from(FaultyServer(cohort(), Inject("F07 lost page", page, name)), Path(home))


def test_all_holes_are_named_at_once(tmp_path):
    faults = [Inject("F19", 1, "Observation"), Inject("F22", 1, "AdverseEvent")]
    with pytest.raises(IncompleteDataError) as caught:
        pulled_from(FaultyServer(cohort(), *faults), tmp_path)
    text = str(caught.value)
    assert "Observation (Observation-001, part 0): F19" in text
    assert "AdverseEvent (AdverseEvent-001, part 0): F22" in text
    (ledger,) = Home.at(tmp_path).pulls.glob("*/ledger.csv")
    assert f"pulls/{ledger.parent.name}/ledger.csv" in text


def test_without_knowing_who_is_enrolled_nothing_clinical_is_asked_for(tmp_path):
    server = FaultyServer(cohort(), Inject("F19", 1, "Consent"))
    with pytest.raises(IncompleteDataError, match=r"Consent.*F19"):
        pulled_from(server, tmp_path)
    assert server.asked("Observation") == []


@pytest.mark.parametrize(("resources", "words"), [
    ([], "lists 0"),
    ([group()], "lists 0"),
    ([group(member("d", inactive=True))], "lists 1 and none of them is active"),
    ([group(member("a"))], "1 have no Patient"),
    ([group(member("a")), resource("Patient", "a"), consent("a", status="inactive")], "1 withdrew consent"),
])  # fmt: skip
def test_a_cohort_of_nobody_is_an_error_and_never_an_empty_report(resources, words, tmp_path):
    with pytest.raises(NoPatientsError, match=words) as caught:
        pulled_from(FaultyServer(resources), tmp_path)
    assert caught.value.exit_code == 5
    assert list(Home.at(tmp_path).snapshots.iterdir()) == []


def test_the_same_data_twice_are_one_snapshot_and_two_ledgers(tmp_path):
    first, second = (pulled_from(FaultyServer(cohort()), tmp_path) for _ in range(2))
    home = Home.at(tmp_path)
    assert first.snapshot == second.snapshot
    assert len(list(home.snapshots.iterdir())) == 1
    assert len(list(home.pulls.glob("*/ledger.csv"))) == 2


def test_a_server_and_a_folder_with_the_same_data_give_the_same_snapshot(tmp_path):
    asked = pulled_from(FaultyServer(cohort()), tmp_path / "home")
    read = pulled_here(write_folder(tmp_path / "export", cohort()))
    assert (asked.snapshot.digest, counts(asked)) == (read.snapshot.digest, KEPT)
    assert (asked.snapshot.manifest.source_kind, read.snapshot.manifest.source_kind) == ("rest", "folder")


@pytest.mark.parametrize("selector", sorted(SAID.keys() - {"list"}))
@pytest.mark.parametrize("kind", ["rest", "folder"])
def test_the_snapshot_says_the_same_about_enrolment_as_the_pull(selector, kind, tmp_path):
    own = selecting(selector)
    resources = [*SAID[selector], *(one for one in cohort() if one["resourceType"] != "Group")]
    if kind == "rest":
        found = pulled_from(FaultyServer(resources), tmp_path, own)
    else:
        found = pulled_here(write_folder(tmp_path, resources), own)
    names = {*SELECTOR_TYPES[selector], "Patient", "Consent"} & set(found.snapshot.types())
    held = {name: [fhir.decode(name, line) for line in found.snapshot.lines(name)] for name in names}
    again = enrol(held, own, as_of=date.fromisoformat(found.snapshot.manifest.pulled_on))
    assert again == found.enrolment
    assert list(again.enrolled) == ["a", "b"]


@pytest.mark.parametrize("selector", sorted(SAID.keys() - {"list"}))
@pytest.mark.parametrize("kind", ["rest", "folder"])
def test_other_cohorts_of_the_same_source_are_dropped(selector, kind, tmp_path):
    own, others = selecting(selector), of_another_cohort(SAID[selector])
    resources = [*others, *SAID[selector], *(one for one in cohort() if one["resourceType"] != "Group")]
    if kind == "rest":
        server = FaultyServer(resources, parameters=dict.fromkeys(PARAMETERS, ()))  # it can narrow nothing
        found = pulled_from(server, tmp_path, own)
    else:
        found = pulled_here(write_folder(tmp_path, resources), own)
    assert list(found.enrolment.enrolled) == ["a", "b"]
    assert sum(counts(found)[name] for name in SELECTOR_TYPES[selector]) == len(SAID[selector])
    assert (found.ledger["accepted"] + found.ledger["rejected"] == found.ledger["received"]).all()


def test_the_pull_asks_for_the_selector_and_what_the_study_names():
    assert wanted_types(selecting("research_subject"))[:3] == ("ResearchStudy", "ResearchSubject", "Patient")


def test_the_data_are_as_of_the_newest_change_that_is_not_in_the_future(tmp_path):
    late = observation("late", "a") | {"meta": {"lastUpdated": "2026-02-10T02:00:00Z"}}
    future = observation("future", "a") | {"meta": {"lastUpdated": "2031-01-01T00:00:00Z"}}
    found = pulled_from(FaultyServer([*cohort(), late, future]), tmp_path)
    assert found.snapshot.manifest.data_as_of == "2026-02-09"  # the evening before in New York
    assert found.snapshot.manifest.pulled_on == "2026-03-01"
    assert found.snapshot.manifest.software == "Faulty 1"


def test_progress_names_types_and_numbers_only(tmp_path):
    said = []
    folder = write_folder(tmp_path, cohort())
    pull(folder_source(folder), protocol(), Home.at(tmp_path / "home"), progress=said.append)
    assert "Pulling Observation: 24" in said
    assert not any("a-1" in sentence for sentence in said)


def test_the_ledger_file_has_no_ids(tmp_path):
    pulled_from(FaultyServer(cohort()), tmp_path)
    (ledger,) = Home.at(tmp_path).pulls.glob("*/ledger.csv")
    text = ledger.read_text(encoding="utf-8")
    assert "a-1" not in text
    assert json.dumps("dose") not in text
    assert text.startswith("query_id,part,resource_type,asked,declared,received,distinct,accepted,rejected,hole")


def test_a_medication_that_only_an_order_refers_to_is_pulled(tmp_path):
    order = resource("MedicationRequest", "order", subject={"reference": "Patient/a"}, status="active",
                     medicationReference={"reference": "Medication/of-others"})  # fmt: skip
    own = protocol(resource_types=("Patient", "Consent", "MedicationAdministration", "MedicationRequest"))
    assert counts(pulled_from(FaultyServer([*cohort(), order]), tmp_path, own))["Medication"] == 2
