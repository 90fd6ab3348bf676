"""Treatments beside ketamine: medicines and procedures that the study's codelists know."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

from crps_outcomes.study import WORDS
from crps_outcomes.synthetic.options import stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from crps_outcomes.definitions import ListedCode
    from crps_outcomes.synthetic.people import Setting

#: Share of people with a treatment of each class; classes not named here get the last number.
SHARES: dict[str, float] = {
    "gabapentinoid": 0.55,
    "SNRI": 0.35,
    "NSAID": 0.40,
    "opioid": 0.25,
    "sympathetic block": 0.35,
    "spinal cord stimulation": 0.07,
    "dorsal root ganglion stimulation": 0.04,
}
OTHER_SHARE = 0.1
#: Classes drawn from a stream of their own, so that those above stay what they were.
LATER_SHARES: dict[str, float] = {
    "TCA": 0.2,
    "physical or occupational therapy": 0.7,
    "psychological therapy": 0.3,
    "surgery of the limb": 0.1,
}
SHARE_ENDED = 0.3  # of statements of a medicine: taken for some weeks and then no more
SHARE_STARTED_LATER = 0.06  # during follow-up instead of before: an intercurrent event
MEDICINE_TYPES = ("MedicationRequest", "MedicationStatement")


@dataclass(frozen=True)
class Treatment:
    """One medicine or procedure: the FHIR type that records it, its listed code, and its first day."""

    resource_type: str
    code: ListedCode
    on: date
    ended_on: date | None = None


def treatments_of(index: int, first_dose_on: date, last_on: date, setting: Setting) -> tuple[Treatment, ...]:
    """The treatments of one person, at most one of each class."""
    rng = stream(setting.options, index, "treatments")
    lists = setting.study.codelists
    found: list[Treatment] = []
    for own, shares in ((rng, SHARES), (stream(setting.options, index, "more treatments"), LATER_SHARES)):
        for name, is_medicine in (("co_treatments", True), ("procedures", False)):
            codes = [code for code in lists.get(name, ()) if (code.group in LATER_SHARES) == (shares is LATER_SHARES)]
            found.extend(_drawn(own, codes, first_dose_on, last_on, is_medicine=is_medicine))
    ends = stream(setting.options, index, "treatment ends")
    return tuple(_ended(ends, one, last_on) for one in found)


def _ended(rng: np.random.Generator, one: Treatment, last_on: date) -> Treatment:
    """Statements know their end; orders of this site never say it."""
    ends, days = rng.random() < SHARE_ENDED, int(rng.integers(14, 400))
    ended_on = one.on + timedelta(days=days)
    return (
        replace(one, ended_on=ended_on)
        if one.resource_type == "MedicationStatement" and ends and ended_on <= last_on
        else one
    )


def _drawn(
    rng: np.random.Generator, codes: Sequence[ListedCode], first_dose_on: date, last_on: date, *, is_medicine: bool
) -> Iterator[Treatment]:
    groups: dict[str, list[ListedCode]] = {}
    for code in (code for code in codes if code.system != WORDS):
        groups.setdefault(code.group, []).append(code)
    for group, members in sorted(groups.items()):
        has, later = rng.random() < (SHARES | LATER_SHARES).get(group, OTHER_SHARE), rng.random() < SHARE_STARTED_LATER
        code, kind = members[int(rng.integers(len(members)))], MEDICINE_TYPES[int(rng.random() < 0.4)]
        before, after = int(rng.integers(30, 900)), int(rng.integers(20, 120))
        on = first_dose_on + timedelta(days=after if later else -before)
        if has and on <= last_on:
            yield Treatment(kind if is_medicine else "Procedure", code, on)
