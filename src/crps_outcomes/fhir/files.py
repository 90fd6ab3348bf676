"""Files of resources on disk: which there are, and the resources in them one after the other, in bounded memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa

from crps_outcomes.fhir.bundles import Saved, read_saved
from crps_outcomes.fhir.unpack import MEGABYTE, Line, UnpackError, blocks, lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST = "manifest.json"
_CODECS = {".gz": "gzip", ".zst": "zstd"}
_LARGEST_FILE = 16 * 1024 * MEGABYTE


def readable_in(folder: Path) -> list[Path]:
    """The files of resources in a folder, plain or packed, sorted by name; the manifest is none of them."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.name != MANIFEST and bare(path.name).endswith((".ndjson", ".json"))
    )


def ndjson_in(folder: Path) -> list[Path]:
    """The NDJSON files of a folder, plain or packed, sorted by name."""
    return [path for path in readable_in(folder) if bare(path.name).endswith(".ndjson")]


def bare(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".zst")


def type_in_name(name: str) -> str:
    found = re.match(r"[A-Z][A-Za-z]+", name)
    return found[0] if found else "unknown"


def lines_in(path: Path) -> Iterator[Line]:
    """The lines of an NDJSON file, unpacked by its suffix, in bounded memory.

    Raises:
        UnpackError: it is cut, or larger than anything honest.
        OSError: it cannot be read.
    """
    with _opened(path) as packed:
        yield from lines(blocks(packed, _CODECS.get(path.suffix), _LARGEST_FILE))


def contents(path: Path, largest_bundle: int) -> tuple[Iterator[Line], Saved]:
    """The resources in a file, line by line or entry by entry, and what the file says beside them.

    Raises:
        UnpackError: it is cut, or larger than anything honest.
        OSError: it cannot be read.
    """
    if bare(path.name).endswith(".ndjson"):
        return lines_in(path), Saved()
    content = bytearray()
    with _opened(path) as packed:
        for block in blocks(packed, _CODECS.get(path.suffix), largest_bundle):
            content += block
    saved = read_saved(content)
    return (Line(bytes(resource), is_ended=True) for resource in saved.resources), saved


def _opened(path: Path) -> pa.NativeFile:
    if not path.is_file():
        raise FileNotFoundError
    if path.suffix in _CODECS and not path.stat().st_size:
        raise UnpackError("cut at its very beginning")  # even nothing, packed, has some bytes
    return pa.OSFile(str(path))
