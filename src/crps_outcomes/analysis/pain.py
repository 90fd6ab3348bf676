"""Pain at each visit and its change after treatment, among the people analysed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes import estimators
from crps_outcomes.analysis.cohort import ANALYSED
from crps_outcomes.analysis.members import behind
from crps_outcomes.analysis.rows import LEAST_FOR_ESTIMATE, Key, mean_row, middle, row, small_n

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crps_outcomes.analysis.cohort import Cohort, Visited
    from crps_outcomes.analysis.rows import Row
    from crps_outcomes.definitions import Measure

QUANTILES = (10, 25, 50, 75, 90)


def pain(cohort: Cohort) -> list[Row]:
    """Means, quantiles, mean and median change of the primary measure."""
    measure = cohort.study.measures[cohort.protocol.outcomes.primary]
    return [
        *means(cohort, "pain", measure),
        *mean_changes(cohort, "pain", measure),
        *_quantiles(cohort, measure),
        *_median_changes(cohort, measure),
    ]


def means(cohort: Cohort, section: str, measure: Measure) -> Iterator[Row]:
    """The mean at baseline and at every visit; missing counts the people whose visit is due and has no value."""
    for visit in ("baseline", *cohort.visits):
        seen = cohort.at(measure.id, visit, ANALYSED)
        values = seen.values()
        found = mean_row(
            Key(section, "mean", ANALYSED, measure.id, visit), values,
            unit=measure.unit_label, n_missing=seen.n_due - len(values),
        )  # fmt: skip
        yield _with_people(found, seen, "value")


def mean_changes(cohort: Cohort, section: str, measure: Measure) -> Iterator[Row]:
    """The mean change from baseline at every visit, of the people with both values."""
    for visit in cohort.visits:
        seen = cohort.at(measure.id, visit, ANALYSED)
        changes = seen.values("change")
        found = mean_row(
            Key(section, "mean_change", ANALYSED, measure.id, visit), changes,
            unit=measure.unit_label, n_missing=seen.n_due - len(changes),
        )  # fmt: skip
        yield _with_people(found, seen, "change")


def _with_people(found: Row, seen: Visited, column: str) -> Row:
    """The row with the people behind it and their values."""
    people, values = seen.who(column), seen.values(column)
    return behind(found, values=zip(people, values, strict=True), n=people, n_missing=seen.lacking(column))


def _quantiles(cohort: Cohort, measure: Measure) -> Iterator[Row]:
    for visit in ("baseline", *cohort.visits):
        seen = cohort.at(measure.id, visit, ANALYSED)
        values = seen.values()
        for percent in QUANTILES:
            found = estimators.quantile(values, percent)
            if found.n < LEAST_FOR_ESTIMATE:
                found = small_n(found)
            key = Key("pain", "quantile", ANALYSED, measure.id, visit, str(percent))
            described = row(key, found, unit=measure.unit_label, n_missing=seen.n_due - len(values))
            yield _with_people(described, seen, "value")


def _median_changes(cohort: Cohort, measure: Measure) -> Iterator[Row]:
    for visit in cohort.visits:
        seen = cohort.at(measure.id, visit, ANALYSED)
        changes = seen.values("change")
        key = Key("pain", "median_change", ANALYSED, measure.id, visit)
        described = row(key, middle(changes), unit=measure.unit_label, n_missing=seen.n_due - len(changes))
        yield _with_people(described, seen, "change")
