"""Tabulate: accepted resources into rows, every row naming the resource it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from crps_outcomes import resources as fhir
from crps_outcomes.events import Diagnosis, read_adverse_event, read_diagnosis, read_treatment
from crps_outcomes.exposure import Pharmacy, Weights, read_administration, with_sessions
from crps_outcomes.readings import Catalogue, read_observation, read_response
from crps_outcomes.rejections import Rejection
from crps_outcomes.tables import DOSES, EVENTS, OBSERVATIONS, build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import pandas as pd

    from crps_outcomes.stages.screen import Screened
    from crps_outcomes.study import Study

Row = dict[str, Any]
Model = TypeVar("Model", bound=fhir.Resource)
Item = TypeVar("Item")


@dataclass(frozen=True)
class Tabulated:
    """The cohort's rows before scoring, the people and diagnoses, and what was refused."""

    observations: pd.DataFrame
    doses: pd.DataFrame
    events: pd.DataFrame
    diagnoses: tuple[Diagnosis, ...]
    diagnosed_in: frozenset[str]
    people: tuple[fhir.Patient, ...]
    rejections: tuple[Rejection, ...]


def tabulate(screened: Screened, study: Study) -> Tabulated:
    """Rows of OBSERVATIONS, DOSES and EVENTS; whatever gives no row is a rejection with its rule."""
    readings, refused_readings = _readings(screened, study)
    readings, repeated = _once(readings, study)
    doses, refused_doses = _doses(screened, study, _weights(readings, study))
    events, refused_events = _events(screened, study)
    diagnoses, refused_conditions = _split(read_diagnosis(one, study) for one in _typed(screened, fhir.Condition))
    return Tabulated(
        observations=build(OBSERVATIONS, readings),
        doses=build(DOSES, doses),
        events=build(EVENTS, _with_session(events, doses)),
        diagnoses=tuple(diagnoses),
        diagnosed_in=frozenset(diagnosis.source_ref for diagnosis in diagnoses),
        people=tuple(_typed(screened, fhir.Patient)),
        rejections=(*refused_readings, *repeated, *refused_doses, *refused_events, *refused_conditions),
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
    catalogue = Catalogue(study.measures, study.protocol.timezone)
    rows: list[Row] = []
    refused: list[Rejection] = []
    reads: list[tuple[list[Row], list[Rejection]]] = [
        *(read_observation(one, catalogue) for one in _typed(screened, fhir.Observation)),
        *(read_response(one, catalogue) for one in _typed(screened, fhir.QuestionnaireResponse)),
    ]
    for own_rows, own_refused in reads:
        rows.extend(own_rows)
        refused.extend(own_refused)
    units = {measure.id: measure.unit for measure in study.measures.values()}
    return [row | {"unit": units[row["measure"]]} for row in rows], refused


def _once(rows: list[Row], study: Study) -> tuple[list[Row], list[Rejection]]:
    """Each value of a moment once: a repeat under another id is refused, and so are two values of one moment.

    Values that carry only a day are left to the visit rule, and so are items of a questionnaire.
    """
    kept: list[Row] = []
    refused: list[Rejection] = []
    moments: dict[tuple[Any, ...], list[Row]] = {}
    outcomes = {measure.id for measure in study.measures.values() if measure.role == "outcome"}
    for row in rows:
        is_item = row["item"] and row["measure"] in outcomes
        if row["taken_at"] is None or is_item:
            kept.append(row)
        else:
            moments.setdefault((row["subject_id"], row["measure"], row["taken_at"]), []).append(row)
    for same in moments.values():
        first, *others = sorted(same, key=lambda row: row["source_ref"])
        if any(other["value"] != first["value"] for other in others):
            refused.extend(Rejection(row["source_ref"], "two-values", "of one moment") for row in same)
            continue
        kept.append(first)
        refused.extend(Rejection(other["source_ref"], "same-value-twice") for other in others)
    return kept, refused


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


def _doses(screened: Screened, study: Study, weights: dict[str, Weights]) -> tuple[list[Row], list[Rejection]]:
    pharmacy = Pharmacy(study, {one.id: one for one in _typed(screened, fhir.Medication)})
    given = _typed(screened, fhir.MedicationAdministration)
    rows, refused = _split(
        read_administration(one, pharmacy, weights.get(fhir.id_in(one.subject, "Patient"), Weights())) for one in given
    )
    return with_sessions(rows, study), refused


def _events(screened: Screened, study: Study) -> tuple[list[Row], list[Rejection]]:
    readers: dict[str, Callable[[Any, Study], Row | Rejection]] = {
        "AdverseEvent": read_adverse_event,
        "Procedure": read_treatment,
        "MedicationRequest": read_treatment,
        "MedicationStatement": read_treatment,
    }
    return _split(read(one, study) for name, read in readers.items() for one in screened.of(name))


def _with_session(events: list[Row], doses: list[Row]) -> list[Row]:
    """Adverse events with the IM session of their day, where there was one."""
    sessions = {(row["subject_id"], row["given_on"]): row["session"] for row in doses if row["session"] is not None}
    return [
        row | {"session": sessions.get((row["subject_id"], row["onset_on"]))} if row["kind"] == "adverse event" else row
        for row in events
    ]
