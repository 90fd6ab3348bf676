"""The analysis plan over time: a change after data were seen is kept, told in words, and told the same each time."""

from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import replace
from datetime import date

import pytest
from cohort_tables import the_study
from report_fixture import provenance, releasable
from small_cohort import cohort, pulled_from

from crps_outcomes import pipeline
from crps_outcomes.facts import Facts
from crps_outcomes.home import Home
from crps_outcomes.params import Edition
from crps_outcomes.plan_history import PARTS, Difference, canonical, sighting, told
from crps_outcomes.provenance import with_history
from crps_outcomes.restatement import Reason, Restatement
from crps_outcomes.sections.methods import methods
from crps_outcomes.sections.summary import cannot_tell
from crps_outcomes.stages.render import Rendered
from crps_outcomes.state import Records, RunRow
from crps_outcomes.study import CARD, load, locate
from faulty_server import FaultyServer

PROTOCOL = the_study().protocol
RUN = RunRow("r1", "evidence", "internal", "s" * 64, "t" * 64, "c" * 64, "2026-03-01", "complete")


def with_outcomes(**changes):
    return PROTOCOL.model_copy(update={"outcomes": PROTOCOL.outcomes.model_copy(update=changes)})


OTHER = with_outcomes(primary_visit="week_8", responder_percents=(30,))


@pytest.fixture
def records(tmp_path):
    return Records(Home.at(tmp_path / "home").state_url)


def seen(records, *plans):
    for protocol, on in plans:
        records.see_plan(sighting(protocol, on), "t" * 64)
    return told(plans[-1][0], records.plans())


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_the_first_day_of_a_plan_is_kept_and_a_plan_that_stays_is_written_once(records):
    plan = seen(records, (PROTOCOL, "2026-03-01"), (PROTOCOL, "2026-04-01"), (PROTOCOL, "2026-02-01"))
    assert (plan.first_on, plan.changes) == ("2026-03-01", ())
    assert [one.seen_on for one in records.plans()] == ["2026-03-01"]


def test_a_change_is_told_with_what_was_before_and_what_is_now(records):
    (change,) = seen(records, (PROTOCOL, "2026-03-01"), (OTHER, "2026-04-01")).changes
    assert change.on == "2026-04-01"
    assert change.differences == (
        Difference("outcomes: primary visit", "week 4", "week 8"),
        Difference("outcomes: responder percents", "30, 50", "30"),
    )


def test_a_change_back_is_a_second_change_and_the_first_day_stays(records):
    plan = seen(records, (PROTOCOL, "2026-03-01"), (OTHER, "2026-04-01"), (PROTOCOL, "2026-05-01"))
    assert plan.first_on == "2026-03-01"
    assert [one.on for one in plan.changes] == ["2026-04-01", "2026-05-01"]
    assert plan.changes[1].differences[0] == Difference("outcomes: primary visit", "week 8", "week 4")


def test_a_visit_put_in_between_is_one_difference():
    more = PROTOCOL.model_copy(update={"visits": (*PROTOCOL.visits[:2], PROTOCOL.visits[2].model_copy(
        update={"id": "week_3", "label": "Week 3", "day": 21, "window_days": (19, 20)}), *PROTOCOL.visits[2:])})  # fmt: skip
    first, second = sighting(PROTOCOL, "2026-03-01"), sighting(more, "2026-04-01")
    (change,) = told(more, (first, second)).changes
    expected = "id: week 3; label: Week 3; day: 21; window days: 19 to 20"
    assert [(one.entry, one.before) for one in change.differences] == [("visits: week 3", "not in the plan")]
    assert sorted(change.differences[0].after.split("; ")) == sorted(expected.split("; "))


def test_entries_in_another_order_are_a_change_that_says_so():
    turned = PROTOCOL.model_copy(update={"visits": PROTOCOL.visits[::-1]})
    (change,) = told(turned, (sighting(PROTOCOL, "2026-03-01"), sighting(turned, "2026-04-01"))).changes
    assert [one.entry for one in change.differences] == ["order of entries"]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_that_decides_what_is_estimated_is_in_the_digest(part):
    assert part in json.loads(canonical(PROTOCOL))


def test_how_data_are_pulled_and_what_may_leave_is_no_part_of_the_plan():
    other = {"title": "Another", "site": "Another", "is_example": False,
             "pull": PROTOCOL.pull.model_copy(update={"page_size": 17})}  # fmt: skip
    assert canonical(PROTOCOL.model_copy(update=other)) == canonical(PROTOCOL)


# --- databases of earlier versions ----------------------------------------------------------------------------------


@pytest.fixture
def old_home(tmp_path):
    """A home whose database was made before plans and the order of runs were kept, with one run in it."""
    home = Home.at(tmp_path / "home")
    path = home.state_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE runs (run_id VARCHAR(80) PRIMARY KEY, report VARCHAR, edition VARCHAR, snapshot VARCHAR(64), "
            "study VARCHAR(64), code VARCHAR(64), as_of VARCHAR, status VARCHAR)"
        )
        connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [*vars(RUN).values()])
    return home


def test_a_database_of_an_earlier_version_goes_on_and_says_that_its_plan_was_not_kept(old_home):
    records = Records(old_home.state_url)
    assert records.runs() == (RUN,)
    records.see_plan(sighting(PROTOCOL, "2026-04-01"), "another study")
    plan = told(PROTOCOL, records.plans())
    assert plan.first_on == "2026-04-01"
    assert [one.differences for one in plan.changes] == [()]
    words = "\n".join(methods(told_by(plan)).text["plan"])
    assert "whose plan was not kept: whether the plan changed after data had been seen is not known" in words


def test_runs_of_the_same_study_folder_used_the_same_plan(old_home):
    records = Records(old_home.state_url)
    records.see_plan(sighting(PROTOCOL, "2026-04-01"), RUN.study)
    assert told(PROTOCOL, records.plans()).changes == ()


def test_a_run_of_before_the_order_was_kept_is_the_earliest(old_home):
    records = Records(old_home.state_url)
    now = replace(RUN, run_id="r3", snapshot="3" * 64, as_of="2026-03-02")
    assert records.run_before(now) == RUN
    newer = replace(RUN, run_id="r2", snapshot="2" * 64, as_of="2026-02-01")
    records.add_run(newer)
    assert records.run_before(now) == newer


# --- the run before -------------------------------------------------------------------------------------------------


def test_the_run_before_is_the_latest_final_one_of_its_kind_and_never_the_run_itself(records):
    other = replace(RUN, run_id="r2", code="d" * 64)
    for run in (RUN, other, replace(RUN, run_id="r3", report="quality"), replace(RUN, run_id="r4", edition="release"),
                replace(RUN, run_id="r5", status="incomplete", snapshot="5" * 64)):  # fmt: skip
        records.add_run(run)
    assert records.run_before(other) == RUN
    assert records.run_before(replace(RUN, run_id="again")) == other


def test_a_report_of_a_later_day_is_never_the_one_before(records):
    records.add_run(replace(RUN, run_id="r2", snapshot="2" * 64, as_of="2026-03-02"))
    assert records.run_before(RUN) is None


def test_a_run_made_again_has_the_run_before_it_that_it_had_whatever_came_after(records):
    second, third = (replace(RUN, run_id=f"r{number}", snapshot=str(number) * 64) for number in (2, 3))
    for run in (RUN, second, third):
        before = records.run_before(run)
        records.add_run(run)
        records.keep_before(run, before)
    assert [records.run_before(run) for run in (RUN, second, third)] == [None, RUN, second]
    records.keep_before(second, third)
    assert records.run_before(replace(second, run_id="in another form")) == RUN


def test_what_a_report_tells_of_the_one_before_is_part_of_its_identity():
    traced = replace(provenance(), before_run="", restated="")
    told = Restatement("r1", "2026-03-01", "s" * 64)
    known = with_history(traced, traced.plan, told)
    other = with_history(traced, traced.plan, replace(told, reasons=(Reason("amended", 1, 1, 0),)))
    assert with_history(traced, traced.plan) == traced
    assert len({traced.run_id, known.run_id, other.run_id}) == 3


# --- what is printed ------------------------------------------------------------------------------------------------


def told_by(plan, **changes) -> Facts:
    own = replace(provenance(), plan=plan, **changes)
    return Facts(releasable(), the_study(), the_study().reports["evidence"], own)


def test_a_report_prints_what_changed_when_and_page_one_warns(records):
    plan = seen(records, (PROTOCOL, "2026-03-01"), (OTHER, "2026-04-01"))
    made = methods(told_by(plan))
    assert made.text["plan"][0].startswith(
        f"Analysis plan {plan.digest[:12]}: first used here on the data of 1 Apr 2026."
    )
    assert made.text["plan"][1] == (
        "The analysis plan changed on 1 Apr 2026 (day of the data), after data had been seen: outcomes: primary visit, from "
        "week 4 to week 8; outcomes: responder percents, from 30, 50 to 30."
    )
    assert [[cell.text for cell in line] for line in made.tables["plan"].rows] == [
        ["1 Apr 2026", "Outcomes: primary visit", "week 4", "week 8"],
        ["1 Apr 2026", "Outcomes: responder percents", "30, 50", "30"],
    ]
    warned = [line for line in cannot_tell(told_by(plan)) if "plan" in line]
    assert warned == ["What the first plan would have shown: it changed on 1 Apr 2026, after data were seen."]


def test_a_plan_that_never_changed_warns_of_nothing():
    assert not [line for line in cannot_tell(told_by(provenance().plan)) if "plan" in line]
    assert methods(told_by(provenance().plan)).tables["plan"].rows == ()


def test_a_plan_declared_after_its_first_use_is_told_as_such():
    late = replace(provenance().plan, declared_on="2026-06-20")
    assert "declared on 20 Jun 2026, after data had been used with it" in methods(told_by(late)).text["plan"][0]


# --- whole runs -----------------------------------------------------------------------------------------------------


def test_a_second_run_with_another_plan_tells_the_change_and_repeated_it_is_the_same_run(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline.render, "render", lambda model, *_, **__: Rendered(html=str(model), pdf=b"%PDF-1.7"))
    digest = pulled_from(FaultyServer(cohort()), tmp_path).snapshot.digest
    own = tmp_path / "study"
    for folder in CARD[1:]:
        shutil.copytree(locate() / folder, own / folder)

    def report(day: int):
        folder = pipeline.report(
            tmp_path, pipeline.Basis(digest, own, date(2026, 2, day)), "evidence", Edition.internal
        )
        return folder, json.loads((folder / "provenance.json").read_text())

    first, before = report(27)
    assert (before["plan"]["first_on"], before["plan"]["changes"], before["before_run"]) == ("2026-02-27", [], "")
    assert report(27)[0] == first
    text = (own / "mappings/protocol.toml").read_text()
    (own / "mappings/protocol.toml").write_text(text.replace('primary_visit = "week_4"', 'primary_visit = "week_8"'))
    second, after = report(28)
    (change,) = after["plan"]["changes"]
    assert change["on"] == "2026-02-28"
    assert change["differences"] == [{"entry": "outcomes: primary visit", "before": "week 4", "after": "week 8"}]
    assert after["before_run"] == first.name
    assert report(28)[0] == second
    assert load(own).protocol.outcomes.primary_visit == "week_8"
