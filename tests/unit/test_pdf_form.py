"""The form of every PDF: each word in its place, no page nearly empty, contents that lead where they say, valid tags."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise, zip_longest
from pathlib import Path
from tempfile import mkdtemp

import page as validator
import patient_fixture
import pikepdf
import pytest
from cohort_tables import the_study
from every_report import EVERY, made
from printed_numbers import ANY_NUMBER, everything_on
from report_fixture import provenance, releasable

from crps_outcomes.errors import PipelineError
from crps_outcomes.language import PLAIN, Form
from crps_outcomes.pdf_finish import finish
from crps_outcomes.report_model import Run
from crps_outcomes.stages import render as stage
from crps_outcomes.stages.publish import attached
from crps_outcomes.stages.render import Rendered, page_html, render
from crps_outcomes.traced import plain
from pdf_pages import Page, filled, headings, needs_poppler, outside, overlapping, pages, words

pytestmark = needs_poppler
ROOT = the_study().root
SIDE = 48  # points: 18 mm of margin, less what the box of a letter may stand over
LONG_NAME = (
    "Universitätsklinikum für Schmerztherapie, Neuromodulation und Rehabilitationsmedizin am "
    "Saint-Bartholomäus-Schmerzbehandlungszentrumsverwaltungsgebäudekomplexerweiterungsbau der Nordostregion, "
    "Abteilung für Schmerzforschung und Versorgungsqualitätssicherungsdokumentation"
)
#: How many pages each report may have, whatever its cohort, edition, paper and name of the clinic.
PAGES = {"evidence": range(10, 36), "quality": range(3, 14), "plain": {2}, "patient": range(1, 4)}
WITHOUT_CONTENTS = {"plain", "patient"}  # of two pages


def longer(model):
    """The report with a headline longer by a third."""
    first = model.sections[0]
    said = "".join(run.text for run in first.headline)
    more = Run(f" {said[: len(said) // 3].rsplit(' ', 1)[0]}.")
    return replace(model, sections=(replace(first, headline=(*first.headline, more)), *model.sections[1:]))


def a_person(subject, form=PLAIN, site=""):
    study = the_study()
    study = replace(study, protocol=study.protocol.model_copy(update={"site": site or study.protocol.site}))
    return patient_fixture.page(subject, replace(patient_fixture.origin(patient_fixture.WEEK_14), form=form), study)


#: Each report in each edition once, with sizes, papers, languages and long names spread over them.
CASES = {
    "evidence-internal": lambda: made("evidence", "internal"),
    "evidence-release": lambda: longer(made("evidence", "release", 12, Form("de", "Letter"), LONG_NAME)),
    "quality-internal": lambda: made("quality", "internal", site=LONG_NAME),
    "quality-release": lambda: made("quality", "release", 12),
    "plain-internal": lambda: made("plain", "internal", form=Form("de"), site=LONG_NAME),
    "plain-release": lambda: made("plain", "release", 12, Form(archive=True)),
    "patient-internal": lambda: a_person(patient_fixture.FULL),
    "patient-of-doses-alone": lambda: a_person(patient_fixture.DOSES_ONLY, Form("de", "Letter"), LONG_NAME),
}
COHORTS = (12, 60, 600)
FORMS = {
    "a4": (PLAIN, ""),
    "a4-german-long": (Form("de"), LONG_NAME),
    "letter-long": (Form("en-US", "Letter"), LONG_NAME),
}
#: Every report, edition, cohort and form; every person; and the archive copy's own look of a long report.
MATRIX = {
    **{
        f"{name}-{edition}-{n}-{form}": lambda name=name, edition=edition, n=n, form=form: made(name, edition, n, *FORMS[form])
        for name, edition in EVERY if name != "patient" for n in COHORTS for form in FORMS
    },
    **{
        f"patient-{subject}-{form}": lambda subject=subject, form=form: a_person(subject, *FORMS[form])
        for subject in (patient_fixture.FULL, patient_fixture.SINGLE, patient_fixture.DOSES_ONLY, patient_fixture.UNSURE)
        for form in FORMS
    },
}  # fmt: skip
MADE = CASES | MATRIX
EACH = [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in MATRIX)]


@cache
def folder() -> Path:
    return Path(mkdtemp(prefix="crps-pdf-"))


@cache
def model(name: str):
    return MADE[name]()


@cache
def rendered(name: str) -> Rendered:
    return render(model(name), ROOT, attached=data() if model(name).form.archive else None)


@cache
def file(name: str) -> Path:
    return folder_file(f"{name}.pdf", rendered(name).pdf)


@cache
def laid(name: str) -> list[Page]:
    return pages(file(name))


def tool(*command: object) -> str:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", EACH)
def test_every_word_is_on_its_page_and_on_no_other_word(name):
    for number, one in enumerate(laid(name), 1):
        assert outside(one, SIDE) == [], number
        assert overlapping(one) == [], number


@pytest.mark.parametrize("name", EACH)
def test_no_page_is_half_empty_and_none_too_many(name):
    found = laid(name)
    assert len(found) in PAGES[model(name).report]
    for number, one in enumerate(found, 1):
        assert len(words(one)) > 20, number
        assert filled(one) > (0.15 if number == len(found) else 0.4), number


@pytest.mark.parametrize("name", EACH)
def test_every_heading_has_two_lines_below_it_on_its_page_or_all_there_is(name):
    marks = headings(file(name))
    for heading, following in zip_longest(marks, marks[1:]):
        own = 12 if heading.level == 3 else 20  # the heading's own line, in points
        below = {round(word.top) for word in words(laid(name)[heading.page - 1]) if word.top > heading.top + own}
        is_whole = following is None or (following.page == heading.page + 1 and following.top < 90)
        assert len(below) >= (1 if is_whole else 2), heading


@pytest.mark.parametrize("name", EACH)
def test_sections_stand_in_their_order_and_the_contents_of_page_one_give_their_pages(name):
    sections = model(name).contents
    marks = headings(file(name))
    assert [mark.level for mark in marks][:1] == [1]
    assert all(later.level - before.level <= 1 for before, later in pairwise(marks))
    started = {" ".join(mark.text.split()): mark.page for mark in marks}
    places = [started.get(" ".join(plain(one.finding).split())) for one in sections]
    assert None not in places
    assert places == sorted(places)
    assert places[0] in {1, 2}
    told = " ".join(word.text for word in laid(name)[0].words)
    listed = () if model(name).report in WITHOUT_CONTENTS else zip(sections, places, strict=True)
    for section, place in listed:
        assert re.search(rf"{re.escape(section.short)}[ .]+{place}\b", told), section.short


@pytest.mark.parametrize("name", EACH)
def test_the_pdf_prints_the_numbers_of_the_page_and_no_other_but_page_numbers_and_heads_of_tables_again(name):
    """So every number of the PDF is one that test_traceability finds through its id."""
    text = tool("pdftotext", "-raw", file(name), "-")
    n_pages = text.count("\f")
    page = page_html(model(name), ROOT / "templates")
    on_page = Counter(ANY_NUMBER.findall(" ".join(everything_on(page))))
    heads = {*ANY_NUMBER.findall(re.sub("<[^>]+>", " ", " ".join(re.findall("<thead>.*?</thead>", page, re.DOTALL))))}
    in_pdf = Counter(ANY_NUMBER.findall(text))
    running = Counter(ANY_NUMBER.findall(model(name).running) * n_pages)  # what the foot of a page says again
    lacking, added = on_page - in_pdf, in_pdf - on_page - running
    lost = []
    for whole in lacking.elements():  # a long identifier may break at the end of a line
        pieces = ((whole[:at], whole[at:]) for at in range(1, len(whole)))
        broken = next((Counter(two) for two in pieces if all(added[piece] for piece in two)), Counter())
        added -= broken
        lost += [] if broken else [whole]
    assert lost == []
    assert plain(text) == text
    assert [one for one in added if one not in heads and not (one.isdigit() and int(one) <= n_pages)] == []


@pytest.mark.parametrize("name", EACH)
def test_every_pdf_passes_every_rule_of_pdf_ua_1_in_its_own_language(name):
    checked = validator.validate_pdf(str(file(name)), profile="ua1")
    assert checked.is_compliant, checked
    with pikepdf.open(file(name)) as document:
        assert str(document.Root.Lang) == model(name).form.lang


@pytest.mark.parametrize("name", EACH)
def test_every_pdf_uses_the_bundled_families_alone(name):
    names = {line.split()[0].split("+")[-1] for line in tool("pdffonts", file(name)).splitlines()[2:]}
    assert names
    assert all(one.replace("-", "").startswith(("SourceSansPro", "SourceSerifPro")) for one in names)


@pytest.mark.parametrize("name", ["evidence-internal", "quality-release", "plain-internal", "patient-internal"])
def test_rendering_again_gives_the_same_bytes(name):
    assert render(model(name), ROOT) == rendered(name)


def test_every_page_says_that_the_data_are_synthetic_and_which_edition_it_is():
    for text in tool("pdftotext", "-layout", file("evidence-internal"), "-").rstrip("\f").split("\f"):
        assert "Synthetic data" in text
        assert "Internal edition: contains small cells" in text


def test_page_one_holds_headline_results_plain_words_limits_and_contents():
    first = tool("pdftotext", "-l", 1, file("evidence-internal"), "-")
    parts = ("Key results", "In plain words", "What this report cannot tell you", "Methods and limits")
    assert all(one in first for one in parts)


def test_table_heads_have_their_scope_and_links_are_printable():
    with pikepdf.open(file("evidence-internal")) as document:
        heads = [
            o for o in document.objects if isinstance(o, pikepdf.Dictionary) and o.get("/S") == "/TH" and "/A" in o
        ]
        assert {str(head.A.Scope) for head in heads} == {"/Column", "/Row"}
        assert len(document.Root.StructTreeRoot.IDTree.Names) == 2 * sum("/ID" in head for head in heads)
        links = [a for p in document.pages for a in p.get("/Annots", ())]
        assert {str(link.Dest) for link in links} == {section.id for section in model("evidence-internal").sections}
        assert all(int(link.F) & 4 for link in links)
        assert "/Filter" not in document.Root.Metadata.stream_dict


def test_the_document_is_dated_by_the_data_not_by_the_clock():
    said = tool("pdfinfo", "-isodates", file("evidence-internal"))
    assert "CreationDate:    2026-06-12" in said
    assert "Title:           Intramuscular ketamine" in said


def test_letter_is_letter_and_a4_is_a4():
    for name in CASES:
        size = round(laid(name)[0].width), round(laid(name)[0].height)
        assert size == ((612, 792) if model(name).form.paper == "Letter" else (595, 842)), name


def test_a_german_report_has_german_furniture_and_days():
    text = tool("pdftotext", "-layout", file("evidence-release"), "-")
    assert all(
        words in text
        for words in ("Seite 1 von", "Tabelle 1.", "Abbildung 1.", "12. Juni 2026", "Gültig bis", "17. Juli 2026")
    )
    assert not re.search(r"Page \d|Table \d|Figure \d", text)


# --- the archive copy -------------------------------------------------------------------------------------------------


def data() -> dict[str, str]:
    return attached(releasable(12, "release"), provenance("release"))


ARCHIVES = ["plain-release", pytest.param("evidence-archive", marks=pytest.mark.slow)]
MADE["evidence-archive"] = lambda: made("evidence", "release", 60, Form(archive=True))


@pytest.mark.parametrize("name", ARCHIVES)
def test_the_archive_copy_passes_pdf_a_3a_and_pdf_ua_1(name):
    path = folder_file("archive.pdf", rendered(name).archive)
    for profile in ("pdfa3a", "ua1"):
        checked = validator.validate_pdf(str(path), profile=profile)
        assert checked.is_compliant, checked


@pytest.mark.parametrize("name", ARCHIVES)
def test_the_archive_copy_carries_the_data_of_its_report_and_the_report_itself_carries_none(name):
    with pikepdf.open(folder_file("archive.pdf", rendered(name).archive)) as document:
        found = {name: one.get_file().read_bytes().decode() for name, one in document.attachments.items()}
        assert found == data()
        assert {str(one.AFRelationship) for one in document.Root.AF} == {"/Data"}
        assert "2026-06-12" in str(document.attachments["estimates.csv"].get_file().creation_date)
    with pikepdf.open(file(name)) as document:
        assert not document.attachments


def folder_file(name: str, content: bytes) -> Path:
    path = folder() / name
    path.write_bytes(content)
    return path


def test_an_archive_copy_made_again_has_the_same_bytes():
    assert render(model("plain-release"), ROOT, attached=data()) == rendered("plain-release")


def test_an_attachment_that_is_not_the_reports_own_is_refused():
    with pytest.raises(PipelineError, match="attachments"):
        finish(rendered("plain-release").archive, {**data(), "estimates.csv": "other"})
    with pytest.raises(PipelineError, match="EmbeddedFile"):
        finish(rendered("plain-release").archive)


# --- the tests can fail -----------------------------------------------------------------------------------------------


def laid_out(style: str, words: str = "<p>One sentence of words.</p><p>Another sentence of words.</p>") -> list[Page]:
    head = f'<title>t</title><link rel="stylesheet" href="report.css"><style>{style}</style>'
    text = f'<html lang="en"><head>{head}</head><body>{words}</body></html>'
    return pages(folder_file("spoilt.pdf", stage._lay_out(text, ROOT / "templates", model("plain-internal"), {})))


def test_words_outside_or_on_each_other_are_seen():
    (plain,) = laid_out("")
    assert outside(plain, SIDE) == overlapping(plain) == []
    assert filled(plain) < 0.15
    assert outside(laid_out("p { margin-left: -12mm }")[0], SIDE)
    assert overlapping(laid_out("p + p { margin-top: -5mm }")[0])


def test_a_table_breaks_between_rows_under_its_head_and_leaves_five_on_each_page():
    rows = "".join(f"<tr><th>row</th><td>value-{number}</td></tr>" for number in range(12))
    table = f"<div class=table><table><thead><tr><th>Head</th><th>Other</th></tr></thead><tbody>{rows}</tbody></table></div>"
    before = {}
    for space in (200, 212, 224):
        text = f"<p>Before.</p>{table}"
        one, other = laid_out(f"table {{ line-height: 6mm }} p {{ margin-bottom: {space}mm }}", text)
        before[space] = sum(word.text.startswith("value") for word in one.words)
        assert "Head" in {word.text for word in other.words}
    assert set(before.values()) <= {0, 5, 6, 7}
    assert before[200] > 0
    assert before[224] == 0
