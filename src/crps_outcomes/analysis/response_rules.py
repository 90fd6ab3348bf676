"""How many improved, by each of several rules, and how far the rules agree.

Every rule is asked of the same people: treated, with a start score of the primary measure, the visit due. "observed"
counts those of them in whom the rule can be told, "missing = non-responder" all of them. A rule that can be told in
nobody is not recorded here, and then nobody is counted as not improved by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.responders import MISSING_IS_NON_RESPONDER, OBSERVED, with_baseline
from crps_outcomes.analysis.rows import SHARES, Key, absent_row
from crps_outcomes.estimators import TOLERANCE, as_values, is_responder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row
    from crps_outcomes.definitions import Measure

COMPOSITE = "composite of pain and function"
RELIABLE = "reliable change"
MUCH = "much improved or better"
MINIMALLY = "minimally improved or better"
ANSWERS = {MUCH: "much improved", MINIMALLY: "minimally improved"}
EVERY, SOME, NO = "every rule", "some rules", "no rule"
WITH_GLOBAL_CHANGE = "first percent and much improved"
AT_ALL = "at all"


@dataclass(frozen=True)
class Answered:
    """What a rule says about each person of a visit: yes, no or cannot be told. ``lacking``: why it cannot be asked."""

    name: str
    measure: str
    answers: pd.Series
    lacking: str = ""

    @property
    def is_recorded(self) -> bool:
        return not self.lacking and bool(self.answers.notna().any())


def response_rules(cohort: Cohort) -> Iterator[Row]:
    """Every rule at the primary and the later visit, their agreement, and who got worse."""
    plan = cohort.protocol.outcomes
    primary = cohort.study.measures[plan.primary]
    if primary.range[0] != 0:
        return  # a percentage means something only on a scale that starts at 0
    for visit in dict.fromkeys((plan.primary_visit, plan.later_visit)):
        due = with_baseline(cohort, primary, visit)
        asked = _asked(cohort, primary, visit, due)
        for one in asked:
            yield from _shares(cohort, one, visit, len(due))
        yield from _agreement(cohort, asked, visit, len(due))
        yield from _worse(cohort, primary, visit, due)


# --- rules --------------------------------------------------------------------------------------------------------


def _asked(cohort: Cohort, primary: Measure, visit: str, due: pd.DataFrame) -> tuple[Answered, ...]:
    percents = cohort.protocol.outcomes.responder_percents
    return (
        *(_by_percent(primary, percent, due) for percent in percents),
        _by_composite(cohort, visit, due),
        _by_reliable_change(primary, due),
        *(_by_answer(cohort, visit, due, name) for name in ANSWERS),
    )


def _by_percent(primary: Measure, percent: int, due: pd.DataFrame) -> Answered:
    answers = is_responder(due["baseline"], due["value"], percent, primary.direction)
    return Answered(f"{percent}", primary.id, answers)


def _by_composite(cohort: Cohort, visit: str, due: pd.DataFrame) -> Answered:
    measure = cohort.study.composite
    if measure is None:
        return Answered(COMPOSITE, "", _unknown(due), "no composite declared")
    return Answered(COMPOSITE, measure.id, (_values(cohort, measure, visit, due) == 1).astype("boolean"))


def _by_reliable_change(primary: Measure, due: pd.DataFrame) -> Answered:
    better = _better(primary, due)
    if primary.error is None or better is None:
        return Answered(RELIABLE, primary.id, _unknown(due), "measurement error not declared")
    return Answered(RELIABLE, primary.id, (better > primary.error.reliable_change + TOLERANCE).astype("boolean"))


def _by_answer(cohort: Cohort, visit: str, due: pd.DataFrame, name: str) -> Answered:
    """An answer to the global question as good as the one named, or better; by its words, never by its number alone."""
    measure = cohort.study.measures[cohort.protocol.outcomes.global_change]
    at_least = next((one.value for one in measure.answers if one.display.lower() == ANSWERS[name]), None)
    if at_least is None:
        return Answered(name, measure.id, _unknown(due), "no such answer")
    values = _values(cohort, measure, visit, due)
    answers = values <= at_least if measure.direction == "lower" else values >= at_least
    return Answered(name, measure.id, answers.astype("boolean"))


def _values(cohort: Cohort, measure: Measure, visit: str, due: pd.DataFrame) -> pd.Series:
    seen = cohort.at(measure.id, visit, TREATED)
    return seen.people(seen.is_observed)["value"].reindex(due.index)


def _better(primary: Measure, due: pd.DataFrame) -> pd.Series | None:
    """How many points each person is better than at the start; None for a measure without direction."""
    sign = {"lower": -1, "higher": 1}.get(primary.direction)
    return None if sign is None else (due["value"] - due["baseline"]) * sign


def _unknown(due: pd.DataFrame) -> pd.Series:
    return pd.Series(pd.NA, index=due.index, dtype="boolean")


# --- rows ---------------------------------------------------------------------------------------------------------


def _shares(cohort: Cohort, asked: Answered, visit: str, n_due: int) -> Iterator[Row]:
    share = SHARES[cohort.protocol.plan.responder_interval]
    n_observed, k = int(asked.answers.notna().sum()), int(asked.answers.sum())
    for population, n in ((OBSERVED, n_observed), (MISSING_IS_NON_RESPONDER, n_due)):
        key = Key("responders", "rule", population, asked.measure, visit, asked.name)
        if asked.is_recorded:
            yield share(key, k, n, n_missing=n_due - n_observed)
        else:
            yield absent_row(key, asked.lacking or "not recorded", unit="%", method="share")


def _agreement(cohort: Cohort, asked: tuple[Answered, ...], visit: str, n_due: int) -> Iterator[Row]:
    """How many people improved by every, by some and by no rule, of those in whom all recorded rules can be told."""
    plan = cohort.protocol.outcomes
    recorded = {one.name: one.answers for one in asked if one.is_recorded}
    told = _told(pd.DataFrame(recorded))
    n_yes = told.sum(axis=1)
    n_rules = len(recorded)
    groups = {EVERY: n_yes == n_rules, SOME: (n_yes > 0) & (n_yes < n_rules), NO: n_yes == 0}
    share = SHARES[cohort.protocol.plan.responder_interval]
    for group, is_in in groups.items():
        key = Key("responders", "agreement", OBSERVED, plan.primary, visit, group)
        yield share(key, int(is_in.sum()), len(told), n_missing=n_due - len(told))
    first, much = f"{plan.responder_percents[0]}", MUCH
    both = _told(pd.DataFrame({name: recorded.get(name, pd.Series(dtype="boolean")) for name in (first, much)}))
    key = Key("responders", "agreement", OBSERVED, plan.primary, visit, WITH_GLOBAL_CHANGE)
    yield share(key, int((both[first] == both[much]).sum()), len(both), n_missing=n_due - len(both))


def _told(answers: pd.DataFrame) -> pd.DataFrame:
    """The people in whom every rule can be told."""
    return answers[answers.notna().all(axis=1)].astype("bool")


def _worse(cohort: Cohort, primary: Measure, visit: str, due: pd.DataFrame) -> Iterator[Row]:
    """Who is worse than at the start, at all and by more than the measurement error."""
    better = _better(primary, due)
    if better is None:
        return
    known = as_values(better)
    cuts = {AT_ALL: 0.0} | ({RELIABLE: primary.error.reliable_change} if primary.error else {})
    for group, cut in cuts.items():
        key = Key("responders", "worse", OBSERVED, primary.id, visit, group)
        k = int((known < -cut - TOLERANCE).sum())
        yield SHARES[cohort.protocol.plan.responder_interval](key, k, len(known), n_missing=len(due) - len(known))
