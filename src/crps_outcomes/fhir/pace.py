"""How fast a server is asked, and how long it is left in peace when it says so (F20)."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BURST_SECONDS = 1.0
_SECONDS_A_DAY = 86_400
_EPOCH_MILLISECONDS_FROM = 10**11
#: RateLimit in its two written forms (`"requests";r=0;t=59` and `limit=9, remaining=0, reset=59`).
_EXHAUSTED = (
    re.compile(r"\br=0\s*;\s*t=(\d{1,15})", re.ASCII),
    re.compile(r"\bremaining=0\s*,\s*reset=(\d{1,15})", re.ASCII),
)


class Pace:
    """At most so many requests a second, over all threads together; one second's worth may go at once."""

    def __init__(self, per_second: float, *, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._interval, self._clock, self._sleep = 1 / per_second, clock, sleep
        self._lock, self._turn = threading.Lock(), float("-inf")

    def wait(self) -> None:
        """Return when it is this thread's turn to send a request."""
        with self._lock:
            now = self._clock()
            turn = max(self._turn, now - _BURST_SECONDS)
            self._turn = turn + self._interval
        if turn > now:
            self._sleep(turn - now)


def asked_to_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds the server asks to wait: Retry-After, else the reset of an exhausted RateLimit; None if neither can be read.

    Args:
        headers: of the answer, their names in lower case or case-insensitive.
        now: the server's own clock.
    """
    texts = (headers.get("retry-after", ""), _reset(headers))
    found = (_seconds(text.strip(), now) for text in texts)
    return next((seconds for seconds in found if seconds is not None and seconds >= 0), None)


def http_date(text: str) -> datetime | None:
    """A moment as HTTP writes it; None if it is none."""
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)


def _reset(headers: Mapping[str, str]) -> str:
    for form in _EXHAUSTED:
        if found := form.search(headers.get("ratelimit", "")):
            return found[1]
    for prefix in ("ratelimit", "x-ratelimit"):
        if headers.get(f"{prefix}-remaining", "").strip() == "0":
            return headers.get(f"{prefix}-reset", "")
    return ""


def _seconds(text: str, now: datetime) -> float | None:
    """Servers write seconds, an HTTP date, epoch seconds or epoch milliseconds here."""
    if not text.isascii() or not text.isdigit():
        date = http_date(text)
        return (date - now).total_seconds() if date else None
    number = int(text[:20])
    if number <= _SECONDS_A_DAY:
        return float(number)
    epoch = number / 1000 if number >= _EPOCH_MILLISECONDS_FROM else number
    return epoch - now.timestamp()
