"""Every estimator against a value from outside the project, or against the rule it claims to follow."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crps_outcomes import estimators
from crps_outcomes.estimators import Interval, is_responder

TEN_BASELINES = [8, 7, 9, 6, 8, 7, 5, 8, 9, 7]
TEN_FOLLOW_UPS = [4, 5, 9, None, 5.5, 3, 5, None, 6, 4]


def floats(*numbers: float | None) -> pd.Series:
    return pd.Series(list(numbers), dtype="Float64")


def as_array(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype="float64")


# --- shares -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "n", "lower", "upper"), [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611)])
def test_wilson_gives_the_intervals_newcombe_published(k, n, lower, upper):
    found = estimators.wilson(k, n)
    assert found.lower == pytest.approx(100 * lower, abs=0.005)
    assert found.upper == pytest.approx(100 * upper, abs=0.005)
    assert found.estimate == pytest.approx(100 * k / n)


def test_none_of_twenty_still_allows_almost_fourteen_percent():
    found = estimators.one_sided_upper_for_zero(20)
    assert found.upper == pytest.approx(13.91, abs=0.005)
    assert found.upper == pytest.approx(100 * (1 - 0.05 ** (1 / 20)), abs=1e-9)
    assert (found.estimate, found.lower) == (0.0, None)


def test_clopper_pearson_agrees_with_scipy_and_contains_wilson_at_the_edges():
    exact = stats.binomtest(3, 17).proportion_ci(0.95, "exact")
    found = estimators.clopper_pearson(3, 17)
    assert (found.lower, found.upper) == pytest.approx((100 * exact.low, 100 * exact.high), abs=1e-6)
    assert estimators.clopper_pearson(0, 20).upper > estimators.wilson(0, 20).upper


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_lies_inside_its_interval_and_the_interval_inside_0_to_100(k_n):
    for estimate in (estimators.wilson(*k_n), estimators.clopper_pearson(*k_n)):
        assert 0 <= estimate.lower <= estimate.estimate + 1e-9
        assert estimate.estimate - 1e-9 <= estimate.upper <= 100


@pytest.mark.parametrize(
    "function",
    [estimators.wilson, estimators.clopper_pearson, estimators.one_sided_upper, estimators.poisson_rate_exact],
)
def test_nothing_to_divide_by_gives_a_reason_and_no_number(function):
    found = function(0, 0)
    assert (found.estimate, found.lower, found.upper) == (None, None, None)
    assert found.reason


EXACT = {  # n, method: mean and minimum of the exact coverage over p = .05 to .95 in steps of .01
    (10, "wilson"): (0.956, 0.914), (10, "clopper_pearson"): (0.983, 0.962),
    (20, "wilson"): (0.953, 0.925), (20, "jeffreys"): (0.948, 0.896), (20, "clopper_pearson"): (0.975, 0.959),
    (40, "wilson"): (0.950, 0.928),
}  # fmt: skip


@pytest.mark.parametrize(("n", "method"), EXACT)
def test_the_intervals_of_shares_cover_as_often_as_is_known(n, method):
    covered = [*exact_coverage([getattr(estimators, method)(k, n) for k in range(n + 1)], n)]
    assert (np.mean(covered), min(covered)) == pytest.approx(EXACT[n, method], abs=6e-4)


@pytest.mark.parametrize(("n", "mean", "least"), [(10, 0.825, 0.400), (20, 0.895, 0.639), (40, 0.926, 0.837)])
def test_the_interval_that_is_never_used_covers_as_badly_as_is_known(n, mean, least):
    half = [1.959964 * 100 * (k / n * (1 - k / n) / n) ** 0.5 for k in range(n + 1)]
    wald = [Interval(n, 100 * k / n, 100 * k / n - h, 100 * k / n + h, "Wald") for k, h in enumerate(half)]
    covered = [*exact_coverage(wald, n)]
    assert (np.mean(covered), min(covered)) == pytest.approx((mean, least), abs=6e-4)


def exact_coverage(intervals, n):
    """By enumeration: for every true share the chance of a count whose interval holds it."""
    lower, upper = (np.array([getattr(one, side) for one in intervals]) for side in ("lower", "upper"))
    for percent in range(5, 96):
        holds = (lower <= percent + 1e-9) & (percent - 1e-9 <= upper)
        chance = stats.binom.pmf(np.arange(n + 1), n, percent / 100)
        yield float(chance[holds].sum())


# --- rates --------------------------------------------------------------------------------------------------------


def test_the_poisson_interval_is_the_exact_one():
    found = estimators.poisson_rate_exact(5, 100)
    assert (found.lower, found.upper) == pytest.approx((1.6235, 11.6683), abs=5e-5)  # chi-square / 2, Garwood 1936
    none = estimators.poisson_rate_exact(0, 100)
    assert (none.estimate, none.lower) == (0.0, 0.0)
    assert none.upper == pytest.approx(-100 * np.log(0.025) / 100, abs=1e-9)


# --- means and medians ----------------------------------------------------------------------------------------------


def test_ten_patients_by_hand():
    baseline, value = floats(*TEN_BASELINES), floats(*TEN_FOLLOW_UPS)
    found = estimators.mean_t(estimators.as_values(value - baseline))
    assert found.n == 8
    assert found.estimate == pytest.approx(-2.3125, abs=1e-9)
    assert found.sd == pytest.approx(1.5797, abs=5e-5)
    assert (found.lower, found.upper) == pytest.approx((-3.633, -0.992), abs=5e-4)
    for percent, expected in ((30, 5), (50, 2)):
        response = is_responder(baseline, value, percent, "lower")
        assert int(response.sum()) == expected
        assert int(response.notna().sum()) == 8


def test_the_ten_patients_with_their_baseline_carried_forward_fall_by_less_which_no_report_prints():
    change = floats(*TEN_FOLLOW_UPS) - floats(*TEN_BASELINES)
    carried = estimators.mean_t(np.nan_to_num(estimators.as_floats(change), nan=0.0))
    assert carried.n == 10
    assert carried.estimate == pytest.approx(-1.85, abs=1e-9)


@pytest.mark.parametrize(("n", "half_width"), [(20, 1.12), (40, 0.77), (100, 0.48), (200, 0.33)])
def test_half_width_of_a_mean_change_with_sd_2_4(n, half_width):
    values = np.linspace(-1, 1, n)
    values = values / values.std(ddof=1) * 2.4
    found = estimators.mean_t(values)
    assert (found.upper - found.lower) / 2 == pytest.approx(half_width, abs=0.005)


@pytest.mark.parametrize(
    ("values", "reason"),
    [([], "no values"), ([4.0], "one value: no interval"), ([4.0] * 12, "all values are equal: no interval")],
)
def test_a_mean_without_spread_has_no_interval_but_a_reason(values, reason):
    found = estimators.mean_t(as_array(*values))
    assert found.reason == reason
    assert (found.lower, found.upper) == (None, None)


def test_median_and_quartiles_are_those_of_r_type_7():
    found = estimators.median_quartiles(as_array(1, 2, 3, 4, 10, 20))
    assert (found.lower, found.estimate, found.upper) == pytest.approx((2.25, 3.5, 8.5))


# --- Hodges-Lehmann -------------------------------------------------------------------------------------------------


def test_hodges_lehmann_on_the_depression_data_of_hollander_and_wolfe():
    before = as_array(1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30)
    after = as_array(0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29)
    found = estimators.hodges_lehmann(after - before)
    assert (found.estimate, found.lower, found.upper) == pytest.approx((-0.46, -0.786, -0.010), abs=5e-4)


def test_a_zero_change_stays_a_value():
    with_zeros = estimators.hodges_lehmann(as_array(-3, -2, -2, 0, 0, 0, 0, 0, -1, 0))
    without = estimators.hodges_lehmann(as_array(-3, -2, -2, -1))
    assert with_zeros.n == 10
    assert with_zeros.estimate > without.estimate


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-50, 50), min_size=6, max_size=25, unique=True))
def test_the_interval_holds_what_the_exact_signed_rank_test_does_not_reject(values):
    changes = np.round(np.array(values), 3)
    found = estimators.hodges_lehmann(changes)
    walsh = np.unique([(a + b) / 2 for a in changes for b in changes])
    for below, above in pairwise(walsh):
        centre = (below + above) / 2
        differences = changes - centre
        if len(np.unique(np.abs(differences))) < len(differences) or (differences == 0).any():
            continue  # scipy has no exact distribution with ties
        is_inside = found.lower < centre < found.upper
        assert is_inside == (stats.wilcoxon(differences, method="exact").pvalue > 0.05)


def test_too_few_values_for_a_95_percent_interval_say_so():
    found = estimators.hodges_lehmann(as_array(1, 2, 3, 4, 5))
    assert found.lower is None
    assert found.reason == "too few values for a 95 % interval"


# --- clusters -------------------------------------------------------------------------------------------------------


def flips(values, centre):
    """Two-sided p-value of the exact sign-flip test that the values lie evenly about ``centre``."""
    moved = np.asarray(values) - centre
    sums = np.array([np.dot(signs, moved) for signs in product((-1, 1), repeat=len(moved))])
    return np.mean(np.abs(sums) >= abs(moved.sum()) - 1e-9)


def test_the_sign_flip_interval_holds_what_the_exact_test_does_not_reject():
    values = as_array(-4, -2, 0, -4, -2.5, -4, 0, -3, -1, -6)
    found = estimators.sign_flip(values, np.random.default_rng(1))
    assert found.estimate == pytest.approx(values.mean())
    for limit, outwards in ((found.lower, -1), (found.upper, 1)):
        assert flips(values, limit - outwards * 1e-6) > 0.05
        assert flips(values, limit + outwards * 0.3) <= 0.05
    assert found.lower < np.mean(values) < found.upper


def test_the_sign_flip_interval_by_random_subsets_agrees_with_the_one_by_all(monkeypatch):
    values = np.random.default_rng(3).normal(-2, 2, 14)
    whole = estimators.sign_flip(values, np.random.default_rng(1))
    monkeypatch.setattr(estimators, "SIGN_FLIP_EXACT_MOST", 10)
    drawn = estimators.sign_flip(values, np.random.default_rng(1))
    assert drawn == estimators.sign_flip(values, np.random.default_rng(1))
    assert (drawn.lower, drawn.upper) == pytest.approx((whole.lower, whole.upper), abs=0.25)
    assert drawn != whole


def test_the_bootstrap_repeats_itself_from_its_seed_and_leans_with_the_values():
    values = np.random.default_rng(3).exponential(2, 40)
    found, again = (estimators.bootstrap_mean(values, np.random.default_rng(1)) for _ in range(2))
    assert found == again
    assert found.upper - found.estimate > found.estimate - found.lower


@pytest.mark.parametrize("function", [estimators.sign_flip, estimators.bootstrap_mean])
@pytest.mark.parametrize("values", [[], [3.0], [3.0] * 12, [3.0, 4.0]])
def test_values_that_carry_no_interval_say_why_or_have_a_finite_one(function, values):
    found = function(as_array(*values), np.random.default_rng(1))
    assert found.reason or np.isfinite([found.lower, found.upper]).all()
    assert values or found.estimate is None


def test_the_chi_square_interval_of_a_standard_deviation():
    values = np.linspace(-1, 1, 20)
    found = estimators.spread(values / values.std(ddof=1) * 2.4)
    assert (found.lower, found.upper) == pytest.approx(
        (1.825, 3.505), abs=1e-3
    )  # 2.4 √(19 / 32.852), 2.4 √(19 / 8.907)


def test_few_people_are_described_by_their_median_and_range():
    found = estimators.median_range(as_array(-4, -2, 0, -4, -2.5))
    assert (found.lower, found.estimate, found.upper) == (-4, -2.5, 0)


def test_many_sessions_of_the_same_people_do_not_narrow_the_interval():
    people = np.arange(12)
    rises = people - 5.5
    once = estimators.mean_clustered(rises, people)
    tenfold = estimators.mean_clustered(np.repeat(rises, 10), np.repeat(people, 10))
    assert tenfold.estimate == pytest.approx(once.estimate)
    assert tenfold.upper - tenfold.lower == pytest.approx(once.upper - once.lower, rel=0.02)
    plain = estimators.mean_t(rises)
    assert once.upper - once.lower == pytest.approx(plain.upper - plain.lower, rel=0.02)


def test_sessions_of_one_person_have_no_interval():
    found = estimators.mean_clustered(as_array(1, 2, 3), np.array(["p1"] * 3))
    assert (found.estimate, found.lower) == (2.0, None)
    assert found.reason == "one person: no interval"


# --- balance --------------------------------------------------------------------------------------------------------


def test_standardised_differences_follow_austin():
    found = estimators.standardised_difference(as_array(1, 2, 3), as_array(2, 3, 4))
    assert found.estimate == pytest.approx(-1.0)
    binary = estimators.standardised_difference_binary(50, 100, 30, 100)
    assert binary.estimate == pytest.approx(0.2 / np.sqrt((0.25 + 0.21) / 2))


def test_groups_without_spread_have_a_difference_of_zero_or_none():
    assert estimators.standardised_difference_binary(10, 10, 5, 5).estimate == 0.0
    assert estimators.standardised_difference_binary(10, 10, 0, 5).estimate is None
    assert estimators.standardised_difference(as_array(1, 1), as_array(3, 3)).reason == "no spread in either group"
    assert estimators.standardised_difference(as_array(1), as_array(3, 4)).estimate is None


# --- response -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("baseline", "value"), [(9, 6.3), (6, 4.2), (3, 2.1), (7, 4.9)])
def test_an_exact_30_percent_reduction_is_a_response_whatever_binary_fractions_say(baseline, value):
    assert is_responder(floats(baseline), floats(value), 30, "lower").tolist() == [True]


def test_just_below_the_threshold_is_not_a_response():
    assert is_responder(floats(7), floats(4.91), 30, "lower").tolist() == [False]


def test_a_response_cannot_be_told_without_baseline_or_value_or_from_zero():
    found = is_responder(floats(0, None, 7, 1), floats(0, 3, None, 0), 30, "lower")
    assert found.isna().tolist() == [True, True, True, False]
    assert found.dtype == "boolean"


def test_higher_is_better_is_the_mirror_image():
    start, end = floats(40, 40, 40), floats(52, 51.9, 28)
    assert is_responder(start, end, 30, "higher").tolist() == [True, False, False]
    assert is_responder(start, end, 30, "none").isna().all()


def test_a_negative_percent_asks_for_no_worse_than():
    assert is_responder(floats(5, 5), floats(6, 6.1), -20, "lower").tolist() == [True, False]


@given(st.integers(1, 100), st.integers(0, 100), st.integers(-20, 100))
def test_a_response_agrees_with_exact_arithmetic_on_tenths(tenths_before, tenths_after, percent):
    found = is_responder(floats(tenths_before / 10), floats(tenths_after / 10), percent, "lower").iloc[0]
    assert found == (100 * (tenths_before - tenths_after) >= percent * tenths_before)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "sd"), [(12, 2.4), (40, 2.4)])
def test_intervals_of_a_mean_and_a_pseudomedian_cover_the_truth_95_times_in_100(n, sd):
    chance = np.random.default_rng(20260612)
    for estimate in (estimators.mean_t, estimators.hodges_lehmann):
        found = [estimate(chance.normal(-2, sd, n)) for _ in range(2000)]
        covered = np.mean([one.lower <= -2 <= one.upper for one in found])
        assert covered == pytest.approx(0.95, abs=0.02)
        assert np.mean([one.estimate for one in found]) == pytest.approx(-2, abs=4 * sd / np.sqrt(2000 * n))


# --- several tests ------------------------------------------------------------------------------------------------

#: The p-values of Benjamini and Hochberg 1995.
FIFTEEN = [
    0.0001,
    0.0004,
    0.0019,
    0.0095,
    0.0201,
    0.0278,
    0.0298,
    0.0344,
    0.0459,
    0.3240,
    0.4262,
    0.5719,
    0.6528,
    0.7590,
    1.0,
]


@pytest.mark.parametrize(("method", "rejected"), [("fdr_bh", 4), ("holm", 3), ("bonferroni", 3)])
def test_adjusted_p_values_reject_as_many_of_the_fifteen_as_published(method, rejected):
    assert int((estimators.adjusted(FIFTEEN, method) <= 0.05).sum()) == rejected


def test_no_test_at_all_needs_no_adjustment():
    assert estimators.adjusted([], "holm").tolist() == []


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=30).filter(lambda numbers: np.ptp(numbers) > 1e-3))
def test_the_p_value_is_below_five_percent_exactly_where_the_interval_excludes_zero(numbers):
    values = as_array(*numbers)
    found = estimators.mean_t(values)
    p = estimators.p_of_no_change(values)
    if abs(p - 0.05) > 1e-9:
        assert (p < 0.05) == (found.lower > 0 or found.upper < 0)
