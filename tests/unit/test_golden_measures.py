"""Every measure against its golden file: these resources in, these observations, outcomes and rejections out.

All cases of a file run as one cohort, one person per case: that people do not touch each other is part of the test. A
case may bring the tables a site would supply, and the signals it expects.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pandas as pd
import pytest
from golden_cases import CASES, cohort, with_tables
from study_day import STUDY

from crps_outcomes.estimators import is_responder
from crps_outcomes.scoring import signals


@cache
def found(measure: str, *, supplied: bool) -> Any:
    numbers = [i for i, case in enumerate(CASES[measure]) if bool(case.get("tables")) is supplied]
    tables = {name: rows for i in numbers for name, rows in CASES[measure][i].get("tables", {}).items()}
    return cohort(measure, numbers, with_tables(STUDY, tables))


@pytest.mark.parametrize(
    ("measure", "number"),
    [
        pytest.param(measure, i, id=f"{measure}: {case['case']}")
        for measure, cases in CASES.items()
        for i, case in enumerate(cases)
    ],
)
def test_golden(measure: str, number: int):
    case = CASES[measure][number]
    assert_case(case, f"-{number}", found(measure, supplied=bool(case.get("tables"))), STUDY.measure(measure))


def assert_case(case: dict[str, Any], suffix: str, results: Any, measure: Any):
    rows, scored, rejections = results
    of_measure = rows.observations[rows.observations["measure"] == measure.id]
    own_rows = of_measure[of_measure["subject_id"] == f"p1{suffix}"].set_index(["source_ref", "item"])
    assert sorted(own_rows.index) == sorted((one["source_ref"] + suffix, one["item"]) for one in case["observations"])
    for expected in case["observations"]:
        row = own_rows.loc[(expected["source_ref"] + suffix, expected["item"])]
        assert row["value"] == pytest.approx(expected["value"], rel=1e-6)
        assert str(row["taken_on"].date()) == expected["taken_on"]
        assert row["derivation"] == expected["derivation"]
        assert row["unit"] == measure.unit

    own = rejections[rejections["resource_ref"].str.endswith(suffix)]
    refused = set(zip(own["resource_ref"], own["rule"], strict=True))
    assert refused == {(one["resource_ref"] + suffix, one["rule"]) for one in case["rejections"]}

    outcomes = scored.outcomes[scored.outcomes["measure"] == measure.id].set_index(["subject_id", "visit"])
    for expected in case["outcomes"]:
        assert_outcome(outcomes.loc[(f"p1{suffix}", expected["visit"])], expected, measure.direction)
    if case.get("no_score"):
        scores = outcomes[outcomes["state"] == "observed"]
        assert f"p1{suffix}" not in set(scores.index.get_level_values("subject_id"))
    if "signals" in case:
        raised = signals(rows.observations[rows.observations["subject_id"] == f"p1{suffix}"], STUDY)
        raised = raised[raised["measure"] == measure.id]
        assert [(row["source_ref"], row["value"]) for row in raised.to_dict("records")] == [
            (one["source_ref"] + suffix, one["value"]) for one in case["signals"]
        ]


def assert_outcome(row: pd.Series, expected: dict[str, Any], direction: str):
    assert row["state"] == expected["state"]
    assert_same(row["value"], expected["value"])
    if expected["change"] is not None:
        assert_same(row["change"], expected["change"])
        assert_same(row["percent_change"], expected["percent_change"])
        assert_same(row["is_responder_30"], expected["is_responder_30"])
    if "is_better" in expected:
        pair = pd.Series([row["baseline"]]), pd.Series([row["value"]])
        assert_same(is_responder(*pair, 0.0, direction)[0], expected["is_better"])


def assert_same(found: Any, expected: float | bool | None):  # noqa: FBT001
    if expected is None:
        assert pd.isna(found)
    else:
        assert not pd.isna(found)
        assert found == pytest.approx(expected)


def test_every_measure_has_golden_cases_and_every_golden_file_its_measure():
    assert set(CASES) == set(STUDY.measures)
