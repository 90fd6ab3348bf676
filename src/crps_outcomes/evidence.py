"""Published studies as the study folder lists them: context for the reader, never a comparison arm."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from crps_outcomes.declaration import Definition
from crps_outcomes.errors import DefinitionError
from crps_outcomes.numbers import MINUS

if TYPE_CHECKING:
    from pathlib import Path

FILE = "mappings/evidence/published.csv"


class PublishedStudy(Definition):
    """One row of the evidence table. ``verified`` says whether the row was seen in its source."""

    study: str = Field(min_length=1)
    year: str
    doi: str
    design: str
    n: str
    condition: str
    route: str
    regimen: str
    outcome: str
    timing: str
    result: str
    certainty_risk_note: str = Field(min_length=1)
    verified: Literal["yes", "no"]


def published(root: Path) -> tuple[PublishedStudy, ...]:
    """Every row of the evidence table, in the order of the file.

    Raises:
        DefinitionError: a row has other columns, no study, no certainty note, or no answer to "verified".
    """
    with (root / FILE).open(encoding="utf-8", newline="") as lines:
        rows = [*csv.DictReader(lines)]
    try:
        return tuple(PublishedStudy.model_validate(row) for row in rows)
    except ValidationError as error:
        keys = ", ".join(sorted({".".join(map(str, item["loc"])) for item in error.errors()}))
        raise DefinitionError(f"{FILE}: {keys}: should be filled as the head of the file says") from None


def typeset(text: str) -> str:
    """The quoted text with true minus, plus-minus and quotation marks; words and numbers stay as they are."""
    marked = re.sub(r'"([^"]*)"', "\u201c\\1\u201d", text.replace("+/-", "±"))
    return re.sub(r"(?<![\w.)])-(?=\d)", MINUS, marked)
