"""Signing in at SEKMET, a token endpoint we did not write: both algorithms, its short tokens, its scopes."""

from __future__ import annotations

import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from small_cohort import KEPT, TYPES, cohort, counts, protocol, write_folder

from crps_outcomes import settings
from crps_outcomes.demo_server import SmartClient, SmartMode, serve
from crps_outcomes.errors import SourceError
from crps_outcomes.fhir import export_source, rest_source
from crps_outcomes.fhir.client import FaultError, Surroundings, connect
from crps_outcomes.home import Home
from crps_outcomes.stages.pull import pull

pytestmark = pytest.mark.server

KEYS = {
    "RS384": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "another": ec.generate_private_key(ec.SECP384R1()),
}
ALGORITHMS = ("RS384", "ES384")
WRITERS = {"RS384": RSAAlgorithm, "ES384": ECAlgorithm}
NARROW = "only-patients"


def jwks(algorithm):
    key = json.loads(WRITERS[algorithm].to_jwk(KEYS[algorithm].public_key()))
    return {"keys": [key | {"kid": "k1", "alg": algorithm}]}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A loaded server whose tokens live for two seconds; each algorithm is the name of a client."""
    clients = [SmartClient(name, jwks(name)) for name in ALGORITHMS]
    clients.append(SmartClient(NARROW, jwks("ES384"), scopes="system/Patient.rs"))
    folder = write_folder(tmp_path_factory.mktemp("export"), cohort())
    with serve(folder, tmp_path_factory.mktemp("server"), smart=SmartMode(tuple(clients), 2)) as served:
        yield served


@pytest.fixture
def access(tmp_path):
    """What the environment of a run gives, for a client and the file of its key."""

    def given(client, algorithm=None):
        path = tmp_path / "key.pem"
        private = KEYS[algorithm or client]
        path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)
        return settings.access(
            {
                "CRPS_OUTCOMES_SMART_CLIENT_ID": client,
                "CRPS_OUTCOMES_SMART_KEY_FILE": str(path),
                "CRPS_OUTCOMES_SMART_KID": "k1",
            }
        )

    return given


def signed_in(base, access, types=("Patient",), **more):
    limits = {"timeout_seconds": 10, "max_body_mb": 1, "surroundings": Surroundings()} | more
    return connect(base, resource_types=types, **access, **limits)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_either_algorithm_opens_the_server_for_a_whole_pull(algorithm, base, access, tmp_path):
    pulled = pull(rest_source(base, **access(algorithm)), protocol(), Home.at(tmp_path / "home"))
    assert pulled.state == "complete"
    assert counts(pulled) == KEPT


def test_an_export_behind_a_sign_in_gives_the_digest_of_the_search(access, tmp_path):
    """With SEKMET's scopes off: it lets nobody with rights to single types fetch an export."""
    folder = write_folder(tmp_path / "cohort", cohort())
    mode = SmartMode((SmartClient("ES384", jwks("ES384")),), 2, enforce_scopes=False)
    with serve(folder, tmp_path / "server", smart=mode) as base:
        searched = pull(rest_source(base, **access("ES384")), protocol(), Home.at(tmp_path / "search"))
        exported = pull(export_source(base, "group", **access("ES384")), protocol(), Home.at(tmp_path / "export"))
    assert (exported.snapshot.digest, exported.state) == (searched.snapshot.digest, "complete")


def test_without_a_token_the_server_says_nothing(base, tmp_path):
    with pytest.raises(SourceError, match="F18 HTTP 401"):
        pull(rest_source(base), protocol(), Home.at(tmp_path))


def test_a_token_is_renewed_ahead_of_its_end(base, access):
    records, now = [], [0.0]
    ahead = Surroundings(clock=lambda: now[0])
    with signed_in(base, access("ES384"), surroundings=ahead, told=records.append) as client:
        for _ in range(3):
            now[0] += 3600
            client.get(client.address("Patient"), bytes)
    assert sum(one["url"].endswith("/auth/token") for one in records) == 4
    assert {one["status"] for one in records} == {200}


def test_a_token_that_ran_out_unnoticed_is_renewed_once_after_a_401(base, access):
    records = []
    still = Surroundings(clock=lambda: 0.0)
    with signed_in(base, access("RS384"), surroundings=still, told=records.append) as client:
        time.sleep(2.1)
        client.get(client.address("Patient"), bytes)
    told = [(one["url"].removeprefix(base.removesuffix("/fhir")), one["status"], one["fault"]) for one in records[2:]]
    assert told == [("/fhir/Patient", 401, "F18"), ("/auth/token", 200, ""), ("/fhir/Patient", 200, "")]


def test_a_grant_that_leaves_out_a_type_ends_it_before_the_pull(base, access):
    with (
        pytest.raises(FaultError, match=r"F51 scope_narrowed.* Observation"),
        signed_in(base, access(NARROW, "ES384"), TYPES),
    ):
        pass


def test_a_token_for_one_type_opens_no_other(base, access):
    with signed_in(base, access("ES384")) as client, pytest.raises(FaultError, match="F19 HTTP 403"):
        client.get(client.address("Observation"), bytes)


def test_a_key_that_is_not_the_client_s_is_refused_by_name(base, access):
    with (
        pytest.raises(FaultError, match=r"F52 .*HTTP 401 \(invalid_client\)"),
        signed_in(base, access("ES384", "another")),
    ):
        pass
