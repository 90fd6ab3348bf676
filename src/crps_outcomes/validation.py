"""fhir.resources (R4B models) judges whether a resource is valid FHIR; each version is judged once.

A verdict is "" for valid, else its faults, each the path and the rule it breaks. It never holds the value. Faults in
elements that nothing here reads may be tolerated, where the study declares it; what is tolerated is counted.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crps_outcomes.definitions import Tolerance

VALID = ""
BETWEEN = "; "
_TOLD = 20  # faults of one resource that are told; one with more is beyond tolerance
_FORMAT = b"all faults\n"  # verdicts remembered from before all faults were told are not taken for these
_ELEMENT = re.compile(r"^_?[a-zA-Z][a-zA-Z0-9]{0,39}$")


class Verdicts(Protocol):
    """Where verdicts are remembered, by content hash (`state.Verdicts`)."""

    def get_many(self, hashes: Iterable[str]) -> dict[str, str]: ...

    def put_many(self, verdicts: dict[str, str]) -> None: ...


def judge(resource_type: str, raw: bytes) -> str:
    """The verdict of fhir.resources on one resource."""
    try:
        get_fhir_model_class(resource_type).model_validate_json(raw)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        told = [f"{_path(fault['loc'])}: {_rule(fault['type'])}" for fault in faults[:_TOLD]]
        return BETWEEN.join([*told, "more: too many faults"] if len(faults) > _TOLD else told)
    return VALID


def first_refused(resource_type: str, verdict: str, tolerances: Iterable[Tolerance]) -> str:
    """The first fault of a verdict that no tolerance covers, or ""."""
    own = [one.path for one in tolerances if resource_type in one.resource_types]
    faults = verdict.split(BETWEEN) if verdict else []
    return next((fault for fault in faults if not any(covers(path, fault.split(":")[0]) for path in own)), "")


def covers(pattern: str, path: str) -> bool:
    """Whether a declared path covers an element's: "*" is one name or number, "**" at the end everything below."""
    wanted, found = pattern.split("."), path.split(".")
    if wanted[-1] == "**":
        wanted, found = wanted[:-1], found[: len(wanted) - 1]
    return len(wanted) == len(found) and all(one in {"*", two} for one, two in zip(wanted, found, strict=True))


def judge_all(resources: Sequence[tuple[str, bytes]], verdicts: Verdicts) -> list[str]:
    """The verdicts on (type, canonical JSON) pairs, in their order; what was judged before is not judged again."""
    hashes = [sha256(_FORMAT + raw).hexdigest() for _, raw in resources]
    known = verdicts.get_many(hashes)
    fresh = {
        key: judge(resource_type, raw)
        for key, (resource_type, raw) in zip(hashes, resources, strict=True)
        if key not in known
    }
    verdicts.put_many(fresh)
    known |= fresh
    return [known[key] for key in hashes]


def _path(location: tuple[int | str, ...]) -> str:
    # An element name that is not FHIR's comes from the source and could hold anything: it is not repeated.
    parts = (str(part) if isinstance(part, int) or _ELEMENT.match(part) else "?" for part in location)
    return ".".join(parts) or "resource"


def _rule(kind: str) -> str:
    return {
        "model_field_validation.missing": "required element missing",
        "missing": "required element missing",
        "extra_forbidden": "element unknown to FHIR R4B",
        "string_pattern_mismatch": "text does not match FHIR's pattern",
        "value_error": "not a value FHIR allows here",
    }.get(kind, kind.replace("_", " "))
