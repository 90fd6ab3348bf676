"""The analysis plan over time: its own digest, when runs of this home first used it, and what changed after data were seen.

The plan holds no patient data, so every value of it may be printed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from crps_outcomes.definitions import Protocol

#: Keys of mappings/protocol.toml that decide what is estimated, and their names in a report. Not among them: how data are
#: pulled, what may leave the clinic, and the names of site and protocol.
PARTS: Mapping[str, str] = {
    "timezone": "time zone",
    "condition_codelist": "code list of CRPS",
    "enrolment": "enrolment",
    "exposure": "sessions and series",
    "context": "clinical context",
    "baseline": "start value",
    "visits": "visits",
    "outcomes": "outcomes",
    "plan": "plan",
    "safety": "safety",
}
NOT_THERE = "not in the plan"
UNKNOWN = ""  # the digest of a plan that was used before plans were kept


@dataclass(frozen=True)
class PlanSeen:
    """A plan that took the place of another: its canonical text, and the day of the data of the first run that used it then."""

    digest: str
    text: str
    seen_on: str


@dataclass(frozen=True)
class Difference:
    """One entry of the plan that is not what it was, in words."""

    entry: str
    before: str
    after: str


ORDER_ONLY = (Difference("order of entries", "another order", "the order of now"),)


@dataclass(frozen=True)
class PlanChange:
    """One change after data were seen; without differences where the plan before was not kept."""

    on: str
    before: str  # digest
    after: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class PlanRecord:
    """What a report says about its plan."""

    digest: str = ""
    first_on: str = ""
    declared_on: str = ""
    changes: tuple[PlanChange, ...] = ()


def canonical(protocol: Protocol) -> str:
    """The plan as JSON with sorted keys: the same plan has the same text, however the file is laid out."""
    return json.dumps(protocol.model_dump(mode="json", include=set(PARTS)), sort_keys=True, separators=(",", ":"))


def digest_of_text(text: str) -> str:
    """SHA-256 of a canonical text."""
    return hashlib.sha256(text.encode()).hexdigest()


def sighting(protocol: Protocol, on: str) -> PlanSeen:
    """The plan of this protocol, used on data of that day."""
    text = canonical(protocol)
    return PlanSeen(digest_of_text(text), text, on)


def told(protocol: Protocol, history: Sequence[PlanSeen]) -> PlanRecord:
    """What to say about this protocol's plan after a history that ends with it."""
    digest = digest_of_text(canonical(protocol))
    first = next((one.seen_on for one in history if one.digest == digest), "")
    declared = protocol.plan.declared_on
    return PlanRecord(digest, first, declared.isoformat() if declared else "", tuple(changes(history)))


def changes(history: Sequence[PlanSeen]) -> Iterator[PlanChange]:
    """Every change of the plan in a history, the first one first."""
    for one, two in pairwise(history):
        differences = (differing(one.text, two.text) or ORDER_ONLY) if one.digest != UNKNOWN else ()
        yield PlanChange(two.seen_on, one.digest, two.digest, differences)


def differing(before: str, after: str) -> tuple[Difference, ...]:
    """The entries in which two canonical texts differ, in the order of `PARTS`."""
    one, two = json.loads(before), json.loads(after)
    return tuple(
        Difference(": ".join(part for part in (name, ", ".join(path)) if part), was, now)
        for key, name in PARTS.items()
        for path, was, now in _walk(one.get(key), two.get(key), ())
    )


def _walk(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    one, two = _by_name(before), _by_name(after)
    if isinstance(one, dict) and isinstance(two, dict):
        for key in dict.fromkeys([*one, *two]):
            yield from _walk(one.get(key), two.get(key), (*path, plain(key)))
    elif one != two:
        window = bool(path) and "window" in path[-1]
        yield path, _words(one, is_window=window), _words(two, is_window=window)


def _by_name(value: Any) -> Any:
    """A list of entries as entries by name, so that one put in the middle does not change all after it."""
    if not (isinstance(value, list) and value and all(isinstance(one, dict) for one in value)):
        return value
    named: dict[str, Any] = {}
    for number, entry in enumerate(value, 1):
        name = entry.get("id") or " ".join([entry.get("event", ""), *entry.get("terms", ())]).strip() or str(number)
        named[name if name not in named else f"{name} {number}"] = entry
    return named


def _words(value: Any, *, is_window: bool = False) -> str:
    if value is None:
        return NOT_THERE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{plain(key)}: {_words(one, is_window='window' in key)}" for key, one in value.items())
    if isinstance(value, list):
        return (" to " if is_window else ", ").join(_words(one) for one in value) or "none"
    return f"{value:g}" if isinstance(value, float) else plain(str(value)) or "none"


def plain(key: str) -> str:
    """A key or an id as words."""
    return key.replace("_", " ")
