"""Who is enrolled: selectors that agree, memberships and consents honoured on a day, and everybody accounted for."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_cohort import coded, cohort, consent, group, member, protocol, resource, selecting, to, token

from crps_outcomes import resources as fhir
from crps_outcomes.enrolment import cohort as members_of
from crps_outcomes.enrolment import enrol, listed, traces
from crps_outcomes.errors import SourceError
from crps_outcomes.patient_list import ListedPatient, list_as_group

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


# The same three people, said five times: a takes part, b is through with it, c left.
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
    "list": [list_as_group([
        ListedPatient(patient=name, since=date(2025, 6, 1), until=date(2026, 2, 1) if name == "c" else None)
        for name in "abc"])],
}  # fmt: skip


def of_another_cohort(resources):
    """The same memberships of the same people in a study that is not this one."""
    text = (
        json.dumps(resources).replace(RULE.group_identifier.split("|")[1], "another").replace("patient-list", "another")
    )
    return json.loads(text.replace("ResearchStudy/s", "ResearchStudy/other-s"), object_hook=_renamed)


def _renamed(part):
    return part | {"id": f"other-{part['id']}"} if "resourceType" in part else part


@pytest.mark.parametrize("selector", SAID)
def test_the_selectors_agree(selector):
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


# --- participation: status and period together -----------------------------------------------------------------------

AT = {
    "research_subject": lambda status, period: [STUDY, resource(
        "ResearchSubject", "rs", status=status, study={"reference": "ResearchStudy/s"}, individual=to("a"), period=period)],
    "episode_of_care": lambda status, period: [resource(
        "EpisodeOfCare", "e", status=status, type=[coded(RULE.episode_type)], patient=to("a"), period=period)],
    "care_plan": lambda status, period: [resource(
        "CarePlan", "c", status=status, category=[coded(RULE.care_plan_category)], subject=to("a"), period=period)],
}  # fmt: skip


@pytest.mark.parametrize(("selector", "status", "period", "counts"), [
    ("research_subject", "on-study", {}, True),
    ("research_subject", "on-study", {"end": "2026-03-01"}, True),
    ("research_subject", "on-study", {"end": "2026-02-28"}, False),
    ("research_subject", "follow-up", {"end": "2025"}, False),
    ("research_subject", "off-study", {"end": "2025-12-01"}, True),
    ("research_subject", "completed", {"end": "2025-12-01"}, True),
    ("research_subject", "completed", {"start": "2026-03-02"}, False),
    ("research_subject", "withdrawn", {}, False),
    ("research_subject", "withdrawn", {"end": "2026-03-01"}, False),
    ("research_subject", "withdrawn", {"end": "2026-03-02"}, True),
    ("research_subject", "withdrawn", {"end": "soon"}, False),
    ("research_subject", "candidate", {}, False),
    ("research_subject", "", {}, False),
    ("episode_of_care", "active", {"end": "2026-02"}, False),
    ("episode_of_care", "onhold", {}, True),
    ("episode_of_care", "finished", {"end": "2026-02"}, True),
    ("episode_of_care", "waitlist", {}, False),
    ("episode_of_care", "entered-in-error", {}, False),
    ("care_plan", "active", {"end": "2026-02"}, False),
    ("care_plan", "on-hold", {"end": "2026-04"}, True),
    ("care_plan", "completed", {"end": "2026-02"}, True),
    ("care_plan", "revoked", {"end": "2026-04-01"}, True),
    ("care_plan", "revoked", {"end": "2026-03-01"}, False),
    ("care_plan", "draft", {}, False),
])  # fmt: skip
def test_a_finished_participation_counts_and_one_that_was_broken_off_does_not(selector, status, period, counts):
    found = enrolled(*AT[selector](status, period), *people("a"), own=selecting(selector))
    assert (list(found.enrolled), found.n_inactive) == ((["a"], 0) if counts else ([], 1))


# --- whom an entry names ---------------------------------------------------------------------------------------------

MRN = {"system": "https://example.org/mrn", "value": "77"}


def by_identifier(**identifier):
    return {"entity": {"identifier": MRN | identifier}}


def test_a_member_named_by_an_identifier_is_the_patient_who_carries_it():
    found = enrolled(group(by_identifier()), resource("Patient", "a", identifier=[MRN]), *people("b"))
    assert (list(found.enrolled), found.n_listed, found.n_unresolved) == (["a"], 1, 0)


@pytest.mark.parametrize("identifier", [{"value": "78"}, {"system": ""}, {"system": "https://example.org/other"}])
def test_an_identifier_nobody_carries_is_unresolved(identifier):
    found = enrolled(group(by_identifier(**identifier)), resource("Patient", "a", identifier=[MRN, {"value": "77"}]))
    assert (found.enrolled, found.n_listed, found.n_unresolved) == ({}, 1, 1)


def test_an_identifier_two_people_carry_names_nobody():
    two = [resource("Patient", name, identifier=[MRN]) for name in "ab"]
    assert enrolled(group(by_identifier()), *two).n_unresolved == 1


def test_a_server_that_gave_new_ids_keeps_the_old_ones_as_identifiers():
    uuid = "urn:uuid:4b0c7bd4-2c9f-4d33-9d6e-1e0e5e5b7f11"
    patient = resource("Patient", "1234", identifier=[{"system": "urn:ietf:rfc:3986", "value": uuid}])
    assert list(enrolled(group({"entity": {"reference": uuid}}), patient).enrolled) == ["1234"]


def test_an_id_and_an_identifier_of_one_patient_are_one_entry():
    found = enrolled(group(by_identifier(), member("a")), resource("Patient", "a", identifier=[MRN]))
    assert (list(found.enrolled), found.n_listed) == (["a"], 1)


def test_before_the_patients_are_there_the_list_says_whom_to_ask_for():
    found = listed(
        structs(group(by_identifier(), by_identifier(value="9") | {"inactive": True}, member("a"))),
        protocol(),
        as_of=DAY,
    )
    assert (found.active, found.active_identifiers) == (("a",), ("https://example.org/mrn|77",))


# --- merged records --------------------------------------------------------------------------------------------------


def merged(identity, into, **elements):
    return resource("Patient", identity, link=[{"other": to(into), "type": "replaced-by"}], **elements)


@pytest.mark.parametrize("entries", [["old"], ["new"], ["old", "new"]])
def test_a_merged_person_is_enrolled_once_whichever_record_is_listed(entries):
    found = enrolled(group(*(member(name) for name in entries)), merged("old", "new"), *people("new"))
    assert list(found.enrolled) == ["new"]
    assert found.records == {"old": "new", "new": "new"}
    assert (found.n_listed, found.n_merged) == (len(entries), len(entries) - 1)


def test_a_merged_person_is_enrolled_if_either_record_is():
    found = enrolled(group(member("old"), member("new", inactive=True)), merged("old", "new"), *people("new"))
    assert (list(found.enrolled), found.n_inactive, found.n_merged) == (["new"], 0, 1)


def test_a_refusal_on_a_merged_record_is_the_persons():
    said = [consent("old", dateTime="2026-02-01", status="rejected"), consent("new")]
    found = enrolled(group(member("new")), merged("old", "new"), *people("new"), *said)
    assert (found.enrolled, found.records, found.n_consent_revoked) == ({}, {}, 1)


def test_a_person_whose_surviving_record_the_source_lacks_is_dangling():
    found = enrolled(group(member("old")), merged("old", "new"))
    assert (found.enrolled, found.n_dangling) == ({}, 1)


def test_what_is_kept_of_the_others_says_how_they_were_joined_and_nothing_else():
    old = merged("old", "new", identifier=[MRN, {"system": "https://example.org/ssn", "value": "1"}], gender="female")
    new = resource(
        "Patient", "new", link=[{"other": to("old"), "type": "replaces"}, {"other": to("x"), "type": "seealso"}]
    )
    held = structs(group(by_identifier(), member("b")), old, new, *people("b"), consent("new", status="rejected"))
    found = enrol(held, protocol(), as_of=DAY)
    kept = traces(held, protocol(), found)
    assert kept == {
        "old": {"resourceType": "Patient", "id": "old", "identifier": [MRN],
                "link": [{"other": to("new"), "type": "replaced-by"}]},
        "new": {"resourceType": "Patient", "id": "new", "link": [{"other": to("old"), "type": "replaces"}]},
    }  # fmt: skip
    assert enrol(held | {"Patient": structs(*kept.values(), *people("b"))["Patient"]}, protocol(), as_of=DAY) == found


# --- which day decides -----------------------------------------------------------------------------------------------

DAYS = st.dates(date(2026, 1, 1), date(2026, 1, 12))
WITHDRAWALS = {
    "refused": lambda day: [consent("a", dateTime=day.isoformat(), status="rejected")],
    "denied": lambda day: [consent("a"), consent("a", provision={"type": "deny", "period": {"start": day.isoformat()}})],
    "expired": lambda day: [consent("a", provision={"type": "permit", "period": {"end": (day - timedelta(1)).isoformat()}})],
}  # fmt: skip


@given(st.sampled_from(sorted(WITHDRAWALS)), DAYS, DAYS, DAYS)
def test_a_withdrawal_counts_from_its_day_and_is_never_undone_by_an_earlier_report(how, withdrawn_on, pulled_on, as_of):
    said = structs(group(member("a")), *people("a"), *WITHDRAWALS[how](withdrawn_on))
    found = enrol(said, protocol(), as_of=as_of, pulled_on=pulled_on)
    is_in = as_of < withdrawn_on and pulled_on < withdrawn_on
    assert list(found.enrolled) == (["a"] if is_in else [])
    assert (found.n_consent_revoked + found.n_consent_expired) == (0 if is_in else 1)
    assert found.n_consent_expired == (not is_in and how == "expired")


@given(DAYS, DAYS, DAYS)
def test_who_joins_counts_from_that_day(joined_on, pulled_on, as_of):
    said = structs(group(member("a", period={"start": joined_on.isoformat()})), *people("a"))
    found = enrol(said, protocol(), as_of=as_of, pulled_on=pulled_on)
    assert (len(found.enrolled), found.n_inactive) == ((1, 0) if joined_on <= min(as_of, pulled_on) else (0, 1))


# --- whatever is said, the sum holds ---------------------------------------------------------------------------------

MEMBERS = st.lists(
    st.builds(
        lambda entity, inactive, period: {"entity": entity, "inactive": inactive, "period": period},
        st.sampled_from([to("a"), to("b"), to("c"), {"display": "?"}, {"reference": "Group/x"}, {"identifier": MRN}]),
        st.booleans(),
        st.sampled_from([{}, {"start": "2027-01-01"}, {"end": "2025"}, {"start": "2025-01"}]),
    ),
    max_size=8,
)
LINKS = st.sets(st.sampled_from([("a", "b"), ("b", "c"), ("a", "c"), ("x", "c")]))
SAYINGS = st.lists(
    st.builds(
        lambda who, status, kind, end: consent(who, status=status, provision={"type": kind, "period": {"end": end}}),
        st.sampled_from("abcx"), st.sampled_from(["active", "inactive"]), st.sampled_from(["permit", "deny"]),
        st.sampled_from(["2026-01-01", "2027-01-01"]),
    ),
    max_size=5,
)  # fmt: skip


def consistent(links, known):
    """Without two merges of one record into different people."""
    return links - {("a", "c")} if ("a", "b") in links and not (("b", "c") in links and "b" in known) else links


@given(st.data(), MEMBERS, st.sets(st.sampled_from("abcx")), LINKS, SAYINGS)
def test_whatever_is_listed_the_places_add_up_and_order_leaves_no_trace(data, members, known, links, sayings):
    patients = [
        resource("Patient", name, identifier=[MRN] if name == "c" else [],
                 link=[{"other": to(into), "type": "replaced-by"} for one, into in sorted(consistent(links, known)) if one == name])
        for name in sorted(known)
    ]  # fmt: skip
    found = enrolled(group(*members), *patients, *sayings)
    by_reason = (found.n_inactive, found.n_consent_revoked, found.n_consent_expired, found.n_merged, found.n_dangling)
    assert found.n_listed == len(found.enrolled) + sum(by_reason) + found.n_unresolved
    assert set(found.enrolled) == set(found.records.values()) <= known
    shuffled = [data.draw(st.permutations(one)) for one in (members, patients, sayings)]
    turned = [one | {"link": data.draw(st.permutations(one["link"]))} for one in shuffled[1]]
    assert enrolled(group(*shuffled[0]), *turned, *shuffled[2]) == found


@given(MEMBERS, st.sets(st.sampled_from("abcx")), LINKS, SAYINGS)
def test_what_a_snapshot_keeps_says_the_same_about_enrolment(members, known, links, sayings):
    patients = [
        resource("Patient", name, identifier=[MRN] if name == "c" else [], gender="male",
                 link=[{"other": to(into), "type": "replaced-by"} for one, into in sorted(consistent(links, known)) if one == name])
        for name in sorted(known)
    ]  # fmt: skip
    held = structs(group(*members), *patients, *sayings)
    found = enrol(held, protocol(), as_of=DAY)
    kept = [one for one in patients if one["id"] in found.records]
    left = [*kept, *traces(held, protocol(), found).values()]
    assert enrol(held | {"Patient": structs(*left).get("Patient", [])}, protocol(), as_of=DAY) == found
