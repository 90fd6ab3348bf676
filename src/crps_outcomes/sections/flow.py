"""Who is in the report: the cohort flow."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from crps_outcomes.definitions import ROUNDED_TO
from crps_outcomes.drawings import flow_boxes, flow_height
from crps_outcomes.numbers import count, people
from crps_outcomes.report_model import Flow, Section
from crps_outcomes.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crps_outcomes.facts import Facts, Step


def flow(facts: Facts) -> Section:
    """From everybody the enrolment rule names to the people in the outcome analysis."""
    boxes = flow_boxes(checked(facts.steps, ROUNDED_TO if facts.releasable.is_rounded else 0))
    drawing = Flow(
        title="From enrolment to the outcome analysis.",
        encoding="Each box counts people, not doses. Arrows to the right: who left, and why.",
        boxes=boxes,
        height=flow_height(boxes),
        alt=_alt(facts),
    )
    return Section(
        id="flow",
        short="Who is in the report",
        finding=_finding(facts),
        lede=(
            "Everyone treated stays in the dosing and safety tables. The outcome analysis needs a "
            f"{facts.primary.short.lower()} score before the first dose and at least one after it."
        ),
        figures={"flow": drawing},
    )


def checked(steps: Sequence[Step], slack: int = 0) -> Sequence[Step]:
    """The steps, after asserting that every box equals the box above minus those who left it.

    Three counts rounded to the nearest 5 can be off by 6 together, so by 5: that much is the ``slack`` to allow then.
    """
    for one, two in pairwise(steps):
        if one.n is not None and one.n_left is not None and two.n is not None:
            off = abs(one.n - one.n_left - two.n)
            assert off <= slack, f"cohort flow: {one.step} minus those who left is not {two.step}"
    return steps


def _finding(facts: Facts) -> str:
    treated, analysed = facts.n_at("treated"), facts.n_at("analysed")
    if treated == 0:
        return "Nobody in this report had a completed intramuscular session of ketamine"
    if treated is None or analysed is None:
        return "How many people are in the outcome analysis is hidden to protect privacy"
    if treated == analysed:
        verb = "person is" if treated == 1 else "people are"
        return f"All {count(treated)} treated {verb} in the outcome analysis"
    return f"{count(analysed)} of {count(treated)} treated people are in the outcome analysis"


def _alt(facts: Facts) -> str:
    boxes = ", ".join(f"{step.label}: {counted(step.n)}" for step in facts.steps)
    ends = [step.n for step in facts.steps if step.n is not None]
    lost = f" {people(ends[0] - ends[-1])} left on the way." if len(ends) == len(facts.steps) > 1 else ""
    return f"Flow chart of people. {boxes}.{lost} Reasons stand beside the arrows."
