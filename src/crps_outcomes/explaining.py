"""From a printed number back to what it was made from: its row, the rule, the rows of people, the resources and versions.

Everything is worked out anew from the snapshot that the run names, by the same study folder; a number that comes out
otherwise is said to. What it returns holds data of single people: for the clinic's own terminal, and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import pandas as pd

from crps_outcomes import derive
from crps_outcomes.analysis.cohort import TREATED, Cohort
from crps_outcomes.analysis.flow import REASONS
from crps_outcomes.analysis.identities import FLOW_NAMES, NAMES
from crps_outcomes.errors import DefinitionError, DisclosureError
from crps_outcomes.explaining_months import rows_of_months
from crps_outcomes.facts import MONTHS
from crps_outcomes.provenance import code_digest
from crps_outcomes.snapshot import open_snapshot
from crps_outcomes.stages import analyse
from crps_outcomes.stages.publish import current
from crps_outcomes.state import Verdicts
from crps_outcomes.traced import short_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from crps_outcomes.home import Home
    from crps_outcomes.snapshot import Snapshot
    from crps_outcomes.stages.analyse import Analysis
    from crps_outcomes.study import Study
    from crps_outcomes.tables import Tables

SHORT = 12  # characters of a digest


@dataclass(frozen=True)
class Rule:
    """How the numbers of a section come about: its heading in docs/statistics.md, what declares it, which tables it reads."""

    heading: str
    declared: tuple[str, ...]
    tables: tuple[str, ...]


COUNTS = "counts"  # what ids of the cohort flow begin with, such as counts/treated/n_subjects
_PLAN = ("protocol.toml [outcomes]", "protocol.toml [plan]")
RULES: Mapping[str, Rule] = {
    "participants": Rule("Participants", ("protocol.toml [context]",), ("subjects", "context", "treatments", "outcomes")),
    "dosing": Rule("Dosing", ("protocol.toml [exposure]",), ("doses",)),
    "endpoints": Rule("Planned endpoints", _PLAN, ("outcomes", "intercurrent")),
    "pain": Rule("Pain", _PLAN, ("outcomes",)),
    "course": Rule("All visits at once", _PLAN, ("outcomes",)),
    "natural_course": Rule("Change expected without treatment", ("protocol.toml [plan.regression]",), ("outcomes", "observations")),
    "responders": Rule("Responders", _PLAN, ("outcomes",)),
    "durability": Rule("Durability", ("protocol.toml [plan.durability]",), ("outcomes", "doses", "intercurrent")),
    "function": Rule("Function", _PLAN, ("outcomes",)),
    "exposure_response": Rule("Dose and change", ("protocol.toml [plan]",), ("outcomes", "doses")),
    "missing": Rule("What is missing", ("protocol.toml [plan]",), ("outcomes",)),
    "precision": Rule("How much evidence is this?", ("protocol.toml [plan.precision]",), ("outcomes",)),
    "safety": Rule("Safety", ("protocol.toml [safety]",), ("events", "doses", "observations")),
    "completeness": Rule("Completeness and flow", ("protocol.toml [[visits]]",), ("outcomes",)),
    "context": Rule("Published context", ("mappings/evidence",), ("doses",)),
    COUNTS: Rule("Completeness and flow", ("protocol.toml [enrolment]",), ("subjects",)),
    MONTHS: Rule("Quality, month by month", ("protocol.toml [quality]",), ("outcomes", "doses", "events", "observations")),
}  # fmt: skip


@dataclass(frozen=True)
class Explanation:
    """A number and everything behind it; ``rows`` and ``sources`` are empty for a release."""

    estimate_id: str
    short_id: str
    run: str
    row: Mapping[str, Any]
    rule: Mapping[str, Any]
    notes: tuple[str, ...]
    rows: Mapping[str, list[dict[str, Any]]]
    sources: tuple[tuple[str, str], ...]  # reference and version in the snapshot


def explain(home: Home, study: Study, run: str, asked: str) -> Explanation:
    """What is behind a number of a run.

    Args:
        home: where runs and snapshots are.
        study: the study folder the run was made with.
        run: the run's id, its folder's name, or "latest" for the newest internal evidence report.
        asked: the estimate_id, or its short id as the page shows it.

    Raises:
        DefinitionError: no such run, no such number in it, or another study folder.
        DisclosureError: the number is hidden in this release, or is not in it.
    """
    folder = _folder(home, run)
    record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    row = _flow_row(asked) or _row(folder, asked, is_release=record["edition"] == "release")
    rule = RULES[row["section"]]
    told = {"declared_in": rule.declared, "described_in": f"docs/statistics.md, {rule.heading}", "tables": rule.tables}
    asked_id = row["estimate_id"]
    if record["edition"] == "release":
        if row["section"] == COUNTS:
            raise DisclosureError("counts of people are explained for internal runs only")
        notes: tuple[str, ...] = ("a release: the rows of people are shown for internal runs only",)
        return Explanation(asked_id, short_id(asked_id), folder.name, row, told, notes, {}, ())
    if study.digest != record["study"]:
        raise DefinitionError(
            f"the study folder ({study.digest[:SHORT]}) is not the one of this run ({record['study'][:SHORT]}); --study should "
            "name that one, for the rule of a number is in it"
        )
    snapshot = open_snapshot(home.snapshots / record["snapshot"])
    made = _made_anew(home, study, snapshot, date.fromisoformat(record["as_of"]))
    rows, exactly = _rows(made, row, rule)
    frames = {name: _records(frame) for name, frame in rows.items()}
    sources = tuple(_versions(snapshot, _references(rows)))
    return Explanation(
        asked_id, short_id(asked_id), folder.name, row, told, (*_notes(made, row, record), exactly), frames, sources
    )


# --- the run and its row --------------------------------------------------------------------------------------------


def _folder(home: Home, run: str) -> Path:
    found = (
        current(home.runs, "evidence", "internal")
        if run == "latest"
        else home.runs / run.rstrip("/").rpartition("/")[2]
    )
    if found is None or not (found / "provenance.json").is_file():
        raise DefinitionError(f"there is no such run in {home.runs}; its folder's name, or latest, would do")
    return found


def _row(folder: Path, asked: str, *, is_release: bool) -> dict[str, Any]:
    frame = pd.read_csv(folder / "estimates.csv", keep_default_na=False, dtype="str")
    own = frame["estimate_id"].map(_bare)
    chosen = frame[(own == asked) | (own.map(short_id) == asked)]
    if is_release and (chosen.empty or chosen["suppressed"].iloc[0] != ""):
        raise DisclosureError("this number is hidden in the release, or is not part of it")
    if len(chosen) != 1:
        raise DefinitionError(
            "estimates.csv of this run has no such id; ids stand there, and in the last table of report.html"
        )
    return {str(name): _bare(value) for name, value in chosen.iloc[0].items()}


def _flow_row(asked: str) -> dict[str, Any] | None:
    """A row for a count of the cohort flow, which stands in no file beside the report; None for other ids."""
    for step in REASONS:
        for column in FLOW_NAMES:
            if asked in (ref := f"{COUNTS}/{step}/{column}", short_id(ref)):
                words = {"statistic": column, "group": step, "method": "people counted", "reason": ""}
                return {"estimate_id": ref, "section": COUNTS, "population": "", "measure": "", "visit": ""} | words
    return None


def _bare(text: str) -> str:
    """The text without the apostrophe that keeps spreadsheets from running it."""
    return text[1:] if text[:1] == "'" else text


# --- worked out anew ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Made:
    tables: Tables
    cohort: Cohort
    analysis: Analysis


def _made_anew(home: Home, study: Study, snapshot: Snapshot, as_of: date) -> _Made:
    plan = derive.plan(snapshot, study, home, as_of=as_of)
    for number in range(plan.partitions):
        derive.derive_partition(plan, number, Verdicts(home.state_url))
    tables = derive.gather(plan)
    analysis = analyse.analyse(tables, study, as_of=as_of, not_enrolled=derive.not_enrolled(plan))
    return _Made(tables, Cohort(tables, study, as_of), analysis)


def _notes(made: _Made, row: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[str]:
    if code_digest() != record["code"]:
        yield f"the program changed since this run ({record['code'][:SHORT]} then, {code_digest()[:SHORT]} now)"
    if row["section"] == COUNTS:
        counts = made.analysis.counts.set_index("step")[row["statistic"]]
        yield f"worked out anew from the snapshot: {counts.get(row['group'], 'no such box')}"
        return
    estimates = made.analysis.estimates
    again = estimates[estimates["estimate_id"] == row["estimate_id"]]
    is_same = len(again) == 1 and all(
        _same(row[name], again[name].iloc[0]) for name in ("n", "n_missing", "k", "estimate", "lower", "upper")
    )
    yield (
        "worked out anew from the snapshot: the same numbers"
        if is_same
        else "worked out anew from the snapshot: NOT the same numbers"
    )


def _same(printed: str, value: Any) -> bool:
    if pd.isna(value) or printed == "":
        return bool(pd.isna(value)) and printed == ""
    return abs(float(printed) - float(value)) <= 1e-9 * max(1.0, abs(float(value)))


# --- rows of people -------------------------------------------------------------------------------------------------


def _rows(made: _Made, row: Mapping[str, Any], rule: Rule) -> tuple[dict[str, pd.DataFrame], str]:
    """The rows behind a number by table, and how exactly they are known."""
    if row["section"] == MONTHS:
        found = rows_of_months(made.cohort, row)
        return {name: frame for name, frame in found.items() if not frame.empty}, (
            f"rows: of {row['visit'] if row['statistic'] == 'month' else 'all months'}; which of them enter it, the method "
            f"decides ({row['method']})"
        )
    people = _people(made, row)
    words = (
        "rows: of exactly the people who enter this number"
        if people is not None
        else f"rows: of everybody in its population; which of them enter it, the method decides ({row['method']})"
    )
    everybody = set(made.cohort.people(_population(made, row)))
    known = everybody if people is None else people
    found = {name: _chosen(getattr(made.tables, name), row, known, made) for name in rule.tables}
    if "subjects" in found:  # the one table whose rows are resources themselves
        found["subjects"] = found["subjects"].assign(source_ref="Patient/" + found["subjects"]["subject_id"])
    return {name: frame for name, frame in found.items() if not frame.empty}, words


def _people(made: _Made, row: Mapping[str, Any]) -> set[str] | None:
    """Who enters a number, as the analysis recorded it; None where it did not."""
    members = made.analysis.members
    if own := members.values.get(row["estimate_id"]):  # noqa: PD011 - no frame
        return set(own)
    if row["section"] == COUNTS:
        quantity = f"{FLOW_NAMES[row['statistic']]}/{row['group']}"
        return set(members.counts[quantity]) if quantity in members.counts else None
    names = NAMES.get(f"{row['section']}/{row['statistic']}", {})
    for role in ("n", "k"):
        if role in names and (counted := members.counts.get(names[role].format(**row))) is not None:
            return set(counted)
    return None


def _population(made: _Made, row: Mapping[str, Any]) -> str:
    return row["population"] if row["population"] in made.cohort.populations else TREATED


def _chosen(frame: pd.DataFrame, row: Mapping[str, Any], people: set[str], made: _Made) -> pd.DataFrame:
    """The rows of these people that have the number's measure, visits and term, as far as the table has such columns."""
    chosen = frame[frame["subject_id"].isin(people)]
    if "measure" in chosen:
        primary = made.cohort.protocol.outcomes.primary
        named = row["measure"] if row["measure"] in set(made.cohort.study.measures) else primary
        is_measured = row["measure"] == named or row["section"] in _ON_PRIMARY
        chosen = chosen[chosen["measure"] == named] if is_measured else chosen.iloc[:0]
    if "visit" in chosen and row["visit"] in {"baseline", *made.cohort.visits}:
        chosen = chosen[chosen["visit"].isin({"baseline", row["visit"]})]
    if "series" in chosen and row["statistic"] not in _OF_ALL_DOSES:
        chosen = chosen[chosen["session"].notna()]
    if "kind" in chosen and row["statistic"] in _OF_EVENTS:
        chosen = chosen[chosen["kind"] == "adverse event"]
    if "term" in chosen and row["group"] in set(chosen["term"]):
        chosen = chosen[chosen["term"] == row["group"]]
    return chosen


_OF_ALL_DOSES = {"route", "flag"}
_OF_EVENTS = {"per_100_sessions", "people", "serious", "rate_by_person", "session_by_person", "onset", "dose_odds"}
_ON_PRIMARY = {"endpoints", "pain", "course", "natural_course", "responders", "durability", "missing", "precision",
               "exposure_response", "function"}  # fmt: skip


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain values; whom they are about is told by their resources."""
    records = frame.drop(columns="subject_id").to_dict("records")
    return [{str(name): None if pd.isna(value) else value for name, value in one.items()} for one in records]


# --- resources ------------------------------------------------------------------------------------------------------


def _references(rows: Mapping[str, pd.DataFrame]) -> set[str]:
    columns = [frame[name] for frame in rows.values() for name in ("source_refs", "source_ref") if name in frame]
    return {ref for column in columns for joined in column for ref in str(joined).split() if "/" in ref}


def _versions(snapshot: Snapshot, references: set[str]) -> Iterator[tuple[str, str]]:
    """Each resource with its version in the snapshot, or the moment of its last update where the source counts none."""
    found = {}
    for name in sorted({ref.partition("/")[0] for ref in references} & set(snapshot.types())):
        for line in snapshot.lines(name):
            resource = json.loads(line)
            ref, meta = f"{name}/{resource.get('id')}", resource.get("meta") or {}
            if ref in references:
                found[ref] = str(meta.get("versionId") or meta.get("lastUpdated") or "no version")
    yield from ((ref, found.get(ref, "not in the snapshot")) for ref in sorted(references))
