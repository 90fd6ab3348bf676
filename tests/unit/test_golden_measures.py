"""Every measure against its golden file: these resources in, these observations, outcomes and rejections out.

All cases of a file run as one cohort, one person per case: that people do not touch each other is part of the test.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from study_day import DIAGNOSIS, DOSE, PERSON, STUDY, as_person, run

GOLDEN = Path(__file__).parents[1] / "golden" / "measures"
CASES = {path.stem: json.loads(path.read_text()) for path in sorted(GOLDEN.glob("*.json"))}


@cache
def cohort(measure: str) -> Any:
    people = [as_person([PERSON, DIAGNOSIS, DOSE, *case["resources"]], f"-{i}") for i, case in enumerate(CASES[measure])]
    return run(
        [resource for person in people for resource in person],
        enrolled=[f"p1-{i}" for i in range(len(people))],
        person=False,
    )


@pytest.mark.parametrize(
    ("measure", "number"),
    [
        pytest.param(measure, i, id=f"{measure}: {case['case']}")
        for measure, cases in CASES.items()
        for i, case in enumerate(cases)
    ],
)
def test_golden(measure: str, number: int):
    case, suffix = CASES[measure][number], f"-{number}"
    rows, scored, rejections = cohort(measure)

    of_measure = rows.observations[rows.observations["measure"] == measure]
    found = of_measure[of_measure["subject_id"] == f"p1{suffix}"].set_index(["source_ref", "item"])
    assert sorted(found.index) == sorted((one["source_ref"] + suffix, one["item"]) for one in case["observations"])
    for expected in case["observations"]:
        row = found.loc[(expected["source_ref"] + suffix, expected["item"])]
        assert row["value"] == pytest.approx(expected["value"], rel=1e-6)
        assert str(row["taken_on"].date()) == expected["taken_on"]
        assert row["derivation"] == expected["derivation"]
        assert row["unit"] == STUDY.measure(measure).unit

    own = rejections[rejections["resource_ref"].str.endswith(suffix)]
    refused = set(zip(own["resource_ref"], own["rule"], strict=True))
    assert refused == {(one["resource_ref"] + suffix, one["rule"]) for one in case["rejections"]}

    outcomes = scored.outcomes[scored.outcomes["measure"] == measure].set_index(["subject_id", "visit"])
    for expected in case["outcomes"]:
        assert_outcome(outcomes.loc[(f"p1{suffix}", expected["visit"])], expected)


def assert_outcome(row: pd.Series, expected: dict[str, Any]):
    assert row["state"] == expected["state"]
    assert_same(row["value"], expected["value"])
    if expected["change"] is not None:
        assert_same(row["change"], expected["change"])
        assert_same(row["percent_change"], expected["percent_change"])
        assert_same(row["is_responder_30"], expected["is_responder_30"])


def assert_same(found: Any, expected: float | bool | None):  # noqa: FBT001
    if expected is None:
        assert pd.isna(found)
    else:
        assert found == pytest.approx(expected)


def test_every_measure_has_golden_cases_and_every_golden_file_its_measure():
    assert set(CASES) == set(STUDY.measures)
