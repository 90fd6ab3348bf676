"""SMART Backend Services: a token for what is read, from nowhere but the server's own host, renewed in time."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.parse import parse_qs

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from crps_outcomes.errors import DefinitionError
from crps_outcomes.fhir.client import FaultError, Surroundings, connect
from crps_outcomes.fhir.keys import signing_key
from crps_outcomes.fhir.smart import SmartBackend

BASE = "https://fhir.test/r4"
TOKEN_URL = "https://fhir.test/auth/token"
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP384R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
TYPES = ("Patient", "Observation")


def pem(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def jwk(key, kid: str | None) -> dict:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return json.loads(algorithm.to_jwk(key)) | ({"kid": kid} if kid else {})


def file(tmp_path, content: bytes | dict, mode: int = 0o600):
    path = tmp_path / "key"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path.chmod(mode)
    return path


def respond(status: int, body) -> httpx.Response:
    stream = httpx.ByteStream(json.dumps(body).encode())
    return httpx.Response(status, headers={"content-type": "application/json"}, stream=stream)


class Hospital:
    """A FHIR server with a token endpoint; ``tokens`` gives its answers in turn, the last one for ever."""

    def __init__(self, *tokens, configuration=None) -> None:
        self.tokens = list(tokens or [{}])
        self.configuration = {"token_endpoint": TOKEN_URL, "scopes_supported": ["system/*.rs"]} | (configuration or {})
        self.asked, self.forms, self.valid = [], [], "token-1"
        self.lock = threading.Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        with self.lock:
            request.read()
            self.asked.append(request)
            if request.method == "POST":
                return self.token(request)
        if request.url.path.endswith("smart-configuration"):
            return respond(200, self.configuration)
        given = request.headers.get("authorization", "")
        return respond(200 if given == f"Bearer {self.valid}" else 401, {})

    def token(self, request: httpx.Request) -> httpx.Response:
        self.forms.append({name: values[0] for name, values in parse_qs(request.content.decode()).items()})
        answer = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        if isinstance(answer, int):
            return respond(answer, {"error": "invalid_client", "error_description": request.content.decode()})
        self.valid = f"token-{len(self.forms)}"
        told = {"access_token": self.valid, "token_type": "Bearer", "expires_in": 300}
        return respond(200, {name: value for name, value in (told | answer).items() if value is not None})

    @property
    def claims(self):
        return [jwt.decode(one["client_assertion"], options={"verify_signature": False}) for one in self.forms]


def signed_in(hospital, tmp_path, *, clock=lambda: 0.0, told=lambda _: None, sleep=lambda _: None, **settings):
    backend = SmartBackend("clinic", signing_key(file(tmp_path, pem(EC)), kid="k1"), **settings)
    surroundings = Surroundings(sleep=sleep, chance=lambda: 0.5, now=lambda: AT, clock=clock)
    return connect(
        BASE, credential=backend, resource_types=TYPES, transport=httpx.MockTransport(hospital), told=told,
        surroundings=surroundings, timeout_seconds=5, max_body_mb=1, requests_per_second=1000,
    )  # fmt: skip


def get(client):
    return client.get(client.address("Patient"), bytes)


# --- the statement --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS384"), (EC, "ES384")], ids=["RS384", "ES384"])
def test_a_key_signs_a_statement_that_its_public_half_confirms(key, algorithm, tmp_path):
    own = signing_key(file(tmp_path, pem(key)), kid="k1")
    signed = jwt.encode({"aud": TOKEN_URL}, own.private, own.algorithm)
    assert own.algorithm == algorithm
    assert jwt.decode(signed, key.public_key(), algorithms=[algorithm], audience=TOKEN_URL)


def test_the_statement_says_who_for_whom_and_for_less_than_five_minutes(tmp_path):
    hospital = Hospital()
    with signed_in(hospital, tmp_path) as client:
        get(client)
    (form,), (claims,) = hospital.forms, hospital.claims
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("clinic", "clinic", TOKEN_URL)
    assert 0 < claims["exp"] - AT.timestamp() <= 300
    assert jwt.get_unverified_header(form["client_assertion"]) == {"alg": "ES384", "kid": "k1", "typ": "JWT"}
    assert form["grant_type"] == "client_credentials"
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert [one.headers.get("authorization") for one in hospital.asked] == [None, None, "Bearer token-1"]


@pytest.mark.parametrize("endpoint", ["https://fhir.test/auth/token/", "https://FHIR.test:443/auth/token"])
def test_the_audience_is_the_endpoint_letter_by_letter(endpoint, tmp_path):
    hospital = Hospital(configuration={"token_endpoint": endpoint})
    with signed_in(hospital, tmp_path):
        assert hospital.claims[0]["aud"] == endpoint


@pytest.mark.parametrize(("configuration", "scope"), [
    ({"scopes_supported": ["openid", "system/*.rs"]}, "system/Observation.rs system/Patient.rs"),
    ({"scopes_supported": ["system/*.cruds"]}, "system/Observation.rs system/Patient.rs"),
    ({"scopes_supported": ["system/*.read", "system/*.rs"]}, "system/Observation.rs system/Patient.rs"),
    ({"scopes_supported": ["system/*.read", "system/*.*"]}, "system/Observation.read system/Patient.read"),
    ({"scopes_supported": [], "capabilities": ["permission-v1"]}, "system/Observation.read system/Patient.read"),
    ({"scopes_supported": []}, "system/Observation.rs system/Patient.rs"),
])  # fmt: skip
def test_only_the_types_used_are_asked_for_in_the_server_s_own_form(configuration, scope, tmp_path):
    hospital = Hospital(configuration=configuration)
    with signed_in(hospital, tmp_path):
        assert hospital.forms[0]["scope"] == scope


# --- what comes back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granted", [
    None, "system/*.rs", "system/*.read", "system/*.*", "system/Patient.cruds system/Observation.rs", "system/*.cruds launch",
])  # fmt: skip
def test_a_grant_of_all_that_was_asked_is_enough_in_any_form(granted, tmp_path):
    with signed_in(Hospital({"scope": granted}), tmp_path) as client:
        assert get(client).content == b"{}"


@pytest.mark.parametrize("granted", [
    "system/Patient.rs", "", "system/Patient.rs system/Observation.r", "system/Patient.rs user/Observation.rs",
    "system/Patient.rs system/Observation.rs?category=laboratory", "system/Patient.rs system/ObservationX.rs",
])  # fmt: skip
def test_a_narrower_grant_ends_it_before_the_pull_and_names_the_type(granted, tmp_path):
    hospital = Hospital({"scope": granted})
    with pytest.raises(FaultError, match=r"F51 scope_narrowed.*Observation"), signed_in(hospital, tmp_path):
        pass
    assert [one.url.path for one in hospital.asked] == ["/r4/.well-known/smart-configuration", "/auth/token"]


def test_a_refusal_is_not_tried_again_and_shows_neither_key_nor_statement(tmp_path):
    hospital, records = Hospital(401), []
    with pytest.raises(FaultError) as caught, signed_in(hospital, tmp_path, told=records.append):
        pass
    assert str(caught.value) == "F52 the token endpoint refuses: HTTP 401 (invalid_client)"
    assert len(hospital.forms) == 1
    written = json.dumps(records)
    assert hospital.forms[0]["client_assertion"] not in written
    assert "client_assertion" not in written


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_endpoint_out_of_order_is_asked_again_with_a_statement_of_its_own(status, tmp_path):
    hospital = Hospital(status, status, {})
    with signed_in(hospital, tmp_path) as client:
        get(client)
    assert len({claims["jti"] for claims in hospital.claims}) == 3


@pytest.mark.parametrize(
    "answer", [{"access_token": ""}, {"access_token": "two words"}, {"token_type": "mac"}, {"access_token": None}]
)
def test_an_answer_without_a_bearer_token_is_refused(answer, tmp_path):
    with pytest.raises(FaultError, match=r"F52.*no"), signed_in(Hospital(answer), tmp_path):
        pass


# --- renewal (F18, F50) ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "renewed_at"), [(300, 240), (100, 80), ("100", 80), (None, 240), (-1, 240), ("soon", 240)]
)
def test_a_token_is_renewed_at_four_fifths_of_its_life(told, renewed_at, tmp_path):
    now = [1000.0]
    hospital = Hospital({"expires_in": told})
    with signed_in(hospital, tmp_path, clock=lambda: now[0]) as client:
        now[0] = 1000 + renewed_at - 1
        get(client)
        assert len(hospital.forms) == 1
        now[0] = 1000 + renewed_at
        get(client)
    assert len(hospital.forms) == 2
    assert hospital.asked[-1].headers["authorization"] == "Bearer token-2"


def test_a_token_that_is_rejected_is_renewed_once_and_the_same_page_asked_for_again(tmp_path):
    hospital = Hospital()
    with signed_in(hospital, tmp_path) as client:
        hospital.valid = "another"
        get(client)
        assert len(hospital.forms) == 2
        hospital.tokens = [{"access_token": "never-valid"}]
        hospital.valid = "another"
        with pytest.raises(FaultError, match="F18 HTTP 401"):
            get(client)
    assert len(hospital.forms) == 3


def test_many_threads_with_one_rejected_token_renew_it_once(tmp_path):
    everybody = threading.Barrier(8, timeout=10)

    class Crowded(Hospital):
        def __call__(self, request):
            if request.headers.get("authorization") == "Bearer token-1":
                everybody.wait()  # all hold the old token before the first asks for a new one
            return super().__call__(request)

    hospital = Crowded()
    with signed_in(hospital, tmp_path) as client, ThreadPoolExecutor(8) as pool:
        hospital.valid = "another"
        assert [one.content for one in pool.map(lambda _: get(client), range(8))] == [b"{}"] * 8
    assert len(hospital.forms) == 2


def test_a_renewal_that_is_refused_is_not_asked_for_by_every_query_again(tmp_path):
    hospital = Hospital({}, 400)
    with signed_in(hospital, tmp_path) as client:
        hospital.valid = "another"
        for _ in range(3):
            with pytest.raises(FaultError, match=r"F52.*HTTP 400 \(invalid_client\)"):
                get(client)
    assert len(hospital.forms) == 2


# --- another host (T3) ----------------------------------------------------------------------------------------------

ELSEWHERE = [
    "https://evil.test/auth/token", "https://fhir.test:8443/auth/token", "https://fhir.test.evil.test/token",
    "https://fhir.test@evil.test/token", "https://evil.test/?https://fhir.test/auth/token", "https://fhir.test./token",
    "https://someone@fhir.test/auth/token", "http://fhir.test/auth/token", "/auth/token", "", "https://:", "https://xn--fhir-test/",
]  # fmt: skip


@pytest.mark.parametrize("endpoint", ELSEWHERE)
def test_T3_a_statement_is_sent_to_no_host_that_only_the_discovery_document_names(endpoint, tmp_path):
    hospital = Hospital(configuration={"token_endpoint": endpoint})
    with pytest.raises(FaultError, match="F48") as caught, signed_in(hospital, tmp_path):
        pass
    assert [one.url.path for one in hospital.asked] == ["/r4/.well-known/smart-configuration"]
    assert "evil" not in str(caught.value)


def test_T3_the_refusal_names_the_setting_that_would_allow_it(tmp_path):
    hospital = Hospital(configuration={"token_endpoint": ELSEWHERE[0]})
    with (
        pytest.raises(FaultError, match=r"CRPS_OUTCOMES_TOKEN_HOST.*--accept-token-host"),
        signed_in(hospital, tmp_path),
    ):
        pass


@pytest.mark.parametrize("settings", [
    {"token_host": "login.test"}, {"token_host": "LOGIN.test"}, {"token_url": "https://login.test/token"},
])  # fmt: skip
def test_T3_a_host_the_settings_name_is_asked_and_only_for_the_token(settings, tmp_path):
    hospital = Hospital(configuration={"token_endpoint": "https://login.test/token"})
    with signed_in(hospital, tmp_path, **settings) as client:
        get(client)
    assert [one.url.host for one in hospital.asked] == ["fhir.test", "login.test", "fhir.test"]
    assert hospital.claims[0]["aud"] == "https://login.test/token"
    assert "authorization" not in hospital.asked[1].headers


@pytest.mark.parametrize("settings", [{"token_url": "http://login.test/token"}, {"token_host": "fhir.test"}])
def test_T3_even_a_host_the_settings_name_gets_no_statement_unencrypted(settings, tmp_path):
    hospital = Hospital(configuration={"token_endpoint": "http://fhir.test/token"})
    with pytest.raises(FaultError, match="F48"), signed_in(hospital, tmp_path, **settings):
        pass
    assert hospital.forms == []


def test_T3_a_token_endpoint_that_redirects_elsewhere_keeps_the_statement_here(tmp_path):
    class Moved(Hospital):
        def token(self, request):
            return httpx.Response(307, headers={"location": "https://evil.test/token"})

    hospital = Moved()
    with pytest.raises(FaultError, match="F03"), signed_in(hospital, tmp_path):
        pass
    assert {one.url.host for one in hospital.asked} == {"fhir.test"}


def test_a_server_without_a_discovery_document_needs_the_setting(tmp_path):
    class Silent(Hospital):
        def __call__(self, request):
            missing = request.url.path.endswith("smart-configuration")
            return respond(404, {}) if missing else super().__call__(request)

    with pytest.raises(FaultError, match="CRPS_OUTCOMES_TOKEN_URL"), signed_in(Silent(), tmp_path):
        pass
    with signed_in(Silent(), tmp_path, token_url=TOKEN_URL) as client:
        get(client)


# --- keys -----------------------------------------------------------------------------------------------------------


def test_the_right_key_of_several_is_found_even_behind_wrong_ones(tmp_path):
    strangers = [jwk(OTHER, "p256"), {"kty": "OKP", "d": "x", "kid": "ed"}, {"kty": "oct", "k": "x"}]
    public = json.loads(ECAlgorithm.to_jwk(EC.public_key())) | {"kid": "public"}
    path = file(tmp_path, {"keys": [*strangers, public, jwk(EC, "right")]})
    found = signing_key(path)
    assert (found.kid, found.algorithm) == ("right", "ES384")


def test_of_two_keys_that_fit_the_settings_name_one(tmp_path):
    path = file(tmp_path, {"keys": [jwk(RSA, "one"), jwk(EC, "two")]})
    with pytest.raises(DefinitionError, match=r"2 private keys fit.*SMART_KID"):
        signing_key(path)
    assert signing_key(path, kid="two").algorithm == "ES384"
    assert signing_key(path, algorithm="RS384").kid == "one"
    with pytest.raises(DefinitionError, match="no private keys fit"):
        signing_key(path, kid="one", algorithm="ES384")


@pytest.mark.parametrize(("content", "words"), [
    (b"", "not a private key"),
    (b"canary", "not a private key"),
    (b"-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n", "not a private key"),
    ({"kty": "EC", "crv": "P-384", "d": "canary", "x": "canary", "y": "canary", "kid": "a"}, "not a private key"),
    ([], "not a private key"),
    (pem(OTHER), "no private keys fit"),
    (pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "no private keys fit"),
    (pem(EC), "SMART_KID"),
    (jwk(EC, None), "SMART_KID"),
], ids=["empty", "text", "broken PEM", "broken JWK", "list", "P-256", "RSA 1024", "PEM without kid", "JWK without kid"])  # fmt: skip
def test_a_file_without_a_fitting_key_is_refused_and_not_repeated(content, words, tmp_path):
    with pytest.raises(DefinitionError, match=words) as caught:
        signing_key(file(tmp_path, content))
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None or "canary" not in str(caught.value.__cause__)


def test_T5_a_key_that_others_may_read_is_refused(tmp_path):
    with pytest.raises(DefinitionError, match="0600"):
        signing_key(file(tmp_path, pem(EC), 0o640), kid="k1")


def test_T5_a_key_shows_in_no_representation(tmp_path):
    backend = SmartBackend("clinic", signing_key(file(tmp_path, pem(EC)), kid="k1"))
    assert repr(backend) == "SmartBackend(client_id='clinic', token_url='', token_host='')"
