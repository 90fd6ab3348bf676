"""The tables of a report as one spreadsheet file, in which every text is a text and every number a number.

Nothing in it is a formula or a link, whatever a text begins with, and the same report gives the same bytes.
"""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
import xlsxwriter

from crps_outcomes.texts import printable
from crps_outcomes.traced import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from xlsxwriter.worksheet import Worksheet

    from crps_outcomes.report_model import ReportModel

#: What spreadsheet programs allow in the name of a sheet, and in one cell, in 16-bit units of UTF-16.
LONGEST_NAME, LONGEST_CELL = 31, 32_767
NO_GUESSING = {
    "in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False,
    "nan_inf_to_errors": False,
}  # fmt: skip
_MM_PER_CHARACTER = 2.0


def workbook(model: ReportModel, estimates: pd.DataFrame) -> bytes:
    """One sheet per table as it is printed, and a sheet with the edition's estimates."""
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, NO_GUESSING) as book:
        created = datetime.fromisoformat(model.created).replace(tzinfo=UTC)
        book.set_properties(
            {"title": printable(plain(model.title)), "subject": printable(model.subject), "created": created}
        )
        head = book.add_format({"bold": True, "text_wrap": True, "valign": "top"})
        for section in model.sections:
            for key, table in section.tables.items():
                if table.rows:
                    sheet = book.add_worksheet(sheet_name(f"{table.number:02d} {section.id} {key}"))
                    lines = [[cell.plain for cell in row] for row in table.rows]
                    _fill(sheet, [column.label for column in table.columns], lines, head)
                    for place, column in enumerate(table.columns):
                        sheet.set_column(place, place, column.width_mm / _MM_PER_CHARACTER)
        _fill(book.add_worksheet("estimates"), [*estimates.columns], estimates.itertuples(index=False, name=None), head)
    return out.getvalue()


def sheet_name(text: str) -> str:
    """A name that every spreadsheet program takes; names that begin with different numbers stay different."""
    return re.sub(r"[^\w .-]|[\U00010000-\U0010ffff]", "-", printable(text)).strip(" .-")[:LONGEST_NAME] or "sheet"


def cell_text(text: str) -> str:
    """The text as a cell can hold it, where a letter beyond the first 65,536 counts as two."""
    line = printable(text, LONGEST_CELL)
    return line if len(line.encode("utf-16-le")) <= 2 * LONGEST_CELL else printable(line, LONGEST_CELL // 2)


def _fill(sheet: Worksheet, names: Sequence[str], lines: Iterable[Sequence[Any]], head: Any) -> None:
    for place, name in enumerate(names):
        sheet.write_string(0, place, cell_text(plain(name)), head)
    for number, line in enumerate(lines, 1):
        for place, value in enumerate(line):
            _write(sheet, number, place, value)
    sheet.freeze_panes(1, 1)


def _write(sheet: Worksheet, line: int, place: int, value: Any) -> None:
    """A value as what it is; what is missing leaves its cell empty."""
    if isinstance(value, str):
        sheet.write_string(line, place, cell_text(value))
    elif not pd.isna(value):
        sheet.write_number(line, place, value)
