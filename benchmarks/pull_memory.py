"""Peak memory of a pull: a million Observations from a folder, and 200,000 over $export from the fault kit.

    .venv/bin/python benchmarks/pull_memory.py [--folder 1000000] [--export 200000]

Both are pulled by the command in a process of its own. What it prints is the largest resident set of that process as
the kernel counts it, beside the time; the first line, a pull of nearly nothing, is what the imports alone cost.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from crps_outcomes.study import load, locate  # noqa: E402
from faulty_server import FaultyServer, Lines  # noqa: E402

PEOPLE = 500
COMMAND = [sys.executable, "-c", "from crps_outcomes.cli import main; main()", "pull"]


def patients() -> list[dict]:
    system, _, value = load(locate()).protocol.enrolment.group_identifier.partition("|")
    names = [f"crps-{number:07d}" for number in range(PEOPLE)]
    members = [{"entity": {"reference": f"Patient/{name}"}} for name in names]
    group = {
        "resourceType": "Group",
        "id": "cohort",
        "identifier": [{"system": system, "value": value}],
        "member": members,
    }
    meta = {"lastUpdated": "2026-01-01T00:00:00Z"}
    return [group | {"meta": meta}, *({"resourceType": "Patient", "id": name, "meta": meta} for name in names)]


def observations(n: int) -> Iterator[bytes]:
    """About 1,450 bytes each, as a server writes a pain score with two codings, a note and a performer."""
    for number in range(n):
        day = f"2025-{1 + number % 12:02d}-{1 + number % 28:02d}"
        yield json.dumps({
            "resourceType": "Observation", "id": f"0b5c6e1a-7d3f-4e8a-9c2b-{number:012d}",
            "meta": {"versionId": "1", "lastUpdated": f"{day}T{number % 24:02d}:15:30.123Z",
                     "profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-observation-survey"]},
            "status": "final",
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "survey", "display": "Survey"}]}],
            "code": {"coding": [{"system": "https://clinic.example.org/codes", "code": f"PAIN-{number % 7}", "display": "Pain now"},
                                {"system": "http://loinc.org", "code": "72514-3", "display": "Pain severity - 0-10 verbal numeric rating"}], "text": "Pain severity"},
            "subject": {"reference": f"Patient/crps-{number % PEOPLE:07d}"},
            "encounter": {"reference": f"Encounter/4f1d2c3b-0000-4000-8000-{number // 9:012d}"},
            "effectiveDateTime": f"{day}T10:00:00-05:00", "issued": f"{day}T10:00:00.000-05:00",
            "performer": [{"reference": "Practitioner/9a8b7c6d-0000-4000-8000-000000000001", "display": "Nurse on duty"}],
            "valueQuantity": {"value": number % 11, "unit": "{score}", "system": "http://unitsofmeasure.org", "code": "{score}"},
            "note": [{"text": f"Reported by the patient before session {number % 40}. " + "No further remark. " * 12}],
        }).encode() + b"\n"  # fmt: skip


def folder(place: Path, n: int) -> Path:
    people = patients()
    files = {"Group.ndjson": people[:1], "Patient.ndjson": people[1:]}
    for name, own in files.items():
        (place / name).write_text("".join(json.dumps(one) + "\n" for one in own))
    with (place / "Observation.ndjson").open("wb") as file:
        file.writelines(observations(n))
    counts = {"Group": 1, "Patient": len(people) - 1, "Observation": n}
    output = [{"type": kind, "url": f"{kind}.ndjson", "count": count} for kind, count in counts.items()]
    (place / "manifest.json").write_text(
        json.dumps({"transactionTime": "2026-03-01T12:00:00Z", "output": output, "error": []})
    )
    return place


def measured(*arguments: str) -> tuple[float, float]:
    """Seconds and megabytes of one pull."""
    with tempfile.TemporaryDirectory() as home:
        started = time.monotonic()
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "CRPS_OUTCOMES_HOME": home}
        process = os.posix_spawn(sys.executable, [*COMMAND, *arguments], environment)
        _, status, usage = os.wait4(process, 0)
        assert status == 0, f"the pull failed with {os.waitstatus_to_exitcode(status)}"
        return time.monotonic() - started, usage.ru_maxrss / 1024


def told(what: str, seconds: float, megabytes: float) -> None:
    print(f"{what:<44} {seconds:7.1f} s   peak {megabytes:6.0f} MB", flush=True)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--folder", type=int, default=1_000_000)
    asked.add_argument("--export", type=int, default=200_000)
    numbers = asked.parse_args()
    for n in (1_000, numbers.folder):
        with tempfile.TemporaryDirectory() as place:
            told(f"folder, {n:,} Observations", *measured("--source", str(folder(Path(place), n))))
    for n in (1_000, numbers.export):
        server = FaultyServer(
            patients(), lines={"Observation": Lines(lambda n=n: observations(n), n)}, file_lines=50_000
        )
        with server.listen() as address:
            told(f"$export, {n:,} Observations", *measured("--source", address, "--method", "export"))


if __name__ == "__main__":
    main()
