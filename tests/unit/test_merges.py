"""One person, several records: merges followed to the end, contradictions refused, identifiers that name one person."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_cohort import resource, to

from crps_outcomes import resources as fhir
from crps_outcomes.errors import SourceError
from crps_outcomes.merges import concerned, persons


def patients(**links):
    """Patients by id, each with links such as "replaced-by b"."""
    made = [resource("Patient", name, link=[_link(*text.split()) for text in own]) for name, own in links.items()]
    return [fhir.decode("Patient", json.dumps(one).encode()) for one in made]


def _link(kind, other):
    return {"other": to(other), "type": kind}


@pytest.mark.parametrize(("links", "survivors"), [
    ({"a": []}, {"a": "a"}),
    ({"a": ["replaced-by b"], "b": []}, {"a": "b", "b": "b"}),
    ({"a": [], "b": ["replaces a"]}, {"a": "b", "b": "b"}),
    ({"a": ["replaced-by b"], "b": ["replaces a"]}, {"a": "b", "b": "b"}),
    ({"a": ["refer b"], "b": ["seealso a"]}, {"a": "a", "b": "b"}),
    ({"a": ["replaced-by b"], "b": ["replaced-by c"], "c": []}, {"a": "c", "b": "c", "c": "c"}),
    ({"a": ["replaced-by b", "replaced-by c"], "b": ["replaced-by c"], "c": []}, {"a": "c", "b": "c", "c": "c"}),
    ({"a": ["replaced-by c"], "b": ["replaced-by c"], "c": []}, {"a": "c", "b": "c", "c": "c"}),
    ({"b": ["replaces a"]}, {"a": "b", "b": "b"}),  # the old record is gone, what refers to it is not
    ({"a": ["replaced-by b"]}, {"a": "b", "b": "b"}),
])  # fmt: skip
def test_a_merge_is_followed_to_the_surviving_record(links, survivors):
    assert persons(patients(**links)) == survivors


@pytest.mark.parametrize("links", [
    {"left1": ["replaced-by left1"]},
    {"left1": ["replaced-by left2"], "left2": ["replaced-by left1"]},
    {"left1": ["replaced-by left2", "replaces left2"]},
    {"left1": ["replaced-by left2"], "left2": ["replaced-by left3"], "left3": ["replaced-by left1"]},
    {"left1": ["replaced-by left2", "replaced-by left3"]},
])  # fmt: skip
def test_merges_that_contradict_each_other_are_refused_without_naming_anybody(links):
    with pytest.raises(SourceError, match="should") as caught:
        persons(patients(**links))
    assert "left" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_link_to_somebody_who_is_no_patient_is_no_merge():
    one = resource("Patient", "a", link=[{"other": {"reference": "RelatedPerson/r"}, "type": "replaced-by"}])
    assert persons([fhir.decode("Patient", json.dumps(one).encode())]) == {"a": "a"}


def test_only_merges_of_the_people_asked_for_matter():
    held = patients(a=["replaced-by b"], b=["replaces a0"], x=["replaced-by y"], y=["replaced-by x"])
    assert concerned(held, ["a"], []) == {"a", "b", "a0"}
    assert concerned(held, [], ["https://example.org/mrn|77"]) == frozenset()


def test_a_chain_may_be_long():
    found = persons(patients(**{f"p{n}": [f"replaced-by p{n + 1}"] for n in range(5000)}))
    assert set(found.values()) == {"p5000"}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12), st.randoms(use_true_random=False))
def test_every_record_has_one_survivor_that_survives_whatever_the_order(pairs, chance):
    into = {f"p{min(pair)}": f"p{max(pair)}" for pair in pairs if pair[0] != pair[1]}  # always upwards: no circle
    held = patients(**{f"p{n}": [f"replaced-by {into[f'p{n}']}"] if f"p{n}" in into else [] for n in range(10)})
    found = persons(held)
    assert all(found[survivor] == survivor for survivor in found.values())
    assert all(found[old] == found[new] for old, new in into.items())
    chance.shuffle(held)
    assert persons(held) == found
