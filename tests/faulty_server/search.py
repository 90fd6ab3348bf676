"""Search, read and the capability statement, as the REST part of FHIR R4 wants them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx

from faulty_server.answers import Answer, Json, Scene, bundle, issues, match, outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from faulty_server.server import FaultyServer

PARAMETERS: dict[str, tuple[str, ...]] = {
    "Group": ("identifier",), "Patient": ("identifier",), "ResearchStudy": ("identifier",),
    "ResearchSubject": ("study", "patient"), "EpisodeOfCare": ("type", "patient"), "CarePlan": ("category", "patient"),
    **dict.fromkeys(("Condition", "Consent", "Encounter", "MedicationAdministration", "MedicationRequest", "MedicationStatement", "Observation", "Procedure", "QuestionnaireResponse"), ("patient",)),
    "AdverseEvent": (), "Medication": (),
}  # fmt: skip
#: Of paging; turn, a and b mean nothing, and let an address be written in many ways.
CONTROL = ("_count", "_sort", "_total", "_summary", "_cursor", "_offset", "_format", "turn", "a", "b")
_SORTS = ("_lastUpdated", "-_lastUpdated", "_id")
_EARLY = datetime(1, 1, 1, tzinfo=UTC)
Pairs = list[tuple[str, str]]


def metadata(server: FaultyServer, scene: Scene) -> Answer:
    more = ("_lastUpdated",) if server.setting("knows_last_updated") else ()
    listed = [
        {"type": name, "searchParam": [{"name": one} for one in (*own, *more)]}
        for name, own in server.parameters.items()
    ]
    made = {
        "resourceType": "CapabilityStatement",
        "software": {"name": "Faulty", "version": "1"},
        "rest": [{"mode": "server", "resource": listed}],
    }
    return server.faulty(Answer(200, made), scene, "metadata", 1)


def read(server: FaultyServer, scene: Scene, name: str, identity: str) -> Answer:
    found = [one for one in server.stored() if (one["resourceType"], one.get("id")) == (name, identity)]
    status, code = (410, "deleted") if (name, identity) in server.deleted else (404, "not-found")
    answer = Answer(200, found[-1], _etag(found[-1])) if found else outcome(status, code)
    return server.faulty(answer, replace(scene, name=name), "read", 0)


def _etag(one: Json) -> dict[str, str]:
    version = one.get("meta", {}).get("versionId")
    return {"etag": f'W/"{version}"'} if version else {}


def search(server: FaultyServer, scene: Scene, name: str) -> Answer:
    """One page, by GET or by POST to ``_search``; an unknown parameter is refused under strict handling, else ignored."""
    if not any(one["resourceType"] == name for one in server.stored()) and name not in server.parameters:
        return outcome(404, "not-supported")
    pairs = _pairs(scene)
    known = _known(server, name)
    unknown = [key for key, _ in pairs if key not in known]
    if unknown and "handling=strict" in scene.request.headers.get("prefer", ""):
        return server.faulty(outcome(400, "not-supported"), _placed(scene, name, pairs), "page", 1)
    pairs = [(key, value) for key, value in pairs if key in known]
    scene = _placed(scene, name, pairs)
    if dict(pairs).get("_summary") == "count" or dict(pairs).get("_count") == "0":
        counted = bundle(len(distinct(matching(server, name, pairs))), [], [_link("self", _address(scene, pairs))])
        return server.faulty(Answer(200, counted), scene, "count", 0)
    return _page(server, scene, pairs, [_ignored(key) for key in unknown])


def _pairs(scene: Scene) -> Pairs:
    form = scene.request.content.decode() if scene.request.method == "POST" else ""
    return [*scene.url.params.multi_items(), *httpx.QueryParams(form).multi_items()]


def _known(server: FaultyServer, name: str) -> set[str]:
    updated = ("_lastUpdated",) if server.setting("knows_last_updated") else ()
    return {*CONTROL, "_id", *updated, *server.parameters.get(name, ())}


def _placed(scene: Scene, name: str, pairs: Pairs) -> Scene:
    values = next((tuple(v.split(",")) for k, v in pairs if k not in {*CONTROL, "_lastUpdated"}), ())
    return replace(scene, name=name, values=values)


def _page(server: FaultyServer, scene: Scene, pairs: Pairs, notes: Sequence[Json]) -> Answer:
    asked = dict(pairs)
    if not asked.get("_count", "1").isdigit() or asked.get("_sort", "_id") not in _SORTS:
        return outcome(400, "invalid")
    if "_cursor" in asked:
        found, start, size = server.cursors[int(asked["_cursor"])]
    else:
        size = min(int(asked.get("_count", "20")), server.setting("biggest_page"))
        found, start = matching(server, scene.name, pairs), int(asked.get("_offset", "0"))
    self_address = _address(scene, pairs) if notes or scene.request.method == "POST" else str(scene.url)
    links = [_link("self", self_address)]
    if start + size < len(found):
        links.append(_link("next", _next(server, scene, pairs, (found, start + size, size))))
    total = None if asked.get("_total") == "none" else len(distinct(found))
    page = bundle(total, [*map(match, found[start : start + size]), *notes], links)
    return server.faulty(Answer(200, page), scene, "page", start // size + 1)


def _next(server: FaultyServer, scene: Scene, pairs: Pairs, cursor: tuple[list[Json], int, int]) -> str:
    """By offset a new search of what is there then; by cursor the rest of what is there now."""
    if server.setting("paging") == "offset":
        kept = [(key, value) for key, value in pairs if key != "_offset"]
        return _address(scene, [*kept, ("_offset", str(cursor[1]))])
    return f"{scene.base}/{scene.name}?_cursor={server.remember(cursor)}"


def _address(scene: Scene, pairs: Pairs) -> str:
    return str(httpx.URL(f"{scene.base}/{scene.name}", params=httpx.QueryParams(pairs)))


def _link(relation: str, url: str) -> Json:
    return {"relation": relation, "url": url}


def _ignored(parameter: str) -> Json:
    return {"resource": issues("not-supported", "warning", f"{parameter} is ignored"), "search": {"mode": "outcome"}}


def distinct(resources: Sequence[Json]) -> set[tuple[str, str]]:
    return {(one["resourceType"], one.get("id", f"none {place}")) for place, one in enumerate(resources)}


def matching(server: FaultyServer, name: str, pairs: Pairs) -> list[Json]:
    found = [one for one in server.stored() if one["resourceType"] == name]
    for parameter, text in pairs:
        if parameter == "_lastUpdated":
            found = [one for one in found if _is_within(one, text)]
        elif parameter not in CONTROL:
            found = [one for one in found if set(text.split(",")) & set(FINDS[parameter](one))]
    order = dict(pairs).get("_sort", "")
    if order.endswith("_lastUpdated"):
        return sorted(found, key=updated, reverse=order.startswith("-"))
    return sorted(found, key=lambda one: one.get("id", "")) if order else found


def updated(one: Json) -> datetime:
    return instant(one.get("meta", {}).get("lastUpdated", "")) or _EARLY


def instant(text: str) -> datetime | None:
    """A FHIR instant or date, as a moment; a day without a zone is taken in UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


_COMPARES: Mapping[str, Callable[[datetime, datetime], bool]] = {
    "ge": lambda one, limit: one >= limit, "gt": lambda one, limit: one > limit,
    "le": lambda one, limit: one <= limit, "lt": lambda one, limit: one < limit,
}  # fmt: skip


def _is_within(one: Json, text: str) -> bool:
    compare, limit = _COMPARES.get(text[:2]), instant(text[2:])
    return compare is not None and limit is not None and compare(updated(one), limit)


def patients_of(one: Json) -> Iterator[str]:
    """Ids of the Patients a resource is about: its own, or those it refers to."""
    if one["resourceType"] == "Patient":
        yield one.get("id", "")
    for name in ("subject", "patient", "individual"):
        reference = one.get(name, {}).get("reference", "")
        if reference.startswith("Patient/"):
            yield reference.removeprefix("Patient/")


def _codings(name: str) -> Callable[[Json], list[str]]:
    return lambda one: [f"{c['system']}|{c['code']}" for t in one.get(name, ()) for c in t["coding"]]


#: search parameter -> the values a resource is found by
FINDS: Mapping[str, Callable[[Json], Any]] = {
    "_id": lambda one: [one.get("id", "")],
    "patient": lambda one: [form for each in patients_of(one) for form in (each, f"Patient/{each}")],
    "subject": lambda one: [one.get("subject", {}).get("reference", "")],
    "identifier": lambda one: [f"{i.get('system', '')}|{i['value']}" for i in one.get("identifier", ())],
    "study": lambda one: [one.get("study", {}).get("reference", "")],
    "type": _codings("type"),
    "category": _codings("category"),
}
