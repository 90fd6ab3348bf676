"""What every piece of the study folder has in common."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crps_outcomes.texts import is_plain

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
State = Literal["confirmed", "unconfirmed", "project rule", "example"]


class Definition(BaseModel):
    """A frozen piece of the study folder; a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    @model_validator(mode="after")
    def _is_plain(self) -> Self:
        for name, value in self:
            texts = value if isinstance(value, tuple) else (value,)
            if not all(is_plain(text) for text in texts if isinstance(text, str)):
                raise ValueError(f"{name} holds a control, direction, private-use or invisible character; retype it")
        return self
