"""Bulk Data export: every fault of the catalogue ends in the same snapshot or in a refusal that names it."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count

import httpx
import pytest
from small_cohort import KEPT, cohort, counts, member, observation, order, protocol, selecting, write_folder

from crps_outcomes.errors import DefinitionError, IncompleteDataError, NoPatientsError, PipelineError, SourceError
from crps_outcomes.fhir import export_source, folder_source, open_source
from crps_outcomes.fhir.auth import bearer_from_variable
from crps_outcomes.fhir.client import Surroundings
from crps_outcomes.fhir.files import lines_in
from crps_outcomes.home import Home, private_folder
from crps_outcomes.stages.pull import pull
from failing_disk import Failing, broken, full, watched
from faulty_server import BASE, PARAMETERS, FaultyServer, Inject, listening
from faulty_server.answers import Answer

SAME = "the same snapshot"
TOKEN = bearer_from_variable("TOKEN", {"TOKEN": "secret-token"})


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.seconds, self.naps = 0.0, []

    def sleep(self, seconds):
        self.naps.append(seconds)
        self.seconds += seconds

    def surroundings(self):
        now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        return Surroundings(sleep=self.sleep, chance=lambda: 0.5, now=lambda: now, clock=lambda: self.seconds)


def exporting(server, level="group", clock=None, **access):
    surroundings = (clock or Clock()).surroundings()
    return export_source(BASE, level, transport=server.transport(), surroundings=surroundings, **access)


def pulled(server, folder, own=None, level="group", **access):
    return pull(exporting(server, level, **access), own or protocol(), Home.at(folder))


def deletes(server):
    return [one.url.path for one in server.requests if one.method == "DELETE"]


def kick_offs(server):
    return [one for one in server.requests if one.url.path.endswith("$export")]


@pytest.fixture(scope="module")
def digest(tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("twin"), cohort())
    return pull(folder_source(folder), protocol(), Home.at(folder / "home")).snapshot.digest


@pytest.mark.parametrize("level", ["system", "patient", "group"])
def test_an_export_gives_the_same_snapshot_as_the_same_data_in_a_folder(level, tmp_path, digest):
    server = FaultyServer(cohort())
    found = pulled(server, tmp_path, level=level)
    assert (found.snapshot.digest, counts(found)) == (digest, KEPT)
    assert found.snapshot.manifest.source_kind == "export"
    assert len(deletes(server)) == 1


def test_a_folder_and_an_export_of_it_are_opened_by_name(tmp_path):
    assert open_source("https://fhir.test/r4", method="export", level="patient").level == "patient"
    assert open_source("https://fhir.test/r4").kind == "rest"
    assert open_source(str(tmp_path), method="export").kind == "folder"


# --- the catalogue --------------------------------------------------------------------------------------------------

FAULTS = [
    ("F31", SAME),
    ("F31 foreign", "F03 refused: foreign origin"),
    ("F31 missing", "F31 the server took the export but does not say where"),
    ("F32", r"F32 the export is refused, HTTP 400 \(invalid\)"),
    ("F32 none", "F32.*HTTP 404"),
    ("F32 not done", "F32.*HTTP 501"),
    ("F32 busy", "F32.*HTTP 429"),
    ("F33", SAME),
    ("F33 too often", SAME),
    ("F33 never", "F33 the export was not done after 2 hours"),
    ("F34", SAME),
    ("F34 for good", "F34 the export ended with HTTP 500"),
    ("F35", "F35 the export reports errors"),
    ("F35 lost", "F35 the export reports errors"),
    ("F35 silent", "F42 the server counts .*, and the export brought none"),
    ("F35 warning", SAME),
    ("F36", "F36 manifest.json declares 25 lines, the file holds 24|F36 manifest.json declares"),
    ("F36 more", "F36 manifest.json declares"),
    ("F36 absent", SAME),
    ("F36 short", "F36 manifest.json declares"),
    ("F37", "F37 a file of the export is gone"),
    ("F37 gone", "F37 a file of the export is gone"),
    ("F38", SAME),
    ("F38 absent", SAME),
    ("F38 elsewhere", "F03 refused: foreign origin"),
    ("F38 expires", "F18 HTTP 401"),
    ("F39", "F39 a file whose last line is cut"),
    ("F39 reset", "F39"),
    ("F39 gzip", "F39"),
    ("F39 blank", SAME),
    ("F39 no end", SAME),
    ("F39 html", "F36 manifest.json declares|F39"),
    ("F40", SAME),
    ("F41", SAME),
    ("F41 loops", "F02 the pages of the manifest do not end"),
    ("F41 foreign", "F03 refused: foreign origin"),
    ("F41 continues", SAME),
    ("F41 partial", SAME),
    ("F42", "F42 the server counts"),
    ("F45", "F45 the manifest has no transactionTime"),
    ("F45 mangled", SAME),
    ("F47", SAME),
    ("F47 unknown", SAME),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "ending"), FAULTS, ids=[fault for fault, _ in FAULTS])
def test_each_fault_ends_in_the_same_snapshot_or_is_named(fault, ending, tmp_path, digest):
    times = 2 if fault in {"F33 too often", "F34", "F33", "F41 partial"} else 1_000_000
    server = FaultyServer(cohort(), Inject(fault, times=times), polls=1 if fault != "F33" else 3)
    if ending == SAME:
        assert pulled(server, tmp_path).snapshot.digest == digest
    else:
        with pytest.raises((SourceError, IncompleteDataError), match=ending):
            pulled(server, tmp_path)
        assert list(Home.at(tmp_path).snapshots.iterdir()) == []
    started = [one for one in kick_offs(server) if fault not in {"F31 foreign", "F31 missing"} and fault[:3] != "F32"]
    assert len(deletes(server)) >= len(started)


ANYWHERE = ("F18", "F20", "F20 epoch ms", "F21", "F21 500", "F23 empty")
PLACES = ("kickoff", "status", "file", "delete")
ONCE = [
    *((fault, at) for fault in ANYWHERE for at in PLACES),
    *((fault, "file") for fault in ("F37", "F39", "F39 reset", "F39 gzip")),
]


@pytest.mark.parametrize(("fault", "at"), ONCE)
def test_what_goes_wrong_once_is_recovered_from(fault, at, tmp_path, digest):
    server = FaultyServer(cohort(), Inject(fault, at=at, times=1), token="secret-token")
    found = pulled(server, tmp_path, credential=TOKEN)
    assert (found.snapshot.digest, found.state) == (digest, "complete")


@pytest.mark.parametrize("fault", ["F22", "F22 xml", "F22 text", "F22 outcome", "F22 other"])
@pytest.mark.parametrize("at", ["kickoff", "manifest", "file"])
def test_f22_what_is_no_answer_is_never_taken_for_one(fault, at, tmp_path):
    server = FaultyServer(cohort(), Inject(fault, at=at, page=0))
    with pytest.raises((SourceError, IncompleteDataError), match=r"F22|F23|F31|F32|F36|F39|F45"):
        pulled(server, tmp_path)


def test_f23_no_text_of_the_server_stands_in_a_message(tmp_path):
    for fault, at in (("F32", "kickoff"), ("F34 for good", "status"), ("F37", "file"), ("F35", "manifest")):
        with pytest.raises(PipelineError) as error:
            pulled(FaultyServer(cohort(), Inject(fault, at=at)), tmp_path / fault)
        assert "Jane" not in str(error.value)


# --- one by one -----------------------------------------------------------------------------------------------------


def test_f31_the_kick_off_sends_exactly_two_headers_and_names_its_types(tmp_path):
    server = FaultyServer(cohort())
    pulled(server, tmp_path)
    (asked,) = kick_offs(server)
    assert (asked.headers["accept"], asked.headers["prefer"]) == ("application/fhir+json", "respond-async")
    assert asked.url.path == "/r4/Group/cohort/$export"
    names = asked.url.params["_type"].split(",")
    assert {"Group", "Patient", "Observation", "Medication"} <= set(names)
    assert len(set(names)) == len(names)
    assert "_since" not in asked.url.params


def test_f33_polls_come_ever_slower_but_never_slower_than_a_minute(tmp_path):
    clock, server = Clock(), FaultyServer(cohort(), polls=15)
    pulled(server, tmp_path, clock=clock)
    assert clock.naps[:4] == [2.0, 3.0, 4.5, 6.75]
    assert max(clock.naps) == 60


def test_f33_an_export_that_is_never_done_is_deleted_when_its_time_is_up(tmp_path):
    clock, server = Clock(), FaultyServer(cohort(), Inject("F33 never"))
    with pytest.raises(SourceError, match=r"F33.*0\.5 hours.*export_hours"):
        pulled(server, tmp_path, protocol(export_hours=0.5), clock=clock)
    assert clock.seconds <= 1800
    assert len(deletes(server)) == 1


def test_f36_without_a_count_the_search_confirms_what_came(tmp_path, digest):
    found = pulled(FaultyServer(cohort(), *(Inject("F36 absent", resource_type=name) for name in KEPT)), tmp_path)
    assert found.snapshot.digest == digest


def test_f36_without_a_count_a_lost_line_is_a_hole_if_the_server_can_search(tmp_path):
    injects = [Inject("F36 absent"), Inject("F36 short")]
    with pytest.raises(IncompleteDataError, match="F36 the server counts 24, the export brought 23"):
        pulled(FaultyServer(cohort(), *injects), tmp_path / "system", level="system")
    found = pulled(FaultyServer(cohort(), *injects), tmp_path / "group")  # it may be a line of an inactive member
    assert found.state == "unverified"


def test_f36_without_a_count_and_without_search_the_pull_is_unverified(tmp_path):
    known = {"Group": PARAMETERS["Group"]}
    found = pulled(FaultyServer(cohort(), Inject("F36 absent"), parameters=known), tmp_path)
    assert found.state == "unverified"


def test_f37_a_file_that_is_gone_is_asked_for_in_a_second_export_and_in_no_third(tmp_path, digest):
    server = FaultyServer(cohort(), Inject("F37", times=1))
    assert pulled(server, tmp_path / "once").snapshot.digest == digest
    assert (len(kick_offs(server)), len(deletes(server))) == (2, 2)
    server = FaultyServer(cohort(), Inject("F37"))
    with pytest.raises(SourceError, match="file_expired"):
        pulled(server, tmp_path / "always")
    assert (len(kick_offs(server)), len(deletes(server))) == (2, 2)


def test_f38_the_token_goes_with_a_file_only_if_the_manifest_says_so(tmp_path):
    for needs in (True, False):
        server = FaultyServer(cohort(), token="secret-token", files_need_token=needs)
        pulled(server, tmp_path / str(needs), credential=TOKEN)
        files = [one for one in server.requests if "/bulkfiles/" in one.url.path]
        assert {"authorization" in one.headers for one in files} == {needs}


def test_t1_f38_a_listed_foreign_host_gets_no_token_and_an_unlisted_one_no_request(tmp_path, digest):
    """The other host is a second listener with the same files; what it sees is what a stranger would see."""
    mirror = FaultyServer(cohort(), files_need_token=False)
    seen = []

    def elsewhere(request, base):
        seen.append(request)
        return mirror.answer(request, base)

    with listening(elsewhere) as other:
        server = FaultyServer(cohort(), Inject("F38 elsewhere", option=other), token="secret-token")
        mirror.jobs = server.jobs
        with server.listen() as base:
            access = {"credential": TOKEN, "surroundings": Clock().surroundings()}
            with pytest.raises(IncompleteDataError, match="F03 refused: foreign origin"):
                pull(export_source(base, "group", **access), protocol(), Home.at(tmp_path / "unlisted"))
            assert seen == []
            access["allowed_origins"] = (other.removesuffix("/r4"),)
            found = pull(export_source(base, "group", **access), protocol(), Home.at(tmp_path / "listed"))
    assert found.snapshot.digest == digest
    assert seen
    assert not any("authorization" in one.headers for one in seen)


FOREIGN = [
    "http://evil.test/bulkstatus/1", "http://evil.test/?http://localhost/r4", "http://localhost@evil.test/r4/bulkstatus/1",
    "http://user@localhost/r4/bulkstatus/1", "http://localhost:81/r4/bulkstatus/1", "https://localhost/r4/bulkstatus/1",
    "http://localhost.evil.test/r4", "http://localhost./r4/bulkstatus/1", "//evil.test/r4/bulkstatus/1", "http://\u2113ocalhost.test/r4",
    "file:///etc/passwd", "http://[", "http://localhost:99999999/", "javascript:1",
]  # fmt: skip


@pytest.mark.parametrize("address", FOREIGN)
@pytest.mark.parametrize("place", ["status", "output", "error", "next"])
def test_t1_no_address_in_an_export_leads_anywhere_else(place, address, tmp_path):
    class Leading(FaultyServer):
        def answer(self, request, base):
            answer = super().answer(request, base)
            if place == "status" and "content-location" in answer.headers:
                return Answer(202, b"", {"content-location": address.encode()})
            if place != "status" and isinstance(answer.body, dict) and "output" in answer.body:
                file = {"type": "Observation", "url": address, "count": 1}
                more = {"link": [{"relation": "next", "url": address}]} if place == "next" else {place: [file]}
                return Answer(200, answer.body | more, answer.headers)
            return answer

    server = Leading(cohort(), token="secret-token")
    with pytest.raises((SourceError, IncompleteDataError), match="F03 refused"):
        pulled(server, tmp_path, credential=TOKEN)
    assert {(one.url.scheme, one.url.host, one.url.port) for one in server.requests} == {("http", "localhost", None)}
    assert not any(one.url.userinfo for one in server.requests)


def test_f39_a_cut_file_is_asked_for_three_times_and_never_half_used(tmp_path):
    server = FaultyServer(cohort(), Inject("F39 reset"))
    with pytest.raises(IncompleteDataError, match=r"export output-\d{5}\.ndjson.*F39"):
        pulled(server, tmp_path)
    tried = [one.url.path for one in server.requests if "/bulkfiles/" in one.url.path]
    assert max(tried.count(path) for path in tried) == 3


def test_a_file_that_cannot_be_had_is_one_hole_and_its_cause_is_named(tmp_path):
    with pytest.raises(IncompleteDataError, match="F19 HTTP 403") as caught:
        pulled(FaultyServer(cohort(), Inject("F19", at="file")), tmp_path)
    assert "F42" not in str(caught.value)


def test_f40_what_the_server_deleted_since_is_told_to_the_pull(tmp_path):
    server = FaultyServer(cohort())
    server.delete("Observation", "a-1")
    since = datetime(2026, 2, 1, tzinfo=UTC)
    with exporting(server).open(order(tmp_path, since=since)) as session:
        assert ("Observation", "a-1") in session.deleted
        assert session.since == since
    assert kick_offs(server)[0].url.params["_since"] == "2026-02-01T00:00:00Z"


def test_f43_a_group_that_is_not_there_is_never_exported(tmp_path):
    nobody = [one for one in cohort() if one["resourceType"] != "Group"]
    server = FaultyServer(nobody, Inject("F43"))
    with pytest.raises(SourceError, match="F29 the server has 0 Groups"):
        pulled(server, tmp_path)
    assert kick_offs(server) == []


def test_f43_two_groups_with_one_identifier_are_no_cohort(tmp_path):
    twin = cohort()[0] | {"id": "twin"}
    with pytest.raises(SourceError, match="has 2 Groups"):
        pulled(FaultyServer([*cohort(), twin]), tmp_path)


def test_f29_an_export_about_nobody_is_an_error_of_its_own(tmp_path):
    empty = [one | {"member": []} if one["resourceType"] == "Group" else one for one in cohort()]
    with pytest.raises(NoPatientsError):
        pulled(FaultyServer(empty), tmp_path)


def test_a_group_export_needs_a_protocol_that_names_a_group(tmp_path):
    with pytest.raises(DefinitionError, match="export_level"):
        pulled(FaultyServer(cohort()), tmp_path, selecting("episode_of_care"))


def test_f46_strangers_in_the_export_are_counted_and_not_kept(tmp_path, digest):
    found = pulled(FaultyServer(cohort()), tmp_path, level="system")
    assert found.snapshot.digest == digest
    assert found.ledger["received"].sum() > found.ledger["accepted"].sum()


def test_f47_the_job_is_deleted_when_the_pull_is_interrupted(tmp_path):
    server, clock = FaultyServer(cohort(), polls=99), Clock()
    clock.sleep = lambda _: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        pulled(server, tmp_path, clock=clock)
    assert len(deletes(server)) == 1


@pytest.mark.parametrize("listed", [True, False])
def test_what_the_export_does_not_hold_is_searched_for(listed, tmp_path, digest):
    class Compartment(FaultyServer):
        """Exports of patients bring no Group, no Medications, and no type whose patient is its subject."""

        def answer(self, request, base):
            answer = super().answer(request, base)
            if isinstance(answer.body, dict) and "output" in answer.body:
                mine = [
                    one for one in answer.body["output"] if one["type"] not in {"Group", "Medication", "AdverseEvent"}
                ]
                answer = Answer(200, answer.body | {"output": mine}, answer.headers)
            return answer

    known = {name: own for name, own in PARAMETERS.items() if listed or name != "AdverseEvent"}
    server = Compartment(cohort(), parameters=known)
    found = pulled(server, tmp_path, level="patient")
    assert (found.snapshot.digest, found.state) == (digest, "complete")
    assert server.asked("Medication")
    assert not [url for url in server.asked("Observation") if "_summary" not in url.params]


# --- killed and resumed ---------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process dies here: nothing is tidied up."""


class Dying:
    """A transport that dies at its nth request and answers nothing from then on."""

    def __init__(self, server, at):
        self.server, self.left, self.seen = server, at, []

    def transport(self):
        whole = self.server.transport()

        def respond(request):
            self.left -= 1
            if self.left < 0:
                raise Killed
            self.seen.append(request)
            return whole.handle_request(request)

        return httpx.MockTransport(respond)


def test_a_pull_killed_at_any_request_goes_on_and_downloads_no_file_twice(tmp_path, digest):
    whole = FaultyServer(cohort())
    pulled(whole, tmp_path / "whole")
    for at in range(1, len(whole.requests)):
        server, place = FaultyServer(cohort()), tmp_path / str(at)
        with pytest.raises(Killed):
            pulled(Dying(server, at), place)
        assert pulled(server, place).snapshot.digest == digest
        files = [one.url.path for one in server.requests if "/bulkfiles/" in one.url.path]
        assert len(kick_offs(server)) <= 2
        if len(kick_offs(server)) == 1:
            assert len(set(files)) == len(files)


def opened(server, asked):
    with exporting(server).open(asked) as session:
        return session


def test_an_export_that_is_all_here_is_not_asked_for_again(tmp_path):
    server = FaultyServer(cohort())
    first, second = (opened(server, order(tmp_path)) for _ in range(2))
    assert (len(kick_offs(server)), first.pulled_at, first.parts) == (1, second.pulled_at, second.parts)


def test_what_was_downloaded_and_changed_since_is_not_used(tmp_path):
    server = FaultyServer(cohort())
    opened(server, order(tmp_path))
    path = next(tmp_path.rglob("output-00001.ndjson"))
    path.write_bytes(path.read_bytes().replace(b"2026", b"2027"))
    opened(server, order(tmp_path))
    assert len(kick_offs(server)) == 2
    assert not any(b"2027" in path.read_bytes() for path in tmp_path.rglob("*.ndjson"))


@pytest.mark.parametrize("change", ["since", "types", "age"])
def test_an_export_of_something_else_or_of_long_ago_is_not_gone_on_with(change, tmp_path):
    server = FaultyServer(cohort())
    later = {
        "since": order(tmp_path, since=datetime(2026, 1, 1, tzinfo=UTC)),
        "types": order(tmp_path, resource_types=("Patient",)),
        "age": order(tmp_path, resume_hours=0),
    }[change]
    opened(server, order(tmp_path))
    if change == "age":
        job = next(tmp_path.rglob("job.json"))
        job.write_text(re.sub(r'"started_at":"[^"]*"', '"started_at":"2026-02-01T00:00:00Z"', job.read_text()))
    opened(server, later)
    assert len(kick_offs(server)) == 2


def stopped(_):
    """The process is gone, but the server stays."""
    raise Killed


def lines_of(session):
    return sorted(line.text for file in session.folder.files for line in lines_in(file.path))


@pytest.mark.parametrize("failure", [stopped, full, broken])
def test_t23_t24_whichever_operation_fails_the_next_export_is_whole(failure, tmp_path):
    whole = lines_of(opened(FaultyServer(cohort()), order(private_folder(tmp_path / "whole"))))
    for nth in count(1):
        server, place, failing = FaultyServer(cohort()), private_folder(tmp_path / str(nth)), Failing(nth, failure)
        with watched(place, failing), suppress(Killed, OSError):
            opened(server, order(place))
        if not failing.has_failed:
            break
        again = opened(server, order(place))
        assert (lines_of(again), [part.hole for part in again.parts if part.hole]) == (whole, [])
    assert nth > 50


def test_an_export_with_a_hole_is_made_anew_the_next_time(tmp_path, digest):
    server = FaultyServer(cohort(), Inject("F36 short", times=1))
    with pytest.raises(IncompleteDataError):
        pulled(server, tmp_path)
    assert pulled(server, tmp_path).snapshot.digest == digest


def test_t37_names_that_a_server_writes_name_no_file(tmp_path):
    hostile = ["../../evil", "/etc/passwd", "a\u0000b", "CON", "x" * 300, "..\\..\\evil"]

    class Hostile(FaultyServer):
        def answer(self, request, base):
            answer = super().answer(request, base)
            if isinstance(answer.body, dict) and "output" in answer.body:
                odd = [
                    {"type": name, "url": f"{base}/bulkfiles/1/0?name={name[:30]}"}
                    for name in hostile
                    if "\0" not in name
                ]
                answer = Answer(200, answer.body | {"output": [*answer.body["output"], *odd]}, answer.headers)
            return answer

    odd = [observation(name, "a") for name in hostile]
    before = {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents}
    found = pulled(Hostile([*cohort(), *odd]), tmp_path / "home")
    assert found.snapshot.rejections()["rule"].eq("unreadable").sum() == len(hostile) - 1  # CON is an id
    written = {path.name for path in (tmp_path / "home").rglob("*") if path.parent.name.startswith("files-")}
    assert all(re.fullmatch(r"(output|error|deleted)-\d{5}\.ndjson|manifest\.json", name) for name in written)
    assert {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents} == before


# --- two nights -----------------------------------------------------------------------------------------------------

NIGHTS = [datetime(2026, 3, day, 12, tzinfo=UTC) for day in (1, 2)]


def changed(one, **elements):
    return one | {"meta": {"versionId": "2", "lastUpdated": "2026-03-02T01:00:00Z"}} | elements


@pytest.mark.parametrize("level", ["system", "patient", "group"])
def test_a_second_night_brings_only_changes_and_ends_in_the_snapshot_of_a_whole_pull(level, tmp_path):
    people = cohort()
    server = FaultyServer(people, now=lambda: night)
    for night in NIGHTS:
        if night == NIGHTS[1]:
            server.put(changed(observation("a-1", "a", 9)))
            server.put(changed(observation("new", "b", 1)))
            server.delete("Observation", "c-1")
        found = pulled(server, tmp_path / "nightly", level=level)
    assert found.snapshot.digest == pulled(server, tmp_path / "whole", level=level).snapshot.digest
    asked = [one.url.params.get("_since", "") for one in kick_offs(server)]
    assert (len(asked), asked[0], asked[2], asked[1] != "") == (3, "", "", True)


@pytest.mark.parametrize("level", ["system", "group"])
def test_f44_who_joins_is_exported_with_everything_that_was_there_before(level, tmp_path):
    people = cohort()
    server = FaultyServer(people, Inject("F44"), now=lambda: night)
    for night in NIGHTS:
        if night == NIGHTS[1]:
            server.put(changed(people[0], member=[*people[0]["member"], member("x")]))
        found = pulled(server, tmp_path / "nightly", level=level)
    assert found.snapshot.digest == pulled(server, tmp_path / "whole", level=level).snapshot.digest
    assert counts(found)["Patient"] == KEPT["Patient"] + 1
