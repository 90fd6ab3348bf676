"""Dose beside change after treatment: exploratory, because nobody was given a dose by chance.

People who respond little are given more, and people who bear little are given less (confounding by indication). The
slope within people compares a person only with that person's own other weeks; it is bent by titration all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crps_outcomes.analysis.cohort import ANALYSED
from crps_outcomes.analysis.rows import LEAST_FOR_INTERVAL, Key, count_row, mean_row, median_row, row
from crps_outcomes.analysis.safety import THIRDS, dose_thirds
from crps_outcomes.analysis.vital_signs import window_readings
from crps_outcomes.estimators import Interval, as_values
from crps_outcomes.slopes import LINE, MIXED, RANKS, Slopes, occasions, rank_correlation, slope, varied, within_between

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row
    from crps_outcomes.definitions import Measure

WITHIN, BETWEEN, TOTAL = "within a person", "between people", "total"
WITHIN_PLAIN = "within a person, mean course left in"
#: Slopes are given per so many mg/kg: a step of one titration, not a whole dose.
STEP = 0.1
FEW = f"fewer than {LEAST_FOR_INTERVAL} people"
CHANGES, WITHOUT_DOSE = "changes with a dose", "changes without a known dose"


def exposure_response(cohort: Cohort) -> list[Row]:
    """Slopes within and between people, the total dose, thirds of the dose, and experience scores, beside the change."""
    pairs = changes_with_doses(cohort)
    people = people_with_doses(cohort)
    return [
        *_counts(pairs),
        *_slopes(cohort, pairs),
        *_totals(cohort, people),
        *_thirds(cohort, people),
        *(_experience(cohort, measure, people["change"]) for measure in experiences(cohort)),
    ]


def _key(statistic: str, cohort: Cohort, group: str = "", visit: str = "") -> Key:
    return Key("exposure_response", statistic, ANALYSED, cohort.protocol.outcomes.primary, visit, group)


# --- what is set beside what ----------------------------------------------------------------------------------------


def changes_with_doses(cohort: Cohort) -> pd.DataFrame:
    """A row per change between neighbouring scores of one analysed person: subject_id, visit, change, mg_per_kg.

    ``mg_per_kg`` is the mean per session from the day of the first score up to the day before the second, whose visit is ``visit``: a score on
    the day of a session is taken as made before it. Missing where no session lies between or one has no dose.
    """
    scores = _scores(cohort, cohort.protocol.outcomes.primary)
    later = scores.groupby("subject_id", sort=True)[["value", "visit"]].shift(-1)
    scores = scores.assign(change=later["value"] - scores["value"], visit=later["visit"], place=range(len(scores)))
    sessions = _sessions(cohort)
    placed = pd.merge_asof(
        sessions.sort_values("day"),
        scores[["subject_id", "day", "place"]].sort_values("day"),
        on="day",
        by="subject_id",
    )
    doses = placed.groupby("place")["mg_per_kg"].agg(lambda own: own.mean(skipna=False))
    pairs = scores[scores["change"].notna()]
    return pairs.assign(mg_per_kg=pairs["place"].map(doses).astype("Float64"))[
        ["subject_id", "visit", "change", "mg_per_kg"]
    ]


def people_with_doses(cohort: Cohort) -> pd.DataFrame:
    """Analysed people with a change at the primary visit, by subject_id: change, total and mean mg/kg before that score."""
    plan = cohort.protocol.outcomes
    seen = cohort.at(plan.primary, plan.primary_visit, ANALYSED)
    changes = seen.people(seen.is_observed)["change"]
    changes = changes[changes.notna()].sort_index()
    by_person = _before_score(cohort, _sessions(cohort)).groupby("subject_id", sort=True)["mg_per_kg"]
    return pd.DataFrame({
        "change": changes, "total": by_person.sum(skipna=False), "mean": by_person.agg(lambda own: own.mean(skipna=False)),
    }).reindex(changes.index)  # fmt: skip


def _before_score(cohort: Cohort, dated: pd.DataFrame) -> pd.DataFrame:
    """The rows, with subject_id and day, of a day before the person's own score of the primary visit."""
    scores = _scores(cohort, cohort.protocol.outcomes.primary)
    until = scores.loc[scores["visit"] == cohort.protocol.outcomes.primary_visit, ["subject_id", "day"]]
    placed = dated.merge(until, on="subject_id", suffixes=("", "_until"), validate="many_to_one")
    return placed[placed["day"] < placed["day_until"]]


def _scores(cohort: Cohort, measure: str) -> pd.DataFrame:
    """subject_id, visit, day, value of the analysed; a score without a day counts on the planned day of its visit."""
    outcomes = cohort.of(cohort.tables.outcomes, ANALYSED)
    own = outcomes[(outcomes["measure"] == measure) & outcomes["value"].notna()]
    planned = own["visit"].map({"baseline": 0} | {visit.id: visit.day for visit in cohort.protocol.visits})
    day = own["study_day"].where(own["study_day"].notna(), planned).astype("int64")
    return own.assign(day=day).sort_values(["subject_id", "day"])[["subject_id", "visit", "day", "value"]]


def _sessions(cohort: Cohort) -> pd.DataFrame:
    """subject_id, day since the first dose, mg_per_kg of every session with a day."""
    sessions = cohort.sessions
    day = (sessions["began_on"] - sessions["first_dose_on"]).dt.days
    return sessions.assign(day=day)[day.notna()].astype({"day": "int64"})[["subject_id", "session", "day", "mg_per_kg"]]


# --- rows -----------------------------------------------------------------------------------------------------------


def _none(n: int, reason: str, method: str) -> Interval:
    return Interval(n, None, None, None, method, reason=reason)


def _unit(cohort: Cohort, per: str) -> str:
    label = cohort.study.measures[cohort.protocol.outcomes.primary].unit_label
    return f"{label.split(',')[0]} per {per}"


def _counts(pairs: pd.DataFrame) -> Iterator[Row]:
    is_known = pairs["mg_per_kg"].notna()
    for group, own in ((CHANGES, pairs[is_known]), (WITHOUT_DOSE, pairs[~is_known])):
        key = Key("exposure_response", "count", ANALYSED, group=group)
        yield count_row(key, len(own), unit="changes", n=own["subject_id"].nunique())


def _slopes(cohort: Cohort, pairs: pd.DataFrame) -> Iterator[Row]:
    """Change per 0.1 mg/kg and session, within and between people, the mean change up to each visit taken out.

    Without that, a course that is the same for all (a fall at first, less later) would pass for an answer to a dose that
    rises with time.
    """
    known = pairs[pairs["mg_per_kg"].notna()]
    doses, people = as_values(known["mg_per_kg"]) / STEP, known["subject_id"].to_numpy("object")
    n = len(np.unique(people))
    reason = f"{FEW} whose dose differed between scores: no slope"
    few = Slopes(_none(n, reason, MIXED), _none(n, reason, MIXED))
    is_enough, changes = varied(doses, people) >= LEAST_FOR_INTERVAL, as_values(known["change"])
    visits = occasions(known["visit"].to_numpy("object"))
    found = within_between(doses, changes, people, visits) if is_enough else few
    plain = within_between(doses, changes, people) if is_enough else few
    for group, one in ((WITHIN, found.within), (BETWEEN, found.between), (WITHIN_PLAIN, plain.within)):
        key = _key("slope", cohort, group)
        yield row(key, one, unit=_unit(cohort, f"{STEP} mg/kg"), n_missing=cohort.n(ANALYSED) - n)


def _totals(cohort: Cohort, people: pd.DataFrame) -> Iterator[Row]:
    """Total mg/kg before the score of the primary visit against the change there."""
    visit, unit = cohort.protocol.outcomes.primary_visit, _unit(cohort, "mg/kg in total")
    known = people[people["total"].notna()]
    n, totals, changes = len(known), as_values(known["total"]), as_values(known["change"])
    is_enough, reason = n >= LEAST_FOR_INTERVAL, f"{FEW}: no estimate"
    line = slope(totals, changes) if is_enough else _none(n, reason, LINE)
    ranks = rank_correlation(totals, changes) if is_enough else _none(n, reason, RANKS)
    n_missing = cohort.n(ANALYSED) - n
    yield row(_key("slope", cohort, TOTAL, visit), line, unit=unit, n_missing=n_missing)
    yield row(_key("rank_correlation", cohort, TOTAL, visit), ranks, unit="", n_missing=n_missing)


def _thirds(cohort: Cohort, people: pd.DataFrame) -> Iterator[Row]:
    """Mean change at the primary visit by third of the person's mean dose per session, never compared."""
    known = people[people["mean"].notna()]
    if len(known) < LEAST_FOR_INTERVAL:
        return
    visit, unit = (
        cohort.protocol.outcomes.primary_visit,
        cohort.study.measures[cohort.protocol.outcomes.primary].unit_label,
    )
    thirds = dose_thirds(known["mean"])
    for third in THIRDS:
        own = known[thirds == third]
        yield mean_row(_key("third_change", cohort, third, visit), as_values(own["change"]), unit=unit)
        yield median_row(_key("third_dose", cohort, third, visit), as_values(own["mean"]), unit="mg/kg")


# --- experience scores ----------------------------------------------------------------------------------------------


def experiences(cohort: Cohort) -> tuple[Measure, ...]:
    """The scales of what a session was like, and dissociation where it is watched."""
    measures = cohort.study.measures
    scales = [one for _, one in sorted(measures.items()) if one.domain == "experience" and one.range_kind == "scale"]
    dissociation = cohort.protocol.safety.dissociation
    return (*scales, measures[dissociation]) if dissociation else tuple(scales)


def _experience(cohort: Cohort, measure: Measure, changes: pd.Series) -> Row:
    """The person's mean score before the score of the primary visit against the change there, by rank."""
    scores = _experienced(cohort, measure)
    known = scores[scores.index.isin(changes.index)]
    own = changes.reindex(known.index)
    key = Key("exposure_response", "experience", ANALYSED, measure.id, cohort.protocol.outcomes.primary_visit)
    n = len(known)
    reason = f"{FEW}: no estimate" if n else "not collected"
    found = rank_correlation(as_values(known), as_values(own)) if n >= LEAST_FOR_INTERVAL else _none(n, reason, RANKS)
    return row(key, found, unit="", n_missing=cohort.n(ANALYSED) - n)


def _experienced(cohort: Cohort, measure: Measure) -> pd.Series:
    """One number per person: the mean of the scores, or of the peaks of the sessions, before the score of the primary visit."""
    if measure.id == cohort.protocol.safety.dissociation:
        peaks = window_readings(cohort, measure.id).merge(_sessions(cohort), on=["subject_id", "session"])
        return _before_score(cohort, peaks).groupby("subject_id")["highest"].mean()
    return _before_score(cohort, _scores(cohort, measure.id)).groupby("subject_id")["value"].mean()
