"""CRPS diagnoses and recorded symptoms and signs: type, limb, side, onset, and the features of the Budapest criteria."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crps_outcomes import resources as fhir
from crps_outcomes.events import groups_of, normalised
from crps_outcomes.fhirtime import moment
from crps_outcomes.rejections import Rejection
from crps_outcomes.stages.screen import subject_id, written_date

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from crps_outcomes.study import Study

Row = dict[str, Any]
Valued = fhir.Observation | fhir.Component
_SYSTEM_NAMES = {
    "http://hl7.org/fhir/sid/icd-10-cm": "icd-10-cm",
    "http://hl7.org/fhir/sid/icd-10": "icd-10",
    "http://id.who.int/icd/release/11/mms": "icd-11",
    "http://snomed.info/sct": "snomed",
}
_CRPS_TEXT = re.compile(r"\bcomplex regional pain syndrome\b|\bCRPS\b|\bcausalgia\b", re.IGNORECASE)
#: Answers that say yes and no: words, and the codes of SNOMED CT, LOINC and HL7 tables. [codes unconfirmed]
_YES = frozenset({"yes", "present", "true", "y", "52101004", "373066001", "la33-6", "la9633-4"})
_NO = frozenset({"no", "absent", "false", "n", "2667000", "373067005", "la32-8", "la9634-2"})


@dataclass(frozen=True)
class Diagnosis:
    """A CRPS diagnosis: its type and the rule that matched it, where it is, since when, and what was found with it."""

    source_ref: str
    subject_id: str
    crps_type: str
    match: str
    onset_on: date | None
    onset: str = ""  # as the source wrote it, for a month where there is no day
    places: frozenset[str] = frozenset()  # "upper", "lower", "other", "right", "left", "both"
    places_match: str = ""  # "code" or "words"
    features: frozenset[str] = frozenset()
    recorded_on: date | None = None


def read_diagnosis(condition: fhir.Condition, study: Study) -> Diagnosis | Rejection:
    """The CRPS type a Condition stands for: by listed code, else by its words (flagged as such)."""
    rules = study.protocol.condition_codelist
    found = [
        (group, _SYSTEM_NAMES.get(coding.system, coding.system))
        for coding in condition.code.coding
        if (group := study.group_of(rules, coding.system, normalised(coding)))
    ]
    if not found and _CRPS_TEXT.search(condition.code.text):
        found = [("not specified", "text")]
    if not found:
        return Rejection(condition.ref, "not-crps-diagnosis")
    groups = {group for group, _ in found} - {"not specified"}
    if len(groups) > 1:
        return Rejection(condition.ref, "two-values", "CRPS types")
    onset = condition.onset_date_time or condition.onset_period.start
    places, match = _places(condition, study)
    return Diagnosis(
        condition.ref,
        subject_id(condition),
        groups.pop() if groups else "not specified",
        found[0][1],
        moment(onset, study.protocol.timezone).on,
        onset=onset,
        places=places,
        places_match=match,
        features=_features(condition, study),
        recorded_on=moment(condition.recorded_date or onset, study.protocol.timezone).on,
    )


def _places(condition: fhir.Condition, study: Study) -> tuple[frozenset[str], str]:
    """Limb and side, from codes of the diagnosis and its body site, else from their words."""
    concepts, codelist = [condition.code, *condition.body_site], study.protocol.context.site_codelist
    codings = (coding for concept in concepts for coding in concept.coding)
    coded = {study.group_of(codelist, coding.system, normalised(coding)) or "" for coding in codings} - {""}
    found = coded or groups_of(concepts, codelist, study)
    places = frozenset(place for group in found for place in group.split())
    return places, "code" if coded else "words" if places else ""


def _features(condition: fhir.Condition, study: Study) -> frozenset[str]:
    """Symptoms and signs that the Condition gives as its evidence."""
    concepts = [concept for evidence in condition.evidence for concept in evidence.code]
    return groups_of(concepts, study.protocol.context.feature_codelist, study) if concepts else frozenset()


# --- symptoms and signs -----------------------------------------------------------------------------------------------


def holds_findings(observation: fhir.Observation, study: Study) -> bool:
    """Whether an Observation, or a component of it, is about a listed symptom, sign or criterion."""
    return any(feature for _, feature, _ in _holders(observation, study))


def read_findings(observation: fhir.Observation, study: Study) -> tuple[list[Row], list[Rejection]]:
    """FINDINGS rows of one Observation, present or absent; anything else it may say is refused."""
    when = moment(written_date(observation), study.protocol.timezone)
    if when.on is None:
        rule = "date-too-coarse" if written_date(observation) else "date-missing"
        return [], [Rejection(observation.ref, rule)]
    common = {"source_ref": observation.ref, "subject_id": subject_id(observation)}
    rows: dict[str, Row] = {}
    refused: list[Rejection] = []
    for item, feature, holder in _holders(observation, study):
        answer = _presence(holder)
        if isinstance(answer, str):
            refused.append(Rejection(observation.ref, answer))
        elif item in rows:
            refused.append(Rejection(observation.ref, "two-values", "components for one feature"))
        else:
            moments = {"taken_at": when.at, "taken_on": when.on}
            rows[item] = {**common, "item": item, "feature": feature, "is_present": answer, **moments}
    return list(rows.values()), refused


def _holders(observation: fhir.Observation, study: Study) -> Iterator[tuple[str, str, Valued]]:
    """Item, feature and holder of every listed feature, the Observation itself first."""
    holders: tuple[Valued, ...] = (observation, *observation.component)
    for holder in holders:
        groups = groups_of([holder.code], study.protocol.context.feature_codelist, study)
        if len(groups) == 1:
            item = "" if holder is observation else next((c.code for c in holder.code.coding), holder.code.text)
            yield item, min(groups), holder


def _presence(holder: Valued) -> bool | str:
    """Whether a feature is present; or the rule that refuses the answer."""
    if holder.data_absent_reason is not None:
        return "data-absent"
    if holder.value_boolean is not None:
        return holder.value_boolean
    if holder.value_integer in (0, 1):
        return holder.value_integer == 1
    concept = holder.value_codeable_concept
    if concept is None:
        return "answer-unknown" if holder.value_integer is not None else "value-missing"
    said = {text.strip().casefold() for c in concept.coding for text in (c.code, c.display)} | {
        concept.text.strip().casefold()
    }
    answers = {answer for answer, words in ((True, _YES), (False, _NO)) if said & words}
    return answers.pop() if len(answers) == 1 else "answer-unknown"
