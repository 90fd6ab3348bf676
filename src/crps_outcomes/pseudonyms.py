"""Codes for people in lists that stay in the clinic: the same person has the same code in every report of one home folder.

The key is drawn once, stands in the home folder and never leaves it. Without it a code cannot be turned back, and two
clinics give the same identifier different codes.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from crps_outcomes.home import secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from crps_outcomes.home import Home

#: No I, L, O or U: nobody mistakes them for 1, 0 or V when reading a code out.
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_HALF = 4


def coder(home: Home) -> Callable[[str], str]:
    """The function from what the source calls a person to the person's code in this home folder."""
    key = secret(home.root / "pseudonym.key")
    return lambda subject: code(key, subject)


def code(key: bytes, subject: str) -> str:
    """Such as "7QK2-M9XA": 40 bits of the keyed digest, so that thousands of people hardly ever share one."""
    number = int.from_bytes(hmac.new(key, subject.encode(), hashlib.sha256).digest()[:5])
    letters = "".join(_LETTERS[(number >> 5 * place) & 31] for place in reversed(range(2 * _HALF)))
    return f"{letters[:_HALF]}-{letters[_HALF:]}"


def person(home: Home, wanted: str, subjects: Iterable[str]) -> tuple[str, ...]:
    """Who of the subjects has this code: one, or none, and hardly ever two."""
    code_of = coder(home)
    return tuple(subject for subject in subjects if code_of(subject) == wanted.strip().upper())
