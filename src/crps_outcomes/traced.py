"""Numbers that remember where they come from, and the marks they leave in the text that prints them.

`traced` wraps an int or a float with the id of its row. Arithmetic keeps the ids, and every f-string that prints such a
number puts a mark around it: characters of Unicode's private use area, one for each character of the id, which no
searching, splitting or escaping of text can mistake for words. `plain` takes the marks out without a trace.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, is_dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OPEN, CLOSE = "\ue000", "\ue002"
_SHIFT = 0xF0000  # the private plane that mirrors the first one
_MARKS = re.compile(f"[{OPEN}{CLOSE}\U000f0000-\U000ffffd]")
_SPAN = re.compile(f"{OPEN}([\U000f0000-\U000ffffd]+)([^{OPEN}{CLOSE}]*){CLOSE}")
AND = " & "  # between the ids of a number worked out from several
Piece = TypeVar("Piece")


class Whole(int):
    """A whole number with the ids it comes from; calculates like any other."""

    refs: tuple[str, ...]

    def __format__(self, spec: str) -> str:
        return mark(format(int(self), spec), *self.refs)


class Real(float):
    """A real number with the ids it comes from; calculates like any other."""

    refs: tuple[str, ...]

    def __format__(self, spec: str) -> str:
        return mark(format(float(self), spec), *self.refs)


def _remembering(operation: Callable[..., Any]) -> Callable[..., Any]:
    """The operation of the plain type, whose result remembers the ids of all operands."""

    def result(*operands: Any) -> Any:
        found = operation(*operands)
        return found if found is NotImplemented else traced(found, *refs_of(*operands))

    return result


_OPERATIONS = ["add", "sub", "mul", "truediv", "neg", "abs", "round", "radd", "rsub", "rmul", "rtruediv"]
for _kind, _base in ((Whole, int), (Real, float)):
    for _name in _OPERATIONS:
        setattr(_kind, f"__{_name}__", _remembering(getattr(_base, f"__{_name}__")))


def traced(value: Any, *refs: str) -> Any:
    """The number with the ids it comes from; anything that is no number, or comes from nowhere, as it is."""
    if not refs or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    found = Whole(value) if isinstance(value, int) else Real(value)
    found.refs = tuple(dict.fromkeys(refs))
    return found


def refs_of(*values: object) -> tuple[str, ...]:
    """The ids behind numbers, in order."""
    return tuple(ref for value in values if isinstance(value, Whole | Real) for ref in value.refs)


def within(value: float, low: float, high: float) -> float:
    """The number cut to a scale; it remembers what it was before."""
    cut: float = traced(min(max(value, low), high), *refs_of(value))
    return cut


# --- marks in text --------------------------------------------------------------------------------------------------


def mark(text: str, *refs: str) -> str:
    """The text between marks that name the ids; without ids the text alone."""
    ids = AND.join(ref for ref in refs if ref)
    return f"{OPEN}{''.join(chr(_SHIFT + ord(one)) for one in ids)}{text}{CLOSE}" if ids and text else text


def marked_like(text: str, value: object) -> str:
    """The text marked with the ids of the number it prints."""
    return mark(text, *refs_of(value))


def plain(text: str) -> str:
    """The text as a reader sees it: without any mark, and without the characters that could look like one."""
    return _MARKS.sub("", text)


def first_upper(text: str) -> str:
    """The text with its first letter in upper case, behind a mark or not."""
    marks = re.match(f"[{OPEN}\U000f0000-\U000ffffd]*", text)
    at = marks.end() if marks else 0
    return text[:at] + text[at : at + 1].upper() + text[at + 1 :]


@dataclass(frozen=True)
class Span:
    """A piece of text and the ids it comes from; none for what lies between marks."""

    text: str
    refs: tuple[str, ...] = ()


def spans(text: str) -> Iterator[Span]:
    """The text in pieces, in order."""
    end = 0
    for found in _SPAN.finditer(text):
        if found.start() > end:
            yield Span(plain(text[end : found.start()]))
        ids = "".join(chr(ord(one) - _SHIFT) for one in found[1])
        yield Span(found[2], tuple(ids.split(AND)))
        end = found.end()
    if end < len(text):
        yield Span(plain(text[end:]))


def wrapped(text: str, wrap: Callable[[str], list[str]]) -> list[str]:
    """Lines of a marked text, broken as its plain words are; a mark that a line would break is closed and opened again."""
    pieces = [(letter, span.refs) for span in spans(text) for letter in span.text]
    lines, at = [], 0
    for line in wrap(plain(text)):
        at += next(i for i, (letter, _) in enumerate(pieces[at:]) if letter == line[0])
        own, at = pieces[at : at + len(line)], at + len(line)
        lines.append("".join(_joined(own)))
    return lines


def _joined(letters: list[tuple[str, tuple[str, ...]]]) -> Iterator[str]:
    start = 0
    for i, (_, refs) in enumerate(letters):
        if i + 1 == len(letters) or letters[i + 1][1] != refs:
            yield mark("".join(letter for letter, _ in letters[start : i + 1]), *refs)
            start = i + 1


# --- ids ------------------------------------------------------------------------------------------------------------

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def short_id(ref: str) -> str:
    """The same id in eight characters, such as "E4k2m9qz": the same in every run, because it is made of the long one only."""
    number = int.from_bytes(sha256(ref.encode()).digest()[:5])
    return "E" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(30, -5, -5))


# --- declared numbers -----------------------------------------------------------------------------------------------


def declared(piece: Piece, name: str) -> Piece:
    """A definition whose numbers know their key, such as "protocol:plan.seed"."""
    return _declared(piece, name, ":")  # type: ignore[no-any-return]


def _declared(piece: Any, name: str, dot: str = ".") -> Any:
    if isinstance(piece, BaseModel):
        found = {key: _declared(getattr(piece, key), f"{name}{dot}{key}") for key in type(piece).model_fields}
        return piece.model_copy(update=found)
    if isinstance(piece, tuple):
        return tuple(_declared(one, f"{name}{dot}{place}") for place, one in enumerate(piece, 1))
    if isinstance(piece, dict):
        return {key: _declared(one, f"{name}{dot}{key}") for key, one in piece.items()}
    if is_dataclass(piece) and not isinstance(piece, type):
        return replace(
            piece, **{one.name: _declared(getattr(piece, one.name), f"{name}{dot}{one.name}") for one in fields(piece)}
        )
    return traced(piece, name)
