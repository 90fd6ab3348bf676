"""Pages made from hostile texts: they stay texts, nothing is fetched, nothing runs, and no page is without end (T11 to T16)."""

from __future__ import annotations

import ast
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import page
import pikepdf
import pytest
import tinyhtml5
from cohort_tables import the_study
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import Environment, StrictUndefined, UndefinedError
from report_fixture import facts, model, provenance, releasable

from crps_outcomes import figures
from crps_outcomes.errors import PipelineError
from crps_outcomes.figure_kit import canvas, drawing, inline_svg
from crps_outcomes.home import Home
from crps_outcomes.pdf_finish import finish
from crps_outcomes.report_model import Cell, Column, Figure, ReportModel, Section, Table
from crps_outcomes.stages import render as stage
from crps_outcomes.stages.compose import compose
from crps_outcomes.stages.publish import publish
from crps_outcomes.stages.render import Rendered, in_fonts, page_environment, page_html, render
from crps_outcomes.texts import LONGEST, printable
from hostile_texts import PAYLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = the_study().root
TEMPLATES = ROOT / "templates"
PACKAGE = Path(stage.__file__).parents[1]

# --- T11: text stays text -------------------------------------------------------------------------------------------

#: Names of our own making, and drawings; everything else that is a string holds words, and a new field is taken for one.
NO_WORDS = {
    "id",
    "svg",
    "style",
    "line",
    "band",
    "identity",
    "created",
    "lang",
    "text_lang",
    "report",
    "section",
    "form",
}


def dom(text: str) -> Counter[str]:
    """How many elements of each name a browser makes of a page, with the names of their attributes."""
    tree = tinyhtml5.parse(text, namespace_html_elements=False)
    found = [one for one in tree.iter() if isinstance(one.tag, str)]
    assert len(found) > 10
    return Counter(f"{one.tag} {' '.join(sorted(one.attrib))}" for one in found)


def rewritten(part, word):
    """A piece of the report with ``word(old)`` in place of every text, and tables of two rows at most."""
    if isinstance(part, str):
        return word(part)
    if isinstance(part, tuple):
        return tuple(rewritten(one, word) for one in part)
    if isinstance(part, dict):
        return {key: rewritten(one, word) for key, one in part.items()}
    if not is_dataclass(part):
        return part
    if isinstance(part, Table):
        part = replace(part, rows=part.rows[:2])
    if isinstance(part, Figure) and part.svg:
        part = replace(part, svg='<svg role="img"><title>drawn</title></svg>')
    names = [own.name for own in fields(part) if own.name not in NO_WORDS and "Literal" not in str(own.type)]
    return replace(part, **{name: rewritten(getattr(part, name), word) for name in names})


def in_every_place(own: ReportModel, payload: str) -> ReportModel:
    return rewritten(own, lambda old: payload if old else old)


def harmless(payload: str) -> str:
    return re.sub(r"\S", "x", payload)


@cache
def harmless_dom(payload: str) -> Counter[str]:
    return dom(page_html(in_every_place(model(), payload), TEMPLATES))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_T11_a_hostile_text_in_every_place_of_a_page_gives_the_elements_of_its_harmless_twin(payload):
    assert dom(page_html(in_every_place(model(), payload), TEMPLATES)) == harmless_dom(harmless(payload))


def test_T11_there_are_forty_hostile_texts_and_each_of_them_is_on_the_page():
    assert len(set(PAYLOADS)) >= 40
    text = page_html(in_every_place(model(), "<b>&\"'"), TEMPLATES)
    assert text.count("&lt;b&gt;&amp;&#34;&#39;") > 500


def rotating(word):
    """A function that gives another payload each time it is asked, or its twin."""
    place = iter(range(100_000))
    return lambda: word(PAYLOADS[next(place) % len(PAYLOADS)])


def hostile_facts(word):
    """What the sections get, with hostile texts wherever the source or the study folder may have written one."""
    own, text = facts(), rotating(word)
    terms = dict.fromkeys(sorted(set(own.releasable.estimates.query("statistic == 'term_people'")["group"])), "")
    terms = {term: printable(text()) for term in terms} or {"none": ""}
    released = replace(
        own.releasable,
        estimates=own.releasable.estimates.replace({"group": terms}),
        rejections=own.releasable.rejections.assign(reason=lambda frame: [text() for _ in range(len(frame))]),
        sources=own.releasable.sources.assign(hole=lambda frame: [text() for _ in range(len(frame))]),
        counts=own.releasable.counts.assign(
            label=lambda frame: [text() for _ in range(len(frame))],
            reason=lambda frame: [text() for _ in range(len(frame))],
        ),
    )
    protocol = own.protocol.model_copy(update={"title": text(), "site": text(), "id": text(), "version": text()})
    measures = {
        name: one.model_copy(update={
            "name": text(), "short": text(), "unit": text(),
            "citations": tuple(cited.model_copy(update={"text": text()}) for cited in one.citations),
        }) for name, one in own.study.measures.items()
    }  # fmt: skip
    evidence = replace(own.study.evidence, **{
        part.name: tuple(_said(row, text, {"reading"}) for row in getattr(own.study.evidence, part.name))
        for part in fields(own.study.evidence)
    })  # fmt: skip
    checklists = {
        name: tuple(_said(row, text, {"item", "how", "state"}) for row in rows)
        for name, rows in own.study.checklists.items()
    }
    study = replace(own.study, protocol=protocol, measures=measures, evidence=evidence, checklists=checklists)
    report = own.report.model_copy(update={"title": text(), "kind": text(), "audience": text()})
    origin = replace(provenance(), selector=text(), software={text(): text()}, source_kind=text())
    return released, study, report, origin


def _said(row, text, but=frozenset()):
    """A row of the study folder with hostile texts in its free texts: those that hold a blank."""
    words = {name: text() for name, old in row if isinstance(old, str) and " " in old and name not in but}
    return row.model_copy(update=words)


def test_T11_hostile_texts_of_source_and_study_folder_give_the_elements_of_their_harmless_twins():
    dirty, clean = (page_html(compose(*hostile_facts(word)), TEMPLATES) for word in (str, harmless))
    assert dom(dirty) == dom(clean)
    assert all(text.strip() not in dirty for text in PAYLOADS if text.startswith("<") and text.endswith(">"))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_T11_a_hostile_label_or_text_alternative_of_a_figure_is_a_text_in_it(payload):
    def drawn(text):
        with drawing(TEMPLATES):
            figure, axes = canvas(200)
            axes.set_axis_off()
            axes.text(0.1, 0.5, text, size=4)
            return inline_svg(figure, "key", text)

    assert figures.inline_svg is inline_svg
    dirty, clean = (
        dom(f"<!DOCTYPE html><title>t</title>{'<p>x</p>' * 9}{drawn(text)}") for text in (payload, harmless(payload))
    )
    assert dirty == clean


# --- T12: nothing is fetched ----------------------------------------------------------------------------------------

FETCHING = {
    "link": '<link rel="stylesheet" href="{0}/a.css">', "attachment": '<link rel="attachment" href="{0}/a">',
    "attached anchor": '<a rel="attachment" href="{0}/a">x</a>',
    "import": "<style>@import '{0}/b.css';</style>", "import url": "<style>@import url({0}/b.css);</style>",
    "font": "<style>@font-face {{ font-family: e; src: url({0}/f.ttf) }} p {{ font-family: e }}</style><p>x</p>",
    "background": '<p style="background: url({0}/c.png)">x</p>', "marker": '<ul><li style="list-style: url({0}/d.png)">x</li></ul>',
    "content": "<style>p::before {{ content: url({0}/e.png) }}</style><p>x</p>",
    "border": '<p style="border: 1px solid; border-image: url({0}/e.png) 1">x</p>',
    "page": "<style>@page {{ background: url({0}/g.png) }}</style>", "img": '<img alt="x" src="{0}/h.png">',
    "object": '<object data="{0}/i.png"></object>', "embed": '<embed src="{0}/j.png">',
    "svg image": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="{0}/k.png" width="9" height="9"/></svg>',
    "base": '<base href="{0}/"><img alt="x" src="m.png">', "scheme": '<img alt="x" src="//{1}/n.png">',
    "data svg": '<img alt="x" src="data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22%3E%3Cimage href=%22{0}/o.png%22/%3E%3C/svg%3E">',
    "file": '<img alt="x" src="file:///etc/hostname">', "climb": '<img alt="x" src="../mappings/protocol.toml">',
    "encoded climb": '<img alt="x" src="%2e%2e/mappings/protocol.toml">', "file host": '<img alt="x" src="file://{1}/etc/hostname">',
    "ftp": '<img alt="x" src="ftp://{1}/a">', "attached file": '<link rel="attachment" href="file:///etc/hostname">',
    "attached climb": '<link rel="attachment" href="../mappings/protocol.toml">',
}  # fmt: skip
IGNORED = (
    '<iframe src="{0}/p"></iframe><script src="{0}/q.js"></script><video src="{0}/r" poster="{0}/s.png"></video>'
    '<audio src="{0}/t"></audio><input type="image" src="{0}/u.png"><meta http-equiv="refresh" content="0;url={0}/v">'
    '<img alt="x" srcset="{0}/w.png 1x"><form action="{0}/x"></form><table background="{0}/y.png"><tr><td>x</td></tr></table>'
    '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><use href="{0}/l.svg#a"/></svg>'
)
#: Lays out each page with the fetcher of the render and nothing else between it and the network; prints how each ended.
LAID_OUT = """
import json, logging, sys
from pathlib import Path
import weasyprint
from crps_outcomes.stages.render import _fetcher, _Listener
task = json.load(sys.stdin)
ends, templates = {}, Path(task["templates"])
for name, page in task["pages"].items():
    said = _Listener()
    logging.getLogger("weasyprint").handlers = [said]
    try:
        weasyprint.HTML(string=page, base_url=templates.as_uri() + "/", url_fetcher=_fetcher(templates)).write_pdf()
        ends[name] = "stopped" if said.heard else "laid out"
    except BaseException as error:
        ends[name] = "stopped" if type(error).__name__ == "FatalURLFetchingError" else type(error).__name__
print(json.dumps(ends))
"""


@contextmanager
def listener() -> Iterator[tuple[str, list[object]]]:
    """An address on this machine, and who called."""
    called: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, who = server.accept()
                except OSError:
                    return
                called.append(who)
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}", called
        time.sleep(0.2)
        server.close()


def html(body: str) -> str:
    return f'<!DOCTYPE html><html lang="en"><head><title>t</title><link rel="stylesheet" href="report.css"></head><body>{body}</body></html>'


def own_python(code: str, task: object = "") -> subprocess.CompletedProcess[bytes]:
    """Run Python on the package under test in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(task).encode(), capture_output=True, env=environment, check=False
    )


def test_T12_a_page_that_tries_every_way_to_fetch_reaches_nobody_and_each_way_stops_the_render():
    with listener() as (address, called):
        pages = {name: html(body.format(f"http://{address}", address)) for name, body in FETCHING.items()}
        done = own_python(
            LAID_OUT,
            {"templates": str(TEMPLATES), "pages": pages | {"ignored": html(IGNORED.format(f"http://{address}"))}},
        )
    ends = json.loads(done.stdout)
    assert called == []
    assert ends.pop("ignored") == "laid out"
    assert ends == dict.fromkeys(FETCHING, "stopped")


def test_T12_the_listener_hears_whoever_calls():
    with listener() as (address, called):
        host, port = address.split(":")
        socket.create_connection((host, int(port))).close()
        socket.create_connection((host, int(port))).close()
    assert called


def test_T12_the_render_says_that_it_stopped_and_why():
    with pytest.raises(PipelineError, match="render failed: a page may use files of the templates folder only"):
        stage._lay_out(html(FETCHING["img"].format("http://127.0.0.1:9", "")), TEMPLATES, model(), {})


#: The child of the render with another task than to lay out a page.
CHILD = """
import os, socket
import crps_outcomes.stages.render as stage
stage.write_pdf = lambda *task: {}
stage.child()
"""
TASK = {"html": "", "templates": str(TEMPLATES), "identity": "", "attached": {}, "created": "2026-01-01"}


def test_T12_the_layout_engine_works_in_a_network_of_its_own_where_the_system_allows_it():
    if own_python("import sys, crps_outcomes.stages.render as r; sys.exit(not r.leave_network())").returncode:
        pytest.skip("this system does not let a process leave its network; the fetcher and the audit hook remain")
    done = own_python(CHILD.format('os.readlink("/proc/self/ns/net").encode()'), TASK)
    assert done.stdout.startswith(b"net:[")
    assert done.stdout.decode() != str(Path("/proc/self/ns/net").readlink())
    with listener() as (address, called):
        port = address.split(":")[1]
        code = (
            "import socket, crps_outcomes.stages.render as r\nr.leave_network()\n"
            f"print(socket.socket().connect_ex(('127.0.0.1', {port})))"
        )
        assert int(own_python(code).stdout) != 0
    assert called == []


def test_T12_a_library_that_opens_a_connection_all_the_same_stops_the_render():
    done = own_python(CHILD.format('socket.create_connection(("127.0.0.1", 9))'), TASK)
    assert done.returncode == stage.REFUSED
    assert b"asked for the network" in done.stderr


# --- T13: nothing active in a PDF -----------------------------------------------------------------------------------

D, N, A = pikepdf.Dictionary, pikepdf.Name, pikepdf.Array


def blank() -> pikepdf.Pdf:
    document = pikepdf.new()
    document.add_blank_page()
    return document


def annotated(**parts):
    def plant(document):
        own = document.make_indirect(D(Type=N.Annot, Rect=[0, 0, 9, 9], **parts))
        document.pages[0].Annots = A([own])

    return plant


def rooted(**parts):
    def plant(document):
        for name, value in parts.items():
            document.Root[f"/{name}"] = value(document) if callable(value) else value

    return plant


def untyped_file(document):
    return A([D(F="x.txt", EF=D(F=document.make_stream(b"x")))])


def external_stream(document):
    document.Root.Extra = document.make_stream(b"", F=D(F="https://e.example/x"))


PLANTS = {
    "script of the document": rooted(Names=D(JavaScript=D(Names=A(["x", D(S=N.JavaScript, JS="app.alert(1)")])))),
    "script at opening": rooted(OpenAction=D(S=N.JavaScript, JS="app.alert(1)")),
    "address at opening": rooted(OpenAction=D(S=N.URI, URI="https://e.example")),
    "action of a page": lambda document: document.pages[0].__setattr__("AA", D(O=D(S=N.Named, N=N.Print))),
    "program": annotated(Subtype=N.Link, A=D(S=N.Launch, F="calc.exe")),
    "link": annotated(Subtype=N.Link, A=D(S=N.URI, URI="https://e.example")),
    "link to a script": annotated(Subtype=N.Link, A=D(S=N.URI, URI="javascript:alert(1)")),
    "link to a file": annotated(Subtype=N.Link, A=D(S=N.URI, URI="file:///etc/passwd")),
    "chained action": annotated(Subtype=N.Link, A=D(S=N.GoTo, D="x", Next=A([D(S=N.Launch, F="calc.exe")]))),
    "other document": annotated(Subtype=N.Link, A=D(S=N.GoToR, F="x.pdf")),
    "embedded document": annotated(Subtype=N.Link, A=D(S=N.GoToE, T=D(R=N.C))),
    "form to send": annotated(Subtype=N.Link, A=D(S=N.SubmitForm, F="https://e.example")),
    "data to import": annotated(Subtype=N.Link, A=D(S=N.ImportData, F="x.fdf")),
    "attached file": annotated(Subtype=N.FileAttachment, FS=D(F="x")),
    "film": annotated(Subtype=N.Screen, A=D(S=N.Rendition)), "old film": annotated(Subtype=N.Movie),
    "sound": annotated(Subtype=N.Sound), "rich media": annotated(Subtype=N.RichMedia), "solid": annotated(Subtype=N("/3D")),
    "embedded files": rooted(Names=D(EmbeddedFiles=D(Names=A([])))), "form": rooted(AcroForm=D(Fields=A([]))),
    "form of XML": rooted(AcroForm=D(Fields=A([]), XFA="x")), "file without a type": rooted(AF=untyped_file),
    "stream kept elsewhere": external_stream,
    "base address of links": rooted(URI=D(Base="https://e.example")),
}  # fmt: skip


@pytest.mark.parametrize("what", PLANTS)
def test_T13_whatever_acts_or_leads_out_of_a_PDF_is_found_and_refused(what, tmp_path):
    document = blank()
    PLANTS[what](document)
    document.save(tmp_path / "planted.pdf", object_stream_mode=pikepdf.ObjectStreamMode.generate)
    with pytest.raises(PipelineError, match="the PDF holds"):
        finish((tmp_path / "planted.pdf").read_bytes())


def test_T13_a_link_in_a_page_does_not_reach_the_PDF():
    for target in ("https://e.example", "javascript:alert(1)", "file:///etc/passwd", "mailto:a@e.example"):
        with pytest.raises(PipelineError, match=r"the PDF holds|templates folder"):
            stage._lay_out(html(f'<a href="{target}">x</a>'), TEMPLATES, model(), {})


# --- T14 and T15: templates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [text for text in PAYLOADS if "{" in text])
def test_T14_the_language_of_templates_prints_literally_in_every_text(payload):
    pages = (page_html(in_every_place(model(), one), TEMPLATES) for one in (payload, harmless(payload)))
    dirty, clean = ([*tinyhtml5.parse(text, namespace_html_elements=False).itertext()] for text in pages)
    assert sum(payload in text for text in dirty) > 300
    assert sum("49" in text for text in dirty) == sum("49" in text for text in clean)


def test_T14_no_template_is_made_of_a_text_and_markup_is_made_in_one_reviewed_place():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node, "attr", getattr(node, "id", ""))
            if isinstance(node, ast.Attribute | ast.Name) and name in {
                "from_string",
                "Markup",
                "Template",
                "DictLoader",
            }:
                found.add((path.relative_to(PACKAGE).as_posix(), name))
    assert found == {("stages/render.py", "Markup")}


def test_T14_no_template_turns_escaping_off_and_drawings_pass_in_the_macros_alone():
    texts = {
        path.relative_to(TEMPLATES).as_posix(): path.read_text(encoding="utf-8") for path in TEMPLATES.rglob("*.j2")
    }
    off = [name for name, text in texts.items() if re.search(r"\|\s*(safe|forceescape)|autoescape\s+\w|Markup", text)]
    assert off == []
    assert {name for name, text in texts.items() if re.search(r"\|\s*drawing", text)} == {"macros.html.j2"}


def test_T15_every_text_is_escaped_and_a_name_that_does_not_exist_is_an_error():
    environment = page_environment(TEMPLATES)
    assert environment.autoescape is True
    assert environment.undefined is StrictUndefined


class Asked(Environment):
    """An environment that notes what templates ask for, and denies one of it: an object's kind and the name of its part."""

    asked: set[tuple[str, str]]
    denied: tuple[str, str] | None = None

    def getattr(self, obj, attribute):
        what = (type(obj).__name__, attribute)
        self.asked.add(what)
        return self.undefined(obj=obj, name=attribute) if what == self.denied else super().getattr(obj, attribute)


def asking(denied: tuple[str, str] | None = None) -> set[tuple[str, str]]:
    """What the templates ask for in a whole report, where one thing is denied."""
    environment = page_environment(TEMPLATES)
    environment.__class__, environment.asked, environment.denied = Asked, set(), denied
    environment.get_template("report.html.j2").render(report=model())
    return environment.asked


ASKED = sorted(one for one in asking() if one[1] not in {"values", "index0", "last", "first"})


@pytest.mark.parametrize("denied", ASKED, ids=".".join)
def test_T15_a_page_without_any_one_of_the_parts_it_asks_for_is_not_printed(denied):
    with pytest.raises(UndefinedError):
        asking(denied)


def test_T15_what_a_page_asks_for_are_the_parts_of_the_report():
    assert {("Cell", "text"), ("Table", "rows"), ("ReportModel", "title"), ("dict", "change"), ("Run", "text")} <= {
        *ASKED
    }


# --- T16: no page without end ---------------------------------------------------------------------------------------


def long_table(rows: int, text: str = "x") -> ReportModel:
    columns = (Column("Term", 60), Column("n", 20, is_number=True))
    table = Table("Terms.", columns, tuple((Cell(f"{text} {number}"), Cell("1")) for number in range(rows)), number=1)
    first = next(section for section in model().sections if section.id == "provenance")
    return replace(model(), sections=(model().sections[0], replace(first, tables={"record": table})))


def test_T16_a_table_of_20000_rows_is_refused_by_name_before_anything_is_laid_out(monkeypatch):
    monkeypatch.setattr(stage, "_lay_out", lambda *_: pytest.fail("laid out"))
    with pytest.raises(
        PipelineError, match="table record of section provenance has 20,000 rows; a report prints at most 2,000"
    ):
        render(long_table(20_000), ROOT)


def everything(home: Home) -> dict[str, bytes]:
    return {
        path.relative_to(home.root).as_posix(): path.read_bytes() for path in home.root.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("end", ["killed", "out of time", "out of memory"])
def test_T16_a_render_that_is_stopped_leaves_the_last_report_and_its_pointer_as_they_are(end, tmp_path, monkeypatch):
    home = Home.at(tmp_path / "home")
    publish(Rendered("<!DOCTYPE html>", b"%PDF-1.7"), model(), releasable(), provenance(), home)
    before = everything(home)
    code = {
        "killed": "import os; os.kill(os.getpid(), 9)", "out of time": "import time; time.sleep(60)",
        "out of memory": "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 28,) * 2); x = b'x' * (1 << 30)",
    }  # fmt: skip
    monkeypatch.setattr(stage, "CHILD", code[end])
    monkeypatch.setattr(stage, "SECONDS", 5 if end == "out of memory" else 1)
    with pytest.raises(PipelineError, match="render failed"):
        publish(render(model(), ROOT), model(), releasable(), replace(provenance(), snapshot="6" * 64), home)
    assert everything(home) == before


def test_T16_the_child_has_limits_of_memory_and_time():
    too_much = f"bytes({stage.MEMORY_BYTES + 1})"
    done = own_python(CHILD.format(too_much), TASK)
    assert (done.returncode, done.stderr) == (stage.REFUSED, b"MemoryError\n")
    seconds = "str(__import__('resource').getrlimit(__import__('resource').RLIMIT_CPU)).encode()"
    assert own_python(CHILD.format(seconds), TASK).stdout.decode() == str((stage.SECONDS, stage.SECONDS))


# --- odd texts on paper ---------------------------------------------------------------------------------------------

WORD = re.compile(r'<word xMin="([\d.-]+)" yMin="([\d.-]+)" xMax="([\d.-]+)" yMax="([\d.-]+)">')
A4 = re.compile(r'<page width="([\d.]+)" height="([\d.]+)">')


def small(texts: list[str]) -> ReportModel:
    """A report of its first and its last section, with these texts in turn in every place but for our own numbers and marks."""
    place = iter(range(100_000))
    own = model()
    first, *_, last = (section for section in own.sections if section.id in {"summary", "provenance"})
    numbers = {cell.text for table in first.tables.values() for row in table.rows for cell in row if cell.is_big}
    ours = {*own.status, *numbers, *(run.text for run in first.headline)}
    short = replace(own, sections=(first, last))
    return rewritten(short, lambda old: texts[next(place) % len(texts)] if old and old not in ours else old)


def paper(own: ReportModel, path: Path) -> str:
    """Lay the report out, check it as every reader of the PDF would, and give the boxes of its words."""
    path.write_bytes(stage._lay_out(page_html(own, TEMPLATES), TEMPLATES, own, {}))
    checked = page.validate_pdf(str(path), profile="ua1")
    assert checked.is_compliant, checked
    done = subprocess.run(["pdftotext", "-bbox", str(path), "-"], capture_output=True, check=True)
    return done.stdout.decode("utf-8", "replace")


def outside(boxes: str) -> list[str]:
    """Words that stand outside the paper."""
    width, height = (float(size) for size in A4.search(boxes).groups())
    return [
        word for word in WORD.findall(boxes)
        if float(word[0]) < 0 or float(word[1]) < 0 or float(word[2]) > width + 1 or float(word[3]) > height + 1
    ]  # fmt: skip


LONG = ["W" * LONGEST, "x" * LONGEST, "Schmerz" * 17, "a b " * 30, printable("W" * 10_000)]


def test_long_texts_without_a_blank_stay_on_the_paper(tmp_path):
    assert outside(paper(small(LONG), tmp_path / "long.pdf")) == []


@pytest.mark.parametrize("n", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_ten_thousand_odd_values_fill_pages_and_break_none(n, tmp_path):
    odd = ["恶心", "غثيان", "😀", "\u0301\u0302", *PAYLOADS, *LONG]
    rows = tuple(
        (Cell(printable(f"{odd[number % len(odd)]} {number}")), *(Cell(str(number)),) * 9) for number in range(n)
    )
    table = Table("Terms.", (Column("Term", 60), *(Column("n", 12, is_number=True),) * 9), rows, number=1)
    own = model()
    last = next(section for section in own.sections if section.id == "provenance")
    long = replace(own, sections=(own.sections[0], replace(last, tables={"record": table})))
    boxes = paper(long, tmp_path / "odd.pdf")
    assert outside(boxes) == []
    assert boxes.count("<page ") > n / 50
    assert f"{n - 1}</word>" in boxes


def test_a_letter_that_no_bundled_font_has_is_a_question_mark_on_paper_and_itself_in_the_browser():
    own = small(["恶心 Übelkeit"])
    text = page_html(own, TEMPLATES)
    assert "恶心 Übelkeit" in text
    assert "?? Übelkeit" in in_fonts(text, TEMPLATES)
    assert in_fonts(page_html(model(), TEMPLATES), TEMPLATES) == page_html(model(), TEMPLATES)


def fuzz(texts: list[str], folder: Path) -> None:
    with listener() as (address, called):
        own = small([printable(text.replace("{0}", f"http://{address}")) or "x" for text in texts] + ["x"])
        assert outside(paper(own, folder / "fuzz.pdf")) == []  # finish refuses whatever is active
        assert dom(page_html(own, TEMPLATES)) == dom(page_html(rewritten(own, harmless), TEMPLATES))
    assert called == []


FUZZED = st.lists(
    st.one_of(st.text(st.characters(), max_size=200), st.sampled_from(PAYLOADS), st.sampled_from([*FETCHING.values()])),
    min_size=40, max_size=80,
)  # fmt: skip
ANYWHERE = [*HealthCheck]


@settings(max_examples=3, deadline=None, suppress_health_check=ANYWHERE, derandomize=True)
@given(texts=FUZZED)
def test_any_texts_in_every_place_give_a_valid_PDF_that_asks_for_nothing(texts, tmp_path):
    fuzz(texts, tmp_path)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=ANYWHERE)
@given(texts=FUZZED)
def test_many_more_texts_give_a_valid_PDF_that_asks_for_nothing(texts, tmp_path):
    fuzz(texts, tmp_path)


def test_the_small_report_has_every_kind_of_place():
    kinds = {type(part).__name__ for section in small(["x"]).sections for part in (*section.tables.values(), section)}
    assert kinds == {Table.__name__, Section.__name__}
