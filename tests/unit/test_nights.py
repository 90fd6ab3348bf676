"""Night after night: only what changed is asked for, and yet the snapshot is the one a whole pull would give."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_cohort import cohort, consent, group, member, observation, protocol, pulled_from, resource

from crps_outcomes.errors import IncompleteDataError
from crps_outcomes.home import Home
from crps_outcomes.nights import OVERLAP, Past, next_watermarks
from crps_outcomes.state import Night, Records
from faulty_server import FaultyServer, Inject

FIRST_NIGHT = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clinic:
    """A server whose clock stands at the night of a pull, and whose resources are dated by the day they changed."""

    def __init__(self, resources=None) -> None:
        self.now = FIRST_NIGHT
        self.server = FaultyServer([], now=lambda: self.now)
        for number, one in enumerate(cohort() if resources is None else resources):
            self.write(one, at=FIRST_NIGHT - timedelta(days=40) + timedelta(hours=number))

    def write(self, one, *, at=None, version="1"):
        self.server.put(one | {"meta": {"versionId": version, "lastUpdated": _text(at or self.now)}})

    def night(self, folder, own=None, **settings):
        """One pull; gives it and what was asked for Observations."""
        self.now += timedelta(days=1)
        before = len(self.server.requests)
        pulled = pulled_from(self.server, folder, own, **settings)
        return pulled, [one.url for one in self.server.requests[before:] if "/Observation" in one.url.path]


def _text(at):
    return at.isoformat().replace("+00:00", "Z")


def changes(pulled):
    found = pulled.snapshot.changes().to_dict("records")
    return {(one["resource_type"], one["change"]): one["n"] for one in found}


@pytest.fixture
def clinic():
    return Clinic()


def test_a_night_without_news_asks_for_changes_and_counts_and_reads_no_page_again(clinic, tmp_path):
    first, _ = clinic.night(tmp_path)
    second, asked = clinic.night(tmp_path)
    assert second.snapshot.digest == first.snapshot.digest
    assert all("_lastUpdated" in url.params or url.params.get("_summary") == "count" for url in asked)
    carried = second.ledger.set_index("query_id").loc["Observation of the snapshot before"]
    assert (carried["received"], carried["accepted"]) == (11, 11)  # the last change falls into the overlap
    assert (second.ledger["accepted"] + second.ledger["rejected"] == second.ledger["received"]).all()


def test_what_changed_between_two_nights_is_in_the_second_and_told_with_its_kind(clinic, tmp_path):
    clinic.night(tmp_path / "a")
    clinic.write(observation("a-1", "a", 9) | {"status": "amended"}, version="2")
    clinic.write(observation("a-2", "a", 5) | {"status": "entered-in-error"}, version="2")
    clinic.server.delete("Observation", "b-3")
    clinic.write(observation("c-new", "c", 1))
    second, _ = clinic.night(tmp_path / "a")
    assert changes(second) == {
        ("Observation", "changed"): 1, ("Observation", "entered-in-error"): 1,
        ("Observation", "deleted"): 1, ("Observation", "new"): 1,
    }  # fmt: skip
    (told,) = Home.at(tmp_path / "a").pulls.glob("*2/changes.csv")
    assert told.read_text().splitlines()[1:] == [
        "Observation/a-1,changed",
        "Observation/a-2,entered-in-error",
        "Observation/b-3,deleted",
    ]
    assert second.snapshot.digest == clinic.night(tmp_path / "b")[0].snapshot.digest


def test_a_deletion_alone_is_found_the_same_night_because_the_server_counts_fewer(clinic, tmp_path):
    clinic.night(tmp_path)
    clinic.server.delete("Observation", "a-1")
    second, _ = clinic.night(tmp_path)
    assert changes(second) == {("Observation", "deleted"): 1}
    assert "Observation-001 whole" in set(second.ledger["query_id"])


def test_a_deletion_and_an_unseen_insertion_that_cancel_out_are_found_by_the_whole_pull_of_the_week(clinic, tmp_path):
    clinic.night(tmp_path)
    clinic.server.delete("Observation", "a-1")
    clinic.write(observation("a-0", "a", 3), at=FIRST_NIGHT - timedelta(days=300))
    second, _ = clinic.night(tmp_path)
    assert changes(second) == {}  # nothing tells: as many as before, and no change that is dated since
    clinic.now += timedelta(days=7)
    third, asked = clinic.night(tmp_path)
    assert changes(third) == {("Observation", "deleted"): 1, ("Observation", "late"): 1}
    assert any("_count" in url.params and "_lastUpdated" not in url.params for url in asked)


def test_who_is_new_is_asked_for_with_all_their_past(clinic, tmp_path):
    clinic.night(tmp_path)
    clinic.write(group(*(member(name) for name in "abcx")), version="2")
    second, _ = clinic.night(tmp_path)
    assert changes(second)["Observation", "new"] == 4  # x's, all dated long before the first night
    assert "x" in second.enrolment.enrolled


def test_who_leaves_or_withdraws_leaves_with_everything(clinic, tmp_path):
    clinic.night(tmp_path)
    clinic.write(group(*(member(name) for name in "ab")), version="2")
    clinic.write(consent("b", status="inactive", dateTime="2026-03-01"), version="2")
    second, _ = clinic.night(tmp_path)
    assert changes(second)["Observation", "left"] == 8
    assert {line.decode().split('"id":"')[1][0] for line in second.snapshot.lines("Observation")} == {"a"}
    assert second.snapshot.digest == clinic.night(tmp_path / "other")[0].snapshot.digest


def test_an_older_version_never_replaces_a_newer_one(clinic, tmp_path):
    first, _ = clinic.night(tmp_path)
    stale = observation("a-1", "a", 1) | {"meta": {"versionId": "0", "lastUpdated": "2020-01-01T00:00:00Z"}}
    clinic.server.put(stale)
    second, _ = clinic.night(tmp_path)
    assert second.snapshot.digest == first.snapshot.digest


def test_a_hole_leaves_the_watermark_where_it_was(clinic, tmp_path):
    clinic.night(tmp_path)
    before = Records(Home.at(tmp_path).state_url)
    scope = _scope(tmp_path)
    mark = before.night(scope)
    clinic.write(observation("a-new", "a"))
    clinic.server.injects = (Inject("F19", 1, "AdverseEvent"),)
    with pytest.raises(IncompleteDataError):
        clinic.night(tmp_path)
    assert before.night(scope) == mark
    clinic.server.injects = ()
    assert changes(clinic.night(tmp_path)[0]) == {("Observation", "new"): 1}


def _scope(folder):
    import sqlite3  # noqa: PLC0415

    with sqlite3.connect(Home.at(folder).root / "state.sqlite") as state:
        return state.execute("select scope from nights").fetchone()[0]


def test_a_server_that_cannot_count_is_asked_for_everything_every_night(tmp_path):
    clinic = Clinic()
    clinic.server.injects = tuple(Inject("F06", page, "Observation") for page in (0, "count"))
    clinic.night(tmp_path)
    second, asked = clinic.night(tmp_path)
    assert second.state == "unverified"
    assert any("_lastUpdated" not in url.params and "_count" in url.params for url in asked)


def test_another_study_of_the_same_server_starts_from_nothing(clinic, tmp_path):
    clinic.night(tmp_path)
    _, asked = clinic.night(tmp_path, protocol(resource_types=("Patient", "Consent", "Observation")))
    assert any("_lastUpdated" not in url.params and "_count" in url.params for url in asked)


def test_a_damaged_snapshot_is_not_gone_on_from(clinic, tmp_path):
    first, _ = clinic.night(tmp_path)
    (first.snapshot.folder / "manifest.json").unlink()
    (first.snapshot.folder).rename(tmp_path / "gone")
    second, asked = clinic.night(tmp_path)
    assert second.snapshot.digest == first.snapshot.digest
    assert any("_lastUpdated" not in url.params and "_count" in url.params for url in asked)


# --- any history ----------------------------------------------------------------------------------------------------

EDITS = st.lists(
    st.tuples(st.sampled_from("abcx"), st.integers(1, 6), st.sampled_from(["write", "write", "delete", "error"])),
    max_size=4,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nights=st.lists(EDITS, min_size=1, max_size=4))
def test_any_history_of_nights_ends_in_the_snapshot_of_one_whole_pull(nights, tmp_path_factory):
    clinic, folder, version = Clinic(), tmp_path_factory.mktemp("nights"), 1
    for edits in nights:
        for person, number, what in edits:
            version += 1
            identity = f"{person}-{number}"
            if what == "delete":
                clinic.server.delete("Observation", identity)
            else:
                status = "final" if what == "write" else "entered-in-error"
                clinic.write(observation(identity, person, version) | {"status": status}, version=str(version))
        last, _ = clinic.night(folder)
        assert (last.ledger["accepted"] + last.ledger["rejected"] == last.ledger["received"]).all()
    clinic.now -= timedelta(days=1)
    whole, _ = clinic.night(folder.parent / f"{folder.name}-whole")
    assert last.snapshot.digest == whole.snapshot.digest


# --- watermarks (F26) -----------------------------------------------------------------------------------------------


def test_a_watermark_is_what_the_source_said_less_an_overlap_and_never_goes_back():
    past = Past(Night("scope", "digest", FIRST_NIGHT, {"Observation": FIRST_NIGHT}), None)
    seen = {
        "Observation": FIRST_NIGHT - timedelta(days=9),
        "Consent": FIRST_NIGHT - timedelta(days=3),
        "Condition": None,
    }
    marks = next_watermarks(seen, FIRST_NIGHT, past)
    assert marks == {
        "Observation": FIRST_NIGHT,
        "Consent": FIRST_NIGHT - timedelta(days=3) - OVERLAP,
        "Condition": FIRST_NIGHT - OVERLAP,
    }


def test_a_change_dated_in_the_future_moves_no_watermark(clinic, tmp_path):
    clinic.write(
        resource("Observation", "a-9", subject={"reference": "Patient/a"}), at=FIRST_NIGHT + timedelta(days=900)
    )
    clinic.night(tmp_path)
    night = Records(Home.at(tmp_path).state_url).night(_scope(tmp_path))
    assert night.watermarks["Observation"] < FIRST_NIGHT + timedelta(days=1)
