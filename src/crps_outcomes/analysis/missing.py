"""Who was lost and when, what is missing, and how much a finding hangs on what is not known."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crps_outcomes import imputation
from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.course import STARTED, Course, course_of
from crps_outcomes.analysis.estimand import before_score, happened, score_days
from crps_outcomes.analysis.responders import with_baseline
from crps_outcomes.analysis.rows import (
    LEAST_FOR_INTERVAL,
    Key,
    described_share_row,
    mean_row,
    median_row,
    row,
    share_row,
)
from crps_outcomes.analysis.safety import since_first_dose
from crps_outcomes.estimators import Interval, as_floats, as_values, is_responder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row
    from crps_outcomes.estimators import Values

ANY, DIED, COMPLETE, OTHERS, NOT_STATED = "any", "died", "complete", "others", "not stated"
SEEN, UNSEEN, NOT_DUE = "x", "o", "-"
MOST_PATTERNS = 10
LEAST_TO_PREDICT_FROM = 5  # values that an auxiliary column needs
PGIC, DOSE = "global change", "dose"
SET_ASIDE = "set aside"


def missing(cohort: Cohort) -> list[Row]:
    """Disposition, patterns, stated reasons, and the sensitivity of the primary change and response to missing scores."""
    lines = course_of(cohort)
    return [
        *_stopped(cohort),
        *_followed(lines),
        *_patterns(lines),
        *_reasons(cohort),
        *_sensitivity(cohort, lines),
        *_bounds(cohort, lines),
    ]


# --- disposition ----------------------------------------------------------------------------------------------------


def _stopped(cohort: Cohort) -> Iterator[Row]:
    """People in whom ketamine was broken off or its order stopped, by stated reason, with the week; people who died."""
    stops = since_first_dose(cohort, "discontinuation")
    stops = stops.assign(week=(stops["onset_on"] - stops["first_dose_on"]).dt.days / 7)
    for group, own in ((ANY, stops), *((str(term), part) for term, part in stops.groupby("term", sort=True))):
        first = own.groupby("subject_id", sort=True)["week"].min()
        weeks = as_values(first)
        yield share_row(Key("missing", "stopped", TREATED, group=group), len(first), cohort.n(TREATED), n_missing=0)
        key = Key("missing", "stopped_week", TREATED, group=group)
        yield median_row(key, weeks, unit="weeks", n_missing=len(first) - len(weeks))
    after = cohort.of(cohort.tables.intercurrent, TREATED)
    n_died = after.loc[after["kind"] == "death", "subject_id"].nunique()
    yield share_row(Key("missing", DIED, TREATED), n_died, cohort.n(TREATED), n_missing=0)


def _followed(lines: Course) -> Iterator[Row]:
    """People by the visit of their last score; complete: their last score is the last one that was due."""
    places = np.arange(len(lines.visits))
    last_seen = np.where(lines.is_seen, places, 0).max(axis=1)
    last_due = np.where(lines.is_due, places, 0).max(axis=1)
    counts = Counter(
        COMPLETE if seen >= due else lines.visits[seen] for seen, due in zip(last_seen, last_due, strict=True)
    )
    for group in (*lines.visits, COMPLETE):
        if counts[group] or group == COMPLETE:
            yield described_share_row(
                Key("missing", "last_score", STARTED, group=group), counts[group], len(lines.scores), n_missing=0
            )


def _patterns(lines: Course) -> Iterator[Row]:
    """People by which visits have a score, the most frequent patterns first; the rest as one group."""
    letters = np.where(lines.is_seen, SEEN, np.where(lines.is_due, UNSEEN, NOT_DUE))[:, 1:]
    ranked = sorted(Counter("".join(line) for line in letters).items(), key=lambda pair: (-pair[1], pair[0]))
    shown, rest = ranked[:MOST_PATTERNS], sum(k for _, k in ranked[MOST_PATTERNS:])
    for pattern, k in (*shown, *([(OTHERS, rest)] if rest else [])):
        yield described_share_row(Key("missing", "pattern", STARTED, group=pattern), k, len(lines.scores), n_missing=0)


def _reasons(cohort: Cohort) -> Iterator[Row]:
    """What records without a value give as the reason, of all records without one; records of any measure, not people."""
    rejections = cohort.tables.rejections
    stated = rejections.loc[rejections["rule"] == "data-absent", "reason"].str.extract(r"\(([^()]*)\)$")[0]
    for reason, k in stated.where(stated.notna(), NOT_STATED).value_counts().sort_index().items():
        yield described_share_row(Key("missing", "reason", group=str(reason)), int(k), len(stated), n_missing=0)


# --- sensitivity ----------------------------------------------------------------------------------------------------


def main_visits(cohort: Cohort) -> tuple[str, ...]:
    """The primary and the later visit, each once."""
    return tuple(dict.fromkeys((cohort.protocol.outcomes.primary_visit, cohort.protocol.outcomes.later_visit)))


def _sensitivity(cohort: Cohort, lines: Course) -> Iterator[Row]:
    """The imputed change as it is and with missing scores made worse, and where the finding would vanish."""
    measure, plan = cohort.study.measures[cohort.protocol.outcomes.primary], cohort.protocol.plan.missing_data
    filled, aside = _filled(cohort, lines, _beside(cohort)), _set_aside(cohort, lines)
    also = {} if aside is None else _filled(cohort, aside, _beside_set_aside(cohort))
    for visit in main_visits(cohort):
        key, n_missing = Key("missing", "imputed_change", STARTED, measure.id, visit), lines.n_missing(visit)
        tip = Key("missing", "tipping_point", STARTED, measure.id, visit)
        if visit in filled:
            found = {key.of(f"{delta:g}"): imputation.pooled_change(filled[visit], delta) for delta in plan.deltas}
            if visit in also:
                found[key.of(SET_ASIDE)] = imputation.pooled_change(also[visit])
            found[tip] = imputation.tipping_point(filled[visit], measure.range[1] - measure.range[0])
        else:
            n_due = int(lines.is_due[:, lines.visits.index(visit)].sum())
            reason = f"fewer than {LEAST_FOR_INTERVAL} people with a score: nothing to impute from"
            none = Interval(n_due, None, None, None, "multiple imputation", reason=reason)
            found = dict.fromkeys((*(key.of(f"{delta:g}") for delta in plan.deltas), tip), none)
        for own, interval in found.items():
            yield row(own, interval, unit=measure.unit_label, n_missing=n_missing)


def _set_aside(cohort: Cohort, lines: Course) -> Course | None:
    """The course without scores after an event that the plan calls hypothetical; None where there is no such score."""
    if not happened(cohort)["rule"].isin(_hypothetical(cohort)).any():
        return None
    scores = lines.scores.copy()
    for at, visit in enumerate(lines.visits[1:], 1):
        whom = _set_aside_at(cohort, cohort.protocol.outcomes.primary, visit)
        scores[np.isin(lines.subject_id, whom.to_numpy("object")), at] = np.nan
    return replace(lines, scores=scores) if np.isnan(scores).sum() > np.isnan(lines.scores).sum() else None


def _hypothetical(cohort: Cohort) -> frozenset[str]:
    """The names of the rules that set the scores after an event aside."""
    return frozenset(rule.name for rule in cohort.protocol.plan.intercurrent if rule.change == "hypothetical")


def _set_aside_at(cohort: Cohort, measure: str, visit: str) -> pd.Series:
    """The people to whom such an event happened before their score."""
    before = before_score(cohort, measure, visit)
    return before.loc[before["rule"].isin(_hypothetical(cohort)), "subject_id"]


def _beside(cohort: Cohort) -> dict[str, pd.Series]:
    """What else predicts a score, by subject_id: the global change at the primary visit and the mean dose."""
    plan = cohort.protocol.outcomes
    answers = cohort.at(plan.global_change, plan.primary_visit, TREATED)
    given = pd.Series(answers.columns["value"], index=answers.subject_id).where(answers.is_observed)
    return {PGIC: given, DOSE: _mean_dose(cohort.sessions)}


def _beside_set_aside(cohort: Cohort) -> dict[str, pd.Series]:
    """The same without what came after an event that sets scores aside; the dose up to the primary visit, for everybody."""
    plan, own = cohort.protocol.outcomes, _beside(cohort)
    whom = _set_aside_at(cohort, plan.global_change, plan.primary_visit)
    every = happened(cohort)
    first = every[every["rule"].isin(_hypothetical(cohort))].groupby("subject_id")["happened_on"].min()
    sessions = cohort.sessions
    ends = (score_days(cohort, plan.primary, plan.primary_visit), first)
    is_before = [
        (sessions["began_on"] < sessions["subject_id"].map(end)) | sessions["subject_id"].map(end).isna()
        for end in ends
    ]
    return {
        PGIC: own[PGIC].mask(own[PGIC].index.isin(whom)),
        DOSE: _mean_dose(sessions[is_before[0] & is_before[1]]),
    }


def _mean_dose(sessions: pd.DataFrame) -> pd.Series:
    return sessions.groupby("subject_id", sort=True)["mg_per_kg"].mean().astype("Float64")


@dataclass(frozen=True)
class _Sheet:
    """What scores are imputed from: people x named columns."""

    names: tuple[str, ...]
    table: Values


def _filled(cohort: Cohort, lines: Course, beside: Mapping[str, pd.Series]) -> dict[str, imputation.Imputed]:
    """The main visits with missing scores imputed, for those visits where enough people have one."""
    enough = [v for v in main_visits(cohort) if lines.is_seen[:, lines.visits.index(v)].sum() >= LEAST_FOR_INTERVAL]
    if not enough:
        return {}
    plan, sheet = cohort.protocol.plan, _sheet(lines, beside)
    order = {at: _predictors(cohort, sheet.names, name) for at, name in enumerate(sheet.names)}
    filled = imputation.impute(sheet.table, order, plan.missing_data.imputations, plan.seed)
    worse = -1.0 if cohort.study.measures[cohort.protocol.outcomes.primary].direction == "higher" else 1.0
    found = {}
    for visit in enough:
        at = lines.visits.index(visit)
        due = lines.is_due[:, at]
        change = filled[:, due, sheet.names.index(visit)] - lines.scores[due, 0]
        found[visit] = imputation.Imputed(change, ~lines.is_seen[due, at], worse)
    return found


def _sheet(lines: Course, beside: Mapping[str, pd.Series]) -> _Sheet:
    """Scores at all visits and what stands beside them, by name; columns with few values are left out."""
    columns = dict(zip(lines.visits, lines.scores.T, strict=True))
    columns |= {name: as_floats(own.reindex(lines.subject_id)) for name, own in beside.items()}
    known = {name: own for name, own in columns.items() if (~np.isnan(own)).sum() >= LEAST_TO_PREDICT_FROM}
    return _Sheet(tuple(known), np.column_stack([*known.values()]))


def _predictors(cohort: Cohort, names: Sequence[str], name: str) -> list[int]:
    """Places of the columns that predict one: baseline, the nearest visit, global change, dose, then the other visits."""
    days = {"baseline": 0, **{visit.id: visit.day for visit in cohort.protocol.visits}}
    own = days.get(name, days[cohort.protocol.outcomes.primary_visit])
    near = sorted((visit for visit in days if visit != "baseline"), key=lambda visit: abs(days[visit] - own))
    near = [visit for visit in near if visit != name]
    wanted = dict.fromkeys(("baseline", *near[:1], PGIC, DOSE, *near[1:]))
    return [names.index(one) for one in wanted if one in names and one != name]


# --- bounds ---------------------------------------------------------------------------------------------------------


def _bounds(cohort: Cohort, lines: Course) -> Iterator[Row]:
    """What the primary change and the share of responders can be at most and at least, whatever the missing scores are."""
    measure = cohort.study.measures[cohort.protocol.outcomes.primary]
    low, high = measure.range
    ends = {"best": high, "worst": low} if measure.direction == "higher" else {"best": low, "worst": high}
    for visit in main_visits(cohort):
        at, n_missing = lines.visits.index(visit), lines.n_missing(visit)
        scores = lines.scores[lines.is_due[:, at]]
        for name, end in ends.items():
            key = Key("missing", "change_bound", STARTED, measure.id, visit, name)
            change = np.where(np.isnan(scores[:, at]), end, scores[:, at]) - scores[:, 0]
            yield mean_row(key, change, unit=measure.unit_label, n_missing=n_missing)
        if low == 0:
            yield from _responder_bounds(cohort, visit)


def _responder_bounds(cohort: Cohort, visit: str) -> Iterator[Row]:
    """Responders if nobody without a score responded, and if everybody did who could."""
    measure = cohort.study.measures[cohort.protocol.outcomes.primary]
    due = with_baseline(cohort, measure, visit)
    n_unseen = int((due["value"].isna() & (due["baseline"] > 0)).sum())
    for percent in cohort.protocol.outcomes.responder_percents:
        k = int(is_responder(due["baseline"], due["value"], percent, measure.direction).sum())
        for name, more in (("none", 0), ("all", n_unseen)):
            key = Key("missing", "responder_bound", STARTED, measure.id, visit, f"{percent}: {name}")
            yield share_row(key, k + more, len(due), n_missing=n_unseen)
