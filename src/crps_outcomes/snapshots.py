"""``crps-outcomes snapshot``: which snapshots there are, what is in one, whether they are sound, and which may go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from crps_outcomes.console import CODES, OutOption, home_at, stops
from crps_outcomes.errors import DefinitionError, IncompleteDataError
from crps_outcomes.snapshot import content_digest, open_snapshot, read_manifest, remove_snapshot
from crps_outcomes.state import Records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crps_outcomes.home import Home
    from crps_outcomes.snapshot import Manifest, Snapshot

app = typer.Typer(no_args_is_help=True, help="Snapshots: list them, show one, verify them, remove old ones.")

DigestArgument = Annotated[str, typer.Argument(help='The digest, or its first characters, or "latest".')]
KeepOption = Annotated[int, typer.Option("--keep-days", min=7, help="Younger ones stay.")]
_SHORT = 12


@dataclass(frozen=True)
class Kept:
    """A snapshot on disk, and why it must stay ("" if it need not). ``manifest`` is None for one that is damaged."""

    digest: str
    manifest: Manifest | None
    reason: str


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
            told.completeness if told else "damaged",
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
    damaged = [told for one in _all(home) if (told := _damage(home, one.digest))]
    if damaged:
        raise IncompleteDataError("\n".join(damaged))
    typer.echo(f"{len(_all(home))} snapshots, all sound")


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
        old = removable(_all(home), datetime.now(UTC) - timedelta(days=keep_days))
        for one in old:
            typer.echo(f"{'removed' if yes else 'would remove'} {one.digest}")
            if yes:
                Records(home.state_url).forget_snapshots([one.digest])
                remove_snapshot(home.snapshots / one.digest)
    typer.echo(
        f"{len(old)} of {len(_all(home)) + (len(old) if yes else 0)} snapshots"
        + ("" if yes or not old else "; --yes removes them")
    )


def removable(kept: Sequence[Kept], before: datetime) -> list[Kept]:
    """Those that nothing needs and that were pulled before a moment; one that cannot be read is never among them.

    Raises:
        IncompleteDataError: nothing at all is on record, as after the loss of the state database.
    """
    if kept and not any(one.reason for one in kept):
        raise IncompleteDataError("no snapshot is on record as the latest, so none is removed; is state.sqlite lost?")
    return [
        one
        for one in kept
        if not one.reason and one.manifest and datetime.fromisoformat(one.manifest.pulled_at) < before
    ]


def _all(home: Home) -> list[Kept]:
    records = Records(home.state_url)
    reasons: dict[str, list[str]] = {}
    for row in records.snapshots()[-1:]:
        reasons.setdefault(row.digest, []).append("latest")
    for digest in sorted(records.night_snapshots()):
        reasons.setdefault(digest, []).append("next pull")
    for run in records.runs():
        reasons.setdefault(run.snapshot, []).append("report") if "report" not in reasons.get(run.snapshot, []) else None
    found = [path for path in home.snapshots.iterdir() if path.is_dir() and not path.name.startswith(".")]
    kept = [Kept(path.name, _manifest(home, path.name), ", ".join(reasons.get(path.name, []))) for path in found]
    return sorted(kept, key=lambda one: (one.manifest.pulled_at if one.manifest else "", one.digest))


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
        "" if content_digest(snapshot) == digest else f"snapshot {digest[:_SHORT]}: it does not hold what its name says"
    )
