"""The quality report: every month counted by hand, what the rules say in words, and a list that never leaves the clinic."""

from __future__ import annotations

import io
import re
import subprocess
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import page as page_validation
import pandas as pd
import pikepdf
import pytest
import quality_fixture
from cohort_tables import DAY_0, cohort, event, reading, the_study, with_pain
from pydantic import ValidationError
from report_fixture import tables as all_at_once
from test_render import Outline
from test_sections import BANNED, SMALL, lines

from crps_outcomes import figure_kit, pseudonyms, spc
from crps_outcomes.analysis.actions import actions
from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.analysis.quality import quality
from crps_outcomes.control_figures import Control, control, place_of
from crps_outcomes.deployments import read
from crps_outcomes.drawings import months
from crps_outcomes.facts import Facts
from crps_outcomes.home import Home
from crps_outcomes.monitoring import Quality, Rebase
from crps_outcomes.stages.analyse import analyse
from crps_outcomes.stages.compose import compose
from crps_outcomes.stages.disclose import disclose
from crps_outcomes.stages.render import page_html, render
from crps_outcomes.watching import Watch, said, watched

if TYPE_CHECKING:
    from crps_outcomes.study import Study

FEBRUARY = date(2025, 2, 28)
EDITIONS = ("internal", "release")


def study_with(**changes) -> Study:
    """The study with another [quality]."""
    study = the_study()
    plan = study.protocol.quality.model_copy(update=changes)
    return replace(study, protocol=study.protocol.model_copy(update={"quality": plan}))


def rows(people, *, as_of: date = FEBRUARY, study: Study | None = None, **more) -> pd.DataFrame:
    """The rows of the quality section by statistic, measure and month."""
    found = quality(Cohort(cohort(people, **more), study or the_study(), as_of))
    frame = pd.DataFrame(found, dtype=object)
    return frame.set_index(["statistic", "measure", "visit"]).sort_index() if len(frame) else frame


def month(frame: pd.DataFrame, measure: str, name: str) -> tuple:
    one = frame.loc[("month", measure, name)]
    return one["k"], one["n"], one["n_missing"], one["estimate"]


FOUR = (
    with_pain(1, 7, 5, 5, 4),  # better by 3 of 7 at week 4
    with_pain(2, 7, 7, 7, 7),
    with_pain(3, 7, 6, 6),  # no score at week 4
    with_pain(4, 7, not_due=frozenset({"week_4"})),
)


# --- months -------------------------------------------------------------------------------------------------------


def test_scores_on_time_are_counted_in_the_month_their_window_closes_of_those_due():
    found = rows(FOUR)  # day 35 is 10 February 2025
    assert month(found, "on_time", "2025-02") == (2, 3, 0, pytest.approx(200 / 3))


def test_the_running_month_is_left_out_until_its_last_day_is_over():
    visits = rows(FOUR, as_of=FEBRUARY - timedelta(days=1)).index
    assert ("month", "on_time", "2025-02") not in visits
    assert ("month", "monitored", "2025-01") in visits


def test_response_counts_people_with_a_score_and_the_others_as_missing():
    assert month(rows(FOUR), "response", "2025-02") == (1, 2, 1, 50.0)


def test_a_session_is_monitored_in_full_only_with_both_pressures_before_and_after_and_oxygen():
    def readings(subject: str, number: int, but: str = ""):
        wanted = [
            ("systolic_pressure", -5, 120), ("diastolic_pressure", -5, 80), ("systolic_pressure", 30, 130),
            ("diastolic_pressure", 30, 85), ("oxygen_saturation", 30, 97),
        ]  # fmt: skip
        kept = [one for one in wanted if f"{one[0]} {one[1]}" != but]
        return [reading(number + i, subject, name, value, at) for i, (name, at, value) in enumerate(kept)]

    seen = [
        *readings("p0001", 10),
        *readings("p0002", 20, "diastolic_pressure -5"),
        *readings("p0003", 30, "oxygen_saturation 30"),
    ]
    assert month(rows(FOUR, observations=seen), "monitored", "2025-01") == (1, 4, 0, 25.0)


def test_sessions_a_week_leave_out_the_first_month_because_it_is_not_whole():
    found = rows([with_pain(1, 7, doses_mg=(40,) * 7)])  # 6, 13, 20, 27 January, 3, 10, 17 February
    assert ("month", "sessions_per_week", "2025-01") not in found.index
    assert month(found, "sessions_per_week", "2025-02") == (3, 3, 0, pytest.approx(0.75))


def test_a_month_without_a_session_is_a_month_with_none():
    found = rows([with_pain(1, 7, doses_mg=(40,) * 3)], as_of=date(2025, 3, 31))
    assert month(found, "sessions_per_week", "2025-03") == (0, 0, 0, 0.0)
    assert month(found, "monitored", "2025-03") == (0, 0, 0, None)


def test_days_to_the_first_dose_are_a_median_and_an_enrolment_after_it_is_missing():
    own = cohort([with_pain(number, 7) for number in range(5)])
    waits = pd.to_timedelta([10, 20, 40, 60, -3], unit="D")
    subjects = own.subjects.assign(enrolled_on=own.subjects["first_dose_on"] - waits)
    frame = pd.DataFrame(quality(Cohort(replace(own, subjects=subjects), the_study(), FEBRUARY)), dtype=object)
    found = month(frame.set_index(["statistic", "measure", "visit"]), "days_to_first_dose", "2025-01")
    assert found[1:] == (4, 1, 30.0)


def test_adverse_events_have_a_rate_from_ten_sessions_on_and_undated_ones_are_told():
    ten = [with_pain(number, 7) for number in range(10)]
    seen = [event(number, "p0001", "Nausea") for number in range(3)]
    seen.append(event(9, "p0002", "Nausea", onset_at=None, onset_on=None, session=None))
    found = rows(ten, events=seen)
    assert month(found, "adverse_events", "2025-01") == (3, 10, 0, 30.0)
    assert found.loc[("undated", "adverse_events", ""), "k"] == 1
    few = rows(ten[:9], events=seen)
    assert month(few, "adverse_events", "2025-01") == (3, 9, 0, None)
    assert few.loc[("month", "adverse_events", "2025-01"), "reason"] == "fewer than 10 sessions: counts only"


def test_a_first_series_is_as_planned_with_the_sessions_of_the_plan_inside_its_days():
    people = [
        with_pain(1, 7, doses_mg=(40,) * 6),  # the sixth on day 35
        with_pain(2, 7, doses_mg=(40,) * 5),
        with_pain(3, 7, doses_mg=(40,) * 9),
    ]
    assert month(rows(people), "as_planned", "2025-02") == (2, 3, 0, pytest.approx(200 / 3))  # day 41: 16 February


def test_months_that_are_charted_are_the_latest_ones_only():
    study = study_with(months=13)
    found = rows([with_pain(1, 7)], as_of=date(2027, 1, 31), study=study)
    own = found.loc[("month", "monitored")]
    assert (len(own), own.index[0], own.index[-1]) == (13, "2026-01", "2027-01")


def test_sessions_between_serious_events_are_counted_from_one_to_the_next():
    days = (0, 14, 42)  # sessions 1, 3 and 7
    seen = [
        event(
            i, "p0001", "Fall", is_serious=True,
            onset_at=DAY_0 + timedelta(days=day, hours=1), onset_on=pd.Timestamp(DAY_0.date()) + timedelta(days=day),
        )
        for i, day in enumerate(days)
    ]  # fmt: skip
    found = rows([with_pain(1, 7, doses_mg=(40,) * 8)], events=seen)
    assert found.loc[("between", "serious")]["k"].tolist() == [2, 4]
    assert found.loc[("since_last", "serious", ""), "k"] == 1
    assert found.loc[("centre", "serious", "002"), "estimate"] == 3  # a run chart: the median


def test_without_a_day_of_the_data_there_is_no_month():
    assert quality(Cohort(cohort(FOUR), the_study(), None)) == []
    assert actions(Cohort(cohort(FOUR), the_study(), None)).empty


@pytest.mark.parametrize("n", [0, 1, 2, 12, 64])
@pytest.mark.parametrize("tables", [quality_fixture.tables, all_at_once])
def test_every_row_has_its_n_its_missing_its_method_and_an_interval_or_a_reason(n, tables):
    found = quality(Cohort(tables(n), the_study(), quality_fixture.AS_OF))
    for one in found:
        assert one["n"] is not None
        assert one["n_missing"] is not None
        assert one["method"]
        assert one["lower"] is not None or one["reason"]
        assert all(one[name] is None or one[name] == one[name] for name in ("estimate", "lower", "upper"))


def test_the_lines_on_record_are_the_lines_drawn():
    facts = quality_fixture.facts()
    for watch in watched(facts):
        rows_of = facts.every("quality", "centre", measure=watch.id)
        drawn = [segment.lines[-1] for segment in watch.chart.segments]
        assert [(one.estimate, one.lower, one.upper) for one in rows_of] == [
            (pytest.approx(line.centre), pytest.approx(line.lower), pytest.approx(line.upper)) for line in drawn
        ]
        signals = facts.every("quality", "signal", measure=watch.id)
        assert sum(one.k for one in signals) == sum(bool(hits) for hits in watch.chart.hits)


# --- action list --------------------------------------------------------------------------------------------------


def listed(tables, as_of: date) -> list[tuple]:
    found = actions(Cohort(tables, the_study(), as_of))
    return [(one.kind, one.subject_id, one.what, one.days) for one in found.itertuples()]


def test_a_score_is_overdue_from_the_day_after_its_day_and_missed_once_its_window_closed():
    own = cohort([with_pain(1, 7, 6, 6, not_due=frozenset({"week_4"}))])  # week 4: 3 February, open until 10 February
    kept = {day: [one for one in listed(own, date(2025, 2, day)) if one[2] == "Week 4"] for day in (3, 4, 10, 11)}
    assert kept[3] == []
    assert kept[4] == [("score overdue", "p0001", "Week 4", 1)]
    assert kept[10] == [("score overdue", "p0001", "Week 4", 7)]
    assert kept[11] == [("score missed", "p0001", "Week 4", 8)]
    assert not [one for one in listed(own, date(2025, 3, 11)) if one[2] == "Week 4"]  # 29 days after it closed


def test_nobody_asks_the_dead_for_a_score():
    own = cohort([with_pain(1, 7)])
    death = {
        "subject_id": "p0001",
        "kind": "death",
        "term": "",
        "happened_on": None,
        "study_day": None,
        "source_ref": "x",
    }
    gone = replace(own, intercurrent=pd.concat([own.intercurrent, pd.DataFrame([death])], ignore_index=True))
    assert [one[0] for one in listed(own, date(2025, 2, 4))].count("score overdue") == 1
    assert "score overdue" not in [one[0] for one in listed(gone, date(2025, 2, 4))]


def test_a_session_without_readings_says_what_is_lacking():
    own = cohort([with_pain(1, 7)], observations=[reading(1, "p0001", "oxygen_saturation", 97, 30)])
    assert listed(own, date(2025, 1, 7))[-1] == (
        "session not fully watched", "p0001", "session 1: no blood pressure before and after", 1,
    )  # fmt: skip


def test_an_answer_to_review_comes_first_once_a_person_and_never_with_its_value():
    answers = [
        reading(1, "p0001", "phq9", 2, None, item="phq9-9", taken_on=pd.Timestamp("2025-02-01")),
        reading(2, "p0001", "phq9_item9", 3, None, taken_on=pd.Timestamp("2025-02-02")),
        reading(3, "p0002", "phq9", 0, None, item="phq9-9"),
    ]
    own = cohort([with_pain(1, 7), with_pain(2, 7)], observations=answers)
    found = listed(own, date(2025, 2, 4))
    assert found[0] == ("answer to review", "p0001", "suicidality", 2)
    assert [one[0] for one in found].count("answer to review") == 1


def test_nothing_to_see_to_is_an_empty_list():
    own = all_at_once(12)
    assert listed(own, date(2030, 1, 1)) == []


def test_the_list_names_people_by_code_in_the_internal_edition_only():
    internal, release = (quality_fixture.releasable(64, edition) for edition in EDITIONS)
    assert release.actions is None
    assert "subject_id" not in internal.actions
    codes, names = set(internal.actions["code"]), set(quality_fixture.tables().subjects["subject_id"])
    inside, outside = (page(quality_fixture.model(64, edition)) for edition in EDITIONS)
    assert all(code in inside and code not in outside for code in codes)
    assert not [name for name in names if re.search(rf"\b{name}\b", inside + outside)]


def test_without_a_key_there_is_no_list():
    own, study = quality_fixture.tables(12), the_study()
    analysis = analyse(own, study, as_of=quality_fixture.AS_OF)
    assert disclose(analysis, own, study, "internal").actions is None


def page(model) -> str:
    return page_html(model, the_study().root / "templates")


# --- codes --------------------------------------------------------------------------------------------------------


def test_a_code_is_the_same_in_one_home_and_another_one_elsewhere(tmp_path):
    here, again, there = (Home.at(tmp_path / name) for name in ("here", "here", "there"))
    code_of = pseudonyms.coder(here)
    assert code_of("Patient-1") == pseudonyms.coder(again)("Patient-1") != pseudonyms.coder(there)("Patient-1")
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}", code_of("Patient-1"))
    assert (here.root / "pseudonym.key").stat().st_mode & 0o777 == 0o600


def test_a_code_leads_back_to_the_person_where_the_key_is(tmp_path):
    here, there = Home.at(tmp_path / "here"), Home.at(tmp_path / "there")
    people = [f"p{number:04d}" for number in range(500)]
    code = pseudonyms.coder(here)("p0123")
    assert pseudonyms.person(here, f" {code.lower()} ", people) == ("p0123",)
    assert pseudonyms.person(there, code, people) == ()


# --- definitions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"measures": [{"id": "on_time", "label": "A"}] * 2}, "watched once"),
        ({"measures": [{"id": "as_planned", "label": "A"}]}, "quality.series"),
        ({"measures": [{"id": "on_time", "label": "A", "fixed_after": 11}]}, "at least 12 months"),
        ({"measures": [{"id": "sessions_per_week", "label": "A", "chart": "p"}]}, "for percentages"),
        ({"measures": [{"id": "on_time", "label": "A", "rebases": [{"on": "2026-01-01", "reason": " "}]}]}, "reason"),
        (
            {"measures": [{"id": "on_time", "label": "A", "rebases": [{"on": day, "reason": "b"} for day in ("2026-02-01", "2026-01-01")]}]},
            "must rise",
        ),
        ({"measures": [{"id": name, "label": "A", "front": True} for name in
                       ("on_time", "monitored", "response", "adverse_events", "days_to_first_dose", "sessions_per_week")]}, "at most 5"),
        ({"months": 12}, "months"),
    ],
)  # fmt: skip
def test_a_definition_that_cannot_be_meant_is_refused(wrong, says):
    with pytest.raises(ValidationError, match=says):
        Quality.model_validate(wrong)


def test_the_night_makes_the_quality_report_and_the_evidence_report():
    nightly = next(one for one in read(the_study().root / "prefect.yaml").deployments if one.name == "nightly")
    assert nightly.parameters["params"]["reports"] == ["quality", "evidence"]


# --- what is said -------------------------------------------------------------------------------------------------


def watch_of(values, measure: str = "monitored", **changes) -> Watch:
    """A measure whose months from January 2025 on have these percentages of 50 sessions."""
    study = the_study()
    own = next(one for one in study.protocol.quality.measures if one.id == measure).model_copy(update=changes)
    found = quality_fixture.facts().every("quality", "month", measure=measure)[0]
    made = tuple(
        replace(found, visit=f"{2025 + i // 12}-{1 + i % 12:02d}", estimate=float(value), k=value // 2, n=50)
        for i, value in enumerate(values)
    )
    return Watch(own, study.protocol.quality, made)


@pytest.mark.parametrize(
    ("values", "changes", "words"),
    [
        ((80, 84) * 7, {"target": None}, "In its usual range (71% to 93%). No signal in 14 months."),
        ((80, 84) * 7, {"target": 95}, "Target 95%: missed every month if nothing changes."),
        ((80, 84) * 7, {"target": 60}, "Target 60%: met every month if nothing changes."),
        ((80, 84) * 7, {"target": 85}, "Target 85%: met or missed by chance."),
        ((80, 84) * 7 + (20,), {"target": None}, "Below the lower limit (67%)."),
        ((80, 84) * 6 + (87, 88) * 4, {"fixed_after": 12, "target": 95}, "Above the mean 9 months in a row, since Dec 2025. Limits need review."),
        ((84, 80) * 6 + (78, 79, 80, 81, 82, 83, 84), {"target": None}, "Rising over 7 months, since Jan 2026."),
        ((0, 100) * 7, {"target": None}, "Too few a month for limits inside the scale. No signal in 14 months."),
        ((80, 84) * 6, {}, "Run chart of 12 months (limits from 13), median 82%: no unusual run."),
        ((80,) * 5 + (84,) * 5, {}, "only 1 crossing of the median, fewer than chance gives."),
        ((80,), {}, "Run chart of 1 month (limits from 13), median 80%: no unusual run."),
        ((), {}, "No complete month has a value yet."),
    ],
)  # fmt: skip
def test_the_sentence_of_a_measure_follows_from_the_rules(values, changes, words):
    assert words in said(watch_of(values, **changes))


def test_fixed_limits_that_need_review_show_no_target_icon():
    watch = watch_of((80, 84) * 6 + (90, 91) * 4, fixed_after=12, target=95)
    assert (watch.target, watch.state) == ("none", "improving")
    assert "Target" not in said(watch)


def test_a_rebase_starts_a_new_process_in_its_month_and_its_reason_stands_on_the_chart():
    plan = the_study().protocol.quality
    rebase = Rebase(on=date(2026, 2, 17), reason="New monitors")
    measures = tuple(
        one.model_copy(update={"rebases": (rebase,) if one.id == "monitored" else ()}) for one in plan.measures
    )
    study, own = study_with(measures=measures), quality_fixture.tables()
    made = disclose(analyse(own, study, as_of=quality_fixture.AS_OF), own, study, "internal")
    facts = Facts(made, study, study.reports["quality"], quality_fixture.provenance())
    watch = next(one for one in watched(facts) if one.id == "monitored")
    assert [watch.series.months[segment.start] for segment in watch.chart.segments] == ["2025-01", "2026-02"]
    assert [one.visit for one in facts.every("quality", "centre", measure="monitored")] == ["2025-01", "2026-02"]
    section = next(s for s in compose(made, study, facts.report, facts.provenance).sections if s.id == "charts")
    assert "New monitors, Feb 2026" in section.figures["monitored"].svg


def test_the_headline_counts_the_measures_that_signal_and_names_them():
    found = "".join(run.text for run in quality_fixture.model().sections[0].headline)
    assert found.startswith("1 of 5 measures signals a change: monitoring recorded in full (of concern).")


@pytest.mark.parametrize(("n", "edition"), [*((n, "internal") for n in (0, 1, 2, 12, 64)), (64, "release")])
def test_a_cohort_of_any_size_makes_a_quality_report_without_a_hole(n, edition):
    model = quality_fixture.model(n, edition)
    words = "\n".join(line for section in model.sections for line in lines(section))
    assert not re.search(r"\bnan\b|None\b(?! of)|<NA>|inf\b|-0\.0|−0\.0\b", words.replace("| None", ""))
    assert [word for word in BANNED if re.search(rf"\b{word}\b", words.lower())] == []
    assert not re.search(r"\bp\s*[<=]", words.lower())
    assert not re.search(r"\b(red|amber|green) (light|status|rating)", words.lower())
    assert page(model)


def test_a_small_clinic_has_run_charts_with_medians_and_no_icon():
    facts = quality_fixture.facts(2)
    states = {watch.id: watch.state for watch in watched(facts)}
    assert states["on_time"] == "none"
    table = quality_fixture.model(2).sections[0].tables["watch"]
    assert table.rows[0][3].drawing.state == "none"


def test_the_release_edition_shows_no_month_and_says_why():
    release = quality_fixture.releasable(64, "release")
    assert "quality" not in set(release.estimates["section"])
    model = quality_fixture.model(64, "release")
    sections = {section.id: section for section in model.sections}
    assert not any(sections[name].figures or sections[name].tables for name in ("charts", "process", "actions"))
    words = "\n".join(line for section in model.sections for line in lines(section))
    assert SMALL.findall(words) == []
    assert "two monthly reports could be subtracted" in words
    assert "<svg" not in page(model)


# --- drawings -----------------------------------------------------------------------------------------------------


@pytest.fixture
def style():
    with figure_kit.drawing(the_study().root / "templates"):
        yield


def drawn(values, *, size: str = "small", settings: spc.Settings | None = None, sizes=None, rebases=(), **more) -> str:
    chart = spc.chart(values, settings or spc.Settings(), sizes=sizes, rebases=rebases)
    places = tuple(place_of(f"{2024 + i // 12}-{1 + i % 12:02d}") for i in range(len(values)))
    states = tuple(spc.state(hits, "higher") for hits in chart.hits)
    marks = tuple((places[i], "A reason as long as it may be, in sixty characters or more, Feb 2026") for i in rebases)
    return control(Control(chart, places, states, 0, marks=marks, **more), size, "key", "alt")


@pytest.mark.parametrize("size", ["wide", "small"])
@pytest.mark.parametrize(
    "values", [(50.0,), (50.0,) * 2, (50.0,) * 36, (0.0, 100.0) * 18, (0.1, 0.2) * 7, (1234.5, 99.0) * 20]
)
def test_a_chart_keeps_its_labels_apart_whatever_the_values(values, size, style):
    for target in (None, 0.0, values[0], 2000.0):
        assert "Mean" in (svg := drawn(values, size=size, target=target)) or "Median" in svg


@pytest.mark.parametrize("size", ["wide", "small"])
@pytest.mark.parametrize("rebases", [(1,), (18,), (19,), (35,), (2, 3, 30)])
def test_reasons_of_rebases_stand_inside_the_figure_one_above_the_other(size, rebases, style):
    assert drawn((50.0, 55.0) * 18, size=size, rebases=rebases).count("A reason") == len(rebases)


def test_limits_that_widen_are_drawn_as_steps_and_cut_to_the_scale(style):
    sizes = (100, 10) * 8
    svg = drawn((90.0, 95.0) * 8, settings=spc.Settings(kind="p"), sizes=sizes, top=100.0, suffix="%")
    assert "Upper limit 100%" in svg


def test_a_month_that_signals_has_the_colour_of_its_state(style):
    svg = drawn((50.0, 52.0) * 7 + (90.0,), settings=spc.Settings(fixed_after=12))
    assert figure_kit.BLUE in svg
    assert figure_kit.ORANGE not in svg


def test_the_small_line_has_a_band_only_where_there_are_limits():
    long, short = (spc.chart((50.0, 60.0) * n) for n in (7, 6))
    both = [
        months(chart, range(len(chart.values)), ("common",) * len(chart.values), 100.0, "alt")
        for chart in (long, short)
    ]
    assert [len(one.bands) for one in both] == [1, 0]
    assert [len(one.dots) for one in both] == [1, 1]


def test_a_chart_of_one_month_has_a_dot_and_no_band():
    one = months(spc.chart((5.0,)), (1,), ("none",), None, "alt")
    assert (one.bands, len(one.dots)) == ((), 1)


# --- the PDF ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pdf(tmp_path_factory):
    path = tmp_path_factory.mktemp("quality") / "report.pdf"
    path.write_bytes(render(quality_fixture.model(), the_study().root).pdf)
    return path


def pages(path) -> list[str]:
    said = subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True).stdout
    return said.rstrip("\f").split("\f")


def test_the_pdf_passes_every_rule_of_pdf_ua_1(pdf):
    checked = page_validation.validate_pdf(str(pdf), profile="ua1")
    assert checked.is_compliant, checked


def test_page_one_holds_every_measure_the_limits_and_the_contents(pdf):
    first, *others = pages(pdf)
    shown = (*(f"Figure {number}." for number in range(1, 6)), "Table 2.")
    assert all(
        words in first for words in ("Five measures to watch", "In plain words", "cannot tell you", "Action list")
    )
    assert all(words in others[0] for words in shown)  # the charts of page 1 and their numbers stand on one page
    assert len(others) <= 6


def test_page_one_holds_its_contents_with_names_and_sentences_a_third_longer():
    study, model = the_study(), quality_fixture.model()
    front, *others = model.sections
    table = front.tables["watch"]

    def longer(text: str) -> str:
        return f"{text} {text[: len(text) // 3]}"

    rows = tuple(
        tuple(
            replace(cell, text=cell.text if cell.is_big else longer(cell.text)) if cell.text else cell for cell in one
        )
        for one in table.rows
    )
    text = {name: tuple(longer(line) for line in part) for name, part in front.text.items()}
    made = replace(front, tables={"watch": replace(table, rows=rows)}, text=text)
    document = pikepdf.open(io.BytesIO(render(replace(model, sections=(made, *others)), study.root).pdf))
    links = {str(link.Dest) for link in document.pages[0].get("/Annots", ())}
    assert links == {section.id for section in model.contents}


@pytest.mark.parametrize("n", [2, 64])
def test_every_drawing_has_a_text_alternative_and_every_id_is_unique(n):
    outline = Outline(page(quality_fixture.model(n)))
    assert outline.svg_titles
    assert all(outline.svg_titles)
    assert len(outline.ids) == len(set(outline.ids))
