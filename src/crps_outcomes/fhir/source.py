"""What a source of resources offers the pull, and what one arrived resource looks like. No network here.

A source is opened for an order and yields a session. The session turns queries into units of work; each unit is taken
as parts (one per page or piece of a file). What could not be had is not an exception but a part with a ``hole``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import msgspec

from crps_outcomes.resources import id_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from crps_outcomes.definitions import Pull

#: Ids that FHIR allows; also what keeps a hostile id out of queries.
FHIR_ID = re.compile(r"[A-Za-z0-9.\-]{1,64}", re.ASCII)
TYPE_NAME = re.compile(r"[A-Z][A-Za-z]{1,63}", re.ASCII)

_DECODER = msgspec.json.Decoder(float_hook=Decimal)  # 1.10 stays 1.10
_ENCODER = msgspec.json.Encoder(decimal_format="number", order="sorted")
#: Everything a hostile text can make the JSON reader or writer raise.
JSON_ERRORS = (ValueError, RecursionError, OverflowError, InvalidOperation, msgspec.MsgspecError)

# Keys whose second value would change what a resource means: a JSON reader silently keeps the last one.
_GUARDED = re.compile(
    rb'"(resourceType|id|meta|lastUpdated|status|actuality|subject|patient|individual|verificationStatus|dosage'
    rb'|value[A-Z]\w*|(?:effective|performed)[A-Z]\w*)"\s*:'
)
_HIDDEN_KEY = re.compile(rb"\\u00[2-7]")  # an ASCII letter of a key written as an escape

Filter = Literal["", "_id", "patient", "identifier", "study", "type", "category"]


class Query(NamedTuple):
    """What is wanted of one resource type: all of it, or what ``by`` narrows to ``values``.

    With ``since`` only what changed from that instant on is wanted. A source may answer with more than was asked (a
    server that does not know the parameter, a folder): the pull filters once more.
    """

    resource_type: str
    by: Filter = ""
    values: tuple[str, ...] = ()
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One resource as it arrived. ``body`` is its canonical JSON: sorted keys, compact, decimals as written."""

    resource_type: str
    id: str
    last_updated: datetime | None
    version_id: str
    subject_id: str  # the Patient it is about, or ""
    is_loose: bool  # that is a urn:uuid, which is a Patient only if there is one of that id
    is_subsetted: bool
    sha256: str
    body: bytes

    @property
    def ref(self) -> str:
        return f"{self.resource_type}/{self.id}"


class Unreadable(NamedTuple):
    """A line or entry that is no resource: where it stood, and why it cannot be read. Never what it said."""

    place: str
    reason: str


@dataclass(frozen=True)
class Part:
    """One page, or one piece of a file: what was asked, declared and received, or the hole in its place."""

    query_id: str
    part: int
    resource_type: str
    asked: int | None = None
    declared: int | None = None  # what the source says the whole query or file holds
    items: tuple[Item, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    n_not_asked_for: int = 0  # resources of types nobody asked for: counted, never kept
    hole: str = ""
    is_verified: bool = False  # the number received was compared with one the source declared

    @property
    def n_received(self) -> int:
        return len(self.items) + len(self.unreadable) + self.n_not_asked_for


@dataclass(frozen=True)
class Order:
    """What a pull opens a source for."""

    resource_types: tuple[str, ...]
    limits: Pull
    workplace: Path  # the private folder of this pull: an export is downloaded into it
    since: datetime | None = None  # what changed from here on is enough; a source may answer with everything
    whole_from: datetime | None = None  # once the source's clock is past this, everything is wanted all the same
    group: str = ""  # system|value of the Group that lists the cohort, "" for the other selectors


class Unit(NamedTuple):
    """A piece of work that is taken whole or not at all: one search, or one file's resources of one type."""

    name: str  # the query_id of its parts, the same at every attempt of one pull
    resource_type: str
    people: tuple[str, ...] = ()  # the patients it is about; empty if it is about whoever there is
    since: datetime | None = None  # it brings only what changed from here on
    work: Any = None  # the session's own

    @property
    def whole(self) -> Unit:
        """The same unit without the limit in time."""
        return self._replace(name=f"{self.name} whole", since=None)


class Session(Protocol):
    """An opened source."""

    @property
    def software(self) -> str:
        """Name and version of what answers."""

    @property
    def pulled_at(self) -> datetime:
        """The instant of the pull by the source's own clock."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """What opening has already shown: files as such, with their holes."""

    @property
    def workers(self) -> int:
        """How many units may be taken side by side."""

    @property
    def since(self) -> datetime | None:
        """From when on changes are here; None if everything is."""

    @property
    def deleted(self) -> frozenset[tuple[str, str]]:
        """(resource type, id) of what the source itself says is gone."""

    def units(self, queries: Sequence[Query]) -> list[Unit]:
        """Units that bring everything the queries ask for, at least; each resource type is asked for once."""

    def narrows(self, resource_type: str) -> bool:
        """Whether a query's values limit what comes, so that more may be asked for later."""

    def take(self, unit: Unit) -> Iterator[Part]:
        """The parts of a unit: all of them, or one with the hole."""

    def count(self, unit: Unit) -> int | None:
        """How many resources the source has for the unit now, if it asks for changes since then; None if it cannot say."""

    def total(self, query: Query) -> int | None:
        """How many resources the source has for a query now; None if it cannot say."""


class Source(Protocol):
    """Where resources come from."""

    @property
    def kind(self) -> Literal["rest", "export", "folder"]: ...

    @property
    def identity(self) -> str:
        """What stays the same from night to night: a server's address, whichever way it is asked."""

    def open(self, order: Order) -> AbstractContextManager[Session]:
        """A session for this order.

        Raises:
            SourceError: it cannot be reached, refuses, or does not know one of the types.
        """


def read_item(raw: bytes) -> Item | str:
    """The resource, or why it cannot be read (a reason without any of its content)."""
    try:
        resource = _DECODER.decode(raw)
        if not isinstance(resource, dict):
            return "not a JSON object"
        item = _item(resource)
        is_clear = isinstance(item, str) or not _says_something_twice(raw, item.body)
    except JSON_ERRORS:
        return "not JSON"
    return item if is_clear else "a key that must be unique stands twice"


def item_of(raw: bytes) -> Item:
    """The resource in bytes that we wrote ourselves."""
    item = read_item(raw)
    assert isinstance(item, Item)
    return item


def instant(text: Any) -> datetime | None:
    """The instant a FHIR instant names, in UTC; None for anything without a zone."""
    try:
        read = datetime.fromisoformat(text)
        return read.astimezone(UTC) if read.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None


def _item(resource: dict[str, Any]) -> Item | str:
    resource_type, identity = resource.get("resourceType"), resource.get("id")
    if not isinstance(resource_type, str) or not TYPE_NAME.fullmatch(resource_type):
        return "no resource type"
    if not isinstance(identity, str) or not FHIR_ID.fullmatch(identity):
        return "its id is not one FHIR allows"
    meta = resource.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    body = _ENCODER.encode(resource)
    return Item(
        resource_type=resource_type,
        id=identity,
        last_updated=instant(meta.get("lastUpdated")),
        version_id=str(meta.get("versionId", "")),
        subject_id=_subject_id(resource),
        is_loose=_subject(resource).startswith("urn:"),
        is_subsetted=_is_subsetted(meta),
        sha256=sha256(body).hexdigest(),
        body=body,
    )


def _subject_id(resource: dict[str, Any]) -> str:
    return id_in(_subject(resource), "Patient")


def _subject(resource: dict[str, Any]) -> str:
    """The reference to whom it is about, as it is written."""
    for name in ("subject", "patient", "individual"):
        value = resource.get(name)
        reference = value.get("reference") if isinstance(value, dict) else None
        if isinstance(reference, str):
            return reference
    return ""


def _is_subsetted(meta: dict[str, Any]) -> bool:
    tags = meta.get("tag")
    tags = tags if isinstance(tags, list) else []
    return any(isinstance(tag, dict) and tag.get("code") == "SUBSETTED" for tag in tags)


def _says_something_twice(raw: bytes, body: bytes) -> bool:
    """A guarded key stands more often in what arrived than in what a reader makes of it."""
    if _HIDDEN_KEY.search(raw):
        return _has_twins(raw)
    names = _GUARDED.findall(raw)
    return len(set(names)) != len(names) and len(names) != len(_GUARDED.findall(body))


def _has_twins(raw: bytes) -> bool:
    try:
        json.loads(raw, object_pairs_hook=_unique)
    except _TwiceError:
        return True
    return False


class _TwiceError(Exception):
    """One JSON object names a key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _TwiceError
