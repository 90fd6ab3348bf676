"""The door for texts that others wrote: one line of visible letters, and no more of them than a page can bear.

Terms, displays and reasons come from a source that may be broken or hostile. Here they lose what could reorder, hide or
end a line, on paper, on a screen or in a terminal, and what the marks around our own numbers are made of.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST = 120
#: Marks above and below one letter; more of them would run over the lines around it.
MOST_MARKS = 4
UNREADABLE = "\N{REPLACEMENT CHARACTER}"
#: Letters that print as nothing, beside the format characters, which go by their category.
BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_TERMINAL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[ -/]*[0-~]")


def printable(text: str, longest: int = LONGEST) -> str:
    """The text in one line of visible letters, NFC, cut to ``longest`` with an ellipsis.

    Controls and line ends become a blank; direction marks, zero-width and blank letters go; lone surrogates, private-use
    and unassigned characters become a replacement character.
    """
    if text.isascii() and text.isprintable() and "  " not in text and text == text.strip() and len(text) <= longest:
        return text
    whole = unicodedata.normalize("NFC", text[: 8 * longest])
    letters = unicodedata.normalize("NFC", _few_marks("".join(map(_visible, whole))))
    line = " ".join(letters.split())
    cut = len(line) > longest or len(text) > 8 * longest
    return f"{line[: longest - 1].rstrip()}…" if cut else line


def one_line(text: str, longest: int | None = None) -> str:
    """The text for a log or a terminal: its control sequences gone."""
    return printable(_TERMINAL.sub("", text), longest or max(len(text), 1))


def is_plain(text: str) -> bool:
    """Whether a text has visible letters, blanks and line ends only, as whoever types a study folder would write it."""
    return (text.isascii() and text.isprintable()) or all(
        letter in "\n\t" or unicodedata.category(letter) == "Zs" or _visible(letter) == letter for letter in text
    )


def _visible(letter: str) -> str:
    category = unicodedata.category(letter)
    if category in {"Cc", "Zl", "Zp", "Zs"}:
        return " "
    if category == "Cf" or letter in BLANK:
        return ""
    return UNREADABLE if category in {"Co", "Cs", "Cn"} else letter


def _few_marks(text: str) -> str:
    kept: list[str] = []
    marks = 0
    for letter in text:
        marks = marks + 1 if unicodedata.category(letter) in {"Mn", "Me"} else 0
        if marks <= MOST_MARKS:
            kept.append(letter)
    return "".join(kept)
