"""prefect.yaml, read strictly: Prefect passes over a deployment key it does not know, this does not.

A misspelt ``concurency_limit`` would otherwise deploy without a limit and say nothing.
"""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from crps_outcomes.declaration import Definition
from crps_outcomes.errors import DefinitionError
from crps_outcomes.params import CommonParams, NightlyParams, ReportParams, parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOWS: dict[str, type[CommonParams]] = {
    "flows/nightly.py:nightly_outcomes": NightlyParams,
    "flows/outcomes_report.py:outcomes_report": ReportParams,
}


class WorkPool(Definition):
    """Where a deployment runs."""

    name: str
    job_variables: dict[str, Any] = Field(default_factory=dict)


class ConcurrencyLimit(Definition):
    """How many runs at once, and what becomes of one more."""

    limit: int = Field(ge=1)
    collision_strategy: Literal["CANCEL_NEW", "ENQUEUE"]


class Schedule(Definition):
    """When a deployment runs. ``slug`` and ``active`` are asked for: without them a redeployment loses pauses."""

    cron: str = Field(pattern=r"^\S+( \S+){4}$")
    timezone: str
    day_or: bool = True
    active: bool
    slug: str

    @field_validator("timezone")
    @classmethod
    def _exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError("not a time zone; it should be a name such as America/New_York") from error
        return name


class Deployment(Definition):
    """One deployment of prefect.yaml, with the keys this project uses."""

    name: str
    description: str
    entrypoint: str
    parameters: dict[Literal["params"], dict[str, Any]]
    work_pool: WorkPool
    concurrency_limit: ConcurrencyLimit
    schedules: tuple[Schedule, ...] = ()

    @field_validator("entrypoint")
    @classmethod
    def _is_a_flow(cls, entrypoint: str) -> str:
        if entrypoint not in FLOWS:
            raise ValueError(f"no such flow; there are {', '.join(FLOWS)}")
        return entrypoint


class Deployments(Definition):
    """The whole of prefect.yaml."""

    name: str
    pull: tuple[dict[str, Any], ...]
    definitions: dict[str, Any] = Field(default_factory=dict)
    deployments: tuple[Deployment, ...]


def read(path: Path) -> Deployments:
    """The deployments of a prefect.yaml.

    Raises:
        DefinitionError: one line per mistake: an unknown key, a flow that is not there, a parameter its flow refuses.
    """
    text = path.read_text(encoding="utf-8")
    try:
        found = Deployments.model_validate(YAML(typ="safe").load(StringIO(text)))
    except YAMLError as error:
        raise DefinitionError(f"{path.name}: not valid YAML: {str(error).splitlines()[0]}") from None
    except ValidationError as error:
        raise DefinitionError("\n".join(_explain(path.name, text, error))) from None
    for deployment in found.deployments:
        _check_parameters(path.name, deployment)
    return found


def _check_parameters(file: str, deployment: Deployment) -> None:
    try:
        parse(FLOWS[deployment.entrypoint], deployment.parameters.get("params", {}))
    except DefinitionError as error:
        raise DefinitionError(f"{file}: deployment {deployment.name}: parameters.params.{error}") from None


def _explain(file: str, text: str, error: ValidationError) -> Iterator[str]:
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        key = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "no such key; Prefect would pass over it in silence"
        yield f"{file}{_line_of(text, str(item['loc'][-1]))}: {key}: {message}"


def _line_of(text: str, key: str) -> str:
    """Where the key is first set, as ":12", or "" when it is not in the file."""
    lines = enumerate(text.splitlines(), 1)
    return next((f":{number}" for number, line in lines if line.lstrip(" -").startswith(f"{key}:")), "")
