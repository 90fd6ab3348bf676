"""What a run may be asked for: the parameters of the flows, checked the same way on the command line and at a server.

They are stored in plain text by the scheduler, for ever: configuration only, never anything about a patient, and no
credential.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from crps_outcomes.errors import DefinitionError
from crps_outcomes.language import Language, Paper  # noqa: TC001 - pydantic reads the annotations at run time

if TYPE_CHECKING:
    from collections.abc import Mapping


class Edition(StrEnum):
    """Who may read the report: ``internal`` shows small cells, ``release`` hides them."""

    internal = "internal"
    release = "release"


class Method(StrEnum):
    """How a server is read: by REST ``search``, or by Bulk Data ``export``. A folder is a folder."""

    search = "search"
    export = "export"


def _real_date(text: str | None) -> str | None:
    if text is not None:
        date.fromisoformat(text)
    return text


def _plain_source(text: str) -> str:
    if "://" not in text:
        return text
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("a source is a folder or an address that begins with https:// or http://")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("an address holds no user, password, query or fragment; the token has its own file")
    return text


# The pattern is what a server checks when a run is asked for; that the day exists is checked when it starts.
Day = Annotated[str | None, Field(pattern=r"^\d{4}-\d{2}-\d{2}$"), AfterValidator(_real_date)]
ReportName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Source = Annotated[str, Field(min_length=1), AfterValidator(_plain_source)]


class CommonParams(BaseModel):
    """What every run may be told. A key that is not listed is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reports: tuple[ReportName, ...] = Field(default=("evidence",), min_length=1)
    edition: Edition = Edition.internal
    as_of: Day = Field(default=None, description="YYYY-MM-DD; empty: the newest day in the data")
    study: str | None = Field(default=None, description="study folder; empty: the one of this installation")
    lang: Language | None = Field(default=None, description="en-GB, en-US or de; empty: the protocol's")
    paper: Paper | None = Field(default=None, description="A4 or Letter; empty: the protocol's")
    archive: bool | None = Field(default=None, description="also a PDF/A-3 with the data in it; empty: the protocol's")
    home: str | None = Field(default=None, description="where runs are written; empty: CRPS_OUTCOMES_HOME or ./build")

    @property
    def form(self) -> dict[str, str | bool]:
        """What this run asks of the form of its reports; the protocol says the rest."""
        return self.model_dump(include={"lang", "paper", "archive"}, exclude_none=True)


class NightlyParams(CommonParams):
    """Pull from a source, then report."""

    source: Source | None = Field(default=None, description="address or folder; empty: CRPS_OUTCOMES_SOURCE")
    method: Method = Field(default=Method.search, description="how a server is read: search or export")
    whole: bool = Field(default=False, description="ask for everything, not only for what changed since the last pull")
    draft: bool = Field(default=False, description="if data are missing, make a report marked DRAFT - INCOMPLETE")

    @model_validator(mode="after")
    def _no_draft_leaves_the_house(self) -> Self:
        if self.draft and self.edition is Edition.release:
            raise ValueError("a draft is internal")
        return self


class ReportParams(CommonParams):
    """Report from data already pulled."""

    snapshot: str = Field(default="latest", pattern=r"^(latest|[0-9a-f]{64})$")


_RIGHT = {
    "method": "search or export",
    "whole": "true or false",
    "draft": "true or false, and true only with the internal edition",
    "reports": "names of reports, such as evidence",
    "edition": "internal or release",
    "as_of": "a day of the calendar as YYYY-MM-DD, such as 2026-01-31",
    "source": "a folder, or an address that begins with https:// or http:// and holds no user, password or query",
    "lang": "en-GB, en-US or de",
    "paper": "A4 or Letter",
    "archive": "true or false",
    "snapshot": 'a digest of 64 hexadecimal digits, or "latest"',
}

Params = TypeVar("Params", bound=CommonParams)


def parse(model: type[Params], given: Mapping[str, object]) -> Params:
    """The checked parameters.

    Raises:
        DefinitionError: one line per mistake, each with the name of the parameter and what would be right.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        wrong = [str((*item["loc"], "draft")[0]) for item in error.errors(include_url=False, include_input=False)]
    raise DefinitionError("\n".join(_explain(model, name) for name in dict.fromkeys(wrong)))


def _explain(model: type[CommonParams], name: str) -> str:
    if name not in model.model_fields:
        return f"{name}: no such parameter; there are {', '.join(model.model_fields)}"
    return f"{name}: not accepted; it should be {_RIGHT.get(name, 'text')}"
