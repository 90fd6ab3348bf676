"""What can be wrong with one resource: each function takes a copy of a good one and returns it spoiled or unusual."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from crps_outcomes.synthetic import fhir_resources as fhir

if TYPE_CHECKING:
    from collections.abc import Callable

    from crps_outcomes.synthetic.fhir_resources import Json

VALUES = ("valueQuantity", "valueInteger", "valueCodeableConcept", "valueString")
DATES = ("effectiveDateTime", "effectiveInstant", "effectivePeriod", "issued", "authored")
ABROAD = ZoneInfo("Africa/Lagos")  # +01:00 all year
SERVER = "https://fhir.example.org/r4"
POUNDS_PER_KG = 1 / 0.45359237
GLUTEUS = {"system": "http://snomed.info/sct", "code": "206007"}  # a body site, seen as a route in an HL7 example


def without(resource: Json, *names: str) -> Json:
    return {name: value for name, value in resource.items() if name not in names}


def with_status(status: str) -> Callable[[Json], Json]:
    """The resource under another status."""
    return lambda resource: resource | {"status": status}


def number_of(resource: Json) -> float:
    """The number an Observation holds."""
    return float(resource["valueInteger"] if "valueInteger" in resource else resource["valueQuantity"]["value"])


def with_number(resource: Json, value: float) -> Json:
    """The same Observation with another number in the same kind of value[x]."""
    if "valueInteger" in resource:
        return resource | {"valueInteger": int(value)}
    return resource | {"valueQuantity": resource["valueQuantity"] | {"value": fhir.number(value)}}


def reading(value: float) -> Callable[[Json], Json]:
    """The Observation with a fixed number instead of its own."""
    return lambda resource: with_number(resource, value)


# --- dates --------------------------------------------------------------------------------------------------------


def _when(resource: Json) -> tuple[str, str]:
    name = next(name for name in ("effectiveDateTime", "authored") if name in resource)
    return name, resource[name]


def dated(change: Callable[[str], str]) -> Callable[[Json], Json]:
    """The resource with its date text changed."""

    def spoil(resource: Json) -> Json:
        name, text = _when(resource)
        return resource | {name: change(text)}

    return spoil


def no_zone(text: str) -> str:
    return text[:19]


def month_only(text: str) -> str:
    return text[:7]


def day_only(text: str) -> str:
    return text[:10]


def far_future(text: str) -> str:
    """Two digits of the year swapped: 2026 becomes 2062."""
    return f"20{text[3]}{text[2]}{text[4:]}" if text[2] != text[3] else f"2062{text[4:]}"


def in_utc(text: str) -> str:
    return fhir.in_utc(datetime.fromisoformat(text))


def abroad(text: str) -> str:
    return fhir.written(datetime.fromisoformat(text).astimezone(ABROAD))


def no_date(resource: Json) -> Json:
    return without(resource, *DATES)


def as_instant(resource: Json) -> Json:
    return without(resource, *DATES) | {"effectiveInstant": _when(resource)[1]}


def as_issued(resource: Json) -> Json:
    return without(resource, *DATES) | {"issued": _when(resource)[1]}


def as_period(resource: Json) -> Json:
    """The ten minutes that filling it in took."""
    start = _when(resource)[1]
    end = fhir.written(datetime.fromisoformat(start) + timedelta(minutes=10))
    return without(resource, *DATES) | {"effectivePeriod": {"start": start, "end": end}}


# --- values and codes ---------------------------------------------------------------------------------------------


def absent(resource: Json) -> Json:
    return without(resource, *VALUES) | {"dataAbsentReason": fhir.hl7("data-absent-reason", "asked-declined")}


def no_value(resource: Json) -> Json:
    return without(resource, *VALUES)


def as_text(resource: Json) -> Json:
    """Seven of ten, as a sentence fragment."""
    return without(resource, *VALUES) | {"valueString": f"{number_of(resource):g}/10"}


def in_millimetres(resource: Json) -> Json:
    """A rating called a length, as if it came from a paper line."""
    return without(resource, *VALUES) | {"valueQuantity": fhir.quantity(number_of(resource), "mm")}


def below_detection(resource: Json) -> Json:
    return resource | {"valueQuantity": resource["valueQuantity"] | {"value": 7, "comparator": "<"}}


def in_pounds(resource: Json) -> Json:
    pounds = round(number_of(resource) * POUNDS_PER_KG, 1)
    return resource | {"valueQuantity": fhir.quantity(pounds, "[lb_av]")}


def in_lbs(resource: Json) -> Json:
    """A unit in words that UCUM does not know, and no code."""
    pounds = round(number_of(resource) * POUNDS_PER_KG, 1)
    return resource | {"valueQuantity": {"value": fhir.number(pounds), "unit": "lbs"}}


def local_code(resource: Json) -> Json:
    return resource | {"code": fhir.local("local", "SCORE-42") | {"text": "Score of the day"}}


def local_code_first(resource: Json) -> Json:
    own = fhir.local("local", "SCORE-7")["coding"]
    return resource | {"code": resource["code"] | {"coding": [*own, *resource["code"]["coding"]]}}


def unknown_answer(resource: Json) -> Json:
    return resource | {"valueCodeableConcept": {"text": "A bit better on good days"}}


def reversed_answer(resource: Json) -> Json:
    """The right words beside the number of the opposite coding (7 = very much improved)."""
    answer = resource["valueCodeableConcept"]
    coding = answer["coding"][0]
    turned = coding | {"code": str(8 - int(coding["code"]))}
    return resource | {"valueCodeableConcept": answer | {"coding": [turned]}}


def two_first_components(resource: Json) -> Json:
    first = resource["component"][0]
    again = first | {"valueQuantity": first["valueQuantity"] | {"value": first["valueQuantity"]["value"] + 12}}
    return resource | {"component": [*resource["component"], again]}


def item_missing(resource: Json) -> Json:
    """One question is gone from the questionnaire, the third one."""
    items = resource["item"]
    if "item" in items[0]:
        return resource | {"item": [items[0] | {"item": _without_third(items[0]["item"])}]}
    return resource | {"item": _without_third(items)}


def _without_third(items: list[Json]) -> list[Json]:
    return [*items[:2], *items[3:]]


# --- whose it is --------------------------------------------------------------------------------------------------


def no_subject(resource: Json) -> Json:
    return without(resource, "subject")


def absolute_subject(resource: Json) -> Json:
    return resource | {"subject": {"reference": f"{SERVER}/{resource['subject']['reference']}"}}


def versioned_subject(resource: Json) -> Json:
    return resource | {"subject": {"reference": f"{resource['subject']['reference']}/_history/1"}}


# --- doses --------------------------------------------------------------------------------------------------------


def dose(quantity: Json | None) -> Callable[[Json], Json]:
    """The administration with another dose element, or none."""

    def spoil(resource: Json) -> Json:
        dosage = without(resource["dosage"], "dose")
        return resource | {"dosage": dosage | ({"dose": quantity} if quantity is not None else {})}

    return spoil


def no_route(resource: Json) -> Json:
    return resource | {"dosage": without(resource["dosage"], "route", "site")}


def muscle_instead_of_route(resource: Json) -> Json:
    site = {"site": {"text": "right deltoid muscle"}}
    return resource | {"dosage": without(resource["dosage"], "route") | site}


def body_site_as_route(resource: Json) -> Json:
    return resource | {"dosage": resource["dosage"] | {"route": {"coding": [GLUTEUS]}}}
