"""The run library: what each report is worth today, in words, and nothing of the house in what is handed on."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser

import pytest
from cohort_tables import the_study
from report_fixture import model, provenance, releasable
from typer.testing import CliRunner

from crps_outcomes import library, shelves
from crps_outcomes.cli import app
from crps_outcomes.errors import DefinitionError
from crps_outcomes.home import Home
from crps_outcomes.stages.publish import current, publish
from crps_outcomes.stages.render import Rendered
from crps_outcomes.state import Records, RunRow, Withdrawals

RENDERED = Rendered(html="<!DOCTYPE html><title>report</title>", pdf=b"%PDF-1.7")
FEW = 12  # people: the library tells of runs, not of what is in them
EARLY, IN_TIME, TOO_LATE = date(2026, 6, 13), date(2026, 7, 17), date(2026, 7, 18)
STUDY = the_study()


class Read(HTMLParser):
    """The words, the links and the tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.links, self.tags, self.is_style = "", [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.is_style = tag == "style"
        self.links += [value for name, value in attrs if name == "href"]

    def handle_endtag(self, tag):
        self.is_style = False

    def handle_data(self, data):
        self.words += "" if self.is_style else f" {' '.join(data.split())}"


@pytest.fixture
def home(tmp_path) -> Home:
    return Home.at(tmp_path / "home")


def run(home: Home, day: str = "2026-06-12", edition: str = "internal", **changes) -> str:
    """Publish a run and remember it, as the pipeline does; its id."""
    made = replace(provenance(edition), as_of=date.fromisoformat(day), **changes)
    own = replace(model(FEW, edition), draft="DRAFT - INCOMPLETE: Observation missing" if made.is_draft else "")
    is_withdrawn = made.run_id in Withdrawals(home.state_url).every()
    publish(RENDERED, own, releasable(FEW, edition), made, home, is_withdrawn=is_withdrawn)
    row = RunRow(made.run_id, made.report, made.edition, made.snapshot, made.study, made.code, day, made.data_status)
    Records(home.state_url).add_run(row)
    return made.run_id


def internal(home: Home, today: date = EARLY) -> Read:
    return Read(library.publish(home, STUDY, today).read_text(encoding="utf-8"))


def released(home: Home, today: date = EARLY) -> Read:
    library.publish(home, STUDY, today)
    return Read((home.release / "index.html").read_text(encoding="utf-8"))


def standings(home: Home, today: date = EARLY) -> dict[str, str]:
    return {one.run.run_id: one.standing for own in library.entries(home, today).values() for one in own}


# --- what a run is worth ----------------------------------------------------------------------------------------------


def test_the_newest_complete_run_is_final_until_its_day_has_passed_and_late_after_it(home):
    name = run(home)
    assert standings(home, IN_TIME)[name] == "final"
    assert standings(home, TOO_LATE)[name] == "late"
    assert "FINAL The newest complete report of its kind, valid until 17 Jul 2026." in internal(home, IN_TIME).words
    assert "LATE" in internal(home, TOO_LATE).words
    assert "FINAL" not in internal(home, TOO_LATE).words


def test_a_newer_run_supersedes_the_one_before_and_stands_first(home):
    old, new = run(home, "2026-06-01"), run(home, "2026-06-12")
    assert standings(home) == {new: "final", old: "superseded"}
    words = internal(home).words
    assert words.index(new) < words.index("Earlier runs")
    assert "SUPERSEDED" in words[words.index("Earlier runs") :]


def test_a_report_of_older_data_made_later_does_not_take_the_place_of_a_newer_one(home):
    new = run(home, "2026-06-12")
    run(home, "2026-06-01")
    internal(home)
    assert current(home.runs, "evidence", "internal").name == new


def test_a_draft_is_not_final_and_the_newest_final_one_stands_beside_it(home):
    final = run(home, "2026-06-10")
    draft = run(home, "2026-06-12", data_status="incomplete", holes=("Observation",))
    assert standings(home) == {draft: "not_final", final: "final"}
    words = internal(home).words
    assert words.index(draft) < words.index(final)
    assert "NOT FINAL" in words
    assert "Observation missing" in words
    assert "Earlier runs" not in words


def test_the_page_says_how_complete_the_data_are_and_what_changed(home):
    run(home, "2026-06-01")
    run(home, "2026-06-12", code="d" * 64, study="8" * 64)
    words = internal(home).words
    assert "Since the last report (data of 5 Jun 2026): 2 people entered; records: 143 new follow-up, 3 late" in words
    assert "another version of the program" in words
    assert "another study folder" in words


def test_a_library_without_runs_says_so(home):
    assert "There is no report yet." in internal(home).words


def test_a_run_whose_files_are_gone_is_neither_final_nor_linked(home):
    old, new = run(home, "2026-06-01"), run(home, "2026-06-12")
    for file in sorted((home.runs / new).rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (home.runs / new).rmdir()
    page = internal(home)
    assert standings(home) == {new: "superseded", old: "final"}
    assert "no longer there" in page.words
    assert not [link for link in page.links if new in link]


# --- withdrawn --------------------------------------------------------------------------------------------------------


def test_a_withdrawn_run_is_marked_its_folder_stays_and_the_one_before_is_current(home):
    old, new = run(home, "2026-06-01"), run(home, "2026-06-12")
    library.withdraw(home, new, "The window of week 4 was\u202e wrong\x1b[31m", EARLY)
    assert standings(home) == {new: "withdrawn", old: "final"}
    assert current(home.runs, "evidence", "internal").name == old
    assert (home.runs / new / "report.pdf").is_file()
    words = internal(home).words
    assert "WITHDRAWN" in words
    assert "Withdrawn on 13 Jun 2026. The window of week 4 was wrong [31m" in words


def test_the_only_run_withdrawn_leaves_no_current_one_and_making_it_again_does_not_bring_it_back(home):
    name = run(home)
    library.withdraw(home, name, "wrong", EARLY)
    assert current(home.runs, "evidence", "internal") is None
    assert run(home) == name
    internal(home)
    assert current(home.runs, "evidence", "internal") is None
    assert standings(home)[name] == "withdrawn"


@pytest.mark.parametrize("reason", ["", "  \n ", "x" * 301])
def test_a_withdrawal_needs_a_reason(home, reason):
    with pytest.raises(DefinitionError, match="--reason"):
        library.withdraw(home, run(home), reason, EARLY)


def test_only_a_run_that_is_there_can_be_withdrawn_and_only_once(home):
    name = run(home)
    with pytest.raises(DefinitionError, match="no run of that name"):
        library.withdraw(home, "../state.sqlite", "wrong", EARLY)
    library.withdraw(home, name, "wrong", EARLY)
    with pytest.raises(DefinitionError, match="already"):
        library.withdraw(home, name, "wrong", EARLY)


# --- what is handed on ------------------------------------------------------------------------------------------------


def test_the_release_library_is_the_same_bytes_whatever_happens_inside_the_house(home):
    run(home, edition="release")
    released(home)
    before = (home.release / "index.html").read_bytes()
    inside = [run(home, day) for day in ("2026-06-01", "2026-06-10")]
    inside.append(run(home, "2026-06-12", data_status="incomplete", holes=("Observation",)))
    library.withdraw(home, inside[0], "somebody", EARLY)
    released(home)
    assert (home.release / "index.html").read_bytes() == before
    assert not any(name in before.decode() for name in inside)


def test_the_release_library_holds_its_own_copies_and_every_link_leads_to_one(home):
    run(home, edition="release")
    page = released(home)
    links = [link for link in page.links if not link.startswith(("#", "report.css"))]
    assert len(links) == 4
    assert all((home.release / link).is_file() and not link.startswith((".", "/")) for link in links)
    assert not [path for path in home.release.rglob("*") if "internal" in path.name]


def test_the_release_library_says_no_count_of_people_or_resources(home):
    run(home, edition="release")
    words = re.sub(r"\d+ (?:Jun|Jul|Sept?|Mar) \d{4}|release-[\w-]+|PDF/A-3", "", released(home).words)
    assert re.findall(r"\d+", words) == []


def test_libraries_written_at_once_hand_on_one_whole_copy_and_leave_nothing_behind(home):
    name = run(home, edition="release")
    left = home.release / ".handing-out-dead"
    left.mkdir()
    with ThreadPoolExecutor(4) as pool:
        assert len([*pool.map(lambda _: library.publish(home, STUDY, EARLY), range(4))]) == 4
    assert {one.name for one in home.release.iterdir()} == {name, "index.html"}
    copied, made = ({one.name for one in folder.rglob("*")} for folder in (home.release / name, home.runs / name))
    assert copied == made


def test_a_release_that_was_withdrawn_is_handed_on_no_more_and_the_reason_stays_in_the_house(home):
    name = run(home, edition="release")
    released(home)
    library.withdraw(home, name, "Two people left", EARLY)
    page = released(home)
    assert "WITHDRAWN" in page.words
    assert "Two people" not in page.words
    assert not (home.release / name).exists()
    assert "Two people" in internal(home).words


# --- the page ---------------------------------------------------------------------------------------------------------


def test_every_link_of_the_library_leads_to_a_file_and_nothing_in_it_runs_or_asks_for_anything(home):
    run(home, "2026-06-01")
    run(home)
    page = internal(home)
    links = [link for link in page.links if not link.startswith("#")]
    assert len(links) == 8
    assert all((home.site / link).is_file() for link in links)
    assert "script" not in page.tags
    text = (home.site / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"url\((?!data:)[^)]*|@import", text) == []


def test_a_page_that_cannot_be_written_leaves_the_one_before(home, monkeypatch):
    run(home)
    internal(home)
    before = (home.site / "index.html").read_bytes()

    def fails(*_):
        raise OSError("no space left")

    monkeypatch.setattr(library, "replace_private", fails)
    with pytest.raises(OSError, match="space"):
        library.publish(home, STUDY, TOO_LATE)
    assert (home.site / "index.html").read_bytes() == before


def test_the_library_speaks_the_language_of_the_protocol(home):
    run(home)
    form = STUDY.protocol.form.model_copy(update={"lang": "de"})
    german = replace(STUDY, protocol=STUDY.protocol.model_copy(update={"form": form}))
    words = Read(library.publish(home, german, EARLY).read_text(encoding="utf-8")).words
    assert "ENDGÜLTIG" in words
    assert "17. Juli 2026" in words


# --- status -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("today", "wanted", "ends"),
    [
        (IN_TIME, (), (0, "evidence, internal edition: FINAL, data as of 2026-06-12, valid until 2026-07-17")),
        (TOO_LATE, (), (1, "LATE")),
        (IN_TIME, ("--report", "quality"), (1, "quality, internal edition: MISSING")),
        (IN_TIME, ("--report", "evidence"), (0, "FINAL")),
    ],
)
def test_t34_status_ends_in_1_when_a_report_is_late_or_missing(home, monkeypatch, today, wanted, ends):
    run(home)
    monkeypatch.setattr(shelves, "_today", lambda _: today)
    done = CliRunner().invoke(app, ["status", "--out", str(home.root), *wanted])
    code, said = ends
    assert said in done.output
    assert done.exit_code == code


def test_t34_status_ends_in_1_where_only_a_draft_or_nothing_is_there(home, monkeypatch):
    monkeypatch.setattr(shelves, "_today", lambda _: EARLY)
    assert CliRunner().invoke(app, ["status", "--out", str(home.root)]).exit_code == 1
    run(home, data_status="incomplete", holes=("Observation",))
    done = CliRunner().invoke(app, ["status", "--out", str(home.root)])
    assert (done.exit_code, "MISSING" in done.output) == (1, True)


def test_the_command_withdraws_and_writes_the_library(home):
    name = run(home)
    done = CliRunner().invoke(app, ["withdraw", name, "--reason", "Wrong window", "--out", str(home.root)])
    assert done.exit_code == 0
    assert "Wrong window" in (home.site / "index.html").read_text(encoding="utf-8")


def test_t34_page_one_says_until_when_it_may_be_read():
    assert ("Valid until", "17 Jul 2026") in model().meta
