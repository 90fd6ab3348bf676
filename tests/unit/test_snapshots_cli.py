"""`crps-outcomes snapshot`: what there is, whether it is sound, and that nothing needed is ever removed (T26, T29)."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from small_cohort import cohort, observation, protocol, pulled_from
from typer.testing import CliRunner

from crps_outcomes import cli
from crps_outcomes.fhir import rest_source
from crps_outcomes.home import Home
from crps_outcomes.snapshot import open_snapshot
from crps_outcomes.snapshots import Kept, removable
from crps_outcomes.stages.pull import pull
from crps_outcomes.state import Records, RunRow
from failing_disk import Failing, killed, survives, watched
from faulty_server import BASE, FaultyServer, Inject

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Three snapshots of three nights, all of them old: of 12, 13 and 14 Observations."""
    monkeypatch.setenv("COLUMNS", "200")
    for more in range(3):
        resources = [*cohort(), *(observation(f"more-{number}", "a") for number in range(more))]
        pulled_from(FaultyServer(resources, now=lambda more=more: LONG_AGO + timedelta(days=more)), tmp_path)
    for path in (tmp_path / "snapshots").iterdir():
        os.utime(path, (0, 0))
    return tmp_path


def records(root):
    return Records(Home.at(root).state_url)


def digests(root):
    return [one.digest for one in records(root).snapshots()]


def on_disk(root):
    return {path.name for path in (root / "snapshots").iterdir()}


def said(root, *words):
    """What a command writes, and its exit code."""
    result = CliRunner().invoke(cli.app, ["snapshot", *words, "--out", str(root)])
    return result.output, result.exit_code


# --- list and show --------------------------------------------------------------------------------------------------


def test_the_list_has_every_snapshot_the_oldest_first_and_says_what_needs_it(root):
    text, code = said(root, "list")
    lines = [line for line in text.splitlines() if "2026-01-0" in line]
    assert code == 0
    assert [line.split()[1] for line in lines] == [digest[:12] for digest in digests(root)]
    assert "latest, next pull" in lines[-1]
    assert "latest" not in lines[0]


def test_a_snapshot_is_shown_with_what_it_holds_and_what_changed_since(root):
    text, code = said(root, "show", digests(root)[1][:8])
    assert code == 0
    assert f"snapshot {digests(root)[1]}\ncomplete, pulled 2026-01-02T00:00:00Z from Faulty 1" in text
    assert f"since snapshot {digests(root)[0][:12]} of 2025-12-31:\n  Observation: 1 new\n" in text
    assert any(line.split()[1:2] == ["Observation"] and line.split()[-2] == "13" for line in text.splitlines())


def test_the_latest_is_shown_unless_another_is_asked_for(root):
    assert f"snapshot {digests(root)[-1]}" in said(root, "show")[0]


@pytest.mark.parametrize("name", ["", "ffff", "latest"])
def test_a_name_of_no_snapshot_or_of_several_is_a_usage_error(name, root, tmp_path):
    text, code = said(tmp_path / "empty" if name == "latest" else root, "show", name)
    assert (code, "it should name one" in text) == (2, True)


def test_a_draft_says_what_is_missing(tmp_path):

    server = FaultyServer(cohort(), Inject("F19", 1, "AdverseEvent"))
    draft = pull(rest_source(BASE, transport=server.transport()), protocol(), Home.at(tmp_path), is_draft=True)
    text, code = said(tmp_path, "show", draft.snapshot.digest)
    assert (code, "missing: AdverseEvent" in text) == (0, True)


# --- verify ---------------------------------------------------------------------------------------------------------


def test_sound_snapshots_are_said_to_be_sound(root):
    assert said(root, "verify") == ("3 snapshots, all sound\n", 0)


def test_t26_every_flipped_byte_of_a_snapshot_is_found_and_its_file_named(root):
    folder = root / "snapshots" / digests(root)[0]
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        place = len(whole) // 2
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        text, code = said(root, "verify")
        assert code == 4
        assert f"snapshot {folder.name[:12]}: {path.name} is" in text
        path.write_bytes(whole)
    assert said(root, "verify")[1] == 0


def test_a_snapshot_that_is_gone_though_something_needs_it_is_damage(root):
    (root / "snapshots" / digests(root)[-1]).rename(root / "elsewhere")
    text, code = said(root, "verify")
    assert (code, digests(root)[-1][:12] in text) == (4, True)


# --- prune (T29) ----------------------------------------------------------------------------------------------------


def test_t29_nothing_is_removed_unless_told(root):
    text, code = said(root, "prune")
    assert (code, text.count("would remove"), text.splitlines()[-1]) == (0, 2, "2 of 3 snapshots; --yes removes them")
    assert on_disk(root) == set(digests(root))
    assert len(digests(root)) == 3


def test_t29_what_nothing_needs_is_removed_from_disk_and_from_the_record(root):
    *_, latest = digests(root)
    text, code = said(root, "prune", "--yes")
    assert (code, text.splitlines()[-1]) == (0, "2 of 3 snapshots")
    assert (on_disk(root), digests(root)) == ({latest}, [latest])
    assert said(root, "verify") == ("1 snapshots, all sound\n", 0)


def test_t29_what_a_report_or_the_next_pull_of_another_cohort_needs_stays(root):
    first, _, latest = digests(root)
    records(root).add_run(RunRow("r", "evidence", "internal", first, "s", "c", "2026-03-01", "complete"))
    said(root, "prune", "--yes")
    assert on_disk(root) == {first, latest}


def test_t29_a_report_on_disk_keeps_its_snapshot_also_when_the_record_of_it_is_lost(root):
    first, _, latest = digests(root)
    run = root / "runs" / "evidence-1"
    run.mkdir(parents=True)
    (run / "provenance.json").write_text(json.dumps({"snapshot": first, "report": "evidence"}))
    said(root, "prune", "--yes")
    assert on_disk(root) == {first, latest}


def test_t29_a_report_that_cannot_be_read_stops_it(root):
    run = root / "runs" / "evidence-1"
    run.mkdir(parents=True)
    (run / "provenance.json").write_text("{")
    text, code = said(root, "prune", "--yes")
    assert (code, "runs/evidence-1/provenance.json cannot be read" in text) == (4, True)
    assert len(on_disk(root)) == 3


def test_t29_without_a_record_nothing_is_removed(root):
    (root / "state.sqlite").unlink()
    text, code = said(root, "prune", "--yes")
    assert (code, "is state.sqlite lost?" in text) == (4, True)
    assert len(on_disk(root)) == 3


def test_t29_snapshots_from_before_a_lost_record_stay_when_there_is_a_new_one(root):
    before = on_disk(root)
    (root / "state.sqlite").unlink()
    pulled_from(FaultyServer([*cohort(), observation("new", "a")]), root)
    text, code = said(root, "prune", "--yes")
    assert (code, text.splitlines()[-1]) == (0, "0 of 4 snapshots")
    assert on_disk(root) > before


@pytest.mark.parametrize(("days", "n"), [(8, 1), (6, 0)])
def test_t29_the_younger_ones_stay(days, n):
    now = datetime(2026, 3, 1, tzinfo=UTC)
    kept = [Kept("a", object(), "", now - timedelta(days=days)), Kept("b", object(), "latest", now)]
    assert len(removable(kept, now - timedelta(days=7))) == n


def test_t29_a_snapshot_of_old_data_is_as_young_as_the_day_it_was_pulled(root):
    for path in (root / "snapshots").iterdir():
        os.utime(path)
    assert said(root, "prune", "--yes")[0] == "0 of 3 snapshots\n"


def test_t29_less_than_seven_days_cannot_be_asked_for(root):
    assert said(root, "prune", "--keep-days", "6")[1] == 2


def test_t29_nothing_is_removed_while_a_pull_runs(root):
    with Home.at(root).only_one_pull():
        text, code = said(root, "prune", "--yes")
    assert (code, "another pull" in text, len(on_disk(root))) == (1, True, 3)


def test_t29_a_prune_killed_at_any_moment_leaves_whole_snapshots_and_the_next_one_ends_the_work(root):
    *_, latest = digests(root)
    for nth in range(1, 100):
        home = root.parent / f"{root.name}-{nth}"
        shutil.copytree(root, home)
        with watched(home, Failing(nth, killed)):
            if survives(lambda home=home: said(home, "prune", "--yes")):
                break
        assert all(open_snapshot(home / "snapshots" / name) for name in on_disk(home) if not name.startswith("."))
        assert latest in on_disk(home)
        assert said(home, "prune", "--yes")[1] == 0
        assert (on_disk(home), digests(home)) == ({latest}, [latest])
    assert nth > 20
