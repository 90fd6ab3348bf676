"""Analyse: the whole cohort's tables into ESTIMATES and COUNTS, checked to add up before anybody reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crps_outcomes.analysis.cohort import TREATED, Cohort
from crps_outcomes.analysis.completeness import completeness
from crps_outcomes.analysis.context import context
from crps_outcomes.analysis.course import course
from crps_outcomes.analysis.dosing import dosing
from crps_outcomes.analysis.durability import durability
from crps_outcomes.analysis.endpoints import endpoints
from crps_outcomes.analysis.exposure_response import exposure_response
from crps_outcomes.analysis.flow import flow, flow_members
from crps_outcomes.analysis.function import function
from crps_outcomes.analysis.identities import NAMES, identities, settle, shown_counts
from crps_outcomes.analysis.members import Members, collected
from crps_outcomes.analysis.missing import missing
from crps_outcomes.analysis.natural_course import natural_course
from crps_outcomes.analysis.pain import pain
from crps_outcomes.analysis.participants import participants
from crps_outcomes.analysis.precision import precision
from crps_outcomes.analysis.quality import quality
from crps_outcomes.analysis.responders import OBSERVED, responders
from crps_outcomes.analysis.response_rules import response_rules
from crps_outcomes.analysis.safety import safety
from crps_outcomes.errors import PipelineError
from crps_outcomes.tables import FULL_ESTIMATES, build

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    import pandas as pd

    from crps_outcomes.study import Study
    from crps_outcomes.tables import Tables

SECTIONS = (
    participants,
    dosing,
    endpoints,
    pain,
    course,
    natural_course,
    responders,
    response_rules,
    durability,
    function,
    exposure_response,
    missing,
    precision,
    safety,
    completeness,
    context,
    quality,
)


@dataclass(frozen=True)
class Analysis:
    """Every number a report may print (ESTIMATES), the cohort flow (COUNTS), and who is behind them."""

    estimates: pd.DataFrame
    counts: pd.DataFrame
    members: Members = field(default_factory=Members, repr=False)


def analyse(tables: Tables, study: Study, *, as_of: date, not_enrolled: Mapping[str, int] | None = None) -> Analysis:
    """All statistics of the report about one cohort.

    Args:
        tables: the tables of the whole cohort, all partitions together.
        study: its protocol names the measures, visits and cut-offs.
        as_of: the day the data are as of; visits not due by then are not missing.
        not_enrolled: people on the source's list who are not enrolled, by reason; None when nobody knows.

    Raises:
        PipelineError: two numbers that should agree do not; it names their ids.
    """
    cohort = Cohort(tables, study, as_of)
    rows = [row for section in SECTIONS for row in section(cohort)]
    members = collected(rows, NAMES).with_counts(flow_members(cohort, not_enrolled))
    analysis = Analysis(build(FULL_ESTIMATES, rows), flow(cohort, not_enrolled), members)
    reconcile(analysis, cohort)
    return analysis


def reconcile(analysis: Analysis, cohort: Cohort) -> None:
    """Boxes, sums and denominators agree with each other and with the flags of the tables, or the run stops."""
    shown = shown_counts(analysis.estimates, analysis.counts)
    steps = analysis.counts.sort_values("order")["step"]
    values = settle(shown, identities({one.quantity for one in shown}, cohort.study, steps))
    _same("counts/analysed/n_subjects", values["people/analysed"], "subjects without exclusion", _not_excluded(cohort))
    for (visit, column), flagged in _flagged(cohort).items():
        percent = column.removeprefix("is_responder_")
        number = f"responders/responder/{OBSERVED}/{cohort.protocol.outcomes.primary}/{visit}/{percent}"
        _same(number, values.get(f"better/{visit}/{percent}", flagged), f"outcomes/{column}", flagged)


def _not_excluded(cohort: Cohort) -> int:
    return int((cohort.populations["enrolled"]["exclusion"] == "").sum())


def _flagged(cohort: Cohort) -> dict[tuple[str, str], int]:
    """How many people OUTCOMES calls responders, by visit and column."""
    outcomes = cohort.of(cohort.tables.outcomes, TREATED)
    own = outcomes[outcomes["measure"] == cohort.protocol.outcomes.primary]
    sums = own.groupby("visit", sort=True)[["is_responder_30", "is_responder_50"]].sum().to_dict()
    return {(str(visit), str(column)): int(k) for column, by_visit in sums.items() for visit, k in by_visit.items()}


def _same(one: str, value: int, other: str, expected: int) -> None:
    if value != expected:
        raise PipelineError(f"{one} and {other} should be the same number and are not")
