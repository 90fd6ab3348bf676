"""Threats T1 to T6 and T10 at the client: where a request goes, what it carries, and what comes in."""

from __future__ import annotations

import gzip
import json
import logging
import os
import resource
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from base64 import b64encode
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from crps_outcomes import settings
from crps_outcomes.errors import PipelineError
from crps_outcomes.fhir import auth
from crps_outcomes.fhir.client import FaultError, Surroundings, connect
from faulty_server import Answer, listening

QUICK = Surroundings(sleep=lambda _: None, chance=lambda: 0.5)
CANARY = "canary-0123456789"
SECRET = auth.bearer_from_variable("TOKEN", {"TOKEN": CANARY})


class Ear:
    """The second origin: hears every connection, to whichever host it was meant, and answers each with a resource."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._socket.accept()
                with caller:
                    caller.settimeout(2)
                    self.heard.append(b"")
                    with suppress(OSError):
                        self.heard[-1] = caller.recv(65_536)
                        caller.sendall(
                            b"HTTP/1.1 200 OK\r\ncontent-type: application/fhir+json\r\ncontent-length: 2\r\n\r\n{}"
                        )

    def close(self) -> None:
        self._socket.close()

    @property
    def n_tokens(self) -> int:
        return sum(b"authorization" in one.lower() for one in self.heard)


@pytest.fixture
def ear():
    own = Ear()
    yield own
    own.close()


@contextmanager
def home(answer):
    """A server of ours; gives its base URL and the list of what it was asked."""
    asked = []

    def remember(request, base):
        asked.append(request)
        return answer(request, base)

    with listening(remember) as base:
        yield base, asked


def connected(base, ear=None, **more):
    """With an ear, whatever leaves this machine goes through it, so that no name needs to exist to be heard."""
    proxies = {"all://": f"http://127.0.0.1:{ear.port}"} if ear else {}
    limits = {"timeout_seconds": 5, "max_body_mb": 8, "requests_per_second": 1000, "surroundings": QUICK}
    return connect(base, **{"credential": SECRET, "proxies": proxies} | limits | more)


FOREIGN = {
    "another host": "http://other.test/r4/Observation",
    "another port": "http://127.0.0.1:{ear}/r4/Observation",
    "no scheme": "//other.test/r4/Observation",
    "base in the query": "http://other.test/?{base}/Observation",
    "base in the fragment": "http://other.test/#{base}/Observation",
    "base in the path": "http://other.test/{base}/Observation",
    "base as user": "http://127.0.0.1:{port}@other.test/r4/Observation",
    "base as user and port": "http://127.0.0.1:{port}@127.0.0.1:{ear}/r4/Observation",
    "user at the base": "http://someone:word@127.0.0.1:{port}/r4/Observation",
    "longer host": "http://127.0.0.1.other.test:{port}/r4/Observation",
    "host with a trailing dot": "http://127.0.0.1.:{port}/r4/Observation",
    "other name of the host": "http://localhost:{port}/r4/Observation",
    "other way to write the address": "http://127.1:{port}/r4/Observation",
    "IDN": "http://b\u00fccher.test:{port}/r4/Observation",
    "IDN that looks like it": "http://\uff11\uff12\uff17.0.0.1:{port}/r4/Observation",
    "IDN that is none": "http://xn--other-test/r4/Observation",
    "https on the same port": "https://127.0.0.1:{port}/r4/Observation",
    "backslash": "http://127.0.0.1:{port}\\@other.test/r4/Observation",
    "another scheme": "ftp://127.0.0.1:{port}/r4/Observation",
    "a file": "file:///etc/passwd",
    "a script": "javascript:alert(1)",
    "no address at all": "http://a:b:c/",
}  # fmt: skip


def written(form, base, ear):
    return FOREIGN[form].format(base=base, port=httpx.URL(base).port, ear=ear.port)


@pytest.mark.parametrize("form", FOREIGN)
def test_T1_a_link_to_a_foreign_origin_gets_no_request(form, ear):
    with home(lambda *_: Answer(200, {})) as (base, asked), connected(base, ear) as client:
        with pytest.raises(FaultError, match="F03 refused"):
            client.get(client.follow(client.address("Observation"), written(form, base, ear)), bytes)
        assert (ear.heard, asked) == ([], [])


@pytest.mark.parametrize("way", ["ask", "download", "get", "post_search"])
@pytest.mark.parametrize("form", FOREIGN)
def test_T1_no_request_of_any_kind_goes_to_a_foreign_origin(form, way, ear):
    call = {
        "ask": lambda client, url: client.ask("GET", url),
        "download": lambda client, url: client.download(url, lambda _: None, with_token=True),
        "get": lambda client, url: client.get(url, bytes),
        "post_search": lambda client, url: client.post_search(url, {}, bytes),
    }[way]
    with home(lambda *_: Answer(200, {})) as (base, asked), connected(base, ear) as client:
        try:
            url = httpx.URL(base).join(written(form, base, ear))
        except httpx.InvalidURL:
            assert not client.is_home(written(form, base, ear))
            return
        assert not client.is_home(url)
        with pytest.raises(FaultError, match="F03 refused"):
            call(client, url)
        assert (ear.heard, asked) == ([], [])


@pytest.mark.parametrize("form", FOREIGN)
def test_T2_a_redirect_to_a_foreign_origin_is_not_followed(form, ear):
    target = written_in_ascii(form, ear)

    def moved(_request, base):
        return Answer(302, b"", {"location": target.replace("PORT", str(httpx.URL(base).port)).replace("BASE", base)})

    with home(moved) as (base, asked), connected(base, ear) as client:
        with pytest.raises(FaultError, match=r"F03|F21 no whole answer"):
            client.get(client.address("Observation"), bytes)
        assert ear.heard == []
        assert {one.url.path for one in asked} == {"/r4/Observation"}


def written_in_ascii(form, ear):
    """As a header can carry it; what it cannot carry is sent as its bytes, which no client takes for a name."""
    return FOREIGN[form].format(base="BASE", port="PORT", ear=ear.port).encode().decode("latin-1")


def test_T1_a_file_at_an_origin_the_settings_name_is_fetched_without_the_token(ear):
    records = []
    with home(lambda *_: Answer(200, {})) as (base, _asked):
        allowed = (f"http://127.0.0.1:{ear.port}",)
        with connected(base, ear, allowed_origins=allowed, told=records.append) as client:
            url = httpx.URL(f"http://127.0.0.1:{ear.port}/file?signature={CANARY}")
            for with_token in (True, False):
                assert client.download(url, lambda _: None, with_token=with_token).n_bytes == 2
    assert (len(ear.heard), ear.n_tokens) == (2, 0)
    assert CANARY not in json.dumps(records)


def test_T2_a_redirect_to_an_origin_the_settings_name_leaves_the_token_behind(ear):
    there = f"http://127.0.0.1:{ear.port}"
    with (
        home(lambda *_: Answer(307, b"", {"location": f"{there}/r4"})) as (base, asked),
        connected(base, ear, allowed_origins=(there,)) as client,
    ):
        client.get(client.address("Observation"), bytes)
    assert (len(ear.heard), ear.n_tokens) == (1, 0)
    assert asked[0].headers["authorization"] == f"Bearer {CANARY}"


@pytest.mark.parametrize("origin", [
    "http://files.test", "https://files.test/path", "https://files.test?x", "https://u@files.test", "files.test", "*", "https://",
    "https://xn--other-test-.test:x",
])  # fmt: skip
def test_T1_only_a_whole_sealed_origin_can_be_allowed(origin):
    with (
        pytest.raises(PipelineError, match="allowed origin should be https"),
        connected("https://fhir.test/r4", allowed_origins=(origin,)),
    ):
        pass


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A file with a self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "own.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(made.public_bytes(Encoding.PEM) + secret)
    return file


@contextmanager
def sealed(certificate, answer):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with listening(answer, context) as base:
        yield base


@pytest.mark.parametrize("is_allowed", [False, True])
def test_T2_nothing_leads_from_https_down_to_http(certificate, ear, is_allowed):
    plain = f"http://127.0.0.1:{ear.port}/r4"
    allowed = (f"http://127.0.0.1:{ear.port}",) if is_allowed else ()
    with sealed(certificate, lambda *_: Answer(302, b"", {"location": plain})) as base:
        settings_of = {"ca_file": certificate, "allowed_origins": allowed}
        with pytest.raises(PipelineError, match=r"F03|https"), connected(base, ear, **settings_of) as client:
            client.get(client.address("Observation"), bytes)
    assert ear.heard == []


def test_T4_a_certificate_nobody_vouches_for_is_named_and_no_byte_of_the_query_is_sent(certificate):
    asked = []

    def serve(request, _base):
        asked.append(request)
        return Answer(200, {})

    with sealed(certificate, serve) as base:
        with (
            connected(base) as client,
            pytest.raises(FaultError, match=r"F21 the server's certificate is not trusted.*ca_file"),
        ):
            client.get(client.address("Observation"), bytes)
        assert asked == []
        with connected(base, ca_file=certificate) as client:
            client.get(client.address("Observation"), bytes)
    assert len(asked) == 1


def test_T4_no_setting_turns_the_check_of_certificates_off(certificate):
    names = [name for name in vars(settings) if name.isupper()]
    assert not [name for name in names if "VERIFY" in name or "INSECURE" in name]
    everything = {"PYTHONHTTPSVERIFY": "0", "CURL_CA_BUNDLE": "", "REQUESTS_CA_BUNDLE": ""}
    with sealed(certificate, lambda *_: Answer(200, {})) as base, pytest.MonkeyPatch.context() as patch:
        for name, value in everything.items():
            patch.setenv(name, value)
        with connected(base) as client, pytest.raises(FaultError, match="not trusted"):
            client.get(client.address("Observation"), bytes)


# --- secrets (T5) ---------------------------------------------------------------------------------------------------


def logins(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(CANARY)
    secret.chmod(0o600)
    return {
        "variable": {"CRPS_OUTCOMES_TOKEN": CANARY},
        "file": {"CRPS_OUTCOMES_TOKEN_FILE": str(secret)},
        "password file": {"CRPS_OUTCOMES_BASIC_USER": "clinic", "CRPS_OUTCOMES_BASIC_PASSWORD_FILE": str(secret)},
        "password": {"CRPS_OUTCOMES_BASIC_USER": "clinic", "CRPS_OUTCOMES_BASIC_PASSWORD": CANARY},
    }


def echo(request, _base):
    """A server that shows us our own request in its error, as those with debugging on do."""
    told = request.headers.get("authorization", "")
    return Answer(500, {"issue": [{"severity": "error", "code": "exception", "diagnostics": f"sent: {told}"}]})


@pytest.mark.parametrize("login", ["variable", "file", "password file", "password"])
@pytest.mark.parametrize("answer", [
    echo,
    lambda *_: Answer(200, b"not json"),
    lambda *_: Answer(302, b"", {"location": "http://other.test/"}),
    lambda *_: Answer(200, b"{}", {"content-length": "99"}),
], ids=["echo", "no JSON", "redirect", "cut"])  # fmt: skip
def test_T5_a_secret_shows_in_no_message_record_log_or_representation(login, answer, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    records = []
    access = settings.access(logins(tmp_path)[login])
    with home(answer) as (base, asked), connected(base, **access, told=records.append) as client:
        with pytest.raises(FaultError) as caught:
            client.get(client.address("Observation", patient="a,b"), json.loads)
        seen = [
            "".join(traceback.format_exception(caught.value)),
            json.dumps(records),
            caplog.text,
            repr(client),
            repr(access),
        ]
    assert asked[0].headers["authorization"]
    told = " ".join([*seen, *capfd.readouterr(), *(str(one.value) for one in [caught])])
    assert CANARY not in told
    assert b64encode(f"clinic:{CANARY}".encode()).decode() not in told
    assert "a,b" not in caplog.text
    assert "a%2Cb" not in caplog.text


def test_T5_a_secret_stands_in_no_process_list_and_in_no_output_of_a_run_that_fails(tmp_path):
    program = (
        "import os, sys; from crps_outcomes import settings; from crps_outcomes.fhir.client import Surroundings, connect\n"
        "access = settings.access(os.environ)\n"
        "with connect(sys.argv[1], **access, surroundings=Surroundings(), timeout_seconds=5, max_body_mb=1) as client:\n"
        "    print('waiting', flush=True); sys.stdin.read()\n"
        "    client.get(client.address('Observation'), bytes)"
    )
    with home(lambda *_: Answer(403, {})) as (base, asked):
        environment = {**os.environ, **logins(tmp_path)["file"], "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(
            [sys.executable, "-c", program, base], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout.readline() == "waiting\n"
        listed = b" ".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path))
        output, _ = process.communicate("", timeout=20)
    assert base.encode() in listed
    assert CANARY.encode() not in listed
    assert "F19 HTTP 403" in output
    assert CANARY not in output
    assert asked[0].headers["authorization"] == f"Bearer {CANARY}"


def readable(path):
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o700 | 0o010])
@pytest.mark.parametrize("login", ["file", "password file"])
def test_T5_a_file_that_others_may_read_is_refused_before_anything_is_sent(login, mode, tmp_path):
    environment = logins(tmp_path)[login]
    (tmp_path / "secret").chmod(mode)
    with pytest.raises(PipelineError, match="0600") as caught:
        settings.access(environment)
    assert CANARY not in str(caught.value)


# --- what comes in (T6, T10) ----------------------------------------------------------------------------------------


def bomb(megabytes: int) -> bytes:
    return gzip.compress(bytes(megabytes << 20), 9)


@pytest.mark.parametrize("way", ["get", "download"])
def test_T6_a_body_that_packs_a_thousand_to_one_is_stopped_soon_and_small(way):
    packed = bomb(256)
    assert (256 << 20) / len(packed) > 1000
    with (
        home(lambda *_: Answer(200, packed, {"content-encoding": "gzip"})) as (base, asked),
        connected(base, max_body_mb=512) as client,
    ):
        call = {
            "get": lambda: client.get(client.address("Observation"), bytes),
            "download": lambda: client.download(client.address("file"), lambda _: None, with_token=True),
        }[way]
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        with pytest.raises(FaultError, match=r"(F22|F39).*more than 100 times its size"):
            call()
        assert time.monotonic() - started < 2
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    assert len(asked) == 1


@pytest.mark.parametrize("way", ["get", "download"])
def test_T6_what_packs_as_resources_do_passes(way):
    rows = b"".join(
        b'{"resourceType":"Observation","id":"%s","status":"final"}\n'
        % sha256(b"%d" % number).hexdigest().encode()[:20]
        for number in range(50_000)
    )
    packed = gzip.compress(rows)
    assert 4 < len(rows) / len(packed) < 20
    with (
        home(lambda *_: Answer(200, packed, {"content-encoding": "gzip"})) as (base, _asked),
        connected(base) as client,
    ):
        if way == "get":
            assert client.get(client.address("Observation"), bytes).content == rows
        else:
            assert client.download(client.address("file"), lambda _: None, with_token=True).n_bytes == len(rows)


def test_T6_a_body_without_an_end_is_left_at_the_cap():
    def endless():
        while True:
            yield b" " * 65_536

    class Stream(httpx.SyncByteStream):
        n_blocks = 0

        def __iter__(self):
            for block in endless():
                self.n_blocks += 1
                yield block

    stream = Stream()
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, headers={"content-type": "application/json"}, stream=stream)
    )
    with (
        connected("http://localhost/r4", transport=transport, max_body_mb=1) as client,
        pytest.raises(FaultError, match=r"F22.*larger"),
    ):
        client.get(client.address("Observation"), bytes)
    assert stream.n_blocks == 17


@pytest.mark.parametrize(
    "kind", ["application/fhir+xml", "application/xml", "text/xml", "text/html", "application/xhtml+xml", ""]
)
def test_T10_a_body_that_is_not_JSON_is_refused_unread(kind):
    read = []
    body = b'<Bundle xmlns="http://hl7.org/fhir"><total value="0"/></Bundle>'
    with (
        home(lambda *_: Answer(200, body, {"content-type": kind})) as (base, asked),
        connected(base) as client,
        pytest.raises(FaultError, match="F22"),
    ):
        client.get(client.address("Observation"), read.append)
    assert (read, len(asked)) == ([], 1)
    assert asked[0].headers["accept"] == "application/fhir+json"


def test_T10_no_XML_parser_is_loaded_where_servers_are_read():
    code = (
        "import sys, crps_outcomes.fhir.search, crps_outcomes.fhir.smart, crps_outcomes.fhir.complaints\n"
        "print([name for name in sys.modules if name in ('lxml', 'pyexpat', 'xml.sax', 'xml.dom', 'xml.etree.ElementTree')])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert found.stdout == "[]\n"
