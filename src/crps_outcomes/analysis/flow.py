"""The cohort flow: who is in each box, and who left between it and the next one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crps_outcomes.analysis.cohort import ANALYSED, TREATED
from crps_outcomes.analysis.members import nobody_known
from crps_outcomes.errors import PipelineError
from crps_outcomes.tables import COUNTS, build

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.members import Vector

#: Why people leave after a box.
REASONS = {
    "listed": "membership not active, consent withdrawn or expired, or no patient record of their own",
    "enrolled": "no CRPS diagnosis on record",
    "diagnosis": "no intramuscular session",
    "treated": "no baseline pain score",
    "baseline": "no follow-up pain score",
    "analysed": "",
}

#: Step, stage and label of every box from the enrolled on.
BOXES = (
    ("enrolled", "Enrolled", "enrolled in the protocol"),
    ("diagnosis", "Diagnosis", "CRPS diagnosis on record"),
    ("treated", "Treated", "at least one intramuscular session"),
    ("baseline", "Baseline", "pain score before the first dose"),
    ("analysed", "Analysed", "at least one follow-up pain score"),
)


@dataclass(frozen=True)
class Box:
    """One box: how many people it holds and why some do not reach the next one."""

    step: str
    stage: str
    label: str
    n: int
    reason: str


def flow(cohort: Cohort, not_enrolled: Mapping[str, int] | None) -> pd.DataFrame:
    """COUNTS. Without ``not_enrolled`` the flow starts with the enrolled, because nobody said who was listed.

    Args:
        cohort: the analysis sets.
        not_enrolled: people on the source's list who are not enrolled, by reason.

    Raises:
        PipelineError: the boxes do not nest, which is a defect of an earlier stage.
    """
    boxes = [*_listed(cohort, not_enrolled), *_boxes(cohort)]
    following = [*(box.n for box in boxes[1:]), boxes[-1].n]
    for box, n_next in zip(boxes, following, strict=True):
        if n_next > box.n:
            raise PipelineError(f"flow: the box after {box.step} holds more people than {box.step}; it should nest")
    return build(COUNTS, (
        {
            "step": box.step, "order": order, "stage": box.stage, "label": box.label,
            "n_subjects": box.n, "n_left": box.n - n_next, "reason": box.reason if box.n > n_next else "",
        }
        for order, (box, n_next) in enumerate(zip(boxes, following, strict=True))
    ))  # fmt: skip


def flow_members(cohort: Cohort, not_enrolled: Mapping[str, int] | None) -> dict[str, Vector]:
    """The people in each box; of those who are not enrolled only the number is known."""
    enrolled, treated = cohort.populations["enrolled"], cohort.populations[TREATED]
    people = {
        "enrolled": enrolled["subject_id"],
        "diagnosis": enrolled.loc[enrolled["crps_type"] != "no diagnosis", "subject_id"],
        "treated": treated["subject_id"],
        "baseline": treated.loc[treated["has_baseline"].astype("bool"), "subject_id"],
        "analysed": cohort.people(ANALYSED),
    }
    boxes = {f"people/{step}": Counter(map(str, own)) for step, own in people.items()}
    if not_enrolled is not None:
        boxes["people/listed"] = boxes["people/enrolled"] + nobody_known("listed", sum(not_enrolled.values()))
    return boxes


def _listed(cohort: Cohort, not_enrolled: Mapping[str, int] | None) -> list[Box]:
    if not_enrolled is None:
        return []
    reasons = {reason: n for reason, n in not_enrolled.items() if n}
    said = ", ".join(reasons if len(reasons) == 1 else (f"{reason} {n}" for reason, n in reasons.items()))
    n = cohort.n("enrolled") + sum(reasons.values())
    return [Box("listed", "Listed", "on the source's list for the protocol", n, said)]


def _boxes(cohort: Cohort) -> list[Box]:
    enrolled = cohort.populations["enrolled"]
    treated = cohort.populations[TREATED]
    diagnosed = int((enrolled["crps_type"] != "no diagnosis").sum())
    with_baseline = int(treated["has_baseline"].sum())
    numbers = (len(enrolled), diagnosed, len(treated), with_baseline, cohort.n(ANALYSED))
    return [Box(step, stage, label, n, REASONS[step]) for (step, stage, label), n in zip(BOXES, numbers, strict=True)]
