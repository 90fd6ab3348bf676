"""The command line: one message, one exit code, and a last line a script can use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crps_outcomes import cli, orchestration, settings
from crps_outcomes.errors import (
    EXIT_CODES,
    DefinitionError,
    IncompleteDataError,
    NoPatientsError,
    PipelineError,
    SourceError,
)
from crps_outcomes.failures import bounded
from crps_outcomes.params import CommonParams, NightlyParams, ReportParams, parse

ROOT = Path(__file__).resolve().parents[2]
SECRET = "Anna Example, MRN 12345"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CRPS_OUTCOMES_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    for name in orchestration.settings(
        tmp_path, is_verbose=False
    ):  # restored after the test, whatever the command sets
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)
    return tmp_path / "home"


@pytest.fixture
def flow(home, monkeypatch):
    """A stand-in for Prefect: remembers what it was asked, and does what the test says."""
    asked = []

    @contextmanager
    def server(environment, folder):
        yield lambda: None

    def run_flow(file, function, params, ready):
        asked.append((file, function, params))
        if isinstance(run_flow.does, Exception):
            raise run_flow.does
        return run_flow.does

    run_flow.does, run_flow.asked = [str(home / "runs" / "one")], asked
    monkeypatch.setattr(orchestration, "server", server)
    monkeypatch.setattr(orchestration, "run_flow", run_flow)
    return run_flow


def call(*arguments: str):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_the_last_line_of_a_run_is_its_folder(flow, home):
    result = call("run", "--source", "https://fhir.example.org/r4")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == str(home / "runs" / "one")


def test_a_run_is_the_flow_of_the_nightly_deployment(flow):
    call("run", "--source", "https://fhir.example.org/r4")
    file, function, _ = flow.asked[0]
    assert f"{file.relative_to(ROOT).as_posix()}:{function}" in (ROOT / "prefect.yaml").read_text(encoding="utf-8")


def test_every_option_reaches_the_flow(flow, home, tmp_path):
    call(
        "run",
        "--source",
        "data",
        "--report",
        "evidence",
        "--as-of",
        "2026-01-31",
        "--edition",
        "release",
        "--out",
        tmp_path / "elsewhere",
        "--study",
        ROOT,
        "--method",
        "export",
        "--whole",
        "--lang",
        "de",
        "--paper",
        "Letter",
        "--archive",
    )
    params = flow.asked[0][2]
    assert params.model_dump(mode="json") == {
        "source": str(Path("data").resolve()),
        "reports": ["evidence"],
        "as_of": "2026-01-31",
        "edition": "release",
        "home": str(tmp_path / "elsewhere"),
        "study": str(ROOT),
        "method": "export",
        "whole": True,
        "draft": False,
        "lang": "de",
        "paper": "Letter",
        "archive": True,
    }


def test_the_token_file_is_told_to_the_flow_but_is_no_parameter(flow, monkeypatch, tmp_path):
    monkeypatch.setenv("CRPS_OUTCOMES_TOKEN_FILE", "")
    (tmp_path / "secret.txt").touch(0o600)
    call("run", "--source", "https://fhir.example.org", "--token-file", tmp_path / "secret.txt")
    assert os.environ["CRPS_OUTCOMES_TOKEN_FILE"] == str(tmp_path / "secret.txt")
    assert "secret.txt" not in flow.asked[0][2].model_dump_json()


def test_the_host_of_the_token_is_told_to_the_flow_but_is_no_parameter(flow, monkeypatch):
    monkeypatch.setenv("CRPS_OUTCOMES_TOKEN_HOST", "")
    call("run", "--source", "https://fhir.example.org", "--accept-token-host", "login.example.org")
    assert os.environ["CRPS_OUTCOMES_TOKEN_HOST"] == "login.example.org"
    assert "login" not in flow.asked[0][2].model_dump_json()


def test_the_patient_list_is_told_to_the_flow_but_is_no_parameter(flow, monkeypatch, tmp_path):
    monkeypatch.setenv("CRPS_OUTCOMES_PATIENT_LIST", "")
    copy_of_study(tmp_path / "study")
    protocol = tmp_path / "study" / "mappings" / "protocol.toml"
    protocol.write_text(
        protocol.read_text(encoding="utf-8").replace('selector = "group"', 'selector = "list"'), encoding="utf-8"
    )
    (tmp_path / "people.csv").touch(0o600)
    (tmp_path / "people.csv").write_text("patient\na\n", encoding="utf-8")
    assert "enrolment: by list" in call("check", "--study", tmp_path / "study").stdout
    result = call("run", "--source", "data", "--study", tmp_path / "study", "--patients", tmp_path / "people.csv")
    assert result.exit_code == 0
    assert os.environ["CRPS_OUTCOMES_PATIENT_LIST"] == str(tmp_path / "people.csv")
    assert "people.csv" not in flow.asked[0][2].model_dump_json()


def test_a_patient_list_nobody_asked_for_or_that_is_wrong_is_refused_before_anything_runs(flow, monkeypatch, tmp_path):
    monkeypatch.setenv("CRPS_OUTCOMES_PATIENT_LIST", "")
    (tmp_path / "people.csv").touch(0o600)
    result = call("run", "--source", "data", "--patients", tmp_path / "people.csv")
    assert (result.exit_code, flow.asked) == (2, [])
    assert 'selector is "group"' in result.stderr


@pytest.mark.parametrize("error", [DefinitionError, SourceError, IncompleteDataError, NoPatientsError])
def test_each_kind_of_failure_has_its_exit_code_and_one_message(flow, error):
    flow.does = error("what is wrong; what would be right")
    result = call("run", "--source", "data")
    assert result.exit_code == error.exit_code
    assert result.stderr.strip() == "Stopped. what is wrong; what would be right"
    assert "Traceback" not in result.output


def test_an_unforeseen_failure_says_its_class_and_where_but_not_its_words(flow, home):
    flow.does = ValueError(SECRET)
    result = call("run", "--source", "data")
    written = [path.read_text(encoding="utf-8") for path in (home / "failures").iterdir()]
    assert result.exit_code == 1
    assert "ValueError" in result.stderr
    assert str(home / "failures") in result.stderr
    assert "run_flow" in written[0]
    assert "Anna" not in "".join([result.output, *written])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--token-file", "no-such-file"], "no such file; it should hold the bearer token"),
        (["--as-of", "31/01/2026"], "YYYY-MM-DD"),
        (["--as-of", "2026-02-30"], "YYYY-MM-DD"),
        (["--report", "evidense"], 'no report "evidense"; there are evidence'),
        (["--study", "no/such/folder"], "not a study folder"),
        (["--edition", "public"], "edition"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(flow, arguments, word, monkeypatch):
    monkeypatch.setenv("CRPS_OUTCOMES_TOKEN_FILE", "")
    result = call("run", "--source", "https://fhir.example.org", *arguments)
    assert result.exit_code == 2
    assert word in " ".join(result.stderr.split())
    assert flow.asked == []


@pytest.mark.parametrize(
    "source", ["ftp://example.org", "https://user:pw@example.org", "https://example.org/r4?token=x"]
)
def test_an_address_that_hides_a_secret_is_refused_and_not_repeated(flow, source):
    result = call("run", "--source", source)
    assert result.exit_code == 2
    assert source not in result.output
    assert flow.asked == []


@pytest.mark.parametrize("command", ["demo", "synthesize", "check", "run"])
def test_help_gives_an_example_and_the_exit_codes(home, command):
    text = " ".join(call(command, "--help").stdout.split())
    assert f"Example: crps-outcomes {command}" in text
    assert all(f"{code} {meaning.split(';')[0]}" in text for code, meaning in EXIT_CODES.items())


def test_check_lists_what_the_study_folder_holds(home):
    result = call("check")
    assert result.exit_code == 0
    assert "pain_nrs" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("in order")


def test_check_names_file_line_and_key(home, tmp_path):
    copy_of_study(tmp_path)
    protocol = tmp_path / "mappings" / "protocol.toml"
    lines = protocol.read_text(encoding="utf-8").splitlines()
    (number,) = [number for number, line in enumerate(lines, 1) if line.startswith("page_size")]
    lines[number - 1] = "page_sise = 200"
    protocol.write_text("\n".join(lines), encoding="utf-8")
    result = call("check", "--study", tmp_path)
    assert result.exit_code == 2
    assert f"mappings/protocol.toml:{number}: pull.page_sise" in result.stderr


def test_check_refuses_a_section_that_nobody_wrote_or_that_has_no_template(home, tmp_path):
    copy_of_study(tmp_path)
    report = tmp_path / "reports" / "evidence.toml"
    report.write_text(report.read_text(encoding="utf-8").replace('"pain"', '"panic"'), encoding="utf-8")
    (tmp_path / "templates" / "sections" / "safety.html.j2").unlink()
    result = call("check", "--study", tmp_path)
    assert result.exit_code == 2
    assert 'reports/evidence.toml: sections: no section "panic"; there are' in result.stderr
    assert '"safety" needs templates/sections/safety.html.j2' in result.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("concurrency_limit:", "concurency_limit:", "deployments.0.concurency_limit: no such key"),
        ("edition: internal", "edition: public", "deployment nightly: parameters.params.edition"),
        ("reports: [evidence]", "report: [evidence]", "parameters.params.report: no such parameter"),
        ("timezone: America/New_York", "timezone: America/Albany", "not a time zone"),
        ("nightly.py:nightly_outcomes", "nightly.py:nightly", "no such flow"),
    ],
)
def test_check_refuses_a_deployment_that_prefect_would_take(home, tmp_path, right, wrong, message):
    copy_of_study(tmp_path)
    text = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    (tmp_path / "prefect.yaml").write_text(text.replace(right, wrong), encoding="utf-8")
    result = call("check", "--study", tmp_path)
    assert result.exit_code == 2
    assert message in result.stderr


def copy_of_study(target: Path) -> None:
    for folder in ("mappings", "templates", "reports"):
        shutil.copytree(ROOT / folder, target / folder)


def test_a_misspelt_parameter_is_named_and_the_right_ones_are_listed():
    with pytest.raises(DefinitionError, match=r"snapshott: no such parameter; there are .*snapshot"):
        parse(ReportParams, {"snapshott": "latest"})


def test_parameters_hold_no_field_for_a_patient_or_a_credential():
    names = {*CommonParams.model_fields, *NightlyParams.model_fields, *ReportParams.model_fields}
    assert names == {
        "reports",
        "edition",
        "as_of",
        "study",
        "home",
        "source",
        "snapshot",
        "method",
        "whole",
        "draft",
        "lang",
        "paper",
        "archive",
    }


def test_the_boundary_keeps_the_class_and_drops_what_lies_behind(tmp_path):
    @bounded("pull")
    def step(home):
        try:
            int(SECRET)
        except ValueError as error:
            raise SourceError("the server refuses") from error

    with pytest.raises(SourceError, match="the server refuses") as caught:
        step(tmp_path)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_to_start_a_command_needs_neither_the_scheduler_nor_statistics_nor_drawing():
    code = "import sys, crps_outcomes.cli; print(*{'prefect', 'scipy.stats', 'statsmodels', 'matplotlib', 'weasyprint'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "\n"


def test_the_home_is_what_was_asked_for_then_the_environment_then_build(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert settings.home({"CRPS_OUTCOMES_HOME": "/one"}, "/two") == Path("/two")
    assert settings.home({"CRPS_OUTCOMES_HOME": "/one"}) == Path("/one")
    assert settings.home({}) == tmp_path / "build"


def test_a_nightly_run_without_a_source_says_which_variable_to_set():
    with pytest.raises(DefinitionError, match="CRPS_OUTCOMES_SOURCE"):
        settings.source({})


def test_a_token_that_others_may_read_is_refused(tmp_path):
    file = tmp_path / "token"
    file.write_text("abc", encoding="utf-8")
    file.chmod(0o640)
    with pytest.raises(DefinitionError, match="chmod 600"):
        settings.access({"CRPS_OUTCOMES_TOKEN_FILE": str(file)})
    file.chmod(0o600)
    assert header({"CRPS_OUTCOMES_TOKEN_FILE": str(file)}) == "Bearer abc"
    assert header({"CRPS_OUTCOMES_TOKEN": "from-the-variable"}) == "Bearer from-the-variable"
    assert header({}) == ""


def header(environment):
    return settings.access(environment)["credential"].header()


def test_a_server_that_is_given_is_used_and_none_is_started(monkeypatch, tmp_path):
    environment = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    monkeypatch.setattr(subprocess, "Popen", None)  # starting one would fail
    with orchestration.server(environment, tmp_path):
        assert environment == {"PREFECT_API_URL": "http://127.0.0.1:9/api"}


def test_a_server_of_our_own_leaves_no_trace_and_dies_loudly(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    environment: dict[str, str] = {}
    with orchestration.server(environment, tmp_path) as ready:
        assert environment["PREFECT_API_AUTH_STRING"] == environment["PREFECT_SERVER_API_AUTH_STRING"]
        with pytest.raises(PipelineError, match=r"server\.log"):
            ready()
    assert environment == {}
