"""The guard between releases: who is behind a count, what may be renewed, and what is remembered of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from itertools import combinations

import numpy as np
import pytest
from cohort_tables import AS_OF, PAIN, cohort, event, random_people, rejected, the_study, with_pain
from hypothesis import given, settings
from hypothesis import strategies as st

from crps_outcomes import pipeline, pseudonyms
from crps_outcomes.analysis.identities import NAMES, Identity, Shown, identities, settle, shown_counts
from crps_outcomes.analysis.members import behind, collected, nobody_known, settle_members
from crps_outcomes.analysis.rows import Key, share_row
from crps_outcomes.carrying import History
from crps_outcomes.definitions import Disclosure
from crps_outcomes.differencing import Register, Seal, changed, derivable, fails, guard, shown_behind
from crps_outcomes.disclosure import LEFT_OUT, Layout, Page
from crps_outcomes.errors import DisclosureError, PipelineError
from crps_outcomes.home import Home, _draw, secret
from crps_outcomes.releases import Releases
from crps_outcomes.stages.analyse import analyse
from crps_outcomes.stages.disclose import HELD, disclose
from crps_outcomes.state import Records, RunRow
from extractor import KEY_AND_MARK

SEAL = Seal(b"k" * 32)
THRESHOLD = 11


# --- who is behind a count ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 40])
def test_every_count_that_may_leave_says_who_is_behind_it(n):
    people = random_people(3, n)
    events = [event(i, people[i].id, "nausea") for i in range(n // 2) if people[i].is_treated]
    tables = cohort(people, events=events, rejections=[rejected(i, "unit-unknown") for i in range(5)])
    analysis = analyse(tables, the_study(), as_of=AS_OF, not_enrolled={"consent withdrawn": 3})
    shown = [one for one in shown_counts(analysis.estimates, analysis.counts) if not one.quantity.startswith("signal")]
    sums = identities({one.quantity for one in shown}, the_study(), analysis.counts.sort_values("order")["step"])
    members, truth = settle_members(analysis.members.counts, sums), settle(shown, sums)
    assert {name: members[name].total() for name in truth.keys() - {"left/analysed"}} == {
        name: value for name, value in truth.items() if name != "left/analysed"
    }
    assert all(times > 0 for own in members.values() for times in own.values())
    rows = analysis.estimates
    may_leave = (rows["section"] + "/" + rows["statistic"]).isin(list(NAMES)) & (rows["n"] > 0)
    described = rows.loc[may_leave & rows["k"].isna(), "estimate_id"]  # a mean or a median: no count says what it is of
    assert set(described) <= analysis.members.values.keys()


def test_nobody_who_prints_an_analysis_sees_who_is_in_it():
    analysis = analyse(cohort([with_pain(1, 8, 5)]), the_study(), as_of=AS_OF)
    assert analysis.members.counts
    assert "p0001" not in repr(analysis)


def test_a_count_that_is_not_the_number_of_its_people_stops_the_run():
    row = behind(share_row(Key("safety", "stopped", "treated", group="any"), 2, 20), k=["a"])
    with pytest.raises(PipelineError, match="not the number of people behind it"):
        collected([row], NAMES)


def test_people_nobody_knows_differ_by_the_difference_of_their_number():
    one, other = (SEAL.version("q", nobody_known("q", size)) for size in (5, 8))
    assert changed(one, other) == 3


# --- digests ------------------------------------------------------------------------------------------------------------


def test_who_enters_leaves_or_changes_value_is_one_change_each():
    before = SEAL.version("q", {"stays": 1, "leaves": 1, "changes": (7.0,)})
    after = SEAL.version("q", {"stays": 1, "enters": 1, "changes": (6.0,)})
    assert changed(before, after) == 3


def test_a_digest_links_nobody_across_quantities_or_keys():
    digests = {*SEAL.version("q", {"a": 1}), *SEAL.version("r", {"a": 1}), *Seal(b"x").version("q", {"a": 1})}
    assert len(digests) == 3
    assert all(len(one) == 8 for one in digests)
    assert "kkk" not in repr(SEAL)


@pytest.mark.parametrize(("n_more", "is_failing"), [(0, False), (1, True), (10, True), (11, False)])
def test_nobody_or_eleven_may_change_and_nothing_between(n_more, is_failing):
    before = SEAL.version("q", {f"p{number}": 1 for number in range(20)})
    now = SEAL.version("q", {f"p{number}": 1 for number in range(20 + n_more)})
    assert fails(now, [before], THRESHOLD) == is_failing


def test_every_earlier_release_counts_and_not_the_last_alone():
    versions = [SEAL.version("q", {f"p{number}": 1 for number in range(size)}) for size in (20, 40)]
    now = SEAL.version("q", {f"p{number}": 1 for number in range(21)})
    assert not fails(now, versions[1:], THRESHOLD)
    assert fails(now, versions, THRESHOLD)


# --- what can be worked out ---------------------------------------------------------------------------------------------


def layout_of(truth: dict[str, int], sums: list[tuple[str, tuple[str, ...]]], shown: set[str]) -> Layout:
    rows = tuple(Shown(f"row {name}", "k", name, truth[name]) for name in sorted(shown))
    return Layout(rows, tuple(Identity(*one) for one in sums), truth, THRESHOLD)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_follows_is_what_the_rank_of_the_equations_says(data):
    names = [f"q{number}" for number in range(7)]
    triples = data.draw(st.lists(st.sampled_from([*combinations(names, 3)]), max_size=7, unique=True))
    shown = data.draw(st.sets(st.sampled_from(names)))
    page = Page(layout_of(dict.fromkeys(names, 20), [(one, parts) for one, *parts in triples], shown))
    unknown = [name for name in names if name not in shown]
    matrix = np.zeros((len(triples), len(unknown)))
    for row, (total, *parts) in enumerate(triples):
        for name, sign in ((total, 1), *((part, -1) for part in parts)):
            if name in unknown:
                matrix[row, unknown.index(name)] = sign
    rank = np.linalg.matrix_rank(matrix) if matrix.size else 0
    follows = {
        name for at, name in enumerate(unknown)
        if matrix.size and np.linalg.matrix_rank(np.vstack([matrix, np.eye(len(unknown))[at]])) == rank
    }  # fmt: skip
    known = derivable(page)
    assert known.keys() == shown | follows
    assert all(shown_behind(name, known) <= shown for name in known)


def test_the_parts_of_nothing_are_known():
    page = Page(layout_of({"a": 0, "b": 0, "c": 0}, [("a", ("b", "c"))], {"a"}))
    assert derivable(page).keys() == {"a", "b", "c"}


# --- what may be renewed ------------------------------------------------------------------------------------------------


def contents(sizes: dict[str, range]) -> dict[str, dict[str, int]]:
    return {name: dict.fromkeys(map(str, people), 1) for name, people in sizes.items()}


def release_of(men: range, women: range, register: Register):
    people = {"people": range(men.start, women.stop), "men": men, "women": women}
    by_name = contents({"people": range(0), "men": men, "women": women})
    by_name["people"] = by_name["men"] | by_name["women"]
    truth = {name: len(by_name[name]) for name in people}
    layout = layout_of(truth, [("people", ("men", "women"))], set(people))
    return guard(layout, layout, by_name, register, SEAL)


def remembered(guarded, truth) -> Register:
    shown = {f"row {name}": {"k": value} for name, value in truth.items()}
    return Register(guarded.versions, shown)


def test_a_first_release_shows_all_and_a_second_of_the_same_people_too():
    first = release_of(range(20), range(100, 130), Register())
    again = release_of(range(20), range(100, 130), remembered(first, {"people": 50, "men": 20, "women": 30}))
    assert first.page.hidden == {}
    assert not again.is_held
    assert again.versions == first.versions


def test_people_of_an_earlier_release_are_not_taken_for_those_of_the_last():
    first = release_of(range(20), range(100, 130), Register())
    second = release_of(range(40), range(100, 150), remembered(first, {"people": 50, "men": 20, "women": 30}))
    register = remembered(second, {"people": 90, "men": 40, "women": 50})
    third = release_of(range(20), range(100, 130), register)
    assert third.page.hidden == {} or third.is_held  # renewed, or said to be held: never the last figures in silence
    assert third.versions["men"][-1] == first.versions["men"][0]
    assert len(third.versions["men"]) == 2


def test_a_part_with_one_more_person_is_held_with_a_row_it_would_follow_from():
    first = release_of(range(20), range(100, 130), Register())
    register = remembered(first, {"people": 50, "men": 20, "women": 30})
    second = release_of(range(21), range(100, 141), register)
    assert second.is_held
    assert second.page.hidden["row men"] == LEFT_OUT
    assert len(second.page.hidden) == 2


def test_an_unchanged_part_counts_as_known_so_the_total_is_held():
    first = release_of(range(20), range(100, 130), Register())
    register = remembered(first, {"people": 50, "men": 20, "women": 30})
    second = release_of(range(21), range(100, 130), register)
    assert {"row men", "row people"} <= second.page.hidden.keys()


def night(people, history):
    tables = cohort(people)
    analysis = analyse(tables, the_study(), as_of=AS_OF)
    rows = analysis.estimates[analysis.estimates["section"].isin(["pain"]) & (analysis.estimates["visit"] == "week_4")]
    return disclose(replace(analysis, estimates=rows.reset_index(drop=True)), tables, the_study(), "release", history)


def test_a_mean_stands_as_last_released_until_eleven_people_changed():
    people = [with_pain(number, 8, None, None, float(number % 7)) for number in range(45)]
    row = f"pain/mean/analysed/{PAIN}/week_4/-"
    register, seen = Register(), []
    for n in (30, 31, 40, 41):
        edition = night(people[:n], History(register, SEAL))
        register = edition.register
        shown = edition.estimates.set_index("estimate_id").loc[row]
        seen.append((shown["n"], shown["estimate"]))
    assert [n for n, _ in seen] == [30, 30, 30, 41]
    assert seen[0] == seen[1] == seen[2]
    assert any("were held" in rule for rule in night(people[:43], History(register, SEAL)).rules)


def test_one_corrected_value_is_not_released():
    people = [with_pain(number, 8, None, None, 5.0) for number in range(30)]
    first = night(people, History(Register(), SEAL))
    second = night([with_pain(0, 8, None, None, 0.0), *people[1:]], History(first.register, SEAL))
    assert second.estimates.equals(first.estimates)


def test_the_same_people_twice_give_the_same_release():
    people = random_people(4, 30)
    first = night(people, History(Register(), SEAL))
    second = night(people, History(first.register, SEAL))
    assert second.estimates.equals(first.estimates)
    assert second.counts.equals(first.counts)
    assert second.rules == first.rules


def saying(rows):
    """All that hidden rows say beside their key and their mark."""
    hidden = rows[rows["suppressed"] != ""].drop(columns=[*KEY_AND_MARK])
    assert len(hidden)
    return {str(value) for value in hidden.to_numpy().ravel()} - {"<NA>", "nan", ""}


def test_a_hidden_row_has_its_key_and_its_mark_and_nothing_that_tells_its_numbers():
    few = [with_pain(number, 8, 5, 5, 5.0 if number < 5 else None, 5, 5, 5) for number in range(30)]
    edition = night(few, History(Register(), SEAL))
    assert saying(edition.estimates) == set()
    carried = night([*few, with_pain(30, 8)], History(edition.register, SEAL))
    assert saying(carried.estimates) == set()


def test_a_mean_of_few_people_is_not_shown_beside_their_responses():
    tables = cohort([with_pain(number, 8, 5, 5, float(number % 5), 5, 5, 5) for number in range(13)])
    rows = disclose(analyse(tables, the_study(), as_of=AS_OF), tables, the_study(), "release").estimates
    means = rows[(rows["section"] == "pain") & rows["statistic"].isin(["mean", "mean_change"]) & (rows["n"] == 13)]
    assert len(means)
    assert means[["estimate", "lower", "upper", "sd"]].isna().all(axis=None)


# --- the register -------------------------------------------------------------------------------------------------------


def test_the_register_comes_back_as_it_was_and_holds_no_name(tmp_path):
    home = Home.at(tmp_path)
    seal = Seal(home.release_key)
    edition = night(
        [with_pain(number, 8, None, None, 5.0) for number in range(30)], History(Register(), seal, "2026-02-03", "a")
    )
    assert edition.register.last
    assert Releases(home.state_url).keep(edition.register, seal.check) == 1
    back = Releases(home.state_url).register(seal.check)
    assert back.versions == edition.register.versions
    assert back.rows == edition.register.rows
    assert back.last == edition.register.last
    assert Releases(home.state_url).number() == 1
    assert b"p0001" not in (tmp_path / "state.sqlite").read_bytes()
    assert (tmp_path / "release.key").stat().st_mode & 0o777 == 0o600
    assert home.release_key == seal.key


def test_a_register_of_another_key_is_refused(tmp_path):
    releases = Releases(Home.at(tmp_path).state_url)
    releases.keep(Register(), SEAL.check)
    with pytest.raises(DisclosureError, match="put it back"):
        releases.register(Seal(b"x").check)


def forgets(home: Home) -> bool:
    try:
        pipeline._refuse_if_forgotten(home, Releases(home.state_url).number(), is_empty=True)
    except DisclosureError:
        return True
    return False


@pytest.mark.parametrize("trace", ["count", "run", "pointer", "folder", "handed on"])
def test_a_lost_register_makes_no_first_release_where_anything_tells_of_one(tmp_path, trace):
    home = Home.at(tmp_path)
    assert not forgets(home)
    {
        "count": lambda: home.count_releases(1),
        "run": lambda: Records(home.state_url).add_run(
            RunRow("r", "evidence", "release", "", "", "", "2026-02-03", "complete")
        ),
        "pointer": lambda: (home.runs / "CURRENT-evidence-release").write_text("x"),
        "folder": (home.runs / "evidence-release-2026-02-03-0123456789ab").mkdir,
        "handed on": (home.release / "evidence-release-2026-02-03-0123456789ab").mkdir,
    }[trace]()
    assert forgets(home)


def test_a_register_older_than_what_was_released_is_refused(tmp_path):
    home = Home.at(tmp_path)
    home.count_releases(2)
    pipeline._refuse_if_forgotten(home, 2, is_empty=False)
    pipeline._refuse_if_forgotten(home, 3, is_empty=False)  # a run that died between the two files
    with pytest.raises(DisclosureError, match="does not remember every release"):
        pipeline._refuse_if_forgotten(home, 1, is_empty=False)


# --- days ---------------------------------------------------------------------------------------------------------------


def test_the_days_of_releases_are_told_by_the_calendar_of_every_year():
    rule = Disclosure(release_days=("01-01", "07-01"))
    assert (rule.last_day(date(2026, 6, 30)), rule.next_day(date(2026, 6, 30))) == (date(2026, 1, 1), date(2026, 7, 1))
    assert rule.last_day(date(2026, 7, 1)) == date(2026, 7, 1)
    assert rule.next_day(date(2026, 7, 1)) == date(2027, 1, 1)
    assert Disclosure().last_day(date(2026, 7, 1)) is None


@pytest.mark.parametrize("day", ["13-01", "02-29", "1-1", "april"])
def test_a_day_that_is_not_in_every_year_is_refused(day):
    with pytest.raises(ValueError, match="release_days"):
        Disclosure(release_days=(day,))


def test_a_release_stands_until_the_next_declared_day(tmp_path):
    home, study = Home.at(tmp_path), the_study()
    folder = home.runs / "evidence-release-2026-02-03"
    folder.mkdir()
    (folder / "provenance.json").write_text(
        json.dumps({"as_of": "2026-02-03", "edition": "release", "study": study.digest})
    )
    assert pipeline.standing(home, study, "evidence", date(2026, 2, 4)) is None  # the first one may come on any day
    (home.runs / "CURRENT-evidence-release").write_text(folder.name)
    assert pipeline.standing(home, study, "evidence", date(2026, 3, 31)) == folder
    assert pipeline.standing(home, study, "evidence", date(2026, 4, 1)) is None
    assert pipeline.standing(home, study, "quality", date(2026, 3, 31)) is None
    assert "2026-04-01" in pipeline.release_in_words(folder, study)
    (folder / "provenance.json").write_text('{"as_of": "2026-02-03", "edition": "release", "study": "another"}')
    assert pipeline.standing(home, study, "evidence", date(2026, 3, 31)) is None
    (folder / "provenance.json").unlink()
    folder.rmdir()
    assert pipeline.standing(home, study, "evidence", date(2026, 3, 31)) is None


def test_between_declared_days_another_report_shows_the_figures_of_the_release_that_stands_and_renews_none():
    people = [with_pain(number, 8, None, None, float(number % 7)) for number in range(60)]
    first = night(people[:30], History(Register(), SEAL, "2026-02-03", "a"))
    assert pipeline._is_standing(first.register, the_study(), date(2026, 3, 31))
    assert not pipeline._is_standing(first.register, the_study(), date(2026, 4, 1))
    same = night(people[:30], History(first.register, SEAL, "2026-02-03", "a", is_standing=True))
    assert same.rules == first.rules
    later = night(people, History(first.register, SEAL, "2026-02-20", "b", is_standing=True))
    assert later.estimates.equals(first.estimates)
    assert later.counts.equals(first.counts)
    assert later.rejections.equals(first.rejections)
    assert later.register is None
    assert HELD in later.rules
    due = night(people, History(first.register, SEAL, "2026-04-01", "c"))
    assert not due.estimates.equals(first.estimates)


# --- keys ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["release.key", "pseudonym.key"])
@pytest.mark.parametrize("content", [b"", b"k" * 31])
def test_a_file_that_is_no_key_is_refused_and_stays_as_it_is(tmp_path, name, content):
    home = Home.at(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PipelineError, match=f"{name}.*32 bytes"):
        _ = home.release_key if name == "release.key" else pseudonyms.coder(home)
    assert (tmp_path / name).read_bytes() == content


def test_a_key_that_another_process_drew_first_counts(tmp_path):
    path = tmp_path / "release.key"
    path.write_bytes(b"k" * 32)
    _draw(path)
    assert secret(path) == b"k" * 32
    assert [one.name for one in tmp_path.iterdir()] == ["release.key"]
