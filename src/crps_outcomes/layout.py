"""Small builders the sections share: cells, rows, columns and the note that explains the marks of a table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crps_outcomes.report_model import Cell, Column, Table
from crps_outcomes.wording import explain, sentences

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crps_outcomes.facts import Facts

TEXT_WIDTH_MM = 174.0
Row = tuple[Cell, ...]


def row(*cells: str | Cell) -> Row:
    """A table row; plain text becomes a plain cell."""
    return tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells)


def text_columns(*heads: tuple[str, float]) -> tuple[Column, ...]:
    """Left-aligned columns from label and width in millimetres."""
    return tuple(Column(label, width) for label, width in heads)


def number_columns(*heads: tuple[str, float]) -> tuple[Column, ...]:
    """Right-aligned columns from label and width in millimetres."""
    return tuple(Column(label, width, is_number=True) for label, width in heads)


def noted(table: Table, facts: Facts, *words: str) -> Table:
    """The table with its note: the words given, then the meaning of every mark that occurs in it.

    Columns must fit the text width; a wider table would be cut off in print.
    """
    assert sum(column.width_mm for column in table.columns) <= TEXT_WIDTH_MM + 0.01, (
        "the columns of a table add up to more than the text width"
    )
    texts = (cell.plain for line in table.rows for cell in line)
    return replace(table, note=sentences(*words, explain(texts, facts.threshold)))


def tint(value: float, largest: float) -> int:
    """The shade 0 to 5 of a cell, by its share of the largest; zero stays white."""
    if value <= 0 or largest <= 0:
        return 0
    return 1 + min(4, int(5 * value / largest * (1 - 1e-9)))


def listed(items: Iterable[str]) -> str:
    """Such as "a, b and c"."""
    known = [*items]
    return " and ".join([", ".join(known[:-1]), known[-1]]) if len(known) > 1 else "".join(known)
