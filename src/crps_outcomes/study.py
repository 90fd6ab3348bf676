"""The study folder: found, read, checked as a whole, and given a digest.

The folder holds what a clinician owns: ``mappings/``, ``templates/`` and ``reports/``. A mistake in it is a
`DefinitionError` that names file, key and, where it can be told, line; all mistakes are reported at once.
"""

from __future__ import annotations

import csv
import hashlib
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from crps_outcomes.definitions import Definition, ListedCode, Measure, Protocol, ReportDefinition
from crps_outcomes.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The "system" of codelist rows whose code is a word to look for in texts, where no code of the record is listed.
WORDS = "words"
CARD = ("flows", "mappings", "templates", "reports")
Model = TypeVar("Model", bound=Definition)


@dataclass(frozen=True)
class Study:
    """Everything the study folder declares, checked. ``digest`` changes when any byte of the card changes."""

    root: Path
    protocol: Protocol
    measures: Mapping[str, Measure]
    codelists: Mapping[str, tuple[ListedCode, ...]]
    reports: Mapping[str, ReportDefinition]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and bytes of all files of the card, in sorted order."""
        return digest_of(self.root)

    def measure(self, measure_id: str) -> Measure:
        return self.measures[measure_id]

    def group_of(self, codelist: str, system: str, code: str) -> str | None:
        """The group a code stands for in a codelist, or None. Codes match exactly."""
        return self._groups(codelist).get((system, code))

    def groups_said(self, codelist: str, text: str) -> frozenset[str]:
        """The groups of the codelist's words (its rows of system "words") that the text says, whole words only."""
        return frozenset(group for pattern, group in self._words_of(codelist) if pattern.search(text))

    def _words_of(self, codelist: str) -> tuple[tuple[re.Pattern[str], str], ...]:
        return self._by_words.setdefault(codelist, tuple(
            (re.compile(rf"\b{re.escape(row.code)}\b", re.IGNORECASE), row.group)
            for row in self.codelists[codelist] if row.system == WORDS
        ))  # fmt: skip

    def _groups(self, codelist: str) -> dict[tuple[str, str], str]:
        return self._by_code.setdefault(
            codelist, {(row.system, row.code): row.group for row in self.codelists[codelist]}
        )

    @cached_property
    def _by_words(self) -> dict[str, tuple[tuple[re.Pattern[str], str], ...]]:
        return {}

    @cached_property
    def _by_code(self) -> dict[str, dict[tuple[str, str], str]]:
        return {}


def locate(asked: Path | None = None) -> Path:
    """The study folder: the one asked for, else the checkout this package runs from, else the wheel's copy.

    Raises:
        DefinitionError: the folder asked for has no mappings/protocol.toml.
    """
    if asked is not None:
        if not (asked / "mappings" / "protocol.toml").is_file():
            raise DefinitionError(f"{asked}: not a study folder; it should hold mappings/protocol.toml")
        return asked.resolve()
    package = Path(__file__).resolve().parent
    checkout = package.parents[1]
    if (checkout / "mappings" / "protocol.toml").is_file():
        return checkout
    return package / "card"


def load(root: Path) -> Study:
    """The study in ``root``.

    Raises:
        DefinitionError: one message that lists every mistake found, each with file, key and line.
    """
    mistakes: list[str] = []
    protocol = _read(root, Path("mappings/protocol.toml"), Protocol, mistakes)
    measures = _read_all(root, "mappings/measures", Measure, mistakes)
    reports = _read_all(root, "reports", ReportDefinition, mistakes)
    codelists = dict(_codelists(root, mistakes))
    if protocol is None or mistakes:
        raise DefinitionError("\n".join(mistakes))
    study = Study(root, protocol, measures, codelists, reports)
    mistakes.extend(_cross_check(study))
    if mistakes:
        raise DefinitionError("\n".join(mistakes))
    return study


def digest_of(root: Path) -> str:
    """SHA-256 of the card: relative names and contents of all its files, sorted; caches and editor files left out."""
    total = hashlib.sha256()
    for path in _card_files(root):
        total.update(path.relative_to(root).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _card_files(root: Path) -> list[Path]:
    files = (path for folder in CARD for path in (root / folder).rglob("*") if path.is_file())
    return sorted(path for path in files if "__pycache__" not in path.parts and not path.name.startswith("."))


def _read_all(root: Path, folder: str, model: type[Model], mistakes: list[str]) -> dict[str, Model]:
    found: dict[str, Model] = {}
    for path in sorted((root / folder).glob("*.toml")):
        name = path.relative_to(root)
        item = _read(root, name, model, mistakes)
        if item is None:
            continue
        identity = getattr(item, "id")  # noqa: B009 - Definition itself has no id, these models have
        if identity != path.stem:
            mistakes.append(f'{name}: id is "{identity}"; it should be "{path.stem}", the name of the file')
        found[path.stem] = item
    return found


def _read(root: Path, name: Path, model: type[Model], mistakes: list[str]) -> Model | None:
    try:
        text = (root / name).read_text(encoding="utf-8")
        return model.model_validate(tomllib.loads(text))
    except FileNotFoundError:
        mistakes.append(f"{name}: file not found")
    except tomllib.TOMLDecodeError as error:
        mistakes.append(f"{name}: not valid TOML: {error}")
    except ValidationError as error:
        mistakes.extend(_explain(name, text, error))
    return None


def _explain(name: Path, text: str, error: ValidationError) -> Iterator[str]:
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        key = ".".join(str(part) for part in item["loc"]) or "file"
        line = _line_of(text, item["loc"])
        yield f"{name}{f':{line}' if line else ''}: {key}: {item['msg'].removeprefix('Value error, ')}"


def _line_of(text: str, loc: tuple[int | str, ...]) -> int | None:
    """The first line that sets the innermost named key; good enough to jump to."""
    names = [part for part in loc if isinstance(part, str)]
    for name in reversed(names):
        for number, line in enumerate(text.splitlines(), 1):
            if line.lstrip(" [").startswith(name):
                return number
    return None


def _codelists(root: Path, mistakes: list[str]) -> Iterator[tuple[str, tuple[ListedCode, ...]]]:
    for path in sorted((root / "mappings" / "codelists").glob("*.csv")):
        name = path.relative_to(root)
        rows: list[ListedCode] = []
        with path.open(encoding="utf-8", newline="") as lines:
            for number, row in enumerate(csv.DictReader(lines), 2):
                try:
                    rows.append(ListedCode.model_validate(row))
                except ValidationError as error:
                    mistakes.extend(
                        f"{name}:{number}: {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
                    )
        doubles = {
            key for key in ((r.system, r.code) for r in rows) if sum((r.system, r.code) == key for r in rows) > 1
        }
        mistakes.extend(f"{name}: {system}|{code} is listed twice" for system, code in sorted(doubles))
        yield path.stem, tuple(rows)


def _cross_check(study: Study) -> Iterator[str]:
    protocol, plan, safety = study.protocol, study.protocol.outcomes, study.protocol.safety
    wanted = {
        "outcomes.primary": (plan.primary,),
        "outcomes.function": (plan.function,),
        "outcomes.secondary": plan.secondary,
        "outcomes.global_change": (plan.global_change,),
        "safety.systolic": (safety.systolic,),
        "safety.diastolic": (safety.diastolic,),
        "safety.oxygen_saturation": (safety.oxygen_saturation,),
        "safety.liver": safety.liver,
        "safety.dissociation": (safety.dissociation,) if safety.dissociation else (),
        "safety.sedation": (safety.sedation,) if safety.sedation else (),
        "safety.bilirubin": (safety.bilirubin,) if safety.bilirubin else (),
        "safety.alkaline_phosphatase": (safety.alkaline_phosphatase,) if safety.alkaline_phosphatase else (),
        "safety.signals": tuple(signal.measure for signal in safety.signals),
        "exposure.weight_measure": (protocol.exposure.weight_measure,),
    }
    for key, names in wanted.items():
        for name in names:
            if name not in study.measures:
                yield f'mappings/protocol.toml: {key}: no measure "{name}"; there are {", ".join(sorted(study.measures))}'
    lists = {
        "condition_codelist": protocol.condition_codelist,
        "exposure.drug_codelist": protocol.exposure.drug_codelist,
        "exposure.excluded_drug_codelist": protocol.exposure.excluded_drug_codelist,
        "exposure.route_codelist": protocol.exposure.route_codelist,
        "context.site_codelist": protocol.context.site_codelist,
        "context.feature_codelist": protocol.context.feature_codelist,
        "context.medicine_codelist": protocol.context.medicine_codelist,
        "context.procedure_codelist": protocol.context.procedure_codelist,
        "safety.event_codelist": protocol.safety.event_codelist,
        "exposure.strength_codelist": protocol.exposure.strength_codelist,
        "exposure.muscle_codelist": protocol.exposure.muscle_codelist,
    }
    for key, name in lists.items():
        if name not in study.codelists:
            yield f"mappings/protocol.toml: {key}: no file mappings/codelists/{name}.csv"
    yield from _shared_codes(study)


def _shared_codes(study: Study) -> Iterator[str]:
    owners: dict[tuple[str, str, str, str], str] = {}
    for measure in study.measures.values():
        for source in measure.sources:
            for code in source.codes:
                for part in source.component or (None,):
                    key = (code.system, code.code, part.system if part else "", part.code if part else "")
                    owner = owners.setdefault(key, measure.id)
                    if owner != measure.id:
                        yield f"mappings/measures/{measure.id}.toml: {code.system}|{code.code} also belongs to {owner}"
