"""One person's rows of every table, and who that is on paper: a code, never a name, initials or an identifier of the source."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.language import day
from crps_outcomes.series import BASELINE
from crps_outcomes.traced import mark, plain, traced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import date

    from crps_outcomes.definitions import Measure, Visit
    from crps_outcomes.provenance import Provenance
    from crps_outcomes.study import Study
    from crps_outcomes.tables import Tables


@dataclass(frozen=True)
class Score:
    """A score of one person at the baseline or at a visit; ``week`` since the first dose, ``refs``: what it was read from."""

    visit: str
    week: float
    value: float
    refs: tuple[str, ...]
    on: date | None


@dataclass(frozen=True)
class Person:
    """What a page about one person is made from: rows of theirs only, the study, and where both come from."""

    code: str
    tables: Tables
    study: Study
    provenance: Provenance
    is_traced: bool = False  # whether every number remembers its row and marks the text that prints it

    def told(self, value: Any, ref: str) -> Any:
        """A number, or a text with numbers in it, that remembers its row where the page is traced."""
        if not self.is_traced:
            return value
        return mark(plain(value), ref) if isinstance(value, str) else traced(value, ref)

    def day(self, value: date) -> str:
        return day(value, self.provenance.form.lang)

    @cached_property
    def cohort(self) -> Cohort:
        """The same rows as a cohort of one, for what works per session.

        Somebody without a diagnosis of CRPS on record counts here too: the page is about the person, not about a result.
        """
        subjects = self.tables.subjects.assign(is_treated=True)
        return Cohort(replace(self.tables, subjects=subjects), self.study, self.provenance.as_of)

    @property
    def first_dose_on(self) -> date:
        return cast("date", self.tables.subjects["first_dose_on"].iloc[0].date())

    @cached_property
    def visits(self) -> tuple[Visit, ...]:
        return tuple(sorted(self.study.protocol.visits, key=lambda visit: visit.day))

    def label(self, visit: str) -> str:
        """The visit inside a sentence: "the start", "week 4"."""
        labels = {one.id: one.label[:1].lower() + one.label[1:] for one in self.visits}
        return {BASELINE: "the start", **labels}[visit]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The primary measure, function, the other secondary measures and global change, in this order."""
        plan = self.study.protocol.outcomes
        wanted = dict.fromkeys((plan.primary, plan.function, *plan.secondary, plan.global_change))
        return tuple(self.study.measures[name] for name in wanted)

    def scores(self, measure: str) -> tuple[Score, ...]:
        """Every score of a measure, from the baseline on, those of windows that are still open with them."""
        return self._scores.get(measure, ())

    @cached_property
    def _scores(self) -> Mapping[str, tuple[Score, ...]]:
        found: dict[str, list[Score]] = {}
        outcomes = self.tables.outcomes
        for row in records(outcomes[outcomes[["value", "provisional"]].notna().any(axis=1)]):
            found.setdefault(row["measure"], []).append(self._score(row))
        return {measure: tuple(sorted(own, key=lambda one: one.week)) for measure, own in found.items()}

    def _score(self, row: Mapping[str, Any]) -> Score:
        """A score without a day of its own stands at the planned one, a baseline at the first dose."""
        planned = {BASELINE: 0, **{visit.id: visit.day for visit in self.visits}}[row["visit"]]
        number = planned if pd.isna(row["study_day"]) else int(row["study_day"])
        on = None if pd.isna(row["taken_on"]) else row["taken_on"].date()
        score = row["provisional"] if pd.isna(row["value"]) else row["value"]
        value = self.told(float(score), f"outcomes/{row['measure']}/{row['visit']}")
        return Score(row["visit"], number / 7, value, tuple(row["source_refs"].split()), on)

    @cached_property
    def sessions(self) -> tuple[dict[str, Any], ...]:
        """Intramuscular sessions in their order: session, week, began_on, dose_mg, mg_per_kg and refs."""
        doses = self.tables.doses
        return tuple(
            {
                **row,
                **{name: self.told(row[name], f"doses/session/{row['session']}") for name in ("dose_mg", "mg_per_kg")},
                "week": (row["began_on"].date() - self.first_dose_on).days / 7,
                "refs": tuple(doses.loc[doses["session"] == row["session"], "source_ref"]),
            }
            for row in records(self.cohort.sessions.sort_values("session"))
        )

    @property
    def n_sessions(self) -> int:
        n: int = self.told(len(self.sessions), "doses/sessions")
        return n

    @cached_property
    def other_doses(self) -> tuple[dict[str, Any], ...]:
        """Administrations that belong to no intramuscular session."""
        doses = self.tables.doses
        others = records(doses[doses["session"].isna()].sort_values("given_on"))
        return tuple({**one, "dose_mg": self.told(one["dose_mg"], f"doses/{one['source_ref']}")} for one in others)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries."""
    return cast("list[dict[str, Any]]", frame.to_dict("records"))


def each(
    tables: Tables, study: Study, provenance: Provenance, code_of: Callable[[str], str]
) -> Iterator[tuple[str, Person]]:
    """Every enrolled person with a first dose, by code, in the order of the codes."""
    dosed = tables.subjects.loc[tables.subjects["first_dose_on"].notna(), "subject_id"]
    for code, subject in sorted((code_of(str(one)), str(one)) for one in dosed):
        yield code, Person(code, of_one(tables, subject), study, provenance)


def of_one(tables: Tables, subject: str) -> Tables:
    """The rows of one person; what has no person in it (ledger, rejections, changes) is left out."""

    def own(frame: pd.DataFrame) -> pd.DataFrame:
        if "subject_id" not in frame.columns:
            return frame.iloc[:0]
        return frame[frame["subject_id"] == subject].reset_index(drop=True)

    return replace(tables, **{one.name: own(getattr(tables, one.name)) for one in fields(tables)})
