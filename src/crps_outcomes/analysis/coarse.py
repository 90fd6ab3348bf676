"""The release edition's coarser rows: what can be shown in wider groups is not hidden cell by cell.

Rare event terms become one group, the cumulative curve keeps only steps that enough people take, and rows do not
carry counts they can do without. A term is free text of a site, so a rare one could name a person by itself.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from crps_outcomes.analysis.responders import MISSING_IS_NON_RESPONDER
from crps_outcomes.analysis.rows import DESCRIPTION
from crps_outcomes.analysis.safety import adverse_events, event_rows
from crps_outcomes.tables import ESTIMATES, build

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.members import Vector

OTHER_TERMS = "all other terms"
_BY_TERM = ("per_100_sessions", "people")


def coarsened(estimates: pd.DataFrame, cohort: Cohort, threshold: int) -> pd.DataFrame:
    """ESTIMATES with the rows of the release edition, all their counts still there and nothing hidden yet."""
    return with_fewer_steps(with_fewer_terms(estimates, cohort, threshold), threshold)


# --- event terms --------------------------------------------------------------------------------------------------


def with_fewer_terms(estimates: pd.DataFrame, cohort: Cohort, threshold: int) -> pd.DataFrame:
    """Terms that fewer than ``threshold`` people or events have become one group, if that group is large enough."""
    events = adverse_events(cohort)
    kept = frequent_terms(events, threshold)
    terms = events["term"].where(events["term"].isin(kept), OTHER_TERMS)
    by_term = (estimates["section"] == "safety") & estimates["statistic"].isin(_BY_TERM)
    rows = list(event_rows(cohort, events.assign(term=terms)))
    if not kept:
        rows = [row for row in rows if row["group"] != OTHER_TERMS]  # one group of everything says nothing
    return build(ESTIMATES, [*cast("list[dict[str, Any]]", estimates[~by_term].to_dict("records")), *rows])


def people_with_other_terms(cohort: Cohort, threshold: int) -> dict[str, Vector]:
    """The people with an event among the terms that became one group; the events themselves are a difference."""
    events = adverse_events(cohort)
    kept = frequent_terms(events, threshold)
    people = events.loc[~events["term"].isin(kept), "subject_id"].unique() if kept else ()
    return {f"affected/{OTHER_TERMS}": Counter(map(str, people))}


def frequent_terms(events: pd.DataFrame, threshold: int) -> list[str]:
    """The terms that stay: each with enough people and events, and enough of both left among the others, or none."""
    sizes = events.groupby("term").agg(people=("subject_id", "nunique"), events=("subject_id", "size")).reset_index()
    sizes = sizes.sort_values(["people", "events", "term"], ascending=[False, False, True])
    kept = [str(one) for one in sizes.loc[sizes[["people", "events"]].min(axis=1) >= threshold, "term"]]
    while kept:
        others = events[~events["term"].isin(kept)]
        if others.empty or min(len(others), others["subject_id"].nunique()) >= threshold:
            return kept
        kept.pop()
    return kept


# --- the cumulative curve -----------------------------------------------------------------------------------------


def with_fewer_steps(estimates: pd.DataFrame, threshold: int) -> pd.DataFrame:
    """The cumulative curve at percents between which nobody or at least ``threshold`` people lie."""
    curve = estimates[(estimates["section"] == "responders") & (estimates["statistic"] == "improved_by")]
    own = curve[curve["population"] == MISSING_IS_NON_RESPONDER]
    better = {int(group): int(k) for group, k in zip(own["group"], own["k"], strict=True)}
    totals = [int(n) for n in curve.drop_duplicates("population")["n"]]
    kept = kept_steps(better, totals, threshold)
    dropped = curve.loc[~curve["group"].isin([str(percent) for percent in kept]), "estimate_id"]
    return estimates[~estimates["estimate_id"].isin(dropped)].reset_index(drop=True)


def kept_steps(better: dict[int, int], totals: Sequence[int], threshold: int) -> list[int]:
    """The percents that stay: 30 and 50 first, then the others as far as every difference is 0 or large enough.

    Args:
        better: people improved by at least so many percent.
        totals: the denominators; the people not improved count as a difference too.
        threshold: the smallest difference allowed, but for 0.
    """
    kept: list[int] = []
    for percent in sorted(better, key=lambda one: (one not in (30, 50), one)):
        counts = sorted(better[one] for one in (*kept, percent))
        steps = (*_steps([0, *counts]), *(total - counts[-1] for total in totals))
        if all(step == 0 or step >= threshold for step in steps):
            kept.append(percent)
    return sorted(kept)


def _steps(counts: Sequence[int]) -> Iterable[int]:
    return (more - fewer for fewer, more in pairwise(counts))


# --- counts that a row can do without -----------------------------------------------------------------------------


def with_fewer_counts(estimates: pd.DataFrame) -> pd.DataFrame:
    """No number missing where it is not the whole of what n lacks, and no count inside a reason.

    At a visit some people are missing and some not due yet, and where missing counts as not improved n has them in it:
    without the number missing, n can be shown in many cases in which both together would give a small count away.
    """
    spared = estimates["section"].isin(["pain", "function"]) | (estimates["population"] == MISSING_IS_NON_RESPONDER)
    reason = estimates["reason"].mask(estimates["reason"].str.startswith(DESCRIPTION), DESCRIPTION)
    return estimates.assign(n_missing=estimates["n_missing"].mask(spared), reason=reason)
