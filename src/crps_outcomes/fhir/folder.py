"""A folder of files, as a Bulk Data export or a saved search leaves it: every count compared, or a hole.

With a manifest.json every listed file must be there and hold exactly ``count`` lines, and no other file of resources
may lie beside them. Without one nothing says what should be there: the pull is "unverified". Files are NDJSON, a
Bundle or one resource, plain, .gz or .zst; they are read in pieces, twice: for a look, and for what is asked for.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Literal

import msgspec

from crps_outcomes.errors import SourceError
from crps_outcomes.fhir.bundles import Key, Page, gaps
from crps_outcomes.fhir.files import MANIFEST, contents, readable_in, type_in_name
from crps_outcomes.fhir.manifest import (
    Manifest,
    deleted_in,
    is_error,
    name_in,
    not_honoured,
    path_of,
    read_manifest,
    since_in,
    too_little,
)  # fmt: skip
from crps_outcomes.fhir.source import (
    JSON_ERRORS,
    TYPE_NAME,
    Item,
    Order,
    Part,
    Query,
    Unit,
    Unreadable,
    instant,
    read_item,
)  # fmt: skip
from crps_outcomes.fhir.unpack import MEGABYTE, Line, UnpackError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

#: A piece of a file that is in memory at once: so many lines, or so many bytes.
_LINES_IN_A_PART, _BYTES_IN_A_PART = 10_000, 16 * MEGABYTE
_MOST_UNREADABLE = 10_000
_DELETED = "the source lists it as deleted (F40)"


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    last_updated: str = ""


class _Head(msgspec.Struct, frozen=True, rename="camel"):
    """What a first look at a line takes from it."""

    resource_type: str
    meta: _Meta = _Meta()


_HEAD = msgspec.json.Decoder(_Head)


@dataclass(frozen=True)
class _File:
    """A file and what its listing says about it."""

    path: Path
    resource_type: str  # as listed, else as its name says
    declared: int | None = None
    is_listed: bool = False

    @property
    def name(self) -> str:
        return self.path.name


@dataclass
class _Look:
    """What a first look through a file found."""

    n_lines: int = 0
    types: Counter[str] = field(default_factory=Counter)
    unreadable: list[Unreadable] = field(default_factory=list)
    newest: datetime | None = None
    newest_text: str = ""
    is_cut: bool = False  # the last line has no end and cannot be read
    page: Page | None = None
    deleted: frozenset[Key] = frozenset()
    hole: str = ""


@dataclass(frozen=True)
class FolderSource:
    """A folder. A description only: nothing is read before it is opened."""

    path: Path

    @property
    def kind(self) -> Literal["folder"]:
        return "folder"

    @property
    def identity(self) -> str:
        """Any folder: each night has one of its own."""
        return "folder"

    @contextmanager
    def open(self, order: Order) -> Iterator[FolderSession]:
        """A session, after one look through all files.

        Raises:
            SourceError: no such folder, nothing to read in it, or a manifest.json that is none.
        """
        yield _doubting_empty_types(opened(self.path, order), order)


@dataclass(frozen=True)
class FolderSession:
    """A folder that was looked through. Nothing in it asks the clock."""

    files: tuple[_File, ...]
    looks: Mapping[str, _Look]
    is_verified: bool
    pulled_at: datetime
    parts: tuple[Part, ...]
    since: datetime | None
    deleted: frozenset[Key]
    largest_bundle: int
    software: str = "folder of files"
    workers: int = 1

    @property
    def types(self) -> frozenset[str]:
        """What there is a resource of."""
        return frozenset().union(*(self.looks[file.name].types for file in self.files))

    def holds(self, unit: Unit) -> bool:
        """Whether the unit is one of this folder's."""
        return isinstance(unit.work, _File)

    def units(self, queries: Sequence[Query]) -> list[Unit]:
        """The types asked for, file by file. A folder cannot narrow further: the pull filters."""
        wanted = {query.resource_type for query in queries if query.values or not query.by}
        return [
            Unit(f"{file.name} {name}", name, since=self.since, work=file)
            for file in self.files
            for name in sorted(wanted & set(self.looks[file.name].types))
        ]

    def narrows(self, resource_type: str) -> bool:
        """Whatever is asked for, all there is of a type comes at once."""
        del resource_type
        return False

    def take(self, unit: Unit) -> Iterator[Part]:
        """The lines of a file that are of the unit's type, in pieces."""
        n_lines, part = 0, 0
        try:
            for part, piece in enumerate(_pieces(self._lines(unit)), 1):
                n_lines += len(piece)
                yield self._part(unit, part, piece)
            is_same = n_lines == self.looks[unit.work.name].types[unit.resource_type]
        except (UnpackError, OSError):
            is_same = False
        if not is_same:
            hole = "F39 the file changed while it was read"
            yield Part(unit.name, part + 1, unit.resource_type, hole=hole)

    def count(self, unit: Unit) -> None:
        """A folder says nothing beyond what it holds."""

    def total(self, query: Query) -> None:
        """Nor here."""

    def _lines(self, unit: Unit) -> Iterator[tuple[int, bytes]]:
        """The lines of the unit's type, numbered; where the look saw no others, nothing is decoded to find them."""
        look = self.looks[unit.work.name]
        found, _ = contents(unit.work.path, self.largest_bundle)
        numbered = ((number, line.text) for number, line in enumerate(found, 1))
        if len(look.types) == 1 and not look.unreadable:
            return numbered
        return ((number, text) for number, text in numbered if _type_of(text) == unit.resource_type)

    def _part(self, unit: Unit, part: int, piece: Iterable[tuple[int, bytes]]) -> Part:
        file = unit.work
        items: list[Item] = []
        unreadable: list[Unreadable] = []
        for number, text in piece:
            item = read_item(text)
            reason = item if isinstance(item, str) else self._objection(item, unit)
            if reason:
                unreadable.append(_unreadable(file, number, reason))
            elif isinstance(item, Item):
                items.append(item)
        return Part(
            query_id=unit.name,
            part=part,
            resource_type=unit.resource_type,
            declared=file.declared,
            items=tuple(items),
            unreadable=tuple(unreadable),
            is_verified=self.is_verified and file.declared is not None,
        )

    def _objection(self, item: Item, unit: Unit) -> str:
        if item.resource_type != unit.resource_type:
            return "its type stands twice"
        return _DELETED if (item.resource_type, item.id) in self.deleted else ""


def _doubting_empty_types(session: FolderSession, order: Order) -> FolderSession:
    """That a listed type holds nothing is not confirmed by a manifest that counts nothing: exports fail so (F42)."""
    empty = {*order.resource_types} - session.types
    return replace(
        session,
        parts=tuple(
            replace(part, is_verified=False) if part.declared == 0 and part.resource_type in empty else part
            for part in session.parts
        ),
    )


def opened(folder: Path, order: Order) -> FolderSession:
    """A folder as a session, after one look through all its files.

    Raises:
        SourceError: no such folder, nothing to read in it, or a manifest.json that is none.
    """
    largest = order.limits.max_body_mb * MEGABYTE
    manifest = read_manifest(folder)
    files = _listed(folder, manifest) if manifest else _found(folder)
    wanted = {*order.resource_types, "Medication"}  # whether Medications are referred to shows later
    looks = {file.name: _look(file, largest, wanted) for file in files}
    for name, hole in gaps({name: look.page for name, look in looks.items() if look.page}).items():
        looks[name].hole = looks[name].hole or hole
    gone, unclear = deleted_in(folder, manifest) if manifest else (frozenset[Key](), ())
    return FolderSession(
        files=tuple(files),
        looks=looks,
        is_verified=manifest is not None,
        pulled_at=_instant_of(manifest, files, looks),
        parts=(*_shown(folder, manifest, files, looks, order), *unclear),
        since=since_in(manifest),
        deleted=gone.union(*(look.deleted for look in looks.values())),
        largest_bundle=largest,
    )


def _shown(
    folder: Path, manifest: Manifest | None, files: Iterable[_File], looks: Mapping[str, _Look], order: Order
) -> Iterator[Part]:
    """What the look has shown: each file as such, and the holes of the folder as a whole."""
    for file in files:
        yield _as_such(file, looks[file.name], {*order.resource_types, "Medication"})
    yield from _not_readable(folder)
    if manifest:
        yield from not_honoured(folder, manifest)
        yield from too_little(manifest, {name for look in looks.values() for name in look.types}, order)


# --- the folder as such ---------------------------------------------------------------------------------------------


def _as_such(file: _File, look: _Look, resource_types: Collection[str]) -> Part:
    """The file as a whole, as part 0: its holes, its unreadable lines and the lines nobody asks for."""
    part = Part(
        query_id=file.name,
        part=0,
        resource_type=file.resource_type,
        declared=file.declared,
        unreadable=tuple(look.unreadable),
        n_not_asked_for=sum(n for name, n in look.types.items() if name not in resource_types),
        is_verified=file.is_listed and file.declared is not None,
    )
    hole = look.hole or _mismatch(file, look)
    return replace(part, unreadable=(), n_not_asked_for=0, hole=hole) if hole else part


def _mismatch(file: _File, look: _Look) -> str:
    if file.declared is not None and look.n_lines != file.declared:
        return f"F36 manifest.json declares {file.declared} lines, the file holds {look.n_lines} (rows_missing)"
    if file.declared is not None and look.is_cut:
        return "F39 the last line is cut"
    if len(look.unreadable) > _MOST_UNREADABLE:
        return f"F39 more than {_MOST_UNREADABLE:,} lines cannot be read"
    return ""


def _not_readable(folder: Path) -> Iterator[Part]:
    """Files that look like resources in a form that is not read: passing over them would lose data in silence."""
    known = {MANIFEST, *(path.name for path in readable_in(folder))}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in known and re.search("json|xml", path.name.lower()):
            hole = "F22 a file in a form that is not read; it should be .ndjson or .json, plain, .gz or .zst"
            yield Part(path.name, 0, type_in_name(path.name), hole=hole)


# --- which files ----------------------------------------------------------------------------------------------------


def _found(folder: Path) -> list[_File]:
    files = [_File(path, type_in_name(path.name)) for path in readable_in(folder)]
    if not files:
        raise SourceError(f"{folder}: no .ndjson or .json files in it, plain, .gz or .zst")
    return files


def _listed(folder: Path, manifest: Manifest) -> list[_File]:
    """The files of the manifest, sorted by name; one that is not there keeps the name it should have."""
    files: dict[str, _File] = {}
    for output in manifest.output:
        path = path_of(folder, output) or folder / (name_in(output) or "unnamed")
        if path.name in files:
            raise SourceError(f"{folder / MANIFEST}: two entries of output name the same file; names should differ")
        name = output.type if TYPE_NAME.fullmatch(output.type) else "unknown"  # what a server writes is not repeated
        files[path.name] = _File(path, name, output.count, is_listed=True)
    return [files[name] for name in sorted(files)]


# --- what is in them ------------------------------------------------------------------------------------------------


def _look(file: _File, largest_bundle: int, wanted: Collection[str]) -> _Look:
    """One look through a file: lines, types, newest change, and what cannot be read."""
    look = _Look()
    try:
        found, saved = contents(file.path, largest_bundle)
        look.page, look.deleted, look.hole = saved.page, saved.deleted, saved.hole
        for number, line in enumerate(found, 1):
            look.n_lines = number
            _note(look, file, number, line, wanted)
    except FileNotFoundError:
        look.hole = "F37 the listed file is not there (file_missing)"
    except UnpackError as error:
        look.hole = f"F39 the file is {error}"
    except OSError as error:
        look.hole = f"F37 the file cannot be read ({type(error).__name__})"
    return look


def _note(look: _Look, file: _File, number: int, line: Line, wanted: Collection[str]) -> None:
    try:
        head = _HEAD.decode(line.text)
        is_resource = head.resource_type in look.types or bool(TYPE_NAME.fullmatch(head.resource_type))
        says_error = head.resource_type == "OperationOutcome" and is_error(line)
    except JSON_ERRORS:
        is_resource = False
    if not is_resource:
        _refuse(look, file, number, "not JSON, or not a resource" if line.is_ended else "a line that is cut")
        look.is_cut = not line.is_ended
        return
    if says_error:
        look.hole = look.hole or "F23 a line says that something went wrong (OperationOutcome of severity error)"
    elif file.is_listed and file.resource_type in wanted and head.resource_type not in {*wanted, "OperationOutcome"}:
        _refuse(look, file, number, "a resource of another type than its file is listed with")
        return
    look.types[head.resource_type] += 1
    if head.meta.last_updated != look.newest_text:
        changed = instant(head.meta.last_updated)
        if changed and (look.newest is None or changed > look.newest):
            look.newest, look.newest_text = changed, head.meta.last_updated


def _refuse(look: _Look, file: _File, number: int, reason: str) -> None:
    if len(look.unreadable) <= _MOST_UNREADABLE:
        look.unreadable.append(_unreadable(file, number, reason))


def _pieces(numbered: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    piece: list[tuple[int, bytes]] = []
    n_bytes = 0
    for number, text in numbered:
        piece.append((number, text))
        n_bytes += len(text)
        if len(piece) >= _LINES_IN_A_PART or n_bytes >= _BYTES_IN_A_PART:
            yield piece
            piece, n_bytes = [], 0
    if piece:
        yield piece


def _unreadable(file: _File, number: int, reason: str) -> Unreadable:
    return Unreadable(f"{file.name} line {number}", reason)


def _type_of(text: bytes) -> str:
    try:
        return _HEAD.decode(text).resource_type
    except JSON_ERRORS:
        return ""


def _instant_of(manifest: Manifest | None, files: Iterable[_File], looks: Mapping[str, _Look]) -> datetime:
    """When the folder was made: as the manifest says, else its newest resource, else its newest file."""
    told = instant(manifest.transaction_time) if manifest else None
    newest = max((look.newest for look in looks.values() if look.newest), default=None)
    changed = max((file.path.stat().st_mtime for file in files if file.path.is_file()), default=0.0)
    return next(chain(filter(None, (told, newest)), (datetime.fromtimestamp(changed, UTC),)))
