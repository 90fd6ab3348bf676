"""Disclose: what each edition may show. The internal edition shows everything, the release edition no small cell."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes.analysis.actions import actions
from crps_outcomes.analysis.coarse import coarsened, with_fewer_counts
from crps_outcomes.analysis.cohort import TREATED, Cohort
from crps_outcomes.analysis.flow import REASONS
from crps_outcomes.analysis.identities import FLOW_NAMES, NAMES, Shown, identities, settle, shown_counts
from crps_outcomes.disclosure import LEFT_OUT, PROTECTING, Layout, Releasable, protect
from crps_outcomes.errors import DefinitionError, DisclosureError
from crps_outcomes.tables import ESTIMATES, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from crps_outcomes.stages.analyse import Analysis
    from crps_outcomes.study import Study
    from crps_outcomes.tables import Tables

#: The mark "low" would say the count itself for 2, and one of two for 3.
LEAST_THRESHOLD = 4
LEAST_FOR_OUTER_QUANTILES = 50
INTERNAL_ONLY = frozenset({"safety/signal"})
#: Statistics without counts of their own that are hidden with the rows they compare.
FOLLOWING = frozenset({"participants/smd"})

_NUMBERS = ["n", "n_missing", "k", "estimate", "lower", "upper", "sd"]
_DECIMALS = {"%": 0, "mg/kg": 2, "mg/kg per session": 2, "": 2}
_REASON = ["rule", "reason", "stage"]


def disclose(
    analysis: Analysis, tables: Tables, study: Study, edition: str, code_of: Callable[[str], str] | None = None
) -> Releasable:
    """The edition asked for.

    Args:
        analysis: everything that was estimated.
        tables: the tables behind it; the release edition takes wider groups from them.
        study: its protocol has the threshold.
        edition: "internal" or "release".
        code_of: a person's code for the action list of an internal edition; without it there is no list.

    Raises:
        DefinitionError: another edition, or a threshold that protects nobody.
        DisclosureError: too few people for a release edition.
    """
    if edition not in EDITIONS:
        raise DefinitionError(f"edition: it should be one of {', '.join(EDITIONS)}")
    made = EDITIONS[edition](analysis, tables, study)
    if edition != "internal" or code_of is None:
        return made
    return replace(made, actions=_coded(actions(Cohort(tables, study, analysis.as_of)), code_of))


def _coded(listed: pd.DataFrame, code_of: Callable[[str], str]) -> pd.DataFrame:
    """The action list with codes in place of what the source calls people."""
    codes = [code_of(str(subject)) for subject in listed["subject_id"]]
    return listed.assign(code=codes).drop(columns="subject_id")


def internal(analysis: Analysis, tables: Tables, study: Study) -> Releasable:
    """Everything, with a note that it contains small cells."""
    return Releasable(
        edition="internal", threshold=study.protocol.disclosure.threshold,
        estimates=analysis.estimates, counts=analysis.counts, people=tables.outcomes, doses=tables.doses,
        rejections=_rejections(tables), sources=_sources(tables), changes=tables.changes,
        rules=("Internal edition: nothing is hidden, and it contains small cells. It must not leave the clinic.",),
    )  # fmt: skip


def release(analysis: Analysis, tables: Tables, study: Study) -> Releasable:
    """No row about a single person, no small count, and none that can be worked out."""
    threshold = study.protocol.disclosure.threshold
    cohort = Cohort(tables, study)
    _check_size(cohort, threshold)
    coarse, rejections = coarsened(_may_leave(analysis.estimates), cohort, threshold), _rejections(tables)
    estimates = with_fewer_counts(coarse)
    everything = layout_of(coarse, analysis.counts, rejections, study)
    page = protect(showing_only(everything, estimates))
    return Releasable(
        edition="release", threshold=threshold,
        estimates=_hidden_estimates(estimates, page.hidden, threshold),
        counts=_hidden_counts(analysis.counts, page.hidden),
        people=None, doses=None,
        rejections=_hidden_rejections(rejections, page.hidden),
        sources=_sources(tables).assign(n=lambda frame: pd.Series(pd.NA, index=frame.index, dtype="Int64")),
        changes=tables.changes.iloc[:0],
        rules=release_rules(threshold),
    )  # fmt: skip


EDITIONS: Mapping[str, Callable[[Analysis, Tables, Study], Releasable]] = {"internal": internal, "release": release}


def release_rules(threshold: int) -> tuple[str, ...]:
    """What was done to protect people, a sentence each."""
    return (
        f"Release edition: no count of 1 to {threshold - 1} people, sessions, events or records is shown; 0 is shown.",
        f"<{threshold} marks a row whose count is 1 to {threshold - 1}. [c] marks a row hidden because another count, "
        "for example the number missing, could be worked out from it. Where even a mark would say too much, the row is "
        "left out.",
        "An exact audit in whole numbers found no small count that can be worked out from what is shown.",
        "At a visit, people who are missing and people not due yet are not told apart.",
        f"Event terms with fewer than {threshold} people or events are shown as one group.",
        f"The cumulative curve has only the steps between which nobody or at least {threshold} people lie.",
        f"Medians and quantiles need {2 * threshold} people, the 10th and 90th percentile "
        f"{LEAST_FOR_OUTER_QUANTILES}; percentages are whole numbers.",
        "Harms by where they are recorded, and signals of suicidality and misuse, are in the internal edition only.",
        "Nothing about a single person is shown, and not how many resources of each type the source holds.",
        "Release editions are not yet checked against each other: compare two of them only after the difference has "
        "been checked by hand, and publish one per period.",
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


# --- what a reader would see --------------------------------------------------------------------------------------


def layout_of(estimates: pd.DataFrame, counts: pd.DataFrame, rejections: pd.DataFrame, study: Study) -> Layout:
    """Every count that would be shown and everything that adds up, nothing hidden yet."""
    shown = (*shown_counts(estimates, counts), *(_refusal(row) for row in rejections.to_dict("records")))
    steps = counts.sort_values("order")["step"]
    sums = identities({one.quantity for one in shown}, study, steps)
    truth = settle(shown, sums)
    known = tuple(one for one in sums if truth.keys() >= set(one.names))
    return Layout(shown, known, truth, study.protocol.disclosure.threshold)


def showing_only(layout: Layout, estimates: pd.DataFrame) -> Layout:
    """The layout without the counts that its rows no longer carry; they stay part of what must not be worked out."""
    counted = estimates.set_index("estimate_id")[["k", "n", "n_missing"]].notna().to_dict("index")
    carried = {(row, role) for row, roles in counted.items() for role, is_there in roles.items() if is_there}
    shown = (one for one in layout.shown if one.row not in counted or (one.row, one.role) in carried)
    return replace(layout, shown=tuple(shown))


def _refusal(row: Mapping[Any, Any]) -> Shown:
    tail = "/".join(row[name] for name in _REASON)
    return Shown(f"rejections/{tail}", "k", f"refusal/{tail}", int(row["n"]))


def _rejections(tables: Tables) -> pd.DataFrame:
    """Refused resources by rule, reason and stage."""
    counted = tables.rejections.groupby(_REASON, sort=True, as_index=False).agg(n=("resource_ref", "size"))
    return counted.assign(n=counted["n"].astype("Int64"), suppressed="")


def _sources(tables: Tables) -> pd.DataFrame:
    """Resources kept by type, and the holes of the pull; a type of which nothing was asked or kept has no row."""
    grouped = tables.ledger.groupby("resource_type", sort=True)
    holes = tables.ledger[tables.ledger["hole"] != ""].drop_duplicates(["resource_type", "hole"])
    texts = holes.groupby("resource_type")["hole"].agg("; ".join)
    counted = grouped["accepted"].sum().astype("Int64").rename("n").reset_index()
    counted["hole"] = counted["resource_type"].map(texts).fillna("").astype("str")
    return counted[(counted["n"] > 0) | (counted["hole"] != "")].reset_index(drop=True)


# --- hiding -------------------------------------------------------------------------------------------------------


def _hidden_estimates(estimates: pd.DataFrame, hidden: Mapping[str, str], threshold: int) -> pd.DataFrame:
    frame = _follow_balance(estimates, hidden)
    frame = frame[frame["suppressed"] != LEFT_OUT].reset_index(drop=True)
    is_hidden = frame["suppressed"] != ""
    frame[_NUMBERS] = frame[_NUMBERS].mask(is_hidden)
    frame["reason"] = frame["reason"].mask(is_hidden, "")
    return finish(ESTIMATES, _rounded(_without_small_quantiles(frame, threshold)))


def _follow_balance(estimates: pd.DataFrame, hidden: Mapping[str, str]) -> pd.DataFrame:
    """The marks; a standardised difference is hidden with either of the two rows it compares."""
    marks = estimates["estimate_id"].map(dict(hidden)).fillna("").astype("str")
    compared = estimates[(estimates["section"] == "participants") & (marks != "")]
    about = ["measure", "visit", "group"]
    gone = set(compared[about].itertuples(index=False, name=None))
    follows = [key in gone for key in estimates[about].itertuples(index=False, name=None)]
    marks = marks.mask((estimates["statistic"] == "smd") & pd.Series(follows, index=estimates.index), PROTECTING)
    return estimates.assign(suppressed=marks)


def _without_small_quantiles(frame: pd.DataFrame, threshold: int) -> pd.DataFrame:
    """Medians and quantiles stand for single people: they need more of them."""
    describing = frame["statistic"].isin(["median", "quantile", "median_change"])
    outer = (frame["statistic"] == "quantile") & frame["group"].isin(["10", "90"])
    needed = pd.Series(2 * threshold, index=frame.index).mask(outer, max(2 * threshold, LEAST_FOR_OUTER_QUANTILES))
    too_few = (describing & (frame["n"] < needed)).fillna(value=False)
    frame[["estimate", "lower", "upper"]] = frame[["estimate", "lower", "upper"]].mask(too_few)
    reasons = "fewer than " + needed.astype("str") + ": not shown"
    return frame.assign(reason=frame["reason"].mask(too_few, reasons))


def _rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Whole percentages; other numbers with the decimals of their unit."""
    decimals = frame["unit"].map(_DECIMALS).fillna(1)
    for places in (0, 1, 2):
        own = decimals == places
        columns = ["estimate", "lower", "upper", "sd"]
        frame.loc[own, columns] = frame.loc[own, columns].round(places)
    return frame


def _hidden_counts(counts: pd.DataFrame, hidden: Mapping[str, str]) -> pd.DataFrame:
    """COUNTS with hidden cells missing; the reason stays for a hidden number, whether anybody left or not.

    Why people listed are not enrolled has counts of its own in it: here it is said in general, whatever is hidden.
    """
    cells = {column: ("counts/" + counts["step"] + "/" + column).isin(list(hidden)) for column in FLOW_NAMES}
    is_general = cells["n_left"] | ((counts["step"] == "listed") & (counts["reason"] != ""))
    reason = counts["reason"].mask(is_general, counts["step"].map(REASONS).fillna(counts["reason"]))
    shown = {column: counts[column].mask(is_hidden) for column, is_hidden in cells.items()}
    return counts.assign(**shown, reason=reason)


def _hidden_rejections(rejections: pd.DataFrame, hidden: Mapping[str, str]) -> pd.DataFrame:
    rows = "rejections/" + rejections["rule"] + "/" + rejections["reason"] + "/" + rejections["stage"]
    marks = rows.map(dict(hidden)).fillna("").astype("str")
    marked = rejections.assign(n=rejections["n"].mask(marks != ""), suppressed=marks)
    return marked[marks != LEFT_OUT].reset_index(drop=True)
