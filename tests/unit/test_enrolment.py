"""Who is enrolled: four selectors that agree, memberships honoured on a day, and everybody accounted for."""

from __future__ import annotations

import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_cohort import coded, cohort, consent, group, member, protocol, resource, selecting, to, token

from crps_outcomes import resources as fhir
from crps_outcomes.enrolment import cohort as members_of
from crps_outcomes.enrolment import enrol, listed, withdrawn
from crps_outcomes.errors import SourceError

DAY = date(2026, 3, 1)
RULE = protocol().enrolment


def structs(*resources):
    """Decoded resources by type."""
    found = {}
    for one in resources:
        name = one["resourceType"]
        found.setdefault(name, []).append(fhir.decode(name, json.dumps(one).encode()))
    return found


def enrolled(*resources, own=None, as_of=DAY):
    return enrol(structs(*resources), own or protocol(), as_of=as_of)


def people(*names):
    return [resource("Patient", name) for name in names]


def test_everybody_listed_stands_in_one_place():
    found = enrolled(*(one for one in cohort() if one["resourceType"] in {"Group", "Patient", "Consent"}))
    assert list(found.enrolled) == ["a", "b", "c"]
    assert (found.n_listed, found.n_inactive, found.n_consent_revoked) == (7, 1, 1)
    assert (found.n_dangling, found.n_unresolved) == (1, 1)


# The same three people, said four times: a takes part, b is through with it, c left.
STUDY = resource("ResearchStudy", "s", identifier=[token(RULE.study_identifier)])
SAID = {
    "group": [group(member("a", period={"start": "2025-06-01"}), member("b", period={"start": "2025-06-01"}),
                    member("c", period={"start": "2025-06-01"}, inactive=True))],
    "research_subject": [STUDY, *(
        resource("ResearchSubject", f"rs-{name}", status=status, study={"reference": "ResearchStudy/s"},
                 individual=to(name), period={"start": "2025-06-01"} | end)
        for name, status, end in (("a", "on-study", {}), ("b", "completed", {"end": "2025-12-01"}), ("c", "withdrawn", {})))],
    "episode_of_care": [
        resource("EpisodeOfCare", f"e-{name}", status=status, type=[coded(RULE.episode_type)], patient=to(name),
                 period={"start": "2025-06-01"} | end)
        for name, status, end in (("a", "active", {}), ("b", "finished", {"end": "2025-12-01"}), ("c", "cancelled", {}))],
    "care_plan": [
        resource("CarePlan", f"c-{name}", status=status, category=[coded(RULE.care_plan_category)], subject=to(name),
                 period={"start": "2025-06-01"} | end)
        for name, status, end in (("a", "active", {}), ("b", "completed", {"end": "2025-12-01"}), ("c", "revoked", {}))],
}  # fmt: skip


def of_another_cohort(resources):
    """The same memberships of the same people in a study that is not this one."""
    text = json.dumps(resources).replace(RULE.group_identifier.split("|")[1], "another")
    return json.loads(text.replace("ResearchStudy/s", "ResearchStudy/other-s"), object_hook=_renamed)


def _renamed(part):
    return part | {"id": f"other-{part['id']}"} if "resourceType" in part else part


@pytest.mark.parametrize("selector", SAID)
def test_the_four_selectors_agree(selector):
    found = enrolled(*SAID[selector], *people("a", "b", "c"), own=selecting(selector))
    assert found.enrolled == {"a": date(2025, 6, 1), "b": date(2025, 6, 1)}
    assert (found.n_listed, found.n_inactive) == (3, 1)


@pytest.mark.parametrize("selector", SAID)
def test_other_cohorts_of_the_same_types_do_not_count(selector):
    found = enrolled(
        *SAID[selector], *of_another_cohort(SAID[selector]), *people("a", "b", "c"), own=selecting(selector)
    )
    assert found.n_listed == 3
    assert sum(map(len, members_of(structs(*SAID[selector]), selecting(selector)).values())) == len(SAID[selector])


@pytest.mark.parametrize(("period", "is_active"), [
    ({}, True),
    ({"start": "2026-03-01"}, True),
    ({"start": "2026-03-02"}, False),
    ({"start": "2026-03"}, True),
    ({"start": "2026-04"}, False),
    ({"end": "2026-03-01"}, True),
    ({"end": "2026-02-28"}, False),
    ({"end": "2026-03"}, True),
    ({"end": "2026-02"}, False),
    ({"end": "2026"}, True),
    ({"end": "2025"}, False),
    ({"end": "2026-03-01T03:00:00Z"}, False),  # the evening before in New York
    ({"end": "2026-03-01T03:00:00-05:00"}, True),
])  # fmt: skip
def test_a_membership_holds_from_its_first_to_its_last_day(period, is_active):
    found = listed(structs(group(member("a", period=period))), protocol(), as_of=DAY)
    assert found.active == (("a",) if is_active else ())


def test_a_person_listed_twice_counts_once_and_active_if_either_is():
    twice = group(member("a", inactive=True), member("a", period={"start": "2025-07-01"}), member("a"))
    found = enrolled(twice, *people("a"))
    assert (found.enrolled, found.n_listed) == ({"a": date(2025, 7, 1)}, 1)


@pytest.mark.parametrize(
    "reference", ["Patient/a", "https://x.test/r4/Patient/a", "Patient/a/_history/3", "urn:uuid:a"]
)
def test_references_may_be_written_in_many_ways(reference):
    assert list(enrolled(group({"entity": {"reference": reference}}), *people("a")).enrolled) == ["a"]


@pytest.mark.parametrize(
    "entity", [{}, {"display": "x"}, {"reference": "Practitioner/a"}, {"reference": "Patient/a b"}]
)
def test_a_member_that_names_no_patient_is_unresolved(entity):
    found = enrolled(group({"entity": entity}), *people("a"))
    assert (found.n_unresolved, found.enrolled) == (1, {})


def test_two_groups_where_one_was_declared_are_refused():
    with pytest.raises(SourceError, match="2 Groups"):
        enrolled(group(member("a")), group(member("b")) | {"id": "second"})


REFUSALS = [
    ([], False),
    ([consent("a")], False),
    ([consent("a", status="rejected")], True),
    ([consent("a", status="inactive")], True),
    ([consent("a", provision={"type": "deny"})], True),
    ([consent("a", status="entered-in-error", provision={"type": "deny"})], False),
    ([consent("a", status="draft", provision={"type": "deny"})], False),
    ([consent("a"), consent("a", status="inactive", dateTime="2025-05-01")], True),
    ([consent("a", status="inactive"), consent("a", dateTime="2025-05-01")], False),
    ([consent("a"), consent("a", status="inactive")], True),
    ([consent("a", dateTime="2025-05-01T09:00:00-04:00", status="inactive"),
      consent("a", dateTime="2025-05-01T10:00:00-04:00")], False),
]  # fmt: skip


@pytest.mark.parametrize(("consents", "refuses"), REFUSALS)
def test_the_latest_decision_about_consent_counts(consents, refuses):
    for order in (consents, consents[::-1]):
        found = withdrawn(structs(*order).get("Consent", ()), "America/New_York")
        assert found == (frozenset({"a"}) if refuses else frozenset())


MEMBERS = st.lists(
    st.builds(
        lambda entity, inactive, period: {"entity": entity, "inactive": inactive, "period": period},
        st.sampled_from([to("a"), to("b"), to("c"), {"display": "?"}, {"reference": "Group/x"}]),
        st.booleans(),
        st.sampled_from([{}, {"start": "2027-01-01"}, {"end": "2025"}, {"start": "2025-01"}]),
    ),
    max_size=8,
)


@given(MEMBERS, st.sets(st.sampled_from("abcx")), st.sets(st.sampled_from("abcx")))
def test_whatever_is_listed_the_places_add_up(members, known, revoked):
    consents = [consent(name, status="inactive") for name in revoked]
    found = enrolled(group(*members), *people(*known), *consents)
    left_out = found.n_inactive + found.n_consent_revoked + found.n_dangling + found.n_unresolved
    assert found.n_listed == len(found.enrolled) + left_out
    assert set(found.enrolled) <= known - revoked
