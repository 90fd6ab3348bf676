"""Boundaries of sequential looks against published ones, and against chance itself."""

from __future__ import annotations

import numpy as np
import pytest

from crps_outcomes.sequential import boundaries, crossings, spent


def test_the_published_boundaries_of_two_and_of_five_looks_spend_five_percent():
    assert sum(crossings((2.797, 1.977), (0.5, 1.0))) == pytest.approx(0.05, abs=1e-4)  # O'Brien and Fleming 1979
    five = [2.040 * (5 / look) ** 0.5 for look in range(1, 6)]
    assert sum(crossings(five, [look / 5 for look in range(1, 6)])) == pytest.approx(0.05, abs=2e-4)
    pocock = crossings((2.178, 2.178), (0.5, 1.0))
    assert sum(pocock) == pytest.approx(0.05, abs=1e-4)


def test_spending_over_two_equal_looks_gives_the_known_boundaries():
    assert boundaries((0.5, 1.0)) == pytest.approx((2.963, 1.969), abs=5e-4)


def test_spending_over_five_equal_looks_gives_the_known_boundaries():
    known = (4.877, 3.357, 2.680, 2.290, 2.031)  # Lan-DeMets, O'Brien-Fleming type, two-sided 5 %
    assert boundaries((0.2, 0.4, 0.6, 0.8, 1.0)) == pytest.approx(known, abs=1e-3)


def test_one_look_at_the_end_is_the_usual_interval():
    assert spent(1.0) == pytest.approx(0.05)
    assert boundaries((1.0,)) == pytest.approx((1.959964,), abs=1e-5)


def test_bounds_fall_as_people_arrive_and_never_below_the_usual_one():
    found = boundaries((0.3, 0.55, 0.8, 1.0))
    assert list(found) == sorted(found, reverse=True)
    assert found[-1] > 1.96


def test_chance_crosses_the_boundaries_five_times_in_a_hundred():
    shares = np.array([0.3, 0.7, 1.0])
    bounds = boundaries(shares)
    steps = np.random.default_rng(1).normal(size=(40_000, 3)) * np.sqrt(np.diff(shares, prepend=0))
    z = steps.cumsum(axis=1) / np.sqrt(shares)
    assert (np.abs(z) > bounds).any(axis=1).mean() == pytest.approx(0.05, abs=0.0035)


def test_a_look_too_early_to_spend_anything_gets_a_bound_that_nothing_can_cross():
    early, last = boundaries((10 / 150, 1.0))
    assert early == 8.0
    assert last == pytest.approx(1.959964, abs=1e-4)
