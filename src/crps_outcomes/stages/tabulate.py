"""Tabulate: accepted resources into rows, every row naming the resource it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from crps_outcomes import resources as fhir
from crps_outcomes.diagnoses import Diagnosis, holds_findings, read_diagnosis, read_findings
from crps_outcomes.events import read_adverse_event, read_harm, read_medicine, read_procedure, read_stop
from crps_outcomes.exposure import Pharmacy, Weights, read_administration, with_sessions
from crps_outcomes.readings import Catalogue, read_observation, read_response
from crps_outcomes.rejections import Rejection
from crps_outcomes.tables import DOSES, EVENTS, FINDINGS, OBSERVATIONS, build

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from crps_outcomes.stages.screen import Screened
    from crps_outcomes.study import Study

Row = dict[str, Any]
_AMENDED = {"amended", "corrected"}
Model = TypeVar("Model", bound=fhir.Resource)
Item = TypeVar("Item")


@dataclass(frozen=True)
class Tabulated:
    """The cohort's rows before scoring, the people and diagnoses, and what was refused."""

    observations: pd.DataFrame
    doses: pd.DataFrame
    events: pd.DataFrame
    findings: pd.DataFrame
    diagnoses: tuple[Diagnosis, ...]
    diagnosed_in: frozenset[str]
    people: tuple[fhir.Patient, ...]
    rejections: tuple[Rejection, ...]
    made_from: Mapping[str, str] = field(default_factory=dict)  # Observation -> the response it is derived from


def tabulate(screened: Screened, study: Study) -> Tabulated:
    """Rows of OBSERVATIONS, DOSES, EVENTS and FINDINGS; whatever gives no row is a rejection with its rule."""
    pharmacy = Pharmacy(study, {one.id: one for one in _typed(screened, fhir.Medication)})
    readings, refused_readings = _readings(screened, study)
    readings, repeated = _once(readings, study)
    findings, refused_findings = _findings(screened, study)
    doses, refused_doses = _doses(screened, pharmacy, _weights(readings, study))
    events, refused_events = _events(screened, pharmacy)
    diagnoses, other_conditions = _split(read_diagnosis(one, study) for one in _typed(screened, fhir.Condition))
    harms, refused_conditions = _harms(screened, other_conditions, study)
    return Tabulated(
        observations=build(OBSERVATIONS, readings),
        doses=build(DOSES, doses),
        events=build(EVENTS, _with_session([*events, *harms], doses)),
        findings=build(FINDINGS, findings),
        diagnoses=tuple(diagnoses),
        diagnosed_in=frozenset(diagnosis.source_ref for diagnosis in diagnoses),
        people=tuple(_typed(screened, fhir.Patient)),
        rejections=(
            *refused_readings,
            *repeated,
            *refused_findings,
            *refused_doses,
            *refused_events,
            *refused_conditions,
        ),
        made_from=_made_from(screened),
    )


def _typed(screened: Screened, model: type[Model]) -> Sequence[Model]:
    return cast("Sequence[Model]", screened.of(model.__name__))


def _split(results: Iterable[Item | Rejection]) -> tuple[list[Item], list[Rejection]]:
    rows: list[Item] = []
    refused: list[Rejection] = []
    for result in results:
        if isinstance(result, Rejection):
            refused.append(result)
        else:
            rows.append(result)
    return rows, refused


def _readings(screened: Screened, study: Study) -> tuple[list[Row], list[Rejection]]:
    catalogue = Catalogue(study)
    rows: list[Row] = []
    refused: list[Rejection] = []
    reads: list[tuple[list[Row], list[Rejection]]] = [
        *(
            read_observation(one, catalogue)
            for one in _typed(screened, fhir.Observation)
            if not holds_findings(one, study)
        ),
        *(read_response(one, catalogue) for one in _typed(screened, fhir.QuestionnaireResponse)),
    ]
    for own_rows, own_refused in reads:
        rows.extend(own_rows)
        refused.extend(own_refused)
    units = {measure.id: measure.unit for measure in study.measures.values()}
    return [row | {"unit": units[row["measure"]]} for row in rows], refused


def _findings(screened: Screened, study: Study) -> tuple[list[Row], list[Rejection]]:
    rows: list[Row] = []
    refused: list[Rejection] = []
    for one in _typed(screened, fhir.Observation):
        if holds_findings(one, study):
            own_rows, own_refused = read_findings(one, study)
            rows.extend(own_rows)
            refused.extend(own_refused)
    return rows, refused


def _made_from(screened: Screened) -> dict[str, str]:
    """The questionnaire response each Observation says it is derived from; none where it names several."""
    found = {
        one.ref: [f"QuestionnaireResponse/{name}" for ref in one.derived_from if (name := _response_in(ref))]
        for one in _typed(screened, fhir.Observation)
        if one.derived_from
    }
    return {ref: responses[0] for ref, responses in found.items() if len(responses) == 1}


def _response_in(reference: fhir.Reference) -> str:
    return fhir.id_in(reference, "QuestionnaireResponse")


def _once(rows: list[Row], study: Study) -> tuple[list[Row], list[Rejection]]:
    """Each value of a moment once: a repeat under another id is refused, and so are two values of one moment.

    Of two values of one moment an amended or corrected one stands, where it is the only one. Values that carry only a
    day are left to the visit rule, and the items of a questionnaire response are not compared with another's.
    """
    kept: list[Row] = []
    refused: list[Rejection] = []
    moments: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["taken_at"] is None or row["source_ref"].startswith("QuestionnaireResponse/"):
            kept.append(row)
        else:
            item = row["item"] if row["item"] in study.measures[row["measure"]].form_ids else ""
            moments.setdefault((row["subject_id"], row["measure"], item, row["taken_at"]), []).append(row)
    for same in moments.values():
        own_kept, own_refused = _one_of(sorted(same, key=lambda row: str(row["source_ref"])))
        kept.extend(own_kept)
        refused.extend(own_refused)
    return kept, refused


def _one_of(same: list[Row]) -> tuple[list[Row], list[Rejection]]:
    """What stands of the values of one moment."""
    amended = [row for row in same if row["status"] in _AMENDED]
    is_settled = len({row["value"] for row in same}) > 1 and len({row["value"] for row in amended}) == 1
    left = [row for row in same if not is_settled or row["value"] == amended[0]["value"]]
    refused = [Rejection(row["source_ref"], "amended-elsewhere") for row in same if row not in left]
    if len({row["value"] for row in left}) > 1:
        return [], [Rejection(row["source_ref"], "two-values", "of one moment") for row in same]
    return left[:1], [*refused, *(Rejection(row["source_ref"], "same-value-twice") for row in left[1:])]


def _weights(rows: Iterable[Row], study: Study) -> dict[str, Weights]:
    found: dict[str, list[tuple[Any, str, float]]] = {}
    for row in rows:
        if row["measure"] == study.protocol.exposure.weight_measure:
            found.setdefault(row["subject_id"], []).append((row["taken_on"], row["source_ref"], row["value"]))
    ordered = {subject: sorted(own) for subject, own in found.items()}
    return {
        subject: Weights(tuple(day for day, _, _ in own), tuple(kilograms for _, _, kilograms in own))
        for subject, own in ordered.items()
    }


def _doses(screened: Screened, pharmacy: Pharmacy, weights: dict[str, Weights]) -> tuple[list[Row], list[Rejection]]:
    given = (one for one in _typed(screened, fhir.MedicationAdministration) if one.status != "stopped")
    rows, refused = _split(
        read_administration(one, pharmacy, weights.get(fhir.id_in(one.subject, "Patient"), Weights())) for one in given
    )
    return with_sessions(rows, pharmacy.study), refused


def _events(screened: Screened, pharmacy: Pharmacy) -> tuple[list[Row], list[Rejection]]:
    study = pharmacy.study
    stopped = (one for one in _typed(screened, fhir.MedicationAdministration) if one.status == "stopped")
    return _split((
        *(read_adverse_event(one, study) for one in _typed(screened, fhir.AdverseEvent)),
        *(read_procedure(one, study) for one in _typed(screened, fhir.Procedure)),
        *(read_medicine(one, pharmacy) for one in _typed(screened, fhir.MedicationRequest)),
        *(read_medicine(one, pharmacy) for one in _typed(screened, fhir.MedicationStatement)),
        *(read_stop(one, pharmacy) for one in stopped),
    ))  # fmt: skip


def _harms(screened: Screened, refused: Sequence[Rejection], study: Study) -> tuple[list[Row], list[Rejection]]:
    """Conditions that are no CRPS diagnosis: harms that a codelist names, and the rest as it was refused."""
    others = {one.resource_ref for one in refused if one.rule == "not-crps-diagnosis"}
    harms, still = _split(read_harm(one, study) for one in _typed(screened, fhir.Condition) if one.ref in others)
    return harms, [*still, *(one for one in refused if one.resource_ref not in others)]


def _with_session(events: list[Row], doses: list[Row]) -> list[Row]:
    """Adverse events with their IM session: that of the injection they name, else the last one begun before them that
    day, else the first of that day.
    """
    sessions = Sessions(doses)
    return [row | {"session": sessions.of(row)} if row["kind"] == "adverse event" else row for row in events]


class Sessions:
    """Where the IM sessions of everybody are: by administration, and by day in order of time."""

    def __init__(self, doses: Iterable[Row]) -> None:
        injected = [row for row in doses if row["session"] is not None]
        self.by_ref = {row["source_ref"]: row for row in injected}
        self.by_day: dict[tuple[str, Any], list[Row]] = {}
        for row in sorted(injected, key=lambda row: row["session"]):
            self.by_day.setdefault((row["subject_id"], row["given_on"]), []).append(row)

    def of(self, event: Row) -> int | None:
        """The session of an adverse event, or None."""
        named = (self.by_ref.get(f"MedicationAdministration/{suspect}") for suspect in event.get("suspects", ()))
        own = [row for row in named if row is not None and row["subject_id"] == event["subject_id"]]
        if len({row["session"] for row in own}) == 1:
            return int(own[0]["session"])
        that_day = self.by_day.get((event["subject_id"], event["onset_on"]), [])
        at = event["onset_at"]
        begun = [row for row in that_day if at is not None and row["given_at"] is not None and row["given_at"] <= at]
        chosen = begun[-1:] or that_day[:1]
        return int(chosen[0]["session"]) if chosen else None
