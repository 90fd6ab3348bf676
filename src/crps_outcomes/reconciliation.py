"""The same number in several places of a report: read back from what will be printed, and compared before it is drawn.

What sections compute from one row agrees by construction; this catches the section that asks another row, adds up
other cells, or is changed by mistake. Rounding keeps that: one count has one rounded value wherever it is printed. Sums are
compared in the internal edition only, because what is hidden, held or rounded need not add up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from crps_outcomes.errors import PipelineError
from crps_outcomes.report_model import Figure, Flow
from crps_outcomes.traced import plain
from crps_outcomes.wording import at, capital, improved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from crps_outcomes.facts import Facts
    from crps_outcomes.report_model import Cell, Section, Table

COUNT = r"(\d[\d,]*)"
SHARE = rf"{COUNT} of {COUNT}"
TABLES = {"key": "key results", "planned": "planned endpoints"}


@dataclass(frozen=True)
class Place:
    """Where a number, or a pair such as "34 of 58", is printed; None where the place is not there, or hides it."""

    where: str
    printed: tuple[int, ...] | None


def reconcile(sections: Iterable[Section], facts: Facts) -> None:
    """Flow boxes, table totals, n of figures and n of headlines agree.

    Raises:
        PipelineError: two places print different numbers for the same thing; it names both.
    """
    known = {section.id: section for section in sections}
    for agreement in AGREEMENTS:
        places = [place for place in agreement(known, facts) if place.printed is not None]
        for one, two in pairwise(places):
            if one.printed != two.printed:
                raise PipelineError(f"{one.where} and {two.where} should print the same number and do not")


# --- who is in ------------------------------------------------------------------------------------------------------


def _treated(known: Mapping[str, Section], facts: Facts) -> Iterator[Place]:
    yield Place("the flow box of treated people", _box(known, facts, "treated"))
    yield Place(
        "the first of the plain words", _read(rf"^{COUNT} (?:person|people) had ", *_text(known, "summary", "plain"))
    )
    yield Place("the column of treated people", _head(known, "All treated"))


def _analysed(known: Mapping[str, Section], facts: Facts) -> Iterator[Place]:
    yield Place("the flow box of analysed people", _box(known, facts, "analysed"))
    yield Place("the column of people in the analysis", _head(known, "In the analysis"))


def _box(known: Mapping[str, Section], facts: Facts, step: str) -> tuple[int, ...] | None:
    drawn = known["flow"].figures["flow"] if "flow" in known else None
    boxes = drawn.boxes if isinstance(drawn, Flow) else ()
    own = (box.count for box, one in zip(boxes, facts.steps, strict=False) if one.step == step)
    return _read(rf"^n = {COUNT}", *own)


def _head(known: Mapping[str, Section], label: str) -> tuple[int, ...] | None:
    table = _table(known, "participants", "baseline")
    return _read(rf"^{label} \(n\s=\s{COUNT}\)", *(column.label for column in table.columns)) if table else None


# --- who improved ---------------------------------------------------------------------------------------------------


def _planned(known: Mapping[str, Section], facts: Facts) -> Iterator[Place]:
    """Responders as the plan counts them; a release has none."""
    name = (
        f"{capital(improved(facts.primary, facts.protocol.outcomes.responder_percents[0]))}, {at(facts.primary_visit)}"
    )
    headline = _headline(known)
    if "as planned" in headline:
        yield Place("the headline", _read(rf"{SHARE} people whose score was due", headline))
    for section, key, row in (("summary", "key", f"{name}, as planned"), ("endpoints", "planned", name)):
        cells = _row(_table(known, section, key), row)
        yield Place(f"the table of {TABLES[key]}", _read(SHARE, *(cell.text for cell in cells[1:2])))


def _observed(known: Mapping[str, Section], facts: Facts) -> Iterator[Place]:
    yield from _responders(known, facts, "with a score", 1)


def _due(known: Mapping[str, Section], facts: Facts) -> Iterator[Place]:
    yield from _responders(known, facts, "whose score was due", 2)


def _responders(known: Mapping[str, Section], facts: Facts, who: str, column: int) -> Iterator[Place]:
    """Responders with one of the two denominators, which has its column in the table."""
    headline, finding = _headline(known), known["responders"].finding if "responders" in known else ""
    yield Place("the headline", None if "as planned" in headline else _read(rf"{SHARE} people {who}", headline))
    yield Place("the heading of responders", _read(rf"{SHARE} people {who}", finding))
    cells = _row(_table(known, "responders", "shares"), facts.primary_visit.label)
    yield Place("the table of responders", _read(SHARE, *(cell.text for cell in cells[column : column + 1])))


def _headline(known: Mapping[str, Section]) -> str:
    return plain("".join(run.text for run in known["summary"].headline)) if "summary" in known else ""


def _curves(known: Mapping[str, Section], facts: Facts) -> Iterator[Place]:
    if facts.is_release:
        return
    cells = _row(_table(known, "responders", "shares"), facts.primary_visit.label)
    yield Place("the table of responders", _read(rf"\d of {COUNT}", *(cell.text for cell in cells[1:2])))
    drawn = known["responders"].figures["curve"] if "responders" in known else None
    svg = drawn.svg if isinstance(drawn, Figure) else ""
    yield Place("the curve of responders", _read(rf">With a score \(n = {COUNT}\)", svg))


def _change(known: Mapping[str, Section], facts: Facts) -> Iterator[Place]:
    name = f"{facts.primary.short}, change at {at(facts.primary_visit)}"
    key = _row(_table(known, "summary", "key"), name)
    yield Place("the key result of the primary measure", _read(rf"n = {COUNT}$", *(cell.sub for cell in key[1:2])))
    row = _row(_table(known, "function", "changes"), facts.primary.short)
    yield Place("the table of changes in every measure", _read(rf"^{COUNT}$", *(cell.text for cell in row[2:3])))


# --- sessions and events --------------------------------------------------------------------------------------------


def _sessions(known: Mapping[str, Section], facts: Facts) -> Iterator[Place]:
    if facts.is_release:  # cells are hidden, held and rounded there, each for itself
        return
    finding = known["dosing"].finding if "dosing" in known else ""
    yield Place("the heading of what was given", _read(rf"{COUNT} intramuscular session", finding))
    weeks = _table(known, "dosing", "weeks")
    yield Place("the sum of sessions by week", _sum(cell for row in weeks.rows for cell in row[1:]) if weeks else None)
    events = _table(known, "safety", "events")
    yield Place(
        "the sessions that events are counted in", _read(rf"^{COUNT} session", events.encoding) if events else None
    )


def _events(known: Mapping[str, Section], facts: Facts) -> Iterator[Place]:
    if facts.is_release:
        return
    table = _table(known, "safety", "events")
    if table:
        single = (row[1] for row in table.rows if not plain(row[0].text).startswith("Any "))
        yield Place("the sum of adverse events by kind", _sum(single))
        yield Place(
            "the total of adverse events",
            _read(rf"^{COUNT}$", *(c.text for c in _row(table, "Any adverse event")[1:2])),
        )
    rate = _row(_table(known, "summary", "key"), "Adverse events per 100 sessions")
    yield Place("the key result on adverse events", _read(rf"^{COUNT} in ", *(cell.text for cell in rate[3:4])))


AGREEMENTS: tuple[Callable[[Mapping[str, Section], Facts], Iterator[Place]], ...] = (
    _treated, _analysed, _planned, _observed, _due, _curves, _change, _sessions, _events,
)  # fmt: skip


# --- reading what will be printed -------------------------------------------------------------------------------------


def _table(known: Mapping[str, Section], section: str, key: str) -> Table | None:
    found = known[section].tables.get(key) if section in known else None
    return found if found and found.rows else None


def _text(known: Mapping[str, Section], section: str, key: str) -> tuple[str, ...]:
    return known[section].text.get(key, ()) if section in known else ()


def _row(table: Table | None, name: str) -> tuple[Cell, ...]:
    """The row whose first cell says this, or none."""
    rows = table.rows if table else ()
    return next((row for row in rows if plain(row[0].text) == plain(capital(name))), ())


def _read(pattern: str, *texts: str) -> tuple[int, ...] | None:
    """The counts of the pattern in the first text that has it."""
    found = next((match for text in texts if (match := re.search(pattern, plain(text)))), None)
    return tuple(int(count.replace(",", "")) for count in found.groups()) if found else None


def _sum(cells: Iterable[Cell]) -> tuple[int] | None:
    """The sum of counts; None as soon as one is hidden or missing."""
    numbers = [_read(rf"^{COUNT}$", cell.text) for cell in cells]
    known = [n for of_cell in numbers if of_cell is not None for n in of_cell]
    return (sum(known),) if known and len(known) == len(numbers) else None
