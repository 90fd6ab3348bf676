"""What is remembered between runs comes back as it was put in, under threads too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from small_cohort import cohort, observation, pulled_from

from crps_outcomes.home import Home
from crps_outcomes.state import Records, RunRow, Verdicts
from faulty_server import FaultyServer


@pytest.fixture
def url(tmp_path):
    return Home.at(tmp_path / "home").state_url


def test_verdicts_come_back(url):
    verdicts = {f"{number:064x}": "" if number % 2 else "status: required element missing" for number in range(1200)}
    Verdicts(url).put_many(verdicts)
    assert Verdicts(url).get_many([*verdicts, "unknown"]) == verdicts
    assert Verdicts(url).get_many([]) == {}


def test_a_later_verdict_replaces_an_earlier_one(url):
    memory = Verdicts(url)
    memory.put_many({"h": ""})
    memory.put_many({"h": "code: required element missing"})
    memory.put_many({})
    assert memory.get_many(["h"]) == {"h": "code: required element missing"}


def test_threads_do_not_get_in_each_others_way(url):
    def remember(thread: int) -> int:
        memory = Verdicts(url)
        for number in range(10):
            memory.put_many({"shared": "", f"{thread}-{number}": "x"})
        return len(memory.get_many([f"{thread}-{number}" for number in range(10)]))

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(remember, range(6))) == [10] * 6


def test_a_run_comes_back(url):
    run = RunRow("r1", "evidence", "internal", "s", "t", "c", "2026-03-01", "complete")
    Records(url).add_run(run)
    assert Records(url).runs() == (run,)


def test_the_snapshot_pulled_last_is_the_last_one(tmp_path):
    first = pulled_from(FaultyServer(cohort()), tmp_path)
    second = pulled_from(FaultyServer([*cohort(), observation("more", "a")]), tmp_path)
    records = Records(Home.at(tmp_path).state_url)
    assert [one.digest for one in records.snapshots()] == [first.snapshot.digest, second.snapshot.digest]
    pulled_from(FaultyServer([*cohort(), observation("more", "a")]), tmp_path)  # no news
    assert [one.digest for one in records.snapshots()] == [first.snapshot.digest, second.snapshot.digest]
    third = pulled_from(FaultyServer(cohort()), tmp_path)  # as it was, but in another way
    assert [one.digest for one in records.snapshots()][-1] == third.snapshot.digest
