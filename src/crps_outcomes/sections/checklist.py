"""Reporting checklists: which section of this report answers an item, and what is left to the author."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.layout import listed, noted, row, text_columns
from crps_outcomes.numbers import count, plural
from crps_outcomes.report_model import Cell, Link, Section, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crps_outcomes.definitions import ChecklistItem
    from crps_outcomes.facts import Facts
    from crps_outcomes.layout import Row

AUTHOR = "author to complete"
BASE = "strobe"
NO_NOTE = "–"
ROWS_TOGETHER = 12  # a table does not break over pages


def checklist(facts: Facts) -> Section:
    """Every item of every checklist of the study folder, with links to the sections that answer it."""
    parts = {key: part for name, items in _ordered(facts) for key, part in _parts(name, items)}
    return Section(
        id="checklist",
        short="Reporting checklists",
        finding=_finding(facts),
        lede=(
            "Items in our own short words, not those of the checklists; read them beside the originals. Their numbers and how "
            "many there are is unconfirmed. A section named here holds what the pipeline knows; whether it is enough is for the "
            "author to say. The same list stands beside this file as checklist.csv."
        ),
        tables={key: _table(facts, part) for key, part in parts.items()},
    )


def sections_of(facts: Facts, item: ChecklistItem) -> tuple[str, ...]:
    """The sections of this very report that answer an item."""
    return tuple(name for name in item.sections.split() if name in facts.report.sections)


def _finding(facts: Facts) -> str:
    items = [item for _, items in _ordered(facts) for item in items]
    known = facts.told(len(items), "checklists/items")
    answered = facts.told(sum(bool(sections_of(facts, item)) for item in items), "checklists/answered")
    names = listed(dict.fromkeys(item.checklist for item in items))
    return (
        f"{count(answered)} of {plural(known, 'item')} of {names} have a section here; the rest is for the author"
        if items
        else "No reporting checklist is declared"
    )


def _ordered(facts: Facts) -> list[tuple[str, Sequence[ChecklistItem]]]:
    """The checklists, the one that the others extend first."""
    return sorted(facts.study.checklists.items(), key=lambda one: (one[0] != BASE, one[0]))


def _parts(name: str, items: Sequence[ChecklistItem]) -> list[tuple[str, Sequence[ChecklistItem]]]:
    """A checklist in pieces, so that pages fill."""
    n = -(-len(items) // ROWS_TOGETHER)
    size = -(-len(items) // max(n, 1))
    return [(name if n == 1 else f"{name}_{part + 1}", items[part * size : (part + 1) * size]) for part in range(n)]


def _table(facts: Facts, items: Sequence[ChecklistItem]) -> Table:
    first, last = items[0], items[-1]
    table = Table(
        title=f"{first.checklist}, items {first.item} to {last.item}.",
        columns=text_columns(("Item", 27), ("Asks for", 55), ("Answered in", 52), ("Note", 40)),
        rows=tuple(_row(facts, item) for item in items),
        style="tight fixed",
    )
    return noted(table, facts)


def _row(facts: Facts, item: ChecklistItem) -> Row:
    links = tuple(Link(name) for name in sections_of(facts, item))
    where = Cell("", links=links) if links else Cell(AUTHOR)
    return row(f"{item.checklist} {item.item}", item.about, where, item.note or NO_NOTE)
