"""Three enrolled people and those who are not, as plain FHIR resources; and pulls of them, in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crps_outcomes.fhir import rest_source
from crps_outcomes.fhir.client import Surroundings
from crps_outcomes.fhir.source import Order
from crps_outcomes.home import Home
from crps_outcomes.stages.pull import Pulled, pull, wanted_types
from crps_outcomes.study import load, locate
from faulty_server import BASE, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

    from crps_outcomes.definitions import Protocol

Json = dict[str, Any]

_WHOLE = load(locate()).protocol
TYPES = ("Patient", "Consent", "Observation", "MedicationAdministration", "AdverseEvent")


def protocol(**pull_settings: Any) -> Protocol:
    """The study's own protocol with small pages, two people a query, and few types."""
    small = {
        "page_size": 2,
        "patients_per_query": 2,
        "workers": 2,
        "resource_types": TYPES,
        "requests_per_second": 1000,
    } | pull_settings
    return _WHOLE.model_copy(update={"pull": _WHOLE.pull.model_copy(update=small)})


def selecting(selector: str) -> Protocol:
    """The same protocol with another selector."""
    own = protocol()
    return own.model_copy(update={"enrolment": own.enrolment.model_copy(update={"selector": selector})})


def resource(resource_type: str, identity: str, /, **elements: Any) -> Json:
    meta = {"versionId": "1", "lastUpdated": "2026-02-01T10:00:00Z"}
    return {"resourceType": resource_type, "id": identity, "meta": meta} | elements


def to(identity: str) -> Json:
    return {"reference": f"Patient/{identity}"}


def token(text: str) -> Json:
    system, _, value = text.partition("|")
    return {"system": system, "value": value}


def coded(text: str) -> Json:
    system, _, code = text.partition("|")
    return {"coding": [{"system": system, "code": code}]}


def newer(one: Json, **elements: Any) -> Json:
    """The next version of a resource."""
    return one | {"meta": {"versionId": "2", "lastUpdated": "2026-02-02T10:00:00Z"}} | elements


def group(*members: Json) -> Json:
    return resource("Group", "cohort", identifier=[token(_WHOLE.enrolment.group_identifier)], member=list(members))


def member(identity: str, **elements: Any) -> Json:
    return {"entity": to(identity)} | elements


def observation(identity: str, subject: str, value: float = 5) -> Json:
    return resource("Observation", identity, status="final", subject=to(subject), valueQuantity={"value": value})


def consent(subject: str, **elements: Any) -> Json:
    given = {"status": "active", "dateTime": "2025-01-01", "provision": {"type": "permit"}}
    return resource("Consent", f"consent-{subject}", patient=to(subject), **(given | elements))


def cohort() -> list[Json]:
    """a, b and c are enrolled; d is inactive, e withdrew, f is nowhere to be found, and x is a stranger."""
    return [
        group(*(member(name) for name in "abcef"), member("d", inactive=True), {"entity": {"display": "someone"}}),
        *(resource("Patient", name) for name in "abcdex"),
        *(consent(name) for name in "abcd"),
        consent("e", status="inactive"),
        *(observation(f"{name}-{number}", name) for name in "abcdex" for number in range(1, 5)),
        resource("MedicationAdministration", "dose", status="completed", subject=to("a"),
                 medicationReference={"reference": "Medication/vial"}),
        resource("Medication", "vial"),
        resource("Medication", "of-others"),
        *(resource("AdverseEvent", f"event-{name}", subject=to(name)) for name in "abx"),
    ]  # fmt: skip


KEPT = {"Group": 1, "Patient": 3, "Consent": 4, "Observation": 12, "MedicationAdministration": 1, "Medication": 1,
        "AdverseEvent": 2}  # fmt: skip


def pulled_from(server: FaultyServer, folder: Path, own: Protocol | None = None, **settings: Any) -> Pulled:
    """A pull from a server in memory; waits are not waited for."""
    surroundings = settings.pop("surroundings", Surroundings(sleep=lambda _: None, chance=lambda: 0.5))
    asked = {name: settings.pop(name) for name in ("is_whole", "is_draft", "patients") if name in settings}
    source = rest_source(BASE, transport=server.transport(), surroundings=surroundings, **settings)
    return pull(source, own or protocol(), Home.at(folder), **asked)


def counts(pulled: Pulled) -> dict[str, int]:
    return {name: entry["count"] for name, entry in pulled.snapshot.manifest.files.items()}


def write_folder(folder: Path, resources: Iterable[Json], *, is_listed: bool = True) -> Path:
    """One NDJSON file per type, with a manifest unless told otherwise."""
    by_type: dict[str, list[Json]] = {}
    for one in resources:
        by_type.setdefault(one["resourceType"], []).append(one)
    folder.mkdir(parents=True, exist_ok=True)
    for name, own in by_type.items():
        (folder / f"{name}.ndjson").write_bytes(ndjson(own))
    if is_listed:
        write_manifest(folder, {f"{name}.ndjson": (name, len(own)) for name, own in by_type.items()})
    return folder


def ndjson(resources: Sequence[Json]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in resources)


def write_manifest(folder: Path, files: dict[str, tuple[str, int | None]], **more: Any) -> None:
    output = [
        {"type": kind, "url": f"https://fhir.test/export/{name}"} | ({} if n is None else {"count": n})
        for name, (kind, n) in files.items()
    ]
    manifest = {"transactionTime": "2026-03-01T12:00:00Z", "output": output, "error": []} | more
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def order(folder: Path, *, since: datetime | None = None, group: str = "", **pull_settings: Any) -> Order:
    """What a pull of this cohort opens a source for."""
    own = protocol(**pull_settings)
    return Order(wanted_types(own), own.pull, folder, since=since, group=group or own.enrolment.group_identifier)
