"""FHIR Bundles saved as files: the resources in them, what they say is deleted, and which page of a search is missing.

A Bundle is read whole, so its size is bounded; its resources stay raw bytes. A saved search counts as whole only if
its pages lead to one another without a gap and hold as many matches as they declare.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, urljoin, urlsplit

import msgspec
import numpy as np

from crps_outcomes.fhir.source import FHIR_ID, JSON_ERRORS, TYPE_NAME
from crps_outcomes.fhir.wire import Bundle, Entry, is_outcome, issues_in, read_any_bundle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Key = tuple[str, str]  # resource type and id

_READABLE = frozenset({"collection", "batch", "transaction", "searchset", "history"})
#: Bundles of FHIR that are no store of current resources.
_REFUSED = frozenset({"document", "message", "transaction-response", "batch-response", "subscription-notification"})
_BRINGS_NOTHING = frozenset({"DELETE", "GET", "HEAD"})
_KEY_BYTES = 8


class _Head(msgspec.Struct, frozen=True, rename="camel"):
    resource_type: str
    id: str = ""


_HEAD = msgspec.json.Decoder(_Head)


class Page(NamedTuple):
    """What a Bundle says about its place in a search, and what it holds of it. Addresses can be compared."""

    own: str
    next: str
    previous: str
    total: int | None
    matches: bytes = b""  # eight bytes for every match that has an id
    n_others: int = 0  # matches without


@dataclass(frozen=True)
class Saved:
    """A JSON file: its resources, the deletions it lists, its place in a search, or why it cannot be read."""

    resources: tuple[msgspec.Raw, ...] = ()
    deleted: frozenset[Key] = frozenset()
    page: Page | None = None
    hole: str = ""


def read_saved(content: bytes | bytearray) -> Saved:
    """A Bundle, or a single resource."""
    try:
        if _HEAD.decode(content).resource_type != "Bundle":
            return Saved((msgspec.Raw(bytes(content)),))
        return _saved(read_any_bundle(content))
    except JSON_ERRORS:
        return Saved(hole="F22 a JSON file that is no FHIR resource and no whole Bundle (not_a_bundle)")


def _saved(bundle: Bundle) -> Saved:
    if hole := _refusal(bundle):
        return Saved(hole=hole)
    try:
        deleted = frozenset(deletions(bundle))
    except ValueError:
        return Saved(hole="F40 the Bundle deletes what it does not name by type and id")
    return Saved(tuple(_resources(bundle)), deleted, _page(bundle))


def deletions(bundle: Bundle) -> Iterator[Key]:
    """What a Bundle's DELETE entries name. In a history, whose newest entries stand first, the first one decides.

    Raises:
        ValueError: a deletion is conditional, or names no resource.
    """
    alive: set[Key] = set()
    for entry in bundle.entry:
        if entry.request.method == "DELETE":
            if (gone := _target(entry.request.url)) not in alive:
                yield gone
        elif bundle.type == "history" and (key := _key(entry)):
            alive.add(key)


def _refusal(bundle: Bundle) -> str:
    if bundle.type not in _READABLE:
        name = f"a {bundle.type} Bundle" if bundle.type in _REFUSED else "a Bundle of no known type"
        return f"F22 {name}; it should be one of {', '.join(sorted(_READABLE))}"
    if any(entry.request.method == "PATCH" for entry in bundle.entry):
        return "F22 a Bundle with PATCH entries; it should hold whole resources"
    if any(issue.severity in {"error", "fatal"} for issue in issues_in(bundle)):
        return "F23 the Bundle holds an OperationOutcome of severity error"
    return ""


def _resources(bundle: Bundle) -> Iterator[msgspec.Raw]:
    """The entries that bring a resource, or should."""
    for entry in bundle.entry:
        is_said = entry.search.mode == "outcome" or (bundle.type == "searchset" and is_outcome(entry))
        if entry.request.method not in _BRINGS_NOTHING and not is_said:
            yield entry.resource


def _target(url: str) -> Key:
    parts = url.split("/_history/", maxsplit=1)[0].split("/")
    if len(parts) < 2 or not TYPE_NAME.fullmatch(parts[-2]) or not FHIR_ID.fullmatch(parts[-1]):
        raise ValueError("no type and id")
    return parts[-2], parts[-1]


def _key(entry: Entry) -> Key | None:
    try:
        head = _HEAD.decode(entry.resource)
    except JSON_ERRORS:
        return None
    return (head.resource_type, head.id) if head.id else None


# --- pages of a search ----------------------------------------------------------------------------------------------


def _page(bundle: Bundle) -> Page | None:
    if bundle.type not in {"searchset", "history"}:
        return None
    own = bundle.link_to("self")
    here, after, before = (_address(own, bundle.link_to(name)) for name in ("self", "next", "previous"))
    page = Page(here, after, before, bundle.total)
    if bundle.type == "history":  # its total counts versions
        return page._replace(n_others=len(bundle.entry))
    keys = [_key(entry) for entry in bundle.entry if _is_match(entry)]
    digests = (blake2b("/".join(key).encode(), digest_size=_KEY_BYTES).digest() for key in keys if key)
    return page._replace(matches=b"".join(digests), n_others=keys.count(None))


def _is_match(entry: Entry) -> bool:
    return entry.search.mode in {"", "match"} and not is_outcome(entry)


def _address(own: str, link: str) -> str:
    """A link as it can be compared: resolved, without its scheme, parameters in order."""
    if not link:
        return ""
    try:
        parts = urlsplit(urljoin(own, link))
        query = sorted(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        return link
    return f"{parts.netloc.lower()}{parts.path}?{query}"


def gaps(pages: Mapping[str, Page]) -> dict[str, str]:
    """The holes of the files whose search is not whole: file name -> hole. A page saved twice counts once."""
    pages = {name: page for page, name in {pages[name]: name for name in sorted(pages, reverse=True)}.items()}
    names = {page.own: name for name, page in pages.items() if page.own}
    missing = {name: hole for name, page in pages.items() if (hole := _missing_neighbour(page, names))}
    heads = set(pages) - {names.get(page.next) for page in pages.values()}
    chains = [[*_chain(pages, names, head)] for head in sorted(heads)]
    reached = {name for chain in chains for name in chain}
    endless = {chain[0] for chain in chains if pages[chain[-1]].next in names} | (set(pages) - reached)
    wrong = {chain[0]: hole for chain in chains if (hole := _miscount([pages[name] for name in chain]))}
    return wrong | dict.fromkeys(endless, "F02 the pages lead back to one another (paging_loop)") | missing


def _missing_neighbour(page: Page, names: Mapping[str, str]) -> str:
    if page.next and page.next not in names:
        return "F37 the page after this one is not in the folder (file_missing)"
    if page.previous and page.previous not in names:
        return "F37 the page before this one is not in the folder (file_missing)"
    return ""


def _chain(pages: Mapping[str, Page], names: Mapping[str, str], head: str) -> Iterator[str]:
    """The files from a first page on, each once."""
    seen: set[str] = set()
    name: str | None = head
    while name is not None and name not in seen:
        seen.add(name)
        yield name
        name = names.get(pages[name].next)


def _miscount(chain: Iterable[Page]) -> str:
    pages = list(chain)
    told = [page.total for page in pages if page.total is not None]
    if not told:
        return ""
    keys = np.frombuffer(b"".join(page.matches for page in pages), dtype=np.uint64)
    n_found = np.unique(keys).size + sum(page.n_others for page in pages)
    return "" if n_found == told[-1] else f"F07 the Bundles declare {told[-1]}, {n_found} are here (count_mismatch)"
