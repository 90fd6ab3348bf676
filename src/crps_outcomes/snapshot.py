"""A snapshot: what one complete pull found, immutable, named by what it contains.

The digest covers (type, id, SHA-256 of the canonical JSON) of every resource, sorted, and nothing else: not the order
of arrival, paging, duplicates, the kind of source or the time. The same data give the same folder.
"""

from __future__ import annotations

import io
import shutil
from dataclasses import asdict, dataclass, field, replace
from hashlib import file_digest, sha256
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import pandas as pd
import pyarrow as pa

from crps_outcomes.errors import IncompleteDataError
from crps_outcomes.home import PrivateFile, private_folder, remove_folder, rename, sync_folder, write_private
from crps_outcomes.tables import CHANGES, LEDGER, REJECTIONS, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from crps_outcomes.journal import Held

Completeness = Literal["complete", "unverified", "incomplete"]
_MANIFEST = "manifest.json"
_ENCODE = msgspec.json.Encoder(order="sorted").encode
_WORKING, _GOING = ".new", ".gone"
_BYTES_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Origin:
    """Where and when a snapshot was pulled. Instants are ISO text in UTC, days ISO dates in the clinic's zone."""

    source_kind: Literal["rest", "export", "folder"]
    completeness: Completeness
    selector: str
    pulled_at: str  # by the source's clock
    pulled_on: str  # the same as a day: memberships were judged as of it
    data_as_of: str  # the newest meta.lastUpdated as a day, else pulled_on
    software: str
    before: str = ""  # digest of the snapshot that `changes` compares with
    before_on: str = ""  # the day that one was pulled
    holes: tuple[str, ...] = ()  # of an incomplete one, which is good for a draft and nothing else: what is missing


@dataclass(frozen=True)
class Manifest(Origin):
    """What stands in manifest.json. ``tables``: "ledger", "rejections" and "changes" by the hash of their file."""

    digest: str = ""  # the name of the snapshot
    content: str = ""  # over what it holds; the digest is the same, unless the same content came about in another way
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # type -> {"count": resources, "sha256": file}
    tables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """A snapshot on disk whose files were checked when it was opened."""

    digest: str
    folder: Path
    manifest: Manifest

    def types(self) -> tuple[str, ...]:
        """The resource types it holds, sorted."""
        return tuple(sorted(self.manifest.files))

    def lines(self, resource_type: str) -> Iterator[bytes]:
        """The canonical JSON of each resource of a type, sorted by id; nothing for a type it does not hold."""
        if resource_type in self.manifest.files:
            with pa.input_stream(self.folder / _file_name(resource_type), compression="zstd") as stream:
                yield from (line.rstrip(b"\n") for line in io.BufferedReader(stream))

    def ledger(self) -> pd.DataFrame:
        """LEDGER of the pull that made it."""
        return finish(LEDGER, pd.read_parquet(self.folder / "ledger.parquet"))

    def rejections(self) -> pd.DataFrame:
        """REJECTIONS of stage "pull"."""
        return finish(REJECTIONS, pd.read_parquet(self.folder / "rejections.parquet"))

    def changes(self) -> pd.DataFrame:
        """CHANGES since the snapshot before; empty for a first one."""
        return finish(CHANGES, pd.read_parquet(self.folder / "changes.parquet"))


class Conclusion(NamedTuple):
    """What is known once everything was settled."""

    origin: Origin
    tables: Mapping[str, pd.DataFrame]


def write_snapshot(snapshots: Path, kept: Mapping[str, Iterable[Held]], conclude: Callable[[], Conclusion]) -> Snapshot:
    """Publish a snapshot below ``snapshots``, or open the one that already holds the same resources.

    It is written to a temporary folder, put on disk, and renamed: a reader finds all of it or nothing.

    Args:
        snapshots: the folder of all snapshots. Nobody else may write there meanwhile.
        kept: by type, what to keep, each sorted by id. It is read once, type by type in the order of their names.
        conclude: asked when all of it has been read; what it raises ends the writing, and nothing is published.

    Raises:
        IncompleteDataError: a folder of this digest is there, but damaged.
    """
    clear(snapshots)
    working = private_folder(snapshots / _WORKING)
    try:
        total = sha256()
        files: dict[str, dict[str, Any]] = {}
        for name in sorted(kept):
            written = _write_type(working / _file_name(name), name, kept[name], total)
            files |= {name: written} if written["count"] else {}
        origin, tables = conclude()
        content = _named(total, origin.holes)
        target = snapshots / _name(snapshots, content, origin, tables["changes"])
        if not target.exists():
            _seal(working, Manifest(**asdict(origin), digest=target.name, content=content, files=files), tables)
            rename(working, target)
        else:
            target.touch()  # made earlier, but pulled today
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return open_snapshot(target)


def _name(snapshots: Path, content: str, origin: Origin, changes: pd.DataFrame) -> str:
    """The name of a snapshot: its content's digest, unless one of that name tells another story.

    The same content may come about again: what was added one night is deleted the next. Then the snapshot has a name of
    its own, for its account of what changed is another. A night without news stays with the snapshot before.
    """
    if origin.before and not len(changes):
        last = read_manifest(snapshots / origin.before)
        if (last.content, last.completeness) == (content, origin.completeness):
            return last.digest
    if not (snapshots / content).exists():
        return content
    first = read_manifest(snapshots / content)
    if first.completeness == origin.completeness and (not len(changes) or first.before == origin.before):
        return content
    return sha256(f"{content}\n{origin.before}\n{origin.completeness}".encode()).hexdigest()


def open_snapshot(folder: Path) -> Snapshot:
    """The snapshot in a folder, every file compared with the manifest.

    Raises:
        IncompleteDataError: the manifest or a file is missing or changed; the message names it.
    """
    manifest = read_manifest(folder)
    expected = {_file_name(name): entry["sha256"] for name, entry in manifest.files.items()}
    expected |= {f"{name}.parquet": hash_ for name, hash_ in manifest.tables.items()}
    for name, hash_ in sorted(expected.items()):
        _check(folder, name, hash_)
    return Snapshot(manifest.digest, folder, manifest)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the snapshot in a folder; its files are not looked at.

    Raises:
        IncompleteDataError: it is missing or changed.
    """
    damaged = IncompleteDataError(
        f"snapshot {folder.name[:12]}: {_MANIFEST} is missing or changed; delete the folder and pull again"
    )
    try:
        raw = (folder / _MANIFEST).read_bytes()
        content = msgspec.json.decode(raw, type=dict[str, Any])
        del content["seal"]
        manifest = Manifest(**content | {"holes": tuple(content.get("holes", ()))})
    except (OSError, ValueError, msgspec.MsgspecError, KeyError, TypeError) as error:
        raise damaged from error
    if raw != _sealed(content) or manifest.digest != folder.name:
        raise damaged
    return manifest


def content_digest(snapshot: Snapshot) -> str:
    """What the snapshot's name should be, from the resources it holds."""
    total = sha256()
    for name in snapshot.types():
        for line in snapshot.lines(name):
            _add(total, name, msgspec.json.decode(line, type=_Identified).id, sha256(line).hexdigest())
    return _named(total, snapshot.manifest.holes)


def remove_snapshot(folder: Path) -> None:
    """Take a snapshot away: all of it by one rename, so that no part of one is ever left under its name."""
    clear(folder.parent)
    rename(folder, folder.with_name(_GOING))
    clear(folder.parent)


def clear(snapshots: Path) -> None:
    """Away with what a pull or a removal that died left behind."""
    for name in (_WORKING, _GOING):
        remove_folder(snapshots / name)


class _Identified(msgspec.Struct):
    id: str


def _add(total: Any, resource_type: str, identity: str, content_hash: str) -> None:
    total.update(f"{resource_type}\0{identity}\0{content_hash}\n".encode())


def _named(total: Any, holes: Iterable[str]) -> str:
    """The digest; an incomplete snapshot never has the name of a complete one."""
    for text in holes:
        total.update(f"hole\0{text}\n".encode())
    digest: str = total.hexdigest()
    return digest


def _file_name(resource_type: str) -> str:
    return f"{resource_type}.ndjson.zst"


def _write_type(path: Path, name: str, items: Iterable[Held], total: Any) -> dict[str, Any]:
    """One resource a line; adds (type, id, SHA-256) of each to ``total``, and an empty type leaves no file."""
    n_items = 0
    with PrivateFile(path) as file:
        hashed = _Hashed(file)
        with pa.CompressedOutputStream(pa.PythonFile(hashed, "w"), "zstd") as stream:
            lines = bytearray()
            for n_items, item in enumerate(items, 1):  # noqa: B007 - the count is wanted
                _add(total, name, item.id, item.sha256)
                lines += item.body + b"\n"
                if len(lines) > _BYTES_AT_ONCE:
                    stream.write(bytes(lines))
                    lines.clear()
            stream.write(bytes(lines))
    if not n_items:
        path.unlink()
    return {"count": n_items, "sha256": hashed.sha256.hexdigest()}


class _Hashed:
    """A file to write to, and the hash of what was written."""

    closed = False

    def __init__(self, file: PrivateFile) -> None:
        self._file, self.sha256 = file, sha256()

    def write(self, content: Any) -> None:
        self.sha256.update(content)
        self._file.write(content)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """The file closes itself."""


def _seal(working: Path, manifest: Manifest, tables: Mapping[str, pd.DataFrame]) -> None:
    hashes = {}
    for name, frame in tables.items():
        content = _parquet(frame)
        write_private(working / f"{name}.parquet", content)
        hashes[name] = sha256(content).hexdigest()
    write_private(working / _MANIFEST, _sealed(asdict(replace(manifest, tables=hashes))))
    sync_folder(working)


def _parquet(frame: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.to_parquet(sink, index=False)
    return sink.getvalue()


def _sealed(manifest: Mapping[str, Any]) -> bytes:
    """The manifest with a hash over itself, so that a changed byte of it shows too."""
    seal = sha256(_ENCODE(manifest)).hexdigest()
    return _ENCODE({**manifest, "seal": seal})


def _check(folder: Path, name: str, expected: str) -> None:
    try:
        with (folder / name).open("rb") as file:
            found = file_digest(file, "sha256").hexdigest()
    except OSError:
        found = ""
    if found != expected:
        state = "changed" if found else "missing"
        raise IncompleteDataError(f"snapshot {folder.name[:12]}: {name} is {state}; delete the folder and pull again")
