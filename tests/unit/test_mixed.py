"""Repeated measures: published values, an independent program (R), and what happens where a model cannot be had."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from cohort_tables import AS_OF, PAIN, Person, cohort, the_study, with_pain
from statsmodels.regression.mixed_linear_model import MixedLM

from crps_outcomes import mixed
from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.analysis.course import course, covariance_for
from crps_outcomes.estimators import mean_t
from crps_outcomes.stages.analyse import analyse

ORACLES = Path(__file__).parents[1] / "oracles"
WEEKS = np.arange(5.0)
COHORTS = {name: np.array(rows, float) for name, rows in json.loads((ORACLES / "cohorts.json").read_text()).items()}
RECORD = json.loads((ORACLES / "repeated_measures.json").read_text())
LARGE = [name for name, scores in COHORTS.items() if len(scores) >= 100]


def sleepstudy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reaction times of 18 people on 10 days, the days, and the design of a straight line."""
    rows = np.genfromtxt(ORACLES / "sleepstudy.csv", delimiter=",", skip_header=1)
    days = np.arange(10.0)
    return rows[:, 2].reshape(18, 10), days, np.column_stack([np.ones(10), days])


def errors(found: mixed.Fit) -> np.ndarray:
    return np.sqrt(np.diag(found.model_based))


def against_the_first(found: mixed.Fit) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and errors as R has them: the first visit, then the differences from it."""
    turn = np.eye(len(found.means))
    turn[1:, 0] = -1
    return turn @ found.means, np.sqrt(np.diag(turn @ found.model_based @ turn.T))


# --- published ------------------------------------------------------------------------------------------------------


def test_sleepstudy_with_random_slope_gives_the_published_values():
    scores, days, line = sleepstudy()
    found = mixed.fit(scores, days, "random slope", line)
    assert found.means == pytest.approx([251.405, 10.467], abs=5e-4)
    assert errors(found) == pytest.approx([6.825, 1.546], abs=5e-4)
    assert -2 * found.loglik == pytest.approx(1743.628, abs=5e-4)
    residual = 654.94
    assert found.sigma[0, 0] - residual == pytest.approx(612.1, abs=0.05)
    assert found.sigma[0, 1] - 612.1 == pytest.approx(9.60, abs=0.05)
    assert found.sigma[1, 2] - 612.1 - 3 * 9.60 == pytest.approx(2 * 35.07, abs=0.05)


def test_sleepstudy_with_random_intercept_gives_the_published_values():
    found = mixed.fit(*sleepstudy()[:2], "random intercept", sleepstudy()[2])
    assert found.sigma[0, 0] - found.sigma[0, 1] == pytest.approx(960.46, abs=5e-3)
    assert found.loglik == pytest.approx(-893.2325, abs=5e-5)


def test_statsmodels_gives_the_published_values_by_maximum_likelihood_and_ours_by_reml():
    """It is the second opinion on the random slope, for which R is not asked."""
    scores, days, line = sleepstudy()
    design = np.tile(line, (18, 1))
    model = MixedLM(scores.ravel(), design, groups=np.repeat(np.arange(18), len(days)), exog_re=design)
    published = model.fit(reml=False)
    assert -2 * published.llf == pytest.approx(1751.939, abs=5e-4)
    assert published.bse_fe == pytest.approx([6.632, 1.502], abs=5e-4)
    restricted, own = model.fit(reml=True), mixed.fit(scores, days, "random slope", line)
    assert own.loglik == pytest.approx(restricted.llf, abs=1e-4)
    assert own.means == pytest.approx(restricted.fe_params, abs=1e-4)


# --- against R ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COHORTS)
def test_random_intercept_agrees_with_lmertest(name):
    agrees(mixed.fit(COHORTS[name], WEEKS, "random intercept"), RECORD[name]["intercept"])


@pytest.mark.parametrize("name", LARGE)
def test_unstructured_covariance_agrees_with_nlme(name):
    agrees(mixed.fit(COHORTS[name], WEEKS, "unstructured"), RECORD[name]["unstructured"])


def agrees(found: mixed.Fit, record) -> None:
    means, own_errors = against_the_first(found)
    assert means == pytest.approx(record["coefficients"], abs=5e-5)
    assert own_errors == pytest.approx(record["se"], abs=5e-5)
    assert found.loglik == pytest.approx(record["loglik"], abs=5e-5)


@cache
def why_no_r() -> str:
    if shutil.which("Rscript") is None:
        return "no Rscript on this machine"
    wanted = "for (p in c('lme4','lmerTest','nlme','mice','jsonlite')) library(p, character.only = TRUE)"
    asked = subprocess.run(["Rscript", "-e", wanted], capture_output=True, check=False)
    return "" if asked.returncode == 0 else "R lacks lme4, lmerTest, nlme, mice or jsonlite"


def test_running_the_r_script_again_gives_the_record(tmp_path):
    if why_no_r():
        pytest.skip(why_no_r())
    shutil.copy(ORACLES / "cohorts.json", tmp_path)
    script = ORACLES / "repeated_measures.R"
    subprocess.run(["Rscript", str(script), str(tmp_path), "quick"], check=True, capture_output=True)
    again = json.loads((tmp_path / "repeated_measures.json").read_text())
    for name, models in again.items():
        for model, values in models.items():
            for key, value in values.items():
                assert value == pytest.approx(RECORD[name][model][key], abs=1e-5)
    pooled = json.loads((tmp_path / "imputation.json").read_text())["pool_scalar"]
    assert pooled == pytest.approx(json.loads((ORACLES / "imputation.json").read_text())["pool_scalar"])


# --- properties -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance", mixed.COVARIANCES)
def test_with_complete_data_the_interval_is_the_paired_t_interval(covariance):
    person = np.random.default_rng(4).normal(7, 1.5, (60, 1))
    scores = person + np.random.default_rng(5).normal(0, 1, (60, 4)) - np.arange(4)
    for visit, found in enumerate(mixed.changes(scores, np.arange(4.0), covariance), 1):
        paired = mean_t(scores[:, visit] - scores[:, 0])
        assert "mixed model" in found.method
        assert (found.estimate, found.lower, found.upper) == pytest.approx(
            (paired.estimate, paired.lower, paired.upper), abs=1e-6
        )


def test_dropout_that_hangs_on_what_was_seen_biases_the_observed_mean_and_not_the_model():
    chance, gaps = np.random.default_rng(8), []
    for _ in range(30):
        response = chance.normal(-2, 1.5, (150, 1)) * [0, 1, 1]
        scores = chance.normal(7, 1, (150, 1)) + response + chance.normal(0, 0.7, (150, 3))
        scores[scores[:, 1] > 6, 2] = np.nan
        observed = np.nanmean(scores[:, 2] - scores[:, 0])
        gaps.append((observed + 2, mixed.changes(scores, np.arange(3.0), "unstructured")[1].estimate + 2))
    observed, modelled = np.mean(gaps, axis=0)
    assert abs(modelled) < 0.1
    assert observed < -0.4


def test_a_model_without_maximum_gives_the_paired_change_and_says_so():
    scores = np.random.default_rng(2).normal(
        5, 1, (20, 3)
    )  # no person differs from another: no variance between people
    scores -= scores.mean(axis=1, keepdims=True)
    found = mixed.changes(scores, np.arange(3.0), "unstructured")
    paired = mean_t(scores[:, 1] - scores[:, 0])
    assert found[0].method.startswith(
        "paired change of the people seen, t interval: the model with random intercept did not fit"
    )
    assert (
        found[0].method.endswith("unstructured did not fit, its covariance has no inverse")
        or "unstructured" in found[0].method
    )
    assert (found[0].lower, found[0].upper) == pytest.approx((paired.lower, paired.upper))


def test_the_covariance_follows_the_number_of_people_and_the_plan_only_as_far_as_they_carry():
    wanted = [covariance_for(n, "by number of people") for n in (10, 39, 99, 100)]
    assert wanted == ["random intercept"] * 3 + ["unstructured"]
    assert [covariance_for(n, "unstructured") for n in (99, 100)] == ["random intercept", "unstructured"]
    assert [covariance_for(n, "random slope") for n in (39, 40, 200)] == [
        "random intercept",
        "random slope",
        "random slope",
    ]


# --- rows -----------------------------------------------------------------------------------------------------------


def alike(seed: int, n: int, *, lost: float = 0.1) -> list[Person]:
    """People whose own scores are alike, each missing by chance."""
    chance = np.random.default_rng(seed)
    scores = chance.normal(7, 1.3, (n, 1)) + chance.normal(0, 1, (n, 7)) - [0, 1, 2, 2, 2, 2, 1]
    seen = chance.random((n, 7)) > lost
    seen[:, 0] = True
    return [
        with_pain(i, *(float(one) if known else None for one, known in zip(line, own, strict=True)))
        for i, (line, own) in enumerate(zip(scores, seen, strict=True))
    ]


def rows(people):
    return {one["visit"]: one for one in course(Cohort(cohort(people), the_study(), AS_OF))}


def test_fewer_than_ten_people_have_no_model_and_fewer_than_forty_three_visits():
    few, some, many = (rows(alike(3, n)) for n in (9, 30, 45))
    assert {one["reason"] for one in few.values()} == {"fewer than 10 people with a follow-up: no repeated measures"}
    assert [visit for visit, one in some.items() if one["estimate"] is not None] == ["week_4", "week_12", "week_26"]
    assert all(one["lower"] < one["estimate"] < one["upper"] for one in many.values())
    assert all("random intercept" in one["method"] for one in many.values())


def test_people_never_seen_again_are_in_the_model_and_counted_as_missing():
    people = alike(3, 40)
    lost = [Person(f"x{i}", {PAIN: {"baseline": 8.0}}) for i in range(5)]
    before, after = rows(people)["week_4"], rows([*people, *lost])["week_4"]
    assert (after["n"], after["n_missing"]) == (before["n"] + 5, before["n_missing"] + 5)


def test_the_order_of_people_changes_nothing():
    people = alike(3, 40)
    assert rows(people) == rows([*reversed(people)])


HOPELESS = {
    "nobody": [],
    "one person": [with_pain(1, 8, 5)],
    "two people": [with_pain(1, 8, 5), with_pain(2, 7, 7)],
    "all missing": [Person(f"p{i}") for i in range(12)],
    "baselines only": [with_pain(i, 8) for i in range(12)],
    "no variance": [with_pain(i, 8, 5, 5, 5, 5, 5, 5) for i in range(12)],
    "one visit": [with_pain(i, 8 - i % 3, 5) for i in range(12)],
    "same change": [with_pain(i, 8 - i % 4, 5 - i % 4, 4 - i % 4, 3, 3, 4, 4) for i in range(45)],
}


@pytest.mark.parametrize("name", HOPELESS)
def test_a_hopeless_cohort_has_an_interval_or_a_reason_at_every_visit(name):
    found = rows(HOPELESS[name])
    assert len(found) == 6
    for one in found.values():
        numbers = [one[key] for key in ("estimate", "lower", "upper") if one[key] is not None]
        assert np.isfinite(numbers).all()
        assert one["reason"] or one["lower"] is not None


def test_the_plan_names_the_covariance_of_the_rows_of_a_run():
    study = the_study()
    wanted = study.protocol.plan.repeated_measures.model_copy(update={"covariance": "unstructured"})
    plan = study.protocol.plan.model_copy(update={"repeated_measures": wanted})
    own = replace(study, protocol=study.protocol.model_copy(update={"plan": plan}))
    for n, covariance in ((60, "random intercept"), (110, "unstructured")):
        found = analyse(cohort(alike(3, n)), own, as_of=AS_OF).estimates
        methods = found.loc[found["statistic"] == "model_change", "method"].unique().tolist()
        assert methods == [f"mixed model by REML, {covariance}, robust t interval"]
