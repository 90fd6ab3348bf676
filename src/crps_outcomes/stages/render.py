"""From the report model to one HTML file and one PDF of the same template.

The PDF is laid out in a child process that may read the study's templates folder and nothing else: no network, no other
file, a limit on time and memory. Anything it would have to ignore or fetch stops the render.
"""

from __future__ import annotations

import base64
import ctypes
import gc
import io
import json
import logging
import re
import resource
import subprocess
import sys
import tempfile
import unicodedata
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from crps_outcomes.errors import DefinitionError, PipelineError
from crps_outcomes.language import ENGLISH, strings
from crps_outcomes.number_links import linked
from crps_outcomes.traced import plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType

    from jinja2.bccache import Bucket

    from crps_outcomes.report_model import ReportModel

#: What may be attached to an archive copy, in words a reader of the attachment list sees.
ATTACHED = {
    "estimates.csv": "Every number of the report, one a line",
    "provenance.json": "What the report was made from",
}
SECONDS, MEMORY_BYTES = 300, 4 << 30
REFUSED = 4
#: The child runs the code that runs here, wherever the environment would find a package of that name.
CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from crps_outcomes.stages.render import child; child()"
#: Rows of one table; a table of more is no reading for people and would keep the layout engine busy for ever.
MOST_ROWS = 2_000
#: Linux: a network of its own for a process, which holds nothing; and the right to make one.
NEW_NETWORK, NEW_USER = 0x40000000, 0x10000000

#: Only fonts from the study's folder, whatever the machine has installed: the same pages everywhere.
FONT_CONFIGURATION = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><cachedir>{cache}</cachedir></fontconfig>"""


@dataclass(frozen=True)
class Rendered:
    """The report as one self-contained HTML file and as PDF; ``archive`` is the PDF/A-3 copy with the data in it, if asked for."""

    html: str
    pdf: bytes
    archive: bytes = b""


def render(
    model: ReportModel,
    study_root: Path,
    environment: Mapping[str, str] | None = None,
    attached: Mapping[str, str] | None = None,
) -> Rendered:
    """HTML and PDF of a report; the same model gives the same bytes.

    Args:
        model: the report, nothing left to compute.
        study_root: the study folder, whose ``templates/`` are used.
        environment: variables the layout engine needs on this machine to be found, if any.
        attached: texts by file name that go into an archive copy; without any there is none.

    Raises:
        PipelineError: a table is too long for paper, or the layout engine refused, warned, or did not end in time;
            nothing was written.
    """
    check_length(model)
    templates = (study_root / "templates").resolve()
    page, machine = page_html(model, templates), environment or {}
    on_screen, on_paper = self_contained(linked(page, model.behind), templates), plain(page)
    archive = _lay_out(on_paper, templates, model, machine, attached) if attached else b""
    return Rendered(on_screen, _lay_out(on_paper, templates, model, machine), archive)


def check_length(model: ReportModel) -> None:
    """Refuse what would keep the layout engine busy until it is stopped.

    Raises:
        PipelineError: a table has more rows than anybody reads.
    """
    for section in model.sections:
        for name, table in section.tables.items():
            if len(table.rows) > MOST_ROWS:
                raise PipelineError(
                    f"render failed: table {name} of section {section.id} has {len(table.rows):,} rows; "
                    f"a report prints at most {MOST_ROWS:,} of one table"
                )


# --- HTML -----------------------------------------------------------------------------------------------------------


def page_html(model: ReportModel, templates: Path) -> str:
    """The template filled with the model; style and fonts are linked, and traced numbers carry their marks."""
    return page_environment(templates, model.form.lang).get_template("report.html.j2").render(report=model)


class _Compiled(BytecodeCache):
    """Each template is compiled once by a process, whichever page needs it; one that was edited is another."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._known.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self._known[bucket.key, bucket.checksum] = bucket.code


COMPILED = _Compiled()


def page_environment(templates: Path, lang: str = ENGLISH) -> Environment:
    """Every text is escaped, a name that does not exist is an error, and only our own drawings pass as markup.

    Every template has ``words``, the catalogue of the language.
    """
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=COMPILED,
    )
    environment.filters["drawing"] = Markup
    environment.filters["plain"] = plain  # without the marks of traced numbers, to ask how long a text is in print
    environment.globals["words"] = strings(templates.parent, lang)
    return environment


def self_contained(page: str, templates: Path) -> str:
    """The page with style and fonts inside it, so that one file is the whole report.

    Raises:
        DefinitionError: the template does not link report.css the way it is replaced here.
    """
    link = '<link rel="stylesheet" href="report.css">'
    if page.count(link) != 1:
        raise DefinitionError(f"templates/report.html.j2: should hold {link} once")
    css = style(templates)
    inlined = re.sub(r"url\((fonts/[\w.-]+)\)", lambda match: _font_url(templates / match[1]), css)
    return page.replace(link, f"<style>\n{inlined}</style>")


def style(templates: Path) -> str:
    """The style of print for both, and that of screens behind it; the layout engine reads the first alone."""
    printed, screen = ((templates / name).read_text(encoding="utf-8") for name in ("report.css", "screen.css"))
    return f"{printed}\n@media screen {{\n{screen}}}\n"


@cache
def _font_url(file: Path) -> str:
    """The unmodified font in the compressed container browsers read."""
    font = TTFont(file, recalcTimestamp=False)
    font.flavor = "woff"
    out = io.BytesIO()
    font.save(out, reorderTables=None)
    return f'url(data:font/woff;base64,{base64.b64encode(out.getvalue()).decode()}) format("woff")'


def in_fonts(page: str, templates: Path) -> str:
    """The page with a question mark for every letter that a bundled font lacks: paper has no other fonts.

    The HTML keeps such letters, for a browser has fonts of its own.
    """
    known = _letters(templates)
    return "".join(letter if letter.isascii() or ord(letter) in known else "?" for letter in page)


@cache
def _letters(templates: Path) -> frozenset[int]:
    """What every font that the style names can print; a mark apart from its letter leaves a hole in the text of a PDF."""
    css = (templates / "report.css").read_text(encoding="utf-8")
    fonts = {templates / name for name in re.findall(r"url\((fonts/[\w.-]+)\)", css)}
    every = frozenset.intersection(*(frozenset(TTFont(font).getBestCmap()) for font in fonts))
    return frozenset(code for code in every if not unicodedata.category(chr(code)).startswith("M"))


# --- PDF, in this process: start the child ----------------------------------------------------------------------------


def _lay_out(
    page: str,
    templates: Path,
    model: ReportModel,
    environment: Mapping[str, str],
    attached: Mapping[str, str] | None = None,
) -> bytes:
    own_files = {"attached": dict(attached or {}), "created": model.created}
    task = json.dumps(
        {"html": in_fonts(page, templates), "templates": str(templates), "identity": model.identity, **own_files}
    )
    seconds = (date.fromisoformat(model.created) - date(1970, 1, 1)).days * 86_400
    with tempfile.TemporaryDirectory() as scratch:
        fonts = Path(scratch) / "fonts.conf"
        fonts.write_text(FONT_CONFIGURATION.format(cache=scratch), encoding="utf-8")
        own = {"SOURCE_DATE_EPOCH": str(seconds), "FONTCONFIG_FILE": str(fonts), "HOME": scratch}
        command = [sys.executable, "-I", "-X", "utf8", "-c", CHILD, str(Path(__file__).resolve().parents[2])]
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter and module
                command,
                input=task.encode(),
                capture_output=True,
                env={**environment, **own},
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PipelineError(f"render failed: no PDF after {SECONDS} seconds; a report takes a few") from None
    if done.returncode:
        raise PipelineError(f"render failed: {_last_line(done.stderr)}")
    return done.stdout


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "the layout engine was stopped"


# --- PDF, in the child ------------------------------------------------------------------------------------------------


def write_pdf(page: str, templates: Path, identity: str, attached: Mapping[str, str], created: date) -> bytes:
    """The finished PDF of a page: PDF/UA-1, or PDF/A-3a and PDF/UA-1 where texts are attached.

    Raises:
        PipelineError: the layout engine logged a warning, or the page holds something active.
    """
    import weasyprint  # noqa: PLC0415 - in the child only: heavy, and it sets up fonts from the environment

    from crps_outcomes.pdf_finish import finish  # noqa: PLC0415

    said = _Listener()
    for name in ("weasyprint", "fontTools"):
        logging.getLogger(name).addHandler(said)
    document = weasyprint.HTML(string=page, base_url=f"{templates.as_uri()}/", url_fetcher=_fetcher(templates))
    at = datetime(created.year, created.month, created.day, tzinfo=UTC)
    files = [
        weasyprint.Attachment(file_obj=io.BytesIO(text.encode()), name=name, description=ATTACHED[name],
                              created=at, modified=at, relationship="Data")
        for name, text in attached.items()
    ]  # fmt: skip
    variant = "pdf/a-3a" if attached else "pdf/ua-1"
    pdf = document.write_pdf(pdf_variant=variant, pdf_identifier=identity.encode(), attachments=files)
    if said.heard:
        raise PipelineError(f"the layout engine warned: {'; '.join(sorted(said.heard))}")
    return finish(pdf, attached)


class _Listener(logging.Handler):
    """Keeps the form of every warning, never its arguments: they may quote the page."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.add(str(record.msg))


def _fetcher(templates: Path) -> Any:
    """Reads files below the templates folder; every other address stops the render."""
    from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse  # noqa: PLC0415

    class OnlyTemplates(URLFetcher):  # type: ignore[misc] # the interface WeasyPrint asks for
        def fetch(self, url: str, headers: object = None) -> Any:  # noqa: ARG002
            parts = urlsplit(url)
            path = Path(unquote(parts.path)).resolve()
            if parts.scheme != "file" or parts.netloc or not path.is_relative_to(templates) or not path.is_file():
                raise FatalURLFetchingError("a page may use files of the templates folder only")
            kind = {".css": "text/css", ".ttf": "font/ttf"}.get(path.suffix, "application/octet-stream")
            return URLFetcherResponse(url, path.read_bytes(), {"Content-Type": kind})

    return OnlyTemplates()


def _refuse_network(event: str, _arguments: object) -> None:
    if event.startswith("socket."):
        raise PipelineError("the layout engine asked for the network; a page needs none")


def leave_network() -> bool:
    """Move this process into a network of its own, where nothing answers; whether the system allows it.

    A container or a service unit may forbid it. Then the fetcher and the audit hook stand alone, as on other systems
    than Linux. Must come before the process has threads.
    """
    if sys.platform != "linux":
        return False
    unshare = ctypes.CDLL(None).unshare
    return any(unshare(what) == 0 for what in (NEW_NETWORK, NEW_USER | NEW_NETWORK))


def child() -> None:
    """Read a task from standard input, write the PDF to standard output; any error is one line and a status."""
    leave_network()
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    task = json.load(sys.stdin)
    sys.addaudithook(_refuse_network)
    gc.disable()  # one page and the end: looking for cycles takes a seventh of the time and frees next to nothing
    try:
        created = date.fromisoformat(task["created"])
        pdf = write_pdf(task["html"], Path(task["templates"]), task["identity"], task["attached"], created)
    except BaseException as error:  # noqa: BLE001 - the fetcher's refusal is not an Exception
        _stop(error)
    sys.stdout.buffer.write(pdf)


def _stop(error: BaseException) -> NoReturn:
    reason = (
        str(error) if isinstance(error, PipelineError) or "templates folder" in str(error) else type(error).__name__
    )
    sys.stderr.write(f"{reason}\n")
    sys.exit(REFUSED)
