"""No small count of a hidden row stands anywhere in what leaves, whichever report and form, and no person is drawn in it (T32)."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from functools import cache

import every_report
import pikepdf
import pytest
from cohort_tables import the_study
from report_fixture import analysis, model, provenance, releasable, tables

from crps_outcomes import library, pipeline
from crps_outcomes.home import Home
from crps_outcomes.language import Form
from crps_outcomes.stages import render as stage
from crps_outcomes.stages.compose import compose
from crps_outcomes.stages.publish import appear, attached, contents, csv_of_frame
from crps_outcomes.stages.render import Rendered, page_html, render
from crps_outcomes.state import Records
from crps_outcomes.workbook import workbook
from extractor import in_sentences, leaks, lines, page_rows, said_by, unpacked

ROOT = the_study().root
REPORTS = sorted(name for name, one in the_study().reports.items() if one.about == "cohort")
ARCHIVED = "evidence"  # this report as its archive copy, which is the same page with the data attached
ARCHIVE = "report-archive.pdf"
PRINTED = {"quality"}  # this one as PDF; the page and the tables of all


def origin(report: str, edition: str):
    return replace(provenance(edition), report=report, form=Form(archive=report == ARCHIVED))


@cache
def made(report: str, edition: str) -> dict[str, bytes]:
    """The run folder of a report; of an internal edition the page alone is drawn."""
    about, shown = origin(report, edition), releasable(64, edition)
    own = compose(shown, the_study(), the_study().reports[report], about)
    rendered = _release(report, own, attached(shown, about)) if edition == "release" else Rendered(_page(own), b"")
    found = contents(rendered, own, shown, about)
    return {name: data for name, data in found.items() if data}


def _page(own) -> str:
    return page_html(own, ROOT / "templates")


def _release(report, own, data) -> Rendered:
    lay_out = stage._lay_out
    with pytest.MonkeyPatch.context() as patch:  # no page is laid out twice
        patch.setattr(stage, "_lay_out", lambda *task: lay_out(*task) if len(task) > 4 or report in PRINTED else b"")
        return render(own, ROOT, attached=data if report == ARCHIVED else None)


@pytest.fixture(scope="module")
def inside() -> dict[str, bytes]:
    return made("evidence", "internal")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return made("evidence", "release")


@pytest.fixture(scope="module")
def allowed() -> str:
    return said_by(the_study(), releasable(64, "release").rules)


@pytest.mark.parametrize("report", REPORTS)
def test_T32_a_release_tells_no_small_count_that_it_hides_and_draws_no_person(report, allowed):
    assert leaks(made(report, "release"), made(report, "internal"), allowed) == []


@pytest.mark.parametrize("report", REPORTS)
def test_T32_no_name_of_a_person_stands_in_a_release(report):
    people = {*tables().subjects["subject_id"]}
    assert len(people) == 64
    found = [line.place for line in lines(made(report, "release")) if any(one in line.text for one in people)]
    assert found == []


def test_T32_the_internal_edition_would_be_caught(files, inside, allowed):
    found = leaks(files | {"report.html": inside["report.html"]}, inside, allowed)
    assert any("lines of one person each" in one for one in found)
    assert len(found) > 20


def test_T32_a_release_has_no_row_by_month():
    assert (analysis(64).estimates["statistic"] == "month").sum() > 20
    assert not (releasable(64, "release").estimates["section"] == "quality").any()
    months = {f"tables/{name}" for report in REPORTS for name in made(report, "release") if "months" in name}
    assert months == set()


def test_T32_the_archive_copy_carries_its_data_and_nothing_else(files):
    own = {name.rpartition("/")[2]: data for name, data in unpacked(files).items() if ".pdf/" in name}
    assert own == {name: files[name] for name in ("estimates.csv", "provenance.json")}


@pytest.mark.parametrize("n", [12, 20])
@pytest.mark.parametrize("report", REPORTS)
def test_a_release_never_says_that_nothing_is_on_record_where_something_is_hidden(report, n):
    inside = {(s.id, key): whole for s in every_report.made(report, "internal", n).sections for key, whole in parts(s)}
    release = every_report.made(report, "release", n)
    page = _page(release)
    hidden = [
        own.empty for s in release.sections for key, own in parts(s)
        if not is_filled(own) and is_filled(inside.get((s.id, key))) and f"</b> {own.empty}</p>" in page
    ]  # fmt: skip
    assert [
        text for text in hidden if not re.search("may be shown|internal edition|[Tt]oo few|cannot be laid out", text)
    ] == []
    assert hidden or report != "evidence"


def parts(section):
    return {**section.tables, **section.figures}.items()


def is_filled(part) -> bool:
    return bool(getattr(part, "rows", ()) or getattr(part, "svg", ""))


# --- the library --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    """A home with every report in both editions, and its libraries."""
    place = Home.at(tmp_path_factory.mktemp("home"))
    for report in REPORTS:
        for edition in ("internal", "release"):
            about = origin(report, edition)
            appear(made(report, edition), place.runs / about.run_id)
            Records(place.state_url).add_run(pipeline._run(about))
    library.publish(place, the_study(), provenance().as_of)
    return place


def test_T32_the_library_to_hand_on_tells_of_no_other_edition(home):
    released = {origin(report, "release").run_id for report in REPORTS}
    assert {path.name for path in home.release.iterdir()} == {*released, "index.html"}
    page = (home.release / "index.html").read_text(encoding="utf-8")
    assert all(name in page for name in released)
    assert not any(origin(report, "internal").run_id in page for report in REPORTS)


@pytest.mark.parametrize("report", REPORTS)
def test_T32_what_is_handed_on_tells_no_more_than_the_release_and_no_page_of_it_a_small_count(report, home, allowed):
    folder = home.release / origin(report, "release").run_id
    copy = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert copy == made(report, "release")
    assert leaking({"index.html": (home.release / "index.html").read_bytes()}, allowed) == []


def leaking(files: dict[str, bytes], allowed: str) -> list[str]:
    """The sentences with a small count in any files, without a truth to compare tables with."""
    return [*in_sentences(lines(files), allowed)]


def test_T32_a_count_in_a_page_of_the_library_would_be_found(home, allowed):
    page = (home.release / "index.html").read_bytes()
    planted_page = page.replace(b"</main>", b"<p>3 people were added.</p></main>")
    assert leaking({"index.html": planted_page}, allowed) != []


@cache
def hidden_row():
    """A row of the page that is hidden in part, its mark, and the small count behind it."""
    truth = {(row.table, row.head): row for row in page_rows(page_html(model(), ROOT / "templates").encode())}
    for row in page_rows(page_html(model(64, "release"), ROOT / "templates").encode()):
        own = truth.get((row.table, row.head))
        for place, cell in enumerate(row.cells):
            if own and cell == "<11" and own.cells[place].split()[0] in map(str, range(1, 11)):
                return row.head, own.cells[place].split()[0]
    raise AssertionError


def with_metadata(pdf: bytes, text: str) -> bytes:
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as document:
        document.docinfo["/Keywords"] = text
        document.save(out)
    return out.getvalue()


def with_alternative(pdf: bytes, text: str) -> bytes:
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as document:
        next(item for item in document.objects if isinstance(item, pikepdf.Dictionary) and "/Alt" in item).Alt = text
        document.save(out)
    return out.getvalue()


def with_attachment(pdf: bytes, data: bytes) -> bytes:
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as document:
        document.attachments["estimates.csv"] = pikepdf.AttachedFileSpec(document, data)
        document.save(out)
    return out.getvalue()


def in_row(page: str, head: str, count: str) -> str:
    start = page.index(f">{head}</th>")
    return page[:start] + f' data-k="{count}"' + page[start:]


def planted(name: str, files: dict[str, bytes]) -> dict[str, bytes]:
    page, all_rows = files["report.html"].decode(), releasable().estimates
    hidden = releasable(64, "release").estimates
    bare = hidden.assign(k=hidden["estimate_id"].map(all_rows.set_index("estimate_id")["k"]))
    head, count = hidden_row()
    one = next(path for path in files if path.startswith("tables/"))
    return {
        "a number in CSV": lambda: {"estimates.csv": csv_of_frame(bare).encode()},
        "a number in a workbook": lambda: {"tables.xlsx": workbook(model(64, "release"), bare)},
        "a sheet of the internal edition": lambda: {"tables.xlsx": workbook(model(), hidden)},
        "a table of CSV": lambda: {one: files[one] + b"Nausea,3 of 46\r\n"},
        "an attribute of a hidden row": lambda: {"report.html": in_row(page, head, count).encode()},
        "a title of a drawing": lambda: {"report.html": page.replace("<title>", "<title>3 of 46 people. ", 2).encode()},
        "a line of one person": lambda: {"report.html": page.replace("<path ", '<path stroke="#6f8496" ', 1).encode()},
        "a sentence": lambda: {"report.html": page.replace("</p>", " Nausea in 3 people.</p>", 1).encode()},
        "metadata of the PDF": lambda: {ARCHIVE: with_metadata(files[ARCHIVE], "nausea n = 3")},
        "a text alternative of the PDF": lambda: {ARCHIVE: with_alternative(files[ARCHIVE], "Nausea: 3 of 46")},
        "an attachment": lambda: {ARCHIVE: with_attachment(files[ARCHIVE], csv_of_frame(bare).encode())},
        "JSON": lambda: {"provenance.json": json.dumps({**json.loads(files["provenance.json"]), "held": [3]}).encode()},
        "a name": lambda: {"tables/99-safety-nausea-3.csv": b"x\r\n"},
    }[name]()


@pytest.mark.parametrize("what", [
    "a number in CSV", "a number in a workbook", "a sheet of the internal edition", "a table of CSV", "an attribute of a hidden row",
    "an attachment", "a title of a drawing", "a line of one person", "a sentence", "metadata of the PDF", "a text alternative of the PDF", "JSON",
    "a name",
])  # fmt: skip
def test_T32_a_planted_leak_is_found(what, files, inside, allowed):
    assert leaks(files | planted(what, files), inside, allowed) != []


def test_T32_a_release_hides_rows_that_the_internal_edition_shows(inside):
    hidden = releasable(64, "release").estimates.query("suppressed != ''")["estimate_id"]
    known = releasable().estimates.set_index("estimate_id").reindex(hidden)
    assert known[["k", "n"]].notna().any(axis=1).sum() > 10
    assert hidden_row()
    assert len(page_rows(inside["report.html"])) > 100
