"""Everything a reader of a run folder can find in it, down to attributes, coordinates and names of files (T32).

`leaks` compares a release edition with the internal one, row by row: where a row is hidden, none of its small counts may
stand, in any form. Sentences are searched for the ways in which this program writes a small count.
"""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import zipfile
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree as ET

import pikepdf
import tinyhtml5

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from crps_outcomes.study import Study

ROLES = ("n", "n_missing", "k")
#: All that a hidden row may say.
KEY_AND_MARK = {
    "estimate_id", "section", "statistic", "population", "measure", "visit", "group", "suppressed",
}  # fmt: skip
_COUNT = r"(?<![\d.,\u2212-])(?:[1-9]|10)"
SMALL_COUNT = re.compile(
    rf"{_COUNT} of \d+\b(?! characteristics)|{_COUNT} \([<>]?\d+(?:\.\d)?%(?! CI)|\b[nk]\s?[=:]\s?(?:[1-9]|10)(?![\d.,])"
    rf"|{_COUNT} (?:people|persons?|patients?|sessions?|events?|records?|injections?)\b"
)
PAGE_NUMBER = re.compile(r"Page \d+ of \d+")
MARK = re.compile(r"<\d+|\[c\]")
#: Lines of one person are drawn in this colour.
PERSON = "#6f8496"


class Line(NamedTuple):
    """A piece of a file: where it is, and all it says."""

    place: str
    text: str


class Row(NamedTuple):
    """A table row of the page: its table and head, its cells, and everything in it that is no visible text."""

    table: str
    head: str
    cells: tuple[str, ...]
    unseen: str
    drawings: int


# --- reading ----------------------------------------------------------------------------------------------------------


def unpacked(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a run folder, and beside each PDF what is attached to it, as file/attachment."""
    found = dict(files)
    for name in (name for name in files if name.endswith(".pdf")):
        with pikepdf.open(io.BytesIO(files[name])) as document:
            found |= {f"{name}/{own}": file.get_file().read_bytes() for own, file in document.attachments.items()}
    return found


def lines(files: Mapping[str, bytes]) -> Iterator[Line]:
    """All texts of a run folder, names of its files and attachments included."""
    for name, data in sorted(unpacked(files).items()):
        yield Line("name of a file", name)
        for place, text in _read(name.rpartition(".")[2], data):
            yield Line(f"{name}: {place}", text)


@lru_cache(maxsize=64)  # a leak is planted in one file, and the others are the same again
def _read(kind: str, data: bytes) -> tuple[Line, ...]:
    return tuple(_READERS[kind](data))


def _html(data: bytes) -> Iterator[Line]:
    for one in _tree(data).iter():
        if isinstance(one.tag, str) and one.tag != "style":
            yield from (Line(f"{one.tag} {name}", value) for name, value in one.attrib.items() if name != "style")
            yield Line(one.tag, one.text or "")
            yield Line(one.tag, one.tail or "")
            if one.tag in {"p", "li", "caption", "figcaption", "h1", "h2", "h3", "td", "th"}:
                yield Line(one.tag, " ".join("".join(one.itertext()).split()))


def _pdf(data: bytes) -> Iterator[Line]:
    text = subprocess.run(
        ["pdftotext", "-layout", "-", "-"], input=data, capture_output=True, check=True
    ).stdout.decode()
    yield from (Line("page", line.strip()) for line in text.splitlines())
    with pikepdf.open(io.BytesIO(data)) as document:
        yield from (Line(f"info {key}", str(value)) for key, value in document.docinfo.items())
        if "/Metadata" in document.Root:
            yield Line("metadata", document.Root.Metadata.read_bytes().decode())
        for item in document.objects:
            if isinstance(item, pikepdf.Dictionary):
                yield from (
                    Line(f"tag {key}", str(item[key])) for key in ("/Alt", "/ActualText", "/E", "/Title") if key in item
                )


def _csv(data: bytes) -> Iterator[Line]:
    for row in csv.reader(io.StringIO(data.decode(), newline="")):
        yield from (Line("cell", cell) for cell in row)


def _json(data: bytes) -> Iterator[Line]:
    yield from (Line(place, str(value)) for place, value in leaves(json.loads(data)))


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a JSON document with its path."""
    if isinstance(value, dict):
        for key, own in value.items():
            yield from leaves(own, f"{place}/{key}")
    elif isinstance(value, list):
        for own in value:
            yield from leaves(own, f"{place}/*")
    else:
        yield place, value


def _xlsx(data: bytes) -> Iterator[Line]:
    for name, rows in sheets(data).items():
        yield Line("sheet", name)
        yield from (Line("cell", str(cell)) for row in rows for cell in row)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        for part in file.namelist():
            yield Line("part", part)
            if part.startswith("docProps"):
                yield from (Line(part, one.text or "") for one in ET.fromstring(file.read(part)).iter())


@lru_cache(maxsize=16)
def sheets(data: bytes) -> dict[str, list[list[Any]]]:
    """Every sheet by its name, its rows with "" where a cell is empty."""
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        names = [one.get("name") for one in ET.fromstring(file.read("xl/workbook.xml")).iter(f"{space}sheet")]
        texts = [
            "".join(run.text or "" for run in one.iter(f"{space}t"))
            for one in ET.fromstring(file.read("xl/sharedStrings.xml"))
        ]
        found = {}
        for number, name in enumerate(names, 1):
            rows = ET.fromstring(file.read(f"xl/worksheets/sheet{number}.xml")).iter(f"{space}row")
            found[str(name)] = [_filled(row, texts, space) for row in rows]
    return found


def _filled(row: Any, texts: list[str], space: str) -> list[Any]:
    cells: dict[int, Any] = {}
    for cell in row.iter(f"{space}c"):
        value = cell.find(f"{space}v")
        if value is not None:
            cells[_column(cell.get("r"))] = texts[int(value.text)] if cell.get("t") == "s" else float(value.text)
    return [cells.get(place, "") for place in range(max(cells, default=-1) + 1)]


def _column(reference: str) -> int:
    number = 0
    for letter in re.match("[A-Z]+", reference)[0]:  # type: ignore[index]
        number = 26 * number + ord(letter) - 64
    return number - 1


_READERS = {"html": _html, "pdf": _pdf, "csv": _csv, "json": _json, "xlsx": _xlsx}


@lru_cache(maxsize=16)
def page_rows(data: bytes) -> tuple[Row, ...]:
    """The rows of all tables of the page."""
    found = []
    for table in _tree(data).iter("table"):
        title = re.sub(r"^Table \d+\. ", "", " ".join("".join(table.find("caption").find(".//b").itertext()).split()))
        for row in table.find("tbody").iter("tr"):
            cells = tuple(" ".join(_seen(cell).split()) for cell in row)
            drawings = [one for one in row.iter() if _is_drawing(one)]
            unseen = [value for one in row.iter() for value in one.attrib.values()]
            unseen += [text for one in drawings for text in one.itertext()]
            found.append(Row(title, cells[0], cells[1:], " ".join(unseen), len(drawings)))
    return tuple(found)


def _seen(cell: Any) -> str:
    """The words of a cell without those of its drawing."""
    own = cell.text or ""
    for child in cell:
        own += ("" if _is_drawing(child) else f" {_seen(child)}") + (child.tail or "")
    return own


def _is_drawing(element: Any) -> bool:
    return str(element.tag).rpartition("}")[2] == "svg"


def _tree(data: bytes) -> Any:
    return tinyhtml5.parse(data.decode(), namespace_html_elements=False)


def said_by(study: Study, rules: Iterable[str]) -> str:
    """What the study folder says: published numbers, and the rules of the edition."""
    texts = [
        path.read_text(encoding="utf-8")
        for folder in ("mappings", "reports") for path in (study.root / folder).rglob("*") if path.suffix in {".csv", ".toml"}
    ]  # fmt: skip
    evidence = " ".join(f"n: {one.n} n = {one.n}" for one in study.evidence.studies)
    return " ".join([*texts, evidence, *rules]).replace(",", ", ")


# --- judging ----------------------------------------------------------------------------------------------------------


def leaks(files: Mapping[str, bytes], inside: Mapping[str, bytes], allowed: str, threshold: int = 11) -> list[str]:
    """Where a release tells what it hides.

    Args:
        files: the release.
        inside: the internal edition of the same run, as the truth.
        allowed: what the study folder itself says, whose published numbers are nobody's secret.
        threshold: counts from 1 to below it are small.
    """
    files = unpacked(files)
    data = {name: _estimates(own) for name, own in files.items() if name.rpartition("/")[2] == "estimates.csv"}
    return [
        *(found for name, rows in data.items() for found in _in_estimates(rows, name)),
        *_in_estimates(_sheet(files), "tables.xlsx"),
        *_in_rows(page_rows(files["report.html"]), page_rows(inside["report.html"]), threshold),
        *_in_tables(files),
        *in_sentences(lines(files), allowed),
        *_in_json(files, threshold),
        *_in_names(files),
        *_persons(files["report.html"]),
    ]


def _estimates(data: bytes) -> list[dict[str, Any]]:
    return [*csv.DictReader(io.StringIO(data.decode(), newline=""))]


def _sheet(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    head, *rows = sheets(files["tables.xlsx"])["estimates"]
    return [dict(zip(head, [*row, *[""] * (len(head) - len(row))], strict=True)) for row in rows]


def _in_estimates(rows: Iterable[Mapping[str, Any]], where: str) -> Iterator[str]:
    for row in rows:
        if row["suppressed"] and any(value != "" for name, value in row.items() if name not in KEY_AND_MARK):
            yield f"{where}: more than key and mark in hidden row {row['estimate_id']}"


def _in_rows(shown: Iterable[Row], truth: Iterable[Row], threshold: int) -> Iterator[str]:
    """Rows of the page in which a cell is hidden, beside the same row of the internal edition."""
    known = {(row.table, row.head): row for row in truth}
    for row in shown:
        own = known.get((row.table, row.head))
        for place, cell in enumerate(row.cells):
            if own is None or not MARK.fullmatch(cell) or place >= len(own.cells):
                continue
            secrets = {n for n in _whole(own.cells[place]) if 1 <= int(n) < threshold}
            other = [one for one, same in zip(row.cells, own.cells, strict=False) if one != same]
            told = Counter(_whole(" ".join([*other, row.unseen]))) - Counter(_whole(own.unseen))
            if secrets & {*told}:
                yield f"page: {row.table} {row.head}: a count of its hidden cell"
            if row.drawings and row.cells.count(cell) == len(row.cells):
                yield f"page: {row.table} {row.head}: a drawing in a hidden row"


def _whole(text: str) -> list[str]:
    """The whole numbers of a text that are no part of a longer one, of a mark, or of a name."""
    return re.findall(r"(?<![\w.,<#-])\d+(?![\w.,%])", text)


def _in_tables(files: Mapping[str, bytes]) -> Iterator[str]:
    """Tables as CSV and as sheets say what the page says, cell by cell."""
    page = Counter(" ".join(cell.split()) for row in page_rows(files["report.html"]) for cell in (row.head, *row.cells))
    printed = {_bare(cell) for cell in page}
    for name, data in files.items():
        if name.startswith("tables/"):
            rows = [*csv.reader(io.StringIO(data.decode(), newline=""))][1:]
            yield from (
                f"{name}: a cell the page does not have" for row in rows for cell in row if _bare(cell) not in printed
            )
    for name, rows in sheets(files["tables.xlsx"]).items():
        if name != "estimates":
            cells = (str(cell) for row in rows[1:] for cell in row)
            yield from (f"sheet {name}: a cell the page does not have" for cell in cells if _bare(cell) not in printed)


def _bare(text: str) -> str:
    """A cell without blanks, links' page numbers and the apostrophe that stops a formula."""
    return re.sub(r"[\s\u00a0]", "", text).removeprefix("'")


def in_sentences(found: Iterable[Line], allowed: str) -> Iterator[str]:
    """Sentences that say a small count; ``allowed`` is what the study folder says anyway."""
    known = {*small_counts(allowed)}
    for place, text in found:
        yield from (f"{place}: {count}" for count in small_counts(text) if count not in known)


@lru_cache(maxsize=100_000)
def small_counts(text: str) -> tuple[str, ...]:
    return tuple(match[0] for match in SMALL_COUNT.finditer(PAGE_NUMBER.sub("", text.replace("\u00a0", " "))))


def _in_json(files: Mapping[str, bytes], threshold: int) -> Iterator[str]:
    for name, data in files.items():
        if name.endswith(".json"):
            for place, value in leaves(json.loads(data)):
                if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < threshold:
                    yield f"{name}: {place}"


def _in_names(files: Mapping[str, bytes]) -> Iterator[str]:
    """Names have a number only to put tables in order."""
    for name in files:
        own = re.sub(r"^tables/\d\d-", "", name)
        if re.search(r"-\d+\b" if name.endswith(".csv") else r"\d", own):
            yield f"name of a file: {name}"


def _persons(data: bytes) -> Iterator[str]:
    lines_of_people = sum(text == PERSON for _, text in _read("html", data))
    if lines_of_people:
        yield f"page: {lines_of_people} lines of one person each"
