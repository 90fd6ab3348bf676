"""Numbers as a reader sees them: one function per kind, a true minus sign, and no value without its interval or reason.

Every function takes finite numbers and refuses anything else, so that a missing value can never print as "nan".
"""

from __future__ import annotations

import math
import re
from datetime import date
from typing import TYPE_CHECKING

from crps_outcomes.traced import CLOSE, OPEN, marked_like

if TYPE_CHECKING:
    from collections.abc import Callable

MINUS = "\N{MINUS SIGN}"
ALMOST_NOTHING = 1e-9  # what floating point makes of an exact 0 or 100


def fixed(value: float, decimals: int, *, signed: bool = False) -> str:
    """The value with a set number of decimals; what rounds to zero carries no sign.

    Raises:
        ValueError: the value is not a finite number.
    """
    if not math.isfinite(value):
        raise ValueError("a number to print must be finite; missing values have a reason instead")
    size = f"{abs(float(value)):,.{int(decimals)}f}"
    sign = MINUS if value < 0 else "+" if signed else ""
    return marked_like(f"{sign}{size}" if size.strip("0.,") else size, value)


def count(n: int) -> str:
    """A count with a comma at thousands."""
    return f"{n:,}"


def in_words(n: int) -> str:
    """A small count as a word: "five"; from ten on in figures."""
    names = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return names[n] if n < len(names) else count(n)


def plural(n: int, one: str, many: str = "") -> str:
    """The count and its noun: "1 person", "1,462 people"; ``many`` defaults to ``one`` with an s."""
    return f"{count(n)} {one if n == 1 else many or one + 's'}"


def people(n: int) -> str:
    return plural(n, "person", "people")


def percent(value: float, n: int) -> str:
    """A percentage of ``n``: whole below a thousand, and never rounded to "none" or "all" when it is neither."""
    decimals = 0 if n < 1000 else 1
    step = 10.0**-decimals
    if ALMOST_NOTHING < value < step / 2:
        return f"{marked_like(f'<{fixed(step, decimals)}', value)}%"
    if 100 - step / 2 <= value < 100 - ALMOST_NOTHING:
        return f"{marked_like(f'>{fixed(100 - step, decimals)}', value)}%"
    return f"{fixed(value, decimals)}%"


def interval(lower: float, upper: float, show: Callable[[float], str]) -> str:
    """Both limits joined by the word "to"; a dash would read as a minus sign."""
    return f"{show(lower)} to {show(upper)}"


def with_interval(value: str, limits: str, reason: str, *, level: str = "95% CI ") -> str:
    """The value with its interval, or with the reason why it has none.

    Raises:
        ValueError: neither interval nor reason was given; a bare value is not printed.
    """
    if limits:
        return f"{value} ({level}{limits})"
    if reason:
        return f"{value} ({reason})"
    raise ValueError("a value is printed with its interval or with the reason why it has none")


def keep_together(text: str) -> str:
    """The text with its intervals held on one line, for headings: "5 to 9" never breaks at its blanks."""
    return re.sub(rf"(?<=[\d%{CLOSE}]) to (?=[\d<+\u2212{OPEN}])", "\u00a0to\u00a0", text)


def day(value: date) -> str:
    """A date in words, the same in every locale: 12 Jun 2026."""
    return f"{value.day} {MONTHS[value.month - 1]} {value.year}"


def month(value: str) -> str:
    """A month such as "2026-06" in words: Jun 2026."""
    year, number = value.split("-")
    return f"{MONTHS[int(number) - 1]} {year}"


def day_in_words(text: str) -> str:
    """The same from 2026-06-12."""
    return day(date.fromisoformat(text))


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
