"""What somebody in the clinic should see to now: scores to ask for, sessions that were not watched, answers to review.

One row per person and matter. This never leaves the clinic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.quality import closing_visits, sessions_with_monitoring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crps_outcomes.analysis.cohort import Cohort

OVERDUE, MISSED, UNWATCHED, REVIEW = "score overdue", "score missed", "session not fully watched", "answer to review"
#: What is most pressing comes first.
KINDS = (REVIEW, OVERDUE, MISSED, UNWATCHED)
COLUMNS = ("kind", "subject_id", "what", "since_on", "until_on")
_PRESSURE, _OXYGEN = "no blood pressure before and after", "no oxygen saturation"


def actions(cohort: Cohort) -> pd.DataFrame:
    """Every matter, most pressing and oldest first.

    Columns: kind, subject_id, what, since_on (planned day, session, or answer), until_on (last day a score still counts,
    or missing) and days since then.
    """
    if cohort.as_of is None:
        return pd.DataFrame(columns=[*COLUMNS, "days"])
    today = pd.Timestamp(cohort.as_of)
    parts = [*_answers(cohort, today), *_scores(cohort, today), _sessions(cohort, today)]
    found = pd.concat([part.reindex(columns=list(COLUMNS)).astype("object") for part in parts], ignore_index=True)
    since, until = pd.to_datetime(found["since_on"]), pd.to_datetime(found["until_on"])
    rank = found["kind"].map({kind: place for place, kind in enumerate(KINDS)})
    found = found.assign(since_on=since, until_on=until, days=(-(since - today)).dt.days.astype("Int64"), rank=rank)
    found = found.sort_values(["rank", "days", "subject_id", "what"], ascending=[True, False, True, True])
    return found.drop(columns="rank").reset_index(drop=True)


def _scores(cohort: Cohort, today: pd.Timestamp) -> Iterator[pd.DataFrame]:
    """Primary scores not there though their day is over: those that still count, and those missed lately."""
    lately = today - pd.Timedelta(days=cohort.protocol.quality.list_days)
    gone = cohort.tables.intercurrent
    dead = gone.loc[gone["kind"] == "death", "subject_id"]
    for visit in cohort.protocol.visits:
        seen = closing_visits(cohort, visit.id)
        absent = seen[seen["value"].isna() & (seen["planned_on"] < today) & ~seen["subject_id"].isin(dead)]
        closes_on = absent["closes_on"]
        still = closes_on >= today
        kinds = still.map({True: OVERDUE, False: MISSED})
        absent = absent.assign(
            kind=kinds, what=visit.label, since_on=absent["planned_on"], until_on=closes_on.where(still)
        )
        yield absent[closes_on >= lately]


def _sessions(cohort: Cohort, today: pd.Timestamp) -> pd.DataFrame:
    sessions = sessions_with_monitoring(cohort)
    lately = sessions["began_on"] >= today - pd.Timedelta(days=cohort.protocol.quality.list_days)
    lacking = sessions[lately & ~(sessions["has_pressure"] & sessions["has_oxygen"])]
    lacks = zip(lacking["session"], lacking["has_pressure"], lacking["has_oxygen"], strict=True)
    what = [
        f"session {number}: {', '.join(words for words, has in ((_PRESSURE, pressure), (_OXYGEN, oxygen)) if not has)}"
        for number, pressure, oxygen in lacks
    ]
    return lacking.assign(kind=UNWATCHED, what=what, since_on=lacking["began_on"])


def _answers(cohort: Cohort, today: pd.Timestamp) -> Iterator[pd.DataFrame]:
    """Answers that go to a safety review whatever the total, the latest of each kind and person; never the answer itself."""
    observations = cohort.of(cohort.tables.observations, TREATED)
    lately = today - pd.Timedelta(days=cohort.protocol.quality.answer_days)
    found = []
    for signal in cohort.protocol.safety.signals:
        is_item = (observations["measure"] == signal.measure) & (observations["item"] == signal.item)
        own = observations[is_item & (observations["value"] > signal.above) & (observations["taken_on"] >= lately)]
        found.append(own.assign(kind=REVIEW, what=signal.category, since_on=own["taken_on"]))
    if found:
        every = pd.concat(found, ignore_index=True).sort_values("since_on")
        yield every.drop_duplicates(["subject_id", "what"], keep="last")
