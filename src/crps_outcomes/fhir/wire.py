"""What a FHIR server's answers look like: the few elements of Bundle, CapabilityStatement and OperationOutcome read.

A resource inside a Bundle stays raw bytes: one bad resource never loses its page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator


class Link(msgspec.Struct, frozen=True, rename="camel"):
    relation: str = ""
    url: str = ""


class Mode(msgspec.Struct, frozen=True, rename="camel"):
    mode: str = ""


class Request(msgspec.Struct, frozen=True, rename="camel"):
    method: str = ""
    url: str = ""


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    resource: msgspec.Raw = msgspec.Raw(b"")
    search: Mode = Mode()
    request: Request = Request()


class Bundle(msgspec.Struct, frozen=True, rename="camel"):
    resource_type: str
    type: str = ""
    total: int | None = None
    link: tuple[Link, ...] = ()
    entry: tuple[Entry, ...] = ()

    def link_to(self, relation: str) -> str:
        return next((link.url for link in self.link if link.relation == relation), "")


class SearchParameter(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""


class TypeSupport(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    search_param: tuple[SearchParameter, ...] = ()


class Rest(msgspec.Struct, frozen=True, rename="camel"):
    mode: str = "server"
    resource: tuple[TypeSupport, ...] = ()


class Software(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    version: str = ""


class Capability(msgspec.Struct, frozen=True, rename="camel"):
    resource_type: str
    software: Software = Software()
    rest: tuple[Rest, ...] = ()


class Concept(msgspec.Struct, frozen=True, rename="camel"):
    text: str = ""


class Issue(msgspec.Struct, frozen=True, rename="camel"):
    severity: str = ""
    code: str = ""
    diagnostics: str = ""
    details: Concept = Concept()


class Outcome(msgspec.Struct, frozen=True, rename="camel"):
    issue: tuple[Issue, ...] = ()


_BUNDLE = msgspec.json.Decoder(Bundle)
_CAPABILITY = msgspec.json.Decoder(Capability)
_OUTCOME = msgspec.json.Decoder(Outcome)


def read_capability(body: bytes) -> Capability:
    """The CapabilityStatement in a body.

    Raises:
        msgspec.DecodeError: it is none; a ``ValidationError`` when it is JSON of another shape.
    """
    capability = _CAPABILITY.decode(body)
    if capability.resource_type != "CapabilityStatement":
        raise msgspec.ValidationError
    return capability


def read_bundle(body: bytes) -> Bundle:
    """The searchset Bundle in a body.

    Raises:
        msgspec.DecodeError: it is none; a ``ValidationError`` when it is JSON of another shape.
    """
    bundle = read_any_bundle(body)
    if bundle.type != "searchset":
        raise msgspec.ValidationError
    return bundle


def read_any_bundle(body: bytes | bytearray) -> Bundle:
    """The Bundle in a body, of whatever type.

    Raises:
        msgspec.DecodeError: it is none; a ``ValidationError`` when it is JSON of another shape.
    """
    bundle = _BUNDLE.decode(body)
    if bundle.resource_type != "Bundle":
        raise msgspec.ValidationError
    return bundle


def is_outcome(entry: Entry) -> bool:
    """An OperationOutcome among the results; it needs no id."""
    return b'"OperationOutcome"' in bytes(entry.resource)[:400]


def issues_in(bundle: Bundle) -> Iterator[Issue]:
    """What the OperationOutcomes inside a page say. Their texts may repeat a patient's data: never to be shown."""
    for entry in bundle.entry:
        if entry.search.mode == "outcome" or (not entry.search.mode and is_outcome(entry)):
            try:
                yield from _OUTCOME.decode(entry.resource).issue
            except msgspec.DecodeError:
                yield Issue(severity="error", code="unreadable")
