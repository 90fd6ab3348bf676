"""Derive: screen, tabulate and score a snapshot, partition by partition, each remembered by what it was made from.

A partition is the subjects whose hash falls into it; its tables are Parquet files below
``home.derived/<identity>/``. The identity covers snapshot, study, code, as-of date and number of partitions, so a
second report on the same data derives nothing, and a killed run goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes import resources as fhir
from crps_outcomes.context import context
from crps_outcomes.enrolment import SELECTOR_TYPES, enrol
from crps_outcomes.errors import PipelineError
from crps_outcomes.provenance import code_digest
from crps_outcomes.rejections import Rejection, rejection_table
from crps_outcomes.stages.score import score
from crps_outcomes.stages.screen import screen, subject_id
from crps_outcomes.stages.tabulate import tabulate
from crps_outcomes.tables import SCHEMAS, Tables, finish

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from crps_outcomes.enrolment import Enrolment
    from crps_outcomes.home import Home
    from crps_outcomes.snapshot import Snapshot
    from crps_outcomes.study import Study
    from crps_outcomes.validation import Verdicts

PARTS = (
    "subjects", "doses", "observations", "events", "findings", "context", "treatments", "intercurrent", "outcomes",
    "rejections",
)  # fmt: skip
_SUBJECTS_PER_PARTITION = 100
_NOT_ROWS = {"Patient", "Medication"}  # read to understand the others; they give no row of their own


@dataclass(frozen=True)
class Plan:
    """One derivation: which snapshot, by which study, as of which day, in how many partitions, and where it lands."""

    snapshot: Snapshot
    study: Study
    as_of: date
    partitions: int
    folder: Path

    def part(self, number: int) -> Path:
        return self.folder / f"part-{number:03d}"


def plan(snapshot: Snapshot, study: Study, home: Home, *, as_of: date, partitions: int | None = None) -> Plan:
    """The derivation of a snapshot; about one partition per hundred people unless a number is asked for."""
    many = partitions or 1 + snapshot.manifest.files.get("Patient", {"count": 0})["count"] // _SUBJECTS_PER_PARTITION
    parts = (snapshot.digest, study.digest, code_digest(), as_of.isoformat(), str(many))
    identity = sha256("\n".join(parts).encode()).hexdigest()[:20]
    return Plan(snapshot, study, as_of, many, home.derived / identity)


def derive_partition(plan: Plan, number: int, verdicts: Verdicts) -> int:
    """Write the tables of one partition, unless they are there; returns its number of subjects."""
    target = plan.part(number)
    if not target.exists():
        working = target.with_name(f".{target.name}.tmp")
        working.mkdir(parents=True, exist_ok=True)
        for name, frame in partition_tables(plan, number, verdicts).items():
            frame.to_parquet(working / f"{name}.parquet", index=False)
        working.rename(target)
    return len(pd.read_parquet(target / "subjects.parquet", columns=["subject_id"]))


def gather(plan: Plan) -> Tables:
    """All partitions as one set of tables, sorted by key, so that their number leaves no trace."""
    found = {name: _gathered(plan, name) for name in PARTS}
    pulled = plan.snapshot.rejections()
    found["rejections"] = finish(SCHEMAS["rejections"], pd.concat([pulled, found["rejections"]]))
    return Tables(**found, ledger=plan.snapshot.ledger(), changes=plan.snapshot.changes())


def partition_tables(plan: Plan, number: int, verdicts: Verdicts) -> dict[str, pd.DataFrame]:
    """The tables of one partition, by name; every resource screened is in a row or in a rejection."""
    study, people = plan.study, enrolled_people(plan.snapshot, plan.study, plan.as_of)
    own = {subject: on for subject, on in people.enrolled.items() if partition_of(subject, plan.partitions) == number}
    records = {record: subject for record, subject in people.records.items() if subject in own}
    lines = list(_lines(plan, number, people.records))
    screened = screen(lines, records, as_of=plan.as_of, study=study, verdicts=verdicts)
    rows = tabulate(screened, study)
    scored = score(rows, own, study, as_of=plan.as_of)
    known = context(rows, scored.subjects, study)
    rejections = (*screened.rejections, *rows.rejections, *scored.rejections)
    frames = {
        "subjects": scored.subjects,
        "doses": rows.doses,
        "observations": rows.observations,
        "events": rows.events,
        "findings": rows.findings,
        "context": known.context,
        "treatments": known.treatments,
        "intercurrent": known.intercurrent,
        "outcomes": scored.outcomes,
        "rejections": rejection_table(rejections),
    }
    _account_for_all(lines, frames, rows.diagnosed_in, rejections)
    return frames


def enrolled_people(snapshot: Snapshot, study: Study, as_of: date) -> Enrolment:
    """Who counts, by the protocol's selector, from what the snapshot holds.

    Judged as of the day of the pull, as the pull did, and as of the report's own day; who counts, counts on both. A
    withdrawal that was known at the pull is not undone by an earlier ``as_of``.
    """
    held = {
        name: [fhir.decode(name, raw) for raw in snapshot.lines(name)]
        for name in (*SELECTOR_TYPES[study.protocol.enrolment.selector], "Patient", "Consent")
        if name in snapshot.types()
    }
    pulled_on = date.fromisoformat(snapshot.manifest.pulled_on)
    return enrol(held, study.protocol, as_of=as_of, pulled_on=pulled_on)


def not_enrolled(plan: Plan) -> dict[str, int]:
    """Who is on the source's list but not enrolled, by reason."""
    people = enrolled_people(plan.snapshot, plan.study, plan.as_of)
    return {
        "membership not active": people.n_inactive,
        "consent refused or withdrawn": people.n_consent_revoked,
        "consent expired": people.n_consent_expired,
        "merged into another record": people.n_merged,
        "not at the source": people.n_dangling,
        "entry names no patient": people.n_unresolved,
    }


def partition_of(subject: str, partitions: int) -> int:
    """The partition of a subject: by hash, so that it never depends on who else is enrolled."""
    return int.from_bytes(sha256(subject.encode()).digest()[:4]) % partitions


def _lines(plan: Plan, number: int, records: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """The partition's resources; Medications go to every partition, the homeless to the first, so none is lost."""
    wanted = {*plan.study.protocol.pull.resource_types, "Medication"} - {"Consent"}
    for name in sorted(wanted & set(plan.snapshot.types())):
        for raw in plan.snapshot.lines(name):
            if plan.partitions == 1 or name == "Medication" or _home(name, raw, plan.partitions, records) == number:
                yield name, raw


def _home(resource_type: str, raw: bytes, partitions: int, records: Mapping[str, str]) -> int:
    try:
        subject = subject_id(fhir.decode(resource_type, raw))
    except ValueError:
        return 0
    return partition_of(records.get(subject, subject), partitions) if subject else 0


def _gathered(plan: Plan, name: str) -> pd.DataFrame:
    files = [plan.part(number) / f"{name}.parquet" for number in range(plan.partitions)]
    if missing := [file.parent.name for file in files if not file.is_file()]:
        raise PipelineError(f"{', '.join(missing)} not derived; was the program or the study changed during the run?")
    rows = pd.concat([pd.read_parquet(file) for file in files])
    if name == "rejections":  # a Medication belongs to every partition, its rejection to the cohort
        rows = rows.drop_duplicates(["resource_ref", "rule"])
    return finish(SCHEMAS[name], rows)


def _account_for_all(
    lines: Sequence[tuple[str, bytes]],
    frames: dict[str, pd.DataFrame],
    diagnosed_in: frozenset[str],
    rejections: Sequence[Rejection],
) -> None:
    """Accepted + rejected = received: nothing is dropped in silence, and nothing counts twice."""
    used = {
        ref for name in ("doses", "observations", "events", "findings") for ref in frames[name]["source_ref"]
    } | diagnosed_in
    refused = {one.resource_ref for one in rejections if one.resource_ref.split("/")[0] not in _NOT_ROWS}
    counted = sum(name not in _NOT_ROWS for name, _ in lines)
    if counted != len(used | refused):
        message = f"{counted} resources went in, but {len(used | refused)} are accounted for in rows and rejections"
        raise PipelineError(message)
