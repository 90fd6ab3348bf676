"""The elements of FHIR resources that the pipeline reads, as fast typed structs, and nothing else of them.

Decoding is strict about shape (a number as a string is refused) and silent about elements not listed here:
fhir.resources judges validity (`validation.py`); these structs only read.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Element(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """A piece of a FHIR resource."""


class Extension(Element, frozen=True):
    url: str = ""
    value_decimal: float | None = None
    value_integer: int | None = None


class Coding(Element, frozen=True):
    system: str = ""
    code: str = ""
    display: str = ""
    extension: tuple[Extension, ...] = ()


class CodeableConcept(Element, frozen=True):
    coding: tuple[Coding, ...] = ()
    text: str = ""


class Quantity(Element, frozen=True):
    value: float | None = None
    comparator: str = ""
    unit: str = ""
    system: str = ""
    code: str = ""


class Ratio(Element, frozen=True):
    numerator: Quantity | None = None
    denominator: Quantity | None = None


class Identifier(Element, frozen=True):
    system: str = ""
    value: str = ""


class Reference(Element, frozen=True):
    reference: str = ""
    identifier: Identifier = Identifier()


class Period(Element, frozen=True):
    start: str = ""
    end: str = ""


class Meta(Element, frozen=True):
    version_id: str = ""
    last_updated: str = ""


class Resource(Element, frozen=True):
    """What every resource has."""

    resource_type: str = ""
    id: str = ""
    meta: Meta = Meta()

    @property
    def ref(self) -> str:
        return f"{self.resource_type}/{self.id}"


class PatientLink(Element, frozen=True):
    other: Reference = Reference()
    type: str = ""


class Patient(Resource, frozen=True):
    identifier: tuple[Identifier, ...] = ()
    gender: str = ""
    birth_date: str = ""
    link: tuple[PatientLink, ...] = ()
    deceased_boolean: bool = False
    deceased_date_time: str = ""


class GroupMember(Element, frozen=True):
    entity: Reference = Reference()
    inactive: bool = False
    period: Period = Period()


class Group(Resource, frozen=True):
    identifier: tuple[Identifier, ...] = ()
    member: tuple[GroupMember, ...] = ()


class ResearchStudy(Resource, frozen=True):
    identifier: tuple[Identifier, ...] = ()


class ResearchSubject(Resource, frozen=True):
    status: str = ""
    period: Period = Period()
    study: Reference = Reference()
    individual: Reference = Reference()


class EpisodeOfCare(Resource, frozen=True):
    status: str = ""
    type: tuple[CodeableConcept, ...] = ()
    patient: Reference = Reference()
    period: Period = Period()


class CarePlan(Resource, frozen=True):
    status: str = ""
    category: tuple[CodeableConcept, ...] = ()
    subject: Reference = Reference()
    period: Period = Period()


class Provision(Element, frozen=True):
    type: str = ""
    period: Period = Period()
    purpose: tuple[Coding, ...] = ()
    provision: tuple[Provision, ...] = ()


class Consent(Resource, frozen=True):
    status: str = ""
    scope: CodeableConcept = CodeableConcept()
    patient: Reference = Reference()
    date_time: str = ""
    policy_rule: CodeableConcept = CodeableConcept()
    provision: Provision = Provision()


class Evidence(Element, frozen=True):
    code: tuple[CodeableConcept, ...] = ()


class Condition(Resource, frozen=True):
    clinical_status: CodeableConcept = CodeableConcept()
    verification_status: CodeableConcept = CodeableConcept()
    code: CodeableConcept = CodeableConcept()
    body_site: tuple[CodeableConcept, ...] = ()
    subject: Reference = Reference()
    onset_date_time: str = ""
    onset_period: Period = Period()
    recorded_date: str = ""
    evidence: tuple[Evidence, ...] = ()


class ReferenceRange(Element, frozen=True):
    low: Quantity | None = None
    high: Quantity | None = None


class Component(Element, frozen=True):
    code: CodeableConcept = CodeableConcept()
    value_quantity: Quantity | None = None
    value_integer: int | None = None
    value_codeable_concept: CodeableConcept | None = None
    value_boolean: bool | None = None
    value_string: str | None = None
    data_absent_reason: CodeableConcept | None = None


class Observation(Resource, frozen=True):
    status: str = ""
    code: CodeableConcept = CodeableConcept()
    subject: Reference = Reference()
    effective_date_time: str = ""
    effective_instant: str = ""
    effective_period: Period = Period()
    issued: str = ""
    value_quantity: Quantity | None = None
    value_integer: int | None = None
    value_codeable_concept: CodeableConcept | None = None
    value_boolean: bool | None = None
    value_string: str | None = None
    data_absent_reason: CodeableConcept | None = None
    reference_range: tuple[ReferenceRange, ...] = ()
    component: tuple[Component, ...] = ()
    has_member: tuple[Reference, ...] = ()
    derived_from: tuple[Reference, ...] = ()


class ResponseAnswer(Element, frozen=True):
    value_integer: int | None = None
    value_decimal: float | None = None
    value_coding: Coding | None = None
    value_boolean: bool | None = None
    value_quantity: Quantity | None = None
    value_string: str | None = None
    item: tuple[ResponseItem, ...] = ()


class ResponseItem(Element, frozen=True):
    link_id: str = ""
    definition: str = ""
    answer: tuple[ResponseAnswer, ...] = ()
    item: tuple[ResponseItem, ...] = ()


class QuestionnaireResponse(Resource, frozen=True):
    status: str = ""
    questionnaire: str = ""
    subject: Reference = Reference()
    authored: str = ""
    item: tuple[ResponseItem, ...] = ()


class Ingredient(Element, frozen=True):
    item_codeable_concept: CodeableConcept = CodeableConcept()
    strength: Ratio | None = None


class Medication(Resource, frozen=True):
    status: str = ""
    code: CodeableConcept = CodeableConcept()
    ingredient: tuple[Ingredient, ...] = ()


class Dosage(Element, frozen=True):
    text: str = ""
    site: CodeableConcept = CodeableConcept()
    route: CodeableConcept = CodeableConcept()
    dose: Quantity | None = None
    rate_quantity: Quantity | None = None
    rate_ratio: Ratio | None = None


class MedicationAdministration(Resource, frozen=True):
    status: str = ""
    status_reason: tuple[CodeableConcept, ...] = ()
    medication_codeable_concept: CodeableConcept | None = None
    medication_reference: Reference | None = None
    contained: tuple[dict[str, Any], ...] = ()
    subject: Reference = Reference()
    effective_date_time: str = ""
    effective_period: Period = Period()
    dosage: Dosage = Dosage()


class MedicationRequest(Resource, frozen=True):
    status: str = ""
    status_reason: CodeableConcept = CodeableConcept()
    intent: str = ""
    do_not_perform: bool = False
    medication_codeable_concept: CodeableConcept | None = None
    medication_reference: Reference | None = None
    contained: tuple[dict[str, Any], ...] = ()
    subject: Reference = Reference()
    authored_on: str = ""


class MedicationStatement(Resource, frozen=True):
    status: str = ""
    medication_codeable_concept: CodeableConcept | None = None
    medication_reference: Reference | None = None
    contained: tuple[dict[str, Any], ...] = ()
    subject: Reference = Reference()
    effective_date_time: str = ""
    effective_period: Period = Period()


class SuspectEntity(Element, frozen=True):
    instance: Reference = Reference()


class AdverseEvent(Resource, frozen=True):
    actuality: str = ""
    event: CodeableConcept = CodeableConcept()
    subject: Reference = Reference()
    date: str = ""
    detected: str = ""
    suspect_entity: tuple[SuspectEntity, ...] = ()
    seriousness: CodeableConcept = CodeableConcept()
    severity: CodeableConcept = CodeableConcept()


class Procedure(Resource, frozen=True):
    status: str = ""
    code: CodeableConcept = CodeableConcept()
    subject: Reference = Reference()
    performed_date_time: str = ""
    performed_period: Period = Period()


class Encounter(Resource, frozen=True):
    status: str = ""
    subject: Reference = Reference()
    period: Period = Period()


TYPES: dict[str, type[Resource]] = {
    model.__name__: model
    for model in (
        Patient,
        Group,
        ResearchStudy,
        ResearchSubject,
        EpisodeOfCare,
        CarePlan,
        Consent,
        Condition,
        Observation,
        QuestionnaireResponse,
        Medication,
        MedicationAdministration,
        MedicationRequest,
        MedicationStatement,
        AdverseEvent,
        Procedure,
        Encounter,
    )
}

_DECODERS = {name: msgspec.json.Decoder(model) for name, model in TYPES.items()}


def decode(resource_type: str, raw: bytes) -> Resource:
    """The struct of one resource.

    Raises:
        msgspec.DecodeError: not JSON, or an element of another shape than FHIR's (a ``ValidationError`` is one too).
    """
    return _DECODERS[resource_type].decode(raw)


def id_in(reference: Reference | str, resource_type: str) -> str:
    """The bare id a reference points to, or "" when it points elsewhere. Absolute and versioned forms count too."""
    text = reference if isinstance(reference, str) else reference.reference
    parts = text.split("/_history/")[0].rstrip("/").split("/")
    if len(parts) >= 2 and parts[-2] == resource_type:
        return parts[-1]
    return text.removeprefix("urn:uuid:") if text.startswith("urn:uuid:") else ""
