"""Multiple imputation: Rubin's rules to the printed digits, R's mice as second opinion, and the tipping point."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from crps_outcomes.estimators import mean_t
from crps_outcomes.imputation import Imputed, impute, pool, pooled_change, tipping_point

ORACLES = Path(__file__).parents[1] / "oracles"
RECORD = json.loads((ORACLES / "imputation.json").read_text())
COHORTS = {name: np.array(rows, float) for name, rows in json.loads((ORACLES / "cohorts.json").read_text()).items()}


def filled(scores: np.ndarray, imputations: int = 20, seed: int = 1) -> np.ndarray:
    everything = {at: [other for other in range(scores.shape[1]) if other != at] for at in range(scores.shape[1])}
    return impute(scores, everything, imputations, seed)


def imputed(scores: np.ndarray, imputations: int = 20, worse: float = 1.0) -> Imputed:
    """The change at the third visit."""
    return Imputed(filled(scores, imputations)[:, :, 2] - scores[:, 0], np.isnan(scores[:, 2]), worse)


# --- pooling --------------------------------------------------------------------------------------------------------


def test_pooling_gives_the_known_answer_and_that_of_r():
    found = pool(np.array([-2.1, -1.8, -2.4, -2.0, -2.2]), np.array([0.20, 0.22, 0.18, 0.21, 0.19]), 39)
    assert (found.estimate, found.within, found.between, found.total) == pytest.approx((-2.10, 0.20, 0.05, 0.26))
    assert found.total**0.5 == pytest.approx(0.5099, abs=5e-5)
    assert found.share == pytest.approx(0.2308, abs=5e-5)
    assert found.freedom == pytest.approx(20.698, abs=5e-4)
    assert found.limits() == pytest.approx((-3.161, -1.039), abs=5e-4)
    r = RECORD["pool_scalar"]
    assert (found.estimate, found.within, found.between, found.total, found.freedom) == pytest.approx(
        (r["qbar"], r["ubar"], r["b"], r["t"], r["df"])
    )


def test_imputations_that_agree_add_no_variance():
    found = pool(np.full(5, -2.0), np.full(5, 0.2), 39)
    assert (found.share, found.total) == (0.0, 0.2)
    assert found.freedom == pytest.approx(40 / 42 * 39)


# --- filling in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORD["cohorts"])
def test_the_imputed_change_agrees_with_mice(name):
    """Both draw 400 times; the tolerance is four Monte Carlo errors of the difference, and 7 % of the variance."""
    own, r = imputed(COHORTS[name], 400), RECORD["cohorts"][name]
    means = own.change.mean(axis=1)
    found = pool(means, own.change.var(axis=1, ddof=1) / len(COHORTS[name]), len(COHORTS[name]) - 1)
    assert found.estimate == pytest.approx(r["estimate"], abs=4 * np.sqrt(2 * found.between / 400))
    assert found.total == pytest.approx(r["total"], rel=0.07)


def test_what_was_seen_is_never_changed_and_the_seed_decides_the_rest():
    scores = COHORTS["fifty"]
    one, same, other = filled(scores, seed=1), filled(scores, seed=1), filled(scores, seed=2)
    seen = ~np.isnan(scores)
    assert all(copy[seen] == pytest.approx(scores[seen]) for copy in one)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.isnan(one).any()


def test_few_people_and_columns_that_say_the_same_are_no_trouble():
    scores = COHORTS["twelve"].copy()
    scores[:, 3] = scores[:, 0]
    scores[:, 4] = 5.0
    scores[:3, 2] = np.nan
    assert np.isfinite(filled(scores)).all()


def test_the_interval_covers_the_truth_where_dropout_hangs_on_what_was_seen():
    chance, hits, n = np.random.default_rng(11), [], 60
    for seed in range(200):
        scores = chance.normal(7, 1.5, (n, 1)) + chance.normal(0, 1, (n, 3)) - np.array([0, 2, 2])
        scores[(scores[:, 1] > 5.5) & (chance.random(n) < 0.6), 2] = np.nan
        copies = filled(scores, 10, seed)
        found = pooled_change(Imputed(copies[:, :, 2] - scores[:, 0], np.isnan(scores[:, 2]), 1.0))
        hits.append(found.lower <= -2 <= found.upper)
    assert 0.90 <= np.mean(hits) <= 0.99  # 200 rounds: 95 % plus or minus three standard errors


# --- worse than imputed ---------------------------------------------------------------------------------------------


def test_a_delta_moves_the_mean_by_its_share_of_missing_people():
    own = imputed(COHORTS["fifty"])
    plain, worse = pooled_change(own), pooled_change(own, 2.0)
    assert worse.estimate - plain.estimate == pytest.approx(2.0 * own.is_missing.mean())
    assert worse.method == "20 imputations, Rubin's rules, Barnard-Rubin degrees of freedom, missing scores 2 worse"


def test_at_the_tipping_point_the_interval_just_touches_no_change():
    own = imputed(COHORTS["fifty"])
    found = tipping_point(own, 10.0)
    assert found.estimate > 0
    assert pooled_change(own, found.estimate).upper == pytest.approx(0, abs=1e-4)
    assert pooled_change(own, found.estimate - 0.01).upper < 0 < pooled_change(own, found.estimate + 0.01).upper


def test_where_higher_is_better_the_lower_limit_is_the_one_that_tips():
    lower = imputed(COHORTS["fifty"])
    higher = Imputed(-lower.change, lower.is_missing, -1.0)
    assert tipping_point(higher, 10.0).estimate == pytest.approx(tipping_point(lower, 10.0).estimate, abs=1e-5)


def test_a_tipping_point_needs_a_finding_something_missing_and_a_scale_long_enough():
    own = imputed(COHORTS["fifty"])
    none = Imputed(own.change + 5, own.is_missing, 1.0)
    whole = Imputed(own.change, np.zeros_like(own.is_missing), 1.0)
    assert tipping_point(none, 10.0).estimate == 0.0
    assert tipping_point(whole, 10.0).reason == "no score is missing"
    assert tipping_point(own, 0.5).reason == "not even if they were worse by the whole scale"
    level = Imputed(np.full((5, 12), -3.0), own.is_missing[:12], 1.0)
    assert tipping_point(level, 10.0).estimate is None
    assert pooled_change(level).reason == "all values are equal: no interval"


def test_people_seen_who_all_change_alike_give_no_interval_however_the_imputed_ones_differ():
    change = np.full((5, 19), -2.0)
    change[:, 0] += np.linspace(-1e-4, 1e-4, 5)
    flat = Imputed(change, np.arange(19) == 0, 1.0)
    for found in (pooled_change(flat), pooled_change(flat, 2.0), tipping_point(flat, 10.0)):
        assert (found.lower, found.upper, found.reason) == (None, None, "all values are equal: no interval")
    assert tipping_point(flat, 10.0).estimate is None


def test_with_nothing_missing_the_imputed_change_is_the_observed_one():
    scores = (
        COHORTS["fifty"][:, [0, 1, 0]]
        - np.array([0, 0, 1])
        + np.random.default_rng(1).normal(0, 1, (50, 3)) * [0, 0, 1]
    )
    scores = scores[~np.isnan(scores).any(axis=1)]
    found, plain = pooled_change(imputed(scores)), mean_t(scores[:, 2] - scores[:, 0])
    assert (found.estimate, found.lower, found.upper) == pytest.approx((plain.estimate, plain.lower, plain.upper))
    assert found.method.endswith("no score is missing")
