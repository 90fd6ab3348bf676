"""Hide, within one release: what its rows would show a reader, and the rows without what the audit says to hide."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from crps_outcomes.analysis.flow import REASONS
from crps_outcomes.analysis.identities import FLOW_NAMES, Shown, identities, settle, shown_counts
from crps_outcomes.disclosure import LEFT_OUT, PROTECTING, Layout
from crps_outcomes.tables import ESTIMATES, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crps_outcomes.study import Study

LEAST_FOR_OUTER_QUANTILES = 50
#: With fewer, n, mean, standard deviation and two threshold counts nearly fix every value.
LEAST_FOR_MOMENTS = 15
#: The columns that name a refusal.
REFUSAL = ["rule", "reason", "stage"]

_NUMBERS = ["n", "n_missing", "k", "estimate", "lower", "upper", "sd"]
_DECIMALS = {"%": 0, "mg/kg": 2, "mg/kg per session": 2, "": 2}
#: Texts that depend on the numbers of their row: which method was used, or that there was nothing to use one on, tells n.
_TOLD = ["unit", "method", "reason"]


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
    tail = "/".join(row[name] for name in REFUSAL)
    return Shown(f"rejections/{tail}", "k", f"refusal/{tail}", int(row["n"]))


# --- hiding -------------------------------------------------------------------------------------------------------


def hidden_estimates(estimates: pd.DataFrame, hidden: Mapping[str, str], threshold: int) -> pd.DataFrame:
    """ESTIMATES with the numbers of hidden rows missing, without the rows left out, and with coarse numbers."""
    frame = _follow_balance(estimates, hidden)
    frame = frame[frame["suppressed"] != LEFT_OUT].reset_index(drop=True)
    is_hidden = frame["suppressed"] != ""
    frame[_NUMBERS] = frame[_NUMBERS].mask(is_hidden)
    frame[_TOLD] = frame[_TOLD].mask(is_hidden, "")
    return finish(ESTIMATES, with_decimals(without_few_moments(without_small_quantiles(frame, threshold))))


def _follow_balance(estimates: pd.DataFrame, hidden: Mapping[str, str]) -> pd.DataFrame:
    """The marks; a standardised difference is hidden with either of the two rows it compares."""
    marks = estimates["estimate_id"].map(dict(hidden)).fillna("").astype("str")
    compared = estimates[(estimates["section"] == "participants") & (marks != "")]
    about = ["measure", "visit", "group"]
    gone = set(compared[about].itertuples(index=False, name=None))
    follows = [key in gone for key in estimates[about].itertuples(index=False, name=None)]
    marks = marks.mask((estimates["statistic"] == "smd") & pd.Series(follows, index=estimates.index), PROTECTING)
    return estimates.assign(suppressed=marks)


def without_small_quantiles(frame: pd.DataFrame, threshold: int, least: Callable[[int], int] = int) -> pd.DataFrame:
    """Medians and quantiles stand for single people: they need more of them. ``least``: the n that stands for so many."""
    few, many = least(2 * threshold), least(max(2 * threshold, LEAST_FOR_OUTER_QUANTILES))
    describing = frame["statistic"].isin(["median", "quantile", "median_change"])
    outer = (frame["statistic"] == "quantile") & frame["group"].isin(["10", "90"])
    needed = pd.Series(few, index=frame.index).mask(outer, many)
    too_few = (describing & (frame["n"] < needed)).fillna(value=False)
    frame[["estimate", "lower", "upper"]] = frame[["estimate", "lower", "upper"]].mask(too_few)
    reasons = "fewer than " + needed.astype("str") + ": not shown"
    return frame.assign(reason=frame["reason"].mask(too_few, reasons))


def without_few_moments(frame: pd.DataFrame, least: Callable[[int], int] = int) -> pd.DataFrame:
    """No mean and no spread of few people whose responses are counted too: together they nearly fix every value."""
    needed = least(LEAST_FOR_MOMENTS)
    by_measure = frame.loc[frame["section"].isin(["responders", "function"]) & frame["k"].notna(), "measure"]
    counted = frame["measure"].isin(by_measure) | (frame["section"] == "safety")
    moments = frame["statistic"].isin(["mean", "mean_change", "peak_rise"])
    too_few = (counted & moments & (frame["n"] < needed)).fillna(value=False)
    columns = ["estimate", "lower", "upper", "sd"]
    frame[columns] = frame[columns].mask(too_few)
    reason = f"fewer than {needed}: not shown beside counts of the same people"
    return frame.assign(reason=frame["reason"].mask(too_few, reason))


def with_decimals(frame: pd.DataFrame) -> pd.DataFrame:
    """Whole percentages; other numbers with the decimals of their unit."""
    decimals = frame["unit"].map(_DECIMALS).fillna(1)
    for places in (0, 1, 2):
        own = decimals == places
        columns = ["estimate", "lower", "upper", "sd"]
        frame.loc[own, columns] = frame.loc[own, columns].round(places)
    return frame


def hidden_counts(counts: pd.DataFrame, hidden: Mapping[str, str]) -> pd.DataFrame:
    """COUNTS with hidden cells missing; a reason stands wherever 0 does not."""
    cells = {column: counts[column].mask(cells_of(counts, column).isin(list(hidden))) for column in FLOW_NAMES}
    return with_reasons(counts.assign(**cells))


def cells_of(counts: pd.DataFrame, column: str) -> pd.Series:
    """The names of the cells of a column of COUNTS."""
    return "counts/" + counts["step"] + "/" + column


def with_reasons(counts: pd.DataFrame) -> pd.DataFrame:
    """COUNTS with a reason wherever 0 does not stand.

    Why people listed are not enrolled has counts of its own in it: here it is said in general, whatever is hidden.
    """
    nobody = (counts["n_left"] == 0).to_numpy(dtype=bool, na_value=False)
    reason = counts["step"].map(REASONS).fillna("").mask(nobody, "")
    return counts.assign(reason=reason.astype("str"))


def hidden_rejections(rejections: pd.DataFrame, hidden: Mapping[str, str]) -> pd.DataFrame:
    marks = refusals(rejections).map(dict(hidden)).fillna("").astype("str")
    marked = rejections.assign(n=rejections["n"].mask(marks != ""), suppressed=marks)
    return marked[marks != LEFT_OUT].reset_index(drop=True)


def refusals(rejections: pd.DataFrame) -> pd.Series:
    """The names of the rows of refused resources."""
    return "rejections/" + rejections["rule"] + "/" + rejections["reason"] + "/" + rejections["stage"]
