"""Observations and questionnaire responses into rows: one row per source value, or the rule that refused it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from crps_outcomes import resources as fhir
from crps_outcomes.fhirtime import Moment, moment
from crps_outcomes.rejections import Rejection
from crps_outcomes.stages.screen import subject_id, written_date
from crps_outcomes.units import into_measure_unit, unit_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from crps_outcomes.definitions import Code, Measure, ObservationValue

Row = dict[str, Any]
Valued = fhir.Observation | fhir.Component


@dataclass(frozen=True)
class Reading:
    """A row, or the rule that refused it; ``detail`` never holds the value."""

    row: Row = field(default_factory=dict)
    rule: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Catalogue:
    """The measures, indexed by the codes and questionnaires that carry them."""

    measures: Mapping[str, Measure]
    timezone: str

    @cached_property
    def by_code(self) -> dict[tuple[str, str], list[tuple[Measure, ObservationValue]]]:
        index: dict[tuple[str, str], list[tuple[Measure, ObservationValue]]] = {}
        for measure in self.measures.values():
            for source in measure.sources:
                for code in source.codes:
                    index.setdefault((code.system, code.code), []).append((measure, source))
        return index

    @cached_property
    def by_questionnaire(self) -> dict[str, tuple[Measure, tuple[str, ...]]]:
        return {
            form.questionnaire: (measure, form.link_ids)
            for measure in self.measures.values()
            for form in measure.questionnaires
        }


def read_observation(observation: fhir.Observation, catalogue: Catalogue) -> tuple[list[Row], list[Rejection]]:
    """Every value an Observation holds for a measure of the study; each source counts once, whatever its codings."""
    found = _sources(observation.code, catalogue)
    if not found:
        return [], [Rejection(observation.ref, "no-measure-takes-code")]
    if len({measure.id for measure, source in found if not source.component}) > 1:
        return [], [Rejection(observation.ref, "two-values", "codings of two measures")]
    when = moment(written_date(observation), catalogue.timezone)
    undated = _undated(observation, when)
    if undated:
        return [], [undated]
    readings = [_read(observation, measure, source) for measure, source in found]
    return _sorted_out(observation, when, readings)


def read_response(response: fhir.QuestionnaireResponse, catalogue: Catalogue) -> tuple[list[Row], list[Rejection]]:
    """One row per answered item of a questionnaire the study scores; the scoring rule is applied later."""
    form = catalogue.by_questionnaire.get(response.questionnaire.split("|")[0])
    if form is None:
        return [], [Rejection(response.ref, "questionnaire-unknown")]
    when = moment(response.authored, catalogue.timezone)
    undated = _undated(response, when)
    if undated:
        return [], [undated]
    measure, link_ids = form
    answers = _answers(response.item, frozenset(link_ids))
    readings = [_read_item(measure, link_id, answers[link_id]) for link_id in link_ids if answers.get(link_id)]
    rows, rejections = _sorted_out(response, when, readings)
    if len(rows) < measure.score.min_items:
        detail = f"{len(rows)} of {len(link_ids)} answered, {measure.score.min_items} needed"
        return [], [*rejections, Rejection(response.ref, "items-missing", detail)]
    return rows, rejections


# --- one value ----------------------------------------------------------------------------------------------------


def _read(observation: fhir.Observation, measure: Measure, source: ObservationValue) -> Reading | None:
    """The value of one measure in an Observation; None when a panel simply lacks that component."""
    if not source.component:
        return _read_value(observation, measure, source, "")
    parts = [part for part in observation.component if _coded(part.code, source.component)]
    if not parts:
        return None
    if len(parts) > 1:
        return Reading(rule="two-values", detail=f"components for {measure.id}")
    return _read_value(parts[0], measure, source, source.component[0].code)


def _read_value(holder: Valued, measure: Measure, source: ObservationValue, item: str) -> Reading:
    if holder.data_absent_reason is not None:
        return Reading(rule="data-absent")
    reading = _READERS[source.read](holder, measure)
    if reading.rule:
        return reading
    return Reading(reading.row | {"measure": measure.id, "item": item})


def _read_number(holder: Valued, measure: Measure) -> Reading:
    quantity = holder.value_quantity
    if quantity is None and holder.value_integer is None:
        return Reading(rule="value-missing", detail="a number was declared")
    if quantity is None:
        quantity = fhir.Quantity(value=float(holder.value_integer or 0))
    if quantity.value is None:
        return Reading(rule="value-missing", detail="a quantity without a number")
    if quantity.comparator:
        return Reading(rule="value-not-exact")
    converted = into_measure_unit(quantity.value, unit_of(quantity), measure)
    if converted is None:
        return Reading(rule="unit-unknown", detail=f"{measure.id} wants {measure.unit}")
    value, derivation = converted
    rule = implausible(value, measure)
    if rule:
        return Reading(rule=rule, detail=f"{measure.id} lies in {measure.range[0]:g} to {measure.range[1]:g}")
    return Reading({"value": value, "derivation": derivation})


def _read_answer(holder: Valued, measure: Measure) -> Reading:
    answer = holder.value_codeable_concept
    if answer is None:
        return Reading(rule="value-missing", detail="a coded answer was declared")
    texts = [answer.text, *(coding.display for coding in answer.coding)]
    return _one_answer(measure, {coding.code for coding in answer.coding}, texts)


def _one_answer(measure: Measure, codes: set[str], texts: Iterable[str]) -> Reading:
    spoken = {text.strip().casefold() for text in texts if text.strip()}
    values = {
        option.value
        for option in measure.answers
        if codes & set(option.codes) or spoken & {text.casefold() for text in (option.display, *option.also)}
    }
    if len(values) != 1:
        return Reading(rule="two-values" if values else "answer-unknown", detail=measure.id)
    coded = any(codes & set(option.codes) for option in measure.answers)
    return Reading({"value": values.pop(), "derivation": "answer" if coded else "answer by its words"})


_READERS = {"number": _read_number, "answer": _read_answer}


def implausible(value: float, measure: Measure) -> str:
    """The rule a number breaks: a raw sum under a T-score code, or outside the declared range; "" for none."""
    raw = measure.whole_numbers_from_to
    if raw and value.is_integer() and raw[0] <= value <= raw[1]:
        return "raw-score-under-t-code"
    return "" if measure.range[0] <= value <= measure.range[1] else "value-out-of-range"


# --- questionnaires -----------------------------------------------------------------------------------------------


def _answers(items: Iterable[fhir.ResponseItem], wanted: frozenset[str]) -> dict[str, list[fhir.ResponseAnswer]]:
    found: dict[str, list[fhir.ResponseAnswer]] = {}
    for item in _walk(items):
        if item.link_id in wanted:
            found.setdefault(item.link_id, []).extend(item.answer)
    return found


def _walk(items: Iterable[fhir.ResponseItem]) -> Iterator[fhir.ResponseItem]:
    for item in items:
        yield item
        yield from _walk(item.item)
        for answer in item.answer:
            yield from _walk(answer.item)


def _read_item(measure: Measure, link_id: str, given: list[fhir.ResponseAnswer]) -> Reading:
    if len(given) > 1:
        return Reading(rule="two-values", detail=f"answers to {link_id}")
    answer = given[0]
    number = answer.value_integer if answer.value_integer is not None else answer.value_decimal
    if answer.value_coding is not None:
        coding = answer.value_coding
        reading = _one_answer(measure, {coding.code} - {""}, [coding.display])
    elif number is not None and float(number) in {option.value for option in measure.answers}:
        reading = Reading({"value": float(number), "derivation": ""})
    else:
        reading = Reading(rule="answer-unknown", detail=link_id)
    return reading if reading.rule else Reading(reading.row | {"measure": measure.id, "item": link_id})


# --- shared -------------------------------------------------------------------------------------------------------


def _sources(concept: fhir.CodeableConcept, catalogue: Catalogue) -> list[tuple[Measure, ObservationValue]]:
    found = (pair for coding in concept.coding for pair in catalogue.by_code.get((coding.system, coding.code), ()))
    return list({(measure.id, id(source)): (measure, source) for measure, source in found}.values())


def _coded(concept: fhir.CodeableConcept, codes: tuple[Code, ...]) -> bool:
    wanted = {(code.system, code.code) for code in codes}
    return any((coding.system, coding.code) in wanted for coding in concept.coding)


def _undated(resource: fhir.Resource, when: Moment) -> Rejection | None:
    if when.on is not None:
        return None
    text = written_date(resource)
    return Rejection(resource.ref, "date-too-coarse" if text else "date-missing")


def _sorted_out(
    resource: fhir.Observation | fhir.QuestionnaireResponse, when: Moment, readings: Iterable[Reading | None]
) -> tuple[list[Row], list[Rejection]]:
    common: Row = {
        "source_ref": resource.ref,
        "subject_id": subject_id(resource),
        "taken_at": when.at,
        "taken_on": when.on,
        "status": resource.status,
        "version": resource.meta.version_id,
        "upper_normal": _upper_normal(resource),
        "unit": "",
    }
    present = [reading for reading in readings if reading is not None]
    rows = [common | reading.row for reading in present if not reading.rule]
    rejections = [Rejection(resource.ref, one.rule, one.detail) for one in present if one.rule]
    if not present:
        rejections = [Rejection(resource.ref, "value-missing", "none of the declared components")]
    return rows, rejections


def _upper_normal(resource: fhir.Observation | fhir.QuestionnaireResponse) -> float | None:
    if not isinstance(resource, fhir.Observation):
        return None
    highs = {one.high.value for one in resource.reference_range if one.high and one.high.value is not None}
    return highs.pop() if len(highs) == 1 else None
