"""A snapshot is named by what it holds, found damaged by one flipped byte, and readable by its owner only."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_cohort import cohort, newer, observation, pulled_from

from crps_outcomes.errors import IncompleteDataError
from crps_outcomes.fhir.source import Item, Part, instant, read_item
from crps_outcomes.journal import Place, held, row_of
from crps_outcomes.ledger import Books
from crps_outcomes.rejections import rejection_table
from crps_outcomes.snapshot import Conclusion, Origin, open_snapshot, write_snapshot
from faulty_server import FaultyServer

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ORIGIN = Origin("folder", "complete", "group", "2026-03-01T12:00:00Z", "2026-03-01", "2026-02-01", "test")


def item(resource) -> Item:
    read = read_item(json.dumps(resource).encode())
    assert isinstance(read, Item)
    return read


def written(folder, resources, origin=ORIGIN):
    """A snapshot of Observations that arrived one page each."""
    kept, books = arrived(*resources)
    tables = {"ledger": books.ledger(), "rejections": rejection_table(()), "changes": books.changes_table()}
    return write_snapshot(folder, {"Observation": kept}, lambda: Conclusion(origin, tables))


def arrived(*resources, before=None):
    """What is kept of resources that arrived one page each, in this order, and the books of it."""
    parts = [Part("q", place, "Observation", items=(item(one),)) for place, one in enumerate(resources)]
    books = Books(NOW, rows=[row_of(part) for part in parts])
    runs = [iter([held(part.items[0], Place("q", part.part))]) for part in parts]
    return list(books.settle("Observation", runs, lambda _: True, before)), books


def small(folder):
    """A snapshot of three Observations."""
    folder.mkdir(exist_ok=True)
    return written(folder, [observation(f"o{n}", "a", n) for n in (1, 2, 3)])


def test_what_was_written_is_read_back_sorted_by_id(tmp_path):
    snapshot = open_snapshot(small(tmp_path).folder)
    assert [msgspec.json.decode(line)["id"] for line in snapshot.lines("Observation")] == ["o1", "o2", "o3"]
    assert (snapshot.types(), list(snapshot.lines("Patient"))) == (("Observation",), [])
    assert (snapshot.ledger()["accepted"].sum(), len(snapshot.rejections())) == (3, 0)
    assert snapshot.manifest.files["Observation"]["count"] == 3


def test_the_same_data_again_reuse_the_folder(tmp_path):
    first = small(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert small(tmp_path).digest == first.digest
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == [first.digest]


def test_every_flipped_byte_is_found_and_its_file_named(tmp_path):
    folder = small(tmp_path).folder
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 40)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(IncompleteDataError, match=path.name.replace(".", r"\.")):
                open_snapshot(folder)
        path.write_bytes(whole)
    open_snapshot(folder)


def test_every_missing_file_is_named(tmp_path):
    folder = small(tmp_path).folder
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(IncompleteDataError, match=path.name):
            open_snapshot(folder)
        path.write_bytes(whole)


def test_a_snapshot_under_another_name_is_not_that_snapshot(tmp_path):
    folder = small(tmp_path).folder
    with pytest.raises(IncompleteDataError, match="manifest"):
        open_snapshot(folder.rename(folder.with_name("0" * 64)))


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("crps_outcomes.snapshot.sync_folder", _fails)
    with pytest.raises(OSError, match="disk"):
        small(tmp_path)
    assert list(tmp_path.iterdir()) == []


def _fails(_):
    raise OSError("no space on disk")


def test_only_the_owner_may_read_what_a_pull_writes(tmp_path):
    pulled_from(FaultyServer(cohort()), tmp_path / "home")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home").rglob("*") if path.is_file()}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home").rglob("*") if path.is_dir()}
    assert (modes, folders) == ({0o600}, {0o700})
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_numbers_keep_the_digits_the_source_wrote():
    read = read_item(b'{"resourceType":"Observation","id":"o","valueQuantity":{"value":1.10,"unit":"mg"}}')
    assert isinstance(read, Item)
    assert read.body == b'{"id":"o","resourceType":"Observation","valueQuantity":{"unit":"mg","value":1.10}}'


def test_the_digest_sees_content_and_not_how_it_was_written():
    compact, spaced = b'{"resourceType":"X1","id":"a"}', b' { "id" : "a",\n"resourceType":"Xa"}'
    assert isinstance(read_item(compact), str)  # a type name has no digits
    one, two = read_item(spaced), read_item(b'{"resourceType":"Xa","id":"a"}')
    assert isinstance(one, Item)
    assert isinstance(two, Item)
    assert one.sha256 == two.sha256


# --- what cannot be read (T7, T37) ----------------------------------------------------------------------------------

HOSTILE = {
    "not JSON": b"{",
    "no object": b"[1]",
    "NaN": b'{"resourceType":"Patient","id":"a","x":NaN}',
    "lone surrogate": b'{"resourceType":"Patient","id":"a","x":"\\ud800"}',
    "not UTF-8": b'{"resourceType":"Patient","id":"a","x":"\xff"}',
    "deep": b'{"resourceType":"Patient","id":"a","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "endless exponent": b'{"resourceType":"Patient","id":"a","x":1e99999999999999999999}',
    "status twice": b'{"resourceType":"Patient","id":"a","status":"entered-in-error","status":"final"}',
    "subject twice, one escaped": b'{"resourceType":"Patient","id":"a","subject":1,"\\u0073ubject":2}',
    "a value twice": b'{"resourceType":"Patient","id":"a","valueString":"1","valueString":"2"}',
    "no type": b'{"id":"a"}',
    "type is a path": b'{"resourceType":"../Patient","id":"a"}',
    "no id": b'{"resourceType":"Patient"}',
    "id is a path": b'{"resourceType":"Patient","id":"../../etc/passwd"}',
    "id with NUL": b'{"resourceType":"Patient","id":"a\\u0000"}',
    "id with line break": b'{"resourceType":"Patient","id":"a\\n"}',
    "long id": b'{"resourceType":"Patient","id":"' + b"a" * 300 + b'"}',
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_unreadable_and_nothing_else(raw):
    reason = read_item(raw)
    assert isinstance(reason, str)
    assert "passwd" not in reason


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_text_at_all_makes_reading_fail(raw):
    assert isinstance(read_item(raw), Item | str)


@pytest.mark.parametrize(
    "meta", [None, 1, "x", [], {"lastUpdated": 5}, {"lastUpdated": "2026"}, {"tag": "x"}, {"tag": [1]}]
)
def test_a_resource_with_an_odd_meta_is_still_read(meta):
    assert item({"resourceType": "Patient", "id": "a", "meta": meta}).last_updated is None


def test_an_instant_needs_a_zone():
    assert instant("2026-02-01T10:00:00") is None
    assert instant("2026-02-01T10:00:00.123-05:00") == instant("2026-02-01T15:00:00.123Z")


# --- versions (F05) -------------------------------------------------------------------------------------------------


OLD, SAME = observation("o", "a", 1), observation("o", "a", 1)
NEW = newer(observation("o", "a", 2))
UNDATED = {"resourceType": "Observation", "id": "o", "valueQuantity": {"value": 3}}


@given(st.permutations([OLD, SAME, NEW, NEW]))
def test_the_newest_version_stays_whatever_the_order(resources):
    kept, books = arrived(*resources)
    assert [one.sha256 for one in kept] == [item(NEW).sha256]
    assert "superseded" in {one.rule for one in books.rejections} <= {"duplicate", "superseded"}
    assert (books.ledger()["accepted"].sum(), books.ledger()["distinct"].sum()) == (1, 1)
    assert not books.doubts


@given(st.permutations([UNDATED, UNDATED | {"status": "final"}, OLD]))
def test_versions_that_nothing_orders_are_a_hole(resources):
    assert arrived(*resources)[1].doubts


@given(st.permutations([OLD, OLD | {"status": "amended"}, NEW]))
def test_an_undecided_pair_does_not_matter_below_a_newer_version(resources):
    kept, books = arrived(*resources)
    assert not books.doubts
    assert [one.sha256 for one in kept] == [item(NEW).sha256]


def test_version_ids_never_order_versions():
    other = OLD | {"meta": OLD["meta"] | {"versionId": "99"}}
    assert arrived(OLD, other)[1].doubts
