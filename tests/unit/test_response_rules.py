"""How many improved by several rules, how far the rules agree, and how far pain and function go together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cohort_tables import AS_OF, FUNCTION, PAIN, cohort, random_people, the_study, with_pain
from pydantic import ValidationError
from scipy import stats

from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.analysis.function import function
from crps_outcomes.analysis.response_rules import response_rules
from crps_outcomes.definitions import MeasurementError
from crps_outcomes.estimators import pearson
from crps_outcomes.stages.analyse import analyse
from crps_outcomes.tables import FULL_ESTIMATES, build

OBSERVED, EVERYBODY = "observed", "missing = non-responder"
COMPOSITE = "composite_responder"


def rows(people, study=None) -> dict[tuple[str, str, str, str], dict]:
    """The rows by statistic, population, visit and group."""
    found = [*response_rules(Cohort(cohort(people), study or the_study(), AS_OF))]
    build(FULL_ESTIMATES, found)
    return {(row["statistic"], row["population"], row["visit"], row["group"]): row for row in found}


def counts(found, name: str, population: str, visit: str = "week_4") -> tuple[int, int, int]:
    row = found["rule", population, visit, name]
    return row["k"], row["n"], row["n_missing"]


def person(number: int, start: float, week_4: float | None, answer: int | None = None, composite: int | None = None):
    others = {}
    if answer is not None:
        others["pgic"] = {"week_4": float(answer)}
    if composite is not None:
        others[COMPOSITE] = {"week_4": float(composite)}
    return with_pain(number, start, start, None, week_4, others=others)


def error(**changes) -> MeasurementError:
    return MeasurementError(**{"source": "a source", "state": "example", **changes})


# --- reliable change ------------------------------------------------------------------------------------------------


def test_the_reliable_change_of_the_handbook_s_pain_scale():
    found = error(sd=1.8, reliability=0.8)
    assert found.of_one_score == pytest.approx(0.80, abs=5e-3)
    assert found.reliable_change == pytest.approx(2.23, abs=5e-3)


def test_a_standard_error_of_a_table_serves_as_it_is():
    assert error(standard_error=2.0).reliable_change == pytest.approx(1.96 * 2**0.5 * 2)


@pytest.mark.parametrize(
    "parts", [{}, {"sd": 1.8}, {"reliability": 0.8}, {"sd": 1.8, "reliability": 0.8, "standard_error": 1.0}]
)
def test_an_error_that_says_too_little_or_too_much_is_refused(parts):
    with pytest.raises(ValidationError, match="either standard_error, or sd and reliability together"):
        error(**parts)


def test_a_fall_beyond_the_measurement_error_is_a_reliable_change_and_one_within_it_is_not():
    found = rows([person(0, 8, 5.7), person(1, 8, 5.8), person(2, 8, 10), person(3, 7, 9.3), person(4, 8, None)])
    assert counts(found, "reliable change", OBSERVED) == (1, 4, 1)
    assert counts(found, "reliable change", EVERYBODY) == (1, 5, 1)
    assert found["worse", OBSERVED, "week_4", "at all"]["k"] == 2
    assert found["worse", OBSERVED, "week_4", "reliable change"]["k"] == 1


def test_without_a_declared_error_nobody_is_called_reliably_changed():
    study = the_study()
    bare = study.measures[PAIN].model_copy(update={"error": None})
    found = rows([person(0, 8, 2)], replace(study, measures={**study.measures, PAIN: bare}))
    assert found["rule", OBSERVED, "week_4", "reliable change"]["reason"] == "measurement error not declared"
    assert ("worse", OBSERVED, "week_4", "reliable change") not in found


# --- the rules ------------------------------------------------------------------------------------------------------


def test_an_exact_fall_of_thirty_percent_counts_and_one_just_short_of_it_does_not_through_the_whole_analysis():
    pairs = [(9, 6.3), (6, 4.2), (3, 2.1), (7, 4.9), (7, 4.91)]
    tables = cohort([person(i, start, after) for i, (start, after) in enumerate(pairs)])
    estimates = analyse(tables, the_study(), as_of=AS_OF).estimates.set_index("estimate_id")
    for row in (f"responders/rule/observed/{PAIN}/week_4/30", f"responders/responder/observed/{PAIN}/week_4/30"):
        assert (estimates.loc[row, "k"], estimates.loc[row, "n"]) == (4, 5)


def test_answers_to_the_global_question_count_from_the_one_named_upwards():
    found = rows([person(i, 8, 8, answer) for i, answer in enumerate((1, 2, 3, 4, 5, 6, 7, None))])
    assert counts(found, "much improved or better", OBSERVED) == (2, 7, 1)
    assert counts(found, "minimally improved or better", OBSERVED) == (3, 7, 1)
    assert counts(found, "minimally improved or better", EVERYBODY) == (3, 8, 1)


def test_the_composite_counts_with_both_denominators_and_is_not_zero_where_nobody_has_it():
    found = rows([person(0, 8, 2, composite=1), person(1, 8, 8, composite=0), person(2, 8, 8)])
    assert counts(found, "composite of pain and function", OBSERVED) == (1, 2, 1)
    assert counts(found, "composite of pain and function", EVERYBODY) == (1, 3, 1)
    later = found["rule", EVERYBODY, "week_12", "composite of pain and function"]
    assert (later["k"], later["n"], later["reason"]) == (None, 0, "not recorded")


def test_every_rule_asks_the_same_people():
    found = rows(random_people(5, 80))
    everybody = {
        row["n"] for (name, who, visit, _), row in found.items() if (name, who, visit) == ("rule", EVERYBODY, "week_4")
    }
    assert len(everybody) == 1
    for (name, who, _, _), row in found.items():
        if name == "rule" and who == OBSERVED:
            assert row["n"] + row["n_missing"] in everybody | {found["rule", EVERYBODY, "week_12", "30"]["n"]}


def test_agreement_counts_people_in_whom_every_recorded_rule_can_be_told():
    found = rows([person(0, 8, 2, 1), person(1, 8, 8, 4), person(2, 8, 5, 4), person(3, 8, 5), person(4, 8, None, 1)])
    groups = {group: found["agreement", OBSERVED, "week_4", group] for group in ("every rule", "some rules", "no rule")}
    assert [row["k"] for row in groups.values()] == [1, 1, 1]
    assert {(row["n"], row["n_missing"]) for row in groups.values()} == {(3, 2)}
    pair = found["agreement", OBSERVED, "week_4", "first percent and much improved"]
    assert (pair["k"], pair["n"]) == (2, 3)


@pytest.mark.parametrize(
    "people",
    [[], [person(0, 8, 2)], [person(i, 8, None) for i in range(12)], [person(i, 0, 0) for i in range(12)]],
)
def test_a_hopeless_cohort_has_rows_that_say_why(people):
    rows(people)
    tables = Cohort(cohort(people), the_study(), AS_OF)
    build(FULL_ESTIMATES, function(tables))


# --- pain with function ---------------------------------------------------------------------------------------------


def correlation(people) -> dict:
    found = function(Cohort(cohort(people), the_study(), AS_OF))
    return next(row for row in found if row["statistic"] == "correlation" and row["visit"] == "week_4")


def moved(number: int, pain: float, scale: float | None):
    known = {"baseline": 40.0} | ({} if scale is None else {"week_4": 40 + scale})
    return with_pain(number, 8, None, None, 8 + pain, others={FUNCTION: known})


def test_the_correlation_and_its_interval_are_those_of_fisher_s_z():
    pain = [-4, -3, -3, -2, -2, -1, 0, 0, 1, -5, -1, -2]
    scale = [6, 2, 5, 1, -1, 2, 0, 3, -2, 4, 1, 1]
    found = correlation(
        [moved(i, one, two) for i, (one, two) in enumerate(zip(pain, scale, strict=True))] + [moved(20, -2, None)]
    )
    r = np.corrcoef(pain, scale)[0, 1]
    half = stats.norm.ppf(0.975) / np.sqrt(12 - 3)
    assert (found["n"], found["n_missing"]) == (12, 1)
    assert found["estimate"] == pytest.approx(r)
    assert (found["lower"], found["upper"]) == pytest.approx(
        (np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half))
    )


def test_fewer_than_ten_pairs_have_a_correlation_without_an_interval_and_two_have_none():
    nine = correlation([moved(i, -i, i % 4) for i in range(9)])
    assert nine["estimate"] is not None
    assert (nine["lower"], nine["reason"]) == (None, "fewer than 10 people: no interval")
    assert correlation([moved(i, -i, i) for i in range(2)])["reason"] == "fewer than 3 people: no estimate"


def test_values_without_spread_or_on_one_line_have_no_interval():
    assert correlation([moved(i, -2, i % 3) for i in range(12)])["reason"] == "no spread in one of the two"
    on_a_line = pearson(np.arange(12.0), -np.arange(12.0))
    assert (on_a_line.estimate, on_a_line.reason) == (pytest.approx(-1), "all points lie on one line: no interval")
