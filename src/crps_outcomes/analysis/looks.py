"""The looks that the plan declares: what each shows, fixed from the day it was reached."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
from scipy import stats

from crps_outcomes import estimators
from crps_outcomes.analysis.estimand import changes, score_days
from crps_outcomes.analysis.rows import small_n
from crps_outcomes.estimators import as_values
from crps_outcomes.sequential import boundaries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.estimators import Interval, Values


@dataclass(frozen=True)
class Looked:
    """One look: its number of people, its critical value in standard errors, and its change, None until it is reached."""

    people: int
    bound: float
    change: Interval | None


def looks(cohort: Cohort) -> list[Looked]:
    """Every declared look, on the first people by the day of their primary score; people of one day by subject_id."""
    plan, sizes = cohort.protocol.outcomes, [look.people for look in cohort.protocol.plan.looks]
    bounds = boundaries([size / sizes[-1] for size in sizes])
    found = changes(cohort, plan.primary, plan.primary_visit)
    days = score_days(cohort, plan.primary, plan.primary_visit).reindex(found.index)
    order = pd.DataFrame({"day": days, "who": found.index}, index=found.index).sort_values(["day", "who"]).index
    return looked(as_values(found.loc[order]), dict(zip(sizes, bounds, strict=True)))


def looked(in_order: Values, bounds: Mapping[int, float]) -> list[Looked]:
    """The looks, by size with their bound, at the first of the changes ``in_order``: later ones alter none reached."""
    return [
        Looked(size, bound, _change(in_order[:size], bound) if len(in_order) >= size else None)
        for size, bound in bounds.items()
    ]


def _change(values: Values, bound: float) -> Interval:
    widened = small_n(estimators.mean_t(values, float(2 * stats.norm.sf(bound))))
    return replace(widened, method=f"mean, t interval widened for the look at the first {len(values)} people")
