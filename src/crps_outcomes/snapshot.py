"""A snapshot: what one complete pull found, immutable, named by what it contains.

The digest covers (type, id, SHA-256 of the canonical JSON) of every resource, sorted, and nothing else: not the order
of arrival, paging, duplicates, the kind of source or the time. The same data give the same folder.
"""

from __future__ import annotations

import io
import shutil
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pandas as pd
import pyarrow as pa

from crps_outcomes.errors import IncompleteDataError
from crps_outcomes.home import sync_folder, write_private
from crps_outcomes.tables import LEDGER, REJECTIONS, finish

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from crps_outcomes.fhir.source import Item

Completeness = Literal["complete", "unverified"]
_MANIFEST = "manifest.json"
_ENCODE = msgspec.json.Encoder(order="sorted").encode


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


@dataclass(frozen=True)
class Manifest(Origin):
    """What stands in manifest.json. ``files`` is keyed by resource type, ``tables`` by "ledger" and "rejections"."""

    digest: str
    files: Mapping[str, Mapping[str, Any]]  # {"count": resources, "sha256": of the packed file}
    tables: Mapping[str, str]


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


def write_snapshot(
    snapshots: Path,
    origin: Origin,
    kept: Mapping[str, Mapping[str, Item]],
    *,
    ledger: pd.DataFrame,
    rejections: pd.DataFrame,
) -> Snapshot:
    """Publish a snapshot below ``snapshots``, or open the one that already holds the same resources.

    It is written to a temporary folder, put on disk, and renamed: a reader finds all of it or nothing.

    Raises:
        IncompleteDataError: a folder of this digest is there, but damaged.
    """
    digest = digest_of(kept)
    target = snapshots / digest
    if not target.exists():
        working = Path(mkdtemp(prefix=".new-", dir=snapshots))
        try:
            _fill(working, origin, digest, kept, {"ledger": ledger, "rejections": rejections})
            _publish(working, target)
        finally:
            shutil.rmtree(working, ignore_errors=True)
    return open_snapshot(target)


def open_snapshot(folder: Path) -> Snapshot:
    """The snapshot in a folder, every file compared with the manifest.

    Raises:
        IncompleteDataError: the manifest or a file is missing or changed; the message names it.
    """
    manifest = _read_manifest(folder)
    expected = {_file_name(name): entry["sha256"] for name, entry in manifest.files.items()}
    expected |= {f"{name}.parquet": hash_ for name, hash_ in manifest.tables.items()}
    for name, hash_ in sorted(expected.items()):
        _check(folder, name, hash_)
    return Snapshot(manifest.digest, folder, manifest)


def digest_of(kept: Mapping[str, Mapping[str, Item]]) -> str:
    """SHA-256 over the sorted (type, id, SHA-256 of canonical JSON) of all resources."""
    total = sha256()
    for resource_type in sorted(kept):
        for identity, item in sorted(kept[resource_type].items()):
            total.update(f"{resource_type}\0{identity}\0{item.sha256}\n".encode())
    return total.hexdigest()


def _file_name(resource_type: str) -> str:
    return f"{resource_type}.ndjson.zst"


def _fill(
    working: Path,
    origin: Origin,
    digest: str,
    kept: Mapping[str, Mapping[str, Item]],
    tables: Mapping[str, pd.DataFrame],
) -> None:
    files = {}
    for name in sorted(kept):
        if kept[name]:
            packed = _packed(item.body for _, item in sorted(kept[name].items()))
            files[name] = {"count": len(kept[name]), "sha256": _write(working / _file_name(name), packed)}
    hashes = {name: _write(working / f"{name}.parquet", _parquet(frame)) for name, frame in tables.items()}
    manifest = Manifest(**asdict(origin), digest=digest, files=files, tables=hashes)
    write_private(working / _MANIFEST, _sealed(asdict(manifest)))
    sync_folder(working)


def _publish(working: Path, target: Path) -> None:
    try:
        working.rename(target)
    except OSError:
        if not target.exists():  # another pull of the same data was first: its folder is as good
            raise
    sync_folder(target.parent)


def _write(path: Path, content: bytes) -> str:
    write_private(path, content)
    return sha256(content).hexdigest()


def _packed(bodies: Iterable[bytes]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        for body in bodies:
            stream.write(body + b"\n")
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _parquet(frame: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.to_parquet(sink, index=False)
    return sink.getvalue()


def _sealed(manifest: Mapping[str, Any]) -> bytes:
    """The manifest with a hash over itself, so that a changed byte of it shows too."""
    seal = sha256(_ENCODE(manifest)).hexdigest()
    return _ENCODE({**manifest, "seal": seal})


def _read_manifest(folder: Path) -> Manifest:
    damaged = IncompleteDataError(
        f"snapshot {folder.name[:12]}: {_MANIFEST} is missing or changed; delete the folder and pull again"
    )
    try:
        raw = (folder / _MANIFEST).read_bytes()
        content = msgspec.json.decode(raw, type=dict[str, Any])
        del content["seal"]
        manifest = Manifest(**content)
    except (OSError, ValueError, msgspec.MsgspecError, KeyError, TypeError) as error:
        raise damaged from error
    if raw != _sealed(content) or manifest.digest != folder.name:
        raise damaged
    return manifest


def _check(folder: Path, name: str, expected: str) -> None:
    try:
        found = sha256((folder / name).read_bytes()).hexdigest()
    except OSError:
        found = ""
    if found != expected:
        state = "changed" if found else "missing"
        raise IncompleteDataError(f"snapshot {folder.name[:12]}: {name} is {state}; delete the folder and pull again")
