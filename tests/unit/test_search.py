"""The fault catalogue over REST: whatever the server does, the pull has everything or says what is missing."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime

import httpx
import pytest
from small_cohort import KEPT, cohort, counts, protocol, pulled_from

from crps_outcomes.errors import DefinitionError, IncompleteDataError, SourceError
from crps_outcomes.fhir import auth, open_source, rest_source
from crps_outcomes.fhir.client import FaultError, Surroundings, connect, origin
from crps_outcomes.home import Home
from crps_outcomes.stages.pull import pull
from faulty_server import BASE, DATE, PARAMETERS, Answer, FaultyServer, Inject, listening

QUICK = Surroundings(sleep=lambda _: None, chance=lambda: 0.5)
SECRET = auth.bearer_from_variable("TOKEN", {"TOKEN": "secret"})


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """The pull of the cohort from a server without faults."""
    return pulled_from(FaultyServer(cohort()), tmp_path_factory.mktemp("clean"))


def test_a_server_without_faults_gives_everything_about_the_enrolled_and_nothing_else(clean):
    assert clean.state == "complete"
    assert counts(clean) == KEPT
    assert (clean.ledger["accepted"] + clean.ledger["rejected"] == clean.ledger["received"]).all()


HARMLESS = [
    Inject("F05"),
    Inject("F09"),
    Inject("F07", times=1),
    Inject("F07 lost page", times=1),
    Inject("F12", page=2, times=1),
    Inject("F13", page=1, option=(500, 1)),
    Inject("F13", page=1, option=(414, 1)),
    Inject("F13", page=1, option=(431, 1)),
    Inject("F13", page=1, option=(413, 1)),
    Inject("F17", times=2),
    Inject("F24", page=2, times=1),
    Inject("F18", times=1),
    Inject("F20", times=4, option={"retry-after": "7"}),
    Inject("F21", times=4),
    Inject("F21 cut", times=4),
    Inject("F21", page=1, resource_type="Patient", times=3),
    Inject("F21 reset", at="metadata", times=4),
    Inject("F21 cut", at="metadata", times=4),
]


@pytest.mark.parametrize("inject", HARMLESS, ids=lambda one: f"{one.code} page {one.page} x{one.times}")
def test_what_can_be_cured_leaves_no_trace(inject, clean, tmp_path):
    pulled = pulled_from(FaultyServer(cohort(), inject), tmp_path)
    assert pulled.snapshot.digest == clean.snapshot.digest
    assert pulled.state == "complete"


HOLES = [
    (Inject("F02"), "F02"),
    (Inject("F02 never ends"), "F02"),
    (Inject("F03", page=1, option="http://elsewhere.test/r4/Observation?page=2"), "F03"),
    (Inject("F03 redirect", option="http://elsewhere.test/r4/Observation?page=2"), "F03"),
    (Inject("F07"), "F07"),
    (Inject("F07 lost page"), "F07"),
    (Inject("F12"), "F12"),
    (Inject("F13", page=1, option=(414, 0)), "F13"),
    (Inject("F15", page=1), "F15"),
    (Inject("F16"), "F16"),
    (Inject("F17"), "F17"),
    (Inject("F18"), "F18"),
    (Inject("F19", page=1), "F19"),
    (Inject("F20"), "F20"),
    (Inject("F21"), "F21"),
    (Inject("F21 cut"), "F21"),
    (Inject("F22"), "F22"),
    (Inject("F22 outcome"), "F22"),
    (Inject("F23"), "F23"),
    (Inject("F30", page=1, resource_type="Consent"), "F30"),
    (Inject("F28 urn", page=1, resource_type="Consent"), "F28"),
    (Inject("F28 logical", page=1, resource_type="Consent"), "F28"),
    (Inject("F28 contained", page=1, resource_type="Consent"), "F28"),
    (Inject("F22", page=1, resource_type="Group"), "F22"),
    (Inject("F17", page=1, resource_type="Patient"), "F17"),
]


@pytest.mark.parametrize(("inject", "code"), HOLES, ids=lambda one: getattr(one, "code", one))
def test_what_cannot_be_cured_is_refused_by_name_and_nothing_is_published(inject, code, tmp_path):
    with pytest.raises(IncompleteDataError, match=code) as caught:
        pulled_from(FaultyServer(cohort(), inject), tmp_path)
    home = Home.at(tmp_path)
    (ledger,) = home.pulls.glob("*/ledger.csv")
    assert inject.resource_type in str(caught.value)
    assert code in ledger.read_text(encoding="utf-8")
    assert list(home.snapshots.iterdir()) == []
    assert not any(person in str(caught.value) for person in ("Roe", "1970", "a-1", "Patient/"))


def test_a_server_that_never_states_totals_gives_an_unverified_pull(clean, tmp_path):
    silent = [Inject("F06", page, name) for name in PARAMETERS for page in (0, "count")]
    pulled = pulled_from(FaultyServer(cohort(), *silent), tmp_path)
    assert (pulled.state, pulled.snapshot.digest) == ("unverified", clean.snapshot.digest)


def test_totals_that_pages_do_not_state_are_counted_before_and_after(tmp_path):
    silent = [Inject("F06", 0, name) for name in PARAMETERS]
    assert pulled_from(FaultyServer(cohort(), *silent), tmp_path).state == "complete"
    lost = Inject("F07 lost page")
    with pytest.raises(IncompleteDataError, match="F07"):
        pulled_from(FaultyServer(cohort(), lost, *silent), tmp_path)


def test_rows_that_vanish_during_a_pull_are_noticed_even_if_the_last_count_fits(tmp_path):
    resources = [one for one in cohort() if one["id"] != "a-4"]
    more = Inject("F07", page=1, times=3)
    with pytest.raises(IncompleteDataError, match="F04"):
        pulled_from(FaultyServer(resources, more), tmp_path, protocol(workers=1))  # every time to one query


def test_a_page_that_leads_to_itself_is_asked_for_once(tmp_path):
    server = FaultyServer(cohort(), Inject("F02"))
    with pytest.raises(IncompleteDataError, match="F02"):
        pulled_from(server, tmp_path)
    asked = [str(url) for url in server.asked("Observation")]
    assert len(asked) == len(set(asked))


def test_pages_that_add_nothing_end_soon_even_without_a_total(tmp_path):
    silent = [Inject("F06", page, "Observation") for page in (0, "count")]
    server = FaultyServer(cohort(), Inject("F02 never ends"), *silent)
    with pytest.raises(IncompleteDataError, match="F02"):
        pulled_from(server, tmp_path)
    assert len(server.asked("Observation")) < 20


def test_once_half_a_chunk_cannot_be_had_the_other_half_is_not_asked_for(tmp_path):
    server = FaultyServer(cohort(), Inject("F13", page=1, option=(414, 0)))
    with pytest.raises(IncompleteDataError, match="F13"):
        pulled_from(server, tmp_path)
    assert {url.params.get("patient") for url in server.asked("Observation")} == {"a,b", "a", "c"}


def test_an_entry_that_is_no_resource_loses_neither_its_page_nor_its_place_in_the_count(clean, tmp_path):
    pulled = pulled_from(FaultyServer(cohort(), Inject("F30", page=1)), tmp_path)
    unreadable = pulled.snapshot.rejections().query("rule == 'unreadable'")
    assert pulled.state == "complete"
    assert counts(pulled)["Observation"] == counts(clean)["Observation"] - len(unreadable)
    assert (pulled.ledger["accepted"] + pulled.ledger["rejected"] == pulled.ledger["received"]).all()


def test_no_page_is_ever_asked_for_by_arithmetic(tmp_path):
    """A server that sends shorter pages than asked is followed to the end."""
    server = FaultyServer(cohort(), biggest_page=1)
    assert counts(pulled_from(server, tmp_path, protocol(page_size=200))) == KEPT


def test_each_person_stands_in_exactly_one_query_per_type(tmp_path):
    server = FaultyServer(cohort())
    pulled_from(server, tmp_path)
    read = [url for url in server.asked("Observation") if "_lastUpdated" not in url.params]
    asked = [name for url in read for name in url.params.get("patient", "").split(",") if name]
    assert sorted(asked) == ["a", "b", "c"]


def test_what_a_server_cannot_narrow_is_asked_for_whole_and_filtered_here(tmp_path):
    parameters = dict.fromkeys(PARAMETERS, ())
    server = FaultyServer(cohort(), parameters=parameters)
    pulled = pulled_from(server, tmp_path)
    observations = pulled.ledger.query("resource_type == 'Observation'")
    assert counts(pulled) == KEPT
    assert observations["rejected"].sum() == 12
    assert "x-1" not in (pulled.snapshot.folder / "ledger.parquet").read_bytes().decode("latin-1")


@pytest.mark.parametrize("spoiled", ["AdverseEvent", "Consent", "Group"])
def test_a_type_the_server_does_not_have_is_an_error_before_any_pull(spoiled, tmp_path):
    parameters = {name: own for name, own in PARAMETERS.items() if name != spoiled}
    server = FaultyServer([one for one in cohort() if one["resourceType"] != spoiled], parameters=parameters)
    with pytest.raises(SourceError, match=rf"F24.*{spoiled}.*protocol\.toml"):
        pulled_from(server, tmp_path)
    assert server.asked("Observation") == []


def test_a_type_that_only_the_capability_statement_forgets_is_pulled(clean, tmp_path):
    parameters = {name: own for name, own in PARAMETERS.items() if name not in {"AdverseEvent", "Observation"}}
    assert pulled_from(FaultyServer(cohort(), parameters=parameters), tmp_path).snapshot.digest == clean.snapshot.digest


# --- reaching it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inject", "words"), [
    (Inject("F18", page="count", resource_type="Patient"), "HTTP 401 .login"),
    (Inject("F19", page="count", resource_type="Patient"), "HTTP 403"),
    (Inject("F22", page=1, resource_type="metadata"), "no FHIR server answers"),
    (Inject("F22 outcome", page=1, resource_type="metadata"), "no FHIR server answers"),
    (Inject("F21", page=1, resource_type="metadata"), "HTTP 503"),
])  # fmt: skip
def test_a_refusal_at_first_contact_is_a_source_error(inject, words, tmp_path):
    with pytest.raises(SourceError, match=words) as caught:
        pulled_from(FaultyServer(cohort(), inject), tmp_path)
    assert caught.value.exit_code == 3
    assert "Roe" not in str(caught.value)


def test_a_refused_connection_is_a_source_error_at_once(tmp_path):
    waits = []
    with listening(lambda *_: Answer()) as base:
        gone = base
    source = rest_source(gone, surroundings=Surroundings(sleep=waits.append))
    with pytest.raises(SourceError, match=r"no FHIR server answers at http://127\.0\.0\.1"):
        pull(source, protocol(), Home.at(tmp_path))
    assert waits == []


def test_a_token_is_read_from_its_file_for_every_request(tmp_path):
    server, file = FaultyServer(cohort(), token="first"), tmp_path / "token"
    file.write_text("first\n")
    file.chmod(0o600)
    assert pulled_from(server, tmp_path / "home", credential=auth.bearer_from_file(file)).state == "complete"
    server.token = "second"
    file.write_text("second\n")
    assert pulled_from(server, tmp_path / "home", credential=auth.bearer_from_file(file)).state == "complete"


def test_a_token_others_may_read_is_refused(tmp_path):
    file = tmp_path / "token"
    file.write_text("secret")
    file.chmod(0o640)
    with pytest.raises(DefinitionError, match="0600") as caught:
        auth.bearer_from_file(file)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "two words", "line\nbreak", "ümlaut"])
def test_a_variable_that_is_no_token_is_refused(text):
    with pytest.raises(DefinitionError, match="TOKEN"):
        auth.bearer_from_variable("TOKEN", {"TOKEN": text})


@pytest.mark.parametrize("url", [
    "https://user@fhir.test/r4", "https://fhir.test/r4?x=1", "https://fhir.test/r4#x", "ftp://fhir.test/r4", "https://",
])  # fmt: skip
def test_an_address_that_hides_something_is_refused(url):
    with pytest.raises(DefinitionError), _connected(url):
        pass


def test_a_token_is_never_sent_unencrypted_to_another_machine():
    with pytest.raises(DefinitionError, match="unencrypted"), _connected("http://fhir.test/r4", credential=SECRET):
        pass


# --- one origin (T1, T2) --------------------------------------------------------------------------------------------

FOREIGN = [
    "http://{evil}/r4/Observation",
    "http://127.0.0.1:{port}@{evil}/r4",
    "http://{evil}/?http://127.0.0.1:{port}/r4",
    "//{evil}/r4/Observation",
    "http://127.0.0.1.:{port}/r4",
    "https://127.0.0.1:{port}/r4",
    "http://user:word@127.0.0.1:{port}/r4",
    "http://localhost:{port}/r4",
    "http://bücher.test:{port}/r4",
    "javascript:1",
    "http://a:b:c/",
]


@pytest.mark.parametrize("form", FOREIGN)
@pytest.mark.parametrize("code", ["F03", "F03 redirect"])
def test_a_listening_second_origin_hears_nothing(form, code, tmp_path):
    heard = []

    def evil(request, _base):
        heard.append(request)
        return Answer(200, {})

    server = FaultyServer(cohort(), token="secret")
    with listening(evil) as elsewhere, server.listen() as base:
        here, there = httpx.URL(base), httpx.URL(elsewhere)
        option = form.format(evil=f"{there.host}:{there.port}", port=here.port)
        server.injects = (Inject(code, page=1, option=option),)
        source = rest_source(base, credential=SECRET, surroundings=QUICK)
        if code == "F03 redirect" and not option.isascii():
            return  # a header cannot carry it
        with pytest.raises(IncompleteDataError, match=r"F03|F21.*no whole answer"):
            pull(source, protocol(), Home.at(tmp_path))
    assert heard == []


def test_origins_are_compared_as_parsed():
    same = ["https://h/x", "https://H:443/y", "HTTPS://h"]
    assert len({origin(httpx.URL(url)) for url in same}) == 1
    other = ["https://h.", "https://h:444", "http://h", "https://hh", "https://h@evil", "https://evil/?https://h"]
    assert origin(httpx.URL("https://h")) not in {origin(httpx.URL(url)) for url in other}


def test_next_is_used_byte_for_byte(tmp_path):
    odd = f"{BASE}/Observation?_cursor=0&b=%2c,|:~&a=1"
    server = FaultyServer(cohort(), Inject("F03", page=1, option=odd, times=1))
    assert pulled_from(server, tmp_path, protocol(workers=1)).state == "complete"
    assert odd in {str(url) for url in server.asked("Observation")}


# --- waiting (F20) --------------------------------------------------------------------------------------------------

AT_DATE = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
WAITS = [
    ({"retry-after": "7"}, 7),
    ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30),
    ({"retry-after": str(int(AT_DATE) + 20)}, 20),
    ({"retry-after": str((int(AT_DATE) + 15) * 1000)}, 15),
    ({"retry-after": "86400"}, 600),
    ({"ratelimit": '"requests";r=0;t=59'}, 59),
    ({"ratelimit": '"requests";r=5;t=59'}, 1),
    ({"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, 1),
    ({"retry-after": "soon"}, 1),
    ({"retry-after": "-5"}, 1),
    ({}, 1),
]


@pytest.mark.parametrize(("headers", "seconds"), WAITS, ids=str)
def test_a_busy_server_is_waited_for_as_long_as_it_asks(headers, seconds, tmp_path):
    waits = []
    surroundings = Surroundings(sleep=waits.append, chance=lambda: 0.5)
    server = FaultyServer(cohort(), Inject("F20", times=1, option=headers))
    pulled_from(server, tmp_path, surroundings=surroundings)
    assert waits == [seconds]


def test_back_off_grows_and_ends():
    waits = []
    server = FaultyServer(cohort(), Inject("F21", page=1))
    surroundings = Surroundings(sleep=waits.append, chance=lambda: 0.5)
    with _connected(BASE, transport=server.transport(), surroundings=surroundings) as client, pytest.raises(FaultError):
        client.get(client.address("Observation"), bytes)
    assert waits == [1, 2, 4, 8]


# --- certificates ----------------------------------------------------------------------------------------------------


def test_a_file_that_holds_no_certificates_is_refused(tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(DefinitionError, match="PEM"), _connected("https://fhir.test/r4", ca_file=tmp_path / "ca.pem"):
        pass


# --- bodies (T6) ----------------------------------------------------------------------------------------------------


def _connected(url, **settings):
    given = {"surroundings": QUICK, "timeout_seconds": 5, "max_body_mb": 1} | settings
    return connect(url, **given)


def _served(content: bytes, **headers: str):
    def respond(_):
        told = {"content-type": "application/json", "date": DATE} | headers
        return httpx.Response(200, headers=told, stream=httpx.ByteStream(content))

    return httpx.MockTransport(respond)


@pytest.mark.parametrize(("content", "headers", "words"), [
    (b" " * (2 << 20), {}, "F22 an answer larger than 1 MB"),
    (gzip.compress(b" " * (2 << 20)), {"content-encoding": "gzip"}, "F22.*(larger|100 times)"),
    (gzip.compress(b"{}" * 1000)[:-4], {"content-encoding": "gzip"}, "F21.*cut"),
    (b"{}", {"content-encoding": "br"}, "F22"),
    (b"<Bundle/>", {"content-type": "application/fhir+xml"}, "F22"),
], ids=["endless", "bomb", "cut gzip", "unasked packing", "XML"])  # fmt: skip
def test_a_body_that_is_too_large_cut_or_something_else_is_refused(content, headers, words):
    with (
        _connected(BASE, transport=_served(content, **headers)) as client,
        pytest.raises(FaultError, match=words),
    ):
        client.get(client.address("Observation"), bytes)


def test_a_packed_body_is_read():
    packed = _served(gzip.compress(b'{"a":1}'), **{"content-encoding": "gzip"})
    with _connected(BASE, transport=packed) as client:
        assert client.get(client.address("Observation"), bytes).content == b'{"a":1}'


def test_a_body_shorter_than_announced_is_no_body(tmp_path):
    def short(_request, _base):
        return Answer(200, b'{"resourceType":"CapabilityStatement"}', {"content-length": "500"})

    with listening(short) as base, pytest.raises(SourceError, match="no whole answer"):
        pull(rest_source(base, surroundings=QUICK), protocol(), Home.at(tmp_path))


def test_a_text_names_a_server_or_a_folder(tmp_path):
    assert open_source("HTTPS://fhir.test/r4").kind == "rest"
    assert open_source(str(tmp_path)).kind == "folder"
