"""Screening and scoring as a whole: nothing is lost, order never matters, and a person's numbers are their own."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from study_day import DIAGNOSIS, DOSE, PERSON, as_person, run

from crps_outcomes.fhirtime import moment

GOLDEN = Path(__file__).parents[1] / "golden" / "measures"
SUFFIXES = {
    f"-{stem.replace('_', '-')}-{i}": case["resources"]
    for stem in ("pain_nrs", "phq9", "systolic_pressure", "pgic")
    for i, case in enumerate(json.loads((GOLDEN / f"{stem}.json").read_text()))
}
ENROLLED = [f"p1{suffix}" for suffix in SUFFIXES]
COHORT = [
    resource
    for suffix, resources in SUFFIXES.items()
    for resource in as_person([PERSON, DIAGNOSIS, DOSE, *resources], suffix)
]


@settings(max_examples=4, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_the_order_of_resources_leaves_no_trace(random):
    shuffled = list(COHORT)
    random.shuffle(shuffled)
    one, other = run(COHORT, enrolled=ENROLLED, person=False), run(shuffled, enrolled=ENROLLED, person=False)
    for name in ("observations", "doses", "events"):
        pd.testing.assert_frame_equal(getattr(one[0], name), getattr(other[0], name))
    pd.testing.assert_frame_equal(one[1].outcomes, other[1].outcomes)
    pd.testing.assert_frame_equal(one[1].subjects, other[1].subjects)
    pd.testing.assert_frame_equal(one[2], other[2])


def test_every_resource_ends_in_a_row_or_in_a_rejection():
    rows, _, rejections = run(COHORT, enrolled=ENROLLED, person=False)
    used = {*rows.observations["source_ref"], *rows.doses["source_ref"], *rows.events["source_ref"], *rows.diagnosed_in}
    seen = used | set(rejections["resource_ref"])
    went_in = {f"{one['resourceType']}/{one['id']}" for one in COHORT if one["resourceType"] != "Patient"}
    assert went_in == seen


def test_outcomes_have_a_row_for_every_measure_and_visit_whether_there_is_a_value_or_not():
    outcomes = run([])[1].outcomes
    assert len(outcomes) == 7 * 7 - 1  # seven outcome measures, baseline and six visits; PGIC has no baseline
    assert set(outcomes["state"]) == {"missing"}


def test_an_open_window_is_not_due_and_not_missing():
    outcomes = run([], as_of=date(2026, 2, 1))[1].outcomes.set_index(["measure", "visit"])["state"]
    assert outcomes["pain_nrs", "week_2"] == "missing"  # closed on day 18, 28 January
    assert outcomes["pain_nrs", "week_4"] == "not due"  # open until day 35


def pain(value: int, on: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation", "id": f"pain-{on}", "status": "final", "subject": {"reference": "Patient/p1"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "72514-3"}]}, "effectiveDateTime": on,
        "valueInteger": value,
    }  # fmt: skip


def test_a_score_in_an_open_window_is_provisional_until_the_window_has_closed():
    scores = [pain(8, "2026-01-08"), pain(3, "2026-02-02"), pain(5, "2026-02-07")]  # days -2, 23 and 28

    def week_4(as_of: date, known: int) -> list[object]:
        _, scored, _ = run(scores[:known], as_of=as_of)
        row = scored.outcomes.set_index(["measure", "visit"]).loc[("pain_nrs", "week_4")]
        is_analysed = scored.subjects["is_analysed"].item()
        numbers = [row[name] for name in ("value", "provisional", "change", "is_responder_50")]
        return [row["state"], row["derivation"], *(None if pd.isna(one) else one for one in numbers), is_analysed]

    assert week_4(date(2026, 2, 3), 2) == ["not due", "the window is still open", None, 3, None, None, False]
    assert week_4(date(2026, 2, 14), 3) == ["not due", "the window is still open", None, 5, None, None, False]
    assert week_4(date(2026, 2, 15), 3) == ["observed", "", 5, None, -3, False, True]  # day 35, the last, is over


def test_nobody_without_a_crps_diagnosis_or_a_dose_counts_as_treated():
    _, scored, _ = run([PERSON, DOSE], person=False)
    assert scored.subjects["exclusion"].tolist() == ["no CRPS diagnosis on record"]
    _, scored, _ = run([PERSON, DIAGNOSIS], person=False)
    assert scored.subjects["exclusion"].tolist() == ["no IM session"]
    assert scored.outcomes.empty


def test_a_diagnosis_is_matched_by_code_then_by_words_and_both_types_leave_it_open():
    second = {**DIAGNOSIS, "id": "two", "code": {"coding": [{**DIAGNOSIS["code"]["coding"][0], "code": "g5640"}]}}
    words = {**DIAGNOSIS, "id": "words", "code": {"text": "Complex regional pain syndrome, left hand"}}
    other = {**DIAGNOSIS, "id": "other", "code": {"text": "Migraine"}}

    def of(*conditions):
        _, scored, rejections = run([PERSON, DOSE, *conditions], person=False)
        row = scored.subjects.iloc[0]
        return row["crps_type"], row["crps_match"], rejections["rule"].tolist()

    assert of(DIAGNOSIS) == ("I", "icd-10-cm", [])
    assert of(second) == ("II", "icd-10-cm", [])
    assert of(DIAGNOSIS, second) == ("not specified", "icd-10-cm", [])
    assert of(words, other) == ("not specified", "text", ["not-crps-diagnosis"])


@pytest.mark.parametrize(
    ("text", "day", "instant"),
    [
        ("2026-01-05T23:30:00-05:00", "2026-01-05", "2026-01-06T04:30:00+00:00"),
        ("2026-01-06T04:30:00Z", "2026-01-05", "2026-01-06T04:30:00+00:00"),  # 23:30 at the clinic
        ("2026-01-06T04:30:00.123+01:00", "2026-01-06", "2026-01-06T03:30:00.123000+00:00"),
        ("2026-01-05", "2026-01-05", None),
        ("2026-01", None, None),
        ("2026", None, None),
        ("", None, None),
        ("yesterday at noon", None, None),
    ],
)
def test_moments_keep_the_local_day_and_never_invent_precision(text, day, instant):
    found = moment(text, "America/New_York")
    assert (found.on and found.on.isoformat()) == day
    assert (found.at and found.at.isoformat()) == instant
