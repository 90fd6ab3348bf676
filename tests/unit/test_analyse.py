"""The analysis as a whole: right numbers on cohorts that can be counted by hand, and honest rows on hopeless ones."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from cohort_tables import (
    AS_OF,
    DAY_0,
    FUNCTION,
    PAIN,
    Person,
    cohort,
    event,
    random_events,
    random_people,
    rejected,
    the_study,
    with_pain,
)
from pandera.errors import SchemaError

from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.analysis.dosing import BAND_NAMES, WEEKS, dose_bands, titration
from crps_outcomes.analysis.rows import Key, mean_row
from crps_outcomes.errors import PipelineError
from crps_outcomes.stages.analyse import analyse
from crps_outcomes.tables import ESTIMATES, FULL_ESTIMATES, build

NUMBERS = ["estimate", "lower", "upper", "sd"]
TEN = [(8, 4), (7, 5), (9, 9), (6, None), (8, 5.5), (7, 3), (5, 5), (8, None), (9, 6), (7, 4)]


def analysed(people, **more):
    return analyse(cohort(people, **more), the_study(), as_of=AS_OF)


def rows_of(analysis, *start: str) -> pd.DataFrame:
    frame = analysis.estimates
    return frame[frame["estimate_id"].str.startswith("/".join(start))].set_index("estimate_id")


def one(analysis, estimate_id: str) -> pd.Series:
    return analysis.estimates.set_index("estimate_id").loc[estimate_id]


@cache
def ten_patients():
    """The analysis of the handbook's patients, with a value at week 1 so that all ten are analysed."""
    return analysed([with_pain(i, before, before, None, after) for i, (before, after) in enumerate(TEN)])


@cache
def eighty():
    """The analysis of eighty people with all measures, events and refusals."""
    people = random_people(7, 80)
    events = random_events(7, people, ["nausea", "dizziness", "headache"])
    return analysed(people, events=events, rejections=[rejected(i, "unit-unknown") for i in range(3)])


@cache
def hopeless(name: str):
    return analysed(HOPELESS[name])


# --- numbers that can be counted by hand ----------------------------------------------------------------------------


def test_ten_patients_by_hand_have_both_denominators():
    analysis = ten_patients()
    for percent, k in ((30, 5), (50, 2)):
        tail = f"{PAIN}/week_4/{percent}"
        observed = one(analysis, f"responders/responder/observed/{tail}")
        everybody = one(analysis, f"responders/responder/missing = non-responder/{tail}")
        assert (observed["k"], observed["n"], observed["n_missing"]) == (k, 8, 2)
        assert (everybody["k"], everybody["n"], everybody["n_missing"]) == (k, 10, 2)
        assert observed["reason"] == "fewer than 10 people: counts only"
        assert everybody["lower"] < everybody["estimate"] == 10 * k < everybody["upper"]


def test_ten_patients_by_hand_change_by_2_3_points_without_an_interval_at_eight():
    change = one(ten_patients(), f"pain/mean_change/analysed/{PAIN}/week_4/-")
    assert (change["n"], change["n_missing"]) == (8, 2)
    assert change["estimate"] == pytest.approx(-2.3125, abs=1e-9)
    assert change["sd"] == pytest.approx(1.5797, abs=5e-5)
    assert change[["lower", "upper"]].isna().all()
    assert change["reason"] == "fewer than 10 people: no interval"


def test_fewer_than_ten_changes_have_a_median_with_its_range():
    middle = one(ten_patients(), f"pain/median_change/analysed/{PAIN}/week_4/-")
    assert middle[["estimate", "lower", "upper"]].tolist() == [-2.75, -4, 0]
    assert (middle["method"], middle["reason"]) == (
        "median (range)", "fewer than 10 people: median and range, no interval",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("n", "mean", "beside", "share"),
    [
        (2, "no estimate", "no estimate", "counts only"),
        (3, "no interval", "median and range", "counts only"),
        (9, "no interval", "median and range", "counts only"),
        (10, "t interval", "Hodges-Lehmann", "Wilson"),
        (39, "t interval", "Hodges-Lehmann", "Wilson"),
        (40, "t interval", "Hodges-Lehmann", "Wilson"),
    ],
)
def test_the_table_of_small_samples_is_obeyed(n, mean, beside, share):
    analysis = analysed([with_pain(i, 8, 5 + i % 3, 5 + i % 3, 3 + i % 3) for i in range(n)])
    for estimate_id, expected in (
        (f"pain/mean_change/analysed/{PAIN}/week_4/-", mean),
        (f"pain/median_change/analysed/{PAIN}/week_4/-", beside),
        (f"responders/responder/observed/{PAIN}/week_4/30", share),
    ):
        row = one(analysis, estimate_id)
        assert expected in (row["reason"] or row["method"])


def test_a_plan_that_asks_for_guaranteed_coverage_gets_the_exact_interval_for_responders():
    study = the_study()
    plan = study.protocol.plan.model_copy(update={"responder_interval": "clopper-pearson"})
    exact = replace(study, protocol=study.protocol.model_copy(update={"plan": plan}))
    tables = cohort([with_pain(i, 8, 5, 5, 3 + i % 5) for i in range(20)])
    wide, usual = (
        one(analyse(tables, each, as_of=AS_OF), f"responders/responder/observed/{PAIN}/week_4/50")
        for each in (exact, study)
    )
    assert wide["method"] == "Clopper-Pearson exact interval"
    assert wide["lower"] < usual["lower"] < usual["upper"] < wide["upper"]


def test_a_mean_of_ten_has_an_interval():
    start = one(ten_patients(), f"pain/mean/analysed/{PAIN}/baseline/-")
    assert start["n"] == 10
    assert start["estimate"] == pytest.approx(7.4)
    assert start["lower"] < 7.4 < start["upper"]


def test_the_cumulative_curve_meets_the_responders_and_never_rises():
    analysis = eighty()
    for population in ("observed", "missing = non-responder"):
        curve = rows_of(analysis, "responders", "improved_by", population)
        assert len(curve) == 25
        counts = curve.assign(percent=curve["group"].astype(int)).sort_values("percent")["k"]
        assert (counts.diff().dropna() <= 0).all()
        for percent in ("30", "50"):
            same = one(analysis, f"responders/responder/{population}/{PAIN}/week_4/{percent}")
            there = one(analysis, f"responders/improved_by/{population}/{PAIN}/week_4/{percent}")
            assert (same["k"], same["n"]) == (there["k"], there["n"])


def test_a_baseline_of_zero_counts_as_not_improved_where_missing_does_and_nowhere_else():
    people = [with_pain(i, 8, 4, 4, 4) for i in range(11)] + [with_pain(99, 0, 0, 0, 0)]
    analysis = analysed(people)
    assert one(analysis, f"responders/responder/observed/{PAIN}/week_4/30")["n"] == 11
    assert one(analysis, f"responders/responder/missing = non-responder/{PAIN}/week_4/30")["n"] == 12


def test_a_visit_that_is_not_due_is_neither_missing_nor_in_a_denominator():
    people = [with_pain(i, 8, 5, 5, 5, not_due=frozenset(("week_26",))) for i in range(12)]
    analysis = analysed(people)
    late = one(analysis, f"pain/mean/analysed/{PAIN}/week_26/-")
    assert (late["n"], late["n_missing"]) == (0, 0)
    completed = one(analysis, f"completeness/completed/treated/{PAIN}/week_26/-")
    assert (completed["k"], completed["n"]) == (0, 0)
    partly = analysed([*people, with_pain(50, 8, 5, 5, 5)])
    words = one(partly, f"completeness/completed/treated/{PAIN}/week_26/-")["reason"]
    assert words.endswith("12 not due by 2026-06-30")


def test_pain_and_function_are_four_groups_of_the_people_with_both():
    both = {"baseline": 35.0, "week_4": 37.0}
    flat = {"baseline": 35.0, "week_4": 36.9}
    people = [
        with_pain(1, 8, 8, 8, 4, others={FUNCTION: both}),
        with_pain(2, 8, 8, 8, 4, others={FUNCTION: flat}),
        with_pain(3, 8, 8, 8, 8, others={FUNCTION: both}),
        with_pain(4, 8, 8, 8, 8, others={FUNCTION: flat}),
        with_pain(5, 8, 8, 8, 4),
    ]
    found = rows_of(analysed(people), "function", "pain_and_function", "analysed", FUNCTION, "week_4")
    assert found.set_index("group")["k"].to_dict() == {"both": 1, "pain only": 1, "function only": 1, "neither": 1}
    assert set(found["n"]) == {4}
    assert set(found["n_missing"]) == {1}
    assert found["method"].str.contains(r"physical function changed by \+2 or better \(unconfirmed\)").all()


def test_answers_to_the_global_question_make_up_everybody_who_answered():
    people = [with_pain(i, 8, 5, 5, 5, others={"pgic": {"week_4": float(1 + i % 3)}}) for i in range(12)]
    found = rows_of(analysed(people), "function", "share", "analysed", "pgic", "week_4")
    assert found["k"].sum() == 12
    assert found.set_index("group").loc["Much improved", "k"] == 4
    assert len(found) == 7


# --- people ---------------------------------------------------------------------------------------------------------


def test_analysed_and_not_analysed_make_up_treated_in_every_group():
    analysis = eighty()
    shares = rows_of(analysis, "participants", "share").reset_index()
    wide = shares.pivot_table(index="group", columns="population", values="k", aggfunc="sum")
    assert (wide["treated"] == wide["analysed"] + wide["not analysed"]).all()
    for prefix in ("sex", "crps_type", "crps_match"):
        own = shares[shares["group"].str.startswith(prefix + ": ")]
        assert (own.groupby("population")["k"].sum() == own.groupby("population")["n"].first()).all()


def test_years_since_onset_are_counted_to_the_first_dose():
    analysis = analysed([with_pain(i, 8, 5, years_ill=4.0) for i in range(5)])
    years = one(analysis, "participants/median/treated/years_since_onset/-/-")
    assert years["estimate"] == pytest.approx(4.0, abs=0.01)


def test_a_treatment_counts_each_person_once():
    people = [with_pain(i, 8, 5) for i in range(4)]
    again = [event(i, f"p000{i % 2}", "opioid", kind="co-treatment", session=None, onset_at=None) for i in range(6)]
    analysis = analysed(people, events=again)
    share = one(analysis, "participants/share/treated/-/-/earlier: opioid")
    assert (share["k"], share["n"]) == (2, 4)


# --- doses ----------------------------------------------------------------------------------------------------------


def test_every_session_stands_in_exactly_one_cell_of_week_and_dose():
    people = random_people(5, 40)
    analysis = analysed(people)
    cells = rows_of(analysis, "dosing", "sessions")
    assert len(cells) == len(WEEKS) * len(BAND_NAMES)
    assert cells["k"].sum() == sum(len(person.doses_mg) for person in people if person.is_treated)
    assert cells["k"].sum() == one(analysis, "dosing/count/treated/-/-/sessions")["k"]


def test_a_dose_on_an_edge_belongs_to_the_band_that_starts_there():
    doses = pd.Series([0.499999, 0.5, 0.1 * 7.5, 1.0, 1.25, None], dtype="Float64")
    expected = ["<0.5 mg/kg", "0.5 to <0.75", "0.75 to <1.0", "1.0 to <1.25", "1.25 or more", "not known"]
    assert dose_bands(doses).tolist() == expected


def test_titration_is_the_slope_over_the_first_series_of_people_with_three_sessions():
    rising, level = with_pain(1, 8, 5, doses_mg=(40.0, 48.0, 56.0)), with_pain(2, 8, 5, doses_mg=(40.0,) * 4)
    two_only = with_pain(3, 8, 5, doses_mg=(40.0, 80.0))
    sessions = Cohort(cohort([rising, level, two_only]), the_study(), AS_OF).sessions
    assert titration(sessions).tolist() == [pytest.approx(0.1), pytest.approx(0), pd.NA]
    found = one(analysed([rising, level, two_only]), "dosing/median/treated/titration_mg_per_kg/-/-")
    assert (found["n"], found["n_missing"]) == (2, 1)


def test_injections_of_one_session_add_up_and_one_without_dose_leaves_it_unknown():
    tables = cohort([with_pain(1, 8, 5, doses_mg=(40.0, 40.0)), with_pain(2, 8, 5, doses_mg=(40.0, 40.0))])
    doses = tables.doses.assign(session=1)
    doses.loc[doses["source_ref"].str.endswith("p0002-2"), ["dose_mg", "mg_per_kg"]] = pd.NA
    analysis = analyse(replace(tables, doses=doses), the_study(), as_of=AS_OF)
    assert one(analysis, "dosing/count/treated/-/-/sessions")["k"] == 2
    assert one(analysis, "dosing/count/treated/-/-/doses")["k"] == 4
    dose = one(analysis, "dosing/median/treated/dose_mg/-/-")
    assert (dose["n"], dose["n_missing"]) == (1, 1)
    assert one(analysis, "dosing/sessions/treated/-/week 0/not known")["k"] == 1


def test_intervals_are_counted_inside_a_series_only():
    tables = cohort([with_pain(1, 8, 5, doses_mg=(40.0,) * 4)])
    doses = tables.doses.assign(series=[1, 1, 2, 2])
    doses.loc[2:, "given_on"] += pd.Timedelta(days=60)
    analysis = analyse(replace(tables, doses=doses), the_study(), as_of=AS_OF)
    gap = one(analysis, "dosing/median/treated/interval_days/-/-")
    assert gap["n"] == 2
    assert gap["reason"] == "fewer than 3 intervals: no estimate"


def test_routes_and_flags_are_shares_of_all_administrations():
    tables = cohort([with_pain(1, 8, 5, doses_mg=(40.0, 40.0, 40.0))])
    flags = ["a; b", "", "b"]
    doses = tables.doses.assign(flags=flags)
    extra = doses.iloc[[0]].assign(
        source_ref="MedicationAdministration/iv", route="iv", session=pd.NA, series=pd.NA, flags=""
    )
    doses = pd.concat([doses, extra], ignore_index=True)
    analysis = analyse(replace(tables, doses=doses), the_study(), as_of=AS_OF)
    assert one(analysis, "dosing/route/treated/-/-/iv")[["k", "n"]].tolist() == [1, 4]
    assert one(analysis, "dosing/flag/treated/-/-/b")[["k", "n"]].tolist() == [2, 4]
    assert one(analysis, "dosing/count/treated/-/-/doses")["k"] == 3


# --- flow -------------------------------------------------------------------------------------------------------------


def test_every_box_of_the_flow_is_the_next_one_and_those_who_left():
    people = [
        *(with_pain(i, 8, 5) for i in range(5)), with_pain(10, 8), with_pain(11, None, 5),
        Person("p20", doses_mg=()), Person("p21", crps_type="no diagnosis"),
    ]  # fmt: skip
    counts = analyse(cohort(people), the_study(), as_of=AS_OF, not_enrolled={"consent withdrawn": 2}).counts
    boxes = counts.sort_values("order")
    assert boxes["step"].tolist() == ["listed", "enrolled", "diagnosis", "treated", "baseline", "analysed"]
    assert boxes["n_subjects"].tolist() == [11, 9, 8, 7, 6, 5]
    assert boxes["n_left"].tolist() == [2, 1, 1, 1, 1, 0]
    assert boxes["reason"].iloc[0] == "consent withdrawn"


def test_each_reason_for_not_being_enrolled_is_named_with_its_number():
    listed = {"membership not active": 2, "consent expired": 1, "merged into another record": 0}
    counts = analyse(cohort([with_pain(1, 8, 5)]), the_study(), as_of=AS_OF, not_enrolled=listed).counts
    (box,) = counts[counts["step"] == "listed"].to_dict("records")
    assert (box["n_left"], box["reason"]) == (3, "membership not active 2, consent expired 1")


def test_without_a_list_the_flow_starts_with_the_enrolled():
    assert analysed([with_pain(1, 8, 5)]).counts.sort_values("order")["step"].iloc[0] == "enrolled"


# --- honest rows on hopeless cohorts ----------------------------------------------------------------------------------

HOPELESS = {
    "nobody": [],
    "nobody treated": [Person(f"p{i}", doses_mg=()) for i in range(3)],
    "one person": [with_pain(1, 8, 5)],
    "two people": [with_pain(1, 8, 5), with_pain(2, 7, 7)],
    "all missing": [Person(f"p{i}") for i in range(12)],
    "baselines only": [with_pain(i, 8) for i in range(12)],
    "no variance": [with_pain(i, 8, 5, 5, 5, 5, 5, 5) for i in range(12)],
    "all responders": [with_pain(i, 8 + i % 2, 1, 1, 1, 1, 1, 1) for i in range(12)],
    "one visit": [with_pain(i, 8 - i % 3, 5) for i in range(12)],
    "baseline zero": [with_pain(i, 0, 0, 0, 0) for i in range(12)],
    "no dose known": [with_pain(i, 8, 5, doses_mg=(None,), weight_kg=None) for i in range(12)],
    "nothing known": [with_pain(i, 8, 5, age_years=None, years_ill=None, sex="unknown") for i in range(12)],
}


def every_cohort():
    yield "ten patients", ten_patients()
    yield "eighty", eighty()
    yield from ((name, hopeless(name)) for name in HOPELESS)


def test_every_row_of_every_cohort_has_n_missing_method_and_an_interval_or_a_reason():
    for name, analysis in every_cohort():
        rows = analysis.estimates
        assert rows[["n", "n_missing"]].notna().all(axis=None), name
        assert (rows["method"] != "").all(), name
        both = rows["lower"].notna() & rows["upper"].notna()
        one_sided = rows["upper"].notna() & rows["method"].str.contains("one-sided")
        bare = rows[~(both | one_sided) & (rows["reason"] == "")]
        assert bare["estimate_id"].tolist() == [], name


@pytest.mark.parametrize("spoiled", [{"n": None}, {"n_missing": None}, {"method": ""}, {"lower": None, "upper": None}])
def test_a_row_that_lacks_what_every_row_carries_stops_the_run(spoiled):
    whole = mean_row(Key("pain", "mean"), np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10]), unit="points")
    assert len(build(FULL_ESTIMATES, [whole])) == 1
    with pytest.raises(SchemaError):
        build(FULL_ESTIMATES, [whole | spoiled])


@pytest.mark.parametrize("name", HOPELESS)
def test_a_hopeless_cohort_gives_honest_rows(name):
    estimates = hopeless(name).estimates
    numbers = estimates[NUMBERS].to_numpy(dtype="float64", na_value=np.nan)
    assert not np.isinf(numbers).any()
    few = estimates["n"] < 3
    kinds = ["mean", "mean_change", "median", "quantile", "median_change"]
    assert estimates.loc[few & estimates["statistic"].isin(kinds), "estimate"].isna().all()


def test_a_constant_change_has_no_interval_and_says_why():
    row = one(hopeless("no variance"), f"pain/mean_change/analysed/{PAIN}/week_4/-")
    assert (row["estimate"], row["reason"]) == (-3.0, "all values are equal: no interval")
    middle = one(hopeless("no variance"), f"pain/median_change/analysed/{PAIN}/week_4/-")
    assert middle["lower"] is pd.NA


def test_all_responders_are_100_percent_with_a_lower_limit():
    row = one(hopeless("all responders"), f"responders/responder/observed/{PAIN}/week_4/50")
    assert (row["k"], row["n"], row["estimate"]) == (12, 12, 100.0)
    assert row["lower"] == pytest.approx(100 * 12 / (12 + 1.959964**2), abs=0.01)


def test_estimates_carry_a_finite_interval_around_every_estimate():
    frame = eighty().estimates
    both = frame[frame["lower"].notna() & frame["upper"].notna()]
    assert len(both) > 100
    assert (both["lower"] <= both["estimate"] + 1e-9).all()
    assert (both["estimate"] <= both["upper"] + 1e-9).all()


# --- nothing depends on order, and nothing that is broken passes --------------------------------------------------------


def test_the_order_of_rows_leaves_no_trace():
    people = random_people(13, 30)
    events = random_events(13, people, ["nausea", "dizziness"])
    tables = cohort(people, events=events)
    shuffled = {
        name: frame.sample(frac=1, random_state=1).reset_index(drop=True) for name, frame in vars(tables).items()
    }
    first = analyse(tables, the_study(), as_of=AS_OF)
    second = analyse(replace(tables, **shuffled), the_study(), as_of=AS_OF)
    pd.testing.assert_frame_equal(first.estimates, second.estimates)
    pd.testing.assert_frame_equal(first.counts, second.counts)


def test_estimates_are_unique_and_checked_against_their_table():
    analysis = eighty()
    pd.testing.assert_frame_equal(ESTIMATES.validate(analysis.estimates), analysis.estimates)


def broken(**changes) -> None:
    tables = cohort([with_pain(i, 8, 5, 5, 5) for i in range(12)])
    analyse(
        replace(tables, **{name: change(getattr(tables, name)) for name, change in changes.items()}),
        the_study(),
        as_of=AS_OF,
    )


def test_a_flag_that_disagrees_with_the_values_stops_the_run():
    with pytest.raises(PipelineError, match="outcomes/is_responder_30"):
        broken(outcomes=lambda frame: frame.assign(is_responder_30=False))


def test_an_exclusion_that_disagrees_with_the_flags_stops_the_run():
    with pytest.raises(PipelineError, match="subjects without exclusion"):
        broken(subjects=lambda frame: frame.assign(exclusion="no IM session"))


def test_an_analysed_person_without_a_baseline_row_stops_the_run():
    with pytest.raises(PipelineError, match="is not the sum of"):
        broken(outcomes=lambda frame: frame[~((frame["subject_id"] == "p0003") & (frame["visit"] == "baseline"))])


def test_a_flow_that_does_not_nest_stops_the_run():
    with pytest.raises(PipelineError, match="it should nest"):
        broken(subjects=lambda frame: frame.assign(has_baseline=False))


def test_the_message_of_a_broken_run_names_rows_and_no_person():
    with pytest.raises(PipelineError) as caught:
        broken(outcomes=lambda frame: frame[frame["subject_id"] != "p0003"])
    assert "p0003" not in str(caught.value)
    assert "/" in str(caught.value)
    assert DAY_0.date().isoformat() not in str(caught.value)


def test_when_people_who_do_not_respond_stay_away_the_observed_share_is_too_high():
    responders = [with_pain(i, 8, 4, 4, 3) for i in range(20)]
    others = [with_pain(100 + i, 8, 8, 8, 8 if i < 5 else None) for i in range(20)]
    analysis = analysed([*responders, *others])
    observed = one(analysis, f"responders/responder/observed/{PAIN}/week_4/30")["estimate"]
    everybody = one(analysis, f"responders/responder/missing = non-responder/{PAIN}/week_4/30")["estimate"]
    assert observed == pytest.approx(80)
    assert everybody == pytest.approx(50)  # the true share


def test_a_measure_whose_scale_does_not_start_at_zero_has_no_responders():
    study = the_study()
    plan = study.protocol.outcomes.model_copy(update={"primary": FUNCTION})
    other = replace(study, protocol=study.protocol.model_copy(update={"outcomes": plan}))
    people = [with_pain(i, 8, 5, others={FUNCTION: {"baseline": 40.0, "week_1": 45.0}}) for i in range(12)]
    tables = cohort(people)
    outcomes = tables.outcomes.assign(is_responder_30=pd.NA, is_responder_50=pd.NA)
    estimates = analyse(replace(tables, outcomes=outcomes), other, as_of=AS_OF).estimates
    assert "responders" not in set(estimates["section"])
