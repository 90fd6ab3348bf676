"""No small count of a hidden row stands anywhere in a release, and no person is drawn in it (T32)."""

from __future__ import annotations

import io
import json

import pikepdf
import pytest
from cohort_tables import the_study
from report_fixture import model, provenance, releasable, tables

from crps_outcomes.stages.publish import contents, csv_of_frame
from crps_outcomes.stages.render import Rendered, page_html, render
from crps_outcomes.workbook import workbook
from extractor import leaks, lines, page_rows

ROOT = the_study().root
NOT_RENDERED = b"%PDF"


@pytest.fixture(scope="module")
def inside() -> dict[str, bytes]:
    page = page_html(model(), ROOT / "templates")
    return contents(Rendered(page, NOT_RENDERED), model(), releasable(), provenance())


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    own = model(64, "release")
    return contents(render(own, ROOT), own, releasable(64, "release"), provenance("release"))


@pytest.fixture(scope="module")
def allowed() -> str:
    """What the study folder says: published numbers, and the rules of the edition."""
    texts = [
        path.read_text(encoding="utf-8") for path in (ROOT / "mappings").rglob("*") if path.suffix in {".csv", ".toml"}
    ]
    evidence = " ".join(f"n: {study.n} n = {study.n}" for study in the_study().evidence.studies)
    return " ".join([*texts, evidence, *releasable(64, "release").rules]).replace(",", ", ")


def test_T32_a_release_tells_no_small_count_that_it_hides_and_draws_no_person(files, inside, allowed):
    assert leaks(files, inside, allowed) == []


def test_T32_no_name_of_a_person_stands_in_a_release(files):
    people = {*tables().subjects["subject_id"]}
    assert len(people) == 64
    found = [line.place for line in lines(files) if any(one in line.text for one in people)]
    assert found == []


def test_T32_the_internal_edition_would_be_caught(files, inside, allowed):
    found = leaks(files | {"report.html": inside["report.html"]}, inside, allowed)
    assert any("lines of one person each" in one for one in found)
    assert len(found) > 20


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
        "metadata of the PDF": lambda: {"report.pdf": with_metadata(files["report.pdf"], "nausea n = 3")},
        "a text alternative of the PDF": lambda: {
            "report.pdf": with_alternative(files["report.pdf"], "Nausea: 3 of 46")
        },
        "JSON": lambda: {"provenance.json": json.dumps({**json.loads(files["provenance.json"]), "held": [3]}).encode()},
        "a name": lambda: {"tables/99-safety-nausea-3.csv": b"x\r\n"},
    }[name]()


@pytest.mark.parametrize("what", [
    "a number in CSV", "a number in a workbook", "a sheet of the internal edition", "a table of CSV", "an attribute of a hidden row",
    "a title of a drawing", "a line of one person", "a sentence", "metadata of the PDF", "a text alternative of the PDF", "JSON",
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
