"""One synthetic person with one dose, for tests that ask what a pipeline stage makes of a few resources."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

from crps_outcomes import study as studies
from crps_outcomes.rejections import rejection_table
from crps_outcomes.stages.score import Scored, score
from crps_outcomes.stages.screen import screen
from crps_outcomes.stages.tabulate import Tabulated, tabulate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

    from crps_outcomes.study import Study

STUDY = studies.load(studies.locate())
AS_OF = date(2026, 10, 31)
FIRST_DOSE = "2026-01-10T10:00:00-05:00"

PERSON: dict[str, Any] = {"resourceType": "Patient", "id": "p1", "gender": "female", "birthDate": "1980-03-01"}
DIAGNOSIS: dict[str, Any] = {
    "resourceType": "Condition",
    "id": "crps",
    "subject": {"reference": "Patient/p1"},
    "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "G90.511"}]},
}
DOSE: dict[str, Any] = {
    "resourceType": "MedicationAdministration",
    "id": "dose",
    "status": "completed",
    "medicationCodeableConcept": {
        "coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "6130"}]
    },
    "subject": {"reference": "Patient/p1"},
    "effectiveDateTime": FIRST_DOSE,
    "dosage": {
        "route": {"coding": [{"system": "http://snomed.info/sct", "code": "78421000"}]},
        "dose": {"value": 50, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"},
    },
}


class Forgetful:
    """Verdicts that are never remembered."""

    def get_many(self, hashes: Iterable[str]) -> dict[str, str]:
        return {}

    def put_many(self, verdicts: dict[str, str]) -> None: ...


def as_person(resources: Sequence[dict[str, Any]], suffix: str) -> list[dict[str, Any]]:
    """The same resources about another person, every id with the suffix."""
    own = [one for one in resources if one["resourceType"] != "Patient"]
    text = json.dumps([{**one, "id": f"{one['id']}{suffix}"} for one in resources])
    for reference in ("Patient/p1", *(f"{one['resourceType']}/{one['id']}" for one in own)):
        text = text.replace(f'"{reference}"', f'"{reference}{suffix}"')
    renamed: list[dict[str, Any]] = json.loads(text)
    return renamed


def run(
    resources: Iterable[dict[str, Any]],
    *,
    enrolled: Iterable[str] = ("p1",),
    person: bool = True,
    as_of: date = AS_OF,
    study: Study = STUDY,
) -> tuple[Tabulated, Scored, pd.DataFrame]:
    """Screen, tabulate and score some resources of one treated person; the third result is REJECTIONS."""
    all_resources = [*([PERSON, DIAGNOSIS, DOSE] if person else []), *resources]
    lines = [(one["resourceType"], json.dumps(one).encode()) for one in all_resources]
    subjects = dict.fromkeys(enrolled)
    records = {name: name for name in subjects}
    screened = screen(lines, records, as_of=as_of, study=study, verdicts=Forgetful())
    rows = tabulate(screened, study)
    scored = score(rows, subjects, study, as_of=as_of)
    rejections = rejection_table((*screened.rejections, *rows.rejections, *scored.rejections))
    return rows, scored, rejections
