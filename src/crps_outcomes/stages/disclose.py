"""Disclose: what each edition may show. The internal edition shows everything, the release edition no small cell."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes.analysis.actions import actions
from crps_outcomes.analysis.coarse import coarsened, with_fewer_counts
from crps_outcomes.analysis.cohort import TREATED, Cohort
from crps_outcomes.analysis.identities import NAMES
from crps_outcomes.carrying import Rows, carried, guarded, last_released, remembered
from crps_outcomes.differencing import Guarded
from crps_outcomes.disclosure import Releasable, protect
from crps_outcomes.errors import DefinitionError, DisclosureError
from crps_outcomes.hiding import (
    LEAST_FOR_MOMENTS,
    LEAST_FOR_OUTER_QUANTILES,
    REFUSAL,
    hidden_counts,
    hidden_estimates,
    hidden_rejections,
    layout_of,
    showing_only,
)
from crps_outcomes.rounding import rounded, surely

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    from crps_outcomes.carrying import History
    from crps_outcomes.definitions import Disclosure
    from crps_outcomes.stages.analyse import Analysis
    from crps_outcomes.study import Study
    from crps_outcomes.tables import Tables

#: The mark "low" would say the count itself for 2, and one of two for 3.
LEAST_THRESHOLD = 4
HELD = "Some figures in this report were held: they stand as they were last released."
ROUNDED = (
    "NHS rule: after that every count is rounded to the nearest 5, 0 stays 0; percentages, rates and their intervals are "
    "worked out from the rounded counts, and so are intervals of means.",
    "Medians, quartiles and quantiles are whole numbers, of milligrams whole tens, medians of change whole or half numbers.",
)
INTERNAL_ONLY = frozenset({"safety/signal"})
#: Statistics without counts of their own that are hidden with the rows they compare.
FOLLOWING = frozenset({"participants/smd"})


def disclose(
    analysis: Analysis, tables: Tables, study: Study, edition: str, history: History | None = None
) -> Releasable:
    """The edition asked for.

    Args:
        analysis: everything that was estimated.
        tables: the tables behind it; the release edition takes wider groups from them.
        study: its protocol has the threshold.
        edition: "internal" or "release".
        history: the releases before; without it a release edition is safe by itself only, and must not leave.

    Raises:
        DefinitionError: another edition, or a threshold that protects nobody.
        DisclosureError: too few people for a release edition.
    """
    if edition not in EDITIONS:
        raise DefinitionError(f"edition: it should be one of {', '.join(EDITIONS)}")
    return EDITIONS[edition](analysis, tables, study, history)


def with_actions(
    found: Releasable, tables: Tables, study: Study, code_of: Callable[[str], str], as_of: date
) -> Releasable:
    """An internal edition with its action list, people by their code; any other edition as it is."""
    if found.edition != "internal":
        return found
    return replace(found, actions=_coded(actions(Cohort(tables, study, as_of)), code_of))


def _coded(listed: pd.DataFrame, code_of: Callable[[str], str]) -> pd.DataFrame:
    """The action list with codes in place of what the source calls people."""
    codes = [code_of(str(subject)) for subject in listed["subject_id"]]
    return listed.assign(code=codes).drop(columns="subject_id")


def internal(analysis: Analysis, tables: Tables, study: Study, _: History | None = None) -> Releasable:
    """Everything, with a note that it contains small cells."""
    return Releasable(
        edition="internal", rule=study.protocol.disclosure.rule, threshold=study.protocol.disclosure.threshold,
        estimates=analysis.estimates, counts=analysis.counts, people=tables.outcomes, doses=tables.doses,
        rejections=_rejections(tables), sources=_sources(tables), changes=tables.changes,
        rules=("Internal edition: nothing is hidden, and it contains small cells. It must not leave the clinic.",),
    )  # fmt: skip


def release(analysis: Analysis, tables: Tables, study: Study, history: History | None = None) -> Releasable:
    """No row about a single person, no small count, and none that can be worked out, by itself or from releases before."""
    own, threshold = study.protocol.disclosure, study.protocol.disclosure.threshold
    cohort, rejections = Cohort(tables, study), _rejections(tables)
    _check_size(cohort, threshold)
    if history and history.is_standing:
        return rounded(_releasable(tables, own, last_released(analysis.counts, rejections, history, threshold)))
    coarse = coarsened(_may_leave(analysis.estimates), cohort, threshold)
    rows = Rows(with_fewer_counts(coarse), analysis.counts, rejections)
    layout = showing_only(layout_of(coarse, analysis.counts, rejections, study), rows.estimates)
    safe = guarded(layout, analysis, cohort, history) if history else Guarded(protect(layout), {})
    today = _hidden(rows, safe.page.hidden, threshold)
    exact = _releasable(tables, own, carried(rows, today, safe, history, threshold) if history else today)
    return replace(rounded(exact), register=remembered(exact, safe, history))


def _hidden(rows: Rows, hidden: Mapping[str, str], threshold: int) -> Rows:
    """The rows without what is hidden."""
    return Rows(
        hidden_estimates(rows.estimates, hidden, threshold), hidden_counts(rows.counts, hidden), hidden_rejections(rows.rejections, hidden)
    )  # fmt: skip


def _releasable(tables: Tables, own: Disclosure, rows: Rows) -> Releasable:
    return Releasable(
        edition="release", rule=own.rule, threshold=own.threshold, estimates=rows.estimates, counts=rows.counts, rejections=rows.rejections,
        people=None, doses=None,
        sources=_sources(tables).assign(n=lambda frame: pd.Series(pd.NA, index=frame.index, dtype="Int64")),
        changes=tables.changes.iloc[:0],
        rules=release_rules(own, is_held=rows.is_held),
    )  # fmt: skip


EDITIONS: Mapping[str, Callable[[Analysis, Tables, Study, History | None], Releasable]] = {
    "internal": internal,
    "release": release,
}


def release_rules(own: Disclosure, *, is_held: bool = False) -> tuple[str, ...]:
    """What was done to protect people, a sentence each."""
    threshold, least = own.threshold, surely if own.rule == "NHS" else int
    return (
        f"Release edition: no count of 1 to {threshold - 1} people, sessions, events or records is shown; 0 is shown.",
        *(ROUNDED if own.rule == "NHS" else ()),
        f"<{threshold} marks a row whose count is 1 to {threshold - 1}. [c] marks a row hidden because another count, "
        "for example the number missing, could be worked out from it. Where even a mark would say too much, the row is "
        "left out.",
        "An exact audit in whole numbers found no small count that can be worked out from what is shown.",
        "At a visit, people who are missing and people not due yet are not told apart.",
        f"Event terms with fewer than {threshold} people or events are shown as one group.",
        f"The cumulative curve has only the steps between which nobody or at least {threshold} people lie.",
        f"Medians and quantiles need {least(2 * threshold)} people, the 10th and 90th percentile "
        f"{least(LEAST_FOR_OUTER_QUANTILES)}; percentages are whole numbers.",
        "Harms by where they are recorded, and signals of suicidality and misuse, are in the internal edition only.",
        "Nothing about a single person is shown, and not how many resources of each type the source holds.",
        f"Means of fewer than {least(LEAST_FOR_MOMENTS)} people are not shown where the same people are counted by their "
        "response.",
        f"A figure is renewed only when nobody or at least {threshold} people entered, left or changed since each earlier "
        "release, and the same holds for every figure that could be worked out from it; else it stands as last released.",
        *((HELD,) if is_held else ()),
    )


def _may_leave(estimates: pd.DataFrame) -> pd.DataFrame:
    """ESTIMATES without what never leaves the clinic.

    A statistic whose counts `identities` does not name cannot be audited, so it stays inside until somebody names them.
    Harms by source overlap with the terms, so differences would tell.
    """
    statistics = estimates["section"] + "/" + estimates["statistic"]
    may_leave = (NAMES.keys() | FOLLOWING) - INTERNAL_ONLY
    return estimates[statistics.isin(may_leave)].reset_index(drop=True)


def _check_size(cohort: Cohort, threshold: int) -> None:
    if threshold < LEAST_THRESHOLD:
        raise DefinitionError(
            f"mappings/protocol.toml: disclosure.threshold: the release edition needs at least {LEAST_THRESHOLD}"
        )
    if cohort.n(TREATED) < threshold:
        raise DisclosureError(
            f"the release edition needs at least {threshold} treated people and there are fewer; "
            "the internal edition can be made"
        )


def _rejections(tables: Tables) -> pd.DataFrame:
    """Refused resources by rule, reason and stage."""
    counted = tables.rejections.groupby(REFUSAL, sort=True, as_index=False).agg(n=("resource_ref", "size"))
    return counted.assign(n=counted["n"].astype("Int64"), suppressed="")


def _sources(tables: Tables) -> pd.DataFrame:
    """Resources kept by type, and the holes of the pull; a type of which nothing was asked or kept has no row."""
    grouped = tables.ledger.groupby("resource_type", sort=True)
    holes = tables.ledger[tables.ledger["hole"] != ""].drop_duplicates(["resource_type", "hole"])
    texts = holes.groupby("resource_type")["hole"].agg("; ".join)
    counted = grouped["accepted"].sum().astype("Int64").rename("n").reset_index()
    counted["hole"] = counted["resource_type"].map(texts).fillna("").astype("str")
    return counted[(counted["n"] > 0) | (counted["hole"] != "")].reset_index(drop=True)
