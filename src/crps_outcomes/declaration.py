"""What every piece of the study folder has in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
State = Literal["confirmed", "unconfirmed", "project rule", "example"]


class Definition(BaseModel):
    """A frozen piece of the study folder; a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)
