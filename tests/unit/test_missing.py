"""What is missing: who was lost, which scores are there, and what the missing ones could do to the findings."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from cohort_tables import AS_OF, DAY_0, PAIN, Person, cohort, event, rejected, the_study, with_pain
from report_fixture import provenance

from crps_outcomes.facts import Facts
from crps_outcomes.sections.course import course as course_section
from crps_outcomes.sections.missing import missing as missing_section
from crps_outcomes.stages.analyse import analyse
from crps_outcomes.stages.disclose import disclose
from crps_outcomes.tables import INTERCURRENT, build

PGIC = the_study().protocol.outcomes.global_change
VISITS = [visit.id for visit in the_study().protocol.visits]


def lost_when_worse(n: int = 60) -> tuple[list[Person], np.ndarray]:
    """People of whom those who got no better are mostly not seen again, and everybody's true change at week 4."""
    chance, people, truth = np.random.default_rng(6), [], []
    for number in range(n):
        start = float(chance.integers(6, 10))
        scores: list[float | None] = [float(np.clip(np.round(start + chance.normal(-1.2, 2.2)), 0, 10)) for _ in VISITS]
        truth.append(scores[VISITS.index("week_4")] - start)
        gone = next((at for at, score in enumerate(scores) if score >= start and chance.random() < 0.4), len(VISITS))
        scores[gone:] = [None] * (len(VISITS) - gone)
        people.append(with_pain(number, start, *scores))
    return people, np.array(truth)


def facts_of(people, edition: str = "internal", **more) -> Facts:
    tables = cohort(people, **more.pop("tables", {}))
    tables = replace(tables, **more)
    analysis = analyse(tables, the_study(), as_of=AS_OF)
    return Facts(
        disclose(analysis, tables, the_study(), edition), the_study(), the_study().reports["evidence"], provenance()
    )


@cache
def worse() -> Facts:
    return facts_of(lost_when_worse()[0])


# --- scores not missing at random -----------------------------------------------------------------------------------


def test_where_the_worse_are_lost_the_observed_change_flatters_and_the_bound_holds_the_truth():
    truth = float(lost_when_worse()[1].mean())
    observed = worse().one("pain", "mean_change", measure=PAIN, visit="week_4")
    best, worst = (worse().one("missing", "change_bound", visit="week_4", group=end) for end in ("best", "worst"))
    assert observed.estimate < truth - 0.3
    assert best.estimate < truth < worst.estimate
    imputed = [worse().one("missing", "imputed_change", visit="week_4", group=delta) for delta in ("0", "1", "2", "3")]
    assert [one.estimate for one in imputed] == sorted(one.estimate for one in imputed)
    assert imputed[0].estimate < truth < imputed[-1].estimate


def test_the_section_says_what_would_have_to_be_true_and_prints_the_bound():
    section = missing_section(worse())
    tip = worse().one("missing", "tipping_point", visit="week_4")
    worst = worse().one("missing", "change_bound", visit="week_4", group="worst")
    assert worst.upper > 0
    wanted = f"would have to be on average {tip.estimate:.1f} points worse than people like them with a score"
    assert wanted in section.finding
    assert [line.split(":")[0] for line in section.text["what_if"]] == ["Week 12"]
    cells = {row[0].text: [cell.text for cell in row[1:]] for row in section.tables["bounds"].rows}
    none, every = (
        worse().one("missing", "responder_bound", visit="week_4", group=f"30: {end}") for end in ("none", "all")
    )
    shares = cells["Week 4: at least 30% less pain"]
    assert shares[0].startswith(f"{none.k} of {none.n}")
    assert shares[2].startswith(f"{every.k} of {every.n}")
    assert every.k - none.k == none.n_missing


def test_responders_at_the_lower_bound_are_those_with_missing_as_not_improved():
    for percent in the_study().protocol.outcomes.responder_percents:
        bound = worse().one("missing", "responder_bound", visit="week_12", group=f"{percent}: none")
        page = worse().one(
            "responders", "responder", population="missing = non-responder", visit="week_12", group=str(percent)
        )
        assert (bound.k, bound.n) == (page.k, page.n)


def test_one_missing_score_that_no_value_could_make_matter_is_said_to_be_so():
    people = [with_pain(i, 8, 5, 5, 4 + i % 3, 4, 4, 4) for i in range(20)]
    finding = missing_section(facts_of([*people, with_pain(20, 8, 5)])).finding
    assert finding.startswith("1 of 21 people due at week 4 has no pain score; if all missing scores were the worst")
    assert missing_section(facts_of(people)).finding == "Everybody who was due at week 4 has a pain score"


def test_an_interval_that_includes_no_change_has_no_finding_to_lose():
    people = [with_pain(i, 6, 6, 6, 6 + (-1) ** i * 2, 6, 6 + (-1) ** i, 6) for i in range(24)]
    section = missing_section(facts_of([*people, with_pain(30, 6, 6), with_pain(31, 6, 5)]))
    assert "there is no finding to lose" in section.finding


def test_scores_after_an_event_that_the_plan_calls_hypothetical_are_imputed_as_well():
    people = [with_pain(i, 8, 5, 5, 4 + i % 3, 4, 4, 4) for i in range(20)] + [
        with_pain(i, 8, *[0] * 6) for i in (20, 21)
    ]
    event_of = {"kind": "other ketamine route", "term": "iv", "study_day": 1}
    happened = [
        {**event_of, "subject_id": f"p{i:04d}", "happened_on": pd.Timestamp(DAY_0.date()), "source_ref": f"x/{i}"}
        for i in (20, 21)
    ]
    found = facts_of(people, intercurrent=build(INTERCURRENT, happened))
    plain, aside = (found.one("missing", "imputed_change", visit="week_4", group=group) for group in ("0", "set aside"))
    assert plain.estimate < aside.estimate < -2.5
    names = [row[0].text for row in missing_section(found).tables["sensitivity"].rows]
    assert "Multiple imputation, also of scores after: other ketamine route" in names
    assert not facts_of(people).every("missing", "imputed_change", group="set aside")


def test_what_is_set_aside_is_imputed_from_nothing_that_came_after_the_event():
    def found(answer: float, dose: float) -> float:
        people = [
            with_pain(
                i, 8, 5, 5, 4 + i % 3, 4, 4, 4, doses_mg=(40.0 + i % 5,) * 3, others={PGIC: {"week_4": 1 + i % 3}}
            )
            for i in range(40)
        ]
        people += [
            with_pain(i, 8, *[0] * 6, doses_mg=(41.0, dose, dose), others={PGIC: {"week_4": answer}}) for i in (40, 41)
        ]
        facts = facts_of(people, intercurrent=build(INTERCURRENT, [other_route(i, 5) for i in (40, 41)]))
        return tuple(
            facts.one("missing", "imputed_change", visit="week_4", group=group).estimate for group in ("0", "set aside")
        )

    quiet, loud = found(1, 41.0), found(7, 300.0)
    assert quiet[1] == loud[1]


def other_route(person: int, day: int) -> dict[str, object]:
    """Ketamine by another route, which the plan calls hypothetical, on a day after the first dose."""
    return {
        "kind": "other ketamine route", "term": "iv", "study_day": day, "subject_id": f"p{person:04d}",
        "happened_on": pd.Timestamp(DAY_0.date()) + pd.Timedelta(days=day), "source_ref": f"x/{person}",
    }  # fmt: skip


# --- disposition ----------------------------------------------------------------------------------------------------


def test_stops_deaths_and_last_scores_are_counted_by_person_with_the_week():
    day = pd.Timestamp(DAY_0.date())
    stops = [
        event(number, person, term, kind="discontinuation", source_ref=f"MedicationRequest/{number}", onset_at=None,
              onset_on=day + pd.Timedelta(weeks=week))
        for number, (person, term, week) in enumerate(
            [("p0001", "No benefit", 2), ("p0001", "No benefit", 6), ("p0002", "No benefit", 4),
             ("p0003", "No benefit", 6), ("p0003", "Nausea", 9), ("p0004", "Nausea", -3)]
        )
    ]  # fmt: skip
    death = {
        "subject_id": "p0005",
        "kind": "death",
        "term": "",
        "happened_on": None,
        "study_day": None,
        "source_ref": "x",
    }
    people = [with_pain(i, 8, 5, 5, 5) for i in range(10)] + [with_pain(10, 8), with_pain(11, 8, 5, 5, 5, 5, 5, 5)]
    found = facts_of(people, tables={"events": stops}, intercurrent=build(INTERCURRENT, [death]))
    stopped = {one.group: (one.k, one.n) for one in found.every("missing", "stopped")}
    assert stopped == {"any": (3, 12), "No benefit": (3, 12), "Nausea": (1, 12)}
    assert found.one("missing", "stopped_week", group="No benefit").estimate == 4
    assert found.one("missing", "died").k == 1
    assert {one.group: one.k for one in found.every("missing", "last_score")} == {
        "baseline": 1,
        "week_4": 10,
        "complete": 1,
    }
    section = missing_section(found)
    rows = [[cell.text for cell in row] for row in section.tables["disposition"].rows]
    assert ["Ketamine stopped: No benefit", "3 of 12 (25%)", "4 (3 to 5)"] in rows
    assert ["Last score at week 4, later ones due", "10 of 12 (83%)", "[z]"] in rows
    assert "Scores after a death are imputed as if the person lived." in section.text["notes"]


def test_a_stop_without_a_day_is_counted_as_safety_counts_it_and_has_no_week():
    stops = [
        event(number, f"p{number:04d}", "No benefit", kind="discontinuation", source_ref=f"MedicationRequest/{number}",
              onset_at=None, onset_on=day)
        for number, day in enumerate([pd.Timestamp(DAY_0.date()) + pd.Timedelta(weeks=4)] * 3 + [None])
    ]  # fmt: skip
    found = facts_of([with_pain(i, 8, 5, 5, 5) for i in range(12)], tables={"events": stops})
    week = found.one("missing", "stopped_week", group="any")
    assert found.one("missing", "stopped", group="any").k == found.one("safety", "stopped", group="any").k == 4
    assert (week.n, week.n_missing, week.estimate) == (3, 1, 4)


def test_every_person_is_in_one_pattern_and_has_one_last_score():
    for statistic in ("pattern", "last_score"):
        rows = worse().every("missing", statistic)
        assert sum(row.k for row in rows) == 60
        assert {row.n for row in rows} == {60}
    visits_of = worse().every("pain", "mean", measure=PAIN, visit="week_4")[0]
    seen = sum(row.k for row in worse().every("missing", "pattern") if row.group[2] == "x")
    assert seen == visits_of.n


def test_a_visit_not_due_is_neither_missing_nor_a_loss():
    people = [with_pain(i, 8, 5, 5, 5, 5, 5, not_due=frozenset(("week_26",))) for i in range(12)]
    found = facts_of(people)
    assert {one.group: one.k for one in found.every("missing", "last_score")} == {"complete": 12}
    assert [one.group for one in found.every("missing", "pattern")] == ["xxxxx-"]


def test_rare_patterns_stand_together_in_one_row():
    shapes = [f"{number:06b}" for number in range(1, 25)]
    people = [with_pain(i, 8, *(5 if letter == "1" else None for letter in shape)) for i, shape in enumerate(shapes)]
    rows = facts_of(people).every("missing", "pattern")
    assert len(rows) == 11
    assert next(row.k for row in rows if row.group == "others") == 14


def test_reasons_that_records_state_are_counted_and_those_without_are_too():
    said = ["the source says why there is no value (asked-declined)"] * 2 + ["the source says why there is no value"]
    refused = [rejected(number, "data-absent", reason=reason) for number, reason in enumerate(said)]
    found = facts_of([with_pain(i, 8, 5, 5, 5) for i in range(12)], tables={"rejections": refused})
    assert {row.group: row.k for row in found.every("missing", "reason")} == {"asked-declined": 2, "not stated": 1}
    assert "asked-declined (2) and not stated (1)" in " ".join(missing_section(found).text["notes"])


# --- whatever the cohort --------------------------------------------------------------------------------------------


HOPELESS = {
    "nobody": [],
    "nobody treated": [Person("p1", doses_mg=())],
    "one person": [with_pain(1, 8, 5)],
    "two people": [with_pain(1, 8, 5), with_pain(2, 7, 7)],
    "all missing": [Person(f"p{i}") for i in range(12)],
    "baselines only": [with_pain(i, 8) for i in range(12)],
    "no variance": [with_pain(i, 8, 5, 5, 5, 5, 5, 5) for i in range(12)],
    "no variance and one lost": [*(with_pain(i, 8, 5, 5, 5, 5, 5, 5) for i in range(12)), with_pain(12, 8)],
    "all respond": [with_pain(i, 8 + i % 2, 1, 1, 1, 1, 1, 1) for i in range(12)],
    "one visit": [with_pain(i, 8 - i % 3, 5) for i in range(12)],
    "one visit with the primary score": [with_pain(i, 8, None, None, 5 + i % 2 if i else None) for i in range(12)],
    "baseline zero": [with_pain(i, 0, 0, 0, 0) for i in range(12)],
}


@pytest.mark.parametrize("name", HOPELESS)
def test_a_hopeless_cohort_gives_honest_rows_and_an_honest_page(name):
    found = facts_of(HOPELESS[name])
    own = found.releasable.estimates
    own = own[own["section"].isin(["missing", "course"])]
    numbers = own[["estimate", "lower", "upper"]].to_numpy(dtype="float64", na_value=0.0)
    assert np.isfinite(numbers).all()
    assert own[["n", "n_missing"]].notna().all(axis=None)
    assert (own["method"] != "").all()
    assert ((own["reason"] != "") | own["upper"].notna()).all()
    for section in (missing_section(found), course_section(found)):
        words = f"{section.finding} {section.text} {section.tables}"
        assert "nan" not in words.replace("finan", "")
        assert not re.search(r"(?<!\()(?<!\d, )100%", words)  # only beside its count


def test_the_same_seed_gives_the_same_rows_and_the_order_of_people_changes_nothing():
    people = lost_when_worse(30)[0]
    one, other = (facts_of(own).releasable.estimates for own in (people, [*reversed(people)]))
    pd.testing.assert_frame_equal(one, other)


def test_the_release_edition_has_no_row_of_the_section_and_says_where_it_is_shown():
    found = facts_of(lost_when_worse()[0], "release")
    assert not found.releasable.estimates["section"].isin(["missing", "course"]).any()
    section = missing_section(found)
    assert section.tables == {}
    assert "internal edition only" in section.finding
    assert "internal edition only" in course_section(found).finding
