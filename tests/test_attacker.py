"""Sixty nights of releases in a row, patients coming, going and changing one by one: the attacker finds nothing.

Releases every night are the hardest case: the days the protocol declares are not asked. The same attacker must succeed
where the guard is off, and where figures are rounded instead, or the test would show nothing. The report has the rows
with which all kinds of attack are possible, at two visits; with all rows a night would take a minute.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cohort_tables
import numpy as np
import pytest
from cohort_tables import AS_OF, PAIN, Person, cohort, random_people, the_study
from report_fixture import provenance

from attacker import (
    Claim,
    Night,
    attack,
    bounded,
    guesses,
    is_held,
    pairs_in_words,
    read,
    rounded_to_five,
    single_answers,
)
from crps_outcomes import hiding
from crps_outcomes.analysis.function import function
from crps_outcomes.analysis.identities import identities
from crps_outcomes.analysis.members import Vector, settle_members
from crps_outcomes.analysis.pain import pain
from crps_outcomes.analysis.participants import participants
from crps_outcomes.analysis.responders import responders
from crps_outcomes.carrying import History
from crps_outcomes.differencing import Register, Seal
from crps_outcomes.home import Home
from crps_outcomes.stages import analyse as stage
from crps_outcomes.stages.compose import compose
from crps_outcomes.stages.disclose import disclose
from crps_outcomes.stages.publish import publish
from crps_outcomes.stages.render import Rendered, page_html, render
from crps_outcomes.tables import ESTIMATES, LEDGER, build
from extractor import KEY_AND_MARK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from crps_outcomes.disclosure import Releasable
    from crps_outcomes.stages.analyse import Analysis
    from crps_outcomes.study import Study
    from crps_outcomes.tables import Tables

NIGHTS, PRINTED, THRESHOLD = 60, (0, 59), 11
SEED, START = 5, 34
KEY = b"a key of the test"
LEDGER_ROW = {"query_id": "q1", "part": 1, "resource_type": "Patient", "received": 60, "distinct": 60, "accepted": 60,
              "rejected": 0, "hole": ""}  # fmt: skip


# --- the story --------------------------------------------------------------------------------------------------------


@cache
def small_study() -> Study:
    """The study with the measures and visits that the attacked rows need, so that a night takes a moment."""
    study = the_study()
    plan = study.protocol.outcomes
    wanted = {plan.primary, plan.function, plan.global_change, *plan.secondary, *study.protocol.safety.watched}
    visits = tuple(one for one in study.protocol.visits if one.id in {plan.primary_visit, plan.later_visit})
    return replace(
        study,
        measures={name: one for name, one in study.measures.items() if name in wanted or one.role != "outcome"},
        protocol=study.protocol.model_copy(update={"visits": visits}),
    )


def story() -> Iterator[list[Person]]:
    """The cohort of each night: most nights somebody arrives, on others somebody leaves or a value changes."""
    chance = np.random.default_rng(SEED)
    pool = random_people(SEED, START + NIGHTS, share_lost=0.05)
    people, waiting = pool[:START], pool[START:]
    for number in range(NIGHTS):
        yield people
        if number % 6 == 4:
            people = people[1:]
        elif number % 3 == 1:
            at = int(chance.integers(len(people)))
            people = [*people[:at], _amended(people[at], chance), *people[at + 1 :]]
        else:
            people = [*people, waiting.pop(0)]


def _amended(person: Person, chance: np.random.Generator) -> Person:
    return replace(
        person, known={**person.known, PAIN: {**person.known[PAIN], "week_4": float(chance.integers(0, 11))}}
    )


@dataclass(frozen=True)
class Truth:
    """What really happened on one night."""

    tables: Tables
    analysis: Analysis

    def members(self) -> dict[str, Vector]:
        known = self.analysis.members.counts
        sums = identities(known, small_study(), self.analysis.counts.sort_values("order")["step"])
        return settle_members(known, sums)


@pytest.fixture(scope="module")
def truths() -> list[Truth]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohort_tables, "the_study", small_study)
        patch.setattr(stage, "SECTIONS", (participants, pain, responders, function))
        return [_analysed(people) for people in story()]


def _analysed(people: Sequence[Person]) -> Truth:
    tables = replace(cohort(people), ledger=build(LEDGER, [LEDGER_ROW]))
    analysis = stage.analyse(tables, small_study(), as_of=AS_OF)
    rows = analysis.estimates
    kept = rows["section"].isin(["pain", "responders"]) & ~rows["statistic"].isin(["improved_by", "quantile"])
    kept |= (rows["section"] == "function") & (rows["statistic"] == "share")
    kept |= (rows["section"] == "participants") & rows["group"].str.startswith(("sex", "crps_type"))
    return Truth(tables, replace(analysis, estimates=rows[kept].reset_index(drop=True)))


# --- releases -----------------------------------------------------------------------------------------------------------


def released(truths: Sequence[Truth], *, is_guarded: bool) -> Iterator[Releasable]:
    register = Register()
    for truth in truths:
        history = History(register, Seal(KEY)) if is_guarded else None
        edition = disclose(truth.analysis, truth.tables, small_study(), "release", history)
        register = edition.register or register
        yield edition


def published(editions: Sequence[Releasable], folder: Path, printed: Sequence[int] = ()) -> list[Night]:
    """The run folders of all reports, as their reader has them; some nights with the PDF, all with HTML and tables."""
    return [
        read(dict(_night(edition, Home.at(folder / str(number)), is_printed=number in printed)))
        for number, edition in enumerate(editions)
    ]


def _night(edition: Releasable, home: Home, *, is_printed: bool) -> Iterator[tuple[str, Path]]:
    study = small_study()
    for report in (one for one in study.reports.values() if one.about == "cohort"):
        origin = replace(provenance("release"), report=report.id)
        model = compose(edition, study, report, origin)
        pages = Rendered(page_html(model, study.root / "templates"), b"")
        yield report.id, publish(render(model, study.root) if is_printed else pages, model, edition, origin, home)


@pytest.fixture(scope="module")
def guarded(truths, tmp_path_factory) -> list[Night]:
    return published([*released(truths, is_guarded=True)], tmp_path_factory.mktemp("guarded"), PRINTED)


def right(claims: Sequence[Claim], truths: Sequence[Truth]) -> list[Claim]:
    """The claims that are true and about few people."""
    members = [truth.members() for truth in truths]
    return [claim for claim in claims if _is_right(claim, truths, members)]


def _is_right(claim: Claim, truths: Sequence[Truth], members: Sequence[dict[str, Vector]]) -> bool:
    if claim.kind == "count":
        return members[claim.nights[0]].get(claim.about, Vector()).total() == claim.value
    if claim.kind == "answer":
        before, after = (truths[night].analysis.members.values.get(claim.about, {}) for night in claim.nights)
        moved = {person for person in before.keys() | after.keys() if before.get(person) != after.get(person)}
        return len(moved) == 1 and after.get(*moved) == (claim.value,)
    one, other = (members[night].get(claim.about, Vector()) for night in claim.nights)
    n_moved = sum(one[person] != other[person] for person in one.keys() | other.keys())
    return other.total() - one.total() == claim.value and 0 < n_moved < THRESHOLD


# --- the attack ---------------------------------------------------------------------------------------------------------


def test_nothing_about_few_people_is_found_in_sixty_guarded_nights(guarded, truths):
    found = right(attack(guarded, small_study()), truths)
    assert found == [], (len(found), {claim.kind: claim for claim in found})


def test_who_takes_held_figures_for_those_of_the_night_is_wrong_nineteen_times_in_twenty(guarded, truths):
    claims = guesses(guarded, small_study())
    assert len(right(claims, truths)) < len(claims) / 20


def test_the_guarded_figures_are_renewed_now_and_then(guarded):
    row = f"pain/mean/analysed/{PAIN}/baseline/-"
    assert len({night.rows[row]["n"] for night in guarded if night.rows[row]["n"]}) > 2


def test_no_hidden_count_of_a_guarded_night_can_have_one_value_only(guarded):
    assert all(bounded(night, small_study()) == {} for night in guarded[::10])


def test_without_the_guard_the_same_attacker_finds_who_came_and_went(truths, tmp_path):
    nights = published([*released(truths[:6], is_guarded=False)], tmp_path)
    claims = attack(nights, small_study())
    found = right(claims, truths)
    assert found == [claim for claim in claims if claim.about in truths[0].members()]  # and this attacker is never wrong
    assert any(claim.about.startswith("better/") or claim.about.startswith("answer/") for claim in found)


def test_rounding_instead_of_the_guard_gives_single_answers_away(truths, tmp_path, monkeypatch):
    monkeypatch.setattr(hiding, "with_decimals", lambda frame: frame.round(2))
    editions = [_rounded_counts(edition) for edition in released(truths[:6], is_guarded=False)]
    assert right([*single_answers(published(editions, tmp_path))], truths)


def _rounded_counts(edition: Releasable) -> Releasable:
    rows: list[Any] = edition.estimates.astype("object").where(edition.estimates.notna(), None).to_dict("records")
    return replace(edition, estimates=build(ESTIMATES, rounded_to_five(rows)))


# --- what else could tell -----------------------------------------------------------------------------------------------


def test_a_hidden_row_says_its_key_and_its_mark_alone(guarded):
    rows = [row for night in guarded for row in night.rows.values() if row["suppressed"]]
    assert rows
    assert {name for row in rows for name, value in row.items() if value} <= KEY_AND_MARK


def test_pages_and_tables_say_no_count_that_the_estimates_do_not(guarded):
    static = {
        name: set.intersection(*(pairs_in_words(night.texts[name]) for night in guarded if name in night.texts))
        for name in {name for night in guarded for name in night.texts}
    }  # methods, code lists and published trials are the same every night
    for night in guarded:
        allowed = {(int(row["k"]), int(row["n"])) for row in night.rows.values() if row["k"] and row["n"]}
        allowed |= {(percent, 100) for row in night.rows.values() for percent in _percents(row)}
        people = {number for name, number in night.counts.items() if name.startswith("people/")}
        for name, text in night.texts.items():
            said = {pair for pair in pairs_in_words(text) if not set(pair) <= people}
            assert said <= allowed | static[name], name


def _percents(row: Mapping[str, str]) -> set[int]:
    """The whole percentages that a shown share says, and the shares of the others: what "of 100 people" may say."""
    if row["unit"] != "%" or row["suppressed"]:
        return set()
    said = {round(float(row[name])) for name in ("estimate", "lower", "upper") if row[name]}
    return said | {100 - percent for percent in said}


def test_a_night_that_renews_nothing_publishes_the_same_bytes(guarded):
    for before, after in pairwise(guarded):
        if before.rows == after.rows and before.counts == after.counts:
            same = {name for name in before.texts.keys() & after.texts.keys() if ".pdf" not in name}
            differing = {name for name in same if before.texts[name] != after.texts[name]}
            says_that_held = {name for name in same if name.endswith(("/disclosure.json", "/report.html"))}
            assert differing <= (set() if is_held(before) else says_that_held)


def test_nothing_private_is_in_a_release(guarded):
    everything = "".join("".join(night.texts.values()) for night in guarded)
    assert KEY.hex() not in everything
    assert not any(f"p{number:04d}" in everything for number in range(START + NIGHTS))
