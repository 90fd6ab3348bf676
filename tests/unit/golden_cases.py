"""The golden files of the measures, and the cohort their cases make."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study_day import DIAGNOSIS, DOSE, PERSON, as_person, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crps_outcomes.study import Study

GOLDEN = Path(__file__).parents[1] / "golden" / "measures"
CASES: dict[str, list[dict[str, Any]]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(GOLDEN.glob("*.json"))
}


def cohort(measure: str, numbers: Iterable[int], study: Study) -> Any:
    """One person for each of these cases, through screening, tabulating and scoring."""
    chosen = list(numbers)
    people = [as_person([PERSON, DIAGNOSIS, DOSE, *CASES[measure][i]["resources"]], f"-{i}") for i in chosen]
    return run(
        [resource for person in people for resource in person],
        enrolled=[f"p1-{i}" for i in chosen],
        person=False,
        study=study,
    )


def with_tables(study: Study, tables: Mapping[str, list[list[Any]]]) -> Study:
    """The study of a site that supplied these tables: rows of item, level and value."""
    return replace(
        study,
        tables={name: {(row[0], float(row[1])): row[2] for row in rows} for name, rows in tables.items()},
    )
