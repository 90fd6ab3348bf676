"""A list of patients in a file, for sites whose records say nowhere who is treated under the protocol.

The list becomes the FHIR Group that the source might have held, so that everything after it is the same.
"""

from __future__ import annotations

import csv
import io
import re
import stat
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from crps_outcomes.errors import DefinitionError
from crps_outcomes.fhir.source import FHIR_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: What names the Group that a list becomes.
LIST_IDENTIFIER = "https://crps-outcomes/patient-list|patients"
GROUP_ID = "crps-outcomes-patient-list"

VARIABLE = "CRPS_OUTCOMES_PATIENT_LIST"  # of the environment: the file with the list, mode 0600
COLUMNS = ("patient", "system", "value", "from", "until")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_SEARCHABLE = re.compile(r"[!-{}~]+(?: [!-{}~]+)*")  # no "|", which parts system and value in a query


class ListedPatient(NamedTuple):
    """One line: a Patient by id, or by system and value of an identifier, and the days it is listed for."""

    patient: str = ""
    system: str = ""
    value: str = ""
    since: date | None = None
    until: date | None = None


def read_patient_list(path: Path) -> tuple[ListedPatient, ...]:
    """The people in a CSV file with a header: ``patient``, or ``system`` and ``value``; if wanted ``from``, ``until``.

    Raises:
        DefinitionError: the file is missing, others may read it, or a line is wrong; the message names file, line and
            column, and never what stands there.
    """
    try:
        if path.stat().st_mode & _OTHERS:
            raise DefinitionError(f"{path}: others may read the patient list; it should have mode 0600 (chmod 600)")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        problem = f"{path}: cannot be read; the patient list should be a CSV file in UTF-8"
    else:
        return tuple(_read(text, str(path)))
    raise DefinitionError(problem)


def list_for(selector: str, path: Path | None) -> tuple[ListedPatient, ...]:
    """The list a pull goes by, or nobody where the protocol selects in another way.

    Raises:
        DefinitionError: a list is needed and not given, or given and not used; or as `read_patient_list`.
    """
    if selector == "list" and path is None:
        raise DefinitionError(f'enrolment.selector is "list": name its file with --patients or the variable {VARIABLE}')
    if selector != "list" and path is not None:
        raise DefinitionError(f'a patient list is given, but enrolment.selector is "{selector}"; it should be "list"')
    return read_patient_list(path) if path else ()


def list_as_group(rows: Sequence[ListedPatient]) -> dict[str, Any]:
    """The FHIR Group that says what a patient list says; the order and repetitions of its lines leave no trace."""
    system, _, value = LIST_IDENTIFIER.partition("|")
    members = [_member(row) for row in sorted(set(rows), key=_order)]
    return {
        "resourceType": "Group",
        "id": GROUP_ID,
        "identifier": [{"system": system, "value": value}],
        "active": True,
        "type": "person",
        "actual": True,
    } | ({"member": members} if members else {})


def _order(row: ListedPatient) -> tuple[str, ...]:
    return tuple("" if one is None else str(one) for one in row)


def _member(row: ListedPatient) -> dict[str, Any]:
    by_id, by_identifier = {"reference": f"Patient/{row.patient}"}, {"system": row.system, "value": row.value}
    member: dict[str, Any] = {"entity": by_id if row.patient else {"identifier": by_identifier}}
    period = {"start": row.since, "end": row.until}
    stated = {name: day.isoformat() for name, day in period.items() if day}
    return member | ({"period": stated} if stated else {})


def _read(text: str, where: str) -> Iterator[ListedPatient]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    try:
        _check_header(reader.fieldnames or (), where)
        for line in reader:
            yield _row(line, f"{where}: line {reader.line_num}")
    except csv.Error:
        problem = f"{where}: line {reader.reader.line_num}: not CSV; check its quotation marks"
    else:
        return
    raise DefinitionError(problem)


def _check_header(names: Sequence[str], where: str) -> None:
    if set(names) - set(COLUMNS) or len(set(names)) != len(names):
        raise DefinitionError(f"{where}: line 1: the header should name columns of: {', '.join(COLUMNS)}; each once")
    if "patient" not in names and not {"system", "value"} <= set(names):
        raise DefinitionError(f"{where}: line 1: the header should name the column patient, or system and value")


def _row(line: dict[Any, Any], where: str) -> ListedPatient:
    if None in line or None in line.values():
        raise DefinitionError(f"{where}: another number of fields than the header has")
    said = {name: line.get(name, "").strip() for name in COLUMNS}
    _check_person(said, where)
    since, until = _day(said["from"], f"{where}: from"), _day(said["until"], f"{where}: until")
    if since and until and since > until:
        raise DefinitionError(f"{where}: until: before the day in from")
    return ListedPatient(said["patient"], said["system"], said["value"], since, until)


def _check_person(said: dict[str, str], where: str) -> None:
    """Either an id or an identifier: with both, nobody could say which one is meant."""
    if said["patient"]:
        if said["system"] or said["value"]:
            raise DefinitionError(f"{where}: patient: stands beside system or value; a line should name one of them")
        if not FHIR_ID.fullmatch(said["patient"]):
            raise DefinitionError(f"{where}: patient: not the id of a FHIR Patient (letters, digits, - and .)")
        return
    for name in ("system", "value"):
        if not _SEARCHABLE.fullmatch(said[name]):
            raise DefinitionError(f"{where}: {name}: should be that of an identifier, in printable ASCII but no |")


def _day(text: str, where: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text if _DAY.fullmatch(text) else "")
    except ValueError:
        problem = f"{where}: not a day; it should be written YYYY-MM-DD"
    raise DefinitionError(problem)
