"""Published studies as the study folder lists them: context for the reader, never a comparison arm."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from crps_outcomes.declaration import Definition, Identifier, State
from crps_outcomes.numbers import MINUS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Reading = Literal["null", "mixed", "favourable", "not about pain", "no result"]
FOLDER = "mappings/evidence"

#: What favourable results are never shown without: where it stands, and words its result must hold.
COUNTERWEIGHTS = {
    "Pickering 2020, which found no difference": ("NCT02467517", "no difference"),
    "the Cochrane review of 2025, which found no clear benefit": ("CD015373", "no clear benefit"),
    "Sigtermans 2009, with the functional gain that was missing": (
        "10.1016/j.pain.2009.06.023",
        "no functional improvement",
    ),
}
ROUNDING_MG = 0.5


class PublishedStudy(Definition):
    """One row of the evidence table. ``verified`` says whether the row was seen in its source, ``reading`` what it means here."""

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
    reading: Reading
    verified: Literal["yes", "no"]


class PublishedDose(Definition):
    """The most ketamine one course of a published study can have come to, with the rate and the time it is worked out from."""

    id: Identifier
    study: str
    course: str
    ketamine: Literal["racemic", "S-ketamine"]
    mg_per_hour: float = Field(gt=0)
    hours_per_day: float = Field(gt=0, le=24)
    days: float = Field(gt=0)
    total_mg: float = Field(gt=0)
    state: State
    note: str = Field(min_length=1)


class Untreated(Definition):
    """Pain in a published group that got no ketamine, at one time."""

    study: str
    group: str
    visit: Identifier  # of the protocol, that stands beside it
    week: int
    people: int
    mean: float
    spread: float
    note: str = Field(min_length=1)


@dataclass(frozen=True)
class Evidence:
    """What others published: the studies, the total doses of two of them, and pain without ketamine."""

    studies: tuple[PublishedStudy, ...] = ()
    doses: tuple[PublishedDose, ...] = ()
    untreated: tuple[Untreated, ...] = ()

    def study(self, name: str) -> PublishedStudy | None:
        return next((one for one in self.studies if one.study == name), None)

    @property
    def counterweights(self) -> tuple[PublishedStudy, ...]:
        """The rows that favourable ones are never shown without."""
        found = (_counterweight(self.studies, *where) for where in COUNTERWEIGHTS.values())
        return tuple(study for study in found if study)


def mistakes_in(evidence: Evidence) -> Iterator[str]:
    """What makes the evidence one-sided, or a number in it not the number of its source."""
    yield from _one_sided(evidence.studies)
    for dose in evidence.doses:
        total = dose.mg_per_hour * dose.hours_per_day * dose.days
        if abs(total - dose.total_mg) > ROUNDING_MG:
            yield f"{FOLDER}/doses.csv: {dose.id}: total_mg should be {total:.0f}, rate times hours times days"
        if not _is_verified(evidence.study(dose.study)):
            yield f"{FOLDER}/doses.csv: {dose.id}: study should be a verified row of {FOLDER}/published.csv"
    for group in evidence.untreated:
        source = evidence.study(group.study)
        if source is None or not _is_verified(source) or f"{group.mean:g} +/- {group.spread:g}" not in source.result:
            yield (
                f"{FOLDER}/untreated.csv: {group.week}: mean and spread should stand in the result of a verified row of "
                f"{FOLDER}/published.csv"
            )


def _one_sided(studies: Sequence[PublishedStudy]) -> Iterator[str]:
    if not any(study.reading in ("favourable", "mixed") and study.verified == "yes" for study in studies):
        return
    for name, where in COUNTERWEIGHTS.items():
        if not _counterweight(studies, *where):
            yield (
                f"{FOLDER}/published.csv: favourable results stand without {name}; its row should be there, verified, "
                f'and say "{where[1]}"'
            )


def _counterweight(studies: Sequence[PublishedStudy], mark: str, words: str) -> PublishedStudy | None:
    own = (one for one in studies if mark in (one.doi, *re.findall(r"\w+", one.study)))
    return next((one for one in own if _is_verified(one) and words in one.result), None)


def _is_verified(study: PublishedStudy | None) -> bool:
    return study is not None and study.verified == "yes"


def typeset(text: str) -> str:
    """The quoted text with true minus, plus-minus and quotation marks; words and numbers stay as they are."""
    marked = re.sub(r'"([^"]*)"', "\u201c\\1\u201d", text.replace("+/-", "±"))
    return re.sub(r"(?<![\w.)])-(?=\d)", MINUS, marked)
