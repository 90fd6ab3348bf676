"""Round: the counts of a release under the NHS rule, after everything is hidden that has to be.

Shares, rates and their intervals are worked out anew from the rounded counts, and what would tell more about a count than
its rounded value does goes. What is printed is made of the exact release and of nothing else, so a reader of it knows no more
than a reader of the exact one: what hiding and the comparison of releases prove for that one holds for this one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from crps_outcomes import estimators
from crps_outcomes.analysis.cohort import ANALYSED, NOT_ANALYSED
from crps_outcomes.analysis.identities import FLOW_NAMES
from crps_outcomes.definitions import ROUNDED_TO
from crps_outcomes.disclosure import PROTECTING
from crps_outcomes.hiding import with_decimals, without_few_moments, without_small_quantiles
from crps_outcomes.tables import ESTIMATES, build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pandas as pd

    from crps_outcomes.disclosure import Releasable
    from crps_outcomes.estimators import Interval

    Row = dict[str, Any]

NOT_FROM_ROUNDED = "not shown beside rounded counts"

_COUNTS = ["n", "n_missing", "k"]
_LIMITS = ["estimate", "lower", "upper"]
#: Interpolated values tell the remainder of n by 2 or 4 where the values lie on a grid, so they are put on one as coarse.
_GRIDS = {"mg": 10.0, "mg/kg": 0.1, "mg/kg per session": 0.1}
_GRID_OF_CHANGES = 0.5  # means of two whole scores, whatever n is


def rounded(found: Releasable) -> Releasable:
    """A release under the NHS rule with its counts rounded to the nearest 5; any other edition as it is."""
    if not found.is_rounded:
        return found
    estimates = found.estimates.assign(**{one: _nearest(found.estimates[one]) for one in _COUNTS})
    return replace(
        found,
        estimates=_with_few_hidden(build(ESTIMATES, _balanced(_anew(row) for row in _records(estimates))), found.threshold),
        counts=found.counts.assign(**{one: _nearest(found.counts[one]) for one in FLOW_NAMES}),
        rejections=found.rejections.assign(n=_nearest(found.rejections["n"])),
    )  # fmt: skip


def nearest(n: int) -> int:
    """The count rounded to the nearest 5; no whole number lies half way."""
    return ROUNDED_TO * round(n / ROUNDED_TO)


def surely(n: int) -> int:
    """The smallest rounded count that no number below ``n`` is rounded to."""
    return ROUNDED_TO * -(-(n + ROUNDED_TO // 2) // ROUNDED_TO)


def _nearest(counts: pd.Series) -> pd.Series:
    return counts.astype("Int64").map(nearest, na_action="ignore").astype("Int64")


def _records(frame: pd.DataFrame) -> list[Row]:
    return cast("list[Row]", frame.astype(object).where(frame.notna(), None).to_dict("records"))


# --- numbers that follow from counts ------------------------------------------------------------------------------------


def _anew(row: Row) -> Row:
    """The row with everything that tells its counts worked out from the rounded ones, by the method it names.

    A method that is not known here could tell more than it should, so its numbers go.
    """
    if row["suppressed"] or not row["n"]:
        return row
    return row | METHODS.get(row["method"].partition(";")[0], _without_numbers)(row)


def _share(estimator: Callable[[int, int], Interval]) -> Callable[[Row], Row]:
    def anew(row: Row) -> Row:
        found = estimator(row["k"], row["n"])
        return {one: getattr(found, one) for one in (*_LIMITS, "reason")}

    return anew


def _mean(row: Row) -> Row:
    """The mean and its spread stay; the interval is the one that they have with the rounded n."""
    if row["estimate"] is None or not row["sd"]:
        return {}
    lower, upper = estimators.t_limits(row["estimate"], row["sd"], row["n"])
    return {"lower": lower, "upper": upper, "reason": ""}


def _on_grid(grid: float | None = None) -> Callable[[Row], Row]:
    def anew(row: Row) -> Row:
        step = grid or _GRIDS.get(row["unit"], 1.0)
        return {one: None if row[one] is None else round(row[one] / step) * step for one in _LIMITS}

    return anew


def _without_numbers(row: Row) -> Row:
    has_any = any(row[one] is not None for one in (*_LIMITS, "sd"))
    return dict.fromkeys([*_LIMITS, "sd"]) | ({"reason": NOT_FROM_ROUNDED} if has_any else {})


#: By method, up to a semicolon behind which the row says what is counted: the columns it gives anew.
METHODS: Mapping[str, Callable[[Row], Row]] = {
    "Wilson interval": _share(estimators.wilson),
    "Clopper-Pearson exact interval": _share(estimators.clopper_pearson),
    "share of people, one-sided exact 95 % upper limit, supposing that nothing went unrecorded": _share(
        estimators.one_sided_upper
    ),
    "rate per 100": _share(estimators.poisson_rate_exact),
    "rate per 100, exact Poisson interval": _share(estimators.poisson_rate_exact),
    "share": lambda row: {"estimate": 100 * row["k"] / row["n"]},
    "count": lambda row: {"estimate": float(row["k"])},
    "mean, t interval": _mean,
    # with its spread the interval would tell n where each person has one session
    "mean over sessions, t interval that allows for several sessions of one person": lambda _: {"sd": None},
    "median change, Hodges-Lehmann interval, zero changes kept": _on_grid(_GRID_OF_CHANGES),
    "median (quartiles)": _on_grid(),
    "quantile (linear interpolation)": _on_grid(),
    estimators.BALANCE: lambda _: {},  # of shares: `_balanced`; of values it does not depend on n
}


def _balanced(rows: Iterable[Row]) -> list[Row]:
    """The rows with each standardised difference of two shares worked out from what is shown of them."""
    found = [*rows]
    shares = {
        (one["population"], one["group"]): one for one in found if one["statistic"] == "share" and one["k"] is not None
    }
    return [one | _balance(one, shares) if one["statistic"] == "smd" and one["group"] else one for one in found]


def _balance(row: Row, shares: Mapping[tuple[str, str], Row]) -> Row:
    pair = [shares.get((population, row["group"])) for population in (ANALYSED, NOT_ANALYSED)]
    if row["suppressed"] or None in pair:
        return dict.fromkeys([*_COUNTS, *_LIMITS]) | {"suppressed": PROTECTING, "method": "", "reason": ""}
    found = estimators.standardised_difference_binary(*(one[role] for one in pair if one for role in ("k", "n")))
    return {one: getattr(found, one) for one in (*_LIMITS, "reason")}


def _with_few_hidden(frame: pd.DataFrame, threshold: int) -> pd.DataFrame:
    """What needs enough people, asked of the rounded n; a method says nothing where there is no number."""
    frame = without_few_moments(without_small_quantiles(frame, threshold, surely), surely)
    is_bare = frame["estimate"].isna() & frame["k"].isna()
    return with_decimals(frame.assign(method=frame["method"].mask(is_bare, "")))
