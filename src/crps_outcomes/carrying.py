"""Carry over: what releases before allow to be shown anew, and the figures that stand as they were last released."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from crps_outcomes.analysis.coarse import frequent_terms, people_with_other_terms
from crps_outcomes.analysis.identities import FLOW_NAMES
from crps_outcomes.analysis.safety import adverse_events
from crps_outcomes.differencing import Register, Standing, between, guard
from crps_outcomes.disclosure import LEFT_OUT, LOW, PROTECTING
from crps_outcomes.errors import DisclosureError
from crps_outcomes.hiding import REFUSAL, cells_of, refusals, with_reasons
from crps_outcomes.tables import ESTIMATES, build

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.differencing import Guarded, Published, Seal
    from crps_outcomes.disclosure import Layout, Releasable
    from crps_outcomes.stages.analyse import Analysis


@dataclass(frozen=True)
class History:
    """What was released before, the key of its digests, and what this release is made of.

    ``as_of`` is the day it speaks of, "" for one that is not final; ``basis`` tells its data and study from others.
    ``is_standing``: the next declared day has not come, so every figure stands as it was last released.
    """

    register: Register
    seal: Seal
    as_of: str = ""
    basis: str = ""
    is_standing: bool = False


@dataclass(frozen=True)
class Rows:
    """The rows of one release. ``is_held``: some do not speak of today's data and study."""

    estimates: pd.DataFrame
    counts: pd.DataFrame
    rejections: pd.DataFrame
    is_held: bool = False


def guarded(layout: Layout, analysis: Analysis, cohort: Cohort, history: History) -> Guarded:
    """The page of what may be shown anew beside every release before."""
    records = cohort.tables.rejections
    refused = {
        "refusal/" + "/".join(map(str, about)): Counter(own.astype("str"))
        for about, own in records.groupby(REFUSAL)["resource_ref"]
    }
    members = analysis.members.with_counts(refused | people_with_other_terms(cohort, layout.threshold))
    kept = frequent_terms(adverse_events(cohort), layout.threshold)
    wide, contents = between(layout, members, kept, history.register)
    return guard(layout, wide, contents, history.register, history.seal)


# --- figures held: as they were last released -----------------------------------------------------------------------


def carried(rows: Rows, today: Rows, guarded: Guarded, history: History, threshold: int) -> Rows:
    """Today's rows, and as last released those of ``rows`` that may not be shown anew."""
    before = _as_marked(history.register.rows, threshold)
    return Rows(
        _carried_estimates(rows.estimates, today.estimates, before),
        _carried_counts(today.counts, guarded.page.hidden, before),
        _carried_rejections(rows.rejections, today.rejections, before),
        guarded.is_held,
    )


def _as_marked(before: Mapping[str, Published], threshold: int) -> Mapping[str, Published]:
    """The rows of releases before; a mark that meant another threshold only says that something is hidden."""
    return {
        name: own if own.get("suppressed") != LOW or own["below"] == threshold else {**own, "suppressed": PROTECTING}
        for name, own in before.items()
    }


def _carried_estimates(everything: pd.DataFrame, today: pd.DataFrame, before: Mapping[str, Published]) -> pd.DataFrame:
    """Today's rows, and as last released those that may not be shown anew; the mark of a small count is always today's."""
    may_stand = set(today.loc[today["suppressed"] != PROTECTING, "estimate_id"])
    held = [one for one in everything["estimate_id"] if one in before and one not in may_stand]
    if not held:
        return today
    kept = cast("list[dict[str, Any]]", today[~today["estimate_id"].isin(held)].to_dict("records"))
    return build(ESTIMATES, [*kept, *(before[one] for one in held)])


def _carried_counts(counts: pd.DataFrame, hidden: Mapping[str, str], before: Mapping[str, Published]) -> pd.DataFrame:
    """COUNTS with the cells that are left out of today as they were last released; the others as they are."""
    return with_reasons(counts.assign(**{
        column: counts[column].mask(cells.map(hidden) == LEFT_OUT, _earlier(cells, column, before))
        for column in FLOW_NAMES for cells in [cells_of(counts, column)]
    }))  # fmt: skip


def _earlier(cells: pd.Series, column: str, before: Mapping[str, Published]) -> pd.Series:
    return pd.Series([before.get(cell, {}).get(column) for cell in cells], cells.index, dtype="Int64")


def _carried_rejections(everything: pd.DataFrame, today: pd.DataFrame, before: Mapping[str, Published]) -> pd.DataFrame:
    may_stand = set(refusals(today[today["suppressed"] != PROTECTING]))
    held = [one for one in refusals(everything) if one in before and one not in may_stand]
    return _rejections_of(
        [*today[~refusals(today).isin(held)].to_dict("records"), *(before[one] for one in held)], today
    )


def _rejections_of(rows: list[Any], today: pd.DataFrame) -> pd.DataFrame:
    frame = pd.DataFrame.from_records(rows, columns=list(today.columns)).astype(dict(today.dtypes))
    return frame.sort_values(REFUSAL).reset_index(drop=True)


def last_released(counts: pd.DataFrame, rejections: pd.DataFrame, history: History, threshold: int) -> Rows:
    """What stands; of today's tables only the shape is asked.

    Raises:
        DisclosureError: nothing was released.
    """
    register, last = history.register, history.register.last
    if last is None:
        raise DisclosureError("nothing was released that could stand")
    rows = _as_marked({name: register.rows[name] for name in last.rows}, threshold)
    cells = [cell for column in FLOW_NAMES for cell in cells_of(counts, column)]
    return Rows(
        estimates=build(ESTIMATES, [row for row in rows.values() if "estimate_id" in row]),
        counts=_carried_counts(counts, dict.fromkeys(cells, LEFT_OUT), rows),
        rejections=_rejections_of([row for name, row in rows.items() if name.startswith("rejections/")], rejections.iloc[:0]),
        is_held=last.is_held or last.basis != history.basis,
    )  # fmt: skip


# --- what is remembered -------------------------------------------------------------------------------------------------


def remembered(shown: Releasable, guarded: Guarded, history: History | None) -> Register:
    """The register after a release: its people, its rows, and what stands now."""
    published = _published(shown)
    if history is None:
        return Register(guarded.versions, published)
    last = _standing(history, tuple(published), is_held=guarded.is_held)
    return Register(guarded.versions, {**history.register.rows, **published}, last)


def _standing(history: History, rows: tuple[str, ...], *, is_held: bool) -> Standing | None:
    """What stands after this release: itself, or the one before where this one is not final."""
    return Standing(history.as_of, history.basis, rows, is_held) if history.as_of else history.register.last


def _published(shown: Releasable) -> dict[str, Published]:
    """Every row of a release as it is published before any rounding, by its name; what a mark of a small count means too.

    Exact counts under the NHS rule too: what is compared is what could be known at worst, and they stay in the home folder.
    """
    cells = {
        f"counts/{one['step']}/{column}": {column: one[column]}
        for one in shown.counts.to_dict("records") for column in FLOW_NAMES
    }  # fmt: skip
    rows = {str(one["estimate_id"]): one for one in shown.estimates.to_dict("records")}
    refused = dict(
        zip(
            refusals(shown.rejections),
            shown.rejections.assign(k=shown.rejections["n"]).to_dict("records"),
            strict=True,
        )
    )
    return {
        name: {str(column): None if pd.isna(value) else value for column, value in one.items()}
        | ({"below": shown.threshold} if one.get("suppressed") == LOW else {})
        for name, one in (rows | cells | refused).items()
    }
