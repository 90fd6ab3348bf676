"""What holds for every questionnaire and every Observation, whatever stands in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from study_day import STUDY, run

from crps_outcomes import resources as fhir
from crps_outcomes.readings import Catalogue, read_observation, read_response
from crps_outcomes.resources import decode
from crps_outcomes.scoring import METHODS, item_scores

LOCAL = "https://example.org/crps-outcomes/CodeSystem/measures"
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
WHOLE = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
#: Measures with items of their own whose score needs no table.
FORMS = sorted(one.id for one in STUDY.measures.values() if one.questionnaires and not one.score.table)
MEASURES = st.sampled_from(FORMS)


def rows(measure: Any, answers: dict[str, float]) -> pd.DataFrame:
    """OBSERVATIONS of one response."""
    common = {"source_ref": "QuestionnaireResponse/q", "subject_id": "p1", "measure": measure.id}
    when = {"taken_at": pd.Timestamp("2026-01-05 14:00", tz="UTC"), "taken_on": pd.Timestamp("2026-01-05")}
    frame = pd.DataFrame([{**common, **when, "item": item, "value": float(value)} for item, value in answers.items()])
    return frame.astype({"value": "Float64", "source_ref": "str", "subject_id": "str"})


def options(measure: Any, item: str) -> st.SearchStrategy[float]:
    low, high = measure.item_range(item)
    listed = [option.value for option in measure.answers]
    return st.sampled_from(listed) if low >= high else st.integers(int(low), int(high)).map(float)


def full(measure: Any) -> st.SearchStrategy[dict[str, float]]:
    return st.fixed_dictionaries({item: options(measure, item) for item in measure.form_ids})


def only_score(measure: Any, answers: dict[str, float]) -> list[float]:
    scores, refused = item_scores(rows(measure, answers), measure, STUDY)
    assert len(scores) + len({one.resource_ref for one in refused}) == 1  # one or the other, never both or neither
    return [round(value, 6) for value in scores["value"]]


@QUICK
@given(st.data(), MEASURES)
def test_the_order_of_items_does_not_matter(data, name):
    measure = STUDY.measure(name)
    answers = data.draw(full(measure))
    shuffled = dict(data.draw(st.permutations(list(answers.items()))))
    assert only_score(measure, answers) == only_score(measure, shuffled)


@QUICK
@given(st.data(), st.sampled_from([one for one in FORMS if STUDY.measure(one).score.method in {"sum", "mean"}]))
def test_a_reversed_item_counts_from_the_other_end(data, name):
    measure = STUDY.measure(name)
    answers = data.draw(full(measure))
    item = data.draw(st.sampled_from(list(measure.item_ids)))
    turned = measure.model_copy(update={"items": measure.items.model_copy(update={"reversed": (item,)})})
    low, high = measure.item_range(item)
    if low >= high:
        low, high = min(one.value for one in measure.answers), max(one.value for one in measure.answers)
    assert only_score(turned, answers) == only_score(measure, {**answers, item: low + high - answers[item]})


@QUICK
@given(st.data(), MEASURES)
def test_with_fewer_items_than_the_rule_needs_there_is_no_score(data, name):
    measure = STUDY.measure(name)
    answers = data.draw(full(measure))
    kept = data.draw(st.sets(st.sampled_from(list(measure.form_ids))))
    few = {item: value for item, value in answers.items() if item in kept}
    if few and sum(item in kept for item in measure.item_ids) < measure.score.min_items:
        assert only_score(measure, few) == []


@QUICK
@given(st.data(), MEASURES)
def test_every_score_lies_in_its_range(data, name):
    measure = STUDY.measure(name)
    for value in only_score(measure, data.draw(full(measure))):
        assert measure.range[0] <= value <= measure.range[1]


def test_every_declared_method_of_scoring_is_there():
    used = {one.score.method for one in STUDY.measures.values() if not one.score.inputs}
    assert used <= set(METHODS)


# --- nothing that is valid FHIR makes it stumble --------------------------------------------------------------------

NUMBERS = st.one_of(
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3)),
    st.integers(-10, 120),
    st.sampled_from([1e300, 0, -0.0]),
)
TEXTS = st.sampled_from(["7", "7/10", "7 / 10", "10/7", "seven", "much improved", "Yes", "no", "9" * 30, "½", "7,5"])
KNOWN_CODES = sorted(
    {
        (code.system, code.code)
        for one in STUDY.measures.values()
        for s in one.sources
        for code in (*s.codes, *s.component)
    }
    | {(code.system, code.code) for one in STUDY.measures.values() for code in (*one.items.codes, *one.items.panels)}
    | set(STUDY.traps)
    | {("https://clinic.example", "x"), ("http://loinc.org", "LA6568-5"), ("http://loinc.org", "LA33-6")}
)
CODINGS = st.builds(
    lambda key, display, ordinal: {
        "system": key[0], "code": key[1], **({"display": display} if display else {}),
        **({"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/ordinalValue", "valueDecimal": ordinal}]}
           if ordinal is not None else {}),
    },
    st.sampled_from(KNOWN_CODES), st.one_of(st.just(""), TEXTS), st.one_of(st.none(), st.integers(-3, 12)),
)  # fmt: skip
CONCEPTS = st.builds(
    lambda codings, text: {"coding": codings, **({"text": text} if text else {})},
    st.lists(CODINGS, min_size=1, max_size=3),
    st.one_of(st.just(""), TEXTS),
)
QUANTITIES = st.builds(
    lambda value, unit, comparator: {
        **({"value": value} if value is not None else {}), **({"unit": unit, "code": unit} if unit else {"unit": "points"}),
        **({"comparator": comparator} if comparator else {}),
    },
    st.one_of(st.none(), NUMBERS),
    st.sampled_from(["{score}", "1", "", "%", "kg", "[lb_av]", "mm", "mm[Hg]", "kPa", "/min", "nonsense", "10*3/uL"]),
    st.sampled_from(["", "", "", "<", ">="]),
)  # fmt: skip
VALUES = st.one_of(
    st.just({}),
    QUANTITIES.map(lambda x: {"valueQuantity": x}),
    st.integers(-5, 200).map(lambda x: {"valueInteger": x}),
    CONCEPTS.map(lambda x: {"valueCodeableConcept": x}),
    TEXTS.map(lambda x: {"valueString": x}),
    st.booleans().map(lambda x: {"valueBoolean": x}),
    st.just({"valueRange": {"low": {"value": 1}}}),
    st.just({"valueRatio": {"numerator": {"value": 7}, "denominator": {"value": 10}}}),
    st.just({"valueTime": "07:00:00"}),
    st.just({"valueDateTime": "2026-01-05"}),
    st.just({"valuePeriod": {"start": "2026-01-05"}}),
    st.just({"valueSampledData": {"origin": {"value": 0}, "period": 1, "dimensions": 1, "data": "7"}}),
    st.just({"dataAbsentReason": {"text": "asked but declined"}}),
)
DATES = st.sampled_from(
    [
        "2026-01-05",
        "2026-01",
        "2026",
        "2026-01-05T09:00:00-05:00",
        "2026-02-07T00:30:00Z",
        "2099-01-01",
        "2026-01-05T09:00:00.5+14:00",
    ]
)
OBSERVATIONS = st.builds(
    lambda concept, value, parts, date, status: {
        "resourceType": "Observation", "id": "o", "status": status, "code": concept,
        "subject": {"reference": "Patient/p1"}, "effectiveDateTime": date, **value,
        **({"component": [{"code": code, **own} for code, own in parts]} if parts else {}),
    },
    CONCEPTS, VALUES, st.lists(st.tuples(CONCEPTS, VALUES), max_size=3), DATES,
    st.sampled_from(["final", "amended", "corrected", "preliminary", "entered-in-error", "cancelled"]),
)  # fmt: skip
LINKS = sorted({link for one in STUDY.measures.values() for form in one.questionnaires for link in form.link_ids})
ANSWERS = st.one_of(
    st.integers(-3, 200).map(lambda x: {"valueInteger": x}),
    st.floats(-5, 200, allow_nan=False).map(lambda x: {"valueDecimal": round(x, 2)}),
    CODINGS.map(lambda x: {"valueCoding": x}),
    TEXTS.map(lambda x: {"valueString": x}),
    st.booleans().map(lambda x: {"valueBoolean": x}),
    QUANTITIES.map(lambda x: {"valueQuantity": x}),
    st.just({"valueDate": "2026-01-05"}),
)
ITEMS = st.recursive(
    st.builds(lambda link, given: {"linkId": link, "answer": given}, st.sampled_from(LINKS), st.lists(ANSWERS, min_size=1, max_size=2)),
    lambda inner: st.builds(lambda items: {"linkId": "group", "item": items}, st.lists(inner, min_size=1, max_size=4)),
    max_leaves=8,
)  # fmt: skip
RESPONSES = st.builds(
    lambda form, items, date: {
        "resourceType": "QuestionnaireResponse", "id": "q", "status": "completed", "questionnaire": form,
        "subject": {"reference": "Patient/p1"}, "authored": date, "item": items,
    },
    st.sampled_from(sorted({form.questionnaire for one in STUDY.measures.values() for form in one.questionnaires})),
    st.lists(ITEMS, min_size=1, max_size=15),
    DATES,
)  # fmt: skip


def raw(resource: dict[str, Any]) -> bytes:
    """The resource as JSON, and valid by fhir.resources: what is not is refused before it is read."""
    model = get_fhir_model_class(resource["resourceType"])
    return bytes(model.model_validate(resource).model_dump_json(exclude_none=True), "utf-8")


@QUICK
@given(OBSERVATIONS)
@example({"resourceType": "Observation", "id": "o", "status": "final", "subject": {"reference": "Patient/p1"},
          "code": {"coding": [{"system": LOCAL, "code": "crps-burning"}, {"system": LOCAL, "code": "pcs"}]}})  # fmt: skip
def test_every_valid_observation_gives_rows_or_a_reason(resource):
    observation = decode("Observation", raw(resource))
    assert isinstance(observation, fhir.Observation)
    found, refused = read_observation(observation, Catalogue(STUDY))
    assert found or refused
    assert all(one["source_ref"] == "Observation/o" and one["value"] is not None for one in found)


@QUICK
@given(RESPONSES)
def test_every_valid_response_gives_rows_or_a_reason(resource):
    response = decode("QuestionnaireResponse", raw(resource))
    assert isinstance(response, fhir.QuestionnaireResponse)
    found, refused = read_response(response, Catalogue(STUDY))
    assert found or refused


@WHOLE
@given(st.lists(st.one_of(OBSERVATIONS, RESPONSES), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_what_comes_in_is_used_or_refused_and_order_leaves_no_trace(resources, random):
    numbered = [{**one, "id": f"r{place}"} for place, one in enumerate(resources)]
    shuffled = list(numbered)
    random.shuffle(shuffled)
    rows_of, scored, rejections = run(numbered)
    used = set(rows_of.observations["source_ref"]) | set(rejections["resource_ref"])
    assert {f"{one['resourceType']}/{one['id']}" for one in numbered} <= used
    other = run(shuffled)
    pd.testing.assert_frame_equal(rows_of.observations, other[0].observations)
    pd.testing.assert_frame_equal(scored.outcomes, other[1].outcomes)
    pd.testing.assert_frame_equal(rejections, other[2])


@pytest.mark.parametrize(
    ("text", "rule", "value"),
    [("7", "", 7), ("7/10", "", 7), (" 7.5 / 10 ", "", 7.5), ("7/11", "value-missing", None), ("seven", "value-missing", None),
     ("12", "value-out-of-range", None)],
)  # fmt: skip
def test_a_number_written_as_text_is_read_only_where_the_measure_says_so(text, rule, value):
    pain = STUDY.measure("pain_nrs")
    told = pain.model_copy(update={"sources": (pain.sources[0].model_copy(update={"read": "text"}), *pain.sources[1:])})
    resource = {"resourceType": "Observation", "id": "o", "status": "final", "valueString": text,
                "code": {"coding": [{"system": "http://loinc.org", "code": "72514-3"}]},
                "subject": {"reference": "Patient/p1"}, "effectiveDateTime": "2026-01-05"}  # fmt: skip
    observation = decode("Observation", raw(resource))
    assert isinstance(observation, fhir.Observation)
    study = replace(STUDY, measures={**STUDY.measures, "pain_nrs": told})
    found, refused = read_observation(observation, Catalogue(study))
    assert [one["value"] for one in found] == ([] if value is None else [value])
    assert [one.rule for one in refused] == ([rule] if rule else [])
    assert [one.rule for one in read_observation(observation, Catalogue(STUDY))[1]] == ["value-missing"]
