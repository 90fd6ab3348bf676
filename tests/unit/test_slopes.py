"""Slopes within and between people, and rates by person: known answers, known slopes found again, honest refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from crps_outcomes import slopes
from crps_outcomes.by_person import rate_by_person, share_by_person
from crps_outcomes.estimators import poisson_rate_exact
from crps_outcomes.slopes import occasions, odds_within, rank_correlation, slope, varied, within_between, within_slope


def repeated(seed: int, *, n: int = 40, each: int = 6, within: float = -0.3, between: float = 0.5):
    """Doses and values of ``n`` people in whom the slope inside people is not the slope between them."""
    chance = np.random.default_rng(seed)
    people = np.repeat(np.arange(n), each)
    own, moves = chance.normal(6, 2, n)[people], chance.normal(0, 1, n * each)
    doses = own + moves
    means = (np.bincount(people, doses) / each)[people]
    noise = chance.normal(0, 0.5, n)[people] + chance.normal(0, 1, n * each)
    return doses, within * (doses - means) + between * means + noise, people


def test_the_slope_over_people_is_the_one_of_scipy_with_its_t_interval():
    chance = np.random.default_rng(1)
    doses = chance.normal(5, 1, 30)
    values = 2 - 0.7 * doses + chance.normal(0, 1, 30)
    found, known = slope(doses, values), stats.linregress(doses, values)
    wide = stats.t.ppf(0.975, 28) * known.stderr
    assert (found.estimate, found.lower) == (pytest.approx(known.slope), pytest.approx(known.slope - wide))


def test_the_rank_correlation_has_an_interval_by_bonett_and_wright():
    doses = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    values = np.array([2.0, 1, 4, 3, 6, 5, 8, 7, 10, 9])
    found = rank_correlation(doses, values)
    rho = 1 - 6 * 10 / (10 * 99)  # ten differences of one place
    error = ((1 + rho**2 / 2) / 7) ** 0.5
    assert found.estimate == pytest.approx(rho)
    assert found.lower == pytest.approx(np.tanh(np.arctanh(rho) - 1.959964 * error), abs=1e-6)


@pytest.mark.parametrize("estimate", [slope, rank_correlation])
def test_equal_doses_give_no_association_and_say_why(estimate):
    found = estimate(np.full(12, 3.0), np.arange(12.0))
    assert (found.estimate, found.lower) == (None, None)
    assert "equal" in found.reason


def test_a_perfect_line_has_a_slope_and_no_interval():
    found = slope(np.arange(12.0), 3 * np.arange(12.0))
    assert found.estimate == pytest.approx(3)
    assert (found.lower, found.reason) == (None, "all points lie on one line: no interval")


def test_known_slopes_within_and_between_people_are_found_again():
    found = [within_between(*repeated(seed)) for seed in range(12)]
    within, between = (np.array([getattr(one, part).estimate for one in found]) for part in ("within", "between"))
    assert within.mean() == pytest.approx(-0.3, abs=3 * within.std() / 12**0.5)
    assert between.mean() == pytest.approx(0.5, abs=3 * between.std() / 12**0.5)
    assert sum(one.within.lower <= -0.3 <= one.within.upper for one in found) >= 10


def test_the_estimates_are_those_of_the_mixed_model():
    doses, values, people = repeated(3)
    design = slopes._design(doses, values, people, None)
    fit = slopes.MixedLM(values, design.columns, groups=people).fit(reml=True)
    found = within_between(doses, values, people)
    assert [found.within.estimate, found.between.estimate] == pytest.approx(list(fit.params[1:3]), abs=1e-4)
    assert found.within.n == 40


def test_a_model_that_does_not_converge_is_replaced_and_the_method_says_so(monkeypatch):
    monkeypatch.setattr(slopes, "_model_shares", lambda _: None)
    doses, values, people = repeated(3)
    found = within_between(doses, values, people)
    assert "did not converge" in found.within.method
    assert "did not converge" in found.between.method
    assert found.within.estimate == pytest.approx(within_slope(doses, values, people).estimate)
    assert found.within.lower < -0.3 < found.within.upper


def test_a_course_that_is_the_same_for_all_is_not_taken_for_an_answer_to_the_dose():
    chance = np.random.default_rng(4)
    people, visit = np.repeat(np.arange(40), 5), np.tile(np.arange(5), 40)
    doses = 4.0 + visit + chance.normal(0, 0.5, 200)
    values = -2.0 + 0.8 * visit + chance.normal(0, 1, 200)  # the dose does nothing
    assert within_between(doses, values, people).within.lower > 0.5
    taken_out = within_between(doses, values, people, occasions(visit)).within
    assert taken_out.lower < 0 < taken_out.upper


def test_a_dose_that_goes_with_the_visit_throughout_has_no_slope():
    people, visit = np.repeat(np.arange(12), 4), np.tile(np.arange(4), 12)
    found = within_between(visit.astype(float), np.random.default_rng(1).normal(size=48), people, occasions(visit))
    assert (found.within.estimate, found.within.reason) == (None, slopes.NOT_APART)


def test_only_people_whose_dose_varied_count_as_varied():
    assert varied(np.array([1.0, 1, 1, 2, 5]), np.array(["a", "a", "b", "b", "c"])) == 1
    assert within_between(np.ones(6), np.arange(6.0), np.repeat([1, 2], 3)).within.reason == slopes.NO_SPREAD


def binary(seed: int, log_odds: float):
    chance = np.random.default_rng(seed)
    people = np.repeat(np.arange(60), 6)
    doses = chance.normal(6, 1.5, 360)
    chances = 1 / (1 + np.exp(1 - log_odds * (doses - 6)))
    return doses, (chance.random(360) < chances).astype(float), people


def test_known_odds_per_dose_are_found_again():
    found = [odds_within(*binary(seed, 0.4)) for seed in range(8)]
    logs = np.log([one.estimate for one in found])
    assert logs.mean() == pytest.approx(0.4, abs=3 * logs.std() / 8**0.5)
    assert all(one.lower < one.estimate < one.upper for one in found)


def test_doses_that_tell_events_from_none_completely_fall_back_to_a_difference_in_share():
    doses, people = np.tile([1.0, 2, 3, 4], 15), np.repeat(np.arange(15), 4)
    doses = doses + np.random.default_rng(1).normal(0, 0.01, 60)
    found = odds_within(doses, (doses > 2.5).astype(float), people)
    assert found.method.startswith("difference in share")
    assert 0.3 < found.estimate < 0.5


def test_events_in_all_or_no_sessions_have_no_slope():
    doses, _, people = binary(1, 0)
    assert odds_within(doses, np.zeros(360), people).estimate is None


# --- rates and shares by person -------------------------------------------------------------------------------------


def test_a_rate_by_person_is_the_plain_rate_with_the_variance_of_people():
    events, sessions = (
        np.array([0.0, 1, 2, 0, 5, 1, 0, 3, 1, 0, 2, 1]),
        np.array([4.0, 6, 6, 3, 8, 5, 4, 6, 6, 2, 6, 5]),
    )
    found = rate_by_person(events, sessions)
    rate = events.sum() / sessions.sum()
    error = (12 / 11 * ((events - rate * sessions) ** 2).sum()) ** 0.5 / events.sum()
    assert found.estimate == pytest.approx(100 * rate)
    assert found.lower == pytest.approx(100 * rate * np.exp(-stats.t.ppf(0.975, 11) * error))


def test_events_that_come_again_in_one_person_widen_the_interval_by_person():
    sessions = np.full(20, 6.0)
    spread = rate_by_person(np.full(20, 1.0) + np.arange(20) % 2, sessions)
    heaped = rate_by_person(np.where(np.arange(20) < 6, 5.0, 0.0), sessions)
    exact = poisson_rate_exact(30, 120)
    assert spread.estimate == heaped.estimate == exact.estimate
    assert heaped.lower < exact.lower < spread.lower


def test_where_people_differ_the_interval_by_person_covers_and_the_exact_one_does_not():
    chance, by_person, exact = np.random.default_rng(2), 0, 0
    for _ in range(120):
        sessions = chance.integers(3, 10, 30).astype(float)
        events = chance.poisson(0.3 * chance.gamma(1, 1, 30) * sessions).astype(float)
        one, other = rate_by_person(events, sessions), poisson_rate_exact(int(events.sum()), int(sessions.sum()))
        by_person += one.lower <= 30 <= one.upper
        exact += other.lower <= 30 <= other.upper
    assert by_person >= 105
    assert exact <= 102


def test_few_people_or_few_affected_have_no_interval_by_person():
    assert rate_by_person(np.ones(9), np.full(9, 4.0)).reason == "fewer than 10 people: no interval by person"
    few = share_by_person(np.array([1.0] * 4 + [0.0] * 16), np.full(20, 4.0))
    assert (few.estimate, few.lower) == (5.0, None)
    assert "fewer than 5 people" in few.reason
    assert share_by_person(np.full(20, 4.0), np.full(20, 4.0)).lower is None
    assert rate_by_person(np.array([]), np.array([])).estimate is None


def test_a_share_by_person_lies_between_0_and_100():
    found = share_by_person(np.arange(12.0) % 4, np.full(12, 4.0))
    assert found.estimate == pytest.approx(37.5)
    assert 0 < found.lower < 37.5 < found.upper < 100
