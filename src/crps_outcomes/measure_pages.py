"""What the catalogue says, in words: a page per measure, the data dictionary, and which domain of COMPACT has what.

These pages stand in docs/; `make docs` writes them, and a test says when they are not what the catalogue says.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, get_args

from crps_outcomes import tables
from crps_outcomes.definitions import Compact
from crps_outcomes.numbers import fixed
from crps_outcomes.wording import better, capital, error_in_words, marked, system_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crps_outcomes.definitions import Code, Measure, ObservationValue
    from crps_outcomes.study import Study

_GENERATED = "<!-- Written by `make docs` from {}; changes here are lost. -->"
_METHODS = {
    "identity": "the value as it is recorded",
    "sum": "the sum of the items",
    "mean": "the mean of the items",
    "t_score": "the raw sum of the items, looked up in a T-score table",
    "value_set": "1 less the decrement of each dimension's level, by a value set",
    "absenteeism": "hours missed, of hours missed and worked",
    "work_impairment": "hours missed, and of the hours worked the share lost to impairment",
    "physical_summary": "a weighted sum of z values, physical health",
    "mental_summary": "a weighted sum of z values, mental health",
    "composite_responder": "at least 50% less pain, or at least 20% less pain and 30% better function",
}


def pages(study: Study) -> dict[str, str]:
    """Every generated document below docs/, by its path there."""
    own = {f"measures/{one.id}.md": page(one, study) for one in study.measures.values()}
    return own | {
        "measures/README.md": index(study),
        "data-dictionary.md": dictionary(),
        "compact-coverage.md": coverage(study),
    }


# --- a measure ----------------------------------------------------------------------------------------------------


def page(measure: Measure, study: Study) -> str:
    """All that the definition of a measure says, with the state of knowledge beside each fact."""
    parts = [
        _GENERATED.format(f"mappings/measures/{measure.id}.toml"),
        f"# {measure.title}",
        _facts(measure, study),
        "## Where it stands in FHIR",
        *_sources(measure, study),
        "## How it is scored",
        *_scoring(measure, study),
        "## What matters in one person",
        _thresholds(measure),
        *([error_in_words(measure)] if measure.error else []),
    ]
    if measure.citations:
        parts += ["## Sources", "\n".join(f"- {marked(one.text, one.state)}" for one in measure.citations)]
    if measure.notes:
        parts += ["## Notes", measure.notes]
    return "\n\n".join(parts) + "\n"


def _facts(measure: Measure, study: Study) -> str:
    low, high = (f"{edge:g}" for edge in measure.range)
    kind = {"scale": "", "plausibility": ", what is plausible", "categories": ", names of categories"}
    facts = {
        "id": f"`{measure.id}`",
        "domain": measure.domain,
        "COMPACT domain": measure.compact or "none",
        "IMMPACT domain [unconfirmed]": measure.immpact or "none",
        "role": measure.role + (", declared in the protocol" if measure in study.reported else ""),
        "better": better(measure),
        "range": f"{low} to {high}{kind[measure.range_kind]}",
        "step": "any value" if measure.step is None else f"{measure.step:g}",
        "recall": measure.recall,
        "unit": f"`{measure.unit}`" + (f" ({measure.unit_label})" if measure.unit_label else ""),
        "units taken as they are": ", ".join(f"`{unit}`" if unit else "none at all" for unit in measure.accepted_units)
        or "no other",
        "other units": "converted by UCUM" if measure.convert_units else "refused",
        "missing": measure.missing_rule,
        "licence": measure.licence,
    }
    rows = [f"| {name} | {_cell(value)} |" for name, value in facts.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _sources(measure: Measure, study: Study) -> Iterator[str]:
    lines = [line for source in measure.sources for line in _source(source)]
    if lines:
        yield "\n".join(lines)
    for form in measure.questionnaires:
        yield f"QuestionnaireResponse of `{form.questionnaire}`: {_listed(form.link_ids)}."
    if measure.items.of:
        of = study.measure(measure.items.of)
        yield f"Of the items of [{of.title}]({of.id}.md): {_listed(measure.items.only)}."
    if measure.items.panels:
        yield "A panel that holds the items as components or members:\n\n" + _codes(measure.items.panels)
    if measure.items.codes:
        lines = [f"- {code.item}: {_code(code)}" for code in measure.items.codes]
        yield "Items that stand in Observations or components of their own:\n\n" + "\n".join(lines)
    if measure.answers:
        rows = [f"| {one.value:g} | {one.display} | {', '.join(one.codes) or ''} |" for one in measure.answers]
        yield "\n".join(["| value | answer | codes |", "|---|---|---|", *rows])
    if measure.score.inputs:
        yield f"Made of {_links(measure.score.inputs, study)}."


def _source(source: ObservationValue) -> Iterator[str]:
    what = {"number": "a number", "text": "a number, also as text", "answer": "an answer"}[source.read]
    extra = " that is a raw sum" if source.is_raw_sum else ""
    extra += ", only where referenceRange states the range" if source.needs_stated_range else ""
    place = " in the component " + " or ".join(_code(code) for code in source.component) if source.component else ""
    for code in source.codes:
        yield f"- Observation, {what}{extra}: {_code(code)}{place}"


def _scoring(measure: Measure, study: Study) -> Iterator[str]:
    rule = measure.score
    times = f", times {rule.multiply:g}" if rule.multiply != 1 else ""
    yield f"{capital(_METHODS[rule.method])}{times}."
    if measure.item_ids:
        yield f"At least {rule.min_items} of {len(measure.item_ids)} items; else there is no score, and the reason is listed."
    if rule.applies:
        yield f"Only where `{rule.applies.item}` was answered with {rule.applies.value:g}."
    if rule.table:
        there = "it is there" if rule.table in study.tables else "it is not there, so items have no score"
        yield f"Looked up in `mappings/tables/{rule.table}.csv`, which the site supplies: {there}."
    if measure.items.reversed:
        yield f"Counted from the other end: {_listed(measure.items.reversed)}."
    if measure.signal_above is not None:
        yield f"A value above {measure.signal_above:g} goes to the safety review."


def _thresholds(measure: Measure) -> str:
    if not measure.thresholds:
        return "No threshold is declared."
    rows = [
        f"| {fixed(one.value, 3).rstrip('0').rstrip('.')} | {_cell(one.kind)} | {_cell(one.source)} | {one.state} |"
        for one in measure.thresholds
    ]
    return "\n".join(["| change | kind | source | state |", "|---|---|---|---|", *rows])


def _codes(codes: Iterable[Code]) -> str:
    return "\n".join(f"- {_code(code)}" for code in codes)


def _code(code: Code) -> str:
    shown = f"{system_name(code.system)} `{code.code}`" + (f" {code.display}" if code.display else "")
    return f"{shown} [{code.state}{f', {code.source}' if code.source else ''}]"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _links(names: Iterable[str], study: Study) -> str:
    return ", ".join(f"[{study.measure(name).short}]({name}.md)" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# --- all measures -------------------------------------------------------------------------------------------------


def index(study: Study) -> str:
    rows = [
        f"| [{one.id}]({one.id}.md) | {_cell(one.title)} | {one.domain} | {one.role} | {one.direction} |"
        for _, one in sorted(study.measures.items(), key=lambda pair: (pair[1].domain, pair[0]))
    ]
    head = [_GENERATED.format("mappings/measures/"), "# Measures", f"{len(rows)} measures, by domain."]
    return (
        "\n\n".join([*head, "\n".join(["| id | measure | domain | role | better |", "|---|---|---|---|---|", *rows])])
        + "\n"
    )


def coverage(study: Study) -> str:
    """Which measures serve which domain of COMPACT, and which of them the protocol declares."""
    rows = []
    for domain in [one for one in get_args(Compact) if one]:
        own = [one for _, one in sorted(study.measures.items()) if one.compact == domain]
        declared = [one.id for one in own if one in study.reported]
        rows.append(
            f"| {domain} | {', '.join(f'[{one.id}](measures/{one.id}.md)' for one in own) or '**none**'} "
            f"| {', '.join(declared) or 'none'} |"
        )
    words = (
        "The seven domains are those of Grieve 2017, Pain 158:1083-1090, doi:10.1097/j.pain.0000000000000866 [confirmed]. "
        "Which instruments COMPACT uses for them is unconfirmed, and so is which measure here serves which domain."
    )
    table = ["| domain | measures of the catalogue | declared in the protocol |", "|---|---|---|", *rows]
    return "\n\n".join([_GENERATED.format("mappings/"), "# COMPACT coverage", words, "\n".join(table)]) + "\n"


# --- tables -------------------------------------------------------------------------------------------------------

_HEAD = re.compile(
    r"(?P<comment>(?:^#: [^\n]*\n)+)(?P<name>[A-Z]+) = _table\((?P<body>.*?)^\)", re.MULTILINE | re.DOTALL
)
_COLUMN = re.compile(r"^    (?P<name>\w+)=[^\n]*?(?:  # (?P<note>[^\n]*))?$", re.MULTILINE)
_TYPES = {
    "str": "text",
    "string[pyarrow]": "text",
    "Float64": "number",
    "Int64": "whole number",
    "boolean": "yes or no",
    tables.DAY: "day",
    tables.INSTANT: "instant",
}


def dictionary() -> str:
    """Every table of the pipeline: its grain, its key and its columns, read from the module that defines them."""
    parts = [
        _GENERATED.format("src/crps_outcomes/tables.py"),
        "# Data dictionary",
        inspect.cleandoc(tables.__doc__ or ""),
    ]
    for found in _HEAD.finditer(inspect.getsource(tables)):
        schema = getattr(tables, found["name"])
        notes = {one["name"]: one["note"] or "" for one in _COLUMN.finditer(found["body"])}
        grain = " ".join(line.removeprefix("#: ") for line in found["comment"].splitlines())
        rows = [
            f"| `{name}` | {_TYPES.get(str(column.dtype), column.dtype)} | {'may be missing' if column.nullable else ''} | {_cell(_note(column, notes.get(name, '')))} |"
            for name, column in schema.columns.items()
        ]
        key = f"Key: {_listed(schema.unique or ())}."
        head = ["| column | type | | meaning |", "|---|---|---|---|"]
        parts += [f"## {found['name']}", grain, key, "\n".join([*head, *rows])]
    return "\n\n".join(parts) + "\n"


def _note(column: object, note: str) -> str:
    checks = getattr(column, "checks", [])
    allowed = [str(value) for check in checks for value in check.statistics.get("allowed_values", ())]
    return "; ".join(one for one in (note, ", ".join(value or "nothing" for value in allowed)) if one)
