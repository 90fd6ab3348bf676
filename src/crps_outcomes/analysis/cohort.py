"""The one object that says who is in which analysis set; every section asks it and nobody counts people alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from crps_outcomes.estimators import as_floats, as_nullable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    from numpy.typing import NDArray

    from crps_outcomes.definitions import Measure, Protocol
    from crps_outcomes.estimators import Values
    from crps_outcomes.study import Study
    from crps_outcomes.tables import Tables

TREATED = "treated"
ANALYSED = "analysed"
NOT_ANALYSED = "not analysed"


@dataclass(frozen=True, eq=False)
class Visited:
    """One measure at one visit for one population, an entry per person: arrays, because they are asked so often.

    ``columns`` holds value, baseline and change as floats, nan where there is none.
    """

    subject_id: NDArray[np.object_]
    state: NDArray[np.object_]
    columns: Mapping[str, Values]

    @cached_property
    def is_observed(self) -> NDArray[np.bool_]:
        return np.asarray(self.state == "observed", dtype=np.bool_)

    @property
    def n_observed(self) -> int:
        return int(self.is_observed.sum())

    @property
    def n_not_due(self) -> int:
        return int((self.state == "not due").sum())

    @property
    def n_due(self) -> int:
        return len(self.state) - self.n_not_due

    @property
    def due(self) -> frozenset[str]:
        """The people whose visit is due."""
        return frozenset(self.subject_id[self.state != "not due"])

    def values(self, column: str = "value") -> Values:
        """The numbers of the observed entries that are there."""
        found = self.columns[column][self.is_observed]
        return found[~np.isnan(found)]

    def who(self, column: str = "value") -> list[str]:
        """The people behind ``values``, in the same order."""
        return [str(one) for one in self.subject_id[self.is_observed & ~np.isnan(self.columns[column])]]

    def lacking(self, column: str = "value") -> list[str]:
        """The people who are due and have no such number."""
        have = self.is_observed & ~np.isnan(self.columns[column])
        return [str(one) for one in self.subject_id[~have & (self.state != "not due")]]

    def people(self, chosen: NDArray[np.bool_]) -> pd.DataFrame:
        """Value, baseline and change of the people chosen, by subject_id."""
        numbers = {name: as_nullable(numbers[chosen]) for name, numbers in self.columns.items()}
        return pd.DataFrame(numbers, index=pd.Index(self.subject_id[chosen], name="subject_id"))


@dataclass(frozen=True)
class Cohort:
    """Tables, study and as-of day, with the analysis sets worked out once from the flags of SUBJECTS."""

    tables: Tables
    study: Study
    as_of: date | None = None  # only the words about visits not yet due need it

    def once(self, make: Callable[..., pd.DataFrame], *about: str) -> pd.DataFrame:
        """What ``make`` says of this cohort (and of a measure, ...), worked out the first time it is asked for."""
        if (make, *about) not in self._made:
            self._made[make, *about] = make(self, *about)
        return self._made[make, *about]

    @cached_property
    def _made(self) -> dict[tuple[Any, ...], pd.DataFrame]:
        return {}

    @property
    def protocol(self) -> Protocol:
        return self.study.protocol

    @property
    def visits(self) -> tuple[str, ...]:
        """The planned visits, without baseline."""
        return tuple(visit.id for visit in self.protocol.visits)

    @cached_property
    def populations(self) -> Mapping[str, pd.DataFrame]:
        """SUBJECTS of each population. Analysed and not analysed make up treated."""
        subjects = self.tables.subjects
        treated = subjects[subjects["is_treated"]]
        return {
            "enrolled": subjects,
            TREATED: treated,
            ANALYSED: treated[treated["is_analysed"]],
            NOT_ANALYSED: treated[~treated["is_analysed"]],
        }

    def n(self, population: str) -> int:
        return len(self.populations[population])

    def people(self, population: str) -> pd.Series:
        """The subject ids of a population."""
        return self.populations[population]["subject_id"]

    def of(self, frame: pd.DataFrame, population: str) -> pd.DataFrame:
        """The rows of any table that belong to a population."""
        return frame[frame["subject_id"].isin(self.people(population))]

    @cached_property
    def _outcomes(self) -> Mapping[tuple[str, str, str], Visited]:
        found = {}
        for population in (TREATED, ANALYSED):
            frame = self.of(self.tables.outcomes, population)
            arrays = _arrays(frame)
            places = cast("dict[tuple[str, str], NDArray[np.intp]]", frame.groupby(["measure", "visit"]).indices)
            for (measure, visit), at in places.items():
                found[population, measure, visit] = _taken(arrays, at)
        return found

    def at(self, measure: str, visit: str, population: str) -> Visited:
        """One measure at one visit for the treated or the analysed."""
        return self._outcomes.get((population, measure, visit)) or _taken(_arrays(self.tables.outcomes.iloc[:0]), _NONE)

    @cached_property
    def outcome_measures(self) -> tuple[Measure, ...]:
        """The measures the protocol declares as outcomes, in the order of their ids."""
        return self.study.reported

    @cached_property
    def scales(self) -> tuple[Measure, ...]:
        """Function, then the secondary measures, each once: what stands beside pain."""
        plan = self.protocol.outcomes
        return tuple(self.study.measures[name] for name in dict.fromkeys((plan.function, *plan.secondary)))

    @cached_property
    def administrations(self) -> pd.DataFrame:
        """DOSES of treated people, every route."""
        return self.of(self.tables.doses, TREATED)

    @cached_property
    def session_doses(self) -> pd.DataFrame:
        """DOSES of treated people that belong to an intramuscular session."""
        doses = self.administrations
        return doses[doses["session"].notna()]

    @cached_property
    def sessions(self) -> pd.DataFrame:
        """One row per treated person and intramuscular session.

        Columns: subject_id, session, series, began_at (first injection, UTC, missing where no instant is known),
        began_on, first_dose_on, dose_mg and mg_per_kg (sums; missing as soon as one injection has none).
        """
        grouped = self.session_doses.groupby(["subject_id", "session"], sort=True, observed=True)
        frame = pd.DataFrame(
            {
                "series": grouped["series"].first(),
                "began_at": grouped["given_at"].min(),
                "began_on": grouped["given_on"].min(),
                "dose_mg": grouped["dose_mg"].sum(skipna=False),
                "mg_per_kg": grouped["mg_per_kg"].sum(skipna=False),
            }
        ).reset_index()
        first_days = self.populations[TREATED][["subject_id", "first_dose_on"]]
        return frame.merge(first_days, on="subject_id", how="left", validate="many_to_one")


_NONE = np.array([], dtype="int64")


def _arrays(outcomes: pd.DataFrame) -> Visited:
    columns = {name: as_floats(outcomes[name]) for name in ("value", "baseline", "change")}
    return Visited(outcomes["subject_id"].to_numpy("object"), outcomes["state"].to_numpy("object"), columns)


def _taken(all_of_them: Visited, at: NDArray[np.int64]) -> Visited:
    columns = {name: numbers[at] for name, numbers in all_of_them.columns.items()}
    return Visited(all_of_them.subject_id[at], all_of_them.state[at], columns)
