"""Numbers print by the house rules: a true minus, no "-0.0", "to" between limits, never a bare value."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crps_outcomes import wording
from crps_outcomes.facts import Estimate
from crps_outcomes.numbers import count, day, fixed, interval, keep_together, people, percent, plural, with_interval

WILSON = Estimate(k=48, n=94, estimate=51.06, lower=41.1, upper=60.9, mark="")
MEAN = Estimate(n=94, estimate=-2.0, lower=-2.46, upper=-1.54, mark="")


@pytest.mark.parametrize(
    ("value", "decimals", "printed"),
    [(-0.0, 1, "0.0"), (-0.04, 1, "0.0"), (0.004, 2, "0.00"), (-0.3, 1, "−0.3"), (5.94, 1, "5.9"), (1462, 0, "1,462"),
     (-1462.5, 1, "−1,462.5")],
)  # fmt: skip
def test_a_number_has_a_true_minus_and_zero_has_no_sign(value, decimals, printed):
    assert fixed(value, decimals) == printed


def test_a_signed_number_shows_plus_but_zero_does_not():
    assert [fixed(v, 2, signed=True) for v in (0.18, -0.07, 0.001, -0.001)] == ["+0.18", "−0.07", "0.00", "0.00"]


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.integers(0, 3))
def test_no_number_prints_a_hyphen_or_a_signed_zero(value, decimals):
    text = fixed(value, decimals, signed=True)
    assert "-" not in text
    assert text.strip("0.,") or text[0] == "0"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_no_number_is_refused_not_printed(value):
    with pytest.raises(ValueError, match="finite"):
        fixed(value, 1)


def test_one_person_two_people_and_a_comma_at_thousands():
    assert (people(1), people(0), people(1462)) == ("1 person", "0 people", "1,462 people")
    assert (plural(1, "session"), plural(2, "session"), count(12345)) == ("1 session", "2 sessions", "12,345")


@pytest.mark.parametrize(
    ("value", "n", "printed"),
    [(51.06, 94, "51%"), (99.7, 300, ">99%"), (0.3, 300, "<1%"), (0.0, 300, "0%"), (100.0, 300, "100%"), (1e-15, 36, "0%"),
     (51.06, 1000, "51.1%"), (0.01, 5000, "<0.1%")],
)  # fmt: skip
def test_a_percentage_is_whole_below_a_thousand_and_never_rounds_to_none_or_all(value, n, printed):
    assert percent(value, n) == printed


def test_an_interval_has_the_word_to():
    assert interval(-2.46, -1.54, lambda value: fixed(value, 1)) == "−2.5 to −1.5"


def test_a_value_without_interval_or_reason_cannot_be_printed():
    assert with_interval("5.9", "", "fewer than 10 people: no interval") == "5.9 (fewer than 10 people: no interval)"
    with pytest.raises(ValueError, match="interval"):
        with_interval("5.9", "", "")


def test_dates_and_headings():
    assert day(date(2026, 6, 2)) == "2 Jun 2026"
    assert keep_together("median 7 (5 to 9) each, up to now") == "median 7 (5\u00a0to\u00a09) each, up to now"


# --- estimates ------------------------------------------------------------------------------------------------------


def test_a_share_names_counts_percent_and_interval():
    assert wording.share_in_words(WILSON) == "48 of 94 (51%, 95% CI 41 to 61)"
    assert wording.share_line(WILSON) == "48 of 94, 51% (41 to 61)"


def test_a_share_of_few_people_is_counts_with_the_reason():
    few = Estimate(k=3, n=7, reason="fewer than 10 people: counts only", mark="")
    assert wording.share_in_words(few) == "3 of 7 (fewer than 10 people: counts only)"
    assert wording.share_line(few) == "3 of 7"


def test_a_mean_has_its_interval_or_says_that_it_has_none():
    few = Estimate(n=5, estimate=-2.0, reason="fewer than 10 people: no interval", mark="")
    assert wording.mean_in_words(MEAN, 1, unit="points") == "−2.0 points (95% CI −2.5 to −1.5)"
    assert wording.mean_in_cell(MEAN, 1) == "−2.0 (−2.5 to −1.5)"
    assert wording.mean_in_cell(few, 1) == "−2.0 (no interval)"


@pytest.mark.parametrize("mark", ["<11", "[c]", "[x]"])
def test_a_hidden_estimate_prints_its_mark_and_nothing_else(mark):
    hidden = Estimate(k=3, n=94, estimate=3.2, lower=1.1, upper=9.0, mark=mark)
    for say in (wording.share_in_words, wording.share_in_cell, wording.share_line, wording.count_and_percent):
        assert say(hidden) == mark
    assert {
        wording.mean_in_words(hidden, 1),
        wording.mean_in_cell(hidden, 1),
        wording.quartiles_in_cell(hidden, 0),
    } == {mark}
    assert wording.share_limits(hidden) == ""


def test_the_note_explains_only_the_marks_that_occur():
    note = wording.explain(["<11", "4.0 (no interval)"], 11)
    assert note.startswith("<11: fewer than 11")
    assert "[c]" not in note
    assert wording.explain(["48 of 94"], 11) == ""
