"""What counts after something else happened: the intercurrent strategies of the plan (ICH E9(R1)), applied to people.

An event comes before a score when its day is before the day of the score; on the same day nobody knows which was first,
and the score counts. An event without a day cannot be placed and changes nothing but the count of such events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crps_outcomes.analysis.cohort import ANALYSED, TREATED
from crps_outcomes.analysis.responders import with_baseline
from crps_outcomes.analysis.safety import since_first_dose
from crps_outcomes.estimators import is_responder

if TYPE_CHECKING:
    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.definitions import Measure

STOPPED_FOR_HARM = "stopped for harm"
ANYTHING_ELSE = "anything else"
_COLUMNS = ["subject_id", "happened_on", "kind", "effect"]


def happened(cohort: Cohort) -> pd.DataFrame:
    """What happened to treated people after the first dose, a row per event.

    Columns: subject_id, kind and term (in the words of the plan), happened_on (missing where no day is known), and rule,
    the name of the plan's rule for it or "anything else".
    """
    return cohort.once(_happened)


def _happened(cohort: Cohort) -> pd.DataFrame:
    columns = ["subject_id", "kind", "term", "happened_on"]
    listed = cohort.of(cohort.tables.intercurrent, TREATED)[columns]
    every = pd.concat([listed, _stops_for_harm(cohort)[columns]], ignore_index=True)
    pairs = zip(every["kind"], every["term"], strict=True)
    every["rule"] = [_rule_for(cohort, str(kind), str(term)) for kind, term in pairs]
    return every.sort_values(["subject_id", "happened_on", "rule"], kind="stable").reset_index(drop=True)


def _stops_for_harm(cohort: Cohort) -> pd.DataFrame:
    """Ketamine stopped for a reason that is a harm; its term is the kind of harm."""
    stops = since_first_dose(cohort, "discontinuation")
    stops = stops[stops["category"] != ""]
    return stops.assign(kind=STOPPED_FOR_HARM, term=stops["category"], happened_on=stops["onset_on"])


def _rule_for(cohort: Cohort, kind: str, term: str) -> str:
    rules = cohort.protocol.plan.intercurrent
    return next((rule.name for rule in rules if rule.covers(kind, term)), ANYTHING_ELSE)


def durability_events(cohort: Cohort) -> pd.DataFrame:
    """Every dated event that the plan lets end a response ("loss") or the watching of it ("censor"), first ones first.

    Columns: subject_id, happened_on, kind, effect; sorted by person, day, and loss before censor on one day. A person has
    as many rows as events, because one before the response says nothing about it: take the first after the response.
    """
    effects = {rule.name: rule.durability for rule in cohort.protocol.plan.intercurrent if rule.durability != "ignored"}
    every = happened(cohort)
    every = every.assign(effect=every["rule"].map(effects))
    dated = every[every["effect"].notna() & every["happened_on"].notna()]
    ordered = dated.sort_values(["subject_id", "happened_on", "effect", "kind"], ascending=[True, True, False, True])
    return ordered[_COLUMNS].drop_duplicates().reset_index(drop=True)


# --- scores -----------------------------------------------------------------------------------------------------------


def changes(cohort: Cohort, measure: str, visit: str) -> pd.Series:
    """The changes that count for the mean, by subject_id of the analysed: a score after a hypothetical event is left out."""
    seen = cohort.at(measure, visit, ANALYSED)
    found = seen.people(seen.is_observed & ~np.isnan(seen.columns["change"]))["change"]
    names = {rule.name for rule in cohort.protocol.plan.intercurrent if rule.change == "hypothetical"}
    return found[~found.index.isin(_whom(cohort, measure, visit, names))]


def response(cohort: Cohort, measure: Measure, visit: str, percent: int) -> pd.Series:
    """Whether each treated person with a baseline whose visit is due responded, by subject_id; missing without a score.

    A person with a composite event before the score did not respond, whatever the score.
    """
    due = with_baseline(cohort, measure, visit)
    answers = is_responder(due["baseline"], due["value"], percent, measure.direction)
    names = {rule.name for rule in cohort.protocol.plan.intercurrent if rule.response == "composite"}
    return answers.mask(answers.index.isin(_whom(cohort, measure.id, visit, names)), other=False)


def before_score(cohort: Cohort, measure: str, visit: str) -> pd.DataFrame:
    """The rows of `happened` before each person's score; without a score, before the end of the visit's window."""
    every = happened(cohort)
    ends = score_days(cohort, measure, visit).reindex(every["subject_id"])
    return every[every["happened_on"].to_numpy() < ends.to_numpy()]


def score_days(cohort: Cohort, measure: str, visit: str) -> pd.Series:
    """The day of the score, else the last one of the visit's window, by subject_id of the treated."""
    outcomes = cohort.tables.outcomes
    own = outcomes[(outcomes["measure"] == measure) & (outcomes["visit"] == visit)]
    last = next(one.window_days[1] for one in cohort.protocol.visits if one.id == visit)
    ends = cohort.populations[TREATED].set_index("subject_id")["first_dose_on"] + pd.Timedelta(days=last)
    taken = own[own["state"] == "observed"].set_index("subject_id")["taken_on"].reindex(ends.index)
    return taken.where(taken.notna(), ends)


def _whom(cohort: Cohort, measure: str, visit: str, names: set[str]) -> list[str]:
    """The people to whom something under one of these rules happened before the score."""
    found = before_score(cohort, measure, visit)
    return [str(one) for one in found.loc[found["rule"].isin(names), "subject_id"].unique()]
