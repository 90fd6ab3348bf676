"""The study folder: found, read, checked as a whole, and given a digest.

The folder holds what a clinician owns: ``mappings/``, ``templates/`` and ``reports/``. A mistake in it is a
`DefinitionError` that names file, key and, where it can be told, line; all mistakes are reported at once.
"""

from __future__ import annotations

import csv
import hashlib
import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from crps_outcomes.declaration import Definition
from crps_outcomes.definitions import (
    COMBINING,
    ChecklistItem,
    CodeTrap,
    ListedCode,
    Measure,
    Protocol,
    ReportDefinition,
    TableRow,
    Tolerance,
    Tolerances,
)
from crps_outcomes.errors import DefinitionError
from crps_outcomes.evidence import Evidence, PublishedDose, PublishedStudy, Untreated, mistakes_in
from crps_outcomes.plan_checks import plan_mistakes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crps_outcomes.resources import CodeableConcept

Key = tuple[str, str]  # system and code
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
    tables: Mapping[str, Mapping[tuple[str, float], float]] = field(default_factory=dict)  # (item, level) -> value
    traps: Mapping[Key, CodeTrap] = field(default_factory=dict)
    maps: Mapping[Key, tuple[Key, ...]] = field(default_factory=dict)  # a site's code -> codes of the study
    tolerances: tuple[Tolerance, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)
    checklists: Mapping[str, tuple[ChecklistItem, ...]] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and bytes of all files of the card, in sorted order."""
        return digest_of(self.root)

    def measure(self, measure_id: str) -> Measure:
        return self.measures[measure_id]

    def group_of(self, codelist: str, system: str, code: str) -> str | None:
        """The group a code stands for in a codelist, or None. Codes match exactly, or by a concept map of the site."""
        groups = self._groups(codelist)
        keys = ((system, code), *self.maps.get((system, code), ()))
        return next((groups[key] for key in keys if key in groups), None)

    def known_as(self, concept: CodeableConcept) -> list[Key]:
        """The codes of a concept: as written, and as the site's concept maps translate them."""
        written = [(coding.system, coding.code) for coding in concept.coding]
        return [*written, *(key for one in written for key in self.maps.get(one, ()))] if self.maps else written

    @cached_property
    def reported(self) -> tuple[Measure, ...]:
        """The measures the protocol declares as outcomes, in the order of their ids: what reports print.

        Others of the catalogue are read and scored where they are recorded.
        """
        plan = self.protocol.outcomes
        wanted = {plan.primary, plan.function, *plan.secondary, plan.global_change}
        return tuple(self.measures[name] for name in sorted(wanted))

    @property
    def composite(self) -> Measure | None:
        """The composite of pain and function that the catalogue declares, if any."""
        found = (one for _, one in sorted(self.measures.items()) if one.score.method == "composite_responder")
        return next(found, None)

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
    tables, traps = dict(_tables(root, mistakes)), _traps(root, mistakes)
    maps = _maps(root, measures, codelists, mistakes)
    tolerances = _tolerances(root, mistakes)
    evidence, checklists = _evidence(root, mistakes), _checklists(root, mistakes)
    if protocol is None or mistakes:
        raise DefinitionError("\n".join(mistakes))
    study = Study(root, protocol, measures, codelists, reports, tables, traps, maps, tolerances, evidence, checklists)
    mistakes.extend(_cross_check(study))
    if mistakes:
        raise DefinitionError("\n".join(mistakes))
    return study


def digest_of(root: Path) -> str:
    """SHA-256 of the card: relative names and contents of all its files, sorted; caches and editor files left out."""
    total = hashlib.sha256()
    for name, digest in file_digests(root).items():
        total.update(name.encode() + b"\0")
        total.update(bytes.fromhex(digest))
    return total.hexdigest()


def file_digests(root: Path) -> dict[str, str]:
    """SHA-256 in hexadecimal of each file of the card, by its relative name, sorted."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in _card_files(root)
    }


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
        rows = _rows(root, path, ListedCode, mistakes)
        _no_doubles(root, path, [f"{row.system}|{row.code}" for row in rows], mistakes)
        yield path.stem, tuple(rows)


def _tables(root: Path, mistakes: list[str]) -> Iterator[tuple[str, dict[tuple[str, float], float]]]:
    """The tables a site supplies under its own licence; the study folder comes with none."""
    for path in sorted((root / "mappings" / "tables").glob("*.csv")):
        rows = _rows(root, path, TableRow, mistakes)
        _no_doubles(root, path, [f"{row.item} {row.level}".strip() for row in rows], mistakes)
        yield path.stem, {(row.item, float(row.level)): row.value for row in rows}


def _tolerances(root: Path, mistakes: list[str]) -> tuple[Tolerance, ...]:
    name = Path("mappings/tolerances.toml")
    declared = _read(root, name, Tolerances, mistakes) if (root / name).is_file() else None
    return declared.tolerances if declared else ()


def _evidence(root: Path, mistakes: list[str]) -> Evidence:
    """What others published; the study folder may go without."""

    def rows(name: str, model: type[Model]) -> tuple[Model, ...]:
        path = root / "mappings" / "evidence" / name
        return tuple(_rows(root, path, model, mistakes)) if path.is_file() else ()

    known = len(mistakes)
    evidence = Evidence(
        rows("published.csv", PublishedStudy), rows("doses.csv", PublishedDose), rows("untreated.csv", Untreated)
    )
    if len(mistakes) == known:
        mistakes.extend(mistakes_in(evidence))
    return evidence


def _checklists(root: Path, mistakes: list[str]) -> dict[str, tuple[ChecklistItem, ...]]:
    found = {}
    for path in sorted((root / "mappings" / "checklists").glob("*.csv")):
        rows = _rows(root, path, ChecklistItem, mistakes)
        _no_doubles(root, path, [row.item for row in rows], mistakes)
        found[path.stem] = tuple(rows)
    return found


def _traps(root: Path, mistakes: list[str]) -> dict[Key, CodeTrap]:
    path = root / "mappings" / "code_traps.csv"
    rows = _rows(root, path, CodeTrap, mistakes) if path.is_file() else []
    _no_doubles(root, path, [f"{row.system}|{row.code}" for row in rows], mistakes)
    return {(row.system, row.code): row for row in rows}


def _maps(
    root: Path,
    measures: Mapping[str, Measure],
    codelists: Mapping[str, tuple[ListedCode, ...]],
    mistakes: list[str],
) -> dict[Key, tuple[Key, ...]]:
    if not any((root / "mappings" / "concept-maps").glob("*.json")):
        return {}
    from crps_outcomes.concept_maps import read_maps  # noqa: PLC0415 - a second to load, and most sites have none

    return read_maps(root, measures, codelists, mistakes)


def _rows(root: Path, path: Path, model: type[Model], mistakes: list[str]) -> list[Model]:
    name, rows = path.relative_to(root), []
    with path.open(encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), 2):
            try:
                rows.append(model.model_validate(row))
            except ValidationError as error:
                mistakes.extend(
                    f"{name}:{number}: {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
                )
    return rows


def _no_doubles(root: Path, path: Path, keys: list[str], mistakes: list[str]) -> None:
    doubles = {key for key, n in Counter(keys).items() if n > 1}
    mistakes.extend(f"{path.relative_to(root)}: {key} is listed twice" for key in sorted(doubles))


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
    yield from _parts_exist(study)
    yield from plan_mistakes(study)


def _shared_codes(study: Study) -> Iterator[str]:
    owners: dict[tuple[str, str, str, str], str] = {}
    for measure in study.measures.values():
        for key in _places(measure):
            owner = owners.setdefault(key, measure.id)
            if owner != measure.id:
                yield f"mappings/measures/{measure.id}.toml: {'|'.join(key[:2])} also belongs to {owner}"
            if key[:2] in study.traps:
                yield f"mappings/measures/{measure.id}.toml: {'|'.join(key[:2])} is a trap: {study.traps[key[:2]].what}"


def _places(measure: Measure) -> Iterator[tuple[str, str, str, str]]:
    """Every place in FHIR a measure takes: system and code, and those of the component; a questionnaire and a linkId."""
    for source in measure.sources:
        for code in source.codes:
            for part in source.component or (None,):
                yield code.system, code.code, part.system if part else "", part.code if part else ""
    yield from ((code.system, code.code, "", "") for code in measure.items.codes)
    yield from (("", form.questionnaire, "", link) for form in measure.questionnaires for link in form.link_ids)


def _parts_exist(study: Study) -> Iterator[str]:
    """Subscales and summaries name measures and items that are there."""
    for measure in study.measures.values():
        file = f"mappings/measures/{measure.id}.toml"
        whole = study.measures.get(measure.items.of)
        if measure.items.of and whole is None:
            yield f'{file}: items.of: no measure "{measure.items.of}"'
        if whole is not None and (unknown := set(measure.items.only) - set(whole.form_ids)):
            yield f"{file}: items.only: {whole.id} has no item {', '.join(sorted(unknown))}"
        for name in measure.score.inputs:
            if name not in study.measures or study.measures[name].score.method in COMBINING:
                yield f'{file}: score.inputs: "{name}" is no measure with a score of its own'
