"""docs/faults.md: no fault of the catalogue ends as a complete pull with data missing or added."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_cohort import cohort, pulled_from

from fault_table import LASTING, NIGHTS, Case, cases, outcomes, page, run
from faulty_server import CATALOGUE, VARIANTS, FaultyServer

ROOT = Path(__file__).resolve().parents[2]
FAULTS = pytest.mark.parametrize("fault", CATALOGUE, ids=lambda one: one.code)


@FAULTS
def test_T8_a_fault_ends_in_the_same_data_or_in_a_refusal_with_its_name(fault):
    found = outcomes(fault)
    assert found
    assert {case: one for case, one in found.items() if one.verdict == "VIOLATION"} == {}


@FAULTS
def test_every_way_of_a_fault_is_tried_with_every_source_that_can_have_it(fault):
    tried = {(case.variant, case.source) for case in cases(fault)}
    assert tried == {(one.name, source) for one in fault.variants for source in one.sources}


@FAULTS
def test_what_a_fault_changes_is_met_by_the_pull_or_named_as_never_asked_for(fault):
    never = {name for name in VARIANTS if name.startswith("F10")} | {"F24 gone"}
    unmet = {case.variant for case, one in outcomes(fault).items() if one.verdict == "not asked for"}
    met = {case.variant for case, one in outcomes(fault).items() if one.verdict != "not asked for"}
    assert unmet - met == never & {one.name for one in fault.variants}


def test_f10_f24_a_pull_asks_for_no_includes_and_reads_no_single_resource(tmp_path):
    server = FaultyServer(cohort())
    pulled_from(server, tmp_path)
    assert {one.url.path.count("/") for one in server.requests} == {2}  # /r4/Observation
    assert not any("include" in name for one in server.requests for name in one.url.params)


def test_f25_a_deletion_nothing_tells_of_is_found_within_the_week():
    found = {source: run(Case("F25", source, NIGHTS, LASTING)).words for source in VARIANTS["F25"].sources}
    assert found == {
        "rest": "found in the same night",
        "export": "found in the same night",
        "folder": "found in the same night",
    }


def test_the_page_about_the_faults_says_what_the_pulls_do_now():
    peers = (ROOT / "benchmarks" / "peers_under_faults.md").read_text(encoding="utf-8")
    told = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert told == page(peers), "run: make faults-table"


@pytest.mark.slow
@FAULTS
def test_at_every_place_and_for_every_type_that_decides_who_is_enrolled_it_ends_so_too(fault):
    found = {case: run(case) for case in cases(fault, is_thorough=True)}
    assert {case: one for case, one in found.items() if one.verdict == "VIOLATION"} == {}
