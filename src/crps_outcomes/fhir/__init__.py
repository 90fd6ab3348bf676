"""Where resources come from: a FHIR server (REST search) or a folder of NDJSON files. Both offer `source.Source`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crps_outcomes.fhir.folder import FolderSource
    from crps_outcomes.fhir.search import RestSource
    from crps_outcomes.fhir.source import Source

# The imports stand inside the functions: who only reads a folder, or only runs a stage, never loads an HTTP client.


def open_source(text: str, *, method: str = "search", level: str = "group", **settings: Any) -> Source:
    """The source a text names: a server if it begins with http:// or https://, else a folder.

    Args:
        text: an address or a path.
        method: how a server is read, "search" or "export".
        level: what an export is of: "system", "patient" or "group".
        settings: credential, ca_file, ... as `rest_source` takes them; a folder needs none and ignores them.
    """
    del level
    if text.lower().startswith(("http://", "https://")):
        return rest_source(text, **settings)
    return folder_source(Path(text))


def rest_source(url: str, **settings: Any) -> RestSource:
    """A FHIR server. Settings: what `settings.access` gives, and for tests ``transport`` and ``surroundings``."""
    from crps_outcomes.fhir.search import RestSource  # noqa: PLC0415

    return RestSource(url, **settings)


def folder_source(path: Path) -> FolderSource:
    """A folder of .ndjson files, plain, .gz or .zst, with a Bulk Data manifest.json or without."""
    from crps_outcomes.fhir.folder import FolderSource  # noqa: PLC0415

    return FolderSource(Path(path))
