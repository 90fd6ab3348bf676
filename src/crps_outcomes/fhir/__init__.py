"""Where resources come from: a FHIR server (by search or by export) or a folder of files. All offer `source.Source`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from crps_outcomes.fhir.export import ExportSource, Level
    from crps_outcomes.fhir.folder import FolderSource
    from crps_outcomes.fhir.search import RestSource
    from crps_outcomes.fhir.source import Source

# The imports stand inside the functions: who only reads a folder, or only runs a stage, never loads an HTTP client.


def open_source(
    text: str, *, method: Literal["search", "export"] = "search", level: Level = "group", **access: Any
) -> Source:
    """The source a text names: a server if it begins with http:// or https://, else a folder.

    Args:
        text: an address or a path.
        method: how a server is read; a folder is read as it is.
        level: what of a server is exported.
        access: credential, ca_file, ... as `rest_source` takes them; a folder needs none and ignores them.
    """
    if not text.lower().startswith(("http://", "https://")):
        return folder_source(Path(text))
    return rest_source(text, **access) if method == "search" else export_source(text, level, **access)


def rest_source(url: str, **access: Any) -> RestSource:
    """A FHIR server, by search. Access: what `settings.access` gives, and for tests ``transport``, ``surroundings``."""
    from crps_outcomes.fhir.search import RestSource  # noqa: PLC0415

    return RestSource(url, **access)


def export_source(url: str, level: Level, **access: Any) -> ExportSource:
    """A FHIR server, by Bulk Data $export. Access as for `rest_source`."""
    from crps_outcomes.fhir.export import ExportSource  # noqa: PLC0415

    return ExportSource(rest_source(url, **access), level)


def folder_source(path: Path) -> FolderSource:
    """A folder of .ndjson or .json files, plain, .gz or .zst, with a Bulk Data manifest.json or without."""
    from crps_outcomes.fhir.folder import FolderSource  # noqa: PLC0415

    return FolderSource(Path(path))
