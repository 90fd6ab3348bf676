"""The endpoints of the plan under its estimand, read by its rule for several of them, and the groups fixed in advance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crps_outcomes import estimators
from crps_outcomes.analysis.cohort import ANALYSED, TREATED
from crps_outcomes.analysis.estimand import ANYTHING_ELSE, before_score, changes, happened, response
from crps_outcomes.analysis.looks import looks
from crps_outcomes.analysis.responders import MISSING_IS_NON_RESPONDER
from crps_outcomes.analysis.rows import SHARES, Key, mean_row, row, share_row
from crps_outcomes.analysis.subgroups import subgroups
from crps_outcomes.estimators import Interval, as_values
from crps_outcomes.plan import KeySecondary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pandas as pd

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row
    from crps_outcomes.estimators import Values

Reading = tuple[str, float | None]  # in words, and the adjusted p-value where the rule makes one
SECTION = "endpoints"
PRIMARY = "primary"
LEVEL = 0.05

#: How an endpoint is read, in the words that are printed.
DIFFERS = "the interval excludes 0"
INCLUDES = "the interval includes 0"
NO_INTERVAL = "no interval"
NOT_YET = "not at a look yet: descriptive"
STOPPED = "descriptive: the order had stopped"
DESCRIBES = "descriptive: a share is not set against 0"
ADJUSTED_BELOW, ADJUSTED_NOT_BELOW = f"adjusted p below {LEVEL:g}", f"adjusted p not below {LEVEL:g}"


@dataclass(frozen=True)
class Planned:
    """One endpoint of the plan, worked out; ``changes`` is None for a share, which is not set against 0.

    ``look``: where looks are declared, what the primary endpoint is read by in the place of its row.
    """

    row: Row
    changes: Values | None
    look: Interval | None = None

    @property
    def reading(self) -> str:
        """How its interval reads: its own one, or that of the latest look."""
        if self.changes is None:
            return DESCRIBES
        if self.look is not None and self.look.reason == NOT_YET:
            return NOT_YET
        lower, upper = (self.look.lower, self.look.upper) if self.look else (self.row["lower"], self.row["upper"])
        if lower is None or upper is None:
            return NO_INTERVAL
        return INCLUDES if lower <= 0 <= upper else DIFFERS

    @property
    def p(self) -> float:
        """The p-value of no change; where there is no interval nothing is claimed, which is a p-value of 1."""
        has_interval = self.changes is not None and self.row["lower"] is not None
        return estimators.p_of_no_change(self.changes) if has_interval and self.changes is not None else 1.0


def endpoints(cohort: Cohort) -> list[Row]:
    """Primary endpoint, responders and key secondaries under the estimand, how they are read, events before, groups."""
    planned = [_planned(cohort, group, one) for group, one in _declared(cohort).items()]
    return [
        *(one.row for one in planned),
        *_composite(cohort),
        *_readings(cohort, planned),
        *_events_before(cohort),
        *subgroups(cohort, SECTION),
    ]


def _declared(cohort: Cohort) -> Mapping[str, KeySecondary]:
    """The endpoints in their order: the primary one, then the key secondaries by their number."""
    plan = cohort.protocol.outcomes
    primary = KeySecondary(measure=plan.primary, visit=plan.primary_visit)
    numbered = {str(number): one for number, one in enumerate(cohort.protocol.plan.key_secondary, 1)}
    return {PRIMARY: primary} | numbered


def _planned(cohort: Cohort, group: str, one: KeySecondary) -> Planned:
    measure = cohort.study.measures[one.measure]
    if one.summary == "responders":
        return Planned(_share(cohort, Key(SECTION, "planned", "", measure.id, one.visit, group), one.percent), None)
    values = as_values(changes(cohort, measure.id, one.visit))
    key = Key(SECTION, "planned", ANALYSED, measure.id, one.visit, group)
    n_due = cohort.at(measure.id, one.visit, ANALYSED).n_due
    made = mean_row(key, values, unit=measure.unit_label, n_missing=n_due - len(values))
    return Planned(made, values, _latest_look(cohort, len(values)) if group == PRIMARY else None)


def _latest_look(cohort: Cohort, n: int) -> Interval | None:
    """The change at the latest look reached by ``n`` people, the reason where there is none yet; None without looks."""
    declared = looks(cohort)
    reached = [one.change for one in declared if one.change is not None]
    if reached:
        return reached[-1]
    return Interval(n, None, None, None, "", reason=NOT_YET) if declared else None


def _composite(cohort: Cohort) -> Iterator[Row]:
    """Responders of the primary measure under the composite strategy."""
    plan = cohort.protocol.outcomes
    if cohort.study.measures[plan.primary].range[0] != 0:
        return  # a percentage means something only on a scale that starts at 0
    for percent in plan.responder_percents:
        yield _share(cohort, Key(SECTION, "responder", "", plan.primary, plan.primary_visit, str(percent)), percent)


def _share(cohort: Cohort, key: Key, percent: int) -> Row:
    answers = response(cohort, cohort.study.measures[key.measure], key.visit, percent)
    own = Key(key.section, key.statistic, MISSING_IS_NON_RESPONDER, key.measure, key.visit, key.group)
    as_share = SHARES[cohort.protocol.plan.responder_interval]
    return as_share(own, int(answers.sum()), len(answers), n_missing=int(answers.isna().sum()))


# --- several endpoints --------------------------------------------------------------------------------------------


def _readings(cohort: Cohort, planned: Sequence[Planned]) -> Iterator[Row]:
    rule = cohort.protocol.plan.multiplicity
    for one, (reading, p) in zip(planned, RULES[rule](planned), strict=True):
        parts = {name: one.row[name] for name in ("population", "measure", "visit", "group")}
        n, n_missing, method = one.row["n"], one.row["n_missing"], METHODS[rule]
        if one.look is not None and reading != NOT_YET:  # nobody is missing from a look: it is of people with a change
            n, n_missing, method = one.look.n, 0, f"{method}; by the latest look reached"
        found = Interval(n, p, None, None, method, reason=reading)
        unit = "" if p is None else "p-value"
        is_read = int(reading in (DIFFERS, ADJUSTED_BELOW))
        yield row(Key(SECTION, "reading", **parts), found, unit=unit, k=is_read, n_missing=n_missing)


def hierarchical(planned: Sequence[Planned]) -> list[Reading]:
    """In order until the first whose interval includes 0, or that has none; what follows is descriptive."""
    readings: list[Reading] = []
    is_open = True
    for one in planned:
        reading = one.reading
        readings.append((reading if is_open or reading == DESCRIBES else STOPPED, None))
        is_open = is_open and reading in (DIFFERS, DESCRIBES)
    return readings


def holm(planned: Sequence[Planned]) -> list[Reading]:
    """The primary by its interval; then, only if that excludes 0, all the others at once by adjusted p-values."""
    primary, *others = planned
    family = [one for one in others if one.changes is not None]
    adjusted = dict(zip(map(id, family), estimators.adjusted([one.p for one in family], "holm"), strict=True))
    readings: list[Reading] = [(primary.reading, None)]
    for one in others:
        p = adjusted.get(id(one))
        readings.append((DESCRIBES, None) if p is None else (_by_p(float(p), primary), float(p)))
    return readings


def _by_p(p: float, primary: Planned) -> str:
    if primary.reading != DIFFERS:
        return STOPPED
    return ADJUSTED_BELOW if p < LEVEL else ADJUSTED_NOT_BELOW


RULES: Mapping[str, Callable[[Sequence[Planned]], list[Reading]]] = {
    "hierarchical": hierarchical,
    "holm": holm,
}
METHODS = {
    "hierarchical": "in the order of the plan, until an interval includes 0",
    "holm": "the primary first, then p-values of one-sample t tests adjusted by Holm",
}


# --- what happened before the score -----------------------------------------------------------------------------------


def _events_before(cohort: Cohort) -> Iterator[Row]:
    """People whose primary visit is due and to whom each event of the plan happened before their score of that visit."""
    plan = cohort.protocol.outcomes
    due = cohort.at(plan.primary, plan.primary_visit, TREATED).due
    every, before = happened(cohort), before_score(cohort, plan.primary, plan.primary_visit)
    undated = every[every["happened_on"].isna()]
    for name in (*(rule.name for rule in cohort.protocol.plan.intercurrent), ANYTHING_ELSE):
        k, unplaced = (_people(frame, name, due) for frame in (before, undated))
        key = Key(SECTION, "before_score", TREATED, plan.primary, plan.primary_visit, name)
        yield share_row(key, len(k), len(due), n_missing=len(unplaced - k))


def _people(events: pd.DataFrame, name: str, due: frozenset[str]) -> frozenset[str]:
    return due & set(events.loc[events["rule"] == name, "subject_id"])
