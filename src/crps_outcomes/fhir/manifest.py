"""The manifest of a Bulk Data export on disk: the files it lists, and the holes that it admits or shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from crps_outcomes.errors import SourceError
from crps_outcomes.fhir.bundles import Key, deletions
from crps_outcomes.fhir.files import MANIFEST, bare, lines_in, readable_in, type_in_name
from crps_outcomes.fhir.source import JSON_ERRORS, Order, Part, instant
from crps_outcomes.fhir.unpack import UnpackError
from crps_outcomes.fhir.wire import Outcome, read_any_bundle

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime
    from pathlib import Path

    from crps_outcomes.fhir.unpack import Line

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}", re.ASCII)
_OUTCOME = msgspec.json.Decoder(Outcome)


class Listed(msgspec.Struct, frozen=True):
    type: str
    url: str
    count: int | None = None


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    output: tuple[Listed, ...]
    transaction_time: str = ""
    error: tuple[Listed, ...] | None = ()
    deleted: tuple[Listed, ...] | None = ()
    request: Any = ""  # some servers mangle it, so only a clear _since in it counts


def read_manifest(folder: Path) -> Manifest | None:
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder; a source is a folder of .ndjson files or a server's address")
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (*JSON_ERRORS, OSError) as error:
        raise SourceError(
            f"{path}: not a Bulk Data manifest; it should hold transactionTime and output with type, url and count"
        ) from error
    if instant(manifest.transaction_time) is None:
        raise SourceError(f"F45 {path}: transactionTime should be an instant with a zone")
    return manifest


def path_of(folder: Path, output: Listed) -> Path | None:
    """The file an entry of the manifest means: the last piece of its url, as it is or packed."""
    name = name_in(output)
    names = [name, f"{name}.gz", f"{name}.zst"] if name else []
    return next((folder / one for one in names if (folder / one).is_file()), None)


def name_in(output: Listed) -> str:
    """A plain file name, or "": what a manifest writes never leads out of the folder."""
    name = output.url.split("?")[0].split("#")[0].rsplit("/", 1)[-1]
    return name if _FILE_NAME.fullmatch(name) and ".ndjson" in name else ""


def not_honoured(folder: Path, manifest: Manifest) -> Iterator[Part]:
    """Holes of the folder as a whole: what the manifest says went wrong, and files it does not know."""
    for number, output in enumerate(manifest.error or ()):
        if hole := _export_error(folder, output):
            yield Part("manifest.json error", number, "", hole=hole)
    listed = (*manifest.output, *(manifest.error or ()), *(manifest.deleted or ()))
    known = {bare(name_in(output)) for output in listed}
    for path in readable_in(folder):
        if bare(path.name) not in known:
            yield Part(path.name, 0, type_in_name(path.name), hole="F35 a file that manifest.json does not list")


def _export_error(folder: Path, output: Listed) -> str:
    path = path_of(folder, output)
    if path is None:
        return "F37 a listed error file is not there (file_missing)"
    try:
        has_errors = any(is_error(line) for line in lines_in(path))
    except (*JSON_ERRORS, UnpackError, OSError):
        return "F39 a listed error file cannot be read"
    return "F35 the export reports errors (export_errors)" if has_errors else ""


def is_error(line: Line) -> bool:
    """Whether an OperationOutcome says that something went wrong."""
    return any(issue.severity in {"error", "fatal"} for issue in _OUTCOME.decode(line.text).issue)


def deleted_in(folder: Path, manifest: Manifest) -> tuple[frozenset[Key], tuple[Part, ...]]:
    """What the manifest lists as deleted, and the holes of the lists that cannot be used."""
    gone: set[Key] = set()
    holes = []
    for number, output in enumerate(manifest.deleted or ()):
        try:
            gone |= _keys_in(path_of(folder, output), output.count)
        except _UnusableError as error:
            holes.append(Part("manifest.json deleted", number, "", hole=str(error)))
    return frozenset(gone), tuple(holes)


class _UnusableError(Exception):
    """A list of deletions that cannot be used, with the hole."""


def _keys_in(path: Path | None, declared: int | None) -> set[Key]:
    if path is None:
        raise _UnusableError("F37 a listed file of deletions is not there (file_missing)")
    try:
        bundles = [read_any_bundle(line.text) for line in lines_in(path)]
        keys = {key for bundle in bundles for key in deletions(bundle)}
    except (*JSON_ERRORS, UnpackError, OSError) as error:
        raise _UnusableError("F40 a listed file of deletions cannot be read") from error
    if declared is not None and declared != len(bundles):
        raise _UnusableError(
            f"F36 manifest.json declares {declared} lines of deletions, the file holds {len(bundles)} (rows_missing)"
        )
    return keys


def _asked(manifest: Manifest | None, parameter: str) -> str:
    """A parameter of the export, as the manifest repeats the request; "" if it does not say."""
    request = manifest.request if manifest and isinstance(manifest.request, str) else ""
    return ",".join(parse_qs(request.partition("?")[2]).get(parameter, ()))


def since_in(manifest: Manifest | None) -> datetime | None:
    """From when on changes were asked for; None for everything."""
    return instant(_asked(manifest, "_since").replace(" ", "+"))  # a plus sign that was not escaped


def too_little(manifest: Manifest, held: Collection[str], order: Order) -> Iterator[Part]:
    """Holes of an export that was asked for less than this pull wants: that it holds no more says nothing then."""
    since, types = since_in(manifest), _asked(manifest, "_type")
    if since and (order.since is None or since > order.since):
        hole = "F44 the export holds only what changed since an instant; an export without _since is needed"
        yield Part("manifest.json request", 0, "", hole=hole)
    for number, name in enumerate(order.resource_types, 1):
        if types and name not in types.split(",") and name not in held:
            hole = "F42 the export was not asked for this type, so it is not known whether there is any"
            yield Part("manifest.json request", number, name, hole=hole)
