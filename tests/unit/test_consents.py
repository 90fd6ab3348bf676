"""The decision about the use of data that is in force on a day."""

from __future__ import annotations

import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_cohort import consent

from crps_outcomes import resources as fhir
from crps_outcomes.consents import left_out

DAY = date(2026, 3, 1)
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"


def answer(*consents, day=DAY):
    read = [fhir.decode("Consent", json.dumps(one).encode()) for one in consents]
    return left_out(read, lambda one: fhir.id_in(one, "Patient"), day, "America/New_York").get("a", "permitted")


def a(on="2025-01-01", kind="permit", scope="", start="", end="", **elements):
    """A Consent of a: the day it was given, what its rule says, within which period."""
    period = {name: day for name, day in (("start", start), ("end", end)) if day}
    provision = {"type": kind, "period": period} if kind else {"period": period}
    return consent("a", **{"dateTime": on, "provision": provision, "scope": scoped(scope)} | elements)


def scoped(*codes):
    return {"coding": [{"code": code} for code in codes if code]}


def for_purpose(code, system=ACT_REASON):
    return [{"system": system, "code": code}]


SAID = [
    ([], "permitted"),
    ([a()], "permitted"),
    ([a(kind="")], "permitted"),
    ([a(status="rejected")], "refused"),
    ([a(status="inactive")], "refused"),
    ([a(kind="deny")], "refused"),
    ([a(status="entered-in-error", kind="deny")], "permitted"),
    ([a(status="draft", kind="deny")], "permitted"),
    # the latest decision counts
    ([a(), a("2025-05-01", status="inactive")], "refused"),
    ([a(status="inactive"), a("2025-05-01")], "permitted"),
    ([a("2025-05-01T09:00:00-04:00", status="inactive"), a("2025-05-01T10:00:00-04:00")], "permitted"),
    # where it cannot be told, refusal wins
    ([a(), a(status="inactive")], "refused"),
    ([a("2025-05-01", status="inactive"), a("2025-05-01T10:00:00-04:00")], "refused"),
    ([a("2025-05-01T10:00:00-04:00", status="inactive"), a("2025-05-01")], "refused"),
    ([a("2025-05", status="inactive"), a("2025-05-20")], "refused"),
    ([a("2025-05", status="inactive"), a("2025-06-01")], "permitted"),
    ([a("", status="inactive"), a("2025-06-01")], "refused"),
    ([a("no date", status="inactive"), a("2025-06-01")], "refused"),
    ([a("2025-05-20", status="inactive"), a("2025-05")], "refused"),
    ([a("2025-05-20", status="inactive"), a("")], "refused"),
    # nothing is in force before it begins
    ([a("2026-03-01", kind="deny")], "refused"),
    ([a("2026-03-02", kind="deny")], "permitted"),
    ([a("2026-03-02", status="rejected")], "permitted"),
    ([a("2026-03-02T03:00:00Z", kind="deny")], "refused"),  # still the first of March in New York
    ([a(kind="deny"), a("2026-03-02")], "refused"),
    ([a(), a("2025-02-01", kind="deny", start="2026-03-02")], "permitted"),
    ([a(), a("2025-02-01", kind="deny", start="2026-03")], "refused"),
    ([a(kind="deny"), a("2025-02-01", start="2026-03-02")], "refused"),
    # a refusal applies within its period, a permission ends with it
    ([a(), a("2025-02-01", kind="deny", end="2026-03-01")], "refused"),
    ([a(), a("2025-02-01", kind="deny", end="2026-02-28")], "permitted"),
    ([a(kind="deny"), a("2025-02-01", kind="deny", end="2026-02-28")], "refused"),
    ([a(end="2026-03-01")], "permitted"),
    ([a(end="2026-02-28")], "expired"),
    ([a(end="2026-02")], "expired"),
    ([a(end="2026-02-28"), a("2025-06-01")], "permitted"),
    ([a(), a("2025-06-01", end="2026-02-28")], "expired"),
    ([a(), a(end="2026-02-28")], "expired"),
    ([a(end="2026-02-28"), a(kind="deny")], "refused"),
    ([a(kind="", end="2026-02-28")], "expired"),
    # what it is about
    ([a(kind="deny", scope="adr")], "permitted"),
    ([a(kind="deny", scope="treatment")], "permitted"),
    ([a(status="inactive", scope="treatment")], "permitted"),
    ([a(kind="deny"), a("2025-05-01", scope="treatment")], "refused"),
    ([a(kind="deny", scope="research")], "refused"),
    ([a(kind="deny", scope="patient-privacy")], "refused"),
    ([a(kind="deny", scope="of the house")], "refused"),
    ([a(kind="deny") | {"scope": scoped("treatment", "research")}], "refused"),
    ([a(kind="deny", scope="research"), a("2025-05-01", scope="patient-privacy")], "refused"),
    ([a(kind="deny", scope="research"), a("2025-05-01")], "refused"),
    ([a(kind="deny", scope="research"), a("2025-05-01", scope="research")], "permitted"),
    ([a(kind="deny"), a("2025-05-01", scope="research")], "permitted"),
    ([a(scope="research"), a("2025-05-01", kind="deny")], "refused"),
    ([a(scope="research", end="2026-01-01"), a("2025-05-01")], "expired"),
    # rules within rules
    ([a() | {"provision": {"provision": [{"type": "deny"}]}}], "refused"),
    ([a() | {"provision": {"provision": [{"type": "deny", "purpose": for_purpose("HRESCH")}]}}], "refused"),
    ([a() | {"provision": {"provision": [{"type": "deny", "purpose": for_purpose("HMARKT")}]}}], "permitted"),
    ([a() | {"provision": {"provision": [{"type": "deny", "purpose": for_purpose("HMARKT", "urn:local")}]}}], "refused"),
    ([a() | {"provision": {"provision": [{"type": "permit", "period": {"end": "2026-01-01"}}]}}], "expired"),
    ([a() | {"provision": {"period": {"end": "2026-01-01"}, "provision": [{"type": "permit"}]}}], "expired"),
    ([a() | {"provision": {"provision": [{"provision": [{"type": "deny"}]}]}}], "refused"),
    ([a(policyRule={"coding": [{"code": "OPTOUT"}]})], "refused"),
    ([a(policyRule={"coding": [{"code": "OPTIN"}]})], "permitted"),
]  # fmt: skip


@pytest.mark.parametrize(("consents", "expected"), SAID)
def test_one_decision_is_in_force(consents, expected):
    assert answer(*consents) == answer(*consents[::-1]) == expected


def test_a_permission_ends_on_the_day_after_its_last():
    said = a(end="2026-02-10")
    assert [answer(said, day=date(2026, 2, day)) for day in (9, 10, 11)] == ["permitted", "permitted", "expired"]


def test_how_deep_rules_are_nested_is_up_to_the_source():
    rule = {"type": "deny"}
    for _ in range(400):
        rule = {"provision": [rule]}
    assert answer(a() | {"provision": rule}) == "refused"


TEXTS = st.sampled_from(["", "2025", "2025-05", "2025-05-01", "2025-05-01T10:00:00Z", "2026-02-27", "2026-03-02"])
CONSENTS = st.lists(
    st.builds(
        a, TEXTS, st.sampled_from(["permit", "deny", ""]), st.sampled_from(["", "research", "patient-privacy", "adr"]),
        TEXTS, TEXTS, status=st.sampled_from(["active", "rejected", "inactive", "draft"]),
    ),
    max_size=6,
)  # fmt: skip


@given(CONSENTS, st.data())
def test_the_order_of_consents_leaves_no_trace(consents, data):
    assert answer(*data.draw(st.permutations(consents))) == answer(*consents)


@given(CONSENTS, st.sampled_from(["", "research"]))
def test_a_refusal_of_today_is_never_undone(consents, scope):
    others = [one for one in consents if one["dateTime"] != "2026-03-01"]
    assert answer(*others, a("2026-03-01", status="rejected", scope=scope)) != "permitted"
