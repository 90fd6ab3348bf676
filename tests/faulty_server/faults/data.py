"""Faults of the data themselves: F25 to F30, F44 and F46."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from faulty_server.answers import Answer, Inject, Json, Row, Scene
from faulty_server.faults.variant import Rows, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FAR = "2199-01-01T00:00:00Z"
_GROUP = "Group"


def _first_is_gone(resources: Sequence[Json], inject: Inject) -> Sequence[Json]:
    """The first resource of the type was deleted, and nothing says so."""
    gone = next((one.get("id") for one in resources if one["resourceType"] == inject.resource_type), None)
    return [one for one in resources if (one["resourceType"], one.get("id")) != (inject.resource_type, gone)]


def _none_of_the_type(resources: Sequence[Json], inject: Inject) -> Sequence[Json]:
    return [one for one in resources if one["resourceType"] != inject.resource_type]


def _each(change: Callable[[Json], Json]) -> Rows:
    return lambda rows, _: [change(row) if isinstance(row, dict) else row for row in rows]


def _first(change: Callable[[Json], Row]) -> Rows:
    return lambda rows, _: [
        change(row) if not place and isinstance(row, dict) else row for place, row in enumerate(rows)
    ]


def _dated(stamp: str) -> Callable[[Json], Json]:
    return lambda one: one | {"meta": one.get("meta", {}) | {"lastUpdated": stamp}}


def _late_clock(answer: Answer, scene: Scene) -> Answer:
    early = format_datetime(scene.server.now() - timedelta(seconds=scene.option), usegmt=True)
    return Answer(answer.status, answer.body, {**answer.headers, "date": early})


def _more_members(*members: Json) -> Rows:
    return _each(lambda one: one | {"member": [*one.get("member", ()), *members]})


def _refers(write: Callable[[str], Json]) -> Rows:
    """The subject or patient of each resource, written in another way."""

    def change(one: Json) -> Json:
        for name in ("subject", "patient", "individual"):
            if reference := one.get(name, {}).get("reference"):
                more = (
                    {"contained": [{"resourceType": "Patient", "id": "p"}]}
                    if write(reference) == {"reference": "#p"}
                    else {}
                )
                return one | {name: write(reference)} | more
        return one

    return _each(change)


def _logical(reference: str) -> Json:
    return {"type": "Patient", "identifier": {"system": "urn:ids", "value": reference.rpartition("/")[2]}}


def _without(*names: str) -> Callable[[Json], Json]:
    return lambda one: {key: value for key, value in one.items() if key not in names}


def _stranger(rows: list[Row], scene: Any) -> list[Row]:
    """One more resource, of somebody who is not in the cohort."""
    name = getattr(scene, "name", "") or scene.resource_type
    own = {} if name == "Patient" else {"status": "final", "subject": {"reference": "Patient/of-nowhere"}}
    return [*rows, {"resourceType": name, "id": "of-nowhere", "meta": {"lastUpdated": "2026-02-01T10:00:00Z"}, **own}]


_BOTH = ("page", "lines")
DATA = (
    Variant("F25", "a resource was deleted, and nothing says so", ("data",), data=_first_is_gone),
    Variant("F26", "lastUpdated lies in the far future", _BOTH, rows=_first(_dated(_FAR))),
    Variant("F26 undated", "resources have no lastUpdated", _BOTH, rows=_each(_without("meta"))),
    Variant("F26 no search", "the server cannot search by _lastUpdated", ("metadata",), settings={"knows_last_updated": False}),
    Variant("F26 clock", "the server's clock is late (option: seconds)", ("metadata", "page"), _late_clock, page=0, option=3600),
    Variant("F27", "the Group has an inactive, an ended and a dangling member", _BOTH, page=1, resource_type=_GROUP, rows=_more_members(
        {"entity": {"reference": "Patient/f27-inactive"}, "inactive": True},
        {"entity": {"reference": "Patient/f27-ended"}, "period": {"end": "2020-01-01"}},
        {"entity": {"reference": "Patient/f27-dangling"}},
    )),
    Variant("F27 urn", "a member of the Group is a urn:uuid", _BOTH, page=1, resource_type=_GROUP, rows=_more_members(
        {"entity": {"reference": "urn:uuid:8c5ad3c8-8e2f-4a9c-9d3e-27f27f27f27f"}},
    )),
    Variant("F28", "references are absolute", _BOTH, rows=_refers(lambda one: {"reference": f"https://ehr.invalid/r4/{one}"})),
    Variant("F28 versioned", "references name a version", _BOTH, rows=_refers(lambda one: {"reference": f"{one}/_history/1"})),
    Variant("F28 urn", "references are urn:uuid", _BOTH,
            rows=_refers(lambda _: {"reference": "urn:uuid:8c5ad3c8-8e2f-4a9c-9d3e-28f28f28f28f"})),
    Variant("F28 logical", "references are identifiers", _BOTH, rows=_refers(_logical)),
    Variant("F28 contained", "references point into the resource", _BOTH, rows=_refers(lambda _: {"reference": "#p"})),
    Variant("F29", "the Group is empty", _BOTH, page=1, resource_type=_GROUP, rows=_each(_without("member"))),
    Variant("F29 unknown", "there is no Group", ("data",), data=_none_of_the_type, resource_type=_GROUP),
    Variant("F30", "a resource has no id", _BOTH, rows=_first(_without("id"))),
    Variant("F30 type", "a value is of another type than FHIR wants", _BOTH, rows=_first(lambda one: one | {"status": {"x": [1]}})),
    Variant("F44", "_since leaves out older data of new members of the Group", ("kickoff",), settings={"whole_new_members": False}),
    Variant("F46", "a resource of somebody outside the cohort", ("lines",), rows=_stranger),
)  # fmt: skip
