"""Pages about single people: what they show, whom they name, that they never leave the clinic, and that no page is lost in silence."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from datetime import date, timedelta

import pandas as pd
import pikepdf
import pytest
from cohort_tables import the_study
from patient_fixture import DOSES_ONLY, FULL, SINGLE, UNSURE, WEEK_14, code_of, origin, page, person, tables
from report_fixture import releasable
from test_sections import BANNED, lines
from typer.testing import CliRunner

from crps_outcomes import person_pages, pseudonyms
from crps_outcomes.cli import app
from crps_outcomes.errors import DefinitionError, PipelineError
from crps_outcomes.figure_kit import drawing
from crps_outcomes.home import Home
from crps_outcomes.params import NightlyParams, parse
from crps_outcomes.person import each, of_one
from crps_outcomes.person_figure import Level, Mark, Panel, trajectory
from crps_outcomes.person_pages import Made, Task, batch, complain, publish, tasks_of, told
from crps_outcomes.person_scores import is_reliable, reached, thresholds_of
from crps_outcomes.settings import study as study_of
from crps_outcomes.stages.compose import compose, compose_person
from crps_outcomes.stages.render import page_html, render
from crps_outcomes.tables import OUTCOMES, finish

EVERYBODY = (FULL, SINGLE, DOSES_ONLY, UNSURE)
TEMPLATES = the_study().root / "templates"


def said(subject: str = FULL, **of) -> str:
    return "\n".join(line for section in page(subject, **of).sections for line in lines(section))


def section(name: str, subject: str = FULL, **of):
    return next(one for one in page(subject, **of).sections if one.id == name)


# --- what it shows --------------------------------------------------------------------------------------------------


def test_start_and_latest_scores_stand_beside_their_change_thresholds_and_reliable_change():
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in section("patient_scores").tables["scores"].rows}
    assert rows["Pain, points, 0 to 10"] == ["7.0", "4.5, week 12", "−2.5", "−2; −30%", "beyond 2.2 [example]"]
    assert rows["Depression (PHQ-9), points, 0 to 27"][-1] == "not declared"
    assert rows["Physical function, T-score"][3] == "+2 [unconfirmed]"


def test_a_score_in_a_window_that_is_still_open_stands_on_the_page():
    own = tables()
    at = (own.outcomes["subject_id"] == FULL) & (own.outcomes["visit"] == "week_12")
    value = own.outcomes["value"]
    early = own.outcomes.assign(provisional=value.where(at), value=value.mask(at))
    early["state"] = early["state"].mask(at & value.notna(), "not due")
    assert person(of=replace(own, outcomes=early)).scores("pain_nrs") == person(of=own).scores("pain_nrs")


def test_the_heading_is_computed_and_keeps_the_mark_of_what_is_not_confirmed():
    assert section("patient_scores").finding == (
        "Pain is 2.5 points lower at week 12 than at the start, beyond the reliable change of 2.2 [example]"
    )


@pytest.mark.parametrize(("change", "wanted"), [(-2.2, "within"), (-2.3, "beyond"), (2.3, "beyond"), (0.0, "within")])
def test_a_change_is_reliable_beyond_the_known_answer_of_2_23_points(change, wanted):
    assert is_reliable(the_study().measures["pain_nrs"], change).startswith(f"{wanted} 2.2")


def test_a_threshold_in_percent_stands_at_its_share_of_the_start_score():
    held = {one.words: one for one in thresholds_of(person(), the_study().measures["pain_nrs"])}
    assert held["−30%"].at == pytest.approx(4.9)
    assert held["−2"].at == pytest.approx(5)
    assert reached(-2.1, held["−30%"])
    assert not reached(-2.0, held["−30%"])


def test_without_a_start_score_there_is_no_threshold_and_no_change():
    frame = tables().outcomes
    own = replace(tables(), outcomes=frame[frame["visit"] != "baseline"])
    made = person(of=own)
    assert thresholds_of(made, the_study().measures["pain_nrs"]) == ()
    finding = compose_person(made, the_study().reports["patient"]).sections[1].finding
    assert finding.startswith("There is no change of pain to tell")


def test_the_drawing_has_every_measure_with_a_score_and_every_dose():
    svg = section("patient").figures["course"].svg
    for measure in person().measures:
        assert f">{measure.short}: " in svg
    assert "9 sessions, 30 to 60 mg." in svg
    assert "reliable change not declared" in svg


def test_sessions_show_their_peaks_and_what_was_not_read_is_no_number():
    rows = [[cell.text for cell in row] for row in section("patient_safety").tables["sessions"].rows]
    assert rows[-1] == ["1: 6 Jan 2025", "30.0", "0.38", "122", "146", "95", "[x]"]
    assert rows[0][3:] == ["[x]"] * 4
    assert "blood pressure was watched in 6 of 9 sessions" in section("patient_safety").finding


def test_next_scores_have_their_planned_day_and_window():
    made = section("patient_next", own=origin(date(2025, 2, 1)))
    rows = [[cell.text for cell in row] for row in made.tables["next"].rows]
    assert rows[0] == ["Week 8", "3 Mar 2025", "21 Feb 2025 to 13 Mar 2025", "Pain interference"]
    assert ["Week 26", "7 Jul 2025", "16 Jun 2025 to 28 Jul 2025", "all"] in rows
    assert made.finding.startswith("Next scores: ")


def test_an_answer_for_clinical_review_is_an_open_item_without_the_answer_however_old():
    for as_of in (WEEK_14, WEEK_14 + timedelta(days=700)):
        first = section("patient_next", own=origin(as_of)).tables["open"].rows[0]
        assert [cell.text for cell in first] == [
            "For clinical review", "Suicidality: an answer above the cut of the protocol; see the record", "31 Mar 2025",
        ]  # fmt: skip
    assert "Suicidality" not in said(SINGLE)


def test_scores_that_are_missing_are_open_items():
    rows = [[cell.text for cell in row] for row in section("patient_next").tables["open"].rows]
    assert ["Score missing", "Week 8: Pain interference", "by 13 Mar 2025"] in rows
    assert ["Not fully watched", "Sessions 7, 8 and 9: no oxygen saturation after", "3 Mar 2025"] in rows


def test_every_score_session_and_event_names_its_sources_in_the_model():
    frame = tables().outcomes.assign(source_refs="Observation/a Observation/b")
    made = compose_person(
        person(of=replace(tables(), outcomes=finish(OUTCOMES, frame))), the_study().reports["patient"]
    )
    refs = {key: value for one in made.sections for key, value in one.refs.items()}
    assert refs["pain_nrs/week_4"] == ("Observation/a", "Observation/b")
    assert refs["session 2"] == (f"MedicationAdministration/{FULL}-2",)
    assert refs["event Nausea"] == ("AdverseEvent/0", "AdverseEvent/1")


@pytest.mark.parametrize("subject", EVERYBODY)
def test_no_cause_is_named_and_nothing_is_left_blank(subject):
    words = said(subject)
    assert [word for word in BANNED if word != "mild" and re.search(rf"\b{word}\b", words.lower())] == []
    assert not re.search(r"\bnan\b|None\b(?! of)|<NA>|NaT|inf\b|−0\.0\b", words)


@pytest.mark.parametrize(("subject", "words"), [
    (SINGLE, "Pain: 6 at the start (only this one)"), (DOSES_ONLY, "No pain score is on record"),
    (UNSURE, "1 intramuscular session on record"), (DOSES_ONLY, "No event is on record. That is not the same as no event."),
])  # fmt: skip
def test_little_data_make_a_page_that_says_so(subject, words):
    assert words in said(subject)


# --- the drawing at its edges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("doses", [
    [], [Mark(0, None)], [Mark(0, 40)] * 3, [Mark(week / 3, 30 + week) for week in range(80)],
    [Mark(-90, 40, is_session=False), Mark(0, 1.5)],
])  # fmt: skip
@pytest.mark.parametrize("panels", [
    [], [Panel("One", [(0, 5)], (0, 10), "5")],
    [Panel("Edges", [(-4, 0), (200, 100)], (0, 100), "100", [Level(99, "a"), Level(100, "b [unconfirmed]"), Level(98, "c")], (0, 9))],
])  # fmt: skip
def test_labels_never_touch_or_leave_the_drawing(panels, doses):
    with drawing(TEMPLATES):
        assert "<title>" in trajectory(panels, doses, "edge", "alt")


# --- who it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", EVERYBODY)
def test_no_identifier_of_the_source_stands_anywhere_on_the_page(subject):
    model = page(subject)
    html = page_html(model, TEMPLATES)
    assert code_of(subject) in html
    assert not [one for one in EVERYBODY if one in html]
    assert not re.search(r"(Patient|Observation|MedicationAdministration|AdverseEvent)/", html)


def test_the_pdf_and_its_metadata_carry_the_code_and_no_identifier():
    with pikepdf.open(io.BytesIO(render(page(SINGLE), the_study().root).pdf)) as pdf:
        about = " ".join(str(value) for value in pdf.docinfo.values())
        assert code_of(SINGLE) in about
        assert SINGLE not in about
        assert len(pdf.pages) <= 2


def test_a_person_sees_rows_of_nobody_else():
    own = of_one(tables(), FULL)
    for name in ("subjects", "doses", "observations", "events", "outcomes", "context"):
        assert set(getattr(own, name)["subject_id"]) == {FULL}
    assert own.ledger.empty
    assert own.rejections.empty


# --- never in a release ---------------------------------------------------------------------------------------------


def test_a_release_edition_is_refused_by_the_page_the_command_and_the_run(tmp_path):
    with pytest.raises(DefinitionError, match="nothing about a single person leaves the clinic"):
        compose_person(person(own=origin(edition="release")), the_study().reports["patient"])
    with pytest.raises(DefinitionError, match="crps-outcomes patient"):
        compose(releasable(), the_study(), the_study().reports["patient"], origin())
    with pytest.raises(DefinitionError, match="never part of a run or of a release edition"):
        study_of(parse(NightlyParams, {"source": str(tmp_path), "reports": ["patient"], "edition": "release"}))
    done = CliRunner().invoke(app, ["patient", "--all", "--edition", "release", "--out", str(tmp_path / "home")])
    assert done.exit_code == 2
    assert "release" in done.stderr


@pytest.mark.parametrize("options", [[], ["--all", "--patient", "7QK2-M9XA"]])
def test_the_command_wants_either_everybody_or_somebody(tmp_path, options):
    done = CliRunner().invoke(app, ["patient", *options, "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "either --all or --patient" in done.stderr


# --- the batch ------------------------------------------------------------------------------------------------------


def tasks(*subjects: str) -> list[Task]:
    return [
        Task(code_of(one), of_one(tables(), one), origin(study=the_study().digest), the_study().root)
        for one in subjects
    ]


def broken(task: Task) -> Task:
    """The same person with a score at a visit that no protocol has."""
    odd = task.tables.outcomes.assign(visit="week_99", value=5.0).iloc[:1]
    return replace(task, tables=replace(task.tables, outcomes=odd))


@pytest.fixture(scope="module")
def made() -> tuple[Made, ...]:
    good, bad = tasks(SINGLE, DOSES_ONLY)
    return batch([good, broken(bad)], workers=2)


def test_workers_make_the_pages_that_this_process_would_make(made):
    study_alone = replace(origin(study=the_study().digest))
    model = compose_person(person(SINGLE, study_alone), the_study().reports["patient"])
    assert made[0].pdf == render(model, the_study().root).pdf


def test_a_page_that_fails_is_listed_by_code_and_the_batch_fails(made, tmp_path):
    assert [bool(one.failed) for one in made] == [False, True]
    home = Home.at(tmp_path)
    folder = publish(made, the_study(), origin(), home, is_whole=True, without=3)
    assert folder.name.startswith("INCOMPLETE-patient-internal-")
    assert {path.name for path in folder.iterdir()} == {f"{code_of(SINGLE)}.pdf", "index.html", "provenance.json"}
    index = (folder / "index.html").read_text()
    assert "INCOMPLETE: 1 of 2 pages could not be made" in index
    assert f"{code_of(DOSES_ONLY)}: unforeseen KeyError" in index
    assert f'href="{code_of(SINGLE)}.pdf"' in index
    assert "without a page: 3" in index
    assert "week_99" not in index
    assert list(told(made)) == ["1 of 2 pages made", f"no page about {code_of(DOSES_ONLY)}: unforeseen KeyError"]
    with pytest.raises(PipelineError, match="1 of 2 pages could not be made"):
        complain(made)


def test_a_batch_without_a_failure_ends_well_and_made_again_is_the_same_folder(made, tmp_path):
    home = Home.at(tmp_path)
    first = publish(made[:1], the_study(), origin(), home, is_whole=True, without=0)
    assert first == publish(made[:1], the_study(), origin(), home, is_whole=True, without=0)
    assert not first.name.startswith("INCOMPLETE")
    assert json.loads((first / "provenance.json").read_text())["report"] == "patient"
    assert all(path.stat().st_mode & 0o077 == 0 for path in first.iterdir())
    complain(made[:1])


def _die(_: Task) -> Made:
    import os  # noqa: PLC0415 - in the worker

    os._exit(7)


def test_a_worker_that_dies_fails_its_pages_loudly(monkeypatch):
    monkeypatch.setattr(person_pages, "make", _die)
    assert [one.failed for one in batch(tasks(SINGLE), workers=1)] == [person_pages.DIED]


def test_pages_are_made_of_everybody_with_a_dose_or_of_those_asked_for(tmp_path):
    home = Home.at(tmp_path)
    code = pseudonyms.coder(home)
    everybody = tasks_of(tables(), the_study(), origin(), home, [])
    assert {task.code for task in everybody} == {code(subject) for subject in EVERYBODY}
    [one] = tasks_of(tables(), the_study(), origin(), home, [code(FULL).lower()])
    assert set(one.tables.subjects["subject_id"]) == {FULL}
    with pytest.raises(DefinitionError, match="nobody's"):
        tasks_of(tables(), the_study(), origin(), home, ["AAAA-AAAA"])


def test_two_people_under_one_code_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pseudonyms, "coder", lambda _: lambda _: "AAAA-AAAA")
    with pytest.raises(PipelineError, match="one code"):
        tasks_of(tables(), the_study(), origin(), Home.at(tmp_path), [])


def test_who_never_had_a_dose_has_no_page():
    frame = tables().subjects
    none = replace(tables(), subjects=frame.assign(first_dose_on=pd.Series(pd.NaT, index=frame.index)))
    assert list(each(none, the_study(), origin(), code_of)) == []


def test_the_key_of_the_codes_is_private_and_stays(tmp_path):
    home = Home.at(tmp_path)
    first = pseudonyms.coder(home)(FULL)
    assert first == pseudonyms.coder(home)(FULL)
    assert (home.root / "pseudonym.key").stat().st_mode & 0o777 == 0o600
