"""The flows as a scheduler sees them: schedules that run, parameters that are checked, and no patient data kept."""
# ruff: noqa: PLC0415 - Prefect is imported only when a test needs it: it takes seconds

from __future__ import annotations

import json
import os
import sqlite3
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import httpx
import pytest

from crps_outcomes import derive, settings
from crps_outcomes.deployments import FLOWS, read
from crps_outcomes.errors import DefinitionError, IncompleteDataError, NoPatientsError, PipelineError, SourceError
from crps_outcomes.params import NightlyParams, ReportParams
from crps_outcomes.study import load, locate
from crps_outcomes.synthetic import Options, generate, write_ndjson
from study_folder import short_study

pytestmark = pytest.mark.prefect

ROOT = Path(__file__).resolve().parents[1]
CANARY = "Zzyzxcanary"
DEPLOYMENTS = {deployment.name: deployment for deployment in read(ROOT / "prefect.yaml").deployments}


def flow_at(entrypoint: str):
    from prefect.flows import load_flow_from_entrypoint

    return load_flow_from_entrypoint(str(ROOT / entrypoint), use_placeholder_flow=False)


@pytest.fixture(scope="module")
def api(prefect_server):
    from prefect.settings import PREFECT_API_URL

    with httpx.Client(base_url=f"{PREFECT_API_URL.value()}/", timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def deployed(api):
    """Both deployments at the server, with the parameter schemas their flows give; name -> id."""
    return {name: _deploy(deployment) for name, deployment in DEPLOYMENTS.items()}


def _deploy(deployment) -> str:
    flow = flow_at(deployment.entrypoint)
    made = flow.to_deployment(name=deployment.name, parameters=deployment.parameters)
    return str(made.apply())


def asked_for(api, deployment_id: str, params: dict) -> httpx.Response:
    return api.post(f"deployments/{deployment_id}/create_flow_run", json={"parameters": {"params": params}})


def test_a_cron_schedule_really_creates_runs(api):
    # With some sets of libraries Prefect deploys, runs on demand, and never schedules anything.
    flow_id = api.post("flows/", json={"name": "scheduled"}).json()["id"]
    schedule = {"schedule": {"cron": "* * * * *"}, "active": True}
    made = api.post("deployments/", json={"name": "nightly", "flow_id": flow_id, "schedules": [schedule]}).json()
    api.post(f"deployments/{made['id']}/schedule", json={})
    assert len(api.post("flow_runs/filter", json={"flows": {"id": {"any_": [flow_id]}}}).json()) > 0


@pytest.mark.parametrize(
    ("name", "params", "named"),
    [
        ("on-demand", {"snapshott": "latest"}, "snapshott"),
        ("nightly", {"reports": ["evidence"], "asof": "2026-01-31"}, "asof"),
        ("nightly", {"edition": "public"}, "public"),
        ("on-demand", {"as_of": "31/01/2026"}, "31/01/2026"),
        ("on-demand", {"snapshot": "newest"}, "newest"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name_when_the_run_is_asked_for(api, deployed, name, params, named):
    answer = asked_for(api, deployed[name], params)
    assert answer.status_code in {409, 422}
    assert named in answer.text


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_right_parameter_is_taken(api, deployed, name):
    answer = asked_for(api, deployed[name], {"as_of": "2026-01-31", "edition": "release"})
    assert answer.status_code in {200, 201}


@pytest.mark.parametrize("entrypoint", FLOWS)
def test_every_flow_can_be_loaded_by_its_file(entrypoint):
    flow = flow_at(entrypoint)
    assert flow.parameters.properties["params"]
    assert not flow.persist_result
    assert not flow.log_prints


def test_the_kind_of_a_failure_survives_the_scheduler(prefect_server, tmp_path):
    nightly = flow_at("flows/nightly.py:nightly_outcomes")
    with pytest.raises(SourceError) as caught:
        nightly(NightlyParams(source=str(tmp_path / "nothing"), home=str(tmp_path / "home")))
    assert caught.value.__cause__ is None


def test_a_report_before_any_pull_says_what_to_do_first(prefect_server, tmp_path):
    on_demand = flow_at("flows/outcomes_report.py:outcomes_report")
    with pytest.raises(IncompleteDataError, match="pull first"):
        on_demand(ReportParams(home=str(tmp_path / "home")))


def test_on_a_day_before_anybody_was_enrolled_there_is_no_report(prefect_server, tmp_path):
    marked_cohort(tmp_path / "source")
    nightly = flow_at("flows/nightly.py:nightly_outcomes")
    with pytest.raises(NoPatientsError, match="enrolled"):
        nightly(NightlyParams(source=str(tmp_path / "source"), home=str(tmp_path / "home"), as_of="1999-01-01"))


def test_a_secret_block_of_the_scheduler_signs_in_from_within_a_task(prefect_server):
    from prefect import flow, task
    from prefect.blocks.system import Secret

    found = spec_from_file_location("nightly", locate() / "flows" / "nightly.py")
    nightly = module_from_spec(found)
    found.loader.exec_module(nightly)
    seen = []

    @task(persist_result=False)
    def sign_in():
        named = {"CRPS_OUTCOMES_TOKEN_BLOCK": "clinic-token"}
        seen.append(settings.access(named, nightly._secret)["credential"].header())
        with pytest.raises(DefinitionError, match="TOKEN_BLOCK"):
            settings.access({"CRPS_OUTCOMES_TOKEN_BLOCK": "no-such-block"}, nightly._secret)

    @flow(persist_result=False)
    def run():
        sign_in()

    Secret(value="abc").save("clinic-token")
    run()
    assert seen == ["Bearer abc"]


def test_no_patient_data_stay_with_the_scheduler(api, tmp_path, capfd, monkeypatch):
    """A good night, two bad ones, and a report on demand, with a mark in every name and free text of the source."""
    home, good, bad = (str(tmp_path / name) for name in ("home", "good", "bad"))
    study = str(short_study(tmp_path, evidence=["summary", "flow", "pain", "safety", "provenance"]))
    marked_cohort(Path(good))
    marked_cohort(Path(bad))
    with (Path(bad) / "Observation.ndjson").open("a", encoding="utf-8") as file:
        file.write(f'{{"resourceType": "Observation", "id": "{CANARY}", "note": [{{"text": "{CANARY}')
    nightly = flow_at("flows/nightly.py:nightly_outcomes")
    (folder,) = nightly(NightlyParams(source=good, home=home, study=study))
    (again,) = flow_at("flows/outcomes_report.py:outcomes_report")(ReportParams(home=home, study=study))
    with pytest.raises(IncompleteDataError):
        nightly(NightlyParams(source=bad, home=home, study=study))
    monkeypatch.setattr(derive, "derive_partition", _fails_with_a_value)  # a mapped task: its error crosses a future
    with pytest.raises(PipelineError, match="unforeseen ValueError"):
        nightly(NightlyParams(source=good, home=home, study=study))

    assert folder == again
    assert (Path(folder) / "report.pdf").stat().st_size > 0
    assert places_of(CANARY, database(), Path(os.environ["PREFECT_HOME"])) == []
    assert CANARY not in "".join(capfd.readouterr())
    assert places_of("nightly-outcomes", database()) != []  # the search does find what is there


def _fails_with_a_value(plan, number, verdicts):
    raise ValueError(f"could not convert {CANARY}")


def marked_cohort(folder: Path) -> None:
    """A small cohort on disk whose names, numbers and notes carry the mark."""
    write_ndjson(generate(Options(patients=16, seed=3), load(locate())), folder)
    for path in folder.glob("*.ndjson"):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        marked = (json.dumps(_marked(resource)) for resource in lines)
        path.write_text("\n".join(marked) + "\n", encoding="utf-8")


def _marked(resource: dict) -> dict:
    if resource["resourceType"] == "Patient":
        name = [{"family": CANARY, "given": [CANARY]}]
        return {**resource, "name": name, "identifier": [{"system": "urn:mrn", "value": CANARY}]}
    if resource["resourceType"] in {"Observation", "MedicationAdministration", "Condition"}:
        return {**resource, "note": [{"text": f"{CANARY} says it hurts"}]}
    return resource


def database() -> Path:
    from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL

    address = PREFECT_SERVER_DATABASE_CONNECTION_URL.value()
    return Path(getattr(address, "get_secret_value", lambda: address)().split(":///")[1])


def places_of(word: str, database: Path, folder: Path | None = None) -> list[str]:
    """Every column of every table, and every file below the folder, that holds the word."""
    found = [
        str(path)
        for path in (folder.rglob("*") if folder else ())
        if path.is_file() and word.encode() in path.read_bytes()
    ]
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            cursor = connection.execute(f'select * from "{table}"')
            names = [column[0] for column in cursor.description]
            found += [
                f"{table}.{name}"
                for row in cursor
                for name, value in zip(names, row, strict=True)
                if word in str(value)
            ]
    return sorted(set(found))
