"""The doctor finds each defect by name, shows no secret, and passes what is in order."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crps_outcomes import cli
from crps_outcomes.doctor import examine
from crps_outcomes.study import locate

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-0123456789abcdef"


@pytest.fixture
def study(tmp_path):
    """A copy of the shipped study folder, with its deployments."""
    for folder in ("mappings", "reports", "flows"):
        shutil.copytree(ROOT / folder, tmp_path / "study" / folder)
    shutil.copy(ROOT / "prefect.yaml", tmp_path / "study")
    return tmp_path / "study"


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_text(CANARY)
    path.chmod(0o600)
    return path


def wrong(environment, study, home=Path("/nowhere/yet")):
    found = [str(one) for one in examine(environment, home, study) if not one.is_right]
    assert CANARY not in " ".join(found)
    return found


def test_what_is_shipped_is_in_order():
    assert wrong({}, locate()) == []


def test_a_careful_setting_is_in_order(study, secret, tmp_path):
    home = tmp_path / "home"
    home.mkdir(0o700)
    careful = {
        "CRPS_OUTCOMES_TOKEN_FILE": str(secret), "PREFECT_API_URL": "https://prefect.hospital.test/api",
        "PREFECT_API_AUTH_STRING": "user:word", "PREFECT_SERVER_API_HOST": "0.0.0.0",
        "PREFECT_SERVER_API_AUTH_STRING": "user:word", "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    }  # fmt: skip
    assert wrong(careful, study, home) == []


@pytest.mark.parametrize(
    "name", ["CRPS_OUTCOMES_TOKEN_FILE", "CRPS_OUTCOMES_SMART_KEY_FILE", "CRPS_OUTCOMES_BASIC_PASSWORD_FILE"]
)
def test_T5_a_secret_s_file_that_others_may_read_or_that_is_missing_is_found(name, study, secret):
    secret.chmod(0o640)
    assert "0600" in " ".join(wrong({name: str(secret)}, study))
    secret.unlink()
    assert "no such file" in " ".join(wrong({name: str(secret)}, study))


INLINE = [
    ("mappings/protocol.toml", f'token = "{CANARY}"'),
    ("mappings/protocol.toml", f'api_key="{CANARY}"'),
    ("mappings/protocol.toml", f'source = "https://user:{CANARY}@fhir.test/r4"'),
    ("mappings/protocol.toml", f'note = "eyJhbGciOiJub25lIn0.eyJ{CANARY}.x"'),
    ("reports/evidence.toml", f"# Bearer {CANARY}"),
    ("mappings/protocol.toml", 'key = """-----BEGIN EC PRIVATE KEY-----'),
    ("prefect.yaml", f"          CRPS_OUTCOMES_TOKEN: {CANARY}"),
    ("prefect.yaml", f"          CRPS_OUTCOMES_BASIC_PASSWORD: '{CANARY}'"),
    ("prefect.yaml", f"      env: {{PREFECT_API_AUTH_STRING: {CANARY}}}"),
]


@pytest.mark.parametrize(("file", "line"), INLINE)
def test_T5_a_secret_written_into_the_study_folder_is_found_by_file_and_line(file, line, study):
    path = study / file
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    number = len(path.read_text(encoding="utf-8").splitlines())
    assert [f"{file}:{number}: " in one for one in wrong({}, study)] == [True]


@pytest.mark.parametrize("line", [
    "          CRPS_OUTCOMES_TOKEN_FILE: /run/credentials/token",
    "          CRPS_OUTCOMES_TOKEN_BLOCK: clinic",
    '          CRPS_OUTCOMES_TOKEN: "{{ prefect.blocks.secret.clinic }}"',
    "          CRPS_OUTCOMES_TOKEN: $CLINIC_TOKEN",
    "# the token: never in here",
])  # fmt: skip
def test_a_key_that_says_where_a_secret_is_passes(line, study):
    path = study / "prefect.yaml"
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    assert wrong({}, study) == []


@pytest.mark.parametrize("value", [f"-----BEGIN PRIVATE KEY-----\n{CANARY}", f'{{"kty": "EC", "d": "{CANARY}"}}'])
def test_T5_a_private_key_in_a_variable_is_found_by_the_variable_s_name(value, study):
    assert ["CLINIC_KEY" in one for one in wrong({"CLINIC_KEY": value}, study)] == [True]


def test_two_ways_to_sign_in_are_found(study):
    both = {"CRPS_OUTCOMES_TOKEN": CANARY, "CRPS_OUTCOMES_BASIC_USER": "clinic"}
    assert "more than one way" in " ".join(wrong(both, study))


def test_a_home_folder_that_others_may_look_into_is_found(study, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o750)
    assert ["0700" in one for one in wrong({}, study, home)] == [True]


SCHEDULERS = [
    ({"PREFECT_API_URL": "http://127.0.0.1:4200/api"}, []),
    ({"PREFECT_API_URL": "http://prefect.test/api", "PREFECT_API_KEY": CANARY}, ["PREFECT_API_URL"]),
    ({"PREFECT_API_URL": "https://prefect.test/api"}, ["PREFECT_API_URL"]),
    ({"PREFECT_API_URL": "http://127.0.0.1.prefect.test/api"}, ["PREFECT_API_URL"]),
    (
        {"PREFECT_SERVER_API_HOST": "0.0.0.0", "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true"},
        ["PREFECT_SERVER_API_HOST"],
    ),
    ({"PREFECT_SERVER_API_HOST": "0.0.0.0", "PREFECT_SERVER_API_AUTH_STRING": CANARY}, ["PREFECT_SERVER_CSRF"]),
]


@pytest.mark.parametrize(("environment", "names"), SCHEDULERS)
def test_T22_a_scheduler_open_to_others_is_found(environment, names, study):
    found = wrong(environment, study)
    assert len(found) == len(names)
    assert all(name in one for name, one in zip(names, found, strict=True))


def test_the_command_says_a_line_per_check_and_ends_with_one_when_something_is_wrong(
    study, secret, tmp_path, monkeypatch
):
    monkeypatch.setenv("CRPS_OUTCOMES_TOKEN_FILE", str(secret))
    arguments = ["doctor", "--study", str(study), "--out", str(tmp_path / "home")]
    right = CliRunner().invoke(cli.app, arguments)
    assert (right.exit_code, {line.split(":")[0] for line in right.stdout.splitlines()}) == (0, {"in order"})
    secret.chmod(0o644)
    bad = CliRunner().invoke(cli.app, arguments)
    assert bad.exit_code == 1
    assert [line for line in bad.stdout.splitlines() if line.startswith("WRONG: ")]
    assert CANARY not in right.output + bad.output
