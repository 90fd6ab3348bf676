"""A cohort as a folder of NDJSON files in the form of a Bulk Data export, with the truth beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from crps_outcomes.synthetic.cohort import Cohort

MANIFEST = "manifest.json"
TRUTH = "truth/truth.json"


def write_ndjson(cohort: Cohort, folder: Path) -> Path:
    """Write ``<Type>.ndjson`` files, ``manifest.json`` and ``truth/truth.json``; returns the folder.

    The manifest is that of a Bulk Data export, so a folder source can check the counts. The pipeline never reads the
    truth. The same cohort gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, resources in cohort.resources.items():
        _write(folder / f"{name}.ndjson", "".join(f"{_line(one)}\n" for one in resources))
    _write(folder / MANIFEST, _pretty(manifest_of(cohort)))
    (folder / TRUTH).parent.mkdir(exist_ok=True)
    _write(folder / TRUTH, _pretty(cohort.truth))
    return folder


def manifest_of(cohort: Cohort) -> dict[str, Any]:
    """The Bulk Data manifest; urls are file names beside it."""
    output = [
        {"type": name, "url": f"{name}.ndjson", "count": len(resources)} for name, resources in cohort.resources.items()
    ]
    return {
        "transactionTime": cohort.transaction_time,
        "request": "https://fhir.example.org/r4/Group/im-ketamine-crps/$export",
        "requiresAccessToken": False,
        "output": output,
        "error": [],
    }


def _line(resource: Any) -> str:
    return json.dumps(resource, ensure_ascii=False, separators=(",", ":"))


def _pretty(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode())
