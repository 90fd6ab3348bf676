"""Sixty nights of releases in a row, patients coming, going and changing one by one: the attacker finds nothing (T33).

Releases every night are the hardest case: the days the protocol declares are not asked. The same attacker must succeed
where the guard is off, and where figures are rounded instead, or the test would show nothing. All reports about a cohort
are made every night, with the rows with which all kinds of attack are possible, at two visits; with all rows a night
would take a minute. The reader has the library that is handed on too.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache, cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cohort_tables
import numpy as np
import pytest
from cohort_tables import AS_OF, PAIN, Person, cohort, event, random_people, reading, the_study
from report_fixture import provenance

import attacker
from attacker import (
    SMALL,
    Claim,
    Night,
    attack,
    blind,
    bounded,
    guesses,
    is_held,
    pairs_in_words,
    read,
    rounded_to_five,
    single_answers,
)
from crps_outcomes import hiding, library, pipeline
from crps_outcomes.analysis import safety as of_safety
from crps_outcomes.analysis.completeness import completeness
from crps_outcomes.analysis.function import function
from crps_outcomes.analysis.identities import identities
from crps_outcomes.analysis.members import Vector, settle_members
from crps_outcomes.analysis.pain import pain
from crps_outcomes.analysis.participants import participants
from crps_outcomes.analysis.quality import quality
from crps_outcomes.analysis.responders import responders
from crps_outcomes.analysis.vital_signs import window_readings
from crps_outcomes.carrying import History
from crps_outcomes.definitions import Disclosure
from crps_outcomes.differencing import Register, Seal
from crps_outcomes.home import Home
from crps_outcomes.stages import analyse as stage
from crps_outcomes.stages.compose import compose
from crps_outcomes.stages.disclose import disclose
from crps_outcomes.stages.publish import attached, publish
from crps_outcomes.stages.render import Rendered, page_html, render
from crps_outcomes.state import Records
from crps_outcomes.tables import ESTIMATES, LEDGER, build
from extractor import KEY_AND_MARK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.definitions import ReportDefinition
    from crps_outcomes.disclosure import Releasable
    from crps_outcomes.provenance import Provenance
    from crps_outcomes.report_model import ReportModel
    from crps_outcomes.stages.analyse import Analysis
    from crps_outcomes.study import Study
    from crps_outcomes.tables import Tables

NIGHTS, PRINTED, THRESHOLD = 60, (59,), 11
FEW = 6
SEED, START = 5, 34
KEY = b"a key of the test"
LEDGER_ROW = {"query_id": "q1", "part": 1, "resource_type": "Patient", "received": 60, "distinct": 60, "accepted": 60,
              "rejected": 0, "hole": ""}  # fmt: skip


# --- the story --------------------------------------------------------------------------------------------------------


@cache
def small_study() -> Study:
    """The study with the measures, visits and months that the attacked rows need, so that a night takes a moment."""
    study = the_study()
    plan, watched = study.protocol.outcomes, study.protocol.quality
    wanted = {plan.primary, plan.function, plan.global_change}
    visits = tuple(one for one in study.protocol.visits if one.id in {plan.primary_visit, plan.later_visit})
    monthly = tuple(one for one in watched.measures if one.id == "response")
    return replace(
        study,
        measures={name: one for name, one in study.measures.items() if name in wanted or one.role != "outcome"},
        protocol=study.protocol.model_copy(update={
            "visits": visits,
            "outcomes": plan.model_copy(update={"secondary": (plan.function,)}),
            "quality": watched.model_copy(update={"measures": monthly, "months": 6}),
        }),
    )  # fmt: skip


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


def _happened(people: Sequence[Person]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Events and readings of people, the same for a person on every night."""
    events, readings = [], []
    for person in (one for one in people if one.is_treated):
        number = int(person.id.removeprefix("p"))
        if number % 3:
            serious = {"is_serious": number % 5 == 0, "severity": "severe" if number % 5 == 0 else "mild"}
            events.append(event(number, person.id, ("Nausea", "Dizziness")[number % 2], **serious))
        if number % 4:
            for place, minutes in enumerate((-10, 20)):
                readings.append(reading(2 * number + place, person.id, "systolic_pressure", 120 + number % 50, minutes))
    return events, readings


@dataclass(frozen=True)
class Truth:
    """What really happened on one night."""

    tables: Tables
    analysis: Analysis

    @cached_property
    def members(self) -> dict[str, Vector]:
        """Who is behind each count."""
        known = self.analysis.members.counts
        sums = identities(known, small_study(), self.analysis.counts.sort_values("order")["step"])
        return settle_members(known, sums)


@pytest.fixture(scope="module", autouse=True)
def _on_no_disk():
    """What is on disk for good is the subject of other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def truths() -> list[Truth]:
    return [truth_of(number) for number in range(NIGHTS)]


@pytest.fixture(scope="module")
def few() -> list[Truth]:
    """The first nights, which are enough to succeed."""
    return [truth_of(number) for number in range(FEW)]


@cache
def truth_of(number: int) -> Truth:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohort_tables, "the_study", small_study)
        patch.setattr(stage, "SECTIONS", (participants, pain, responders, function, safety, completeness, quality))
        return _analysed(nightly()[number])


@cache
def nightly() -> list[list[Person]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohort_tables, "the_study", small_study)
        return [*story()]


def safety(cohort: Cohort) -> list[dict[str, Any]]:
    """Events, serious ones, and sessions with a reading: what both reports say of safety, and the dearest rows left out."""
    events, systolic = of_safety.adverse_events(cohort), cohort.protocol.safety.systolic
    watched = of_safety._monitored(cohort, systolic, window_readings(cohort, systolic)["subject_id"])
    return [*of_safety.event_rows(cohort, events), of_safety._serious(cohort, events), watched]


#: The rows of a night, as section/statistic.
ROWS = (
    "pain/mean", "pain/mean_change", "pain/median_change", "responders/responder", "function/share", "participants/share",
    "participants/smd", "safety/per_100_sessions", "safety/people", "safety/serious", "safety/monitored",
    "completeness/completed", "quality/month",
)  # fmt: skip


def _analysed(people: Sequence[Person]) -> Truth:
    events, readings = _happened(people)
    tables = replace(cohort(people, events=events, observations=readings), ledger=build(LEDGER, [LEDGER_ROW]))
    analysis = stage.analyse(tables, small_study(), as_of=AS_OF)
    rows = analysis.estimates
    kept = (rows["section"] + "/" + rows["statistic"]).isin(ROWS)
    kept &= (rows["section"] != "participants") | rows["group"].str.startswith(("sex", "crps_type"))
    kept &= (rows["section"] != "completeness") | (rows["measure"] == PAIN)
    return Truth(tables, replace(analysis, estimates=rows[kept].reset_index(drop=True)))


# --- releases -----------------------------------------------------------------------------------------------------------


def released(truths: Sequence[Truth], *, is_guarded: bool) -> Iterator[Releasable]:
    register = Register()
    for truth in truths:
        history = History(register, Seal(KEY)) if is_guarded else None
        edition = disclose(truth.analysis, truth.tables, small_study(), "release", history)
        register = edition.register or register
        yield edition


class Clinic:
    """A home folder from which all reports of a night are published and handed on, and what a reader then has."""

    def __init__(self, folder: Path) -> None:
        self.home, self.night = Home.at(folder), 0
        self._pages: dict[tuple[str, ...], tuple[ReportModel, Rendered]] = {}

    def publishes(self, edition: Releasable, reports: Sequence[str] = (), *, is_printed: bool = False) -> Night:
        """One more night; a page that shows the same as on a night before is not drawn again."""
        study, today = small_study(), AS_OF + timedelta(days=self.night)
        wanted = [one for one in study.reports.values() if one.about == "cohort" and (not reports or one.id in reports)]
        folders = {}
        for report in wanted:
            origin = replace(
                provenance("release"), report=report.id, as_of=today, snapshot=f"{self.night:064x}",
                valid_until=study.protocol.valid_until(today, "release").isoformat(),
            )  # fmt: skip
            model, rendered = self._drawn(edition, report, origin, is_printed=is_printed)
            folder = publish(rendered, model, edition, origin, self.home)
            Records(self.home.state_url).add_run(pipeline._run(origin))
            folders[report.id] = self.home.release / folder.name
        library.publish(self.home, study, today)
        self.night += 1
        return read(folders, {
            "library/index.html": (self.home.release / "index.html").read_text(encoding="utf-8"),
            "library/status": "\n".join(one.text for one in library.verdicts(self.home, today)),
        })  # fmt: skip

    def _drawn(
        self, edition: Releasable, report: ReportDefinition, origin: Provenance, *, is_printed: bool
    ) -> tuple[ReportModel, Rendered]:
        frames = (edition.estimates, edition.counts, edition.rejections)
        key = (report.id, str(is_printed), *edition.rules, *(frame.to_csv() for frame in frames))
        if key not in self._pages:
            root, model = small_study().root, compose(edition, small_study(), report, origin)
            data = attached(edition, origin) if report.id == "evidence" else None
            page = Rendered(page_html(model, root / "templates"), b"")
            self._pages[key] = model, render(model, root, attached=data) if is_printed else page
        return self._pages[key]


def published(editions: Sequence[Releasable], folder: Path, printed: Sequence[int] = (), **which: Any) -> list[Night]:
    """All nights as their reader has them; some with the PDF and its archive copy, all with HTML and tables."""
    clinic = Clinic(folder)
    return [clinic.publishes(one, is_printed=number in printed, **which) for number, one in enumerate(editions)]


@pytest.fixture(scope="module")
def guarded(truths, tmp_path_factory) -> list[Night]:
    return published([*released(truths, is_guarded=True)], tmp_path_factory.mktemp("guarded"), PRINTED)


def right(claims: Sequence[Claim], truths: Sequence[Truth]) -> list[Claim]:
    """The claims that are true and about few people."""
    members = [truth.members for truth in truths]
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


def test_T33_nothing_about_few_people_is_found_in_sixty_guarded_nights(guarded, truths):
    found = right(attack(guarded, small_study()), truths)
    assert found == [], (len(found), {claim.kind: claim for claim in found})


@pytest.mark.slow
def test_T33_nothing_about_few_people_is_found_under_the_NHS_rule(truths, tmp_path, monkeypatch):
    """Few are fewer than 8 there; what is shown is rounded to 5, so that most of what it seems to tell is wrong."""
    rules = Disclosure(rule="NHS", release_days=small_study().protocol.disclosure.release_days)
    own = replace(small_study(), protocol=small_study().protocol.model_copy(update={"disclosure": rules}))
    monkeypatch.setitem(globals(), "small_study", lambda: own)
    monkeypatch.setitem(globals(), "THRESHOLD", rules.threshold)
    monkeypatch.setattr(attacker, "SMALL", range(1, rules.threshold))
    nights = published([*released(truths, is_guarded=True)], tmp_path, reports=("evidence", "quality"))
    assert right(attack(nights, own), truths) == []
    claims = guesses(nights, own)
    by_chance = [len(right(blind(claims, seed), truths)) for seed in range(5)]
    assert len(right(claims, truths)) <= 1.1 * sum(by_chance) / len(by_chance)


def test_who_takes_held_figures_for_those_of_the_night_is_right_no_oftener_than_who_guesses_blindly(guarded, truths):
    claims = guesses(guarded, small_study())
    by_chance = [len(right(blind(claims, seed), truths)) for seed in range(5)]
    one_more = [replace(claim, value=1) for claim in claims if claim.kind == "difference"]
    found = len(right(claims, truths))
    assert 0 < found <= 1.1 * sum(by_chance) / len(by_chance)
    assert found < len(claims) / 20
    assert found < len(right(one_more, truths)) / 2  # who saw nothing and says that one more came


def test_the_guarded_figures_are_renewed_now_and_then(guarded):
    for row in (f"pain/mean/analysed/{PAIN}/baseline/-", "safety/people/treated/-/-/any"):
        assert len({night.rows[row]["n"] for night in guarded if night.rows[row]["n"]}) > 1, row


def test_no_hidden_count_of_a_guarded_night_can_have_one_value_only(guarded):
    assert all(bounded(night, small_study()) == {} for night in guarded[::10])


def test_without_the_guard_the_same_attacker_finds_who_came_and_went(few, tmp_path):
    nights = published([*released(few, is_guarded=False)], tmp_path)
    claims = attack(nights, small_study())
    found = right(claims, few)
    assert found == [claim for claim in claims if claim.about in few[0].members]  # and this attacker is never wrong
    assert any(claim.about.startswith("better/") or claim.about.startswith("answer/") for claim in found)
    assert any(claim.about.startswith(("recorded/", "affected/", "monitored/")) for claim in found)


def test_rounding_instead_of_the_guard_gives_single_answers_away(few, tmp_path, monkeypatch):
    monkeypatch.setattr(hiding, "with_decimals", lambda frame: frame.round(2))
    editions = [_rounded_counts(edition) for edition in released(few, is_guarded=False)]
    assert right([*single_answers(published(editions, tmp_path, reports=("evidence",)))], few)


def _rounded_counts(edition: Releasable) -> Releasable:
    rows: list[Any] = edition.estimates.astype("object").where(edition.estimates.notna(), None).to_dict("records")
    return replace(edition, estimates=build(ESTIMATES, rounded_to_five(rows)))


# --- a report of another kind, between the days of releases -------------------------------------------------------------


def _two_kinds(truths: Sequence[Truth], folder: Path) -> list[Night]:
    """An evidence report on a declared day, then a quality report of each night that follows, all of one home."""
    clinic, days = Clinic(folder), (date(2026, 4, 1), *(date(2026, 4, 2 + number) for number in range(len(truths) - 1)))
    nights = []
    for number, (truth, day) in enumerate(zip(truths, days, strict=True)):
        basis = pipeline.Basis(f"{number:064x}", small_study().root, day)
        edition = pipeline._disclosed(
            truth.analysis, truth.tables, small_study(), "release", clinic.home, basis, is_draft=False
        )
        nights.append(clinic.publishes(edition, ("quality",) if number else ("evidence",)))
    return nights


def test_T33_a_report_of_another_kind_between_declared_days_tells_nothing_new(few, tmp_path):
    assert small_study().protocol.disclosure.release_days
    nights = _two_kinds(few, tmp_path)
    assert len({str(night.rows) for night in nights}) == 1
    assert all(is_held(night) for night in nights[1:])
    assert right(attack(nights, small_study()), few) == []


def test_a_register_that_each_report_had_for_itself_would_tell_who_came(few, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline.Releases, "register", lambda *_: Register())
    monkeypatch.setattr(pipeline, "_refuse_if_forgotten", lambda *_, **__: None)
    assert right(attack(_two_kinds(few, tmp_path), small_study()), few)


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
        allowed |= {(n - k, n) for k, n in allowed if n - k not in SMALL}  # "of 149 sessions 126 were without"
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
            same = {name for name in before.texts.keys() & after.texts.keys() if name.endswith((".csv", ".xlsx"))}
            assert same
            assert all(before.texts[name] == after.texts[name] for name in same)


def test_the_library_tells_days_and_digests_and_no_number_of_people(guarded):
    for number, night in enumerate(guarded):
        page, today = night.texts["library/index.html"], AS_OF + timedelta(days=number)
        words = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)
        words = re.sub(r"\b(evidence|quality|plain)-release-\d{4}-\d\d-\d\d-[0-9a-f]{12}\b", " ", words)
        assert f"{today.day} {today:%b %Y}" in words
        left = re.sub(r"\b\d{1,2} [A-Z][a-z]+ \d{4}\b|PDF/A-3", " ", words)
        assert re.findall(r"\d+", left) == [], number
        status = re.sub(r"\d{4}-\d\d-\d\d|-[0-9a-f]{12}\b", " ", night.texts["library/status"])
        assert re.findall(r"\d+", status) == [], number


def test_no_month_is_in_a_release(guarded, truths):
    assert (truths[0].analysis.estimates["section"] == "quality").any()
    assert not any(row["section"] == "quality" for night in guarded for row in night.rows.values())


def test_nothing_private_is_in_a_release(guarded):
    everything = "".join("".join(night.texts.values()) for night in guarded)
    assert KEY.hex() not in everything
    assert not any(f"p{number:04d}" in everything for number in range(START + NIGHTS))
