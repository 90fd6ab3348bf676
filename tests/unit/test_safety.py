"""Safety: what counts as an event, which readings belong to a session, and what the denominators are."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest
from cohort_tables import AS_OF, DAY_0, cohort, event, reading, the_study, with_pain

from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.analysis.safety import dose_thirds, safety
from crps_outcomes.analysis.vital_signs import pre_dose_readings, window_readings
from crps_outcomes.stages.analyse import analyse
from crps_outcomes.stages.disclose import disclose

SYSTOLIC, DIASTOLIC, OXYGEN = "systolic_pressure", "diastolic_pressure", "oxygen_saturation"


def people(n: int, *, sessions: int = 1, first: int = 1):
    return [with_pain(first + i, 8, 5, doses_mg=(40.0,) * sessions) for i in range(n)]


def rows_of(listed, **more) -> pd.DataFrame:
    """The safety rows by statistic, measure and group."""
    frame = pd.DataFrame(safety(Cohort(cohort(listed, **more), the_study(), AS_OF)))
    return frame.set_index(["statistic", "measure", "group"]).sort_index()


# --- events -------------------------------------------------------------------------------------------------------


def test_events_are_counted_per_100_sessions_and_people_once():
    events = [
        event(1, "p0001", "nausea"),
        event(2, "p0001", "nausea"),
        event(3, "p0002", "headache", severity="severe"),
    ]
    found = rows_of(people(10, sessions=3), events=events)
    assert found.loc[("per_100_sessions", "", "nausea"), ["k", "n"]].tolist() == [2, 30]
    assert found.loc[("per_100_sessions", "", "any"), "estimate"] == pytest.approx(10.0)
    assert found.loc[("per_100_sessions", "", "any severe"), "k"] == 1
    assert found.loc[("people", "", "nausea"), ["k", "n"]].tolist() == [1, 10]
    assert found.loc[("people", "", "any"), ["k", "n"]].tolist() == [2, 10]


def test_an_event_before_the_first_dose_is_not_an_event_of_the_treatment():
    before = DAY_0 - timedelta(hours=1)
    events = [
        event(1, "p0001", "the day before", onset_on=pd.Timestamp("2025-01-05"), onset_at=None),
        event(2, "p0001", "an hour before", onset_at=before),
        event(3, "p0001", "some time that day", onset_at=None),
        event(4, "p0001", "no date", onset_at=None, onset_on=None),
    ]
    found = rows_of(people(10), events=events)
    assert set(found.loc["per_100_sessions"].index.get_level_values("group")) == {
        "any", "any severe", "some time that day", "no date",
    }  # fmt: skip


def test_a_term_that_sounds_like_one_of_ours_keeps_apart():
    found = rows_of(people(10), events=[event(1, "p0001", "any"), event(2, "p0002", "serious")])
    assert found.loc[("per_100_sessions", "", "any"), "k"] == 2
    assert found.loc[("per_100_sessions", "", "any (term of the site)"), "k"] == 1


def test_no_serious_event_among_twenty_still_allows_almost_fourteen_percent():
    row = rows_of(people(20)).loc[("serious", "", "serious")]
    assert (row["k"], row["n"], row["estimate"]) == (0, 20, 0.0)
    assert row["upper"] == pytest.approx(13.91, abs=0.005)
    assert row["method"] == "share of people, one-sided exact 95 % upper limit, supposing that nothing went unrecorded"


def test_serious_events_are_counted_and_so_are_the_people():
    events = [event(i, "p0001", "nausea", is_serious=True) for i in range(3)] + [
        event(9, "p0002", "nausea", is_serious=None)
    ]
    found = rows_of(people(10), events=events)
    assert found.loc[("serious", "", "serious"), ["k", "n"]].tolist() == [3, 10]
    assert found.loc[("people", "", "serious"), ["k", "n"]].tolist() == [1, 10]


# --- vital signs ----------------------------------------------------------------------------------------------------


def test_the_window_is_open_at_the_injection_and_closed_at_its_end():
    readings = [
        reading(1, "p0001", SYSTOLIC, 120, 0), reading(2, "p0001", SYSTOLIC, 150, 120),
        reading(3, "p0001", SYSTOLIC, 190, 120.1), reading(4, "p0001", SYSTOLIC, 110, -30),
        reading(5, "p0001", SYSTOLIC, 200, -61), reading(6, "p0001", SYSTOLIC, 220, None),
    ]  # fmt: skip
    one = Cohort(cohort(people(1), observations=readings), the_study(), AS_OF)
    assert window_readings(one, SYSTOLIC).to_dict("records") == [
        {"subject_id": "p0001", "session": 1, "highest": 150.0, "lowest": 150.0}
    ]
    assert pre_dose_readings(one, SYSTOLIC)["last"].tolist() == [120.0]  # at the very moment of the injection


def test_a_reading_belongs_to_the_session_it_follows_and_to_nobody_else():
    week = 7 * 24 * 60
    readings = [reading(1, "p0001", SYSTOLIC, 140, week + 30), reading(2, "p0002", SYSTOLIC, 130, 30)]
    one = Cohort(cohort(people(2, sessions=2), observations=readings), the_study(), AS_OF)
    found = window_readings(one, SYSTOLIC)[["subject_id", "session", "highest"]]
    assert found.to_numpy().tolist() == [["p0001", 2, 140.0], ["p0002", 1, 130.0]]


def test_sessions_without_readings_are_not_in_the_denominator_and_are_counted_as_missing():
    readings = [
        reading(1, "p0001", SYSTOLIC, 120, -10), reading(2, "p0001", SYSTOLIC, 165, 40),
        reading(3, "p0002", SYSTOLIC, 150, 40), reading(4, "p0003", SYSTOLIC, 118, -10),
        reading(5, "p0001", OXYGEN, 89.9, 20), reading(6, "p0002", OXYGEN, 90, 20),
    ]  # fmt: skip
    found = rows_of(people(4), observations=readings)
    assert found.loc[("monitored", SYSTOLIC, ""), ["k", "n"]].tolist() == [1, 4]
    assert found.loc[("at_least", SYSTOLIC, "160"), ["k", "n", "n_missing"]].tolist() == [1, 2, 2]
    assert found.loc[("peak_rise", SYSTOLIC, ""), ["n", "n_missing"]].tolist() == [1, 3]
    assert found.loc[("monitored", OXYGEN, ""), ["k", "n"]].tolist() == [2, 4]
    assert found.loc[("below", OXYGEN, "90"), ["k", "n", "n_missing"]].tolist() == [1, 2, 2]
    assert found.loc[("at_least", DIASTOLIC, "100"), "reason"] == "nobody in the denominator"


def test_the_peak_rise_is_the_highest_after_minus_the_last_before():
    readings = []
    for person in range(1, 13):
        name = f"p{person:04d}"
        readings += [
            reading(10 * person, name, SYSTOLIC, 100, -50), reading(10 * person + 1, name, SYSTOLIC, 120, -5),
            reading(10 * person + 2, name, SYSTOLIC, 140 + person, 30), reading(10 * person + 3, name, SYSTOLIC, 125, 90),
        ]  # fmt: skip
    row = rows_of(people(12), observations=readings).loc[("peak_rise", SYSTOLIC, "")]
    assert row["estimate"] == pytest.approx(20 + 6.5)
    assert row["lower"] < row["estimate"] < row["upper"]
    assert "sessions" in row["method"]


def test_a_session_whose_instant_nobody_knows_is_not_watched():
    tables = cohort(people(3), observations=[reading(1, "p0001", SYSTOLIC, 140, 30)])
    dateless = replace(
        tables,
        doses=tables.doses.assign(given_at=pd.Series(pd.NaT, index=tables.doses.index, dtype="datetime64[us, UTC]")),
    )
    rows = pd.DataFrame(safety(Cohort(dateless, the_study(), AS_OF)))
    watched = rows[(rows["statistic"] == "monitored") & (rows["measure"] == OXYGEN)]
    assert watched[["k", "n"]].to_numpy().tolist() == [[0, 3]]


# --- liver ----------------------------------------------------------------------------------------------------------


def test_liver_values_count_after_the_first_dose_and_against_the_limit_of_their_source():
    days = 24 * 60
    readings = [
        reading(1, "p0001", "alt", 130, 10 * days, upper_normal=40), reading(2, "p0002", "alt", 120, 10 * days, upper_normal=40),
        reading(3, "p0003", "alt", 500, -10, upper_normal=40), reading(4, "p0004", "alt", 500, 10 * days),
        reading(5, "p0002", "alt", 30, 20 * days, upper_normal=40),
    ]  # fmt: skip
    row = rows_of(people(5), observations=readings).loc[("liver_above", "alt", "")]
    assert row[["k", "n", "n_missing"]].tolist() == [1, 2, 3]
    assert "above 3 times the upper limit of normal" in row["method"]


# --- by dose --------------------------------------------------------------------------------------------------------


def test_thirds_never_split_equal_doses():
    doses = pd.Series([0.5] * 5 + [0.7] * 5 + [0.9] * 5, dtype="Float64")
    assert dose_thirds(doses).value_counts().to_dict() == {"lowest third": 5, "middle third": 5, "highest third": 5}
    equal = dose_thirds(pd.Series([0.5, 0.5, 0.5, None], dtype="Float64"))
    assert equal.tolist() == ["lowest third"] * 3 + ["not known"]


def test_thirds_make_up_all_sessions_and_carry_only_events_of_a_session():
    listed = [with_pain(i, 8, 5, doses_mg=(30.0 + i,)) for i in range(30)]
    events = [event(1, "p0029", "nausea"), event(2, "p0029", "nausea", session=None)]
    found = rows_of(listed, events=events).loc["by_dose"]
    assert found["n"].sum() == 30
    assert found["k"].sum() == 1
    assert found.loc[("", "highest third"), "k"] == 1
    assert found.loc[("", "lowest third"), "method"].endswith("exploratory")
    assert found.loc[("", "not known"), "reason"] == "no session in this group"


# --- monitoring, scales and grades --------------------------------------------------------------------------------------

CADSS, MOAAS = "dissociation_cadss", "sedation_moaas"


def test_a_session_without_any_reading_is_not_monitored_and_never_normal():
    readings = [reading(1, "p0001", OXYGEN, 97, 30), reading(2, "p0001", CADSS, 0, 40)]
    found = rows_of(people(10), observations=readings)
    assert found.loc[("watched", "", "anything"), ["k", "n"]].tolist() == [1, 10]
    below = found.loc[("below", OXYGEN, "94")]
    assert (below["k"], below["n"], below["n_missing"]) == (0, 1, 9)
    assert found.loc[("above", CADSS, "4"), ["k", "n", "n_missing"]].tolist() == [0, 1, 9]
    assert found.loc[("at_most", MOAAS, "3"), ["k", "n", "n_missing"]].tolist() == [0, 0, 10]


@pytest.mark.parametrize(
    ("measure", "statistic", "cut", "values"),
    [
        (CADSS, "above", "4", {4: 0, 5: 1}),
        (MOAAS, "at_most", "3", {4: 0, 3: 1}),
        (OXYGEN, "below", "94", {94: 0, 93: 1}),
        (OXYGEN, "below", "90", {93: 0, 89: 1}),
    ],
)
def test_a_scale_counts_beyond_its_cut_and_not_on_the_wrong_side_of_it(measure, statistic, cut, values):
    for value, k in values.items():
        found = rows_of(people(10), observations=[reading(1, "p0001", measure, value, 40)])
        assert found.loc[(statistic, measure, cut), "k"] == k


def test_a_rise_of_30_percent_needs_a_reading_before_and_counts_exactly_at_30():
    pairs = {"p0001": (100, 130), "p0002": (100, 129)}
    readings = [
        reading(10 * i + place, person, SYSTOLIC, value, minutes)
        for i, (person, own) in enumerate(pairs.items())
        for place, (value, minutes) in enumerate(zip(own, (-5, 20), strict=True))
    ]
    found = rows_of(people(10), observations=[*readings, reading(99, "p0003", SYSTOLIC, 170, 20)])
    assert found.loc[("rise", SYSTOLIC, "30"), ["k", "n", "n_missing"]].tolist() == [1, 2, 8]


def liver(number: int, person: str, measure: str, value: float, days: int = 30, **more) -> dict:
    on = pd.Timestamp(DAY_0.date()) + pd.Timedelta(days=days)
    return reading(number, person, measure, value, None, **{"taken_on": on, "upper_normal": 40.0, **more})


def test_liver_grades_are_multiples_of_the_limit_the_source_states_and_add_up():
    values = {"p0001": 40, "p0002": 41, "p0003": 120, "p0004": 121, "p0005": 201, "p0006": 801}
    observations = [liver(i, person, "alt", value) for i, (person, value) in enumerate(values.items())]
    observations += [liver(90, "p0007", "alt", 900, upper_normal=None), liver(91, "p0008", "alt", 900, days=-3)]
    found = rows_of(people(10), observations=observations)
    grades = [int(found.loc[("liver_grade", "alt", str(grade)), "k"]) for grade in range(5)]
    assert grades == [1, 2, 1, 1, 1]
    assert found.loc[("liver_grade", "alt", "0"), ["n", "n_missing"]].tolist() == [6, 4]
    assert found.loc[("liver_above", "alt", ""), "k"] == sum(grades[2:])


@pytest.mark.parametrize(("bilirubin", "alp", "k"), [(2.5, 60, 1), (2.0, 60, 0), (2.5, 90, 0)])
def test_hys_law_needs_enzymes_and_bilirubin_up_without_a_rise_of_alp(bilirubin, alp, k):
    observations = [
        liver(1, "p0001", "ast", 130),
        liver(2, "p0001", "bilirubin_total", bilirubin, upper_normal=1.0),
        liver(3, "p0001", "alkaline_phosphatase", alp),
        liver(4, "p0002", "ast", 130),
    ]
    found = rows_of(people(10), observations=observations)
    assert found.loc[("hys_law", "", ""), ["k", "n", "n_missing"]].tolist() == [k, 1, 9]


# --- stops and harms by source --------------------------------------------------------------------------------------------


def test_stops_are_counted_by_people_and_a_stop_without_a_reason_is_no_harm():
    stops = [
        event(1, "p0001", "nausea", kind="discontinuation", category="nausea or vomiting"),
        event(2, "p0001", "nausea", kind="discontinuation", category="nausea or vomiting"),
        event(3, "p0002", "reason not recorded", kind="discontinuation"),
    ]
    found = rows_of(people(10), events=stops)
    assert found.loc[("stopped", "", "any"), ["k", "n"]].tolist() == [2, 10]
    assert found.loc[("stopped", "", "for a harm"), "k"] == 1
    assert found.loc[("per_100_sessions", "", "any"), "k"] == 0


def test_no_stop_at_all_still_allows_a_share_of_people():
    found = rows_of(people(20))
    assert found.loc[("stopped", "", "any"), "k"] == 0
    assert found.loc[("stopped", "", "any"), "upper"] == pytest.approx(13.91, abs=0.01)


def test_harms_are_counted_by_person_over_all_sources_and_by_source():
    events = [
        event(1, "p0001", "nausea", category="nausea or vomiting"),
        event(2, "p0001", "Nausea", kind="condition", category="nausea or vomiting"),
        event(3, "p0002", "Cystitis", kind="condition", category="urinary"),
        event(
            4,
            "p0003",
            "Cystitis",
            kind="condition",
            category="urinary",
            onset_on=pd.Timestamp("2024-01-01"),
            onset_at=None,
        ),
    ]
    found = rows_of(people(10), events=events)
    assert found.loc[("signal", "", "nausea or vomiting: any"), "k"] == 1
    assert found.loc[("signal", "", "nausea or vomiting: reported"), "k"] == 1
    assert found.loc[("signal", "", "nausea or vomiting: diagnosed"), "k"] == 1
    assert found.loc[("signal", "", "urinary: any"), "k"] == 1  # the one on record before the first dose does not count
    assert found.loc[("per_100_sessions", "", "any"), "k"] == 1  # a diagnosis is no report


def test_an_answer_about_suicidal_thoughts_is_a_signal_and_not_asked_is_not_no():
    observations = [
        liver(1, "p0001", "phq9", 1, item="phq9-9"),
        liver(2, "p0002", "phq9", 0, item="phq9-9"),
        liver(3, "p0003", "phq9", 3, item="phq9-8"),
        liver(4, "p0004", "phq9_item9", 2),
        liver(5, "p0005", "phq9", 2, item="phq9-9", days=-5),
    ]
    found = rows_of(people(10), observations=observations)
    assert found.loc[("signal", "", "suicidality: answered"), ["k", "n", "n_missing"]].tolist() == [2, 3, 7]
    assert found.loc[("signal", "", "suicidality: any"), "k"] == 2


def test_harms_by_source_never_leave_the_clinic():
    tables = cohort(people(30, sessions=3), events=[event(1, "p0001", "suicidal ideation", category="suicidality")])
    analysis = analyse(tables, the_study(), as_of=AS_OF)
    assert "signal" in set(analysis.estimates["statistic"])
    assert "signal" not in set(disclose(analysis, tables, the_study(), "release").estimates["statistic"])


# --- people as the unit, by time, by dose --------------------------------------------------------------------------------


def test_every_declared_kind_of_harm_nobody_has_gets_its_upper_limit():
    found = rows_of(people(20), events=[event(1, "p0001", "nausea", category="nausea or vomiting")]).loc["harm_absent"]
    kinds = {listed.group for listed in the_study().codelists["adverse_events"]}
    assert set(found.index.get_level_values("group")) == kinds - {"nausea or vomiting"}
    measured = found.index.get_level_values("group").isin(the_study().protocol.safety.measured_harms)
    assert found.loc[~measured, "upper"].to_numpy() == pytest.approx([13.91] * (~measured).sum(), abs=0.01)
    assert found.loc[~measured, "method"].str.contains("nothing went unrecorded").all()


def test_a_harm_with_measurements_of_its_own_gets_no_upper_limit_from_silent_reports():
    found = rows_of(people(20), observations=[reading(1, "p0001", SYSTOLIC, 170, 30)])
    assert found.loc[("at_least", SYSTOLIC, "160"), "k"] == 1
    absent = found.loc[("harm_absent", "")].loc[["raised blood pressure", "desaturation", "suicidality", "liver"]]
    assert absent["upper"].isna().all()
    assert absent["reason"].str.contains("measurements of its own").all()
    assert absent[["k", "n", "n_missing"]].to_numpy().tolist() == [[0, 20, 0]] * 4


def test_events_heaped_in_a_few_people_have_a_wider_interval_by_person():
    events = [event(7 * who + i, f"p{who:04d}", "nausea", session=i) for who in range(1, 7) for i in range(1, 7)]
    found = rows_of(people(20, sessions=6), events=events)
    exact, by_person = (found.loc[(name, "", "nausea")] for name in ("per_100_sessions", "rate_by_person"))
    assert by_person["estimate"] == exact["estimate"] == pytest.approx(30)
    assert by_person["lower"] < exact["lower"] < exact["upper"] < by_person["upper"]
    assert by_person[["k", "n", "n_missing"]].tolist() == [36, 20, 0]


def test_a_session_with_two_events_counts_once_in_the_share_of_sessions():
    events = [event(i, f"p{i:04d}", "nausea") for i in range(1, 9)] + [
        event(20, "p0001", "headache"),
        event(21, "p0002", "x", session=None),
    ]
    row = rows_of(people(20, sessions=2), events=events).loc[("session_by_person", "", "with an event")]
    assert (row["k"], row["estimate"]) == (8, 20.0)
    assert row["lower"] < 20 < row["upper"]


def test_readings_fall_into_the_minutes_they_were_taken_in_against_the_start():
    readings = []
    for person in range(1, 13):
        name = f"p{person:04d}"
        readings += [
            reading(10 * person, name, SYSTOLIC, 120, -5), reading(10 * person + 1, name, SYSTOLIC, 130 + person, 15),
            reading(10 * person + 2, name, SYSTOLIC, 140, 16), reading(10 * person + 3, name, SYSTOLIC, 150, 30),
            reading(10 * person + 4, name, OXYGEN, 95, 100),
        ]  # fmt: skip
    found = rows_of(people(12), observations=readings).loc["course"]
    assert found.loc[(SYSTOLIC, "0 to 15"), "estimate"] == pytest.approx(16.5)
    assert found.loc[(SYSTOLIC, "15 to 30"), "estimate"] == pytest.approx(25)  # two readings of one session: their mean
    assert found.loc[(SYSTOLIC, "30 to 60"), "n"] == 0
    assert found.loc[(OXYGEN, "90 to 120"), ["n", "n_missing", "estimate"]].tolist() == [12, 0, 95]


def test_the_onset_is_counted_from_the_injection_of_the_session():
    week = timedelta(days=7)
    events = [
        event(i, f"p{i:04d}", "nausea", onset_at=DAY_0 + week + timedelta(minutes=10 * i), session=2)
        for i in range(1, 6)
    ] + [
        event(9, "p0001", "nausea", onset_at=None),
        event(10, "p0002", "nausea", onset_at=DAY_0 - timedelta(minutes=1)),
    ]
    row = rows_of(people(10, sessions=2), events=events).loc[("onset", "", "nausea")]
    assert (row["estimate"], row["lower"], row["upper"]) == (30, 20, 40)
    assert (row["n"], row["n_missing"]) == (5, 1)  # the one before the first injection is no event of the treatment


def test_dissociation_that_rises_with_the_dose_of_the_session_is_found_inside_people():
    listed = [with_pain(i, 8, 5, doses_mg=tuple(40.0 + 8 * ((i + s) % 3) for s in range(4))) for i in range(1, 15)]
    readings = [
        reading(10 * i + s, f"p{i:04d}", CADSS, 10 + 3 * ((i + s) % 3) + (i * s) % 2, 40 + s * 7 * 24 * 60)
        for i in range(1, 15)
        for s in range(4)
    ]
    row = rows_of(listed, observations=readings).loc[("dose_slope", CADSS, "")]
    assert row["estimate"] == pytest.approx(3, abs=0.3)  # 8 mg in 80 kg are 0.1 mg/kg
    assert row["lower"] < 3 < row["upper"]


def test_few_people_or_few_events_have_no_slope_on_the_dose():
    few = rows_of(people(20, sessions=3)).loc[("dose_odds", "", "with an event")]
    assert few["reason"].startswith("fewer than 10 people whose dose differed")
    listed = [with_pain(i, 8, 5, doses_mg=(40.0, 60.0, 50.0)) for i in range(1, 15)]
    some = rows_of(listed, events=[event(1, "p0001", "nausea")]).loc[("dose_odds", "", "with an event")]
    assert some["reason"] == "events in sessions of fewer than 5 people: no slope"


def test_what_takes_people_as_the_unit_never_leaves_the_clinic():
    tables = cohort(people(30, sessions=3), events=[event(i, f"p{i:04d}", "nausea") for i in range(1, 25)])
    analysis = analyse(tables, the_study(), as_of=AS_OF)
    own = {"rate_by_person", "session_by_person", "harm_absent", "course", "onset", "dose_odds", "dose_slope"}
    assert own <= set(analysis.estimates["statistic"])
    assert not own & set(disclose(analysis, tables, the_study(), "release").estimates["statistic"])
