"""Kaplan-Meier and what is read from it, against published curves, lifelines and R's survival package.

What R says is recorded in tests/oracles/survival.json, with its script and its input beside it. Where Rscript is
installed the script runs again and must say the same.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections import defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from lifelines.utils import median_survival_times, restricted_mean_survival_time
from statsmodels.duration.survfunc import survdiff

from crps_outcomes.survival import kaplan_meier, mean_time, median_time, risk_table, share_at

ORACLES = Path(__file__).parents[1] / "oracles"
RECORDED = json.loads((ORACLES / "survival.json").read_text(encoding="utf-8"))
COHORTS = [name for name in RECORDED if name != "log-rank"]


@cache
def people():
    """Durations, events and horizon of every cohort, as R got them."""
    rows = defaultdict(list)
    with (ORACLES / "survival_cohorts.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows[row["cohort"]].append((float(row["time"]), row["event"] == "1", float(row["horizon"])))
    return {name: tuple(np.array(column) for column in zip(*own, strict=True)) for name, own in rows.items()}


def curve(name: str):
    durations, is_event, _ = people()[name]
    return kaplan_meier(durations, is_event)


def horizon(name: str) -> float:
    return float(people()[name][2][0])


def of(*pairs: tuple[float, bool]):
    durations, events = zip(*pairs, strict=True) if pairs else ((), ())
    return kaplan_meier(np.array(durations, dtype=float), np.array(events, dtype=bool))


# --- published and worked out by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("week", "share"), [(6, 0.8571), (7, 0.8067), (10, 0.7529), (13, 0.6902), (16, 0.6275), (22, 0.5378), (23, 0.4482)]
)
def test_the_six_mercaptopurine_arm_has_its_published_curve(week, share):
    assert share_at(curve("6-MP"), week).estimate / 100 == pytest.approx(share, abs=5e-5)


def test_the_interval_at_week_six_is_the_log_log_one():
    found = share_at(curve("6-MP"), 6)
    assert (found.lower / 100, found.upper / 100) == pytest.approx((0.6197, 0.9516), abs=5e-5)


def test_both_arms_have_their_published_medians_and_a_limit_not_reached_is_missing():
    assert median_time(curve("6-MP")).estimate == 23
    assert (median_time(curve("control")).estimate, median_time(curve("control")).upper) == (8, 11)
    assert median_time(curve("6-MP")).upper is None
    assert median_time(curve("6-MP")).reason == "the upper limit is not reached"


def test_the_mean_time_up_to_the_horizon_is_the_area_under_the_curve():
    assert mean_time(curve("6-MP"), 35).estimate == pytest.approx(23.287, abs=5e-4)
    assert mean_time(curve("control"), 35).estimate == pytest.approx(8.667, abs=5e-4)


def test_the_data_reproduce_the_published_log_rank_test():
    (one, is_one, _), (other, is_other, _) = people()["6-MP"], people()["control"]
    arm = np.repeat([0, 1], [len(one), len(other)])
    chi_squared, p = survdiff(np.concatenate([one, other]), np.concatenate([is_one, is_other]).astype(int), arm)
    assert chi_squared == pytest.approx(16.793, abs=5e-4)
    assert chi_squared == pytest.approx(RECORDED["log-rank"]["chi_squared"][0], abs=1e-9)
    assert p == pytest.approx(4.17e-5, abs=5e-8)


def test_ten_patients_by_hand_have_a_median_of_eight_because_the_first_time_at_half_counts():
    ten = curve("ten patients")
    steps = [(2, 90), (3, 80), (4, 70), (6, 60), (8, 50), (10, 37.5)]
    assert [(time, share_at(ten, time).estimate) for time, _ in steps] == [
        (time, pytest.approx(share)) for time, share in steps
    ]
    assert median_time(ten).estimate == 8
    assert RECORDED["ten patients"]["median"][0] == 9  # R takes the middle of the step that lies at one half


# --- two other programs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COHORTS)
def test_lifelines_draws_the_same_curve_band_and_median(name):
    own, (durations, is_event, _) = curve(name), people()[name]
    other = KaplanMeierFitter().fit(durations, is_event)
    at = own.times
    assert own.survival == pytest.approx(other.survival_function_at_times(at).to_numpy(), abs=1e-9)
    band = other.confidence_interval_survival_function_.reindex(at).to_numpy()
    is_open = own.survival > 1e-9
    assert np.column_stack([own.lower, own.upper])[is_open] == pytest.approx(band[is_open], abs=1e-9)
    assert median_time(own).estimate == pytest.approx(other.median_survival_time_)
    expected = restricted_mean_survival_time(other, t=horizon(name))
    assert mean_time(own, horizon(name)).estimate == pytest.approx(expected, abs=1e-9)
    table = other.event_table.loc[at]
    assert own.at_risk.tolist() == table["at_risk"].tolist()
    assert own.events.tolist() == table["observed"].tolist()
    limits = median_survival_times(other.confidence_interval_).to_numpy()[0]
    own_limits = [np.inf if limit is None else limit for limit in (median_time(own).lower, median_time(own).upper)]
    assert own_limits == pytest.approx(limits.tolist())


@pytest.mark.parametrize("name", COHORTS)
def test_the_survival_package_of_r_says_the_same(name):
    own, recorded = curve(name), RECORDED[name]
    assert own.times == pytest.approx(recorded["times"])
    for field in ("survival", "at_risk", "events"):
        assert getattr(own, field) == pytest.approx(recorded[field], abs=1e-9)
    for field in ("lower", "upper"):
        expected = [np.nan if value is None else value for value in recorded[field]]
        assert getattr(own, field) == pytest.approx(expected, abs=1e-9, nan_ok=True)
    middle = median_time(own)
    if not np.isclose(own.survival, 0.5).any():  # there R takes the middle of the step
        assert [middle.estimate, middle.lower, middle.upper] == recorded["median"]
    area = mean_time(own, horizon(name))
    mean, error = recorded["mean_time"]
    assert area.estimate == pytest.approx(mean, abs=1e-9)
    assert area.upper == pytest.approx(min(mean + 1.959963984540054 * error, horizon(name)), abs=1e-9)


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="Rscript is not installed: only its record is compared")
def test_r_still_says_what_is_recorded():
    done = subprocess.run(["Rscript", "survival.R"], cwd=ORACLES, capture_output=True, text=True, check=False)
    if "there is no package called" in done.stderr:
        pytest.skip("R has no survival package: only its record is compared")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.keys() == RECORDED.keys()
    for name, fields in said.items():
        for field, values in fields.items():
            assert [v is None for v in values] == [v is None for v in RECORDED[name][field]]
            recorded = [v for v in RECORDED[name][field] if v is not None]
            assert [v for v in values if v is not None] == pytest.approx(recorded, rel=1e-9), (name, field)


# --- rules ----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=40),
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
)
def test_at_risk_events_and_censored_add_up_to_everybody_and_the_band_holds_the_curve(pairs, times):
    found = of(*pairs)
    assert [row.at_risk + row.events + row.censored for row in risk_table(found, times)] == [len(pairs)] * len(times)
    is_open = ~np.isnan(found.lower)
    assert np.all(found.lower[is_open] <= found.survival[is_open] + 1e-12)
    assert np.all(found.survival[is_open] <= found.upper[is_open] + 1e-12)
    assert np.all(np.diff(found.survival) <= 0)


@pytest.mark.parametrize("name", COHORTS)
def test_who_is_lost_or_censored_at_a_time_is_still_at_risk_at_it(name):
    own = curve(name)
    assert [row.at_risk for row in risk_table(own, own.times.tolist())] == own.at_risk.tolist()


def test_nothing_is_said_beyond_the_last_time_anybody_was_followed():
    open_ended = of((4, True), (10, False))
    assert share_at(open_ended, 11).reason == "nobody was followed so long"
    assert mean_time(open_ended, 11).reason == "nobody was followed to the horizon"
    finished = of((4, True), (10, True))
    assert share_at(finished, 11).estimate == 0
    assert mean_time(finished, 11).estimate == pytest.approx(7)


def test_a_curve_that_stays_above_one_half_has_no_median():
    assert median_time(of((4, True), (10, False), (12, False))).reason == "not reached: more than half remain"


def test_nobody_one_person_no_event_and_an_event_at_once_make_no_number_that_is_not_there():
    assert share_at(of(), 4).reason == median_time(of()).reason == mean_time(of(), 4).reason == "nobody to follow"
    nothing = of((4, False), (9, False))
    assert (share_at(nothing, 5).estimate, share_at(nothing, 5).reason) == (100, "no event until then: no interval")
    assert mean_time(nothing, 9).reason == "no spread before the horizon: no interval"
    at_once = of((0, True))
    assert share_at(at_once, 0).reason == "nobody is left: no interval"
    assert mean_time(at_once, 4).estimate == 0
    assert median_time(at_once).estimate == 0


def test_a_duration_below_zero_or_unknown_is_refused():
    for odd in (-1.0, np.nan):
        with pytest.raises(ValueError, match="every one should be a number of 0 or more"):
            of((odd, True))
