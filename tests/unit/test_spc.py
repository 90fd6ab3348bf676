"""Process charts: limits worked out by hand, every edge of the rules, and what no chart may depend on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crps_outcomes import spc
from crps_outcomes.spc import RULES, Chart, Hit, Lines, Segment, Settings, chart

STEADY = (10, 12, 11, 13, 12, 11, 10, 12, 13, 11, 12, 10, 11)  # mean 148 / 13, ranges 17 / 12
SPIKE = (10, 11, 10, 11, 10, 11, 10, 31, 10, 11, 10, 11, 10)  # mean 12; ranges 52 / 12, without the two of 21: 1
LIMITS = Lines(0.0, -3.0, 3.0)  # near lines at -2 and 2


def flags(rule: str, values, variant: str = "mdc_2023", lines: Lines = LIMITS) -> dict[int, str]:
    """The indices a rule flags, with their side."""
    return dict(RULES[rule](values, (lines,) * len(values), variant))


def with_tail(*tail: float) -> Chart:
    """Limits fixed from twelve points with mean 0, limits -2.66 x 2 to 2.66 x 2, and the points that came after."""
    return chart((1, -1) * 6 + tail, Settings(fixed_after=12, screen=False))


# --- limits -------------------------------------------------------------------------------------------------------


def test_limits_are_the_mean_and_2_66_mean_moving_ranges():
    lines = chart(STEADY).lines[0]
    assert lines.centre == pytest.approx(11.384615, abs=1e-6)
    assert (lines.lower, lines.upper) == pytest.approx((7.616282, 15.152949), abs=1e-6)


def test_screening_leaves_out_large_ranges_once_and_keeps_the_centre():
    screened, whole = chart(SPIKE), chart(SPIKE, Settings(screen=False))
    assert screened.lines[0] == Lines(12.0, 12 - 2.66, 12 + 2.66)
    assert whole.lines[0].centre == 12.0
    assert whole.lines[0].upper == pytest.approx(12 + 2.66 * 52 / 12)
    assert (screened.last.n_screened, whole.last.n_screened) == (2, 0)


def test_equal_values_have_limits_on_the_centre_and_no_signal():
    flat = chart((5.0,) * 20)
    assert flat.lines[0] == Lines(5.0, 5.0, 5.0)
    assert set(flat.hits) == {()}


def test_a_single_step_away_from_equal_values_lies_outside():
    settings = Settings(fixed_after=12)
    assert chart((5.0,) * 12 + (5.1,), settings).hits[-1][0] == Hit("outside limits", "above")


def test_the_limits_of_a_share_widen_where_the_denominator_is_small():
    values, sizes = (50.0,) * 12 + (20.0,), (100,) * 12 + (25,)
    charted = chart(values, Settings(kind="p"), sizes=sizes)
    centre = (12 * 50 * 100 + 20 * 25) / 1225  # 49.3878
    assert charted.lines[0].centre == pytest.approx(49.3878, abs=1e-4)
    for lines, size in ((charted.lines[0], 100), (charted.lines[-1], 25)):
        assert lines.upper == pytest.approx(centre + 3 * math.sqrt(centre * (100 - centre) / size))
    assert charted.lines[-1].lower == pytest.approx(19.390, abs=1e-3)  # so 20 is inside


def test_the_p_prime_chart_widens_limits_by_the_spread_between_points():
    values, sizes = (40.0, 60.0) * 7, (400,) * 14
    plain = chart(values, Settings(kind="p"), sizes=sizes).lines[0]
    wide = chart(values, Settings(kind="p_prime"), sizes=sizes).lines[0]
    assert plain.upper == pytest.approx(50 + 3 * 2.5)  # sd = sqrt(50 x 50 / 400)
    assert wide.upper == pytest.approx(50 + 3 * 2.5 * (20 / 2.5) / 1.128)


def test_opportunities_between_rare_events_have_geometric_limits_and_the_median_as_centre():
    lines = chart((8.0, 10.0) * 7, Settings(kind="g")).lines[0]
    assert lines.centre == pytest.approx(0.693 * 9)
    assert (lines.lower, lines.upper) == (0.0, pytest.approx(9 + 3 * math.sqrt(90)))


def test_time_between_rare_events_is_charted_on_a_straight_scale():
    values = tuple(float(base**3.6) for base in STEADY)
    lines = chart(values, Settings(kind="t")).lines[0]
    assert (lines.lower, lines.centre, lines.upper) == pytest.approx(
        tuple(x**3.6 for x in (7.616282, 11.384615, 15.152949)), rel=1e-6
    )


def test_no_waiting_time_is_near_a_limit_by_the_rule_of_three():
    values = (1.0,) * 11 + (60.0, 70.0, 65.0)
    assert all(hit.rule != "two of three" for hits in chart(values, Settings(kind="g")).hits for hit in hits)


def test_limits_are_cut_to_the_scale_when_drawn_and_not_when_they_judge():
    charted = chart((99.0, 90.0) * 7)
    assert charted.lines[0].upper > 100
    assert spc.drawn(charted.lines[0], 0, 100).upper == 100
    assert set(charted.hits) == {()}
    assert spc.drawn(Lines(3.0), 0, 100) == Lines(3.0)


# --- rules --------------------------------------------------------------------------------------------------------


def test_a_point_on_a_limit_is_inside_and_one_beyond_it_outside():
    assert flags("outside limits", (3.0, 3.01, -3.0, -3.01)) == {1: "above", 3: "below"}


def test_a_trend_needs_seven_points_and_flags_all_of_them():
    assert flags("trend", (0, 1, 2, 3, 4, 5)) == {}
    assert flags("trend", (9, 0, 1, 2, 3, 4, 5, 6, 6)) == dict.fromkeys(range(1, 8), "above")
    assert flags("trend", (6, 5, 4, 3, 2, 1, 0)) == dict.fromkeys(range(7), "below")


def test_an_equal_neighbour_breaks_a_trend():
    assert flags("trend", (0, 1, 2, 3, 3, 4, 5, 6)) == {}


def test_two_of_three_near_one_limit_are_flagged_and_the_third_is_not():
    assert flags("two of three", (2.5, 0.5, 2.1)) == {0: "above", 2: "above"}
    assert flags("two of three", (-2.0, -2.9, -0.1)) == {0: "below", 1: "below"}  # the near line itself is near
    assert flags("two of three", (2.5, 0.5, 1.9)) == {}


def test_points_near_opposite_limits_are_not_two_of_three():
    assert flags("two of three", (2.5, -2.5, 2.5)) == {}
    assert flags("two of three", (2.5, -0.1, 2.5)) == {}
    assert flags("two of three", (2.5, 0.0, 2.5)) == {}  # the third lies on the centre: on no side


def test_a_point_outside_counts_as_near_in_the_variant_of_2023_only():
    values = (2.5, 3.5, 0.5)
    assert flags("two of three", values, "mdc_2023") == {0: "above", 1: "above"}
    assert flags("two of three", values, "mdc_2021") == {}


def test_the_variants_of_a_whole_chart_differ_in_that_point_only():
    tail = (4.0, 6.0, 1.0)  # limits at 5.32, near lines at 3.55
    first, second = (
        chart((1, -1) * 6 + tail, Settings(fixed_after=12, screen=False, variant=variant))
        for variant in ("mdc_2021", "mdc_2023")
    )
    assert first.hits[12:] == ((), (Hit("outside limits", "above"),), ())
    assert second.hits[12:] == (
        (Hit("two of three", "above"),),
        (Hit("outside limits", "above"), Hit("two of three", "above")),
        (),
    )


def test_a_shift_needs_seven_on_one_side_and_a_point_on_the_centre_breaks_it():
    assert flags("shift", (1,) * 6) == {}
    assert flags("shift", (-1, *(1,) * 7, -1)) == dict.fromkeys(range(1, 8), "above")
    assert flags("shift", (1, 1, 1, 0, 1, 1, 1, 1)) == {}


def test_the_first_rule_in_the_order_of_precedence_comes_first_and_all_are_kept():
    rising = with_tail(0.5, 1, 2, 3, 4, 5, 6)
    assert [hit.rule for hit in rising.hits[-1]] == ["outside limits", "trend", "two of three", "shift"]
    assert [hit.rule for hit in rising.hits[-2]] == ["trend", "two of three", "shift"]


def test_a_falling_trend_above_the_centre_is_told_by_where_it_goes():
    falling = with_tail(3.4, 3.2, 3.0, 2.8, 2.6, 2.4, 2.2)
    assert falling.hits[-1] == (Hit("trend", "below"), Hit("shift", "above"))
    assert spc.state(falling.hits[-1], "lower") == "improving"


# --- segments -----------------------------------------------------------------------------------------------------


def test_twelve_points_make_a_run_chart_and_thirteen_a_chart_with_limits():
    twelve, thirteen = chart(STEADY[:12]), chart(STEADY)
    assert twelve.lines[0] == Lines(11.5)
    assert (twelve.last.is_run_chart, thirteen.last.is_run_chart) == (True, False)
    assert set(twelve.hits) == {()}


def test_no_moving_range_and_no_window_crosses_a_rebase():
    values = (1.0, 3.0) * 7 + (101.0, 103.0) * 7
    apart = chart(values, rebases=(14,))
    assert [segment.lines[0] for segment in apart.segments] == [
        Lines(2.0, 2 - 5.32, 2 + 5.32),
        Lines(102.0, 102 - 5.32, 102 + 5.32),
    ]
    assert set(apart.hits) == {()}
    assert set(chart(values).hits) != {()}


def test_the_icon_after_a_rebase_waits_for_thirteen_points():
    values = STEADY + (30,) * 12
    assert spc.variation(chart(values, rebases=(13,)), "higher") == "none"
    assert spc.target_state(chart(values, rebases=(13,)), 20, "higher") == "none"
    assert spc.variation(chart((*values, 30), rebases=(13,)), "higher") == "common"


def test_a_rebase_before_the_first_point_or_after_the_last_changes_nothing():
    assert chart(STEADY, rebases=(0, 13, 99)) == chart(STEADY)


def test_fixed_limits_come_from_the_first_points_of_each_segment():
    charted = with_tail(10, 10)
    assert charted.lines[-1] == Lines(0.0, -2.66 * 2, 2.66 * 2)
    assert charted.last.is_fixed
    with pytest.raises(ValueError, match="at least 12 points"):
        Settings(fixed_after=11)


def test_a_fixed_baseline_of_twelve_points_has_no_icon_until_the_thirteenth():
    assert spc.variation(chart((1, -1) * 6, Settings(fixed_after=12)), "higher") == "none"
    assert spc.variation(with_tail(0.1), "higher") == "common"


def test_seven_signals_in_a_row_beyond_fixed_limits_ask_for_a_review_and_take_the_target_icon_away():
    six, seven = with_tail(*(6,) * 6), with_tail(*(6,) * 7)
    assert (spc.needs_review(six), spc.needs_review(seven)) == (False, True)
    assert spc.target_state(six, 9, "higher") == "missed"
    assert spc.target_state(seven, 9, "higher") == "none"


def test_limits_from_all_points_never_ask_for_a_review():
    assert not spc.needs_review(chart((1.0,) * 13 + (9.0,) * 13))


@pytest.mark.parametrize("values", [(), (math.nan,), (1.0, math.inf)])
def test_a_series_without_a_finite_value_is_refused(values):
    with pytest.raises(ValueError, match="finite number"):
        chart(values)


def test_a_p_chart_without_denominators_is_refused():
    with pytest.raises(ValueError, match="denominator"):
        chart(STEADY, Settings(kind="p"))


# --- run charts ---------------------------------------------------------------------------------------------------


def run_chart(*values: float) -> spc.Runs:
    return spc.runs(chart(values).last)


def test_a_run_longer_than_chance_allows_is_a_signal():
    found = run_chart(1, 9, 1, 9, 8, 8, 8, 8, 8, 8, 9, 1)  # median 8: six points on it count for nothing
    assert (found.n_useful, found.longest) == (6, 2)
    found = run_chart(1, 1, 1, 1, 1, 1, 9, 9, 9, 9, 9, 9)
    assert (found.n_useful, found.longest, found.longest_allowed) == (12, 6, 7)  # round(log2 12) + 3
    assert (found.crossings, found.crossings_needed) == (1, 3)  # 5 % quantile of Binomial(11, 0.5)
    assert found.is_signal


def test_an_ordinary_run_chart_gives_no_signal():
    found = run_chart(1, 9, 2, 8, 1, 9, 2, 8, 1, 9)
    assert (found.crossings, found.is_signal) == (9, False)


@pytest.mark.parametrize("values", [(5,), (5, 5), (5, 5, 5), (1, 9)])
def test_one_two_or_equal_points_give_no_signal(values):
    assert not run_chart(*values).is_signal


# --- icons --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("better", "side", "expected"),
    [
        ("higher", "above", "improving"),
        ("higher", "below", "concern"),
        ("lower", "above", "concern"),
        ("lower", "below", "improving"),
        ("none", "above", "neutral"),
    ],
)
def test_a_signal_improves_or_concerns_by_its_side_and_what_is_better(better, side, expected):
    assert spc.state((Hit("shift", side),), better) == expected


def test_a_point_without_signal_is_common_cause_and_the_icon_is_that_of_the_latest():
    assert spc.variation(chart(STEADY), "higher") == "common"
    assert spc.variation(with_tail(9), "lower") == "concern"
    assert spc.variation(with_tail(9, 0.1, -0.1), "lower") == "common"


@pytest.mark.parametrize(
    ("target", "better", "expected"),
    [
        (16, "higher", "missed"),
        (7, "higher", "met"),
        (12, "higher", "by chance"),
        (16, "lower", "met"),
        (7, "lower", "missed"),
        (12, "lower", "by chance"),
        (None, "higher", "none"),
        (16, "none", "none"),
    ],
)
def test_the_target_icon_compares_the_target_with_the_limits(target, better, expected):
    assert spc.target_state(chart(STEADY), target, better) == expected


def test_neighbouring_signals_of_one_side_are_one_episode():
    hit, other = (Hit("shift", "above"),), (Hit("shift", "below"),)
    segment = Segment(0, (0.0,) * 6, (LIMITS,) * 6, ((), hit, hit, other, (), hit), 6)
    assert spc.episodes(segment) == ((1, 2), (3,), (5,))


# --- what no chart may depend on ----------------------------------------------------------------------------------

SERIES = st.lists(st.integers(-20, 20), min_size=1, max_size=40)
VARIANTS = st.sampled_from(["mdc_2021", "mdc_2023"])
OPPOSITE = {"above": "below", "below": "above"}


@given(SERIES, st.integers(-500, 500), VARIANTS)
def test_moving_the_scale_moves_the_lines_and_changes_no_signal(values, by, variant):
    settings = Settings(variant=variant)
    here, there = chart(values, settings), chart([value + by for value in values], settings)
    assert here.hits == there.hits
    for one, two in zip(here.lines, there.lines, strict=True):
        assert two.centre == pytest.approx(one.centre + by, abs=1e-6)


@given(SERIES, VARIANTS)
def test_turning_the_scale_over_turns_every_signal_over(values, variant):
    settings = Settings(variant=variant)
    here, there = chart(values, settings), chart([-value for value in values], settings)
    assert there.hits == tuple(tuple(Hit(hit.rule, OPPOSITE[hit.side]) for hit in hits) for hits in here.hits)
    assert spc.variation(here, "higher") == spc.variation(there, "lower")
    assert spc.target_state(here, 3.5, "higher") == spc.target_state(there, -3.5, "lower")


@given(SERIES, SERIES)
def test_a_rebase_makes_two_charts_that_know_nothing_of_each_other(one, two):
    both = chart([*one, *two], rebases=(len(one),))
    assert both.hits == chart(one).hits + chart(two).hits
    assert both.lines == chart(one).lines + chart(two).lines
