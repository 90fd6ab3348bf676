"""Between one attempt and the next, and between one night and the next: what must not be believed without looking."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from small_cohort import (
    cohort,
    consent,
    group,
    member,
    observation,
    protocol,
    pulled_from,
    resource,
    selecting,
    to,
    write_folder,
    write_manifest,
)  # fmt: skip
from test_export import kick_offs
from test_export import pulled as exported
from test_nights import FIRST_NIGHT, Clinic, changes

from crps_outcomes.errors import IncompleteDataError
from crps_outcomes.fhir import folder_source, rest_source
from crps_outcomes.fhir.client import Surroundings
from crps_outcomes.home import Home
from crps_outcomes.patient_list import ListedPatient
from crps_outcomes.stages.pull import pull
from crps_outcomes.workplace import Workplace
from faulty_server import BASE, FaultyServer, Inject

NIGHTS = [datetime(2026, 3, day, 12, tzinfo=UTC) for day in range(1, 30)]
STOPS = (Inject("F19", 1, "Observation"),)


def ids(pulled, resource_type):
    return [json.loads(line)["id"] for line in pulled.snapshot.lines(resource_type)]


def at(one, when, **elements):
    """A version of a resource that was written at an instant."""
    stamp = when.isoformat().replace("+00:00", "Z")
    return one | {"meta": {"versionId": str(when.day), "lastUpdated": stamp}} | elements


def folder_of(folder, resources, when, **more):
    """A listed folder whose manifest was made at an instant."""
    write_folder(folder, resources, is_listed=False)
    names = [one["resourceType"] for one in resources]
    files = {f"{name}.ndjson": (name, names.count(name)) for name in names}
    write_manifest(folder, files, transactionTime=when.isoformat(), **more)
    return folder_source(folder)


def changes_since(when):
    return {"request": f"https://fhir.test/$export?_since={when.isoformat().replace('+00:00', 'Z')}"}


# --- an attempt that goes on where another stopped ------------------------------------------------------------------


def test_who_joined_between_two_attempts_has_all_of_a_type_that_cannot_be_narrowed(tmp_path):
    server, own = FaultyServer(cohort(), *STOPS), selecting("list")
    with pytest.raises(IncompleteDataError):
        pulled_from(server, tmp_path, own, patients=[ListedPatient(patient=name) for name in "ab"])
    server.injects = ()
    second = pulled_from(server, tmp_path, own, patients=[ListedPatient(patient=name) for name in "abx"])
    assert ids(second, "AdverseEvent") == ["event-a", "event-b", "event-x"]


def test_a_withdrawal_between_two_attempts_holds_for_the_second(tmp_path):
    clinic = Clinic()
    clinic.server.injects = STOPS
    with pytest.raises(IncompleteDataError):
        clinic.night(tmp_path)
    clinic.server.injects = ()
    clinic.write(
        consent("b", status="inactive", dateTime="2026-03-01"), at=clinic.now + timedelta(hours=1), version="2"
    )
    clinic.now -= timedelta(hours=21)
    second, _ = clinic.night(tmp_path)  # three hours after the first
    assert "b" not in second.enrolment.enrolled


def test_what_was_marked_an_error_between_two_attempts_is_one_in_the_second(tmp_path):
    clinic = Clinic()
    clinic.server.injects = (Inject("F19", 1, "AdverseEvent"),)
    with pytest.raises(IncompleteDataError):
        clinic.night(tmp_path)
    clinic.server.injects = ()
    wrong = observation("a-1", "a", 9) | {"status": "entered-in-error"}
    clinic.write(wrong, at=clinic.now + timedelta(hours=1), version="2")
    clinic.now -= timedelta(hours=21)
    second, _ = clinic.night(tmp_path)
    assert json.loads(next(iter(second.snapshot.lines("Observation"))))["status"] == "entered-in-error"


def test_a_pull_that_was_killed_when_all_was_done_is_not_gone_on_with_a_day_later(tmp_path, monkeypatch):
    clinic = Clinic()
    clinic.night(tmp_path)
    end = Workplace.end
    monkeypatch.setattr(Workplace, "end", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        clinic.night(tmp_path)
    monkeypatch.setattr(Workplace, "end", end)
    clinic.write(consent("b", status="inactive", dateTime="2026-03-02"), version="2")
    assert "b" not in clinic.night(tmp_path)[0].enrolment.enrolled


def _interrupted(*_):
    raise KeyboardInterrupt


def test_the_folder_of_the_next_day_is_judged_as_of_that_day(tmp_path):
    broken, home = folder_of(tmp_path / "monday", cohort(), NIGHTS[0]), Home.at(tmp_path / "home")
    (tmp_path / "monday" / "Observation.ndjson").unlink()
    with pytest.raises(IncompleteDataError):
        pull(broken, protocol(), home)
    withdrawn = {"status": "inactive", "dateTime": "2026-03-02"}
    people = [at(one, NIGHTS[1], **withdrawn) if one["id"] == "consent-b" else one for one in cohort()]
    found = pull(folder_of(tmp_path / "tuesday", people, NIGHTS[1]), protocol(), home)
    assert found.snapshot.manifest.pulled_at == "2026-03-02T12:00:00Z"
    assert "b" not in found.enrolment.enrolled


def test_an_export_that_led_to_a_refusal_is_asked_for_anew(tmp_path):
    server = FaultyServer([one | {"status": {"x": 1}} if one["id"] == "consent-a" else one for one in cohort()])
    with pytest.raises(IncompleteDataError, match="F30"):
        exported(server, tmp_path)
    server.resources = cohort()
    assert exported(server, tmp_path).state == "complete"


def test_what_another_study_left_behind_goes_with_the_next_good_pull(tmp_path):
    server = FaultyServer(cohort(), Inject("F35"))
    with pytest.raises(IncompleteDataError):
        exported(server, tmp_path, level="system")
    server.injects = ()
    exported(server, tmp_path, protocol(resource_types=("Patient", "Consent", "Observation")), level="system")
    assert {path.name for path in Home.at(tmp_path).pulls.rglob("*.ndjson")} == {"requests.ndjson"}


# --- night after night ----------------------------------------------------------------------------------------------


def saying_twice(server):
    """Its answers, in which a key "twice" becomes a second status."""

    def respond(request):
        with httpx.Client(transport=server.transport()) as http:
            got = http.send(request)
        headers = {
            key: value for key, value in got.headers.items() if not key.startswith("content-") or key == "content-type"
        }
        body = got.content.replace(b'"twice"', b'"status"')
        return httpx.Response(got.status_code, headers=headers, stream=httpx.ByteStream(body))

    surroundings = Surroundings(sleep=lambda _: None, chance=lambda: 0.5)
    return rest_source(BASE, transport=httpx.MockTransport(respond), surroundings=surroundings)


def test_a_newer_version_that_cannot_be_read_does_not_leave_the_old_one_in(tmp_path):
    clinic = Clinic()
    clinic.night(tmp_path)
    clinic.write(observation("a-1", "a", 9) | {"twice": "entered-in-error"}, version="2")
    clinic.now += timedelta(days=1)
    found = pull(saying_twice(clinic.server), protocol(), Home.at(tmp_path))
    assert "a-1" not in ids(found, "Observation")


def test_something_unreadable_and_new_does_not_hide_a_deletion(tmp_path):
    clinic = Clinic()
    clinic.night(tmp_path)
    clinic.server.delete("Observation", "a-1")
    clinic.write(observation("a-9", "a", 9) | {"twice": "final"}, version="2")
    clinic.now += timedelta(days=1)
    found = pull(saying_twice(clinic.server), protocol(), Home.at(tmp_path))
    assert "a-1" not in ids(found, "Observation")


@pytest.mark.parametrize("level", ["system", "patient", "group"])
def test_what_moved_to_a_stranger_is_gone_from_an_export_of_changes_too(level, tmp_path):
    server = FaultyServer(cohort(), now=lambda: night)
    for night in NIGHTS[:2]:
        if night == NIGHTS[1]:
            server.put(at(observation("a-1", "x"), night))
            server.put(at(observation("a-2", "a"), night))
        found = exported(server, tmp_path, level=level)
    assert "a-1" not in ids(found, "Observation")


@pytest.mark.parametrize("level", ["system", "group"])
def test_an_old_medication_that_is_referred_to_for_the_first_time_is_there(level, tmp_path):
    old = datetime(2025, 1, 1, tzinfo=UTC)
    server = FaultyServer(
        [at(one, old) if one["resourceType"] == "Medication" else one for one in cohort()], now=lambda: night
    )
    for night in NIGHTS[:2]:
        if night == NIGHTS[1]:
            server.put(at(resource("Medication", "vial"), night))
            given = {
                "status": "completed",
                "subject": to("a"),
                "medicationReference": {"reference": "Medication/of-others"},
            }
            server.put(at(resource("MedicationAdministration", "dose2", **given), night))
        found = exported(server, tmp_path, level=level)
    assert (ids(found, "Medication"), found.state) == (["of-others", "vial"], "complete")


def test_a_listed_record_that_was_merged_does_not_make_every_export_whole(tmp_path):
    people = [group(*(member(name) for name in "abc"), member("a-old")), *cohort()[1:]]
    people.append(resource("Patient", "a-old", link=[{"other": to("a"), "type": "replaced-by"}]))
    server = FaultyServer(people, now=lambda: night)
    for night in NIGHTS[:2]:  # noqa: B007 - the server's clock
        exported(server, tmp_path)
    assert [bool(one.url.params.get("_since")) for one in kick_offs(server)] == [False, True]


def test_changes_alone_never_count_as_the_whole_pull_of_the_week(tmp_path):
    home = Home.at(tmp_path / "home")
    pull(folder_of(tmp_path / "1", cohort(), NIGHTS[0]), protocol(), home)
    told = changes_since(NIGHTS[0] - timedelta(days=60))
    with pytest.raises(IncompleteDataError, match="F44"):
        pull(folder_of(tmp_path / "2", [at(observation("a-1", "a"), NIGHTS[8])], NIGHTS[8], **told), protocol(), home)


def test_one_wrong_date_of_the_server_does_not_end_the_search_for_changes(tmp_path):
    clinic = Clinic([one for one in cohort() if one["resourceType"] != "Observation"])
    clinic.now = datetime(2030, 1, 1, tzinfo=UTC)
    clinic.night(tmp_path)
    clinic.now = FIRST_NIGHT + timedelta(days=1)
    clinic.write(observation("a-1", "a", 3))
    clinic.night(tmp_path)
    clinic.write(observation("a-1", "a", 9), version="2")
    for _ in range(9):
        last, _ = clinic.night(tmp_path)
    assert json.loads(next(iter(last.snapshot.lines("Observation"))))["valueQuantity"]["value"] == 9


def test_of_a_patient_who_withdrew_the_name_does_not_stay(tmp_path):
    known = resource("Patient", "b", name=[{"family": "Secret"}], link=[{"other": to("b-old"), "type": "replaces"}])
    people = [known if (one["resourceType"], one["id"]) == ("Patient", "b") else one for one in cohort()]
    home = Home.at(tmp_path / "home")
    pull(folder_of(tmp_path / "1", people, NIGHTS[0]), protocol(), home)
    withdrawn = at(consent("b"), NIGHTS[1], status="inactive", dateTime="2026-03-01")
    night = [withdrawn, at(resource("Patient", "a"), NIGHTS[1])]
    told = changes_since(NIGHTS[0] - timedelta(days=60))
    found = pull(folder_of(tmp_path / "2", night, NIGHTS[1], **told), protocol(), home)
    assert b"Secret" not in b"".join(found.snapshot.lines("Patient"))


def test_of_who_left_no_reference_is_listed(tmp_path):
    clinic = Clinic()
    clinic.night(tmp_path)
    clinic.write(consent("b", status="inactive", dateTime="2026-03-01"), version="2")
    clinic.night(tmp_path)
    told = "".join(path.read_text() for path in Home.at(tmp_path).pulls.rglob("changes.csv"))
    assert "b-1" not in told
    assert "Patient/b" not in told


def test_data_that_are_as_they_once_were_still_tell_what_happened(tmp_path):
    clinic = Clinic()
    first, _ = clinic.night(tmp_path)
    clinic.write(observation("z", "a"))
    clinic.night(tmp_path)
    clinic.server.delete("Observation", "z")
    third, _ = clinic.night(tmp_path)
    assert changes(third) == {("Observation", "deleted"): 1}
    assert third.snapshot.manifest.content == first.snapshot.manifest.content
    quiet, _ = clinic.night(tmp_path)
    assert quiet.snapshot.digest == third.snapshot.digest


def test_the_same_data_from_a_server_that_stopped_counting_are_unverified(tmp_path):
    clinic = Clinic()
    clinic.night(tmp_path)
    clinic.server.injects = tuple(Inject("F06", page, "Observation") for page in (0, "count"))
    second, _ = clinic.night(tmp_path)
    assert second.snapshot.manifest.completeness == second.state == "unverified"


def test_pages_that_may_have_drifted_unseen_are_unverified(tmp_path):
    resources = [group(member("a")), resource("Patient", "a"), *(observation(f"a-{n}", "a") for n in range(1, 7))]
    server = FaultyServer(resources, knows_last_updated=False, paging="offset")
    assert pulled_from(server, tmp_path).state == "unverified"


def test_a_type_that_cannot_be_narrowed_is_read_once_when_somebody_is_new(tmp_path):
    clinic = Clinic()
    clinic.night(tmp_path)
    clinic.write(group(*(member(name) for name in "abcx")), version="2")
    second, _ = clinic.night(tmp_path)
    assert not (second.snapshot.rejections()["rule"] == "duplicate").any()


def test_a_file_named_after_a_person_is_not_named_in_a_message(tmp_path):
    folder = write_folder(tmp_path / "files", cohort(), is_listed=False)
    (folder / "Jane_Doe_1970.ndjson.gz").write_bytes(b"not packed")
    with pytest.raises(IncompleteDataError, match="F39") as caught:
        pull(folder_source(folder), protocol(), Home.at(tmp_path / "home"))
    assert "Jane" not in str(caught.value)
    assert "Jane_Doe" in next((tmp_path / "home").rglob("ledger.csv")).read_text()
