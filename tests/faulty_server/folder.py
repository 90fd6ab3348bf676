"""A folder of NDJSON with a manifest, as an export leaves it, and spoiled where it is told to be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from faulty_server.answers import Inject, Json, line
from faulty_server.faults import VARIANTS
from faulty_server.injection import full

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def write_folder(resources: Sequence[Json], folder: Path, *injects: Inject) -> Path:
    """Write ``<Type>.ndjson`` and ``manifest.json``, with these faults; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    named = [(VARIANTS[one.code], full(one)) for one in injects]
    for variant, inject in named:
        resources = variant.data(resources, inject) if variant.data else resources
    counts: dict[str, int] = {}
    for name in dict.fromkeys(one["resourceType"] for one in resources):
        rows: list[Json | bytes] = [one for one in resources if one["resourceType"] == name]
        for variant, inject in named:
            if variant.rows is not None and inject.resource_type == name:
                rows = variant.rows(rows, inject)
        counts[name] = len(rows)
        (folder / f"{name}.ndjson").write_bytes(b"".join(line(row) + b"\n" for row in rows))
    _write_manifest(folder, counts)
    for variant, inject in named:
        if variant.folder is not None:
            variant.folder(folder, inject)
    return folder


def _write_manifest(folder: Path, counts: dict[str, int]) -> None:
    output = [{"type": name, "url": f"{name}.ndjson", "count": count} for name, count in counts.items()]
    made = {"transactionTime": "2026-03-01T12:00:00Z", "requiresAccessToken": False, "output": output, "error": []}
    (folder / "manifest.json").write_text(json.dumps(made), encoding="utf-8")
