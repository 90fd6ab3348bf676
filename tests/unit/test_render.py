"""Rendering: from the study's own files only, and every text escaped. What whole PDFs look like: test_pdf_form.py."""

from __future__ import annotations

import io
import re
from dataclasses import fields, replace
from html.parser import HTMLParser

import pikepdf
import pytest
from cohort_tables import the_study
from jinja2 import StrictUndefined, UndefinedError
from report_fixture import model

from crps_outcomes.errors import DefinitionError, PipelineError
from crps_outcomes.number_links import linked
from crps_outcomes.pdf_finish import finish, refuse_active
from crps_outcomes.report_model import Cell, ReportModel
from crps_outcomes.stages import render as stage
from crps_outcomes.stages.render import page_environment, page_html, self_contained

ROOT = the_study().root
TEMPLATES = ROOT / "templates"
FEW = 24  # people: enough for every drawing
HOSTILE = (
    "<script>alert(1)</script>", "</title><img src=x onerror=alert(1)>", '"><svg/onload=alert(1)>', "{{ 7 * 7 }}",
    "{% include 'report.css' %}", "<style>@import 'https://evil.example'</style>", "&lt;b&gt;", "]]><b>", "javascript:alert(1)",
    "' onmouseover='x", "url(file:///etc/passwd)", "<!-- -->", "\u202ereversed",
)  # fmt: skip


class Outline(HTMLParser):
    """Elements, ids and the svgs without a title of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.svg_titles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        if tag == "svg":
            self.svg_titles.append("")

    def handle_data(self, data):
        if self.tags[-1:] == ["title"] and self.svg_titles:
            self.svg_titles[-1] += data


# --- the HTML -------------------------------------------------------------------------------------------------------


def test_the_html_is_one_file_that_asks_for_nothing():
    own = model(FEW)
    html = self_contained(linked(page_html(own, TEMPLATES), own.behind), TEMPLATES)
    outside = re.findall(r"""(?:src|href)=["'](?!#)[^"']*|url\((?!data:|#)[^)]*|@import[^;]*""", html)
    assert outside == []


@pytest.mark.parametrize(("n", "edition"), [(2, "internal"), (FEW, "internal"), (12, "release")])
def test_every_drawing_has_a_text_alternative_and_every_id_is_unique(n, edition):
    outline = Outline(page_html(model(n, edition), TEMPLATES))
    assert all(outline.svg_titles)
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.tags.count("h1") == 1


def test_no_text_of_the_data_becomes_markup():
    clean, dirty = (Outline(page_html(with_text(text), TEMPLATES)).tags for text in ("harmless", " ".join(HOSTILE)))
    assert clean == dirty
    page_text = page_html(with_text("{{ 7 * 7 }}"), TEMPLATES)
    assert "{{ 7 * 7 }}" in page_text


def with_text(text: str):
    """The report with a text in every place that a template prints."""

    def table(own):
        rows = tuple(tuple(replace(cell, text=text) if not cell.drawing else cell for cell in row) for row in own.rows)
        return replace(
            own, title=text, encoding=text, note=text, empty=text, rows=rows or ((Cell(text),) * len(own.columns),)
        )

    def section(own):
        return replace(
            own, finding=text, lede=text, short=text, headline=tuple(replace(run, text=text) for run in own.headline),
            tables={key: table(item) for key, item in own.tables.items()},
            figures={key: replace(item, title=text, encoding=text) for key, item in own.figures.items()},
            text={key: tuple(text for _ in item) for key, item in own.text.items()},
        )  # fmt: skip

    own = model(FEW)
    return replace(own, title=text, kind=text, author=text, subject=text, running=text, status=(text,), meta=((text, text),),
                   sections=tuple(section(item) for item in own.sections))  # fmt: skip


def test_texts_are_escaped_and_a_missing_one_is_an_error():
    environment = page_environment(TEMPLATES)
    assert environment.autoescape is True
    assert environment.undefined is StrictUndefined


#: Not printed in a page: an id, a digest of the file, what the library says of the run, and the links of a screen.
UNPRINTED = {"report", "identity", "pulled", "behind"}


@pytest.mark.parametrize("name", [field.name for field in fields(ReportModel) if field.name not in UNPRINTED])
def test_a_page_without_one_of_its_parts_is_not_printed(name):
    class Lacking:
        def __getattr__(self, asked: str):
            if asked == name:
                raise AttributeError(asked)
            return getattr(model(FEW), asked)

    with pytest.raises((UndefinedError, AttributeError)):
        page_environment(TEMPLATES).get_template("report.html.j2").render(report=Lacking())


def test_a_template_that_links_its_style_otherwise_is_refused():
    with pytest.raises(DefinitionError, match="should hold"):
        self_contained("<html></html>", TEMPLATES)


# --- what the layout engine may not do ------------------------------------------------------------------------------


FETCHES = {
    "an outside picture": '<img alt="x" src="https://evil.example/a.png">',
    "a file of the machine": '<img alt="x" src="file:///etc/hostname">',
    "a way out of the folder": '<img alt="x" src="../mappings/protocol.toml">',
    "data inside the page": '<img alt="x" src="data:image/png;base64,AAAA">',
    "an outside style": '<link rel="stylesheet" href="http://127.0.0.1:9/x.css">',
    "an outside font": "<style>@font-face { font-family: x; src: url(https://evil.example/x.ttf) }</style><p>x</p>",
    "an attachment": '<link rel="attachment" href="file:///etc/hostname">',
}


@pytest.mark.parametrize("what", FETCHES)
def test_the_layout_engine_fetches_nothing_but_the_studys_files(what):
    with pytest.raises(PipelineError, match="templates folder only"):
        lay_out(f'<html lang="en"><head><title>t</title></head><body>{FETCHES[what]}</body></html>')


def test_a_warning_of_the_layout_engine_stops_the_render():
    style = '<link rel="stylesheet" href="report.css">'
    with pytest.raises(PipelineError, match="warned"):
        lay_out(f'<html lang="en"><head><title>t</title>{style}</head><body style="colour: red">x</body></html>')


def lay_out(text: str) -> bytes:
    return stage._lay_out(text, TEMPLATES, model(FEW), {})


def test_a_render_that_takes_too_long_is_stopped(monkeypatch):
    monkeypatch.setattr(stage, "SECONDS", 0.01)
    with pytest.raises(PipelineError, match="no PDF after"):
        lay_out("<html></html>")


@pytest.mark.parametrize("key", ["/OpenAction", "/AA"])
def test_a_pdf_that_does_something_is_refused(key):
    document = pikepdf.new()
    document.add_blank_page()
    document.Root[key] = pikepdf.Dictionary(S=pikepdf.Name.JavaScript, JS="app.alert(1)")
    out = io.BytesIO()
    document.save(out)
    with pytest.raises(PipelineError, match="JavaScript"):
        finish(out.getvalue())


def test_a_plain_pdf_is_not_refused():
    document = pikepdf.new()
    document.add_blank_page()
    refuse_active(document)
