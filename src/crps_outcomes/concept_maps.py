"""A site's own codes: FHIR ConceptMap and ValueSet files in mappings/concept-maps/, each judged by fhir.resources.

A ConceptMap says which code of the study a site's code is equal or equivalent to. A ValueSet lists codes a site uses for
one measure; its ``name`` is the measure's id. What is only wider, narrower or related is no translation and is not
followed. Every mistake names file and element.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crps_outcomes.validation import judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from crps_outcomes.definitions import ListedCode, Measure

Key = tuple[str, str]
FOLDER = "mappings/concept-maps"
FOLLOWED = frozenset({"equal", "equivalent"})
_READERS = ("ConceptMap", "ValueSet")


def read_maps(
    root: Path,
    measures: Mapping[str, Measure],
    codelists: Mapping[str, tuple[ListedCode, ...]],
    mistakes: list[str],
) -> dict[Key, tuple[Key, ...]]:
    """A site's code -> the codes of the study it stands for, from all files of the folder; mistakes are appended."""
    known = known_codes(measures, codelists)
    found: dict[Key, tuple[Key, ...]] = {}
    for path in sorted((root / FOLDER).glob("*.json")):
        name = path.relative_to(root).as_posix()
        for where, own, target in _pairs(name, path.read_bytes(), measures, mistakes):
            if own in known:
                mistakes.append(f"{name}: {where}: {own[0]}|{own[1]} already has a meaning in the study")
            elif target not in known:
                mistakes.append(f"{name}: {where}: no measure, answer or codelist knows {target[0]}|{target[1]}")
            else:
                found[own] = tuple(dict.fromkeys((*found.get(own, ()), target)))
    return found


def known_codes(measures: Mapping[str, Measure], codelists: Mapping[str, tuple[ListedCode, ...]]) -> set[Key]:
    """Every code the study gives a meaning: of measures, components, panels, items, and of codelists."""
    own = [code for measure in measures.values() for code in _codes_of(measure)]
    listed = [code for rows in codelists.values() for code in rows]
    answers = {
        (system, code)
        for measure in measures.values()
        for answer in measure.answers
        for code in answer.codes
        for system in ("http://loinc.org", "http://snomed.info/sct")
    }
    return {(code.system, code.code) for code in (*own, *listed)} | answers


def _codes_of(measure: Measure) -> Iterator[Any]:
    for source in measure.sources:
        yield from (*source.codes, *source.component)
    yield from (*measure.items.panels, *measure.items.codes)


def _pairs(
    name: str, raw: bytes, measures: Mapping[str, Measure], mistakes: list[str]
) -> Iterator[tuple[str, Key, Key]]:
    """(element, the site's code, the study's code) of one file."""
    try:
        content = json.loads(raw)
        kind = str(content["resourceType"])
    except (ValueError, KeyError, TypeError):
        mistakes.append(f"{name}: not a FHIR resource as JSON")
        return
    if kind not in _READERS:
        mistakes.append(f"{name}: resourceType: a {' or '.join(_READERS)} is wanted")
    elif verdict := judge(kind, raw):
        mistakes.append(f"{name}: {verdict}")
    elif kind == "ConceptMap":
        yield from _mapped(name, content, mistakes)
    else:
        yield from _listed(name, content, measures, mistakes)


def _mapped(name: str, content: Any, mistakes: list[str]) -> Iterator[tuple[str, Key, Key]]:
    for g, group in enumerate(content.get("group", [])):
        if not (group.get("source") and group.get("target")):
            mistakes.append(f"{name}: group.{g}: source and target, the two code systems, are needed")
            continue
        for e, element in enumerate(group.get("element", [])):
            for t, target in enumerate(element.get("target", [])):
                if target.get("equivalence") in FOLLOWED:
                    where = f"group.{g}.element.{e}.target.{t}"
                    yield where, (group["source"], element.get("code", "")), (group["target"], target.get("code", ""))


def _listed(
    name: str, content: Any, measures: Mapping[str, Measure], mistakes: list[str]
) -> Iterator[tuple[str, Key, Key]]:
    measure = measures.get(str(content.get("name", "")))
    if measure is None or not measure.sources:
        mistakes.append(f"{name}: name: it should be the id of the measure whose value these codes carry")
        return
    first = measure.sources[0].codes[0]
    for i, include in enumerate(content.get("compose", {}).get("include", [])):
        if not include.get("concept"):
            mistakes.append(f"{name}: compose.include.{i}: codes are to be listed one by one under concept")
        for c, concept in enumerate(include.get("concept", [])):
            where = f"compose.include.{i}.concept.{c}"
            yield where, (include.get("system", ""), concept["code"]), (first.system, first.code)
