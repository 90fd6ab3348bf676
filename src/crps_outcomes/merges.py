"""One person, several records: which Patient stands for which after a merge, and whom a reference names."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from crps_outcomes import resources as fhir
from crps_outcomes.errors import SourceError
from crps_outcomes.fhir.source import FHIR_ID

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

_URI = "urn:ietf:rfc:3986"  # the system of identifiers that are URIs, such as urn:uuid


def persons(patients: Sequence[fhir.Patient]) -> dict[str, str]:
    """The surviving record of every record that a Patient is or is merged with; a record that was not merged survives.

    ``replaced-by`` and ``replaces`` are followed to the end; ``refer`` and ``seealso`` are no merge. The survivor may
    be a record nobody holds.

    Raises:
        SourceError: records merged into each other in a circle, or one merged into two people.
    """
    merged = _merged_into(patients)
    survivors: dict[str, str] = {}
    for record in _followed_first(merged):
        ends = {survivors[other] for other in merged.get(record, ())} or {record}
        if len(ends) > 1:
            raise SourceError("Patient.link: a record is merged into two different ones; it should be merged into one")
        survivors[record] = ends.pop()
    return survivors


def concerned(patients: Sequence[fhir.Patient], ids: Collection[str], named_by: Collection[str]) -> frozenset[str]:
    """The records of the people whom ids and identifiers name: their own, and every one merged with these, held or not.

    What is not held yet should be fetched, and this asked again. Merges of other people are not looked at.
    """
    neighbours: dict[str, set[str]] = {}
    for patient in patients:
        for _, other in merge_links(patient):
            neighbours.setdefault(patient.id, set()).add(other)
            neighbours.setdefault(other, set()).add(patient.id)
    waiting = {*ids, *(one.id for one in patients if not {*map(token, one.identifier)}.isdisjoint(named_by))}
    found: set[str] = set()
    while waiting:
        record = waiting.pop()
        found.add(record)
        waiting |= neighbours.get(record, set()) - found
    return frozenset(found)


@dataclass(frozen=True)
class Directory:
    """The Patients received: who stands for whom, and who carries which identifier."""

    survivors: Mapping[str, str]  # record -> the record that stands for the person
    held: frozenset[str]  # records that were received
    carriers: Mapping[str, str]  # identifier -> the one record that stands for whom it names

    def record(self, reference: fhir.Reference) -> str:
        """The record a reference names: by its id, else by an identifier a Patient carries; "" for none."""
        literal = _literal(reference)
        if literal in self.survivors:
            return literal
        return next((self.carriers[one] for one in identifiers(reference) if one in self.carriers), literal)

    def person(self, reference: fhir.Reference) -> str:
        """The surviving record of whom a reference names; "" for none."""
        record = self.record(reference)
        return self.survivors.get(record, record)


def directory_of(patients: Sequence[fhir.Patient]) -> Directory:
    """The directory of these Patients; an identifier that two people carry names nobody.

    Raises:
        SourceError: as `persons`.
    """
    survivors = persons(patients)
    carriers: dict[str, set[str]] = {}
    for patient in patients:
        for identifier in patient.identifier:
            carriers.setdefault(token(identifier), set()).add(patient.id)
    carriers.pop("", None)
    return Directory(
        survivors=survivors,
        held=frozenset(patient.id for patient in patients),
        carriers={name: one for name, found in carriers.items() if (one := _one_of(found, survivors))},
    )


def _one_of(records: set[str], survivors: Mapping[str, str]) -> str:
    """The only record, or the survivor of several that are one person; "" for several people."""
    found = records if len(records) == 1 else {survivors[record] for record in records}
    return next(iter(found)) if len(found) == 1 else ""


def identifiers(reference: fhir.Reference) -> Iterator[str]:
    """The identifiers by which a reference may name a Patient, as ``system|value``."""
    if reference.reference.startswith("urn:uuid:"):
        yield f"{_URI}|{reference.reference}"
    if named := token(reference.identifier):
        yield named


def token(identifier: fhir.Identifier) -> str:
    """``system|value``; "" where either is missing, for then it does not say who is meant."""
    return f"{identifier.system}|{identifier.value}" if identifier.system and identifier.value else ""


def merge_links(patient: fhir.Patient) -> Iterator[tuple[str, str]]:
    """(type of link, record) of the merges a Patient tells of."""
    for link in patient.link:
        other = _literal(link.other)
        if other and link.type in {"replaced-by", "replaces"}:
            yield link.type, other


def _merged_into(patients: Iterable[fhir.Patient]) -> dict[str, set[str]]:
    merged: dict[str, set[str]] = {}
    for patient in patients:
        merged.setdefault(patient.id, set())
        for kind, other in merge_links(patient):
            record, into = (patient.id, other) if kind == "replaced-by" else (other, patient.id)
            merged.setdefault(record, set()).add(into)
    return merged


def _followed_first(merged: Mapping[str, set[str]]) -> tuple[str, ...]:
    """Every record after those it was merged into."""
    try:
        return tuple(TopologicalSorter(merged).static_order())
    except CycleError:  # its text names the records
        problem = "Patient.link: records are merged into each other in a circle; one of them should survive"
    raise SourceError(problem)


def _literal(reference: fhir.Reference) -> str:
    identity = fhir.id_in(reference, "Patient")
    return identity if FHIR_ID.fullmatch(identity) else ""
