"""What a report section may ask: releasable estimates, counts and definitions, and nothing else.

A row that is absent or suppressed is answered too: by an `Estimate` without numbers whose ``mark`` says why, so that a
section always has something honest to print.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from crps_outcomes.language import day, strings
from crps_outcomes.marks import NOT_AVAILABLE, PROTECTED
from crps_outcomes.traced import mark, plain, traced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import date

    from crps_outcomes.definitions import Measure, Protocol, ReportDefinition, Visit
    from crps_outcomes.disclosure import Releasable
    from crps_outcomes.language import Strings
    from crps_outcomes.provenance import Provenance
    from crps_outcomes.study import Study


@dataclass(frozen=True)
class Estimate:
    """One row of ESTIMATES. ``mark`` is "" when its numbers may be printed, else what is printed in their place."""

    id: str = ""  # of its row, where the report is traced
    statistic: str = ""
    population: str = ""
    measure: str = ""
    visit: str = ""
    group: str = ""
    n: int | None = None
    n_missing: int | None = None
    k: int | None = None
    estimate: float | None = None
    lower: float | None = None
    upper: float | None = None
    sd: float | None = None
    method: str = ""
    reason: str = ""
    mark: str = NOT_AVAILABLE

    def key(self, text: str) -> str:
        """A text out of the row's own key, such as a week or a grade, that remembers the row."""
        return mark(text, self.id)

    @property
    def has_interval(self) -> bool:
        return not self.mark and None not in (self.estimate, self.lower, self.upper)


ABSENT = Estimate(reason="no data")
MONTHS = "quality"  # the section of ESTIMATES whose numbers only the report that lists it holds


@dataclass(frozen=True)
class Step:
    """One box of the cohort flow; None where the count is hidden."""

    step: str
    stage: str
    label: str
    n: int | None
    n_left: int | None
    reason: str


@dataclass(frozen=True)
class Facts:
    """Everything a section function gets: the releasable numbers, the study's definitions and where both come from."""

    releasable: Releasable
    study: Study
    report: ReportDefinition
    provenance: Provenance
    is_traced: bool = False  # whether every number remembers its id and marks the text that prints it

    @property
    def protocol(self) -> Protocol:
        return self.study.protocol

    @property
    def lang(self) -> str:
        return self.provenance.form.lang

    @cached_property
    def words(self) -> Strings:
        """The catalogue of the run's language."""
        return strings(self.study.root, self.lang)

    def day(self, value: date) -> str:
        """A date as the run's language writes it."""
        return day(value, self.lang)

    @property
    def is_release(self) -> bool:
        return self.releasable.edition == "release"

    def nothing(self, text: str) -> str:
        """What stands where a table has no row: in a release it may have rows, none of which may be shown."""
        return "Nothing of the kind is on record, or nothing that may be shown." if self.is_release else text

    @property
    def threshold(self) -> int:
        return self.releasable.threshold

    @property
    def primary(self) -> Measure:
        return self.study.measures[self.protocol.outcomes.primary]

    @property
    def function(self) -> Measure:
        return self.study.measures[self.protocol.outcomes.function]

    @cached_property
    def visits(self) -> tuple[Visit, ...]:
        return tuple(sorted(self.protocol.visits, key=lambda visit: visit.day))

    def visit(self, visit_id: str) -> Visit:
        return next(visit for visit in self.visits if visit.id == visit_id)

    @property
    def primary_visit(self) -> Visit:
        return self.visit(self.protocol.outcomes.primary_visit)

    @property
    def later_visit(self) -> Visit:
        return self.visit(self.protocol.outcomes.later_visit)

    @cached_property
    def outcome_measures(self) -> tuple[Measure, ...]:
        """The primary measure, function, the other secondary measures and global change, in this order."""
        plan = self.protocol.outcomes
        wanted = dict.fromkeys((plan.primary, plan.function, *plan.secondary, plan.global_change))
        return tuple(self.study.measures[measure_id] for measure_id in wanted)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The cohort flow in order."""
        frame = self.releasable.counts.sort_values("order", kind="stable")
        return tuple(
            Step(
                row["step"],
                row["stage"],
                row["label"],
                self.told(_whole(row["n_subjects"]), f"counts/{row['step']}/n_subjects"),
                self.told(_whole(row["n_left"]), f"counts/{row['step']}/n_left"),
                self.told(row["reason"], f"counts/{row['step']}/reason"),
            )
            for row in frame.to_dict("records")
        )

    def told(self, value: Any, ref: str) -> Any:
        """A number, or a text with numbers in it, that remembers its id where the report is traced."""
        if not self.is_traced:
            return value
        return mark(plain(value), ref) if isinstance(value, str) else traced(value, ref)

    def n_at(self, step: str) -> int | None:
        """How many people are in a box of the flow; None when the box is hidden or does not exist."""
        return next((item.n for item in self.steps if item.step == step), None)

    def one(self, section: str, statistic: str, **keys: str) -> Estimate:
        """The estimate with these keys, or one without numbers that says there is none."""
        return next(iter(self.every(section, statistic, **keys)), ABSENT)

    def every(self, section: str, statistic: str, **keys: str) -> tuple[Estimate, ...]:
        """All estimates of a statistic whose keys (population, measure, visit, group) are the ones given."""
        rows = self._rows.get((section, statistic), ())
        return tuple(row for row in rows if all(getattr(row, name) == plain(value) for name, value in keys.items()))

    @property
    def n_intervals(self) -> int:
        """How many confidence intervals the numbers of the report have; quartiles and ranges are none."""
        held = ((section, rows) for (section, _), rows in self._rows.items())
        own = (rows for section, rows in held if section != MONTHS or MONTHS in self.report.sections)
        every = (row for rows in own for row in rows)
        found = sum(row.has_interval and not row.method.startswith("median (") for row in every)
        n: int = self.told(found, "estimates/intervals")
        return n

    @cached_property
    def _rows(self) -> Mapping[tuple[str, str], tuple[Estimate, ...]]:
        found: dict[tuple[str, str], list[Estimate]] = {}
        for row in self.releasable.estimates.to_dict("records"):
            found.setdefault((row["section"], row["statistic"]), []).append(
                _estimate(row, self.threshold, self.told, row["estimate_id"] if self.is_traced else "")
            )
        return {key: tuple(rows) for key, rows in found.items()}


_WORDS = ("statistic", "population", "measure", "visit", "group", "method", "reason")
_COUNTS, _NUMBERS = ("n", "n_missing", "k"), ("estimate", "lower", "upper", "sd")


def _estimate(row: Mapping[Any, Any], threshold: int, remembered: Callable[[Any, str], Any], own: str) -> Estimate:
    named: dict[str, Any] = {"id": own} | {name: plain(row[name]) for name in _WORDS}
    mark = {"": "", "low": f"<{threshold}", "c": PROTECTED}[row["suppressed"]]
    if not mark:
        numbers = {name: _whole(row[name]) for name in _COUNTS} | {name: _real(row[name]) for name in _NUMBERS}
        named |= {name: remembered(value, row["estimate_id"]) for name, value in numbers.items()}
        known = named["estimate"] is not None or (named["k"] is not None and named["n"] != 0)
        mark = "" if known else NOT_AVAILABLE
    return Estimate(**named, mark=mark)


def _whole(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _real(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def shown(estimates: Iterable[Estimate]) -> tuple[Estimate, ...]:
    """The estimates whose numbers may be printed."""
    return tuple(row for row in estimates if not row.mark)
