"""What the environment says about a server: one way to sign in, whole; proxies; other origins."""

from __future__ import annotations

from base64 import b64encode

import httpx
import pytest

from crps_outcomes import settings
from crps_outcomes.errors import DefinitionError
from crps_outcomes.fhir import auth, rest_source
from crps_outcomes.fhir.client import Surroundings, connect


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_text("abc\n")
    path.chmod(0o600)
    return str(path)


def header(environment, **more):
    return settings.access(environment, **more)["credential"].header()


BASIC = "Basic " + b64encode(b"clinic:abc").decode()


def test_each_way_to_sign_in_gives_its_header(secret):
    assert header({"CRPS_OUTCOMES_TOKEN": "abc"}) == "Bearer abc"
    assert header({"CRPS_OUTCOMES_TOKEN_FILE": secret}) == "Bearer abc"
    assert header({"CRPS_OUTCOMES_BASIC_USER": "clinic", "CRPS_OUTCOMES_BASIC_PASSWORD_FILE": secret}) == BASIC
    assert header({"CRPS_OUTCOMES_BASIC_USER": "clinic", "CRPS_OUTCOMES_BASIC_PASSWORD": "abc"}) == BASIC
    assert header({"CRPS_OUTCOMES_TOKEN": "", "CRPS_OUTCOMES_TOKEN_FILE": ""}) == ""


@pytest.mark.parametrize("names", [
    ("TOKEN", "TOKEN_FILE"), ("TOKEN", "TOKEN_BLOCK"), ("TOKEN_FILE", "BASIC_USER"), ("BASIC_USER", "SMART_CLIENT_ID"),
])  # fmt: skip
def test_two_ways_at_once_are_refused_by_name(names):
    both = {f"CRPS_OUTCOMES_{name}": "canary" for name in names}
    with pytest.raises(DefinitionError, match=" and ".join(both)) as caught:
        settings.access(both)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("names", [
    ("BASIC_USER",), ("BASIC_PASSWORD_FILE",), ("BASIC_PASSWORD",), ("SMART_CLIENT_ID",), ("SMART_KEY_FILE",),
    ("BASIC_USER", "BASIC_PASSWORD", "BASIC_PASSWORD_FILE"),
])  # fmt: skip
def test_half_a_way_is_refused(names):
    with pytest.raises(DefinitionError, match="belong together"):
        settings.access({f"CRPS_OUTCOMES_{name}": "canary" for name in names})


def test_a_block_is_read_where_there_is_a_reader_and_left_alone_elsewhere():
    named = {"CRPS_OUTCOMES_TOKEN_BLOCK": "clinic"}
    assert header(named, load_block={"clinic": "abc"}.__getitem__) == "Bearer abc"
    assert header(named) == ""


def test_a_block_that_cannot_be_read_is_refused_without_the_reason():
    def fails(_):
        raise ValueError("canary")

    with pytest.raises(DefinitionError, match="CRPS_OUTCOMES_TOKEN_BLOCK") as caught:
        settings.access({"CRPS_OUTCOMES_TOKEN_BLOCK": "clinic"}, fails)
    assert caught.value.__cause__ is None
    assert "canary" not in str(caught.value)


PROXIES = [
    ({}, {}),
    ({"HTTPS_PROXY": "http://p:1"}, {"https://": "http://p:1"}),
    ({"https_proxy": "http://low:1", "HTTPS_PROXY": "http://high:1"}, {"https://": "http://low:1"}),
    ({"HTTP_PROXY": "p:1", "ALL_PROXY": "https://q:2"}, {"http://": "http://p:1", "all://": "https://q:2"}),
    ({"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, {}),
    ({"NO_PROXY": "h.test, .i.test 10.0.0.1 ::1 localhost"}, {
        "all://*h.test": None, "all://*.i.test": None, "all://10.0.0.1": None, "all://[::1]": None, "all://localhost": None,
    }),
]  # fmt: skip


@pytest.mark.parametrize(("environment", "routes"), PROXIES)
def test_proxies_are_those_the_environment_names(environment, routes):
    assert settings.access(environment)["proxies"] == routes


@pytest.mark.parametrize(("url", "is_asked"), [
    ("http://fhir.test/r4", True), ("http://own.hospital.test/r4", False), ("http://hospital.test/r4", False),
    ("http://nothospital.test/r4", True), ("http://127.0.0.1:1/r4", False),
])  # fmt: skip
def test_a_proxy_is_used_for_every_host_but_the_exempt_and_this_machine(url, is_asked):
    access = settings.access({"HTTP_PROXY": "http://proxy.test:3128", "NO_PROXY": "hospital.test"})
    with connect(url, **access, surroundings=Surroundings(), timeout_seconds=1, max_body_mb=1) as client:
        chosen = client.http._transport_for_url(httpx.URL(url))
        assert ("Proxy" in type(chosen._pool).__name__) == is_asked


def test_a_proxy_of_another_kind_or_its_password_is_not_repeated():
    with pytest.raises(DefinitionError, match="a proxy should be") as caught:
        settings.access({"ALL_PROXY": "socks5://someone:canary@p:1"})
    assert "canary" not in str(caught.value)
    kept = rest_source("https://fhir.test/r4", **settings.access({"ALL_PROXY": "http://someone:canary@p:1"}))
    assert "canary" not in repr(kept)


def test_further_origins_are_listed_by_spaces_or_commas():
    listed = {"CRPS_OUTCOMES_ALLOWED_ORIGINS": "https://a.test, https://b.test:8443"}
    assert settings.access(listed)["allowed_origins"] == ("https://a.test", "https://b.test:8443")


@pytest.mark.parametrize("user", ["", "a:b", "line\nbreak"])
def test_a_user_that_would_break_the_header_is_refused(user):
    with pytest.raises(DefinitionError, match="not a name"):
        auth.basic(user, "abc")
