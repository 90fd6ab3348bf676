"""The client over HTTP: one origin, whole bodies, bounded retries, and a record that holds no secret."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from hashlib import sha256

import httpx
import pytest

from crps_outcomes.fhir import auth
from crps_outcomes.fhir.client import FaultError, Surroundings, connect
from crps_outcomes.fhir.complaints import complaint_in
from crps_outcomes.fhir.pace import Pace, asked_to_wait
from faulty_server import BASE, Answer, listening

QUICK = Surroundings(sleep=lambda _: None, chance=lambda: 0.5)
SECRET = auth.bearer_from_variable("TOKEN", {"TOKEN": "canary-token"})
JSON = {"content-type": "application/fhir+json"}


class Script:
    """Answers in turn, the last one for ever; remembers what was asked."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers, self.asked = list(answers), []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status, headers=JSON | answer.headers, stream=httpx.ByteStream(answer.content))


def connected(script, **settings):
    given = {"surroundings": QUICK, "timeout_seconds": 5, "max_body_mb": 1, "requests_per_second": 1000} | settings
    return connect(BASE, transport=httpx.MockTransport(script), **given)


def redirect(to: str, status: int = 307) -> Answer:
    return Answer(status, b"", {"location": to})


# --- redirects ------------------------------------------------------------------------------------------------------


def test_a_redirect_on_the_same_origin_is_followed_with_the_token():
    script = Script(redirect("/elsewhere?x=1"), Answer(200, {"a": 1}))
    with connected(script, credential=SECRET) as client:
        reply = client.get(client.address("Patient"), bytes)
    assert str(reply.url) == "http://localhost/elsewhere?x=1"
    assert [one.headers["authorization"] for one in script.asked] == ["Bearer canary-token"] * 2


def test_the_fourth_redirect_in_a_row_is_refused():
    script = Script(redirect("/again"))
    with connected(script) as client, pytest.raises(FaultError, match=r"F03.*more than 3"):
        client.get(client.address("Patient"), bytes)
    assert len(script.asked) == 4


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_never_turns_a_search_into_another_method(status):
    script = Script(redirect("/again", status))
    with connected(script) as client, pytest.raises(FaultError, match=r"F03.*method"):
        client.post_search(client.address("Patient/_search"), {"_id": "a"}, bytes)
    assert len(script.asked) == 1


def test_a_long_search_keeps_its_form_through_a_redirect():
    script = Script(redirect("/again"), Answer(200, {}))
    with connected(script) as client:
        client.post_search(client.address("Patient/_search"), {"_id": "a,b", "_count": "2"}, bytes)
    assert [one.method for one in script.asked] == ["POST", "POST"]
    assert {one.content for one in script.asked} == {b"_id=a%2Cb&_count=2"}
    assert script.asked[0].headers["content-type"] == "application/x-www-form-urlencoded"
    assert script.asked[0].headers["prefer"] == "handling=strict"


# --- any status -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "times"), [(202, 1), (400, 1), (404, 1), (401, 2), (429, 10), (500, 5)])
def test_asking_gives_the_answer_whatever_its_status_after_what_repeating_may_cure(status, times):
    script = Script(Answer(status, b"words", {"content-location": "/job"}))
    with connected(script) as client:
        reply = client.ask("GET", client.address("$export"), headers={"Prefer": "respond-async"})
    assert (reply.status, reply.headers["content-location"], reply.body) == (status, "/job", b"words")
    assert len(script.asked) == times
    assert {(one.headers["accept"], one.headers["prefer"]) for one in script.asked} == {
        ("application/fhir+json", "respond-async")
    }


def test_asking_fails_only_when_no_whole_answer_comes():
    with connected(Script(httpx.ReadTimeout("slow"))) as client, pytest.raises(FaultError, match=r"F21.*ReadTimeout"):
        client.ask("DELETE", client.address("job"))


@pytest.mark.parametrize("status", [201, 202, 204, 206, 304])
def test_only_a_plain_200_is_a_page(status):
    with connected(Script(Answer(status, {}))) as client, pytest.raises(FaultError, match="F22"):
        client.get(client.address("Patient"), bytes)


# --- files ----------------------------------------------------------------------------------------------------------

ROWS = b"".join(b'{"id":"%s"}\n' % sha256(b"%d" % number).hexdigest().encode() for number in range(30_000))


@pytest.mark.parametrize("packing", ["identity", "gzip"])
def test_a_file_goes_through_the_sink_unpacked_and_in_blocks(packing):
    content = gzip.compress(ROWS, 1) if packing == "gzip" else ROWS
    blocks = []
    wide = Answer(200, content, {"content-encoding": packing, "content-type": "application/fhir+ndjson"})
    with listening(lambda *_: wide) as base, connect_to(base) as client:
        told = client.download(client.address("file"), blocks.append, with_token=True)
    assert b"".join(blocks) == ROWS
    assert told == (len(ROWS), sha256(ROWS).hexdigest())
    assert max(map(len, blocks)) <= 1 << 20


def connect_to(base, **settings):
    given = {"surroundings": QUICK, "timeout_seconds": 5, "max_body_mb": 1, "requests_per_second": 1000} | settings
    return connect(base, **given)


@pytest.mark.parametrize(("content", "headers", "words"), [
    (ROWS[:1000], {"content-length": "2000"}, "F39.*no whole answer"),
    (gzip.compress(ROWS), {"content-encoding": "gzip", "content-length": "9999999"}, "F39.*no whole answer"),
    (gzip.compress(ROWS)[:-9], {"content-encoding": "gzip"}, "F39.*cut"),
    (gzip.compress(ROWS)[:50], {"content-encoding": "gzip"}, "F39.*cut"),
    (gzip.compress(b" " * (4 << 20)), {"content-encoding": "gzip"}, "F39.*100 times"),
    (ROWS[:100], {"content-encoding": "br"}, "F22"),
], ids=["short", "short gzip", "cut gzip", "gzip cut early", "bomb", "unasked packing"])  # fmt: skip
def test_a_file_that_is_short_cut_or_a_bomb_is_refused_and_not_asked_for_again_by_itself(content, headers, words):
    asked = []

    def serve(request, _base):
        asked.append(request)
        return Answer(200, content, headers)

    with listening(serve) as base, connect_to(base) as client, pytest.raises(FaultError, match=words):
        client.download(client.address("file"), lambda _: None, with_token=False)
    assert len(asked) == 1


def test_a_file_is_asked_for_again_as_long_as_none_of_it_came():
    script = Script(Answer(503), httpx.ConnectError("no"), Answer(401), Answer(200, b"{}\n"))
    with connected(script, credential=SECRET) as client:
        assert client.download(client.address("file"), lambda _: None, with_token=True).n_bytes == 3
    assert len(script.asked) == 4


def test_a_file_that_wants_no_token_gets_none():
    script = Script(Answer(200, b""))
    with connected(script, credential=SECRET) as client:
        client.download(client.address("file"), lambda _: None, with_token=False)
    assert "authorization" not in script.asked[0].headers


@pytest.mark.parametrize(("status", "code"), [(404, "F24"), (410, "F17"), (403, "F19")])
def test_a_file_that_is_refused_says_with_which_status(status, code):
    with connected(Script(Answer(status))) as client, pytest.raises(FaultError, match=code) as caught:
        client.download(client.address("file"), lambda _: None, with_token=True)
    assert caught.value.status == status


# --- what the server says (F23) -------------------------------------------------------------------------------------

SAID = [
    ({"issue": [{"severity": "error", "code": "x-y", "diagnostics": "one", "details": {"text": "two"}}]}, "one"),
    ({"issue": [{"severity": "error", "code": "x-y", "details": {"text": "two", "coding": [{"display": "three"}]}}]}, "two"),
    ({"issue": [{"severity": "error", "code": "x-y", "details": {"coding": [{"display": "three"}]}}]}, "three"),
    ({"issue": [{"severity": "error", "code": "x-y"}], "text": {"div": "<div>four &amp; <b>more</b></div>"}}, "four & more"),
    ({"issue": [{"severity": "error", "code": "x-y"}]}, "Bad Request"),
    ({"issue": [{"severity": "warning", "code": "a-b"}, {"severity": "error", "code": "x-y", "diagnostics": "worst"}]}, "worst"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "text"), SAID)
def test_the_words_of_an_outcome_are_found_wherever_they_stand(body, text):
    assert complaint_in(json.dumps(body).encode(), "Bad Request") == ("error", "x-y", text)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"3", b'{"issue":3}', b'{"issue":[3]}', b'{"issue":[{"details":[]}]}', b"\xff{"]
)
def test_a_body_of_any_other_shape_says_nothing_and_breaks_nothing(body):
    assert complaint_in(body).code == ""


def test_a_code_that_is_no_word_is_not_repeated():
    assert complaint_in(b'{"issue":[{"code":"Jane Roe 1970"}]}').code == ""


def test_the_server_s_words_go_to_the_record_and_not_into_the_message():
    records = []
    body = {"issue": [{"severity": "error", "code": "invalid", "diagnostics": "Jane Roe"}]}
    script = Script(Answer(503, body, {"retry-after": "7"}), Answer(400, body))
    with connected(script, credential=SECRET, told=records.append) as client:
        url = client.address("Patient", _id="a")
        with pytest.raises(FaultError) as caught:
            client.get(url, bytes)
    assert str(caught.value) == "F15 HTTP 400 (invalid)"
    assert [(one["attempt"], one["status"], one["wait_seconds"], one["fault"]) for one in records] == [
        (1, 503, 7.0, "F21"), (2, 400, 0.0, "F15"),
    ]  # fmt: skip
    assert {one["text"] for one in records} == {"Jane Roe"}
    assert {one["url_sha256"] for one in records} == {sha256(str(url).encode()).hexdigest()}
    assert "canary" not in json.dumps(records)


# --- waiting --------------------------------------------------------------------------------------------------------


def test_no_more_than_so_many_requests_a_second_are_sent_over_all_threads():
    now, slept = [0.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(10, clock=lambda: now[0], sleep=sleep)
    for _ in range(50):
        pace.wait()
    assert 3.8 <= now[0] <= 4.0
    assert max(slept) <= 0.11


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
ASKED = [
    ({"retry-after": "0"}, 0),
    ({"retry-after": "120"}, 120),
    ({"retry-after": "Sun, 01 Mar 2026 12:01:00 GMT"}, 60),
    ({"retry-after": "Sunday, 01-Mar-26 12:01:00 GMT"}, 60),
    ({"retry-after": str(EPOCH + 30)}, 30),
    ({"retry-after": str((EPOCH + 30) * 1000)}, 30),
    ({"retry-after": str(EPOCH - 30)}, None),
    ({"retry-after": "-1"}, None),
    ({"retry-after": "1.5"}, None),
    ({"retry-after": "\u0665"}, None),
    ({"retry-after": "tomorrow"}, None),
    ({"retry-after": "9" * 400}, pytest.approx(1e17, rel=0.1)),
    ({"retry-after": "soon", "ratelimit": '"requests";r=0;t=59'}, 59),
    ({"retry-after": "5", "ratelimit": '"requests";r=0;t=59'}, 5),
    ({"ratelimit": '"burst";r=3;t=1, "day";r=0; t=59'}, 59),
    ({"ratelimit": '"requests";r=10;t=59'}, None),
    ({"ratelimit": "limit=100, remaining=0, reset=50"}, 50),
    ({"ratelimit": "limit=100, remaining=10, reset=50"}, None),
    ({"ratelimit-remaining": "0", "ratelimit-reset": "50"}, 50),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(EPOCH + 50)}, 50),
    ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": "50"}, None),
    ({}, None),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "seconds"), ASKED, ids=str)
def test_every_way_to_ask_for_patience_is_understood_and_what_cannot_be_is_left_to_back_off(headers, seconds):
    assert asked_to_wait(headers, NOW) == seconds


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("asked", "waited"), [("7", 7.0), ("86400", 600.0), (str(EPOCH + 10**6), 600.0), ("-1", 1.0), ("x", 1.0)]
)
def test_a_wait_is_as_long_as_asked_but_never_above_ten_minutes(status, asked, waited):
    waits = []
    surroundings = Surroundings(sleep=waits.append, chance=lambda: 0.5, now=lambda: NOW)
    script = Script(Answer(status, b"", {"retry-after": asked}), Answer(200, {}))
    with connected(script, surroundings=surroundings) as client:
        client.get(client.address("Patient"), bytes)
    assert waits == [waited]


def test_an_answer_that_trickles_is_given_up_though_no_silence_is_long():
    now = [0.0]

    class Trickle(httpx.SyncByteStream):
        def __iter__(self):
            while True:
                now[0] += 4
                yield b" "

    def respond(_):
        return httpx.Response(200, headers=JSON, stream=Trickle())

    slow = Surroundings(sleep=lambda _: None, chance=lambda: 0.5, clock=lambda: now[0])
    with (
        connected(respond, surroundings=slow) as client,
        pytest.raises(FaultError, match="F21 an answer that trickles"),
    ):
        client.get(client.address("Patient"), bytes)
    assert now[0] < 5 * 60


def test_a_401_after_another_fault_is_still_answered_with_a_new_token():
    class Renewed:
        token = "old"

        def sign_in(self, _client, _types):
            return self

        def header(self):
            return f"Bearer {self.token}"

        def renew(self, rejected):
            self.token = "new"
            return rejected == "Bearer old"

    script = Script(Answer(503), Answer(401), Answer(200, {}))
    with connected(script, credential=Renewed()) as client:
        client.get(client.address("Patient"), bytes)
    assert [one.headers["authorization"] for one in script.asked] == ["Bearer old", "Bearer old", "Bearer new"]


def test_what_cannot_be_renewed_is_not_sent_again():
    class Fixed:
        def sign_in(self, _client, _types):
            return self

        def header(self):
            return "Bearer old"

        def renew(self, rejected):
            return False

    script = Script(Answer(401))
    with connected(script, credential=Fixed()) as client, pytest.raises(FaultError, match="F18 HTTP 401"):
        client.get(client.address("Patient"), bytes)
    assert len(script.asked) == 1
