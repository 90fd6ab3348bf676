"""A pull whose power is cut: whatever the disk had not yet written, the next pull ends as if nothing had happened (T23)."""

from __future__ import annotations

import shutil
from itertools import product

import pytest
from small_cohort import observation, pulled_from
from test_crash import COHORT, OWN, FirstNight, SecondNight, left_over, pages, sound, state_of, twin_of

from failing_disk import Failing, killed, survives, watched
from faulty_server import FaultyServer
from power_cut import CONTENTS, SURVIVING, Disk, laid_out


def state_file(home):
    path = home / "state.sqlite"
    return path.read_bytes() if path.exists() else b""


class Resumed(FirstNight):
    """What a pull that was killed left, from a server that has changed meanwhile."""

    def prepare(self, home):
        with watched(home, Failing(60, killed)):
            assert not survives(lambda: pulled_from(FaultyServer(COHORT), home, OWN))

    def __init__(self):
        self.server = FaultyServer([*COHORT, observation("a-4", "a"), observation("b-4", "b")])


def cut_disks(kind, folder):
    """After each operation of a pull, every disk that a power cut may leave: how, and the units that must be safe."""
    scenario, home = kind(), folder / "watched"
    shutil.copytree(folder / "before", home)
    disk, committed, seen, found = Disk(home), set(), [], []

    def before(operation):
        disk.database = state_file(home)
        for name, contents in product(SURVIVING, CONTENTS):
            left = disk.left(SURVIVING[name], contents)
            read = {path: content for path, content in left.items() if not path.endswith("requests.ndjson")}
            if read not in seen:
                seen.append(read)
                how = f"of the names {name}, of contents {contents}, before {operation.kind} of {operation.path.name}"
                found.append((how, left, frozenset(committed)))
        if operation.kind == "fsync" and operation.path.name == "journal":
            committed.update(path.stem for path in operation.path.glob("*.json"))
        if operation.kind == "unlink":
            committed.discard(operation.path.stem)
        disk.do(operation)

    with watched(home, before):
        scenario.pull(home)
    return found


@pytest.mark.parametrize("kind", [FirstNight, SecondNight, Resumed])
def test_t23_after_a_power_cut_at_any_moment_the_next_pull_ends_as_if_nothing_had_happened(kind, tmp_path):
    twin = twin_of(kind, tmp_path)
    before, after = twin.states
    disks = cut_disks(kind, tmp_path)
    for how, left, committed in disks:
        home, scenario = laid_out(left, tmp_path / "cut"), kind()
        state = state_of(home)
        assert state in [before, after], how
        assert sound(home) >= sound(twin.before), how
        with watched(home, lambda _: None):
            pulled = scenario.pull(home)
        assert pulled.snapshot.digest == twin.digest, how
        assert (pulled.ledger["accepted"] + pulled.ledger["rejected"] == pulled.ledger["received"]).all(), how
        assert (state_of(home), sound(home), left_over(home)) == (after, sound(twin.after), []), how
        if state == before:
            safe = [page for key in committed for page in twin.pages.get(key, ()) if "?" in page]
            assert not set(safe) & set(pages(scenario.server)), how
        shutil.rmtree(home)
    assert len(disks) > 60


def test_a_snapshot_that_a_killed_pull_had_just_renamed_is_on_disk_before_it_is_on_record(tmp_path):
    def just_renamed(operation):
        if operation.kind == "fsync" and sorted(tmp_path.glob("snapshots/[!.]*")):
            killed(operation)

    assert not survives(lambda: _watched_pull(tmp_path, just_renamed))
    done = []
    _watched_pull(tmp_path, lambda operation: done.append((operation.kind, operation.path.name)))
    commits = [place for place, one in enumerate(done) if one[0] == "commit"]
    last_sync = max(place for place, one in enumerate(done) if one == ("fsync", "snapshots"))
    assert last_sync < commits[-1]
    assert ("fsync", "snapshots") not in done[commits[-1] :]


def _watched_pull(home, before):
    with watched(home, before):
        pulled_from(FaultyServer(COHORT), home, OWN)
