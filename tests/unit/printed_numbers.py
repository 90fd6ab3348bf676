"""Reads every number a page prints, with the id behind it, and checks it against the row of that id."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from html.parser import HTMLParser
from itertools import combinations
from typing import Any

import pandas as pd
from pydantic import BaseModel

from crps_outcomes.traced import plain, refs_of, spans

NUMBER = re.compile(r"(?<![\w.])[<>]?[+\N{MINUS SIGN}-]?\d+(?:,\d{3})*(?:\.\d+)?")
ANY_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
NOT_PRINTED = {"head", "title", "style"}  # a title inside a drawing is its text alternative
TICK = re.compile(r"([xy]tick|scale)_\d+$")


@dataclass(frozen=True)
class Printed:
    """A piece of printed text, the ids behind it, and the whole text it stands in."""

    text: str
    refs: tuple[str, ...]
    within: str


class _Page(HTMLParser):
    """Text nodes of a page, but for the head, the alternatives of drawings and the ticks of their scales."""

    def __init__(self, *, has_ticks: bool = False) -> None:
        super().__init__()
        self.has_ticks = has_ticks
        self.stack: list[tuple[str, bool]] = []
        self.nodes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"meta", "link", "col", "br", "use", "path", "line", "rect", "circle", "polygon", "polyline"}:
            return
        is_tick = bool(TICK.search(dict(attrs).get("id") or ""))
        hidden = tag in NOT_PRINTED or (is_tick and not self.has_ticks)
        self.stack.append((tag, hidden or bool(self.stack and self.stack[-1][1])))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        while self.stack and self.stack[-1][0] != tag and tag not in {"path", "use", "line", "rect", "circle"}:
            self.stack.pop()
        if self.stack and self.stack[-1][0] == tag:
            self.stack.pop()

    def handle_data(self, data: str) -> None:
        if data.strip() and not (self.stack and self.stack[-1][1]):
            self.nodes.append(data)


def printed(page: str) -> list[Printed]:
    """Everything the page prints, in order."""
    reader = _Page()
    reader.feed(page)
    return [Printed(span.text, span.refs, plain(node)) for node in reader.nodes for span in spans(node)]


def everything_on(page: str) -> list[str]:
    """The plain words of every text the page prints, ticks too."""
    reader = _Page(has_ticks=True)
    reader.feed(page)
    return [plain(node) for node in reader.nodes]


# --- what is behind -------------------------------------------------------------------------------------------------

ROW = ("n", "n_missing", "k", "estimate", "lower", "upper", "sd")


def numbers_of(row: Mapping[str, Any]) -> list[float]:
    """The numbers of a row of ESTIMATES, and the three that are worked out inside it."""
    known = {name: float(row[name]) for name in ROW if not pd.isna(row[name])}
    own = list(known.values())
    if "n" in known and "k" in known:
        own += [known["n"] - known["k"], 100 * known["k"] / known["n"] if known["n"] else 0.0]
    if "n" in known and "n_missing" in known:
        own.append(known["n"] + known["n_missing"])
    return own


def declared_numbers(piece: Any) -> Iterator[tuple[str, float]]:
    """The key and the value of every number of a definition that knows its key."""
    if isinstance(piece, BaseModel):
        pieces: Sequence[Any] = [getattr(piece, name) for name in type(piece).model_fields]
    elif is_dataclass(piece) and not isinstance(piece, type):
        pieces = [getattr(piece, one.name) for one in fields(piece)]
    else:
        pieces = [*piece.values()] if isinstance(piece, Mapping) else piece if isinstance(piece, tuple) else ()
    yield from ((ref, float(piece)) for ref in refs_of(piece))
    for one in pieces:
        yield from declared_numbers(one)


def texts(piece: Any) -> Iterator[str]:
    """Every text of a definition, or of plain JSON."""
    if isinstance(piece, str):
        yield piece
    elif isinstance(piece, BaseModel):
        yield from (text for name in type(piece).model_fields for text in texts(getattr(piece, name)))
    elif is_dataclass(piece) and not isinstance(piece, type):
        yield from (text for one in fields(piece) for text in texts(getattr(piece, one.name)))
    elif isinstance(piece, Mapping):
        yield from (text for key, one in piece.items() for text in (*texts(key), *texts(one)))
    elif isinstance(piece, tuple | list | set | frozenset):
        yield from (text for one in piece for text in texts(one))


def is_printed_from(text: str, values: Mapping[str, Sequence[float]], refs: Sequence[str]) -> bool:
    """Whether the text is one of the numbers behind its ids, or their sum or difference, rounded as it is printed."""
    bare = text.replace(",", "").replace("\N{MINUS SIGN}", "-").lstrip("<>+")
    if not re.fullmatch(r"-?\d+(\.\d+)?", bare):
        return False
    shown, step = float(bare), 10.0 ** -len(bare.partition(".")[2])
    every = [number for ref in refs for number in values[ref]]
    return any(
        abs(shown - number) <= step * (1 if text[0] in "<>" else 0.5000001)
        for number in _candidates(every, values, refs)
    )


def _candidates(every: Sequence[float], values: Mapping[str, Sequence[float]], refs: Sequence[str]) -> Iterator[float]:
    yield from every
    if len(refs) > 1:
        for one, two in combinations(every, 2):
            yield from (
                one + two,
                one - two,
                two - one,
                *([100 * one / two] if two else []),
                *([100 * two / one] if one else []),
            )
        yield from (sum(column) for column in zip(*(values[ref] for ref in refs), strict=False))
