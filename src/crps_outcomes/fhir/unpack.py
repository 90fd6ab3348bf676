"""Bytes from outside, unpacked in bounded memory: a bomb, an endless line or a cut stream is refused, not half-used."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from crps_outcomes.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MEGABYTE = 1 << 20
_BLOCK = MEGABYTE
#: Ordinary NDJSON packs about 9:1, a bomb 1,000:1. Judged after the first megabyte.
_LARGEST_RATIO = 100
_LONGEST_LINE = 10 * MEGABYTE


class UnpackError(SourceError):
    """A stream that is cut, or larger than anything honest."""


class Line(NamedTuple):
    text: bytes
    is_ended: bool  # False for a last line without its line break


def blocks(packed: pa.NativeFile, codec: str | None, largest: int) -> Iterator[bytes]:
    """The unpacked bytes of a stream (``codec``: "gzip", "zstd" or None), at most ``largest`` of them.

    Raises:
        UnpackError: the stream is cut or damaged, packs more than 100:1, or is larger than ``largest``.
    """
    stream = pa.CompressedInputStream(packed, codec) if codec else packed
    n_bytes = 0
    while block := _read(stream):
        n_bytes += len(block)
        if n_bytes > largest:
            raise UnpackError(f"larger than the {largest // MEGABYTE} MB allowed")
        if n_bytes > MEGABYTE and n_bytes > _LARGEST_RATIO * packed.tell():
            raise UnpackError(f"a bomb that unpacks to more than {_LARGEST_RATIO} times its size")
        yield block


def lines(unpacked: Iterable[bytes]) -> Iterator[Line]:
    """The lines of a stream of blocks, without line breaks and without the empty ones.

    Raises:
        UnpackError: a line of more than 10 MB.
    """
    rest = b""
    for block in unpacked:
        *whole, rest = (rest + block).split(b"\n")
        if max(map(len, whole), default=0) > _LONGEST_LINE or len(rest) > _LONGEST_LINE:
            raise UnpackError(f"made of a line longer than {_LONGEST_LINE // MEGABYTE} MB")
        yield from (Line(line, is_ended=True) for line in whole if line.strip())
    if rest.strip():
        yield Line(rest, is_ended=False)


def _read(stream: pa.NativeFile) -> bytes:
    try:
        block: bytes = stream.read(_BLOCK)
    except (OSError, pa.ArrowException) as error:
        raise UnpackError("cut or damaged in the middle") from error
    return block
