"""Treatments beside ketamine: medicines and procedures that the study's codelists know."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from crps_outcomes.study import WORDS
from crps_outcomes.synthetic.options import stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from crps_outcomes.definitions import ListedCode
    from crps_outcomes.synthetic.people import Setting

#: Share of people with a treatment of each class; classes not named here get the last number.
SHARES: Mapping[str, float] = {
    "gabapentinoid": 0.55,
    "SNRI": 0.35,
    "NSAID": 0.40,
    "opioid": 0.25,
    "sympathetic block": 0.35,
    "spinal cord stimulation": 0.07,
    "dorsal root ganglion stimulation": 0.04,
}
OTHER_SHARE = 0.1
SHARE_STARTED_LATER = 0.06  # during follow-up instead of before: an intercurrent event
MEDICINE_TYPES = ("MedicationRequest", "MedicationStatement")


@dataclass(frozen=True)
class Treatment:
    """One medicine or procedure: the FHIR type that records it, its listed code, and its first day."""

    resource_type: str
    code: ListedCode
    on: date


def treatments_of(index: int, first_dose_on: date, last_on: date, setting: Setting) -> tuple[Treatment, ...]:
    """The treatments of one person, at most one of each class."""
    rng = stream(setting.options, index, "treatments")
    lists = setting.study.codelists
    medicines = list(_drawn(rng, lists.get("co_treatments", ()), first_dose_on, last_on, is_medicine=True))
    procedures = list(_drawn(rng, lists.get("procedures", ()), first_dose_on, last_on, is_medicine=False))
    return (*medicines, *procedures)


def _drawn(
    rng: np.random.Generator, codes: Sequence[ListedCode], first_dose_on: date, last_on: date, *, is_medicine: bool
) -> Iterator[Treatment]:
    groups: dict[str, list[ListedCode]] = {}
    for code in (code for code in codes if code.system != WORDS):
        groups.setdefault(code.group, []).append(code)
    for group, members in sorted(groups.items()):
        has, later = rng.random() < SHARES.get(group, OTHER_SHARE), rng.random() < SHARE_STARTED_LATER
        code, kind = members[int(rng.integers(len(members)))], MEDICINE_TYPES[int(rng.random() < 0.4)]
        before, after = int(rng.integers(30, 900)), int(rng.integers(20, 120))
        on = first_dose_on + timedelta(days=after if later else -before)
        if has and on <= last_on:
            yield Treatment(kind if is_medicine else "Procedure", code, on)
