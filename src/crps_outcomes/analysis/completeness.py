"""How much of what was planned was recorded, and what was refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.members import behind
from crps_outcomes.analysis.rows import DESCRIPTION, Key, described_share_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row


def completeness(cohort: Cohort) -> list[Row]:
    """Values recorded of values due, for every outcome and visit; refused resources by rule."""
    return [*_completed(cohort), *_quality(cohort)]


def _completed(cohort: Cohort) -> Iterator[Row]:
    for measure in cohort.outcome_measures:
        for visit in ("baseline", *cohort.visits):
            if visit == "baseline" and measure.domain == "global change":
                continue  # it asks about change, so it has no baseline
            seen = cohort.at(measure.id, visit, TREATED)
            k, due = seen.n_observed, seen.n_due
            reason = f"{DESCRIPTION}; {seen.n_not_due} not due by {cohort.as_of}" if seen.n_not_due else DESCRIPTION
            key = Key("completeness", "completed", TREATED, measure.id, visit)
            found = described_share_row(key, k, due, reason=reason, n_missing=due - k)
            people, is_due = seen.subject_id, seen.state != "not due"
            absent = people[is_due & ~seen.is_observed]
            yield behind(found, k=people[seen.is_observed], n=people[is_due], n_missing=absent)


def _quality(cohort: Cohort) -> Iterator[Row]:
    rejections = cohort.tables.rejections
    for rule, k in rejections["rule"].value_counts().sort_index().items():
        key = Key("completeness", "quality", group=str(rule))
        records = rejections["resource_ref"]
        found = described_share_row(key, int(k), len(rejections))
        yield behind(found, k=records[rejections["rule"] == rule], n=records)
