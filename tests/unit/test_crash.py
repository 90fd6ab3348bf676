"""A pull that is killed, or whose disk fails, at any operation: the next one ends as if nothing had happened (T23, T24)."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from multiprocessing import get_context
from subprocess import run
from typing import TYPE_CHECKING

import pytest
from small_cohort import cohort, group, member, observation, protocol, pulled_from, resource, write_folder
from sqlalchemy.exc import OperationalError
from test_export import exporting
from test_nights import FIRST_NIGHT, Clinic

from crps_outcomes import pulls
from crps_outcomes.errors import PipelineError
from crps_outcomes.fhir import folder_source
from crps_outcomes.home import Home
from crps_outcomes.pulls import Asked
from crps_outcomes.snapshot import content_digest, open_snapshot
from crps_outcomes.stages.pull import pull
from crps_outcomes.study import locate
from failing_disk import Failing, broken, full, killed, survives, watched
from faulty_server import FaultyServer

if TYPE_CHECKING:
    from pathlib import Path

#: Two searches for each type, two pages each for Observations, one search at a time.
OWN = protocol(workers=1, patients_per_query=1, page_size=2, resource_types=("Patient", "Observation"))
COHORT = [
    group(member("a"), member("b")),
    *(resource("Patient", name) for name in "ab"),
    *(observation(f"{name}-{number}", name) for name in "ab" for number in (1, 2, 3)),
]


class FirstNight:
    """From a server, into a home that holds nothing."""

    def __init__(self):
        self.server = FaultyServer(COHORT)

    def prepare(self, home):
        """Nothing went before."""

    def pull(self, home):
        return pulled_from(self.server, home, OWN)


class SecondNight(FirstNight):
    """From a server on which since the first night one thing was corrected, one is new and one is gone."""

    def __init__(self):
        self.clinic = Clinic(COHORT)
        self.server = self.clinic.server

    def prepare(self, home):
        pulled_from(self.server, home, OWN)

    def pull(self, home):
        if self.clinic.now == FIRST_NIGHT:
            self.clinic.now += timedelta(days=1)
            an_hour_ago = self.clinic.now - timedelta(hours=1)
            self.clinic.write(observation("a-1", "a", 9), version="2", at=an_hour_ago)
            self.clinic.write(observation("b-4", "b"), at=an_hour_ago)
            self.clinic.server.delete("Observation", "b-1")
        return pulled_from(self.server, home, OWN)


class Export(FirstNight):
    """The same by Bulk Data export."""

    def pull(self, home):
        return pull(exporting(self.server), OWN, Home.at(home))


class Folder(FirstNight):
    """The same from files."""

    def pull(self, home):
        folder = home.parent / "files"
        return pull(folder_source(folder if folder.exists() else write_folder(folder, COHORT)), OWN, Home.at(home))


@dataclass
class Twin:
    """What an undisturbed pull starts from and what it leaves, and the pages of each unit by the header of the unit."""

    before: Path
    after: Path
    digest: str = ""
    pages: dict[str, list[str]] = field(default_factory=dict)

    @property
    def states(self):
        return [state_of(self.before), state_of(self.after)]


def twin_of(kind, folder) -> Twin:
    scenario, twin = kind(), Twin(folder / "before", folder / "twin")
    Home.at(twin.after)
    scenario.prepare(twin.after)
    shutil.copytree(twin.after, twin.before)
    seen = pages(scenario.server)

    def note(operation):
        if operation.kind == "rename" and operation.target.parent.name == "journal":
            twin.pages[operation.target.stem] = pages(scenario.server)[len(seen) :]
            seen[:] = pages(scenario.server)

    with watched(twin.after, note):
        twin.digest = scenario.pull(twin.after).snapshot.digest
    return twin


def pages(server):
    """The pages asked for so far. Counts bring nothing; cursors have other numbers each time."""
    return [
        str(one.url.copy_remove_param("_cursor"))
        for one in server.requests
        if "_summary" not in one.url.params and not one.url.path.endswith("metadata")
    ]


def state_of(home):
    """What the database says of the last pull, read from a copy as the next process would."""
    copy = home.with_name(f"{home.name} copy")
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for path in home.glob("state.sqlite*"):
        shutil.copy(path, copy)
    with closing(sqlite3.connect(copy / "state.sqlite")) as state:
        tables = {name for (name,) in state.execute("select name from sqlite_master where type = 'table'")}
        wanted = ("snapshots", "nights", "watermarks")
        return {name: state.execute(f"select * from {name}").fetchall() if name in tables else [] for name in wanted}


def is_disturbed(scenario, home, failing) -> bool:
    """A pull of which one operation failed; False if it came to its end before that."""
    with watched(home, failing):
        if failing.fail is killed:
            return not survives(lambda: scenario.pull(home))
        with suppress(PipelineError, OSError, OperationalError):
            scenario.pull(home)
        return failing.has_failed


def sound(home):
    """The digests of the snapshots that open, each of which holds what its name says."""
    found = list((home / "snapshots").glob("[!.]*"))
    assert all(content_digest(open_snapshot(path)) == path.name for path in found)
    return {path.name for path in found}


def left_over(home):
    """What only a pull at work may have, and pulls of which nobody knows what they are about."""
    at_work = {"journal", "export", ".new", ".gone"}
    nameless = [path for path in home.glob("pulls/*/") if not (path / "pull.json").exists()]
    return nameless + [path for path in home.rglob("*") if path.name in at_work or ".tmp" in path.name]


def left_in(home):
    """All that a next pull finds. Nobody reads the record of requests."""
    return {
        str(path.relative_to(home)): path.read_bytes() if path.is_file() else b""
        for path in home.rglob("*")
        if path.name != "requests.ndjson"
    }


OFTEN = [(SecondNight, killed), (FirstNight, full)]
SELDOM = [
    *((kind, failure) for kind in (Export, Folder) for failure in (killed, full, broken)),
    *((FirstNight, failure) for failure in (killed, broken)),
    *((SecondNight, failure) for failure in (full, broken)),
]


@pytest.mark.parametrize(("kind", "failure"), [*OFTEN, *(pytest.param(*one, marks=pytest.mark.slow) for one in SELDOM)])
def test_t23_t24_whichever_operation_fails_the_next_pull_ends_as_if_nothing_had_happened(kind, failure, tmp_path):
    twin, tried = twin_of(kind, tmp_path), []
    before, after = twin.states
    for nth in count(1):
        scenario, home = kind(), tmp_path / str(nth)
        shutil.copytree(twin.before, home)
        if not is_disturbed(scenario, home, Failing(nth, failure)):
            break
        state, committed = state_of(home), {path.stem for path in home.glob("pulls/*/journal/*.json")}
        assert state in [before, after]
        assert sound(home) >= sound(twin.before)
        asked = pages(scenario.server)
        if (found := (left_in(home), asked)) in tried:
            continue  # a sync that failed looks like one that did not
        tried.append(found)
        with watched(home, lambda _: None):
            assert scenario.pull(home).snapshot.digest == twin.digest
        again = pages(scenario.server)[len(asked) :]
        if kind is Export:
            pass  # which files are downloaded again, test_export says
        elif state == before:
            assert again == [page for key, some in twin.pages.items() if key not in committed for page in some]
        else:
            assert all("_lastUpdated" in page for page in again if "/Observation?" in page)  # cursors say nothing
        assert (state_of(home), sound(home), left_over(home)) == (after, sound(twin.after), [])
        shutil.rmtree(home)
    assert nth > 60


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [(full, "write", "OSError ENOSPC"), (broken, "fsync", "OSError EIO"), (full, "commit", "SQLITE_FULL")],
)
def test_t24_a_pull_whose_disk_fails_ends_with_exit_code_1_and_the_name_of_the_failure(failure, kind, words, tmp_path):
    home, asked = tmp_path / "home", Asked(str(write_folder(tmp_path / "files", cohort())), "search")

    def before(operation):
        if operation.kind == kind:
            failure(operation)

    with watched(home, before), pytest.raises(PipelineError, match=words) as caught:
        pulls.pull(home, locate(), asked, {}, lambda _: None)
    assert caught.value.exit_code == 1
    assert state_of(home)["snapshots"] == []
    assert pulls.pull(home, locate(), asked, {}, lambda _: None) in sound(home)


def test_t24_a_disk_too_full_to_say_where_it_happened_still_says_what_happened(tmp_path):
    asked = Asked(str(write_folder(tmp_path / "files", cohort())), "search")
    with watched(tmp_path / "home", Failing(10, full)), pytest.raises(PipelineError, match="OSError ENOSPC") as caught:
        pulls.pull(tmp_path / "home", locate(), asked, {}, lambda _: None)
    assert caught.value.__context__ is None


def test_a_journal_that_is_too_old_and_cannot_be_removed_ends_the_pull(tmp_path):
    with watched(tmp_path, Failing(60, broken)), suppress(OSError):
        pulled_from(FaultyServer(COHORT), tmp_path, OWN)
    (journal,) = tmp_path.glob("pulls/*/journal")
    stays = min(journal.glob("*.json"))

    def before(operation):
        if operation.path.name.startswith(stays.stem):
            broken(operation)

    later = FaultyServer(COHORT, now=lambda: FIRST_NIGHT + timedelta(days=9))
    with watched(tmp_path, before), pytest.raises(OSError, match="error"):
        pulled_from(later, tmp_path, OWN)
    assert pages(later) == []


# --- two at once (T25) ----------------------------------------------------------------------------------------------


def test_t25_of_several_pulls_at_once_one_pulls_and_the_others_say_so(tmp_path):
    home, gate = Home.at(tmp_path), get_context("fork").Barrier(4)
    outcomes = get_context("fork").SimpleQueue()

    def child():
        gate.wait(20)
        try:
            with home.only_one_pull():
                outcomes.put("pulled")
                gate.wait(20)  # not before the others have tried
        except PipelineError as error:
            outcomes.put(str(error))
            gate.wait(20)

    children = [get_context("fork").Process(target=child) for _ in range(4)]
    for one in children:
        one.start()
    for one in children:
        one.join()
    told = sorted(outcomes.get() for _ in children)
    assert told == [f"another pull into {tmp_path} is running; wait until it ends"] * 3 + ["pulled"]


def test_t25_a_pull_that_was_killed_does_not_keep_others_out(tmp_path):
    def killed_while_it_holds():
        with Home.at(tmp_path).only_one_pull():
            os.kill(os.getpid(), signal.SIGKILL)

    assert not survives(killed_while_it_holds)
    with Home.at(tmp_path).only_one_pull():
        pass


def test_t25_what_fails_in_a_pull_is_not_taken_for_another_pull(tmp_path):
    with pytest.raises(BlockingIOError), Home.at(tmp_path).only_one_pull():
        raise BlockingIOError


# --- the same with real system calls --------------------------------------------------------------------------------

_CALLS = "fsync,fdatasync,rename,mkdir,unlink,pwrite64"
_PULL = """
import sys
from pathlib import Path
from crps_outcomes import pulls
from crps_outcomes.study import locate
asked = pulls.Asked(sys.argv[1], "search")
print(pulls.pull(Path(sys.argv[2]), locate(), asked, {}, lambda _: None))
"""


def _can_trace():
    return (
        bool(shutil.which("strace")) and run(["strace", "-f", "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(not _can_trace(), reason="needs strace, and leave to trace")
def test_t23_killed_at_system_calls_of_the_whole_process_the_next_pull_ends_as_if_nothing_had_happened(tmp_path):
    files = write_folder(tmp_path / "files", cohort())

    def pulled_under(home, *tracer):
        words = [*tracer, sys.executable, "-c", _PULL, str(files), str(home)]
        return run(
            words, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        )

    twin = pulled_under(tmp_path / "twin").stdout
    n_killed = 0
    for nth in (1, 5, 13, 34, 89):
        home = tmp_path / str(nth)
        tracer = (
            "strace",
            "-f",
            "-o",
            "/dev/null",
            "-e",
            f"trace={_CALLS}",
            "-e",
            f"inject={_CALLS}:signal=KILL:when={nth}",
        )
        n_killed += pulled_under(home, *tracer).returncode == -signal.SIGKILL
        assert sound(home) <= {twin.strip()}
        assert pulled_under(home).stdout == twin
        assert (sound(home), left_over(home)) == ({twin.strip()}, [])
    assert n_killed > 2
