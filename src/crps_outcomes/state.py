"""State: what is remembered between runs, in one database (SQLite in the home folder, or any SQLAlchemy URL).

It holds verdicts by content hash, snapshots, runs, the analysis plans they used, and where the next pull may go on from;
what was released stands beside them (`releases`). Resources and tables are files; here stand only hashes, counts, names and
plans. Every object may be used by several threads at once; processes take turns. A table is created where it is missing and
never altered, so that a database of an earlier version goes on being used.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    and_,
    create_engine,
    delete,
    func,
    insert,
    not_,
    select,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from crps_outcomes.plan_history import UNKNOWN, PlanSeen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.sql.elements import ColumnElement

    from crps_outcomes.snapshot import Manifest

Row = TypeVar("Row")

_METADATA = MetaData()
_VERDICTS = Table("verdicts", _METADATA, Column("hash", String(64), primary_key=True), Column("verdict", String))
_SNAPSHOTS = Table(
    "snapshots",
    _METADATA,
    Column("digest", String(64), primary_key=True),
    Column("source_kind", String),
    Column("completeness", String),
    Column("pulled_at", String),
    Column("data_as_of", String),
    Column("n_resources", Integer),
    Column("sequence", Integer),
)
_RUNS = Table(
    "runs",
    _METADATA,
    Column("run_id", String(80), primary_key=True),
    Column("report", String),
    Column("edition", String),
    Column("snapshot", String(64)),
    Column("study", String(64)),
    Column("code", String(64)),
    Column("as_of", String),
    Column("status", String),
)
_RUN_ORDER = Table("run_order", _METADATA, Column("run_id", String(80), primary_key=True), Column("sequence", Integer))
_RUNS_BEFORE = Table(
    "runs_before",
    _METADATA,
    Column("made_from", String(64), primary_key=True),  # over what decides a run: report, edition, digests, day
    Column("run_id", String(80)),  # "" for the first of its kind
)
_STUDIES = Table(
    "studies",
    _METADATA,
    Column("study", String(64), primary_key=True),
    Column("files", String),  # JSON: relative name -> SHA-256
)
_PLANS = Table(
    "plans",
    _METADATA,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64)),
    Column("text", String),
    Column("seen_on", String),
)
_NIGHTS = Table(
    "nights",
    _METADATA,
    Column("scope", String(64), primary_key=True),
    Column("snapshot", String(64)),
    Column("whole_at", String),
)
_WATERMARKS = Table(
    "watermarks",
    _METADATA,
    Column("scope", String(64), primary_key=True),
    Column("resource_type", String(64), primary_key=True),
    Column("changed_from", String),
)
_WITHDRAWALS = Table(
    "withdrawals",
    _METADATA,
    Column("run_id", String(80), primary_key=True),
    Column("withdrawn_on", String),
    Column("reason", String),
)
_AT_ONCE = 500  # SQLite allows 999 variables in one statement in its older builds
_PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class SnapshotRow:
    """A snapshot that was published."""

    digest: str
    source_kind: str
    completeness: str
    pulled_at: str
    data_as_of: str
    n_resources: int


@dataclass(frozen=True)
class Night:
    """Where the last good pull of a scope (one source, one cohort) ended, and from where the next one may go on.

    Instants are the source's, never this machine's.
    """

    scope: str
    snapshot: str
    whole_at: datetime  # when everything was last asked for
    watermarks: Mapping[str, datetime]  # resource type -> what changed from here on is new


@dataclass(frozen=True)
class RunRow:
    """A report that was published: its three digests and what asked for it."""

    run_id: str
    report: str
    edition: str
    snapshot: str
    study: str
    code: str
    as_of: str
    status: str

    @property
    def made_from(self) -> str:
        """SHA-256 over what decides a run, whatever its form: two runs of one are the same report."""
        parts = (self.report, self.edition, self.snapshot, self.study, self.code, self.as_of)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Verdicts:
    """The memory of fhir.resources' verdicts: content hash -> "" for valid, else "path: rule"."""

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)

    def get_many(self, hashes: Iterable[str]) -> dict[str, str]:
        """The known verdicts among these hashes."""
        with self._engine.connect() as connection:
            return {
                row.hash: row.verdict
                for some in slices(sorted(set(hashes)))
                for row in connection.execute(select(_VERDICTS).where(_VERDICTS.c.hash.in_(some)))
            }

    def put_many(self, verdicts: dict[str, str]) -> None:
        """Remember verdicts; a hash that is known gets the new verdict. All of them or none."""
        rows = [{"hash": key, "verdict": verdict} for key, verdict in sorted(verdicts.items())]
        _replace(self._engine, _VERDICTS, rows)


class Records:
    """What was published: snapshots and runs."""

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)

    def add_snapshot(self, manifest: Manifest, night: Night | None = None) -> None:
        """Remember that a pull ended in this snapshot; it becomes the latest, also when the same data came before.

        Where the next pull may go on from is written in the same transaction: both are known, or neither.
        """
        row = SnapshotRow(
            digest=manifest.digest,
            source_kind=manifest.source_kind,
            completeness=manifest.completeness,
            pulled_at=manifest.pulled_at,
            data_as_of=manifest.data_as_of,
            n_resources=sum(entry["count"] for entry in manifest.files.values()),
        )
        newest = select(func.coalesce(func.max(_SNAPSHOTS.c.sequence), 0) + 1).scalar_subquery()
        with self._engine.begin() as connection:
            connection.execute(delete(_SNAPSHOTS).where(_SNAPSHOTS.c.digest == row.digest))
            connection.execute(insert(_SNAPSHOTS).values(**vars(row), sequence=newest))
            if night is not None:
                _put_night(connection, night)

    def forget_snapshots(self, digests: Iterable[str]) -> None:
        """Snapshots that are no more are no more the latest, nor where a pull may go on from."""
        gone = [*digests]
        with self._engine.begin() as connection:
            lost = [row.scope for row in connection.execute(select(_NIGHTS).where(_NIGHTS.c.snapshot.in_(gone)))]
            connection.execute(delete(_SNAPSHOTS).where(_SNAPSHOTS.c.digest.in_(gone)))
            for table in (_NIGHTS, _WATERMARKS):
                connection.execute(delete(table).where(table.c.scope.in_(lost)))

    def night(self, scope: str) -> Night | None:
        """The last good pull of a scope."""
        with self._engine.connect() as connection:
            found = connection.execute(select(_NIGHTS).where(_NIGHTS.c.scope == scope)).one_or_none()
            marks = connection.execute(select(_WATERMARKS).where(_WATERMARKS.c.scope == scope))
            watermarks = {row.resource_type: datetime.fromisoformat(row.changed_from) for row in marks}
        return Night(scope, found.snapshot, datetime.fromisoformat(found.whole_at), watermarks) if found else None

    def night_snapshots(self) -> frozenset[str]:
        """The snapshots that some next pull goes on from."""
        return frozenset(row[1] for row in _all(self._engine, _NIGHTS, _NIGHTS.c.scope))

    def snapshots(self) -> tuple[SnapshotRow, ...]:
        """All snapshots, the one pulled last at the end."""
        return tuple(SnapshotRow(*row[:-1]) for row in _all(self._engine, _SNAPSHOTS, _SNAPSHOTS.c.sequence))

    def add_run(self, run: RunRow) -> None:
        """Remember a run under its id; it becomes the latest."""
        _replace(self._engine, _RUNS, [vars(run)])
        newest = select(func.coalesce(func.max(_RUN_ORDER.c.sequence), 0) + 1).scalar_subquery()
        with self._engine.begin() as connection:
            connection.execute(delete(_RUN_ORDER).where(_RUN_ORDER.c.run_id == run.run_id))
            connection.execute(insert(_RUN_ORDER).values(run_id=run.run_id, sequence=newest))

    def runs(self) -> tuple[RunRow, ...]:
        """All runs, by id."""
        return tuple(RunRow(*row) for row in _all(self._engine, _RUNS, _RUNS.c.run_id))

    def order(self) -> dict[str, int]:
        """Each run's place in the order of publication; runs of a database that kept none are not in it."""
        return {row[0]: row[1] for row in _all(self._engine, _RUN_ORDER, _RUN_ORDER.c.sequence)}

    def run_before(self, run: RunRow) -> RunRow | None:
        """The run that this one is compared with: once it was published, always the same one, whatever came after.

        Else the latest final run of the same report and edition that was made of something else and speaks of no later
        day. Runs of a database that kept no order count as the earliest, by day.
        """
        with self._engine.connect() as connection:
            kept = connection.execute(
                select(_RUNS_BEFORE).where(_RUNS_BEFORE.c.made_from == run.made_from)
            ).one_or_none()
            asked = _latest_before(run) if kept is None else select(_RUNS).where(_RUNS.c.run_id == kept.run_id)
            found = connection.execute(asked).one_or_none()
        return RunRow(*found) if found else None

    def keep_before(self, run: RunRow, before: RunRow | None) -> None:
        """Remember what a run was compared with, so that it is the same when the run is made again."""
        row = {"made_from": run.made_from, "run_id": before.run_id if before else ""}
        with suppress(IntegrityError), self._engine.begin() as connection:  # it is there already
            connection.execute(insert(_RUNS_BEFORE).values(**row))

    def see_study(self, study: str, files: Mapping[str, str]) -> None:
        """Remember the digests of the files of a study folder, under its own."""
        with suppress(IntegrityError), self._engine.begin() as connection:  # it is there already
            connection.execute(insert(_STUDIES).values(study=study, files=json.dumps(files, sort_keys=True)))

    def files_of(self, study: str) -> dict[str, str] | None:
        """The digests of the files of a study folder; None where it was used before they were kept."""
        with self._engine.connect() as connection:
            found = connection.execute(select(_STUDIES.c.files).where(_STUDIES.c.study == study)).scalar_one_or_none()
        return json.loads(found) if found else None

    def see_plan(self, plan: PlanSeen, study: str) -> None:
        """Remember that a run used this plan on data; nothing is written while it stays the same.

        Where runs of another study folder came before the first plan that was kept, a plan unknown stands before it.
        """
        others = select(func.max(_RUNS.c.as_of)).where(_RUNS.c.study != study)
        try:
            with self._engine.begin() as connection:
                is_first = connection.execute(select(func.count()).select_from(_PLANS)).scalar_one() == 0
                if is_first and (earlier := connection.execute(others).scalar_one()) is not None:
                    _add_plan(connection, PlanSeen(UNKNOWN, "", earlier))
                _add_plan(connection, plan)
        except IntegrityError:  # another process wrote the same number first; its plan stands before this one now
            self.see_plan(plan, study)

    def plans(self) -> tuple[PlanSeen, ...]:
        """The plans that took each other's place, the current one at the end."""
        return tuple(PlanSeen(*row[1:]) for row in _all(self._engine, _PLANS, _PLANS.c.sequence))


def _latest_before(run: RunRow) -> Select[Any]:
    last = (func.coalesce(_RUN_ORDER.c.sequence, 0).desc(), _RUNS.c.as_of.desc(), _RUNS.c.run_id)
    same = [_RUNS.c[name] == getattr(run, name) for name in ("snapshot", "study", "code", "as_of")]
    return (
        select(_RUNS)
        .outerjoin(_RUN_ORDER, _RUN_ORDER.c.run_id == _RUNS.c.run_id)
        .where(_RUNS.c.report == run.report, _RUNS.c.edition == run.edition, _RUNS.c.as_of <= run.as_of)
        .where(_RUNS.c.status != "incomplete", not_(and_(*same)))
        .order_by(*last)
        .limit(1)
    )


def _add_plan(connection: Connection, plan: PlanSeen) -> None:
    last = connection.execute(select(_PLANS).order_by(_PLANS.c.sequence.desc()).limit(1)).one_or_none()
    if last is None or last.digest != plan.digest:
        connection.execute(insert(_PLANS).values(sequence=last.sequence + 1 if last else 1, **vars(plan)))


@dataclass(frozen=True)
class Withdrawal:
    """That a run is not to be used any more, since when and why."""

    run_id: str
    withdrawn_on: str
    reason: str


class Withdrawals:
    """Which runs were withdrawn."""

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)

    def add(self, withdrawal: Withdrawal) -> None:
        """Remember that a run was withdrawn."""
        _replace(self._engine, _WITHDRAWALS, [vars(withdrawal)])

    def every(self) -> dict[str, Withdrawal]:
        """Every withdrawal by its run."""
        return {row[0]: Withdrawal(*row) for row in _all(self._engine, _WITHDRAWALS, _WITHDRAWALS.c.run_id)}


def _put_night(connection: Connection, night: Night) -> None:
    for table in (_NIGHTS, _WATERMARKS):
        connection.execute(delete(table).where(table.c.scope == night.scope))
    connection.execute(
        insert(_NIGHTS).values(scope=night.scope, snapshot=night.snapshot, whole_at=night.whole_at.isoformat())
    )
    for name, instant in sorted(night.watermarks.items()):
        connection.execute(
            insert(_WATERMARKS).values(scope=night.scope, resource_type=name, changed_from=instant.isoformat())
        )


def open_engine(url: str, tables: MetaData = _METADATA) -> Engine:
    """An engine whose tables exist. No connection outlives its use, so threads and forks cannot share one."""
    arguments = {"timeout": _PATIENCE_SECONDS} if url.startswith("sqlite") else {}
    engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
    with engine.begin() as connection:
        for table in tables.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
    return engine


def _replace(engine: Engine, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put rows in place of those with the same key, in one transaction; plain SQL, the same on every database."""
    (key,) = table.primary_key.columns
    with engine.begin() as connection:
        for some in slices(rows):
            connection.execute(delete(table).where(key.in_([row[key.name] for row in some])))
            connection.execute(insert(table), some)


def _all(engine: Engine, table: Table, order: ColumnElement[Any]) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(table).order_by(order))]


def slices(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The rows, so many at once as one statement may have."""
    return (rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE))
