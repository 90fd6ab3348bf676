"""The journal of one pull: what has arrived, on disk, unit by unit; a pull that died goes on from here.

A unit is committed by the rename of its header, after all its runs are on disk. A run is a piece of what arrived,
sorted by id, so that any number of them can be read as one sorted stream in little memory. Its name says what it
holds: a header whose runs are lost, of another attempt or changed commits nothing.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from datetime import datetime  # noqa: TC003 - msgspec reads the annotations at run time
from hashlib import file_digest, sha256
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pyarrow as pa

from crps_outcomes.fhir.source import Unreadable  # noqa: TC001 - so does this one
from crps_outcomes.home import replace_private, write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from crps_outcomes.fhir.source import Item, Part, Unit

_ITEMS_IN_A_RUN = 20_000
_BYTES_IN_A_RUN = 32 << 20
_LENGTH_BYTES = 4


class Place(NamedTuple):
    """The key of a ledger row."""

    query_id: str
    part: int


class Held(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One resource as it arrived. ``body`` is its canonical JSON, or empty for what nobody will keep."""

    id: str
    last_updated: datetime | None
    sha256: str
    subject_id: str
    is_subsetted: bool
    place: Place
    body: bytes
    is_loose: bool = False  # see `Item`


class Row(msgspec.Struct, frozen=True):
    """What a part said and brought, without what it brought."""

    query_id: str
    part: int
    resource_type: str
    asked: int | None
    declared: int | None
    n_received: int
    unreadable: tuple[Unreadable, ...]
    hole: str
    is_verified: bool

    @property
    def place(self) -> Place:
        return Place(self.query_id, self.part)


class Taken(msgspec.Struct, frozen=True):
    """A unit that was taken: its rows, and the names of its runs. One with a hole has no runs."""

    key: str
    resource_type: str
    rows: tuple[Row, ...]
    runs: tuple[str, ...] = ()

    @property
    def has_holes(self) -> bool:
        return any(row.hole for row in self.rows)


_PACK = msgspec.msgpack.Encoder().encode
_UNPACK = msgspec.msgpack.Decoder(Held).decode
_READ_TAKEN = msgspec.json.Decoder(Taken).decode


@dataclass(frozen=True)
class Journal:
    """The committed units of one pull, in a private folder. Several threads may commit different units at once."""

    folder: Path

    def taken(self, unit: Unit) -> Taken | None:
        """The unit, if it was committed before and all of it is still as it was."""
        try:
            taken = _READ_TAKEN(self._header(_key(unit)).read_bytes())
            return taken if all(_run_name(taken.key, self._digest(name)) == name for name in taken.runs) else None
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def commit(self, unit: Unit, parts: Iterable[Part], keep: Callable[[Item], bool]) -> Taken:
        """Put a unit's parts on disk. Of what ``keep`` refuses, the identity stays and the body goes.

        A unit with a hole is not committed and leaves nothing behind: only its rows come back.
        """
        key = _key(unit)
        self.forget(key)
        rows: list[Row] = []
        runs: list[str] = []
        gathered = _Gathered()
        for part in parts:
            rows.append(row_of(part))
            if part.hole:
                self.forget(key)
                return Taken(key, unit.resource_type, tuple(row for row in rows if row.hole))
            gathered.add(part, keep)
            if gathered.is_full:
                runs.append(self._write(key, gathered))
                gathered = _Gathered()
        if gathered.packed:
            runs.append(self._write(key, gathered))
        taken = Taken(key, unit.resource_type, tuple(rows), tuple(runs))
        replace_private(self._header(key), msgspec.json.encode(taken))
        return taken

    def forget(self, key: str) -> None:
        """Take a unit out of the journal: the header first, so that it is never committed without its runs."""
        for path in (self._header(key), *self.folder.glob(f"{key}-*.run"), *self.folder.glob(f".{key}*.tmp")):
            path.unlink(missing_ok=True)

    def held(self, taken: Taken) -> Iterator[Iterator[Held]]:
        """The runs of a unit, each sorted by id."""
        return (_read(self.folder / name) for name in taken.runs)

    def _header(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _write(self, key: str, gathered: _Gathered) -> str:
        run = gathered.as_run()
        name = _run_name(key, sha256(run).hexdigest())
        write_private(self.folder / name, run)
        return name

    def _digest(self, name: str) -> str:
        with (self.folder / name).open("rb") as run:
            return file_digest(run, "sha256").hexdigest()


class _Gathered:
    """Items on their way into one run."""

    def __init__(self) -> None:
        self.packed: list[tuple[str, bytes]] = []
        self._n_bytes = 0

    @property
    def is_full(self) -> bool:
        return len(self.packed) >= _ITEMS_IN_A_RUN or self._n_bytes >= _BYTES_IN_A_RUN

    def add(self, part: Part, keep: Callable[[Item], bool]) -> None:
        place = Place(part.query_id, part.part)
        for item in part.items:
            packed = _PACK(held(item, place, keeps=keep(item)))
            self.packed.append((item.id, packed))
            self._n_bytes += len(packed)

    def as_run(self) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            for _, packed in sorted(self.packed, key=lambda one: one[0]):
                stream.write(len(packed).to_bytes(_LENGTH_BYTES) + packed)
        run: bytes = sink.getvalue().to_pybytes()
        return run


def held(item: Item, place: Place, *, keeps: bool = True) -> Held:
    """The item as the journal holds it."""
    return Held(
        id=item.id,
        last_updated=item.last_updated,
        sha256=item.sha256,
        subject_id=item.subject_id,
        is_subsetted=item.is_subsetted,
        place=place,
        body=item.body if keeps else b"",
        is_loose=item.is_loose,
    )


def row_of(part: Part) -> Row:
    """What the ledger will say of a part."""
    return Row(*(getattr(part, name) for name in Row.__struct_fields__))


def with_hole(part: Part, code: str, reason: str) -> Part:
    """The part as a hole: what had arrived of it is not used."""
    return replace(part, items=(), unreadable=(), n_not_asked_for=0, hole=f"{code} {reason}", is_verified=False)


def _key(unit: Unit) -> str:
    """A name for files, made from everything that says what the unit is."""
    return sha256(repr(unit).encode()).hexdigest()[:24]


def _run_name(key: str, digest: str) -> str:
    return f"{key}-{digest[:32]}.run"


def _read(path: Path) -> Iterator[Held]:
    with pa.input_stream(str(path), compression="zstd") as stream:
        reader = io.BufferedReader(stream)
        while length := reader.read(_LENGTH_BYTES):
            yield _UNPACK(reader.read(int.from_bytes(length)))
