"""Groups fixed in advance: the primary change in each, with its own interval and no comparison. Exploratory."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes.analysis.cohort import ANALYSED
from crps_outcomes.analysis.estimand import changes
from crps_outcomes.analysis.rows import Key, row, small_n
from crps_outcomes.estimators import Interval, as_values, mean_t

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row

METHOD = "mean, t interval; exploratory"
NOT_KNOWN = "not known"
#: Where the group of a person stands; numbers are cut as the plan says.
TEXTS = {"sex": "subjects", "crps_type": "subjects", "limb": "context", "refractory": "context"}


def subgroups(cohort: Cohort, section: str) -> Iterator[Row]:
    """The primary change in each group; a row without an estimate where the group, or the cohort, is too small."""
    plan, rules = cohort.protocol.outcomes, cohort.protocol.plan.subgroups
    found = changes(cohort, plan.primary, plan.primary_visit)
    key = Key(section, "subgroup", ANALYSED, plan.primary, plan.primary_visit)
    for by in rules.by:
        if cohort.n(ANALYSED) >= rules.least_cohort:
            yield from _groups(cohort, key, by, found)
        else:
            reason = f"fewer than {rules.least_cohort} people analysed: too few for groups"
            yield _row(cohort, key.of(by), found, cohort.people(ANALYSED), reason)


def _groups(cohort: Cohort, key: Key, by: str, found: pd.Series) -> Iterator[Row]:
    least, groups = cohort.protocol.plan.subgroups.least_people, grouped(cohort, by)
    for name in _in_order(groups, cohort, by):
        members = groups.index[groups == name]
        own = found[found.index.isin(members)]
        reason = f"fewer than {least} people" if len(own) < least else ""
        yield _row(cohort, key.of(f"{by}: {name}"), own, members, reason)


def _row(cohort: Cohort, key: Key, own: pd.Series, members: Iterable[str], reason: str) -> Row:
    """The mean of the changes of a group, or the reason why it is not worked out; the due without one are missing."""
    n_missing = len(cohort.at(key.measure, key.visit, ANALYSED).due & set(members)) - len(own)
    none = Interval(len(own), None, None, None, METHOD, reason=reason)
    found = none if reason else replace(small_n(mean_t(as_values(own))), method=METHOD)
    return row(key, found, unit=cohort.study.measures[key.measure].unit_label, n_missing=n_missing)


def grouped(cohort: Cohort, by: str) -> pd.Series:
    """The group of every analysed person, by subject_id: each is in exactly one."""
    frame = cohort.populations[ANALYSED] if TEXTS.get(by, by) in ("subjects", "age") else cohort.tables.context
    known = frame.set_index("subject_id").reindex(cohort.people(ANALYSED))
    if by in TEXTS:
        return known[by].mask(known[by].isna(), NOT_KNOWN)
    column, cuts = _cuts(cohort, by)
    return known[column].map(lambda years: NOT_KNOWN if pd.isna(years) else _band(years, cuts))


def _cuts(cohort: Cohort, by: str) -> tuple[str, tuple[float, ...]]:
    rules = cohort.protocol.plan.subgroups
    return {"age": ("age_years", rules.age_cuts), "years_since_onset": ("years_since_onset", rules.years_cuts)}[by]


def _names(cuts: Sequence[float]) -> list[str]:
    """Such as "under 1 year", "1 to under 5 years", "5 years or more"."""
    if not cuts:
        return ["any"]
    middle = [f"{low:g} to under {high:g} years" for low, high in pairwise(cuts)]
    return [f"under {_years(cuts[0])}", *middle, f"{_years(cuts[-1])} or more"]


def _years(cut: float) -> str:
    return "1 year" if cut == 1 else f"{cut:g} years"


def _band(years: float, cuts: Sequence[float]) -> str:
    return _names(cuts)[bisect_right(cuts, years)]


def _in_order(groups: pd.Series, cohort: Cohort, by: str) -> list[str]:
    """The groups anybody is in, bands from low to high, texts by name, "not known" last."""
    bands = [] if by in TEXTS else _names(_cuts(cohort, by)[1])
    order = [*bands, *sorted(set(groups) - set(bands) - {NOT_KNOWN}), NOT_KNOWN]
    return [name for name in order if (groups == name).any()]
