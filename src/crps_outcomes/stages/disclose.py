"""Disclose: what each edition may show. The internal edition shows everything, the release edition no small cell."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from crps_outcomes.analysis.actions import actions
from crps_outcomes.analysis.coarse import coarsened, frequent_terms, people_with_other_terms, with_fewer_counts
from crps_outcomes.analysis.cohort import TREATED, Cohort
from crps_outcomes.analysis.flow import REASONS
from crps_outcomes.analysis.identities import FLOW_NAMES, NAMES, Shown, identities, settle, shown_counts
from crps_outcomes.analysis.safety import adverse_events
from crps_outcomes.differencing import Guarded, Register, Standing, between, guard
from crps_outcomes.disclosure import LEFT_OUT, PROTECTING, Layout, Releasable, protect
from crps_outcomes.errors import DefinitionError, DisclosureError
from crps_outcomes.tables import ESTIMATES, build, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    from crps_outcomes.differencing import Published, Seal
    from crps_outcomes.stages.analyse import Analysis
    from crps_outcomes.study import Study
    from crps_outcomes.tables import Tables

#: The mark "low" would say the count itself for 2, and one of two for 3.
LEAST_THRESHOLD = 4
LEAST_FOR_OUTER_QUANTILES = 50
#: With fewer, n, mean, standard deviation and two threshold counts nearly fix every value.
LEAST_FOR_MOMENTS = 15
HELD = "Some figures in this report were held: they stand as they were last released."
INTERNAL_ONLY = frozenset({"safety/signal"})
#: Statistics without counts of their own that are hidden with the rows they compare.
FOLLOWING = frozenset({"participants/smd"})

_NUMBERS = ["n", "n_missing", "k", "estimate", "lower", "upper", "sd"]
_DECIMALS = {"%": 0, "mg/kg": 2, "mg/kg per session": 2, "": 2}
#: Texts that depend on the numbers of their row: which method was used, or that there was nothing to use one on, tells n.
_TOLD = ["unit", "method", "reason"]
_REASON = ["rule", "reason", "stage"]


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
        edition="internal", threshold=study.protocol.disclosure.threshold,
        estimates=analysis.estimates, counts=analysis.counts, people=tables.outcomes, doses=tables.doses,
        rejections=_rejections(tables), sources=_sources(tables), changes=tables.changes,
        rules=("Internal edition: nothing is hidden, and it contains small cells. It must not leave the clinic.",),
    )  # fmt: skip


def release(analysis: Analysis, tables: Tables, study: Study, history: History | None = None) -> Releasable:
    """No row about a single person, no small count, and none that can be worked out, by itself or from releases before."""
    threshold = study.protocol.disclosure.threshold
    cohort = Cohort(tables, study)
    _check_size(cohort, threshold)
    if history and history.is_standing:
        return _as_last_released(analysis, tables, threshold, history)
    coarse, rejections = coarsened(_may_leave(analysis.estimates), cohort, threshold), _rejections(tables)
    estimates = with_fewer_counts(coarse)
    layout = showing_only(layout_of(coarse, analysis.counts, rejections, study), estimates)
    guarded = _guarded(layout, analysis, cohort, history) if history else Guarded(protect(layout), {})
    hidden, before = guarded.page.hidden, history.register.rows if history else {}
    shown = _releasable(
        tables, threshold, is_held=guarded.is_held,
        estimates=_carried_estimates(estimates, _hidden_estimates(estimates, hidden, threshold), before),
        counts=_hidden_counts(analysis.counts, hidden, before),
        rejections=_carried_rejections(rejections, _hidden_rejections(rejections, hidden), before),
    )  # fmt: skip
    published = _published(shown)
    last = _standing(history, tuple(published), is_held=guarded.is_held) if history else None
    return replace(shown, register=Register(guarded.versions, {**before, **published}, last))


def _standing(history: History, rows: tuple[str, ...], *, is_held: bool) -> Standing | None:
    """What stands after this release: itself, or the one before where this one is not final."""
    return Standing(history.as_of, history.basis, rows, is_held) if history.as_of else history.register.last


def _releasable(  # noqa: PLR0913 - a release has so many parts
    tables: Tables, threshold: int, *, is_held: bool, estimates: pd.DataFrame, counts: pd.DataFrame, rejections: pd.DataFrame
) -> Releasable:
    return Releasable(
        edition="release", threshold=threshold, estimates=estimates, counts=counts, rejections=rejections,
        people=None, doses=None,
        sources=_sources(tables).assign(n=lambda frame: pd.Series(pd.NA, index=frame.index, dtype="Int64")),
        changes=tables.changes.iloc[:0],
        rules=release_rules(threshold, is_held=is_held),
    )  # fmt: skip


def _as_last_released(analysis: Analysis, tables: Tables, threshold: int, history: History) -> Releasable:
    """The rows of the release that stands, and no other; which rows there would be today is not asked."""
    register, last = history.register, history.register.last
    if last is None:
        raise DisclosureError("nothing was released that could stand")
    rows = {name: register.rows[name] for name in last.rows}
    cells = [f"counts/{step}/{column}" for step in analysis.counts["step"] for column in FLOW_NAMES]
    nothing = _rejections(tables).iloc[:0]
    return _releasable(
        tables, threshold, is_held=last.is_held or last.basis != history.basis,
        estimates=build(ESTIMATES, [row for row in rows.values() if "estimate_id" in row]),
        counts=_hidden_counts(analysis.counts, dict.fromkeys(cells, LEFT_OUT), rows),
        rejections=_rejections_of([row for name, row in rows.items() if name.startswith("rejections/")], nothing),
    )  # fmt: skip


EDITIONS: Mapping[str, Callable[[Analysis, Tables, Study, History | None], Releasable]] = {
    "internal": internal,
    "release": release,
}


def release_rules(threshold: int, *, is_held: bool = False) -> tuple[str, ...]:
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
        f"Means of fewer than {LEAST_FOR_MOMENTS} people are not shown where the same people are counted by their response.",
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


# --- releases before ------------------------------------------------------------------------------------------------


def _guarded(layout: Layout, analysis: Analysis, cohort: Cohort, history: History) -> Guarded:
    records = cohort.tables.rejections
    refused = {
        "refusal/" + "/".join(map(str, about)): Counter(own.astype("str"))
        for about, own in records.groupby(_REASON)["resource_ref"]
    }
    members = analysis.members.with_counts(refused | people_with_other_terms(cohort, layout.threshold))
    kept = frequent_terms(adverse_events(cohort), layout.threshold)
    wide, contents = between(layout, members, kept, history.register)
    return guard(layout, wide, contents, history.register, history.seal)


def _carried_estimates(everything: pd.DataFrame, today: pd.DataFrame, before: Mapping[str, Published]) -> pd.DataFrame:
    """Today's rows, and as last released those that may not be shown anew; the mark of a small count is always today's."""
    may_stand = set(today.loc[today["suppressed"] != PROTECTING, "estimate_id"])
    held = [one for one in everything["estimate_id"] if one in before and one not in may_stand]
    if not held:
        return today
    kept = cast("list[dict[str, Any]]", today[~today["estimate_id"].isin(held)].to_dict("records"))
    return build(ESTIMATES, [*kept, *(before[one] for one in held)])


def _carried_rejections(everything: pd.DataFrame, today: pd.DataFrame, before: Mapping[str, Published]) -> pd.DataFrame:
    may_stand = set(_refusals(today[today["suppressed"] != PROTECTING]))
    held = [one for one in _refusals(everything) if one in before and one not in may_stand]
    return _rejections_of([*today[~_refusals(today).isin(held)].to_dict("records"), *(before[one] for one in held)], today)


def _rejections_of(rows: list[Any], today: pd.DataFrame) -> pd.DataFrame:
    frame = pd.DataFrame.from_records(rows, columns=list(today.columns)).astype(dict(today.dtypes))
    return frame.sort_values(_REASON).reset_index(drop=True)


def _refusals(rejections: pd.DataFrame) -> pd.Series:
    return "rejections/" + rejections["rule"] + "/" + rejections["reason"] + "/" + rejections["stage"]


def _published(shown: Releasable) -> dict[str, Published]:
    """Every row of a release as it is published, by its name; nothing but what is published."""
    cells = {
        f"counts/{one['step']}/{column}": {column: one[column]}
        for one in shown.counts.to_dict("records") for column in FLOW_NAMES
    }  # fmt: skip
    rows = {str(one["estimate_id"]): one for one in shown.estimates.to_dict("records")}
    refused = dict(
        zip(
            _refusals(shown.rejections),
            shown.rejections.assign(k=shown.rejections["n"]).to_dict("records"),
            strict=True,
        )
    )
    return {
        name: {str(column): None if pd.isna(value) else value for column, value in one.items()}
        for name, one in (rows | cells | refused).items()
    }


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
    frame[_TOLD] = frame[_TOLD].mask(is_hidden, "")
    return finish(ESTIMATES, _rounded(_without_few_moments(_without_small_quantiles(frame, threshold))))


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


def _without_few_moments(frame: pd.DataFrame) -> pd.DataFrame:
    """No mean and no spread of few people whose responses are counted too: together they nearly fix every value."""
    by_measure = frame.loc[frame["section"].isin(["responders", "function"]) & frame["k"].notna(), "measure"]
    counted = frame["measure"].isin(by_measure) | (frame["section"] == "safety")
    moments = frame["statistic"].isin(["mean", "mean_change", "peak_rise"])
    too_few = (counted & moments & (frame["n"] < LEAST_FOR_MOMENTS)).fillna(value=False)
    columns = ["estimate", "lower", "upper", "sd"]
    frame[columns] = frame[columns].mask(too_few)
    reason = f"fewer than {LEAST_FOR_MOMENTS}: not shown beside counts of the same people"
    return frame.assign(reason=frame["reason"].mask(too_few, reason))


def _rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Whole percentages; other numbers with the decimals of their unit."""
    decimals = frame["unit"].map(_DECIMALS).fillna(1)
    for places in (0, 1, 2):
        own = decimals == places
        columns = ["estimate", "lower", "upper", "sd"]
        frame.loc[own, columns] = frame.loc[own, columns].round(places)
    return frame


def _hidden_counts(counts: pd.DataFrame, hidden: Mapping[str, str], before: Mapping[str, Published]) -> pd.DataFrame:
    """COUNTS with hidden cells missing, or all of it as last released; a reason stands wherever 0 does not.

    Why people listed are not enrolled has counts of its own in it: here it is said in general, whatever is hidden.
    """
    shown = {}
    for column in FLOW_NAMES:
        cells = "counts/" + counts["step"] + "/" + column
        earlier = [before.get(cell, {}).get(column) for cell in cells]
        is_held = cells.map(hidden) == LEFT_OUT
        shown[column] = (
            counts[column].mask(cells.isin(list(hidden)))
            .mask(is_held, pd.Series(earlier, counts.index, dtype="Int64"))
        )  # fmt: skip
    nobody = (shown["n_left"] == 0).to_numpy(dtype=bool, na_value=False)
    reason = counts["step"].map(REASONS).fillna("").mask(nobody, "")
    return counts.assign(**shown, reason=reason.astype("str"))


def _hidden_rejections(rejections: pd.DataFrame, hidden: Mapping[str, str]) -> pd.DataFrame:
    marks = _refusals(rejections).map(dict(hidden)).fillna("").astype("str")
    marked = rejections.assign(n=rejections["n"].mask(marks != ""), suppressed=marks)
    return marked[marks != LEFT_OUT].reset_index(drop=True)
