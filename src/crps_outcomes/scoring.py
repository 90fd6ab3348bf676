"""Items into scores, and scores into summaries: the rule the measure declares, or no score and the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crps_outcomes.rejections import Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crps_outcomes.definitions import Measure
    from crps_outcomes.study import Study

SCORED = frozenset({"outcome", "descriptor"})
COLUMNS = ["subject_id", "measure", "value", "taken_at", "taken_on", "derivation", "source_ref"]
#: Recorded totals carry at most two decimals; a greater difference from the items is a disagreement.
TOLERANCE = 0.005
_MOMENT = ["subject_id", "taken_on"]


def scored(
    observations: pd.DataFrame, study: Study, made_from: Mapping[str, str]
) -> tuple[pd.DataFrame, list[Rejection]]:
    """One row per score: recorded values as they are, items combined, and what is made of both.

    Args:
        observations: OBSERVATIONS.
        study: its measures and the tables the site supplied.
        made_from: Observation -> the QuestionnaireResponse it says it is derived from.

    Returns:
        subject_id, measure, value, taken_at, taken_on, derivation, source_ref; and the refused: too few items, a missing
        table, a score that does not apply, items that disagree with the recorded total (the total stands).
    """
    measures = [one for _, one in sorted(study.measures.items()) if one.role in SCORED]
    items = _items(observations, study)
    kept, refused = [_recorded(observations[~items], measures)], []
    answered = dict(list(observations[items].groupby("measure", observed=True)))
    for measure in measures:
        if measure.item_ids and measure.items_of in answered:
            totals, rejections = item_scores(answered[measure.items_of], measure, study)
            is_same = _beside_recorded(kept[0], totals, made_from)
            kept.append(totals[~totals["source_ref"].isin(list(is_same))])
            disagreeing = sorted(refs for refs, agrees in is_same.items() if not agrees)
            refused += [*rejections, *(Rejection(refs, "total-disagrees-with-items") for refs in disagreeing)]
    scores = pd.concat(kept)
    for measure in measures:
        if measure.score.method in SUMMARY_WEIGHTS:
            combined, rejections = _combined(scores, measure)
            scores = pd.concat([scores, combined])
            refused += rejections
    refusals = [Rejection(ref, one.rule, one.detail) for one in refused for ref in one.resource_ref.split(" ")]
    return scores.sort_values(["subject_id", "measure", "taken_on", "source_ref"]).reset_index(drop=True), refusals


def signals(observations: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The values that go to the safety review, one row each: OBSERVATIONS above a measure's ``signal_above``.

    A signal on an item is found whether or not the rest of the questionnaire was answered. ``measure`` names whose
    signal it is.
    """
    found = [_signals(observations, one) for _, one in sorted(study.measures.items()) if one.signal_above is not None]
    return pd.concat([observations.iloc[:0], *found]).reset_index(drop=True)


def _signals(observations: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    is_own = (observations["measure"] == measure.id) | (
        (observations["measure"] == measure.items_of) & observations["item"].isin(measure.item_ids)
    )
    own = observations[is_own]
    return own[own["value"] > measure.signal_above].assign(measure=measure.id)


# --- items --------------------------------------------------------------------------------------------------------


def item_scores(items: pd.DataFrame, measure: Measure, study: Study) -> tuple[pd.DataFrame, list[Rejection]]:
    """The score of every set of items of one measure, and the sets that have none, with the reason.

    A set is one questionnaire response or panel, or the item Observations of one person and moment.

    Args:
        items: the rows of OBSERVATIONS that are items of the measure, or of the one whose items it scores.
        measure: what is scored.
        study: the tables the site supplied.
    """
    applies = (measure.score.applies.item,) if measure.score.applies else ()
    wanted = list(dict.fromkeys((*measure.item_ids, *applies)))
    items = items.assign(set=_sets(items))
    doubles = set(items.loc[items.duplicated(["set", "item"], keep=False), "set"])
    sets = items.sort_values(["set", "source_ref"]).groupby("set", sort=True)
    found = sets.first().reset_index()
    found["source_ref"] = sets["source_ref"].agg(_joined).to_numpy()
    single = items[~items["set"].isin(doubles)]
    wide = single.pivot_table(index="set", columns="item", values="value", aggfunc="first")
    wide = wide.reindex(index=found["set"], columns=wanted).astype("Float64").astype("float64")
    answers = _turned(wide, measure)
    reasons = _reasons(answers, measure, study).mask(answers.index.isin(list(doubles)), "two-values")
    wide = wide[list(measure.item_ids)]
    values = METHODS[measure.score.method](answers[list(measure.item_ids)], measure, study) * measure.score.multiply
    return _finished(found, values.to_numpy(), list(reasons), wide, measure)


def _sets(items: pd.DataFrame) -> pd.Series:
    """What belongs together: the items of one resource; and single items that stand in Observations of their own."""
    alone = items["source_ref"].str.startswith("Observation/") & ~items.duplicated("source_ref", keep=False)
    moment = items["taken_at"].astype("str").where(items["taken_at"].notna(), items["taken_on"].astype("str"))
    return items["source_ref"].where(~alone, items["subject_id"] + " " + moment)


def _turned(wide: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """The answers with reversed items turned round, so that all run the same way."""
    turned = wide.copy()
    for item in set(measure.items.reversed) & set(wide.columns):
        values = [option.value for option in measure.answers]
        low, high = measure.item_range(item)
        low, high = (min(values), max(values)) if values and low >= high else (low, high)
        turned[item] = low + high - wide[item]
    return turned


def _reasons(answers: pd.DataFrame, measure: Measure, study: Study) -> pd.Series:
    """The rule that leaves each set of items without a score, or ""; the first that holds."""
    rule, none = measure.score, pd.Series("", index=answers.index, dtype="object")
    if rule.table and rule.table not in study.tables:
        none = none.mask(none == "", "table-missing")
    too_few = answers[list(measure.item_ids)].notna().sum(axis=1) < rule.min_items
    none = none.mask(too_few, "items-missing")
    if rule.applies is not None:
        said = answers[rule.applies.item]
        none = none.mask(said != rule.applies.value, "score-does-not-apply").mask(said.isna(), "items-missing")
    return none


def _finished(
    found: pd.DataFrame,
    values: np.ndarray[tuple[int], np.dtype[np.float64]],
    reasons: list[str],
    wide: pd.DataFrame,
    measure: Measure,
) -> tuple[pd.DataFrame, list[Rejection]]:
    reasons = [rule or _implausible(value, measure) for rule, value in zip(reasons, values, strict=True)]
    n_items = wide.notna().sum(axis=1).to_numpy()
    name = measure.score.method.replace("_", " ")
    found = found.assign(measure=measure.id, value=pd.array(values, "Float64"))
    found["derivation"] = [f"{name} of {n} item{'' if n == 1 else 's'}" for n in n_items]
    refused = [
        Rejection(ref, rule, _detail(rule, n, measure))
        for ref, rule, n in zip(found["source_ref"], reasons, n_items, strict=True)
        if rule
    ]
    return found[[not rule for rule in reasons]][COLUMNS], refused


def _implausible(value: float, measure: Measure) -> str:
    if np.isnan(value):
        return "score-undefined"
    low, high = measure.range
    return "" if low - TOLERANCE <= value <= high + TOLERANCE else "value-out-of-range"


def _detail(rule: str, n_items: int, measure: Measure) -> str:
    return {
        "items-missing": f"{n_items} of {len(measure.item_ids)} answered, {measure.score.min_items} needed",
        "table-missing": f"mappings/tables/{measure.score.table}.csv",
    }.get(rule, measure.id)


# --- methods: answers of one set per row into one number per row ------------------------------------------------------


def _sum(answers: pd.DataFrame, _: Measure, __: Study) -> pd.Series:
    return answers.sum(axis=1, min_count=1)


def _mean(answers: pd.DataFrame, _: Measure, __: Study) -> pd.Series:
    return answers.mean(axis=1)


def _identity(answers: pd.DataFrame, _: Measure, __: Study) -> pd.Series:
    return answers.iloc[:, 0]


def _t_score(answers: pd.DataFrame, measure: Measure, study: Study) -> pd.Series:
    """The raw sum looked up in the site's table."""
    table = study.tables.get(measure.score.table, {})
    return answers.sum(axis=1, skipna=False).map(lambda raw: table.get(("", raw), np.nan)).astype("float64")


def _value_set(answers: pd.DataFrame, measure: Measure, study: Study) -> pd.Series:
    """1 less the decrement of each dimension's level; level 1 has none."""
    table = study.tables.get(measure.score.table, {})
    decrements = {
        item: answers[item].map(lambda level, item=item: 0.0 if level == 1 else table.get((item, level), np.nan))
        for item in answers
    }
    return 1 - pd.DataFrame(decrements, index=answers.index, dtype="float64").sum(axis=1, skipna=False)


def _absenteeism(answers: pd.DataFrame, measure: Measure, _: Study) -> pd.Series:
    """Hours missed because of health, of hours missed and worked; undefined where both are 0. (reillyassociates.net)"""
    missed, worked = (answers[item] for item in measure.item_ids[:2])
    return missed / (missed + worked).mask(missed + worked == 0)


def _work_impairment(answers: pd.DataFrame, measure: Measure, study: Study) -> pd.Series:
    """Time missed, and of the time worked the share lost to impairment of 0 to 10. (reillyassociates.net)"""
    absent = _absenteeism(answers, measure, study)
    return absent + (1 - absent) * answers[measure.item_ids[2]] / 10


METHODS: dict[str, Callable[[pd.DataFrame, Measure, Study], pd.Series]] = {
    "identity": _identity,
    "sum": _sum,
    "mean": _mean,
    "t_score": _t_score,
    "value_set": _value_set,
    "absenteeism": _absenteeism,
    "work_impairment": _work_impairment,
}


# --- scores of other measures -----------------------------------------------------------------------------------------

#: Hays 2018 (PMC5999556): weights of physical function, pain, social, fatigue, emotion and sleep, as z values.
SUMMARY_WEIGHTS = {
    "physical_summary": (0.872, -0.094, 0.113, -0.009, 0.003, 0.002),
    "mental_summary": (-0.015, -0.154, 0.252, -0.351, -0.257, -0.139),
}
_NRS_MEAN, _NRS_SD = 2.31, 2.34


def summary(scores: pd.DataFrame, method: str) -> pd.Series:
    """PROMIS-29 summary scores.

    Args:
        scores: columns in the order pain interference, physical function, anxiety, depression, fatigue, sleep disturbance,
            social roles (T-scores) and the 0 to 10 pain item.
        method: "physical_summary" or "mental_summary".
    """
    interference, physical, anxiety, depression, fatigue, sleep, social = (
        (scores.iloc[:, place] - 50) / 10 for place in range(7)
    )
    pain = ((scores.iloc[:, 7] - _NRS_MEAN) / _NRS_SD + interference) / 2
    parts = (physical, pain, social, fatigue, (anxiety + depression) / 2, sleep)
    weighted = [weight * part for weight, part in zip(SUMMARY_WEIGHTS[method], parts, strict=True)]
    return 50 + 10 * sum(weighted[1:], weighted[0])


def _combined(scores: pd.DataFrame, measure: Measure) -> tuple[pd.DataFrame, list[Rejection]]:
    """A summary for every person and day on which all its parts stand; of several values of a day the latest."""
    inputs = list(measure.score.inputs)
    parts = scores[scores["measure"].isin(inputs)].sort_values(["taken_at", "source_ref"], ascending=[True, False])
    parts = parts.drop_duplicates([*_MOMENT, "measure"], keep="last")
    wide = parts.pivot_table(index=_MOMENT, columns="measure", values="value", aggfunc="last")
    wide = wide.reindex(columns=inputs).astype("Float64").astype("float64")
    whole = wide[wide.notna().all(axis=1)]
    if whole.empty:
        return scores.iloc[:0], []
    behind = parts.groupby(_MOMENT).agg({"source_ref": _joined, "taken_at": "max"}).reindex(whole.index)
    found = behind.assign(value=summary(whole, measure.score.method).astype("Float64"), measure=measure.id)
    found["derivation"] = f"{measure.score.method.replace('_', ' ')} of {len(inputs)} scores"
    rules = [_implausible(value, measure) for value in found["value"]]
    pairs = zip(found["source_ref"], rules, strict=True)
    return found.reset_index().loc[[not rule for rule in rules], COLUMNS], [
        Rejection(refs, rule, measure.id) for refs, rule in pairs if rule
    ]


def _joined(refs: pd.Series) -> str:
    return " ".join(sorted({one for joined in refs for one in joined.split(" ")}))


# --- recorded values --------------------------------------------------------------------------------------------------


def _items(observations: pd.DataFrame, study: Study) -> pd.Series:
    """Which rows are items of a questionnaire or panel, and no values of a measure by themselves."""
    known = {(one.id, item) for one in study.measures.values() for item in one.form_ids}
    pairs = zip(observations["measure"], observations["item"], strict=True)
    return pd.Series([pair in known for pair in pairs], index=observations.index, dtype="bool")


def _recorded(values: pd.DataFrame, measures: list[Measure]) -> pd.DataFrame:
    return values.loc[values["measure"].isin([one.id for one in measures]), COLUMNS]


def _beside_recorded(recorded: pd.DataFrame, totals: pd.DataFrame, made_from: Mapping[str, str]) -> dict[str, bool]:
    """The sets of items whose total is recorded too, and whether it is the same: the recorded one is the one that counts.

    A recorded total belongs to the response it says it is made from, else to the items of its day.
    """
    recorded = recorded[recorded["measure"].isin(totals["measure"].unique())]
    if recorded.empty:
        return {}
    pairs = totals.merge(recorded, on=["subject_id", "measure"], suffixes=("", "_recorded"))
    source = pairs["source_ref_recorded"].map(made_from)
    is_pair = (source == pairs["source_ref"]) | (source.isna() & (pairs["taken_on"] == pairs["taken_on_recorded"]))
    pairs = pairs[is_pair]
    agrees = (pairs["value"] - pairs["value_recorded"]).abs() <= TOLERANCE
    return {str(refs): bool(all_of_them) for refs, all_of_them in agrees.groupby(pairs["source_ref"]).all().items()}
