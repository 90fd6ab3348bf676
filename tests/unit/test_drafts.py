"""A draft of incomplete data: only when asked for, marked on every page, nobody's current report, and still a failure."""

from __future__ import annotations

import subprocess
from datetime import date

import pytest
from small_cohort import cohort, pulled_from

from crps_outcomes import pipeline
from crps_outcomes.errors import IncompleteDataError
from crps_outcomes.home import Home
from crps_outcomes.params import Edition
from crps_outcomes.state import Records
from crps_outcomes.study import locate
from faulty_server import FaultyServer, Inject

HOLE = Inject("F19", 1, "Observation")


@pytest.fixture(scope="module")
def drafted(tmp_path_factory):
    """A home with a good snapshot, then a draft's, and the folder of the draft report."""
    home = tmp_path_factory.mktemp("home")
    good = pulled_from(FaultyServer(cohort()), home)
    draft = pulled_from(FaultyServer(cohort(), HOLE), home, is_draft=True)
    basis = pipeline.Basis(draft.snapshot.digest, locate(), date(2026, 2, 28))
    return home, good, draft, basis, pipeline.report(home, basis, "evidence", Edition.internal)


def test_a_draft_never_has_the_name_of_complete_data_and_is_never_the_latest(drafted):
    home, good, draft, *_ = drafted
    assert draft.state == draft.snapshot.manifest.completeness == "incomplete"
    assert draft.snapshot.manifest.holes == ("Observation F19",)
    assert [one.digest for one in Records(Home.at(home).state_url).snapshots()] == [good.snapshot.digest]


def test_every_page_of_a_draft_says_so_and_names_what_is_missing(drafted):
    *_, folder = drafted
    text = subprocess.run(
        ["pdftotext", "-layout", folder / "report.pdf", "-"], capture_output=True, text=True, check=True
    )
    pages = text.stdout.split("\f")[:-1]
    assert len(pages) > 3
    assert all("DRAFT - INCOMPLETE: Observation F19 missing" in page for page in pages)
    assert "Data pull: INCOMPLETE. Observation F19 missing." in " ".join(pages[0].split())
    assert "DRAFT - INCOMPLETE" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_draft_is_nobodys_current_report(drafted):
    home, *_, folder = drafted
    assert folder.name.startswith("DRAFT-")
    assert not list(Home.at(home).runs.glob("CURRENT-*"))


def test_a_run_that_ends_in_a_draft_has_failed_all_the_same(drafted):
    home, good, _, basis, folder = drafted
    with pytest.raises(IncompleteDataError, match=r"Observation F19.*DRAFT-") as caught:
        pipeline.refuse_draft(home, basis, [str(folder)])
    assert caught.value.exit_code == 4
    pipeline.refuse_draft(home, pipeline.Basis(good.snapshot.digest, locate(), date(2026, 2, 28)), [])


def test_without_a_draft_being_asked_for_there_is_none(tmp_path):
    with pytest.raises(IncompleteDataError):
        pulled_from(FaultyServer(cohort(), HOLE), tmp_path)
    assert list(Home.at(tmp_path).snapshots.iterdir()) == []


def test_where_it_is_not_known_who_is_enrolled_there_is_no_draft_either(tmp_path):
    with pytest.raises(IncompleteDataError, match="F19"):
        pulled_from(FaultyServer(cohort(), Inject("F19", 1, "Consent")), tmp_path, is_draft=True)
