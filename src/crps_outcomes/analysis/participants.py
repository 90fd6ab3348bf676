"""Who was treated, who is analysed, and how the two differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes import estimators
from crps_outcomes.analysis.cohort import ANALYSED, NOT_ANALYSED, TREATED
from crps_outcomes.analysis.members import behind
from crps_outcomes.analysis.rows import Key, median_row, row, share_row
from crps_outcomes.estimators import as_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crps_outcomes.analysis.cohort import Cohort
    from crps_outcomes.analysis.rows import Row

POPULATIONS = (TREATED, ANALYSED, NOT_ANALYSED)
COMPARED = "analysed vs not analysed"

#: Every person is in exactly one group of these; the last ones stand in CONTEXT.
OF_SUBJECTS, OF_CONTEXT = ("sex", "crps_type", "crps_match"), ("limb", "budapest", "refractory")
PARTITIONS = (*OF_SUBJECTS, *OF_CONTEXT)
EARLIER, AT_START = "earlier", "at start"
ANYTHING = "anything"


def participants(cohort: Cohort) -> list[Row]:
    """Medians and shares of treated, analysed and not analysed people, their differences, and what happened afterwards."""
    return [*_medians(cohort), *_shares(cohort), *_afterwards(cohort)]


# --- numbers ------------------------------------------------------------------------------------------------------


def _medians(cohort: Cohort) -> Iterator[Row]:
    people = cohort.populations[TREATED].set_index("subject_id")
    for key, unit, values in _numbers(cohort, people):
        by_population = {name: values.reindex(cohort.people(name)) for name in POPULATIONS}
        for name, own in by_population.items():
            missing = int(own.isna().sum())
            found = median_row(_keyed(key, name), as_values(own), unit=unit, n_missing=missing)
            there = own[own.notna()]
            yield behind(found, values=there.items(), n=there.index, n_missing=own.index[own.isna()])
        pair = (as_values(by_population[ANALYSED]), as_values(by_population[NOT_ANALYSED]))
        difference = estimators.standardised_difference(*pair)
        missing = cohort.n(TREATED) - difference.n
        yield row(_keyed(key, COMPARED, "smd"), difference, unit="", n_missing=missing)


def _numbers(cohort: Cohort, people: pd.DataFrame) -> Iterator[tuple[Key, str, pd.Series]]:
    """Key, unit and one value per treated person, by subject_id."""
    years = cohort.tables.context.set_index("subject_id")["years_since_onset"].reindex(people.index)
    yield Key("participants", "median", measure="age_years"), "years", people["age_years"]
    yield Key("participants", "median", measure="years_since_onset"), "years", years
    primary = cohort.study.measures[cohort.protocol.outcomes.primary]
    for measure in {one.id: one for one in (primary, *cohort.scales)}.values():
        seen = cohort.at(measure.id, "baseline", TREATED)
        key = Key("participants", "median", measure=measure.id, visit="baseline")
        yield key, measure.unit_label, seen.people(seen.is_observed)["value"]


# --- shares -------------------------------------------------------------------------------------------------------


def _shares(cohort: Cohort) -> Iterator[Row]:
    for group, holders in _groups(cohort).items():
        key = Key("participants", "share", group=group)
        counts = {name: (int(cohort.people(name).isin(holders).sum()), cohort.n(name)) for name in POPULATIONS}
        for name, (k, n) in counts.items():
            people = cohort.people(name)
            yield behind(share_row(_keyed(key, name), k, n), k=people[people.isin(holders)], n=people)
        pair = (*counts[ANALYSED], *counts[NOT_ANALYSED])
        yield row(_keyed(key, COMPARED, "smd"), estimators.standardised_difference_binary(*pair), unit="")


def _groups(cohort: Cohort) -> Mapping[str, pd.Series]:
    """The subject ids behind each group text, for every group that has a treated person."""
    treated = cohort.populations[TREATED]
    known = cohort.of(cohort.tables.context, TREATED)
    columns = [
        pd.DataFrame({"subject_id": frame["subject_id"], "group": f"{name}: " + frame[name].replace("", "none")})
        for frame, names in ((treated, OF_SUBJECTS), (known, OF_CONTEXT))
        for name in names
    ]
    treatments = cohort.of(cohort.tables.treatments, TREATED)
    for name, column in ((EARLIER, "is_earlier"), (AT_START, "is_at_start")):
        own = treatments[treatments[column]]  # what is not known is not counted
        columns.append(pd.DataFrame({"subject_id": own["subject_id"], "group": f"{name}: " + own["treatment"]}))
    pairs = pd.concat(columns).drop_duplicates()
    return {str(group): part["subject_id"] for group, part in pairs.groupby("group", sort=True)}


# --- after the first dose -----------------------------------------------------------------------------------------


def _afterwards(cohort: Cohort) -> Iterator[Row]:
    """People to whom each kind of intercurrent event happened, and to whom any of them did."""
    events = cohort.of(cohort.tables.intercurrent, TREATED)
    named = (events["kind"] + ": " + events["term"]).str.removesuffix(": ")
    people = {ANYTHING: events["subject_id"]} | {str(name): own for name, own in events["subject_id"].groupby(named)}
    for name, own in people.items():
        found = share_row(Key("participants", "after", TREATED, group=name), own.nunique(), cohort.n(TREATED))
        yield behind(found, k=own.unique(), n=cohort.people(TREATED))


def _keyed(key: Key, population: str, statistic: str = "") -> Key:
    return Key(key.section, statistic or key.statistic, population, key.measure, key.visit, key.group)
