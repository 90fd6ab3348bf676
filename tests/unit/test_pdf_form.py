"""The form of every PDF: each word in its place, no page nearly empty, contents that lead where they say, valid tags."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp

import page as validator
import pikepdf
import pytest
from cohort_tables import the_study
from every_report import EVERY, made
from report_fixture import provenance, releasable

from crps_outcomes.errors import PipelineError
from crps_outcomes.language import Form
from crps_outcomes.pdf_finish import finish
from crps_outcomes.report_model import Run
from crps_outcomes.stages import render as stage
from crps_outcomes.stages.publish import attached
from crps_outcomes.stages.render import Rendered, render
from pdf_pages import headings, needs_poppler, outside, overlapping, pages

pytestmark = needs_poppler
ROOT = the_study().root
SIDE = 48  # points: 18 mm of margin, less what the box of a letter may stand over
LONG_NAME = (
    "The Northern Regional Centre for Chronic Pain, Neuromodulation and Rehabilitation Medicine at Saint Bartholomew's"
)
PAGES = {"evidence": range(8, 41)}  # how many a report may have; of one not listed here, up to 20

WITHOUT_CONTENTS = {"plain", "patient"}  # of two pages


def longer(model):
    """The report with a headline longer by a third."""
    first = model.sections[0]
    said = "".join(run.text for run in first.headline)
    more = Run(f" {said[: len(said) // 3].rsplit(' ', 1)[0]}.")
    return replace(model, sections=(replace(first, headline=(*first.headline, more)), *model.sections[1:]))


CASES = {
    **{f"{name}-{edition}": lambda name=name, edition=edition: made(name, edition) for name, edition in EVERY},
    "evidence-of-12": lambda: made("evidence", "internal", 12),
    "evidence-of-600": lambda: made("evidence", "internal", 600),
    "evidence-with-long-words": lambda: longer(made("evidence", "internal", site=LONG_NAME)),
    "evidence-on-letter": lambda: longer(made("evidence", "release", form=Form("de", "Letter"), site=LONG_NAME)),
}


@cache
def folder() -> Path:
    return Path(mkdtemp(prefix="crps-pdf-"))


@cache
def model(name: str):
    return CASES[name]()


@cache
def file(name: str) -> Path:
    path = folder() / f"{name}.pdf"
    path.write_bytes(render(model(name), ROOT).pdf)
    return path


def tool(*command: object) -> str:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", CASES)
def test_every_word_is_on_its_page_and_on_no_other_word(name):
    for number, one in enumerate(pages(file(name)), 1):
        assert outside(one, SIDE) == [], number
        assert overlapping(one) == [], number


@pytest.mark.parametrize("name", CASES)
def test_no_page_is_nearly_empty_and_none_too_many(name):
    found = pages(file(name))
    assert len(found) in PAGES.get(model(name).report, range(1, 21))
    for one in found:
        body = [word for word in one.words if word.bottom < one.height - 50]
        assert len(body) > 20
        assert max(word.bottom for word in body) > 0.3 * one.height


@pytest.mark.parametrize("name", CASES)
def test_every_heading_has_text_below_it_on_its_page(name):
    found = pages(file(name))
    for heading in headings(file(name)):
        one = found[heading.page - 1]
        assert any(heading.top + 20 < word.top < one.height - 50 for word in one.words), heading


@pytest.mark.parametrize("name", CASES)
def test_sections_stand_in_their_order_and_the_contents_of_page_one_give_their_pages(name):
    sections = model(name).contents
    marks = headings(file(name))
    assert [mark.level for mark in marks][:1] == [1]
    assert all(later.level - before.level <= 1 for before, later in pairwise(marks))
    started = {" ".join(mark.text.split()): mark.page for mark in marks}
    places = [started.get(" ".join(one.finding.split())) for one in sections]
    assert None not in places
    assert places == sorted(places)
    assert places[0] in {1, 2}
    told = " ".join(word.text for word in pages(file(name))[0].words)
    listed = () if model(name).report in WITHOUT_CONTENTS else zip(sections, places, strict=True)
    for section, place in listed:
        assert re.search(rf"{re.escape(section.short)}[ .]+{place}\b", told), section.short


@pytest.mark.parametrize("name", CASES)
def test_every_pdf_passes_every_rule_of_pdf_ua_1_in_its_own_language(name):
    checked = validator.validate_pdf(str(file(name)), profile="ua1")
    assert checked.is_compliant, checked
    with pikepdf.open(file(name)) as document:
        assert str(document.Root.Lang) == model(name).form.lang


@pytest.mark.parametrize("name", CASES)
def test_every_pdf_uses_the_bundled_families_alone(name):
    names = {line.split()[0].split("+")[-1] for line in tool("pdffonts", file(name)).splitlines()[2:]}
    assert names
    assert all(one.replace("-", "").startswith(("SourceSansPro", "SourceSerifPro")) for one in names)


def test_letter_is_letter_and_a4_is_a4():
    sizes = {name: (round(pages(file(name))[0].width), round(pages(file(name))[0].height)) for name in CASES}
    assert sizes.pop("evidence-on-letter") == (612, 792)
    assert set(sizes.values()) == {(595, 842)}


def test_a_german_report_has_german_furniture_and_days():
    text = tool("pdftotext", "-layout", file("evidence-on-letter"), "-")
    assert all(
        words in text
        for words in ("Seite 1 von", "Tabelle 1.", "Abbildung 1.", "12. Juni 2026", "Gültig bis", "17. Juli 2026")
    )
    assert not re.search(r"Page \d|Table \d|Figure \d", text)


# --- the archive copy -------------------------------------------------------------------------------------------------


@cache
def archived() -> Rendered:
    return render(archive_model(), ROOT, attached=data())


def archive_model():
    return made("evidence", "release", form=Form(archive=True))


def data() -> dict[str, str]:
    return attached(releasable(64, "release"), provenance("release"))


def test_the_archive_copy_passes_pdf_a_3a_and_pdf_ua_1():
    path = folder() / "archive.pdf"
    path.write_bytes(archived().archive)
    for profile in ("pdfa3a", "ua1"):
        checked = validator.validate_pdf(str(path), profile=profile)
        assert checked.is_compliant, checked


def test_the_archive_copy_carries_the_data_of_its_report_and_the_report_itself_carries_none():
    with pikepdf.open(folder_file("archive.pdf", archived().archive)) as document:
        found = {name: one.get_file().read_bytes().decode() for name, one in document.attachments.items()}
        assert found == data()
        assert {str(one.AFRelationship) for one in document.Root.AF} == {"/Data"}
        assert "2026-06-12" in str(document.attachments["estimates.csv"].get_file().creation_date)
    with pikepdf.open(folder_file("plain.pdf", archived().pdf)) as document:
        assert not document.attachments


def folder_file(name: str, content: bytes) -> Path:
    path = folder() / name
    path.write_bytes(content)
    return path


def test_an_archive_copy_made_again_has_the_same_bytes():
    assert render(archive_model(), ROOT, attached=data()) == archived()


def test_an_attachment_that_is_not_the_reports_own_is_refused():
    with pytest.raises(PipelineError, match="attachments"):
        finish(archived().archive, {**data(), "estimates.csv": "other"})
    with pytest.raises(PipelineError, match="EmbeddedFile"):
        finish(archived().archive)


# --- the tests can fail -----------------------------------------------------------------------------------------------


def laid_out(style: str) -> list:
    words = "<p>One sentence of words.</p><p>Another sentence of words.</p>"
    head = f'<title>t</title><link rel="stylesheet" href="report.css"><style>{style}</style>'
    text = f'<html lang="en"><head>{head}</head><body>{words}</body></html>'
    return pages(folder_file("spoilt.pdf", stage._lay_out(text, ROOT / "templates", model("evidence-internal"), {})))


def test_words_outside_or_on_each_other_are_seen():
    (plain,) = laid_out("")
    assert outside(plain, SIDE) == overlapping(plain) == []
    assert outside(laid_out("p { margin-left: -12mm }")[0], SIDE)
    assert overlapping(laid_out("p + p { margin-top: -5mm }")[0])
