"""Spreadsheets: no text becomes a formula or a link, and every number stays the number it is (T17, T18)."""

from __future__ import annotations

import csv
import io
import re
import shutil
import struct
import subprocess
import zipfile
from dataclasses import replace
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_fixture import model, releasable

from crps_outcomes.report_model import Cell, Column, Table
from crps_outcomes.stages.publish import csv_of_frame, csv_of_table
from crps_outcomes.texts import printable
from crps_outcomes.workbook import LONGEST_CELL, LONGEST_NAME, cell_text, sheet_name, workbook
from hostile_texts import FORMULAS, PAYLOADS

OFFICE = shutil.which("soffice") or shutil.which("libreoffice")
NUMBERS = [-3.5, 0.1 + 0.2, 1e-300, -0.0, 123456789.123456789, 5e-324]
RUNS = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]*[=+\-@＝＋－＠]")


def frame(texts=FORMULAS) -> pd.DataFrame:
    values = [NUMBERS[place % len(NUMBERS)] for place in range(len(texts))]
    return pd.DataFrame({texts[0]: [*texts], "value": values, "k": pd.array(range(len(texts)), dtype="Int64")})


def with_table(texts=FORMULAS):
    """A report of one section whose only table has the texts as heads, row heads and values."""
    rows = tuple((Cell(text, sub=text), Cell(text)) for text in texts)
    table = Table(texts[0], (Column(texts[0], 40), Column(texts[-1], 40)), rows, number=1)
    return replace(model(), title=texts[0], sections=(replace(model().sections[0], tables={texts[0]: table}),)), table


# --- CSV (T17) ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", FORMULAS)
def test_T17_no_value_head_or_row_head_of_a_CSV_file_begins_like_a_formula(text):
    _, table = with_table((text, "x"))
    for made in (csv_of_table(table), csv_of_frame(frame((text, "x")))):
        for row in csv.reader(io.StringIO(made, newline="")):
            assert not any(RUNS.match(cell) or cell[:1] in "\t\r\n" for cell in row if cell and not _is_number(cell))


def _is_number(text: str) -> bool:
    """A number of a numeric column, as Python writes it."""
    return text in {repr(value) for value in NUMBERS}


def test_T17_numeric_columns_come_back_to_the_last_bit():
    read = pd.read_csv(io.StringIO(csv_of_frame(frame())), float_precision="round_trip")
    assert [struct.pack("d", one) for one in read["value"]] == [struct.pack("d", one) for one in frame()["value"]]
    assert read["k"].tolist() == [*range(len(FORMULAS))]


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=20))
def test_T17_any_number_comes_back_to_the_last_bit(values):
    read = pd.read_csv(io.StringIO(csv_of_frame(pd.DataFrame({"v": values}))), float_precision="round_trip")
    assert [struct.pack("d", one) for one in read["v"]] == [struct.pack("d", one) for one in values]


@pytest.mark.skipif(OFFICE is None, reason="LibreOffice is not installed here: the CSV files are checked as text only")
def test_T17_an_office_program_finds_no_formula_in_a_CSV_file(tmp_path):
    (tmp_path / "odd.csv").write_text(csv_of_frame(frame()), encoding="utf-8")
    profile = f"-env:UserInstallation=file://{tmp_path}/profile"
    command = [OFFICE, profile, "--headless", "--convert-to", "fods", "--outdir", tmp_path, tmp_path / "odd.csv"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert "table:formula" not in (tmp_path / "odd.fods").read_text(encoding="utf-8")


# --- XLSX (T18) -----------------------------------------------------------------------------------------------------


def parts(data: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name).decode() for name in file.namelist()}


def cells(data: bytes) -> dict[str, list[list[object]]]:
    """Every sheet by its name, rows of values: what is stored as a number is a float, all else the text."""
    found = parts(data)
    space = {"m": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
    strings = [
        "".join(run.text or "" for run in one.iter(f"{{{space['m']}}}t"))
        for one in ET.fromstring(found["xl/sharedStrings.xml"])
    ]
    names = [one.get("name") for one in ET.fromstring(found["xl/workbook.xml"]).iterfind(".//m:sheet", space)]
    sheets = {}
    for place, name in enumerate(names, 1):
        rows = ET.fromstring(found[f"xl/worksheets/sheet{place}.xml"]).iterfind(".//m:row", space)
        sheets[name] = [[
            strings[int(cell.find("m:v", space).text)] if cell.get("t") == "s" else float(cell.find("m:v", space).text)
            for cell in row.iterfind("m:c", space)
        ] for row in rows]  # fmt: skip
    return sheets


def test_T18_no_text_of_a_workbook_is_a_formula_or_a_link():
    for texts in (FORMULAS, PAYLOADS):
        found = parts(workbook(with_table(texts)[0], frame(texts)))
        assert {name for name in found if "externalLink" in name or name.endswith("vba.bin")} == set()
        for name, text in found.items():
            assert not re.search(r"<f[ >]|<hyperlink|<definedName|TargetMode", text), name


def test_T18_every_text_stands_in_the_workbook_as_it_is_and_every_number_as_exactly_as_spreadsheets_hold_it():
    sheets = cells(workbook(with_table()[0], frame()))
    assert [row[0] for row in sheets["estimates"][1:]] == [printable(text) for text in FORMULAS]
    assert [row[1] for row in sheets["estimates"][1:]] == pytest.approx(frame()["value"].tolist(), rel=1e-15)
    assert sheets["estimates"][0] == [printable(FORMULAS[0]), "value", "k"]
    assert [row[1] for row in next(iter(sheets.values()))[1:]] == [printable(text) for text in FORMULAS]


def units(text: str) -> int:
    """How long a spreadsheet takes a text to be."""
    return len(text.encode("utf-16-le")) // 2


@pytest.mark.parametrize("letter", ["a", "\U0001d4a5"])
def test_T18_a_text_longer_than_a_cell_is_cut_and_says_so(letter):
    assert units(cell_text(letter * 9)) == 9 * units(letter)
    cut = cell_text(letter * 40_000)
    assert units(cut) <= LONGEST_CELL
    assert cut.endswith("…")


@pytest.mark.parametrize("text", [*FORMULAS, *PAYLOADS, "a" * 99, "'x'", "[a]:*?/\\", "History", "", "\U0001d4a5" * 40])
def test_T18_a_name_of_a_sheet_is_one_that_every_program_takes(text):
    for name in (sheet_name(text), sheet_name(f"07 {text}")):
        assert 0 < units(name) <= LONGEST_NAME
        assert not re.search(r"[\[\]:*?/\\'=+@<>]", name)
    assert sheet_name(f"01 {text}") != sheet_name(f"02 {text}")


def test_T18_the_workbook_has_every_table_of_the_report_and_its_estimates():
    sheets = cells(workbook(model(), releasable().estimates))
    tables = [table for section in model().sections for table in section.tables.values() if table.rows]
    assert len(sheets) == len(tables) + 1
    for sheet, table in zip(sheets.values(), tables, strict=False):
        assert [head for head in sheet[0] if head] == [
            printable(column.label) for column in table.columns if column.label
        ]
        assert len(sheet) == len(table.rows) + 1
    assert len(sheets["estimates"]) == len(releasable().estimates) + 1


def test_the_same_report_gives_the_same_workbook():
    assert workbook(model(), releasable().estimates) == workbook(model(), releasable().estimates)
    assert "2026-06-12T00:00:00Z" in parts(workbook(model(), releasable().estimates))["docProps/core.xml"]


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), min_size=1, max_size=20))
def test_T18_any_text_gives_a_workbook_without_formulas_and_links(texts):
    found = parts(workbook(with_table(tuple(texts))[0], frame(tuple(texts))))
    assert not any(re.search(r"<f[ >]|<hyperlink", text) for text in found.values())
    for text in found.values():
        ET.fromstring(text)
