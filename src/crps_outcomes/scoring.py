"""Items into scores: the rule the measure declares, or no score and the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from crps_outcomes.rejections import Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crps_outcomes.definitions import Measure

#: How grouped item values become one number. "identity" is for measures whose value is the score.
METHODS: dict[str, Callable[[Any], pd.Series]] = {
    "sum": lambda items: items.sum(min_count=1),
    "mean": lambda items: items.mean(),
    "identity": lambda items: items.first(),
}
_MOMENT = ["subject_id", "measure", "taken_on"]


def scored(observations: pd.DataFrame, measures: Mapping[str, Measure]) -> tuple[pd.DataFrame, list[Rejection]]:
    """One row per score: recorded values as they are, items combined per response.

    Args:
        observations: OBSERVATIONS.
        measures: the study's measures by id.

    Returns:
        subject_id, measure, value, taken_at, taken_on, derivation, source_ref; and the responses whose items disagree
        with the total recorded on the same day (the recorded total stands, the disagreement is listed).
    """
    outcomes = [measure.id for measure in measures.values() if measure.role == "outcome"]
    wanted = observations[observations["measure"].isin(outcomes)]
    recorded = wanted[wanted["item"] == ""]
    totals = pd.concat([_totals(wanted[wanted["item"] != ""], measures[name]) for name in sorted(outcomes)])
    disagreeing = _disagreeing(recorded, totals)
    columns = ["subject_id", "measure", "value", "taken_at", "taken_on", "derivation", "source_ref"]
    scores = pd.concat([recorded[columns], totals[~totals["source_ref"].isin(disagreeing)][columns]])
    refused = [Rejection(ref, "total-disagrees-with-items") for ref in sorted(disagreeing)]
    return scores.sort_values(["subject_id", "measure", "taken_on", "source_ref"]).reset_index(drop=True), refused


def _totals(items: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """One row per response of this measure: its score, and the number of items behind it."""
    own = items[items["measure"] == measure.id]
    responses = own.groupby("source_ref", sort=True)
    totals = own.drop_duplicates("source_ref").sort_values("source_ref").reset_index(drop=True)
    totals["value"] = METHODS[measure.score.method](responses["value"]).to_numpy()
    n_items = responses["item"].nunique().to_numpy()
    totals["derivation"] = [f"{measure.score.method} of {n} items" for n in n_items]
    return totals[n_items >= measure.score.min_items]


def _disagreeing(recorded: pd.DataFrame, totals: pd.DataFrame) -> set[str]:
    pairs = totals.merge(recorded[[*_MOMENT, "value"]], on=_MOMENT, suffixes=("", "_recorded"))
    return set(pairs.loc[pairs["value"] != pairs["value_recorded"], "source_ref"])
