"""A measure of the catalogue as a FHIR R4 Measure resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crps_outcomes.definitions import Measure

TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
BASE = "https://example.org/crps-outcomes/Measure"


def as_resource(measure: Measure) -> dict[str, Any]:
    """The Measure resource: what it measures, which way is better, where its values stand, and its licence and sources."""
    resource: dict[str, Any] = {
        "resourceType": "Measure",
        "id": measure.id.replace("_", "-"),
        "url": f"{BASE}/{measure.id.replace('_', '-')}",
        "name": "".join(part.capitalize() for part in measure.id.split("_")),
        "title": measure.title,
        "status": "active",
        "experimental": True,
        "description": _description(measure),
        "copyright": measure.licence,
        "topic": [{"text": text} for text in dict.fromkeys((measure.domain, measure.compact, measure.immpact)) if text],
        "scoring": _concept("measure-scoring", "continuous-variable"),
        "type": [_concept("measure-type", "outcome")],
        "relatedArtifact": _artifacts(measure),
        "improvementNotation": _improvement(measure),
        "definition": [f"Missing: {measure.missing_rule}"],
        "group": [_group(measure)],
    }
    return {name: value for name, value in resource.items() if value}


def _description(measure: Measure) -> str:
    low, high = measure.range
    return (
        f"{measure.title}. {low:g} to {high:g} in {measure.unit}. Recall: {measure.recall}. "
        f"Scored by: {measure.score.method.replace('_', ' ')}."
    )


def _artifacts(measure: Measure) -> list[dict[str, str]]:
    cited = [(one.text, one.state) for one in measure.citations]
    cited += [(f"{one.value:g} ({one.kind}): {one.source}", one.state) for one in measure.thresholds]
    return [{"type": "citation", "citation": f"{text} [{state}]"} for text, state in cited]


def _improvement(measure: Measure) -> dict[str, Any]:
    notation = {"lower": "decrease", "higher": "increase"}.get(measure.direction)
    return _concept("measure-improvement-notation", notation) if notation else {}


def _group(measure: Measure) -> dict[str, Any]:
    """Where the values stand, as the searches that find them."""
    codes = [f"{code.system}|{code.code}" for source in measure.sources for code in source.codes]
    forms = [form.questionnaire for form in measure.questionnaires]
    searches = [f"Observation?code={','.join(codes)}"] if codes else []
    searches += [f"QuestionnaireResponse?questionnaire={','.join(forms)}"] if forms else []
    searches = searches or [f"Made of {', '.join((*measure.score.inputs, *measure.items.only))}"]
    return {
        "description": measure.short,
        "population": [
            {
                "code": _concept("measure-population", "measure-population"),
                "criteria": {
                    "language": "text/x-fhir-query" if "?" in search else "text/plain",
                    "expression": search,
                },
            }
            for search in searches
        ],
    }


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": f"{TERMINOLOGY}/{system}", "code": code}]}
