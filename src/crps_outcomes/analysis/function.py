"""What stands beside pain: function, interference, mood, quality of life, the global impression of change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes.analysis.cohort import ANALYSED
from crps_outcomes.analysis.members import behind
from crps_outcomes.analysis.pain import mean_changes, means
from crps_outcomes.analysis.rows import LEAST_FOR_ESTIMATE, Key, absent_row, row, share_row, small_n
from crps_outcomes.estimators import TOLERANCE, is_responder, pearson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row
    from crps_outcomes.definitions import Measure

#: Pain better and function better -> the group a person falls into.
BOTH_GROUPS = {
    (True, True): "both",
    (True, False): "pain only",
    (False, True): "function only",
    (False, False): "neither",
}
PAIN_PERCENT = 30


def function(cohort: Cohort) -> list[Row]:
    """Means and changes of every scale beside pain, the answers to the global question, and pain with function."""
    plan = cohort.protocol.outcomes
    rows = [
        one
        for measure in cohort.scales
        for one in (*means(cohort, "function", measure), *mean_changes(cohort, "function", measure))
    ]
    visits = dict.fromkeys((plan.primary_visit, plan.later_visit))
    together = (one for visit in visits for one in (*_pain_and_function(cohort, visit), _correlation(cohort, visit)))
    return [*rows, *_answers(cohort), *together]


# --- the global question ------------------------------------------------------------------------------------------


def _answers(cohort: Cohort) -> Iterator[Row]:
    measure = cohort.study.measures[cohort.protocol.outcomes.global_change]
    for visit in cohort.visits:
        seen = cohort.at(measure.id, visit, ANALYSED)
        values = seen.values()
        for answer in measure.answers:
            key = Key("function", "share", ANALYSED, measure.id, visit, answer.display)
            k = int((values == answer.value).sum())
            found = share_row(key, k, len(values), n_missing=seen.n_due - len(values))
            people = pd.Series(seen.who(), dtype="str")
            yield behind(found, k=people[values == answer.value], n=people, n_missing=seen.lacking())


# --- pain with function -------------------------------------------------------------------------------------------


def _pain_and_function(cohort: Cohort, visit: str) -> Iterator[Row]:
    plan = cohort.protocol.outcomes
    scale = cohort.study.measures[plan.function]
    key = Key("function", "pain_and_function", ANALYSED, scale.id, visit)
    if not scale.thresholds:
        method = "people by pain and function"
        reason, n_due = "the function measure declares no threshold", cohort.at(plan.primary, visit, ANALYSED).n_due
        yield from (absent_row(key.of(group), reason, unit="%", method=method) | {"n_missing": n_due}
                    for group in BOTH_GROUPS.values())  # fmt: skip
        return
    pairs, n_due = _pairs(cohort, cohort.study.measures[plan.primary], scale, visit)
    counts = pairs.value_counts()
    seen = cohort.at(plan.primary, visit, ANALYSED)
    for pair, group in BOTH_GROUPS.items():
        k = int(counts.get(pair, 0))
        found = share_row(key.of(group), k, len(pairs), n_missing=n_due - len(pairs))
        people = pairs.index[(pairs["pain"] == pair[0]) & (pairs["function"] == pair[1])]
        others = seen.subject_id[(seen.state != "not due") & ~pd.Index(seen.subject_id).isin(pairs.index)]
        found = behind(found, k=people, n=pairs.index, n_missing=others)
        yield found | {"method": f"{found['method']}; {definition(scale)}"}


def definition(scale: Measure) -> str:
    """The rule of the four groups in words, with the state of the function threshold."""
    threshold = scale.thresholds[0]
    return (
        f"pain lower by {PAIN_PERCENT} % or more; {scale.short.lower()} changed by {threshold.value:+g} or better "
        f"({threshold.state})"
    )


def _correlation(cohort: Cohort, visit: str) -> Row:
    """How far change in pain and change in function go together, as they are: less pain and more function is negative."""
    plan = cohort.protocol.outcomes
    pain, other = (cohort.at(measure, visit, ANALYSED) for measure in (plan.primary, plan.function))
    changes = pd.concat([seen.people(seen.is_observed)["change"] for seen in (pain, other)], axis=1)
    whole = changes[changes.notna().all(axis=1)].to_numpy("float64")
    found = pearson(whole[:, 0], whole[:, 1])
    key = Key("function", "correlation", ANALYSED, plan.function, visit)
    ruled = small_n(found) if found.estimate is not None or found.n < LEAST_FOR_ESTIMATE else found
    return row(key, ruled, unit="correlation", n_missing=pain.n_due - found.n)


def _pairs(cohort: Cohort, primary: Measure, scale: Measure, visit: str) -> tuple[pd.DataFrame, int]:
    """Whether pain and function are better, for people with both; and how many people are due for the pain value."""
    pain, other = (cohort.at(measure.id, visit, ANALYSED) for measure in (primary, scale))
    seen = pain.people(pain.is_observed)
    changes = other.people(other.is_observed)["change"].reindex(seen.index)
    threshold = scale.thresholds[0].value
    improved = changes * (1 if threshold > 0 else -1) >= abs(threshold) - TOLERANCE
    responded = is_responder(seen["baseline"], seen["value"], PAIN_PERCENT, primary.direction)
    pairs = pd.DataFrame({"pain": responded, "function": improved.astype("boolean")})
    return pairs[pairs.notna().all(axis=1)].astype("bool"), pain.n_due
