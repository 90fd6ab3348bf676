"""Scores with values that come from outside this project's code, each through FHIR resources and the whole pipeline.

Published: the United States value set of the EQ-5D-5L by the tests of the R package eq5d; PROMIS T-scores by public tables;
WPAI by the formulae of reillyassociates.net. Worked out by hand: PROMIS-29 summaries, PCS.
The tables hold only the few numbers these answers need; a site supplies whole ones under its own licence.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from golden_cases import with_tables
from study_day import STUDY, run

from crps_outcomes.estimators import is_responder
from crps_outcomes.scoring import summary

FORM = "https://example.org/crps-outcomes/Questionnaire/"
YES, NO = {"valueBoolean": True}, {"valueBoolean": False}
DECREMENTS = [
    ["eq5d-1", 2, 0.096], ["eq5d-2", 2, 0.089], ["eq5d-3", 2, 0.068], ["eq5d-4", 2, 0.060], ["eq5d-5", 2, 0.057],
    ["eq5d-3", 3, 0.101], ["eq5d-4", 5, 0.414], ["eq5d-5", 4, 0.299],
    ["eq5d-1", 5, 0.322], ["eq5d-2", 5, 0.261], ["eq5d-3", 5, 0.255], ["eq5d-5", 5, 0.321],
]  # fmt: skip
T_SCORES = {
    "promis_pain_interference": [["", 11, 59.9]],
    "promis_physical_function": [["", 13, 37.9]],
    "promis_anxiety": [["", 9, 57.7]],
    "promis_social": [["", 11, 42.3]],
}
SITE = with_tables(STUDY, {"eq5d5l_value_set": DECREMENTS, **T_SCORES})


def response(form: str, answers: dict[str, Any]) -> dict[str, Any]:
    """A completed response before the first dose; whole numbers are valueInteger."""
    given = {name: [value if isinstance(value, dict) else {"valueInteger": value}] for name, value in answers.items()}
    return {
        "resourceType": "QuestionnaireResponse", "id": "q", "status": "completed", "questionnaire": FORM + form,
        "subject": {"reference": "Patient/p1"}, "authored": "2026-01-05T09:00:00-05:00",
        "item": [{"linkId": name, "answer": answer} for name, answer in given.items()],
    }  # fmt: skip


def scores(form: str, answers: dict[str, Any], study: Any = SITE) -> dict[str, float]:
    """Every score the response gives at baseline, by measure."""
    outcomes = run([response(form, answers)], study=study)[1].outcomes
    found = outcomes[(outcomes["visit"] == "baseline") & (outcomes["state"] == "observed")]
    return dict(zip(found["measure"], found["value"], strict=True))


@pytest.mark.parametrize(
    ("state", "index"),
    [
        ("11111", 1), ("21111", 0.904), ("12111", 0.911), ("11211", 0.932), ("11121", 0.940), ("11112", 0.943),
        ("21354", 0.090), ("55555", -0.573),
    ],
)  # fmt: skip
def test_the_eq5d_states_have_their_published_index(state, index):
    answers = {f"eq5d-{place}": int(level) for place, level in enumerate(state, 1)}
    assert scores("eq5d5l", answers)["eq5d_index"] == pytest.approx(index, abs=1e-9)


@pytest.mark.parametrize(
    ("measure", "items", "t_score"),
    [
        ("interference", [3, 3, 3, 2], 59.9),
        ("function", [4, 3, 3, 3], 37.9),
        ("anxiety", [3, 2, 2, 2], 57.7),
        ("social", [3, 3, 3, 2], 42.3),
    ],
)
def test_promis_items_become_their_published_t_score_and_nothing_is_prorated(measure, items, t_score):
    answers = {f"promis29-{measure}-{place}": value for place, value in enumerate(items, 1)}
    assert list(scores("promis29", answers).values()) == [pytest.approx(t_score)]
    for empty in answers:
        assert scores("promis29", {name: value for name, value in answers.items() if name != empty}) == {}


def test_promis_summaries_of_the_worked_example():
    parts = pd.DataFrame([[59.9, 37.9, 57.7, 63.9, 62.7, 52.4, 42.3, 5.0]])
    assert summary(parts, "physical_summary")[0] == pytest.approx(37.50, abs=0.005)
    assert summary(parts, "mental_summary")[0] == pytest.approx(39.03, abs=0.005)


def test_wpai_of_the_worked_example():
    answers = {"wpai-1": YES, "wpai-2": 8, "wpai-3": 0, "wpai-4": 32, "wpai-5": 5, "wpai-6": 6}
    found = scores("wpai", answers)
    assert found == {
        "wpai_absenteeism": pytest.approx(20), "wpai_presenteeism": pytest.approx(50),
        "wpai_work": pytest.approx(60), "wpai_activity": pytest.approx(60),
    }  # fmt: skip


def test_wpai_out_of_work_is_only_activity_impairment():
    assert scores("wpai", {"wpai-1": NO, "wpai-6": 6}) == {"wpai_activity": pytest.approx(60)}


def test_wpai_without_any_hours_has_no_absenteeism_and_no_overall_impairment():
    answers = {"wpai-1": YES, "wpai-2": 0, "wpai-3": 0, "wpai-4": 0, "wpai-5": 5, "wpai-6": 6}
    assert set(scores("wpai", answers)) == {"wpai_presenteeism", "wpai_activity"}


def test_pcs_with_every_item_its_number_modulo_five():
    found = scores("pcs", {f"pcs-{item}": item % 5 for item in range(1, 14)})
    assert found == {"pcs": 26, "pcs_rumination": 8, "pcs_magnification": 6, "pcs_helplessness": 12}


@pytest.mark.parametrize(("start", "end"), [(9, 6.3), (6, 4.2), (3, 2.1), (7, 4.9)])
def test_exactly_thirty_percent_is_a_response_and_just_below_is_none(start, end):
    def responds(value: float) -> bool:
        return bool(is_responder(pd.Series([start]), pd.Series([value]), 30, "lower")[0])

    assert responds(end)
    assert not responds(end + 0.01)


def test_a_start_of_zero_has_no_percentage_and_is_no_response():
    assert is_responder(pd.Series([0.0]), pd.Series([0.0]), 30, "lower").isna().all()
