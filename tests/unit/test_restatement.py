"""What changed since the last report: every record under one reason, figures then and now, and the same again when made again."""

from __future__ import annotations

import csv
import json
from datetime import UTC, date, datetime
from types import SimpleNamespace

import pandas as pd
import pytest
from report_fixture import provenance

from crps_outcomes import derive, pipeline, restating
from crps_outcomes.analysis.completeness import completeness
from crps_outcomes.analysis.endpoints import endpoints
from crps_outcomes.analysis.function import function
from crps_outcomes.analysis.pain import pain
from crps_outcomes.analysis.quality import quality
from crps_outcomes.analysis.responders import responders
from crps_outcomes.analysis.safety import safety
from crps_outcomes.fhir import rest_source
from crps_outcomes.fhir.client import Surroundings
from crps_outcomes.home import Home
from crps_outcomes.numbers import month
from crps_outcomes.params import Edition
from crps_outcomes.restatement import Moved, View, counted, moved, why
from crps_outcomes.snapshot import open_snapshot
from crps_outcomes.stages import analyse
from crps_outcomes.stages.pull import pull
from crps_outcomes.stages.render import Rendered
from crps_outcomes.state import Records
from crps_outcomes.study import load
from crps_outcomes.synthetic import Options, generate
from faulty_server import BASE, FaultyServer
from study_folder import short_study

SECTIONS = {"evidence": ["summary", "restatement", "provenance"], "quality": ["quality", "restatement"]}
NEW, LEAVES = "crps-000003", "crps-000005"
FIRST, SECOND, THIRD = date(2026, 11, 1), date(2026, 11, 8), date(2026, 11, 9)


class Clinic:
    """A server, a home folder and a study folder, night after night; nothing is drawn."""

    def __init__(self, root):
        self.home, self.study = Home.at(root / "home"), short_study(root, **SECTIONS)
        found = generate(Options(patients=14, seed=11), load(self.study)).resources
        self.held = {(one["resourceType"], one["id"]): one for own in found.values() for one in own if "id" in one}
        self.day = FIRST
        self.server = FaultyServer(
            [*self.held.values()], now=lambda: datetime(*self.day.timetuple()[:3], 4, tzinfo=UTC)
        )

    def put(self, one, **changes):
        """The next version of a resource, saved the day before."""
        self.server.put(one | {"meta": {"versionId": "9", "lastUpdated": f"{self.day}T01:00:00Z"}} | changes)

    def list_but(self, *people):
        """The group without some of its members."""
        group = self.held["Group", "im-ketamine-crps"]
        kept = [one for one in group["member"] if one["entity"]["reference"].split("/")[-1] not in people]
        self.put(group, member=kept)

    def edit(self, name, before, after):
        path = self.study / name
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))

    def pulled(self):
        source = rest_source(BASE, transport=self.server.transport(), surroundings=Surroundings(sleep=lambda _: None))
        return pull(source, load(self.study).protocol, self.home).snapshot

    def report(self, snapshot, name="evidence", edition=Edition.internal):
        return pipeline.report(self.home.root, pipeline.Basis(snapshot.digest, self.study, self.day), name, edition)

    def outcomes(self, snapshot):
        plan = derive.plan(open_snapshot(snapshot.folder), load(self.study), self.home, as_of=self.day)
        return derive.gather(plan).outcomes


def table(folder, name):
    """A table of the section as printed: its first column -> the other cells."""
    (path,) = folder.glob(f"tables/*-restatement-{name}.csv")
    with path.open(encoding="utf-8", newline="") as lines:
        _, *rows = csv.reader(lines)
    return {row[0]: row[1:] for row in rows}


def estimates(folder, section, statistic, **keys):
    rows = pd.read_csv(folder / "estimates.csv", keep_default_na=False, dtype="str")
    own = rows[(rows["section"] == section) & (rows["statistic"] == statistic)]
    for name, value in keys.items():
        own = own[own[name] == value]
    (row,) = own.to_dict("records")
    return row


def record(folder):
    return json.loads((folder / "provenance.json").read_text())


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        page = lambda model, *_, **__: Rendered(html=repr(model.sections), pdf=b"%PDF-1.7")  # noqa: E731
        patch.setattr(pipeline.render, "render", page)
        patch.setattr(analyse, "SECTIONS", (endpoints, pain, responders, function, safety, completeness, quality))
        yield


@pytest.fixture(scope="module")
def nights(tmp_path_factory, patched):
    """Three nights: one person enters and seven records change; then one person leaves and a definition and the plan change."""
    clinic = Clinic(tmp_path_factory.mktemp("clinic"))
    clinic.list_but(NEW)
    snapshots = [clinic.pulled()]
    folders = {"first": clinic.report(snapshots[0]), "first quality": clinic.report(snapshots[0], "quality")}
    outcomes = clinic.outcomes(snapshots[0])
    scores = outcomes[
        (outcomes["measure"] == "pain_nrs") & (outcomes["visit"] == "week_4") & outcomes["change"].notna()
    ]
    scores = scores[~scores["subject_id"].isin([NEW, LEAVES])]
    amended, wrong, gone, late, later, again = (
        clinic.held["Observation", refs.split()[0].split("/")[1]] for refs in scores["source_refs"][:6]
    )
    clinic.day = SECOND
    clinic.list_but()
    clinic.put(amended, status="amended", **(
        {"valueInteger": 10} if "valueInteger" in amended else {"valueQuantity": amended["valueQuantity"] | {"value": 10}}
    ))  # fmt: skip
    clinic.put(wrong, status="entered-in-error")
    clinic.server.delete("Observation", gone["id"])
    clinic.put(late, id="a-late-one", effectiveDateTime="2026-10-20T09:00:00-04:00")
    clinic.put(later, id="a-new-one", effectiveDateTime="2026-11-05T09:00:00-04:00")
    clinic.put(again)
    snapshots.append(clinic.pulled())
    folders |= {"second": clinic.report(snapshots[1])}
    clinic.day = FIRST
    folders |= {"first again": clinic.report(snapshots[0])}
    clinic.day = SECOND
    folders |= {"second again": clinic.report(snapshots[1])}
    clinic.day = THIRD
    clinic.list_but(LEAVES)
    clinic.edit("mappings/measures/pain_nrs.toml", "short = ", "# said shorter\nshort = ")
    clinic.edit("mappings/protocol.toml", "responder_percents = [30, 50]", "responder_percents = [30, 40]")
    snapshots.append(clinic.pulled())
    folders |= {"third": clinic.report(snapshots[2])}
    return clinic, snapshots, folders


def held_about(snapshot, person):
    """How many records of a snapshot are about somebody, their Patient among them."""
    types = {*snapshot.types()} - {"Consent", "Group"}
    return sum(f'Patient/{person}"'.encode() in line for name in types for line in snapshot.lines(name)) + 1


def test_the_first_report_of_its_kind_says_so_and_counts_nothing(nights):
    _, _, folders = nights
    assert "This is the first report of its kind made here" in (folders["first"] / "report.html").read_text()
    assert not [*folders["first"].glob("tables/*-restatement-*")]
    assert (record(folders["first"])["before_run"], record(folders["first"])["restated"]) == ("", "")


def test_every_record_counts_under_its_own_reason_once(nights):
    _, snapshots, folders = nights
    found = {name: cells[:2] for name, cells in table(folders["second"], "reasons").items()}
    assert found == {
        "New patients": ["1", f"{held_about(snapshots[1], NEW):,}"], "Left the cohort": ["0", "0"],
        "New follow-up": ["1", "1"], "Late entry": ["1", "1"], "Amended": ["1", "1"], "Entered in error": ["1", "1"],
        "Deleted": ["1", "1"], "Saved again": ["1", "1"],
    }  # fmt: skip


def test_who_left_counts_with_all_records_and_under_no_other_reason(nights):
    _, snapshots, folders = nights
    found = {name: cells[:2] for name, cells in table(folders["third"], "reasons").items()}
    assert found.pop("Left the cohort") == ["1", f"{held_about(snapshots[1], LEAVES):,}"]
    assert {*map(tuple, found.values())} == {("0", "0")}


def test_figures_stand_then_and_now_with_their_difference_and_who_is_behind_it(nights):
    _, _, folders = nights
    change = {"measure": "pain_nrs", "visit": "week_4"}
    then, now = (estimates(folders[name], "pain", "mean_change", **change) for name in ("first", "second"))
    row = next(
        cells for name, cells in table(folders["second"], "figures").items() if "change, week 4, every score" in name
    )
    size = float(now["estimate"]) - float(then["estimate"])
    assert row[0].startswith(f"{float(then['estimate']):+.1f}".replace("-", "−"))
    assert row[0].endswith(f"n = {then['n']}")
    assert row[1].endswith(f"n = {now['n']}")
    assert row[2] == f"'{size:+.1f} n −1"  # harmless in a spreadsheet
    assert row[3] == "New patients (1); amended (1); entered in error (1); deleted (1)."


def test_plan_and_definitions_are_named_by_entry_and_file(nights):
    _, _, folders = nights
    (path,) = folders["third"].glob("tables/*-restatement-rules.csv")
    with path.open(encoding="utf-8", newline="") as lines:
        _, *rows = csv.reader(lines)
    assert ["Analysis plan", "Outcomes: responder percents", "30, 50", "30, 40"] in rows
    assert [row[1] for row in rows if row[0] == "Study folder"] == [
        "mappings/measures/pain_nrs.toml", "mappings/protocol.toml",
    ]  # fmt: skip
    assert not [row for row in rows if row[0] == "Program"]


def test_the_data_of_then_are_worked_out_again_to_see_whether_definitions_alone_change_a_figure(nights):
    _, _, folders = nights
    page = (folders["third"] / "report.html").read_text()
    assert "Results change: yes." in page
    figures = table(folders["third"], "figures")
    planned = [cells for name, cells in figures.items() if "at least 30%" in name.lower() and "as planned" in name]
    assert planned
    assert all("efinitions" not in cells[3] for cells in planned)  # 30% is counted as it was


def test_a_report_made_again_is_the_same_report_whatever_came_after(nights):
    _, _, folders = nights  # made again on top of the first one, which would have stopped on any other byte
    assert folders["first again"] == folders["first"]
    assert folders["second again"] == folders["second"]
    assert record(folders["second"])["before_run"] == folders["first"].name


def test_without_the_snapshot_of_then_the_measures_of_its_latest_month_stand_and_no_reason_is_invented(nights):
    clinic, snapshots, folders = nights
    clinic.day = SECOND
    hidden = snapshots[0].folder.with_name(".hidden")
    snapshots[0].folder.rename(hidden)
    try:
        folder = clinic.report(snapshots[1], "quality")
    finally:
        hidden.rename(snapshots[0].folder)
    assert record(folder)["before_run"] == folders["first quality"].name
    assert "The data of the last report are not kept here any more" in (folder / "report.html").read_text()
    assert not [*folder.glob("tables/*-restatement-reasons.csv")]
    figures, plan = table(folder, "figures"), load(clinic.study).protocol.quality
    assert {cells[3] for cells in figures.values()} <= {"Not known.", "As then."}
    rows = pd.read_csv(folders["first quality"] / "estimates.csv")
    known = rows[(rows["section"] == "quality") & (rows["statistic"] == "month") & rows["estimate"].notna()]
    latest = known.groupby("measure")["visit"].max()
    expected = {f"{one.label}, {month(latest[one.id])}" for one in plan.measures if one.front and one.id in latest}
    assert {*figures} == expected
    assert len(expected) >= 4


# --- one record at a time ---------------------------------------------------------------------------------------------


def view(as_of, *resources, people="ab"):
    """A report's view of a few Observations."""
    lines = sorted(json.dumps(one).encode() for one in resources)
    snapshot = SimpleNamespace(lines=lambda name: iter(lines if name == "Observation" else ()))
    enrolled = SimpleNamespace(records={name: name for name in people}, enrolled=dict.fromkeys(people))
    return View(snapshot, date.fromisoformat(as_of), enrolled)


def seen(on="2026-03-01", value=5, status="final", version="1", person="a", **more):
    dated = {"effectiveDateTime": on} if on else {}
    return {"id": "x", "resourceType": "Observation", "status": status, "subject": {"reference": f"Patient/{person}"},
            "meta": {"versionId": version}, "valueInteger": value} | dated | more  # fmt: skip


@pytest.mark.parametrize(("then", "now", "kind"), [
    ([seen()], [seen()], None),
    ([seen()], [seen(version="2")], "resaved"),
    ([seen()], [seen(value=6)], "amended"),
    ([seen(status="entered-in-error")], [seen()], "amended"),
    ([seen()], [seen(status="entered-in-error", value=6)], "entered-in-error"),
    ([], [seen(status="entered-in-error")], "entered-in-error"),
    ([seen()], [], "deleted"),
    ([], [seen()], "late"),
    ([], [seen("2026-04-01")], "late"),
    ([], [seen("2026-04-02")], "follow-up"),
    ([], [seen("2026-05-02")], None),
    ([seen("2026-04-20")], [seen("2026-04-20")], "follow-up"),
    ([seen("2026-04-20")], [seen("2026-03-20")], "amended"),
    ([seen()], [seen("2026-06-01")], "amended"),
    ([], [seen("")], "undated"),
    ([], [seen(person="stranger")], None),
    ([seen(valueInteger="five")], [seen()], "amended"),
    ([seen()], [seen(valueInteger="five")], "amended"),
    ([seen(valueInteger="five")], [seen(valueInteger="six")], None),
])  # fmt: skip
def test_a_record_has_one_reason(then, now, kind):
    found = moved(view("2026-04-01", *then), view("2026-05-01", *now), ["Observation"], "UTC")
    assert found == ({} if kind is None else {"Observation/x": Moved("a", kind)})


@pytest.mark.parametrize(("then", "now", "kind"), [("a", "ab", "entered"), ("ab", "a", "left")])
def test_coming_and_going_come_before_any_other_reason(then, now, kind):
    own = seen(person="b")
    views = view("2026-04-01", own, people=then), view("2026-05-01", own | {"valueInteger": 6}, people=now)
    found = moved(*views, ["Observation"], "UTC")
    assert found == {"Observation/x": Moved("b", kind)}
    assert [(one.kind, one.n_people, one.n_records) for one in counted(found, *views, set()) if one.n_people] == [
        (kind, 1, 1)
    ]


@pytest.mark.parametrize(("now", "found", "gone", "is_later", "expected"), [
    ({"p": {("r1", "5")}}, {}, {}, True, {}),
    ({"p": {("r1", "6")}}, {"r1": Moved("p", "amended"), "r2": Moved("p", "late")}, {}, True, {"amended": 1}),
    ({"p": {("r2", "6")}}, {"r1": Moved("p", "deleted"), "r2": Moved("p", "late")}, {}, True, {"deleted": 1, "late": 1}),
    ({"p": {("r1", "6")}}, {"dose": Moved("p", "late")}, {}, True, {"late": 1}),
    ({"p": {("r1", "6")}}, {"vial": Moved("", "amended")}, {}, True, {"amended": 1}),
    ({"p": {("r1", "5"), ("", "missing")}}, {}, {}, True, {"time": 1}),
    ({"p": {("r1", "6")}}, {"r1": Moved("p", "resaved")}, {}, False, {"other": 1}),
    ({"p": {("r1", "5")}, "q": {("r9", "1")}}, {"r9": Moved("q", "entered")}, {"q": "entered"}, True, {"entered": 1}),
    ({}, {"r1": Moved("p", "left")}, {"p": "left"}, True, {"left": 1}),
])  # fmt: skip
def test_the_reason_of_a_figure_is_that_of_the_records_it_rests_on(now, found, gone, is_later, expected):
    then = {"p": frozenset({("r1", "5")})}
    prints = {person: frozenset(entries) for person, entries in now.items()}
    assert why(then, prints, found, gone, is_later=is_later) == expected


# --- what leaves ------------------------------------------------------------------------------------------------------


def test_a_release_tells_of_plan_study_folder_and_program_and_no_number_of_the_data(nights):
    clinic, snapshots, folders = nights
    runs = {run.run_id: run for run in Records(clinic.home.state_url).runs()}
    plan = derive.plan(open_snapshot(snapshots[1].folder), load(clinic.study), clinic.home, as_of=SECOND)
    told = restating.restated(clinic.home, runs[folders["first"].name], provenance("release"), plan, None)
    assert (told.reasons, told.whys, told.again, len(told.then)) == ((), {}, None, 0)
    assert told.code == (runs[folders["first"].name].code, "c" * 64)


def test_nothing_about_a_person_enters_the_state_by_it(nights):
    clinic, _, _ = nights
    held = (clinic.home.root / "state.sqlite").read_bytes()
    assert NEW.encode() not in held
    assert b"a-late-one" not in held
