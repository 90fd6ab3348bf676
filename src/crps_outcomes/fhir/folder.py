"""A folder of NDJSON files, as a Bulk Data export leaves it: read line by line, every count compared, or a hole.

With a manifest.json every listed file must be there and hold exactly ``count`` lines, and no other .ndjson file may
lie beside them. Without one nothing says what should be there: the pull is "unverified".
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal

import msgspec
import pyarrow as pa

from crps_outcomes.errors import SourceError
from crps_outcomes.fhir.source import JSON_ERRORS, Item, Part, Query, Unit, Unreadable, instant, read_item
from crps_outcomes.fhir.unpack import MEGABYTE, Line, UnpackError, blocks, lines

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from crps_outcomes.fhir.source import Order

MANIFEST = "manifest.json"
_CODECS = {".gz": "gzip", ".zst": "zstd"}
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}", re.ASCII)
_LINES_IN_A_PART = 20_000
_LARGEST_FILE = 16 * 1024 * MEGABYTE


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    last_updated: str = ""


class _Head(msgspec.Struct, frozen=True, rename="camel"):
    """What a first look at a line takes from it."""

    resource_type: str
    meta: _Meta = _Meta()


class _Output(msgspec.Struct, frozen=True):
    type: str
    url: str
    count: int | None = None


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    transaction_time: str
    output: tuple[_Output, ...]
    error: tuple[_Output, ...] = ()
    deleted: tuple[_Output, ...] = ()


class _Issue(msgspec.Struct, frozen=True):
    severity: str = ""


class _Outcome(msgspec.Struct, frozen=True):
    issue: tuple[_Issue, ...] = ()


_HEAD = msgspec.json.Decoder(_Head)
_OUTCOME = msgspec.json.Decoder(_Outcome)


@dataclass(frozen=True)
class _File:
    """A file and what its listing says about it."""

    path: Path
    resource_type: str  # as listed, else as its name says
    declared: int | None = None

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
    is_cut: bool = False  # the last line has no end and cannot be read
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
            SourceError: no such folder, no NDJSON in it, or a manifest.json that is none.
        """
        wanted = {*order.resource_types, "Medication"}  # whether Medications are referred to shows later
        manifest = _read_manifest(self.path)
        files = _listed(self.path, manifest) if manifest else _found(self.path)
        looks = {file.name: _look(file) for file in files}
        yield FolderSession(
            files=tuple(files),
            looks=looks,
            is_verified=manifest is not None,
            pulled_at=_instant_of(manifest, files, looks),
            parts=(
                *(_as_such(file, looks[file.name], wanted, is_listed=manifest is not None) for file in files),
                *(_not_honoured(self.path, manifest) if manifest else ()),
            ),
        )


@dataclass(frozen=True)
class FolderSession:
    """A folder that was looked through. Nothing in it asks the clock."""

    files: tuple[_File, ...]
    looks: Mapping[str, _Look]
    is_verified: bool
    pulled_at: datetime
    parts: tuple[Part, ...]
    software: str = "folder of NDJSON files"
    workers: int = 1  # one disk
    since: None = None
    deleted: frozenset[tuple[str, str]] = frozenset()

    def units(self, queries: Sequence[Query]) -> list[Unit]:
        """The types asked for, file by file. A folder cannot narrow further: the pull filters."""
        wanted = {query.resource_type for query in queries if query.values or not query.by}
        return [
            self._unit(file, name) for file in self.files for name in sorted(wanted & set(self.looks[file.name].types))
        ]

    def take(self, unit: Unit) -> Iterator[Part]:
        """The lines of one type in a file, in pieces."""
        yield from self._pieces(next(file for file in self.files if file.name == unit.work), unit.resource_type)

    def count(self, unit: Unit) -> int | None:
        """A folder says nothing beyond what it holds."""
        del unit
        return None

    def _unit(self, file: _File, resource_type: str) -> Unit:
        return Unit(f"{file.name} {resource_type}", resource_type, work=file.name)

    def _pieces(self, file: _File, resource_type: str) -> Iterator[Part]:
        look = self.looks[file.name]
        query_id = file.name if len(look.types) == 1 else f"{file.name} {resource_type}"
        numbered = ((number, line.text) for number, line in enumerate(lines_in(file.path), 1))
        mine = ((number, text) for number, text in numbered if _type_of(text) == resource_type)
        part = 1
        try:
            while piece := [*islice(mine, _LINES_IN_A_PART)]:
                yield self._part(query_id, part, resource_type, file, piece)
                part += 1
        except (UnpackError, OSError):
            yield Part(query_id, part, resource_type, hole="F39 the file changed while it was read")

    def _part(
        self, query_id: str, part: int, resource_type: str, file: _File, piece: Sequence[tuple[int, bytes]]
    ) -> Part:
        read = [(number, read_item(text)) for number, text in piece]
        return Part(
            query_id=query_id,
            part=part,
            resource_type=resource_type,
            declared=file.declared,
            items=tuple(item for _, item in read if isinstance(item, Item)),
            unreadable=tuple(_unreadable(file, number, item) for number, item in read if isinstance(item, str)),
            is_verified=self.is_verified and file.declared is not None,
        )


def _as_such(file: _File, look: _Look, resource_types: Collection[str], *, is_listed: bool) -> Part:
    """The file as a whole, as part 0: its holes, its unreadable lines and the lines nobody asks for."""
    part = Part(
        query_id=file.name,
        part=0,
        resource_type=file.resource_type,
        declared=file.declared,
        unreadable=tuple(look.unreadable),
        n_not_asked_for=sum(n for name, n in look.types.items() if name not in resource_types),
        is_verified=is_listed and file.declared is not None,
    )
    hole = look.hole or _mismatch(file, look)
    return replace(part, unreadable=(), n_not_asked_for=0, hole=hole) if hole else part


def _mismatch(file: _File, look: _Look) -> str:
    if file.declared is not None and look.n_lines != file.declared:
        return f"F36 manifest.json declares {file.declared} lines, the file holds {look.n_lines} (rows_missing)"
    if file.declared is not None and look.is_cut:
        return "F39 the last line is cut"
    return ""


def _not_honoured(folder: Path, manifest: _Manifest) -> Iterator[Part]:
    """Holes of the folder as a whole: what the manifest says went wrong, and files it does not know."""
    for number, output in enumerate(manifest.error):
        if hole := _export_error(folder, output):
            yield Part("manifest.json error", number, "", hole=hole)
    if manifest.deleted:
        yield Part("manifest.json deleted", 0, "", hole="F40 the export lists deletions; a full export is needed")
    known = {_name_in(output) for output in (*manifest.output, *manifest.error, *manifest.deleted)}
    for path in ndjson_in(folder):
        if _bare(path.name) not in {_bare(name) for name in known}:
            yield Part(path.name, 0, _type_in_name(path.name), hole="F35 a file that manifest.json does not list")


def _export_error(folder: Path, output: _Output) -> str:
    path = _path_of(folder, output)
    if path is None:
        return "F37 a listed error file is not there (file_missing)"
    try:
        outcomes = [_OUTCOME.decode(line.text) for line in lines_in(path)]
    except (*JSON_ERRORS, UnpackError, OSError):
        return "F39 a listed error file cannot be read"
    is_error = any(issue.severity in {"error", "fatal"} for outcome in outcomes for issue in outcome.issue)
    return "F35 the export reports errors (export_errors)" if is_error else ""


# --- which files ----------------------------------------------------------------------------------------------------


def _read_manifest(folder: Path) -> _Manifest | None:
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder; a source is a folder of .ndjson files or a server's address")
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=_Manifest)
    except (*JSON_ERRORS, OSError) as error:
        raise SourceError(
            f"{path}: not a Bulk Data manifest; it should hold transactionTime and output with type, url and count"
        ) from error
    if instant(manifest.transaction_time) is None:
        raise SourceError(f"{path}: transactionTime should be an instant with a zone")
    return manifest


def _found(folder: Path) -> list[_File]:
    files = [_File(path, _type_in_name(path.name)) for path in ndjson_in(folder)]
    if not files:
        raise SourceError(f"{folder}: no .ndjson, .ndjson.gz or .ndjson.zst files in it")
    return files


def _listed(folder: Path, manifest: _Manifest) -> list[_File]:
    """The files of the manifest, sorted by name; one that is not there keeps the name it should have."""
    files: dict[str, _File] = {}
    for output in manifest.output:
        path = _path_of(folder, output) or folder / (_name_in(output) or "unnamed")
        if path.name in files:
            raise SourceError(f"{folder / MANIFEST}: two entries of output name the same file; names should differ")
        files[path.name] = _File(path, output.type, output.count)
    return [files[name] for name in sorted(files)]


def _path_of(folder: Path, output: _Output) -> Path | None:
    """The file an entry of the manifest means: the last piece of its url, as it is or packed."""
    name = _name_in(output)
    names = [name, f"{name}.gz", f"{name}.zst"] if name else []
    return next((folder / one for one in names if (folder / one).is_file()), None)


def _name_in(output: _Output) -> str:
    """A plain file name, or "": what a manifest writes never leads out of the folder."""
    name = output.url.split("?")[0].split("#")[0].rsplit("/", 1)[-1]
    return name if _FILE_NAME.fullmatch(name) and ".ndjson" in name else ""


def ndjson_in(folder: Path) -> list[Path]:
    """The NDJSON files of a folder, plain or packed, sorted by name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and (path.suffix == ".ndjson" or path.name.endswith((".ndjson.gz", ".ndjson.zst")))
    )


def _bare(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".zst")


def _type_in_name(name: str) -> str:
    found = re.match(r"[A-Z][A-Za-z]+", name)
    return found[0] if found else "unknown"


# --- what is in them ------------------------------------------------------------------------------------------------


def _look(file: _File) -> _Look:
    """One look through a file: lines, types, newest change, and what cannot be read."""
    look = _Look()
    try:
        for number, line in enumerate(lines_in(file.path), 1):
            look.n_lines = number
            _note(look, file, number, line)
    except FileNotFoundError:
        look.hole = "F37 the listed file is not there (file_missing)"
    except UnpackError as error:
        look.hole = f"F39 the file is {error}"
    except OSError as error:
        look.hole = f"F37 the file cannot be read ({type(error).__name__})"
    return look


def _note(look: _Look, file: _File, number: int, line: Line) -> None:
    try:
        head = _HEAD.decode(line.text)
    except JSON_ERRORS:
        reason = "not JSON, or not a resource" if line.is_ended else "a line that is cut"
        look.unreadable.append(_unreadable(file, number, reason))
        look.is_cut = not line.is_ended
        return
    look.types[head.resource_type] += 1
    changed = instant(head.meta.last_updated)
    look.newest = max(filter(None, (look.newest, changed)), default=None)


def _unreadable(file: _File, number: int, reason: str) -> Unreadable:
    return Unreadable(f"{file.name} line {number}", reason)


def _type_of(text: bytes) -> str:
    try:
        return _HEAD.decode(text).resource_type
    except JSON_ERRORS:
        return ""


def lines_in(path: Path) -> Iterator[Line]:
    """The lines of an NDJSON file, unpacked by its suffix, in bounded memory.

    Raises:
        UnpackError: it is cut, or larger than anything honest.
        OSError: it cannot be read.
    """
    with _opened(path) as packed:
        yield from lines(blocks(packed, _CODECS.get(path.suffix), _LARGEST_FILE))


def _opened(path: Path) -> pa.NativeFile:
    if not path.is_file():
        raise FileNotFoundError
    return pa.OSFile(str(path))


def _instant_of(manifest: _Manifest | None, files: Iterable[_File], looks: Mapping[str, _Look]) -> datetime:
    """When the folder was made: as the manifest says, else its newest resource, else its newest file."""
    told = instant(manifest.transaction_time) if manifest else None
    newest = max((look.newest for look in looks.values() if look.newest), default=None)
    changed = max((file.path.stat().st_mtime for file in files if file.path.is_file()), default=0.0)
    return next(chain(filter(None, (told, newest)), (datetime.fromtimestamp(changed, UTC),)))
