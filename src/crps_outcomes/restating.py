"""A report beside the last one of its kind: both snapshots, both study folders, both programs, as far as the home kept them.

People and records are compared here and counted; nothing about one of them leaves this module.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pandas as pd

from crps_outcomes import derive
from crps_outcomes.asking import clinical_types
from crps_outcomes.errors import IncompleteDataError
from crps_outcomes.headlines import footprint, headlines
from crps_outcomes.restatement import THEN, Again, FileChange, Restatement, View, Why, counted, moved, why
from crps_outcomes.snapshot import open_snapshot
from crps_outcomes.stages import analyse
from crps_outcomes.state import Records, Verdicts
from crps_outcomes.study import file_digests
from crps_outcomes.tables import ESTIMATES, build

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crps_outcomes.definitions import ReportDefinition
    from crps_outcomes.headlines import Headline
    from crps_outcomes.home import Home
    from crps_outcomes.plan_history import PlanChange
    from crps_outcomes.provenance import Provenance
    from crps_outcomes.restatement import Kind, Moved
    from crps_outcomes.state import RunRow
    from crps_outcomes.tables import Tables

NUMBERS = ("n", "n_missing", "k", "estimate", "lower", "upper", "sd")
CLOSE = 1e-9  # relative: what another order of the same sums makes of a number


@dataclass(frozen=True)
class Both:
    """The data of the last report and of this one, each by the study folder and the program of today."""

    plan_then: derive.Plan
    then: Tables
    plan: derive.Plan
    now: Tables
    moved: Mapping[str, Moved]
    views: tuple[View, View]

    @property
    def gone(self) -> dict[str, Kind]:
        """Who entered or left."""
        then, now = (view.people.enrolled.keys() for view in self.views)
        entered: dict[str, Kind] = dict.fromkeys(now - then, "entered")
        return entered | dict.fromkeys(then - now, "left")


def restated(
    place: Home, before: RunRow | None, now: Provenance, plan: derive.Plan, tables: Tables
) -> Restatement | None:
    """What changed since the last report of this kind; None for the first one.

    Args:
        place: the home folder, with what is left of the last report.
        before: the run to compare with.
        now: of this report, with its plan's history.
        plan: the derivation of this report.
        tables: what came of it.
    """
    if before is None:
        return None
    rules = _rules(place, before, now, plan)
    return (
        rules
        if now.edition == "release"
        else _with_data(rules, place, before, plan, tables, plan.study.reports[now.report])
    )


# --- plan, definitions, program -------------------------------------------------------------------------------------


def _rules(place: Home, before: RunRow, now: Provenance, plan: derive.Plan) -> Restatement:
    """What holds for both editions: nothing here comes from patients' data."""
    record = _record(place, before)
    software = (
        record.get("software", {}) if before.code != now.code or record.get("software") != dict(now.software) else {}
    )
    return Restatement(
        run_id=before.run_id,
        as_of=before.as_of,
        snapshot=before.snapshot,
        is_report_kept=bool(record),
        plan=_plan_changes(record, before, now),
        study=(before.study, now.study) if before.study != now.study else ("", ""),
        files=() if before.study == now.study else _files(place, before, plan),
        code=(before.code, now.code) if before.code != now.code else ("", ""),
        versions=tuple(
            (name, software.get(name, ""), version)
            for name, version in sorted(now.software.items())
            if software and software.get(name, "") != version
        ),
    )


def _record(place: Home, before: RunRow) -> dict[str, Any]:
    path = place.runs / before.run_id / "provenance.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _plan_changes(record: Mapping[str, Any], before: RunRow, now: Provenance) -> tuple[PlanChange, ...]:
    """The changes the last report did not know of; where it is gone, those of a later day."""
    if record:
        return now.plan.changes[len(record.get("plan", {}).get("changes", ())) :]
    return tuple(one for one in now.plan.changes if one.on > before.as_of)


def _files(place: Home, before: RunRow, plan: derive.Plan) -> tuple[FileChange, ...] | None:
    then, today = Records(place.state_url).files_of(before.study), file_digests(plan.study.root)
    if then is None:
        return None
    changed = sorted(name for name in then.keys() | today.keys() if then.get(name) != today.get(name))
    return tuple(FileChange(name, then.get(name, ""), today.get(name, "")) for name in changed)


# --- data -----------------------------------------------------------------------------------------------------------


def _with_data(  # noqa: PLR0913, PLR0917 - two reports, each with all it is made of
    rules: Restatement, place: Home, before: RunRow, plan: derive.Plan, tables: Tables, report: ReportDefinition
) -> Restatement:
    then = _estimates(place, before)
    both = _both(place, before, plan, tables)
    known = replace(rules, then=_renamed(then), is_report_kept=rules.is_report_kept and not then.empty)
    if both is None:
        return replace(known, is_data_kept=False)
    again = _again(both) if rules.rules_changed else None
    return replace(
        known,
        reasons=counted(both.moved, *both.views, _behind_scores(both)),
        whys=_whys(both, report, then, again),
        again=_compared(then, again) if again is not None and not then.empty else None,
    )


def _both(place: Home, before: RunRow, plan: derive.Plan, tables: Tables) -> Both | None:
    """None where the snapshot of the last report is not there any more, or damaged."""
    try:
        snapshot = open_snapshot(place.snapshots / before.snapshot)
    except IncompleteDataError:
        return None
    earlier = derive.plan(snapshot, plan.study, place, as_of=date.fromisoformat(before.as_of))
    for number in range(earlier.partitions):  # nothing to do while study folder and program stay as they were
        derive.derive_partition(earlier, number, Verdicts(place.state_url))
    views = _view(earlier), _view(plan)
    protocol = plan.study.protocol
    found = moved(*views, clinical_types(protocol), protocol.timezone)
    return Both(earlier, derive.gather(earlier), plan, tables, found, views)


def _view(plan: derive.Plan) -> View:
    return View(plan.snapshot, plan.as_of, derive.enrolled_people(plan.snapshot, plan.study, plan.as_of))


def _behind_scores(both: Both) -> frozenset[str]:
    return frozenset(
        ref for one in (both.then, both.now) for refs in one.outcomes["source_refs"] for ref in refs.split()
    )


def _again(both: Both) -> pd.DataFrame:
    """ESTIMATES of the data of then, by the study folder and the program of today."""
    plan = both.plan_then
    return analyse.analyse(both.then, plan.study, as_of=plan.as_of, not_enrolled=derive.not_enrolled(plan)).estimates


def _whys(both: Both, report: ReportDefinition, then: pd.DataFrame, again: pd.DataFrame | None) -> dict[str, Why]:
    study, is_later = both.plan.study, both.plan.as_of > both.plan_then.as_of
    found = {}
    for one in headlines(study, report, then):
        old, new = (footprint(tables, study, one.rests) for tables in (both.then, both.now))
        people = why(old, new, both.moved, both.gone, is_later=is_later)
        by_rules = False if again is None else not _agree(_row(then, one), _row(again, one))
        found[one.id] = Why(tuple(sorted(people.items())), by_rules)
    return found


# --- figures of the last report -------------------------------------------------------------------------------------


def _estimates(place: Home, before: RunRow) -> pd.DataFrame:
    """ESTIMATES as the last report published it; empty where its files are gone."""
    path = place.runs / before.run_id / "estimates.csv"
    if not path.is_file():
        return build(ESTIMATES, ())
    with path.open(encoding="utf-8", newline="") as lines:
        return build(ESTIMATES, (_read(row) for row in csv.DictReader(lines)))


def _read(row: Mapping[str, str]) -> dict[str, Any]:
    """A row of a CSV file, with numbers as numbers and texts without the apostrophe that keeps them from being formulas."""
    return {
        name: (float(row[name]) if row.get(name) else None) if name in NUMBERS else row.get(name, "").removeprefix("'")
        for name in ESTIMATES.columns
    }


def _renamed(then: pd.DataFrame) -> pd.DataFrame:
    return then.assign(estimate_id=THEN + then["estimate_id"])


def _row(estimates: pd.DataFrame, one: Headline) -> tuple[Any, ...] | None:
    own = estimates[(estimates["section"] == one.section) & (estimates["statistic"] == one.statistic)]
    for name, value in one.keys.items():
        own = own[own[name] == value]
    return None if own.empty else tuple(own[list(NUMBERS)].iloc[0])


def _agree(one: tuple[Any, ...] | None, two: tuple[Any, ...] | None) -> bool:
    if one is None or two is None:
        return one is two
    return all(_same(a, b) for a, b in zip(one, two, strict=True))


def _same(one: Any, two: Any) -> bool:
    if pd.isna(one) or pd.isna(two):
        return bool(pd.isna(one) and pd.isna(two))
    return bool(abs(one - two) <= CLOSE * max(1.0, abs(one), abs(two)))


def _compared(then: pd.DataFrame, again: pd.DataFrame) -> Again:
    """How many of the figures of then come out the same."""
    numbers = list(NUMBERS)
    known = {row[0]: row[1:] for row in again[["estimate_id", *numbers]].itertuples(index=False, name=None)}
    printed = list(then[["estimate_id", *numbers]].itertuples(index=False, name=None))
    return Again(sum(_agree(row[1:], known.get(row[0])) for row in printed), len(printed))
