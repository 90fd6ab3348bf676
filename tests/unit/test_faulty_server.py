"""The fault kit: without faults it answers as FHIR wants, and each fault of the catalogue shows at its place."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tracemalloc
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fhirpy import SyncFHIRClient
from typer.testing import CliRunner

from crps_outcomes.cli import app
from faulty_server import BASE, CATALOGUE, VARIANTS, FaultyServer, Inject, Lines, Settings, Smart, write_folder
from faulty_server.answers import EXPORT_PLACES
from unit.small_cohort import cohort, group, member, newer, observation, resource

DOCS = Path(__file__).resolve().parents[2] / "docs" / "fault-kit.md"
ASYNC = {"accept": "application/fhir+json", "prefer": "respond-async"}
HEADERS = ("content-type", "date", "location", "content-location", "content-encoding", "retry-after", "ratelimit",
           "x-progress", "etag")  # fmt: skip
KEY = ec.generate_private_key(ec.SECP384R1())


def people():
    """The small cohort, of whom one has just joined the Group."""
    listed = group(member("a", period={"start": "2026-02-20T00:00:00Z"}), *(member(name) for name in "bcef"))
    return [listed, *cohort()[1:]]


def client_of(server, **headers):
    return httpx.Client(transport=server.transport(), base_url=f"{BASE}/", headers=headers, timeout=5)


def pages_of(http, method, address, **form):
    """The resources of every page, page by page."""
    pages = []
    while address:
        body = http.request(method, address, **form).raise_for_status().json()
        pages.append([one["resource"] for one in body.get("entry", []) if one["search"]["mode"] == "match"])
        address = next((link["url"] for link in body["link"] if link["relation"] == "next"), "")
        method, form = "GET", {}
    return pages


def ids(pages):
    return [one["id"] for page in pages for one in page]


# --- search and read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paging", ["cursor", "offset"])
@pytest.mark.parametrize(
    ("method", "address", "form"),
    [
        ("GET", "Observation?patient=a,b&_count=3", {}),
        ("POST", "Observation/_search", {"data": {"patient": "a,b", "_count": "3"}}),
        ("POST", "Observation/_search?_count=3", {"data": {"patient": "Patient/a,Patient/b"}}),
    ],
)
def test_every_match_stands_on_one_page(paging, method, address, form):
    with client_of(FaultyServer(people(), paging=paging)) as http:
        pages = pages_of(http, method, address, **form)
    assert [len(page) for page in pages] == [3, 3, 2]
    assert ids(pages) == [f"{name}-{number}" for name in "ab" for number in range(1, 5)]


def test_an_independent_client_finds_the_same_resources_over_the_network():
    server = FaultyServer(people(), biggest_page=5)
    with server.listen() as base:
        found = SyncFHIRClient(base).resources("Observation").search(patient="a,b,c").limit(100).fetch_all()
        told = SyncFHIRClient(base).resources("Observation").search(patient="a,b,c").count()
    assert sorted(one["id"] for one in found) == sorted(f"{name}-{number}" for name in "abc" for number in range(1, 5))
    assert told == len(found)
    assert len(server.asked("Observation")) == 4  # three pages and a count


def test_what_is_searched_by_time_comes_sorted_by_it():
    old, new = observation("old", "a"), newer(observation("new", "a"))
    with client_of(FaultyServer([new, old])) as http:
        assert ids(pages_of(http, "GET", "Observation?_sort=_lastUpdated")) == ["old", "new"]
        assert ids(pages_of(http, "GET", "Observation?_sort=-_lastUpdated")) == ["new", "old"]
        assert ids(pages_of(http, "GET", "Observation?_lastUpdated=ge2026-02-02")) == ["new"]
        assert ids(pages_of(http, "GET", "Observation?_lastUpdated=gt2026-01-01&_lastUpdated=lt2026-02-02")) == ["old"]


def test_an_unknown_parameter_is_refused_or_named_but_never_ignored_in_silence():
    with client_of(FaultyServer(people())) as http:
        assert http.get("Observation?colour=red", headers={"prefer": "handling=strict"}).status_code == 400
        body = http.get("Observation?colour=red&patient=a").raise_for_status().json()
    assert [one["resource"]["resourceType"] for one in body["entry"] if one["search"]["mode"] == "outcome"] == [
        "OperationOutcome"
    ]
    assert body["link"][0] == {"relation": "self", "url": f"{BASE}/Observation?patient=a"}
    assert body["total"] == 4


def test_total_and_count_are_told_as_asked():
    with client_of(FaultyServer(people())) as http:
        assert http.get("Patient?_summary=count").json()["total"] == 6
        assert "entry" not in http.get("Patient?_count=0").json()
        assert "total" not in http.get("Patient?_total=none").json()
        assert [http.get(f"Patient?{wrong}").status_code for wrong in ("_count=many", "_sort=name")] == [400, 400]


def test_a_read_knows_what_is_there_what_was_deleted_and_what_never_was():
    server = FaultyServer(people())
    server.put(newer(resource("Patient", "a")))
    server.delete("Patient", "b")
    with client_of(server) as http:
        assert http.get("Patient/a").headers["etag"] == 'W/"2"'
        assert [http.get(f"Patient/{name}").status_code for name in ("b", "nobody")] == [410, 404]
        assert http.get("Unheard/of").status_code == 404
        assert sorted(ids(pages_of(http, "GET", "Patient"))) == ["a", "c", "d", "e", "x"]


def test_by_offset_a_deletion_loses_a_live_row_while_the_total_still_agrees():
    server = FaultyServer(people(), Inject("F04 swap", page=1, times=1))
    with client_of(server) as http:
        found = ids(pages_of(http, "GET", "Observation?patient=a,b&_count=3"))
    live = {one["id"] for one in server.resources if one["id"][:2] in {"a-", "b-"}}
    assert len(found) == len(live) == 8
    assert live - {*found} == {"a-4"}


def test_what_changes_between_two_pages_can_be_told_by_a_function():
    change = Inject("F04", page=2, times=1, option=lambda server: server.delete("Observation", "b-4"))
    with client_of(FaultyServer(people(), change)) as http:
        assert ids(pages_of(http, "GET", "Observation?patient=a,b&_count=3"))[-1] == "b-3"


# --- export ---------------------------------------------------------------------------------------------------------


def exported(http, address, **headers):
    """The job's address, its whole manifest, and the lines of every file."""
    job = http.get(address, headers={**ASYNC, **headers}).raise_for_status().headers["content-location"]
    manifest = {"output": [], "error": [], "deleted": []}
    page = job
    while page:
        if (answer := http.get(page)).status_code == 202:
            continue
        body = answer.raise_for_status().json()
        manifest = {**body, **{kind: manifest[kind] + body[kind] for kind in ("output", "error", "deleted")}}
        page = next((link["url"] for link in body.get("link", ())), "")
    files = {one["url"]: http.get(one["url"]).raise_for_status().text.splitlines() for one in manifest["output"]}
    return job, manifest, files


def resources_in(files):
    return [json.loads(line) for lines in files.values() for line in lines]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("$export", {"Patient": 6, "Observation": 24, "Medication": 2, "AdverseEvent": 3}),
        ("Patient/$export", {"Patient": 6, "Observation": 24, "Medication": 2, "AdverseEvent": 3}),
        ("Group/cohort/$export", {"Patient": 4, "Observation": 16, "Medication": 2, "AdverseEvent": 2}),
        ("Group/cohort/$export?_type=Patient", {"Patient": 4, "Observation": 0, "Group": 0}),
    ],
)
def test_an_export_holds_what_its_level_says(address, expected):
    server = FaultyServer(people(), file_lines=5, manifest_files=2, polls=2)
    with client_of(server) as http:
        _, manifest, files = exported(http, address)
    names = [one["resourceType"] for one in resources_in(files)]
    assert {name: names.count(name) for name in expected} == expected
    assert [one["count"] for one in manifest["output"]] == [len(files[one["url"]]) for one in manifest["output"]]
    assert max(one["count"] for one in manifest["output"]) <= 5


def test_an_export_since_a_moment_tells_what_changed_what_is_gone_and_who_is_new():
    server = FaultyServer(people())
    server.put(newer(observation("b-1", "b", 9), id="b-1"))
    server.delete("Observation", "c-1")
    with client_of(server) as http:
        _, manifest, files = exported(http, "Group/cohort/$export?_type=Observation&_since=2026-02-02T00:00:00Z")
        gone = [json.loads(http.get(one["url"]).text) for one in manifest["deleted"]]
    assert sorted(one["id"] for one in resources_in(files)) == ["a-1", "a-2", "a-3", "a-4", "b-1"]
    assert [one["request"] for one in gone[0]["entry"]] == [{"method": "DELETE", "url": "Observation/c-1"}]


def test_a_job_can_be_deleted_once():
    with client_of(FaultyServer(people())) as http:
        job, _, files = exported(http, "$export?_type=Patient")
        assert [http.delete(job).status_code, http.delete(job).status_code, http.get(job).status_code] == [
            202,
            404,
            404,
        ]
        assert {http.get(one).status_code for one in files} == {404}


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("$export", {}, 202),
        ("$export", {"prefer": ""}, 400),
        ("$export", {"accept": "*/*"}, 400),
        ("$export?_type=Unheard", {}, 400),
        ("$export?_since=yesterday", {}, 400),
        ("$export?_outputFormat=csv", {}, 400),
        ("$export?_typeFilter=Observation%3Fcode%3Dx", {}, 202),
        ("Group/nobodys/$export", {}, 404),
    ],
)
def test_a_kick_off_is_refused_when_it_is_not_as_it_should_be(address, headers, status):
    with client_of(FaultyServer(people())) as http:
        assert http.get(address, headers={**ASYNC, **headers}).status_code == status


def test_files_are_packed_for_those_who_say_so_and_need_the_token_the_manifest_says_they_need():
    server = FaultyServer(people(), token="t")
    with client_of(server, authorization="Bearer t") as http:
        _, manifest, files = exported(http, "$export?_type=Patient")
        (address,) = files
        plain = http.get(address, headers={"accept-encoding": "identity"})
        assert manifest["requiresAccessToken"] is True
        assert http.get(address, headers={"authorization": ""}).status_code == 401
        assert http.get(address).headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert plain.text == http.get(address).text


def test_a_long_file_passes_in_little_memory():
    n, one = 200_000, b'{"resourceType":"Observation","id":"o-%06d"}\n'
    server = FaultyServer([], lines={"Observation": Lines(lambda: (one % number for number in range(n)), n)})
    with client_of(server) as http:
        job = http.get("$export", headers=ASYNC).headers["content-location"]
        manifest = [http.get(job), http.get(job)][1].json()
        tracemalloc.start()
        with http.stream("GET", manifest["output"][0]["url"]) as response:
            n_lines = sum(block.count(b"\n") for block in response.iter_bytes())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert manifest["output"][0]["count"] == n_lines == n
    assert peak < 4_000_000  # of a file of nearly 10 MB


def test_lines_may_come_from_a_file(tmp_path):
    path = tmp_path / "Observation.ndjson"
    path.write_text('{"resourceType":"Observation","id":"o"}\n')
    with client_of(FaultyServer([], lines={"Observation": path})) as http:
        _, manifest, files = exported(http, "$export")
    assert resources_in(files) == [{"resourceType": "Observation", "id": "o"}]
    assert "count" not in manifest["output"][0]


# --- SMART ----------------------------------------------------------------------------------------------------------


def smart(key=KEY, **more):
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    public = kind.to_jwk(key.public_key(), as_dict=True) | {"kid": "k"}
    return Smart("client", {"keys": [public]}, seconds=lambda: 1000.0, **more)


def form_for(endpoint, *, key=KEY, scope="system/Patient.rs system/Observation.read", head=None, **claims):
    algorithm = "RS384" if isinstance(key, rsa.RSAPrivateKey) else "ES384"
    told = {"iss": "client", "sub": "client", "aud": endpoint, "exp": 1200, "jti": "1", **claims}
    return {
        "grant_type": "client_credentials",
        "scope": scope,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": jwt.encode(told, key, algorithm=algorithm, headers={"kid": "k", **(head or {})}),
    }


def asked_for(http, endpoint, **more):
    return http.post(endpoint, data=form_for(endpoint, **more))


def endpoint_of(http):
    return http.get(".well-known/smart-configuration").json()["token_endpoint"]


@pytest.mark.parametrize("key", [KEY, rsa.generate_private_key(65537, 2048)], ids=["ES384", "RS384"])
def test_a_token_is_good_for_the_scopes_granted_and_as_long_as_it_lives(key):
    server = FaultyServer(people(), smart=smart(key), token_uses=3)
    with client_of(server) as http:
        assert http.get("metadata").status_code == 401
        told = asked_for(http, endpoint_of(http), key=key).raise_for_status().json()
        own = {"authorization": f"Bearer {told['access_token']}"}
        answers = [http.get(name, headers=own).status_code for name in ("Patient", "Group", "Observation", "Patient")]
    assert told["scope"] == "system/Patient.rs system/Observation.read"
    assert told["expires_in"] == 300
    assert answers == [200, 403, 200, 401]


def test_a_token_is_over_when_its_time_is():
    clock = iter([1000.0, 1000.0, 1299.0, 1300.0])
    server = FaultyServer(people(), smart=replace(smart(), seconds=lambda: next(clock)))
    with client_of(server) as http:
        own = {"authorization": f"Bearer {asked_for(http, endpoint_of(http)).json()['access_token']}"}
        assert [http.get("Patient", headers=own).status_code for _ in range(2)] == [200, 401]


def test_scopes_are_narrowed_to_what_the_client_may_have_and_an_export_with_them():
    server = FaultyServer(people(), smart=smart(scopes=("system/Patient.rs",)))
    with client_of(server) as http:
        endpoint = endpoint_of(http)
        told = asked_for(http, endpoint).json()
        http.headers["authorization"] = f"Bearer {told['access_token']}"
        _, _, files = exported(http, "$export")
        refused = http.get("$export?_type=Patient,Observation", headers=ASYNC)
        nothing = asked_for(http, endpoint, scope="system/Consent.rs", jti="2")
    assert told["scope"] == "system/Patient.rs"
    assert {one["resourceType"] for one in resources_in(files)} == {"Patient"}
    assert refused.status_code == 400
    assert (nothing.status_code, nothing.json()["error"]) == (400, "invalid_scope")


@pytest.mark.parametrize("wrong", [
    {"aud": f"{BASE}/auth/token/"}, {"exp": 999}, {"exp": 1400}, {"sub": "another"}, {"iss": "another"}, {"jti": "seen"},
    {"head": {"kid": "another"}}, {"key": ec.generate_private_key(ec.SECP384R1())},
], ids=["audience", "over", "too long", "subject", "issuer", "replayed", "unknown key", "other key"])  # fmt: skip
def test_an_assertion_that_is_not_good_gets_no_token(wrong):
    with client_of(FaultyServer(people(), smart=smart())) as http:
        endpoint = endpoint_of(http)
        assert asked_for(http, endpoint, jti="seen").status_code == 200
        refused = asked_for(http, endpoint, **wrong)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_client")


# --- the faults -----------------------------------------------------------------------------------------------------


def heard(http, method, address, **more):
    """What came back, in a form that can be compared."""
    try:
        answer = http.request(method, address, **more)
    except httpx.HTTPError as error:
        return None, type(error).__name__
    told = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
    return answer, (answer.status_code, told, answer.content)


def read(answer):
    """The JSON of an answer, if it is an object."""
    try:
        body = answer.json()
    except (AttributeError, ValueError, httpx.HTTPError):
        return {}
    return body if isinstance(body, dict) else {}


def next_in(body):
    address = next((link["url"] for link in body.get("link", ()) if link["relation"] == "next"), "")
    return address if httpx.URL(BASE).join(address).host == httpx.URL(BASE).host else ""


def login(http):
    """Discovery and a token, as far as they can be had."""
    found, discovered = heard(http, "GET", ".well-known/smart-configuration")
    endpoint = read(found).get("token_endpoint", "")
    if not endpoint.startswith(BASE):
        return [discovered]
    answer, told = heard(http, "POST", endpoint, data=form_for(endpoint, scope="system/*.rs system/Basic.rs"))
    http.headers["authorization"] = f"Bearer {read(answer).get('access_token', '')}"
    return [discovered, told]


def searched(http, method, address, **form):
    told = []
    while address and len(told) < 8:
        answer, one = heard(http, method, address, **form)
        told.append(one)
        address, method, form = next_in(read(answer)), "GET", {}
    return told


def all_of_rest(http):
    """What a curious client sees of the REST part."""
    single = ["metadata", "Observation?_summary=count", "Observation/a-1", "Observation?_include=Observation:subject"]
    return [
        *login(http),
        *(heard(http, "GET", address)[1] for address in single),
        *searched(http, "GET", "Observation?patient=a,b&_count=3"),
        *searched(http, "POST", "Observation/_search", data={"patient": "a,b", "_count": "3"}),
        *searched(http, "GET", "Group"),
        *searched(http, "GET", "Observation?_lastUpdated=ge2026-01-01"),
    ]


def all_of_export(http):
    """What a curious client sees of the exports."""
    kick_offs = ["Group/unknown/$export", "Group/cohort/$export", "Group/cohort/$export?_since=2026-02-15"]
    return [*login(http), *(one for address in kick_offs for one in job_of(http, address))]


def job_of(http, address):
    answer, one = heard(http, "GET", address, headers=ASYNC)
    told, job = [one], answer.headers.get("content-location", "") if answer is not None else ""
    page = job if job.startswith(BASE) else ""
    while page and len(told) < 8:
        answer, one = heard(http, "GET", page)
        told.append(one)
        body = read(answer)
        files = [entry["url"] for entry in [*body.get("output", ()), *body.get("error", ()), *body.get("deleted", ())]]
        told += [heard(http, "GET", url)[1] for url in files if url.startswith(BASE)]
        page = next_in(body) if body and answer.status_code == 200 else page if one[0] == 202 else ""
    return [*told, heard(http, "DELETE", job)[1]] if job.startswith(BASE) else told


@cache
def clean_look(look, kind=()):
    """What is seen of a server without a fault."""
    with client_of(FaultyServer(people(), smart=smart(), **dict(kind))) as http:
        return look(http)


PLACES = [(name, place) for name, one in VARIANTS.items() for place in one.places]


@pytest.mark.parametrize(("name", "place"), PLACES, ids=[f"{name} at {place}" for name, place in PLACES])
def test_a_fault_shows_at_its_place(name, place):
    look, variant = all_of_export if place in EXPORT_PLACES else all_of_rest, VARIANTS[name]
    # the twin is of the same kind where the fault needs a kind: what differs is the fault itself
    kind = tuple(variant.settings.items()) if variant.act else ()
    with client_of(FaultyServer(people(), Inject(name, at=place), smart=smart())) as faulty:
        assert look(faulty) != clean_look(look, kind)


@pytest.mark.parametrize("look", [all_of_rest, all_of_export])
def test_two_servers_without_faults_answer_alike(look):
    assert clean_look(look) == clean_look.__wrapped__(look)


def test_a_fault_strikes_where_and_as_often_as_it_is_told_to():
    server = FaultyServer(people(), Inject("F21", page=2, times=1), Inject("F19", page=0, resource_type="Consent"))
    with client_of(server) as http:
        answers = [http.get(one) for one in ("Observation?_count=3", "Consent", "Patient")]
        second = next_in(answers[0].json())
        assert [one.status_code for one in answers] == [200, 403, 200]
        assert [http.get(second).status_code for _ in range(2)] == [503, 200]


@pytest.mark.parametrize("wrong", [Inject("F99"), Inject("F21", at="pages")])
def test_a_fault_that_would_stand_nowhere_is_refused(wrong):
    with pytest.raises(ValueError, match=r"no fault|no place"):
        FaultyServer(people(), wrong)


def test_the_app_the_transport_and_the_listener_answer_alike():
    async def asked(server):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server.app), base_url=f"{BASE}/") as http:
            return (await http.get("Observation?_count=2")).json()

    def server():
        return FaultyServer(people(), Inject("F07", page=1))

    with client_of(server()) as http, server().listen() as base:
        told = http.get("Observation?_count=2").json()
        assert asyncio.run(asked(server())) == told
        heard_there = httpx.get(f"{base}/Observation?_count=2").text
    assert json.loads(heard_there.replace(base, BASE)) == told


def test_a_connection_that_dies_dies_on_the_network_too():
    server = FaultyServer(people(), Inject("F21 reset", page=1), Inject("F39 reset"))
    with server.listen() as base, httpx.Client(base_url=f"{base}/") as http:
        with pytest.raises(httpx.RemoteProtocolError):
            http.get("Observation")
        job = http.get("$export", headers=ASYNC).headers["content-location"]
        output = [http.get(job), http.get(job)][1].json()["output"]
        (address,) = (one["url"] for one in output if one["type"] == "Observation")
        with pytest.raises(httpx.RemoteProtocolError):
            http.get(address)


def test_a_slow_answer_is_waited_for_only_so_long():
    server = FaultyServer(people(), Inject("F21 slow", page=1, option=0.2))
    with server.listen() as base, httpx.Client(base_url=f"{base}/", timeout=0.05) as http:
        with pytest.raises(httpx.ReadTimeout):
            http.get("Observation")
        assert http.get("Observation", timeout=5).status_code == 200


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", [name for name, one in VARIANTS.items() if "folder" in one.sources])
def test_a_fault_shows_in_a_folder(name, tmp_path):
    clean, spoiled = (
        write_folder(people(), tmp_path / "clean"),
        write_folder(people(), tmp_path / "spoiled", Inject(name)),
    )
    assert files_in(spoiled) != files_in(clean)


def test_the_catalogue_is_whole():
    assert [one.code for one in CATALOGUE] == [f"F{number:02d}" for number in range(1, 53)]
    assert all(one.sources and one.variants for one in CATALOGUE)
    assert len(VARIANTS) == sum(len(one.variants) for one in CATALOGUE)
    assert {name for one in VARIANTS.values() for name in one.settings} <= {one.name for one in fields(Settings)}


# --- the command and the page ---------------------------------------------------------------------------------------


def test_the_list_names_every_fault_and_what_it_can_strike():
    told = CliRunner().invoke(app, ["faults", "--list"]).stdout
    assert all(f"{one.code}  " in told for one in CATALOGUE)
    assert re.search(r"^F36 .*export, folder", told, re.MULTILINE)


@pytest.mark.parametrize(("arguments", "words"), [
    (["serve", "F99"], "no such fault"), (["serve", "F34", "--at", "page"], "can strike at status"),
    (["write", "F01", "--out", "nowhere"], "cannot strike a folder"),
])  # fmt: skip
def test_what_cannot_be_is_a_usage_error(arguments, words):
    done = CliRunner().invoke(app, ["faults", *arguments])
    assert done.exit_code == 2
    assert words in done.output


def test_the_command_serves_with_the_fault_and_stops_by_itself():
    command = [sys.executable, "-c", "from crps_outcomes.cli import main; main()", "faults", "serve", "F07", "--page", "2",
               "--patients", "2", "--seconds", "1"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        with httpx.Client(base_url=f"{process.stdout.readline().strip()}/") as http:
            first = http.get("Observation").json()
            second = http.get(next_in_any(first)).json()
        assert process.wait(timeout=20) == 0
    assert second["total"] == first["total"] + 1
    assert process.stdout.closed


def next_in_any(body):
    return next(link["url"] for link in body["link"] if link["relation"] == "next")


def test_the_command_writes_a_spoiled_folder(tmp_path):
    done = CliRunner().invoke(app, ["faults", "write", "F36", "--out", str(tmp_path), "--patients", "2"])
    manifest = json.loads((Path(done.stdout.splitlines()[-1]) / "manifest.json").read_text())
    (count,) = (one["count"] for one in manifest["output"] if one["type"] == "Observation")
    assert len((tmp_path / "Observation.ndjson").read_text().splitlines()) == count - 1


def test_the_page_about_the_kit_lists_the_catalogue():
    rows = re.findall(r"^\| (F\d\d) \| (.+) \| (.+) \| (.+) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [
        (one.code, one.title, ", ".join(one.sources), ", ".join(f"`{each.name}`" for each in one.variants))
        for one in CATALOGUE
    ]


def test_the_example_of_the_page_prints_what_the_page_says(capsys):
    (example,) = re.findall(r"^```python\n(.+?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    exec(example, {})
    assert f"print(silent)  # {capsys.readouterr().out.strip()}" in example
