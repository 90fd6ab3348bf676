"""What the golden files cover: for each measure every case that applies to it, seen in what goes in and comes out.

And the files can fail: with its direction, its range or its missing rule changed, each measure's own file no longer fits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from golden_cases import CASES, cohort, with_tables
from study_day import STUDY
from test_golden_measures import assert_case

if TYPE_CHECKING:
    from collections.abc import Callable

    from crps_outcomes.definitions import Measure

Case = dict[str, Any]
COMBINED = "composite_responder", "physical_summary", "mental_summary"


def rules(case: Case) -> set[str]:
    return {one["rule"] for one in case["rejections"]}


def statuses(case: Case) -> set[str]:
    return {one.get("status", "") for one in case["resources"]}


def has_responses(case: Case) -> bool:
    return any(one["resourceType"] == "QuestionnaireResponse" for one in case["resources"])


def gives_score(case: Case) -> bool:
    return any(one["state"] == "observed" for one in case["outcomes"])


def codes_read(measure: Measure, case: Case) -> set[tuple[str, str]]:
    """The declared codes of Observations that give a value in this case."""
    read = {one["source_ref"] for one in case["observations"]}
    declared = {(code.system, code.code) for source in measure.sources for code in source.codes}
    return {
        key
        for one in case["resources"]
        if f"{one['resourceType']}/{one['id']}" in read
        for coding in one.get("code", {}).get("coding", [])
        if (key := (coding.get("system", ""), coding["code"])) in declared
    }


#: A case of the list -> whether it applies to a measure, and whether one case of its file covers it.
WANTED: dict[str, tuple[Callable[[Measure], bool], Callable[[Measure, Case], bool]]] = {
    "normal": (lambda m: True, lambda m, c: bool(c["observations"]) or gives_score(c) or bool(c.get("signals"))),
    "items as the rule needs": (
        lambda m: bool(m.item_ids) or m.score.method in COMBINED,
        lambda m, c: (has_responses(c) or not m.item_ids) and (gives_score(c) or bool(c.get("signals"))),
    ),
    "items missing beyond the rule": (
        lambda m: bool(m.item_ids) or m.score.method in COMBINED,
        lambda m, c: "items-missing" in rules(c) or (m.score.method in COMBINED and not gives_score(c)),
    ),
    "out of range": (
        lambda m: True,
        lambda m, c: bool(rules(c) & {"value-out-of-range", "answer-unknown"}),
    ),
    "wrong unit": (
        lambda m: any(source.read == "number" for source in m.sources),
        lambda m, c: "unit-unknown" in rules(c),
    ),
    "both codings": (
        lambda m: sum(len(s.codes) for s in m.sources if not s.component and not s.is_raw_sum) > 1,
        lambda m, c: len(codes_read(m, c)) > 1,
    ),
    "amended": (
        lambda m: True,
        lambda m, c: "amended" in statuses(c) and (bool(c["observations"]) or gives_score(c) or bool(c.get("signals"))),
    ),
    "entered in error": (
        lambda m: True,
        lambda m, c: "entered-in-error" in statuses(c) and "status-not-accepted" in rules(c),
    ),
    "duplicate": (lambda m: True, lambda m, c: "same-value-twice" in rules(c)),
    "response against observation": (
        lambda m: bool(m.item_ids and m.sources),
        lambda m, c: "total-disagrees-with-items" in rules(c) and gives_score(c),
    ),
    "raw sum under a T-score code": (
        lambda m: m.whole_numbers_from_to is not None,
        lambda m, c: "raw-score-under-t-code" in rules(c),
    ),
    "between two steps": (
        lambda m: m.step is not None and m.unit != "1" and bool(m.sources),
        lambda m, c: "value-between-steps" in rules(c),
    ),
    "the table is not supplied": (
        lambda m: bool(m.score.table),
        lambda m, c: "table-missing" in rules(c),
    ),
}


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("measure", sorted(CASES))
def test_every_golden_file_has_the_cases_that_apply(measure, wanted):
    definition = STUDY.measure(measure)
    applies, covers = WANTED[wanted]
    if applies(definition):
        assert any(covers(definition, case) for case in CASES[measure]), f"{measure}: no case for: {wanted}"


# --- the files can fail -------------------------------------------------------------------------------------------


def turned(m: Measure) -> Measure:
    return m.model_copy(update={"direction": {"lower": "higher", "higher": "lower"}[m.direction]})


def moved(m: Measure) -> Measure:
    return m.model_copy(update={"range": (m.range[1] + 1, m.range[1] + 2)})


def widened(m: Measure) -> Measure:
    width = 10 * (m.range[1] - m.range[0])
    return m.model_copy(update={"range": (m.range[0] - width, m.range[1] + width), "whole_numbers_from_to": None})


def one_less(m: Measure) -> Measure:
    rule = {"min_items": m.score.min_items - 1} if not m.score.inputs else {"inputs": m.score.inputs[:-1]}
    return m.model_copy(update={"score": m.score.model_copy(update=rule)})


#: A composite is 0 or 1 by its rule, and the signal is an item of another measure, whose answers are a list.
NO_RANGE_IS_READ = {"composite_responder", "phq9_item9"}
MUTATIONS: dict[str, tuple[Callable[[Measure], bool], Callable[[Measure], Measure]]] = {
    # What reads the direction is the comparison with the baseline: of outcomes, and of a scale with a better end. A
    # composite takes the directions of its parts.
    "direction": (lambda m: m.role == "outcome" and m.direction != "none" and m.has_baseline, turned),
    "range moved away": (lambda m: m.id not in NO_RANGE_IS_READ, moved),
    "range widened": (lambda m: any(source.read == "number" for source in m.sources), widened),
    # A measure of one item has no rule that could count otherwise: no item, no score.
    "missing rule": (lambda m: m.score.min_items > 1, one_less),
}


@pytest.mark.parametrize(
    ("measure", "mutation"),
    [
        (measure, mutation)
        for measure in sorted(CASES)
        for mutation, (applies, _) in MUTATIONS.items()
        if applies(STUDY.measure(measure))
    ],
)
def test_a_measure_defined_otherwise_no_longer_fits_its_golden_file(measure, mutation):
    changed = MUTATIONS[mutation][1](STUDY.measure(measure))
    study = replace(STUDY, measures={**STUDY.measures, measure: changed})
    assert any(fails(measure, number, study, changed) for number in most_telling(measure, mutation))


def most_telling(measure: str, mutation: str) -> list[int]:
    """The cases a mutation is likeliest to break, first: one failure is enough."""
    telling = {"range widened": "value-out-of-range", "missing rule": "items-missing"}.get(mutation)
    return sorted(range(len(CASES[measure])), key=lambda i: telling not in rules(CASES[measure][i]))


def fails(measure: str, number: int, study: Any, changed: Measure) -> bool:
    case = CASES[measure][number]
    results = cohort(measure, [number], with_tables(study, case.get("tables", {})))
    try:
        assert_case(case, f"-{number}", results, changed)
    except AssertionError:
        return True
    except KeyError:
        return True  # the outcome the case expects is not even there
    return False
