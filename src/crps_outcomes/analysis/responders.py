"""For how many people pain fell by enough, with both denominators side by side.

"observed" counts the people whose response can be told at the visit. "missing = non-responder" counts every treated
person with a baseline whose visit is due: who has no value, or a baseline of 0, counts as not improved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.members import behind
from crps_outcomes.analysis.rows import SHARES, Key
from crps_outcomes.estimators import is_responder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row
    from crps_outcomes.definitions import Measure

OBSERVED = "observed"
MISSING_IS_NON_RESPONDER = "missing = non-responder"

#: Percent of improvement at which the cumulative curve is read; worsening stands left of 0.
CURVE = tuple(range(-20, 101, 5))


def responders(cohort: Cohort) -> list[Row]:
    """Responders at every visit, and the cumulative curve at the primary visit."""
    measure = cohort.study.measures[cohort.protocol.outcomes.primary]
    plan = cohort.protocol.outcomes
    if measure.range[0] != 0:
        return []  # a percentage means something only on a scale that starts at 0
    rows = [
        one for visit in cohort.visits for one in _shares(cohort, measure, "responder", visit, plan.responder_percents)
    ]
    return [*rows, *_shares(cohort, measure, "improved_by", plan.primary_visit, CURVE)]


def with_baseline(cohort: Cohort, measure: Measure, visit: str) -> pd.DataFrame:
    """Baseline and value of the treated people with a baseline whose visit is due."""
    seen = cohort.at(measure.id, visit, TREATED)
    return seen.people((seen.state != "not due") & ~np.isnan(seen.columns["baseline"]))


def _shares(cohort: Cohort, measure: Measure, statistic: str, visit: str, percents: tuple[int, ...]) -> Iterator[Row]:
    due, share = with_baseline(cohort, measure, visit), SHARES[cohort.protocol.plan.responder_interval]
    for percent in percents:
        response = is_responder(due["baseline"], due["value"], percent, measure.direction)
        k, n_observed = int(response.sum()), int(response.notna().sum())
        missing = len(due) - n_observed
        people = {OBSERVED: due.index[response.notna()], MISSING_IS_NON_RESPONDER: due.index}
        for population, n in ((OBSERVED, n_observed), (MISSING_IS_NON_RESPONDER, len(due))):
            key = Key("responders", statistic, population, measure.id, visit, str(percent))
            found = share(key, k, n, n_missing=missing)
            better = due.index[response.to_numpy(dtype=bool, na_value=False)]
            yield behind(found, k=better, n=people[population], n_missing=due.index[response.isna()])
