"""Which value counts for a visit. Rules, in words, as the report prints them: see `RULES`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from crps_outcomes.definitions import Protocol

RULES = (
    "Baseline: the latest value in the baseline window that was certainly taken before the first dose; a value with "
    "a day but no time counts only when that day is before the day of the first dose. A later value is never promoted.",
    "Follow-up: the value nearest to the planned day inside the visit's window; of two equally near days the earlier "
    "one; of several values on one day the latest; of values that only differ in their record, the first by id.",
)

_COLUMNS = ["subject_id", "measure", "visit", "value", "taken_on", "study_day", "derivation", "source_refs"]
_KEY = ["subject_id", "measure", "visit"]


def baseline_values(dated: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """The baseline of each subject and measure.

    Args:
        dated: scores with study_day, first_dose_at and first_dose_on.
        protocol: its baseline window.
    """
    first, last = protocol.baseline.window_days
    on_an_earlier_day = dated["study_day"] < 0
    earlier_that_day = dated["taken_at"] < dated["first_dose_at"]  # false where either has no time of day
    inside = dated["study_day"].between(first, last) & (on_an_earlier_day | earlier_that_day)
    own = dated[inside].assign(visit="baseline")
    own = own.sort_values([*_KEY, "study_day", "taken_at", "source_ref"], ascending=[*[True] * 3, False, False, True])
    return _first(own)


def visit_values(dated: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """The value of each subject, measure and planned visit (arguments as `baseline_values`)."""
    inside = ((visit, dated[dated["study_day"].between(*visit.window_days)]) for visit in protocol.visits)
    own = pd.concat(
        [rows.assign(visit=visit.id, away=(rows["study_day"] - visit.day).abs()) for visit, rows in inside],
        ignore_index=True,
    )
    order = [*_KEY, "away", "study_day", "taken_at", "source_ref"]
    return _first(own.sort_values(order, ascending=[*[True] * 5, False, True]))


def _first(own: pd.DataFrame) -> pd.DataFrame:
    """The first value of each subject, measure and visit, with how many there were on its day."""
    of_the_day = own.groupby([*_KEY, "study_day"])["value"].transform("size")
    several = "latest of " + of_the_day.astype("str") + " that day"
    joined = (own["derivation"] + "; " + several).where(own["derivation"] != "", several)
    own = own.assign(derivation=own["derivation"].where(of_the_day == 1, joined))
    chosen = own.drop_duplicates(_KEY).rename(columns={"source_ref": "source_refs"})
    return chosen[_COLUMNS]
