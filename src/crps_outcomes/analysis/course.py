"""The change of the primary measure at every visit, estimated from all visits at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crps_outcomes import mixed
from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.rows import LEAST_FOR_INTERVAL, Key, row
from crps_outcomes.estimators import Interval, as_floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row
    from crps_outcomes.estimators import Values

#: Everybody who could have a change: it takes in those who were never heard of again.
STARTED = "treated with a baseline"

#: The covariance that so many people with a follow-up can carry, and at how many visits (domain notes, small samples).
ALL_VISITS, FEW_VISITS = 40, 3
UNSTRUCTURED_FROM = 100


@dataclass(frozen=True, eq=False)
class Course:
    """Scores of the primary measure: a line per treated person with a baseline, a column for baseline and each visit.

    ``scores`` is nan where there is none, ``is_due`` whether one should be there.
    """

    subject_id: NDArray[np.object_]
    visits: tuple[str, ...]
    scores: Values
    is_due: NDArray[np.bool_]

    @property
    def is_seen(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.scores)

    @property
    def n_followed(self) -> int:
        """People with a baseline and at least one later score."""
        return int(self.is_seen[:, 1:].any(axis=1).sum())

    def n_missing(self, visit: str) -> int:
        at = self.visits.index(visit)
        return int((self.is_due & ~self.is_seen)[:, at].sum())


def course_of(cohort: Cohort) -> Course:
    """The primary measure of everybody treated with a baseline, sorted by person."""
    measure, visits = cohort.protocol.outcomes.primary, ("baseline", *cohort.visits)
    everybody = pd.Index(sorted(cohort.people(TREATED)))
    values, due = [], []
    for visit in visits:
        seen = cohort.at(measure, visit, TREATED)
        value = pd.Series(seen.columns["value"], index=seen.subject_id).where(seen.is_observed)
        values.append(as_floats(value.reindex(everybody)))
        due.append(everybody.isin(seen.subject_id[seen.state != "not due"]))
    scores, is_due = np.column_stack(values), np.column_stack(due)
    started = ~np.isnan(scores[:, 0])
    return Course(everybody.to_numpy("object")[started], visits, scores[started], is_due[started])


def course(cohort: Cohort) -> list[Row]:
    """The mean change at every visit by the mixed model, or why there is none."""
    measure = cohort.study.measures[cohort.protocol.outcomes.primary]
    lines = course_of(cohort)
    found = _modelled(cohort, lines)
    return [
        row(
            Key("course", "model_change", STARTED, measure.id, visit), found[visit],
            unit=measure.unit_label, n_missing=lines.n_missing(visit),
        )
        for visit in cohort.visits
    ]  # fmt: skip


def _modelled(cohort: Cohort, lines: Course) -> dict[str, Interval]:
    """An estimate, or the reason why there is none, for every visit."""
    n_seen = lines.is_seen.sum(axis=0)
    absent = {visit: _why_not(cohort, lines, visit, int(n)) for visit, n in zip(lines.visits, n_seen, strict=True)}
    none = Interval(len(lines.scores), None, None, None, "mixed model by REML")
    found = {visit: replace(none, reason=why) for visit, why in absent.items()}
    kept = [at for at, n in enumerate(n_seen) if n >= LEAST_FOR_INTERVAL]
    if lines.n_followed >= LEAST_FOR_INTERVAL and len(kept) > 1:
        weeks = np.array([0, *(visit.day / 7 for visit in cohort.protocol.visits)])[kept]
        wanted = covariance_for(lines.n_followed, cohort.protocol.plan.repeated_measures.covariance)
        changes = mixed.changes(lines.scores[:, kept], weeks / weeks[-1], wanted)
        fitted = dict(zip([lines.visits[at] for at in kept[1:]], changes, strict=True))
        found |= {visit: one for visit, one in fitted.items() if not absent[visit]}
    return found


def covariance_for(n: int, planned: str) -> str:
    """The covariance of the plan as far as ``n`` people can carry it."""
    if n >= UNSTRUCTURED_FROM:
        return "unstructured" if planned == "by number of people" else planned
    return "random slope" if planned == "random slope" and n >= ALL_VISITS else "random intercept"


def _why_not(cohort: Cohort, lines: Course, visit: str, n_seen: int) -> str:
    if lines.n_followed < LEAST_FOR_INTERVAL:
        return f"fewer than {LEAST_FOR_INTERVAL} people with a follow-up: no repeated measures"
    if n_seen < LEAST_FOR_INTERVAL:
        return f"fewer than {LEAST_FOR_INTERVAL} people with a score: not in the model"
    if lines.n_followed < ALL_VISITS and visit not in _first_visits(cohort):
        return f"fewer than {ALL_VISITS} people: estimated at {FEW_VISITS} visits only"
    return ""


def _first_visits(cohort: Cohort) -> tuple[str, ...]:
    """The visits that come first where few can be had: the primary one, the later one, the last."""
    plan = cohort.protocol.outcomes
    last = max(cohort.protocol.visits, key=lambda visit: visit.day).id
    return plan.primary_visit, plan.later_visit, last
