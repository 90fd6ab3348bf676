"""``crps-outcomes snapshot``: which snapshots there are, what is in one, whether they are sound, and which may go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from crps_outcomes.console import CODES, OutOption, home_at, stops
from crps_outcomes.errors import DefinitionError, IncompleteDataError
from crps_outcomes.snapshot import clear, content_digest, open_snapshot, read_manifest, remove_snapshot
from crps_outcomes.state import Records

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from crps_outcomes.home import Home
    from crps_outcomes.snapshot import Manifest, Snapshot

app = typer.Typer(no_args_is_help=True, help="Snapshots: list them, show one, verify them, remove old ones.")

DigestArgument = Annotated[str, typer.Argument(help='The digest, or its first characters, or "latest".')]
KeepOption = Annotated[int, typer.Option("--keep-days", min=7, help="Younger ones stay.")]
_SHORT = 12
_LATEST, _UNKNOWN = "latest", "not on record"


@dataclass(frozen=True)
class Kept:
    """A snapshot that is there or should be, and why it must stay ("" if it need not)."""

    digest: str
    manifest: Manifest | None  # None: it is damaged or gone
    reason: str
    since: datetime  # when it was pulled: by the source's clock or by ours, whichever is later


@app.command("list", epilog=CODES)
@stops
def list_(out: OutOption = None) -> None:
    """All snapshots, the oldest first, with their state and what still needs them."""
    table = Table("snapshot", "pulled", "state", "source", "resources", "needed for")
    for one in _all(home_at(out)):
        told = one.manifest
        table.add_row(
            one.digest[:_SHORT],
            told.pulled_at if told else "",
            told.completeness if told else "damaged or gone",
            told.source_kind if told else "",
            f"{sum(file['count'] for file in told.files.values()):,}" if told else "",
            one.reason,
        )
    Console().print(table)


@app.command(epilog=CODES)
@stops
def show(digest: DigestArgument = "latest", out: OutOption = None) -> None:
    """What is in a snapshot: where it comes from, resources by type, what the pull refused, and what changed."""
    snapshot = find(home_at(out), digest)
    manifest = snapshot.manifest
    console = Console()
    console.print(
        f"snapshot {snapshot.digest}\n{manifest.completeness}, pulled {manifest.pulled_at} from {manifest.software}"
    )
    console.print("\n".join(f"missing: {hole}" for hole in manifest.holes), end="\n" if manifest.holes else "")
    ledger = snapshot.ledger().groupby("resource_type")[["received", "accepted", "rejected"]].sum()
    table = Table("resource", "received", "accepted", "rejected", "held")
    for name, row in ledger.iterrows():
        held = manifest.files.get(str(name), {"count": 0})["count"]
        table.add_row(str(name), *(f"{int(n):,}" for n in row), f"{held:,}")
    console.print(table)
    changes = snapshot.changes().to_dict("records")
    if manifest.before:
        console.print(
            f"since snapshot {manifest.before[:_SHORT]} of {manifest.before_on}:"
            + ("" if changes else " nothing changed")
        )
        console.print("\n".join(f"  {one['resource_type']}: {one['n']} {one['change']}" for one in changes))


@app.command(epilog=CODES)
@stops
def verify(out: OutOption = None) -> None:
    """Compare every byte of every snapshot with its manifest, and every resource with its digest.

    Raises:
        IncompleteDataError: something is damaged; the message names snapshot and file.
    """
    home = home_at(out)
    kept = _all(home)
    damaged = [told for one in kept if (told := _damage(home, one.digest))]
    if damaged:
        raise IncompleteDataError("\n".join(damaged))
    typer.echo(f"{len(kept)} snapshots, all sound")


@app.command(epilog=CODES)
@stops
def prune(
    keep_days: KeepOption = 30,
    out: OutOption = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Really remove them. Without it, only told.")] = False,
) -> None:
    """Remove snapshots that nothing needs: not the latest, none that a pull goes on from, none behind a report."""
    home = home_at(out)
    with home.only_one_pull():
        kept = _all(home)
        old = removable(kept, datetime.now(UTC) - timedelta(days=keep_days))
        for one in old:
            typer.echo(f"{'removing' if yes else 'would remove'} {one.digest}")
            if yes:
                remove_snapshot(home.snapshots / one.digest)
        if yes:
            clear(home.snapshots)
            _forget_removed(home)
    typer.echo(f"{len(old)} of {len(kept)} snapshots" + ("" if yes or not old else "; --yes removes them"))


def removable(kept: Sequence[Kept], before: datetime) -> list[Kept]:
    """Those that nothing needs and that are older than a moment; one that cannot be read is never among them.

    Raises:
        IncompleteDataError: none is on record as the latest, as after the loss of the state database.
    """
    if kept and not any(_LATEST in one.reason for one in kept):
        raise IncompleteDataError("no snapshot is on record as the latest, so none is removed; is state.sqlite lost?")
    return [one for one in kept if not one.reason and one.manifest and one.since < before]


def _forget_removed(home: Home) -> None:
    """Those that were removed, now or by a prune that was cut short, are no more on record."""
    records, reasons = Records(home.state_url), _reasons(home)
    gone = {row.digest for row in records.snapshots() if not (home.snapshots / row.digest).exists()}
    records.forget_snapshots(gone - reasons.keys())


def _all(home: Home) -> list[Kept]:
    """Those on disk, and those that something needs."""
    reasons = _reasons(home)
    recorded = {row.digest for row in Records(home.state_url).snapshots()}
    on_disk = {path.name for path in home.snapshots.iterdir() if path.is_dir() and not path.name.startswith(".")}
    kept = [_kept(home, digest, reasons.get(digest, ""), recorded) for digest in on_disk | reasons.keys()]
    return sorted(kept, key=lambda one: (one.since, one.digest))


def _kept(home: Home, digest: str, reason: str, recorded: Collection[str]) -> Kept:
    """A complete one that is not on record stays: the record may be lost, and a pull that was killed may go on with it."""
    folder, manifest = home.snapshots / digest, _manifest(home, digest)
    since = datetime.fromtimestamp(folder.stat().st_mtime if folder.exists() else 0, UTC)
    if manifest is None:
        return Kept(digest, None, reason, since)
    if not reason and manifest.completeness != "incomplete" and digest not in recorded:
        reason = _UNKNOWN
    return Kept(digest, manifest, reason, max(since, datetime.fromisoformat(manifest.pulled_at)))


def _reasons(home: Home) -> dict[str, str]:
    """Why a snapshot must stay, by digest."""
    records = Records(home.state_url)
    needed = {
        _LATEST: {row.digest for row in records.snapshots()[-1:]},
        "next pull": records.night_snapshots(),
        "report": {run.snapshot for run in records.runs()} | _behind_reports(home.runs),
    }
    every = {digest for digests in needed.values() for digest in digests}
    return {one: ", ".join(reason for reason, digests in needed.items() if one in digests) for one in every}


def _behind_reports(runs: Path) -> set[str]:
    """The snapshots that the reports on disk say they were made from."""
    return {_snapshot_in(path) for path in runs.glob("[!.]*/provenance.json")}


def _snapshot_in(path: Path) -> str:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Provenance).snapshot
    except msgspec.DecodeError as error:
        raise IncompleteDataError(
            f"runs/{path.parent.name}/{path.name} cannot be read, so it is not known which snapshot the report needs"
        ) from error


class _Provenance(msgspec.Struct):
    snapshot: str


def _manifest(home: Home, digest: str) -> Manifest | None:
    try:
        return read_manifest(home.snapshots / digest)
    except IncompleteDataError:
        return None


def find(home: Home, digest: str) -> Snapshot:
    """The one snapshot a digest, its first characters, or "latest" names.

    Raises:
        DefinitionError: none, or several.
    """
    if digest == "latest":
        known = Records(home.state_url).snapshots()
        digests = [known[-1].digest] if known else []
    else:
        digests = [one.digest for one in _all(home) if one.digest.startswith(digest)]
    if len(digests) != 1:
        raise DefinitionError(
            f"{digest}: {len(digests) or 'no'} snapshots; it should name one (crps-outcomes snapshot list)"
        )
    return open_snapshot(home.snapshots / digests[0])


def _damage(home: Home, digest: str) -> str:
    try:
        snapshot = open_snapshot(home.snapshots / digest)
    except IncompleteDataError as error:
        return str(error)
    return (
        ""
        if content_digest(snapshot) == snapshot.manifest.content
        else f"snapshot {digest[:_SHORT]}: it does not hold what its name says"
    )
