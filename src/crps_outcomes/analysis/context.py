"""How the total dose of a series here stands to that of published infusion courses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.rows import DESCRIPTION, Key, median_row, row
from crps_outcomes.estimators import Interval, as_values, median_quartiles

if TYPE_CHECKING:
    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row

SERIES_MG = "series_mg"


def context(cohort: Cohort) -> list[Row]:
    """The median total of a series in mg, and how many times it each published total is; quartiles as lower and upper."""
    totals = cohort.sessions.groupby(["subject_id", "series"], sort=True)["dose_mg"].sum(skipna=False)
    missing = int(totals.isna().sum())
    key = Key("context", "median", TREATED, measure=SERIES_MG)
    typical = median_row(key, as_values(totals), unit="mg", n_missing=missing, what="series")
    here = median_quartiles(as_values(totals))
    known = replace(
        here, estimate=typical["estimate"], lower=typical["lower"], upper=typical["upper"], reason=typical["reason"]
    )
    times = (
        row(
            replace(key, statistic="ratio", group=dose.id), ratio(dose.total_mg, known), unit="times", n_missing=missing
        )
        for dose in cohort.study.evidence.doses
    )
    return [typical, *times]


def ratio(total_mg: float, here: Interval) -> Interval:
    """A published total over the median of a series, and over its quartiles. A description: nothing is tested."""
    method = "published total / median (/ upper, / lower quartile) of a series"
    if here.estimate is None or not here.lower:
        reason = here.reason or "a quartile of 0 mg: no ratio"
        return Interval(here.n, None, None, None, method, reason=reason)
    return Interval(
        here.n,
        total_mg / here.estimate,
        total_mg / (here.upper or here.estimate),
        total_mg / here.lower,
        method,
        reason=DESCRIPTION,
    )
