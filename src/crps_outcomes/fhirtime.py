"""FHIR dates and times: what day they name, and which instant, without ever inventing precision."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

_LENGTH_OF_A_DAY = len("2026-01-31")
#: Years the tables can hold; "0001-01-01" and "9999-12-31" stand for "always" in records and name no day.
_YEARS = range(1700, 2262)
_MONTH_OR_YEAR = re.compile(r"\d{4}(-\d{2})?", re.ASCII)


@dataclass(frozen=True)
class Moment:
    """``on``: the local calendar day, or None when the source says only a month or a year. ``at``: the instant in
    UTC, or None when the source gives no time of day with a zone.
    """

    on: date | None
    at: datetime | None


NOTHING = Moment(None, None)


@lru_cache(maxsize=65536)
def moment(text: str, timezone: str) -> Moment:
    """The moment a FHIR date, dateTime or instant names.

    The day is the one the source wrote (its first ten characters), since that is the day the patient lived through.
    Only a time in UTC ("Z") says nothing about the local day and is converted to ``timezone``.
    A text that is no FHIR date names nothing, nor does a year outside 1700 to 2261.
    """
    if len(text) < _LENGTH_OF_A_DAY or not text[:4].isdecimal() or int(text[:4]) not in _YEARS:
        return NOTHING
    try:
        if len(text) == _LENGTH_OF_A_DAY:
            return Moment(date.fromisoformat(text), None)
        instant = datetime.fromisoformat(text)
    except ValueError:
        return NOTHING
    if instant.tzinfo is None:
        return Moment(instant.date(), None)
    written_in_utc = text.endswith(("Z", "+00:00"))
    local = instant.astimezone(ZoneInfo(timezone)) if written_in_utc else instant
    return Moment(local.date(), instant.astimezone(UTC))


def has_begun(start: str, day: date, timezone: str) -> bool:
    """Whether a start is reached on a day; one that says only a month or year is, from its first possible day on.

    A text that is no FHIR date, or none at all, sets no limit.
    """
    on = moment(start, timezone).on
    return on <= day if on else not is_month_or_year(start) or start <= day.isoformat()[: len(start)]


def has_ended(end: str, day: date, timezone: str) -> bool:
    """Whether an end is past on a day: the last day still belongs, and a month lasts to its end. No date, no end."""
    on = moment(end, timezone).on
    return on < day if on else is_month_or_year(end) and end < day.isoformat()[: len(end)]


def is_month_or_year(text: str) -> bool:
    """Whether a FHIR date names no day."""
    return _MONTH_OR_YEAR.fullmatch(text) is not None
