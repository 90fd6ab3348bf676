"""What stands where in a PDF: words with their boxes (poppler), and headings with their pages (pikepdf)."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape
from typing import TYPE_CHECKING

import pikepdf
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

needs_poppler = pytest.mark.skipif(
    shutil.which("pdftotext") is None or shutil.which("pdffonts") is None,
    reason="needs poppler-utils: bash tools/setup.sh tests, as root, installs it",
)
HEAD, FOOT = 50, 41  # points: what stands higher or lower is the running head and foot
_PAGE = re.compile(r'<page width="([\d.]+)" height="([\d.]+)">(.*?)</page>', re.DOTALL)
_WORD = re.compile(r'<word xMin="(-?[\d.]+)" yMin="(-?[\d.]+)" xMax="(-?[\d.]+)" yMax="(-?[\d.]+)">(.*?)</word>')


@dataclass(frozen=True)
class Word:
    """A word with its box in points from the upper left corner of its page."""

    left: float
    top: float
    right: float
    bottom: float
    text: str


@dataclass(frozen=True)
class Page:
    """One page: size in points, and its words."""

    width: float
    height: float
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Heading:
    """A bookmark: its level from 1, the number of its page from 1, and how far down it stands in points."""

    level: int
    text: str
    page: int
    top: float


def pages(file: Path) -> list[Page]:
    """The pages of a file in order."""
    command = ["pdftotext", "-bbox-layout", str(file), "-"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [
        Page(float(width), float(height), tuple(_word(*parts) for parts in _WORD.findall(body)))
        for width, height, body in _PAGE.findall(told)
    ]


def _word(left: str, top: str, right: str, bottom: str, text: str) -> Word:
    return Word(float(left), float(top), float(right), float(bottom), unescape(text))


def headings(file: Path) -> list[Heading]:
    """The bookmarks of a file in reading order."""
    with pikepdf.open(file) as document, document.open_outline() as outline:
        numbers = {page.objgen: number for number, page in enumerate(document.pages, 1)}
        return [*_headings(outline.root, numbers, document, 1)]


def _headings(items: object, numbers: dict, document: pikepdf.Pdf, level: int) -> Iterator[Heading]:
    for item in items:
        page = document.pages[numbers[item.destination[0].objgen] - 1]
        height = float(page.mediabox[3])
        yield Heading(level, item.title, numbers[item.destination[0].objgen], height - float(item.destination[3]))
        yield from _headings(item.children, numbers, document, level + 1)


def words(page: Page) -> list[Word]:
    """The words of a page but those of its running head and foot."""
    return [word for word in page.words if word.top > HEAD and word.bottom < page.height - FOOT]


def filled(page: Page) -> float:
    """How far down its page the last line of the text stands, as a share of the page's height."""
    return max((word.bottom for word in words(page)), default=0) / page.height


def outside(page: Page, margin: float) -> list[str]:
    """Words that reach beyond the page's sides by less than a margin in points, or beyond its upper or lower edge."""
    return [
        word.text
        for word in page.words
        if word.left < margin or word.right > page.width - margin or word.top < 12 or word.bottom > page.height - 12
    ]


def overlapping(page: Page) -> list[str]:
    """Pairs of words that stand on each other: more than a fifth of the width and almost half the height of the smaller."""
    found, words = [], sorted(page.words, key=lambda word: word.top)
    for place, one in enumerate(words):
        for other in words[place + 1 :]:
            if other.top >= one.bottom:
                break
            wide = min(one.right, other.right) - max(one.left, other.left)
            high = min(one.bottom, other.bottom) - other.top
            least_wide = min(one.right - one.left, other.right - other.left)
            least_high = min(one.bottom - one.top, other.bottom - other.top)
            if wide > max(1, 0.2 * least_wide) and high > 0.45 * least_high:
                found.append(f"{one.text} | {other.text}")
    return found
