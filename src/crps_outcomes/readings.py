"""Observations and questionnaire responses into rows: one row per source value, or the rule that refused it."""

from __future__ import annotations

import re
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
    from crps_outcomes.study import Study

Row = dict[str, Any]
Valued = fhir.Observation | fhir.Component
Key = tuple[str, str]
#: Where a source states the number of an answer: FHIR R4's own extension, and the one R5 made of it.
ORDINALS = frozenset(
    {"http://hl7.org/fhir/StructureDefinition/ordinalValue", "http://hl7.org/fhir/StructureDefinition/itemWeight"}
)
_NUMBER_AS_TEXT = re.compile(r"\s*(\d{1,4}(?:\.\d{1,3})?)\s*(?:/\s*(\d{1,4}))?\s*", re.ASCII)


@dataclass(frozen=True)
class Reading:
    """A row, or the rule that refused it; ``detail`` never holds the value."""

    row: Row = field(default_factory=dict)
    rule: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Form:
    """A questionnaire as one measure reads it: where an item stands, by linkId, by code, or by its definition."""

    measure: Measure
    items: Mapping[str, str]  # linkId or code -> the item's name


@dataclass(frozen=True)
class Catalogue:
    """The measures, indexed by the codes and questionnaires that carry them."""

    study: Study

    @property
    def measures(self) -> Mapping[str, Measure]:
        return self.study.measures

    @property
    def timezone(self) -> str:
        return self.study.protocol.timezone

    @cached_property
    def by_code(self) -> dict[Key, list[tuple[Measure, ObservationValue]]]:
        index: dict[Key, list[tuple[Measure, ObservationValue]]] = {}
        for measure in self.measures.values():
            for source in measure.sources:
                for code in source.codes:
                    index.setdefault((code.system, code.code), []).append((measure, source))
        return index

    @cached_property
    def by_item_code(self) -> dict[Key, tuple[Measure, str]]:
        return {
            (code.system, code.code): (measure, code.item)
            for measure in self.measures.values()
            for code in measure.items.codes
        }

    @cached_property
    def panels(self) -> set[Key]:
        return {(code.system, code.code) for measure in self.measures.values() for code in measure.items.panels}

    @cached_property
    def by_questionnaire(self) -> dict[str, list[Form]]:
        index: dict[str, list[Form]] = {}
        for measure in self.measures.values():
            codes = {code.code: code.item for code in measure.items.codes}
            for form in measure.questionnaires:
                items = codes | dict(zip(form.link_ids, measure.form_ids, strict=True))
                index.setdefault(form.questionnaire, []).append(Form(measure, items))
        return index


def read_observation(observation: fhir.Observation, catalogue: Catalogue) -> tuple[list[Row], list[Rejection]]:
    """Every value an Observation holds for a measure of the study; each source counts once, whatever its codings."""
    study, ref = catalogue.study, observation.ref
    keys = study.known_as(observation.code)
    trap = next((study.traps[key] for key in keys if key in study.traps), None)
    if trap is not None:
        return [], [Rejection(ref, "wrong-code", trap.what)]
    found = _sources(keys, catalogue)
    items = {
        item: measure
        for measure, item in (catalogue.by_item_code[key] for key in keys if key in catalogue.by_item_code)
    }
    is_panel = any(key in catalogue.panels for key in keys)
    if not found and not items and not is_panel:
        return [], [Rejection(ref, "no-measure-takes-code")]
    owners = {(measure.id, str(source.is_raw_sum)) for measure, source in found if not source.component}
    if len(owners | {(measure.id, item) for item, measure in items.items()}) > 1:
        return [], [Rejection(ref, "two-values", "codings of two measures")]
    when = moment(written_date(observation), catalogue.timezone)
    undated = _undated(observation, when)
    if undated:
        return [], [undated]
    readings = [_read(observation, measure, source, catalogue) for measure, source in found]
    readings += [_read_item_value(observation, measure, item, catalogue) for item, measure in sorted(items.items())]
    if is_panel:
        readings += _read_panel(observation, catalogue)
    if is_panel and observation.has_member and not any(readings):
        return [], [Rejection(ref, "panel-of-members")]
    return _sorted_out(observation, when, readings)


def read_response(response: fhir.QuestionnaireResponse, catalogue: Catalogue) -> tuple[list[Row], list[Rejection]]:
    """One row per answered item of a questionnaire the study scores; the scoring rule is applied later."""
    forms = catalogue.by_questionnaire.get(response.questionnaire.split("|")[0])
    if not forms:
        return [], [Rejection(response.ref, "questionnaire-unknown")]
    when = moment(response.authored, catalogue.timezone)
    undated = _undated(response, when)
    if undated:
        return [], [undated]
    rows: list[Row] = []
    rejections: list[Rejection] = []
    for form in forms:
        answers = _answers(response.item, form)
        given = [item for item in form.measure.form_ids if answers.get(item)]
        readings = [_read_item(form.measure, item, answers[item], catalogue) for item in given]
        if not any(not reading.rule for reading in readings):
            rejections.append(Rejection(response.ref, "items-missing", f"none of {form.measure.id} can be read"))
        if readings:
            own_rows, own_rejections = _sorted_out(response, when, readings)
            rows.extend(own_rows)
            rejections.extend(own_rejections)
    return rows, rejections


def is_taken(resource: fhir.Observation | fhir.QuestionnaireResponse, catalogue: Catalogue) -> bool:
    """Whether a measure of the study, or a declared trap, knows the resource's code or questionnaire."""
    if isinstance(resource, fhir.QuestionnaireResponse):
        return resource.questionnaire.split("|")[0] in catalogue.by_questionnaire
    known = (catalogue.by_code, catalogue.by_item_code, catalogue.panels, catalogue.study.traps)
    return any(key in index for key in catalogue.study.known_as(resource.code) for index in known)


# --- one value ----------------------------------------------------------------------------------------------------


def _read(
    observation: fhir.Observation, measure: Measure, source: ObservationValue, catalogue: Catalogue
) -> Reading | None:
    """The value of one measure in an Observation; None when a panel simply lacks that component."""
    if source.needs_stated_range and _stated_range(observation) != measure.range:
        return Reading(rule="scale-not-stated", detail=f"{measure.id} is {measure.range[0]:g} to {measure.range[1]:g}")
    if not source.component:
        return _read_value(observation, measure, source, "", catalogue)
    parts = [part for part in observation.component if _coded(part.code, source.component, catalogue)]
    if not parts:
        return None
    if len(parts) > 1:
        return Reading(rule="two-values", detail=f"components for {measure.id}")
    return _read_value(parts[0], measure, source, source.component[0].code, catalogue)


def _read_value(holder: Valued, measure: Measure, source: ObservationValue, item: str, catalogue: Catalogue) -> Reading:
    if holder.data_absent_reason is not None:
        return Reading(rule="data-absent", detail=_why_absent(holder.data_absent_reason))
    reading = _READERS[source.read](holder, measure, catalogue)
    if not reading.rule and source.is_raw_sum:
        reading = _from_raw_sum(reading, measure, catalogue)
    elif not reading.rule:
        rule = implausible(reading.row["value"], measure)
        reading = Reading(rule=rule, detail=_range_words(measure)) if rule else reading
    return reading if reading.rule else Reading(reading.row | {"measure": measure.id, "item": item})


def _from_raw_sum(reading: Reading, measure: Measure, catalogue: Catalogue) -> Reading:
    table = catalogue.study.tables.get(measure.score.table)
    if table is None:
        return Reading(rule="table-missing", detail=f"mappings/tables/{measure.score.table}.csv")
    score = table.get(("", reading.row["value"]))
    if score is None:
        return Reading(rule="value-out-of-range", detail=f"no raw sum of {measure.id}")
    return Reading({"value": score, "derivation": "from the raw sum"})


def _read_number(holder: Valued, measure: Measure, _: Catalogue) -> Reading:
    quantity = holder.value_quantity
    if quantity is not None:
        return _read_quantity(quantity, measure)
    if holder.value_integer is not None:
        return _read_quantity(fhir.Quantity(value=float(holder.value_integer)), measure)
    ordinals = _ordinals(holder.value_codeable_concept.coding) if holder.value_codeable_concept else set()
    if len(ordinals) == 1:
        return Reading({"value": ordinals.pop(), "derivation": "number of the answer"})
    rule = "two-values" if ordinals else "value-missing"
    return Reading(rule=rule, detail="a number was declared")


def _read_quantity(quantity: fhir.Quantity, measure: Measure) -> Reading:
    if quantity.value is None:
        return Reading(rule="value-missing", detail="a quantity without a number")
    if quantity.comparator:
        return Reading(rule="value-not-exact")
    converted = into_measure_unit(quantity.value, unit_of(quantity), measure)
    if converted is None:
        return Reading(rule="unit-unknown", detail=f"{measure.id} wants {measure.unit}")
    value, derivation = converted
    return Reading({"value": value, "derivation": derivation})


def _read_text(holder: Valued, measure: Measure, catalogue: Catalogue) -> Reading:
    if holder.value_string is None:
        return _read_number(holder, measure, catalogue)
    value = _number_in(holder.value_string, measure.range[1])
    if value is None:
        return Reading(rule="value-missing", detail=f"text that is no number of {_range_words(measure)}")
    return Reading({"value": value, "derivation": "number written as text"})


def _number_in(text: str, of: float) -> float | None:
    """The number a text consists of: "7", or "7/10" where the scale ends at 10."""
    found = _NUMBER_AS_TEXT.fullmatch(text)
    if found is None or (found[2] is not None and float(found[2]) != of):
        return None
    return float(found[1])


def _read_answer(holder: Valued, measure: Measure, catalogue: Catalogue) -> Reading:
    if holder.value_boolean is not None:
        return _one_answer(measure, {str(holder.value_boolean).lower()}, ())
    answer = holder.value_codeable_concept
    if answer is None:
        return Reading(rule="value-missing", detail="a coded answer was declared")
    texts = [answer.text, *(coding.display for coding in answer.coding)]
    return _one_answer(measure, _codes(answer, catalogue), texts)


def _codes(answer: fhir.CodeableConcept, catalogue: Catalogue) -> set[str]:
    return {code for _, code in catalogue.study.known_as(answer)} - {""}


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


_READERS = {"number": _read_number, "text": _read_text, "answer": _read_answer}


def implausible(value: float, measure: Measure) -> str:
    """The rule a number breaks: a raw sum under a T-score code, outside the declared range, between two steps; or ""."""
    raw = measure.whole_numbers_from_to
    if raw and value.is_integer() and raw[0] <= value <= raw[1]:
        return "raw-score-under-t-code"
    if not measure.range[0] <= value <= measure.range[1]:
        return "value-out-of-range"
    return "" if on_step(value, measure) else "value-between-steps"


def on_step(value: float, measure: Measure) -> bool:
    """Whether a value is one the scale has; without a declared step every value is."""
    if measure.step is None:
        return True
    steps = (value - measure.range[0]) / measure.step
    return abs(steps - round(steps)) < 1e-6


def _range_words(measure: Measure) -> str:
    return f"{measure.id} lies in {measure.range[0]:g} to {measure.range[1]:g}"


def _ordinals(codings: Iterable[fhir.Coding]) -> set[float]:
    """The numbers a source states for its answer."""
    stated = (one for coding in codings for one in coding.extension if one.url in ORDINALS)
    numbers = (one.value_decimal if one.value_decimal is not None else one.value_integer for one in stated)
    return {float(number) for number in numbers if number is not None}


# --- items --------------------------------------------------------------------------------------------------------


def _read_panel(observation: fhir.Observation, catalogue: Catalogue) -> list[Reading | None]:
    """The items a panel holds as components."""
    found: dict[tuple[str, str], list[fhir.Component]] = {}
    measures: dict[str, Measure] = {}
    for part in observation.component:
        for key in catalogue.study.known_as(part.code):
            if key in catalogue.by_item_code:
                measure, item = catalogue.by_item_code[key]
                measures[measure.id] = measure
                found.setdefault((measure.id, item), []).append(part)
    return [
        Reading(rule="two-values", detail=f"components for {item}")
        if len({id(part) for part in parts}) > 1
        else _read_item_value(parts[0], measures[measure_id], item, catalogue)
        for (measure_id, item), parts in sorted(found.items())
    ]


def _read_item_value(holder: Valued, measure: Measure, item: str, catalogue: Catalogue) -> Reading:
    """One item that an Observation or a component holds."""
    if holder.data_absent_reason is not None:
        return Reading(rule="data-absent", detail=_why_absent(holder.data_absent_reason))
    given = fhir.ResponseAnswer(
        value_integer=holder.value_integer,
        value_quantity=holder.value_quantity,
        value_boolean=holder.value_boolean,
        value_string=holder.value_string,
    )
    if holder.value_codeable_concept is not None:
        reading = _coded_item(measure, item, holder.value_codeable_concept, catalogue)
    else:
        reading = _read_plain_item(measure, item, given)
    return reading if reading.rule else Reading(reading.row | {"measure": measure.id, "item": item})


def _answers(items: Iterable[fhir.ResponseItem], form: Form) -> dict[str, list[fhir.ResponseAnswer]]:
    found: dict[str, list[fhir.ResponseAnswer]] = {}
    for item in _walk(items):
        names = (item.link_id, item.link_id.lstrip("/"), re.split(r"[/#]", item.definition)[-1])
        name = next((form.items[one] for one in names if one in form.items), None)
        if name is not None:
            found.setdefault(name, []).extend(item.answer)
    return found


def _walk(items: Iterable[fhir.ResponseItem]) -> Iterator[fhir.ResponseItem]:
    for item in items:
        yield item
        yield from _walk(item.item)
        for answer in item.answer:
            yield from _walk(answer.item)


def _read_item(measure: Measure, item: str, given: list[fhir.ResponseAnswer], catalogue: Catalogue) -> Reading:
    if len(given) > 1:
        return Reading(rule="two-values", detail=f"answers to {item}")
    answer = given[0]
    if answer.value_coding is not None:
        reading = _coded_item(measure, item, fhir.CodeableConcept((answer.value_coding,)), catalogue)
    else:
        reading = _read_plain_item(measure, item, answer)
    return reading if reading.rule else Reading(reading.row | {"measure": measure.id, "item": item})


def _coded_item(measure: Measure, item: str, answer: fhir.CodeableConcept, catalogue: Catalogue) -> Reading:
    """A coded answer by its code or its words; else by the number the source states. Where both speak, they must agree."""
    texts = [answer.text, *(coding.display for coding in answer.coding)]
    reading = _one_answer(measure, _codes(answer, catalogue), texts)
    ordinals = _ordinals(answer.coding) if not measure.items.words_only else set()
    if not ordinals or reading.rule == "two-values":
        return reading if measure.answers or ordinals else Reading(rule="answer-unknown", detail=item)
    if len(ordinals) > 1 or (not reading.rule and ordinals != {reading.row["value"]}):
        return Reading(rule="two-values", detail=f"the answer and its number to {item}")
    return reading if not reading.rule else _item_number(measure, item, ordinals.pop(), "number of the answer")


def _read_plain_item(measure: Measure, item: str, answer: fhir.ResponseAnswer) -> Reading:
    if answer.value_boolean is not None:
        return _one_answer(measure, {str(answer.value_boolean).lower()}, ())
    number = answer.value_integer if answer.value_integer is not None else answer.value_decimal
    if number is None and answer.value_quantity is not None:
        reading = _read_quantity(answer.value_quantity, measure)
        return reading if reading.rule else _item_number(measure, item, reading.row["value"], "")
    if number is None and answer.value_string is not None and measure.items.read_text:
        number = _number_in(answer.value_string, measure.item_range(item)[1])
        return _item_number(measure, item, number, "number written as text")
    return _item_number(measure, item, number, "")


def _item_number(measure: Measure, item: str, number: float | None, derivation: str) -> Reading:
    """A number as an answer: one of the declared answers, or inside the item's range where none are declared."""
    if measure.items.words_only:
        return Reading(rule="answer-unknown", detail=f"{item}: a number")
    low, high = measure.item_range(item)
    options = {option.value for option in measure.answers}
    is_known = number is not None and (float(number) in options if low >= high else low <= number <= high)
    if not is_known or number is None:
        return Reading(rule="answer-unknown", detail=item)
    return Reading({"value": float(number), "derivation": derivation})


#: HL7's own reasons; a reason in other words is the source's text and is not repeated.
ABSENT = frozenset(
    {
        "unknown", "asked-unknown", "temp-unknown", "not-asked", "asked-declined", "masked", "not-applicable",
        "unsupported", "as-text", "error", "not-a-number", "negative-infinity", "positive-infinity", "not-performed",
        "not-permitted",
    }
)  # fmt: skip


def _why_absent(reason: fhir.CodeableConcept) -> str:
    stated = {coding.code for coding in reason.coding} & ABSENT
    return stated.pop() if len(stated) == 1 else ""


# --- shared -------------------------------------------------------------------------------------------------------


def _sources(keys: Iterable[Key], catalogue: Catalogue) -> list[tuple[Measure, ObservationValue]]:
    """The declared sources an Observation's codings meet: of one measure's plain codes only one, of components each."""
    found = [pair for key in keys for pair in catalogue.by_code.get(key, ())]
    return list(
        {
            (measure.id, source.component, source.is_raw_sum): (measure, source) for measure, source in reversed(found)
        }.values()
    )


def _coded(concept: fhir.CodeableConcept, codes: tuple[Code, ...], catalogue: Catalogue) -> bool:
    wanted = {(code.system, code.code) for code in codes}
    return any(key in wanted for key in catalogue.study.known_as(concept))


def _stated_range(observation: fhir.Observation) -> tuple[float, float] | None:
    ends = {(one.low.value, one.high.value) for one in observation.reference_range if one.low and one.high}
    low, high = ends.pop() if len(ends) == 1 else (None, None)
    return None if low is None or high is None else (low, high)


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
