"""Where one pull works: a numbered private folder that stays with its ledger, and from which a stopped pull goes on.

While it works it holds the journal, and so patient data; when it has ended well, only its ledger, its list of changes
and its record of requests are left.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import msgspec

from crps_outcomes.home import private_folder, remove_folder, rename, replace_private, sync_folder, write_private
from crps_outcomes.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Content = TypeVar("Content")

_ABOUT, _STARTED, _ENDED = "pull.json", "started.json", "ended.json"
_JOURNAL, _NEW = "journal", ".new"
EXPORT = "export"  # where an export is downloaded to


class About(msgspec.Struct, frozen=True):
    """What a pull is a pull of: only the same may go on where it stopped."""

    scope: str
    before: str  # digest of the snapshot it goes on from, or ""


@dataclass(frozen=True)
class Workplace:
    """The folder of one pull."""

    folder: Path

    @property
    def journal(self) -> Journal:
        return Journal(private_folder(self.folder / _JOURNAL))

    @property
    def started_at(self) -> datetime | None:
        """When it began, by the source's clock; None if the source has not answered yet."""
        return _read(self.folder / _STARTED, datetime)

    @property
    def ended(self) -> str | None:
        """Its state at the end; None if it has not ended."""
        return _read(self.folder / _ENDED, str)

    @property
    def about(self) -> About | None:
        return _read(self.folder / _ABOUT, About)

    def start(self, now: datetime, *, most_hours: float) -> datetime:
        """When this pull began: now, or when it was begun before, if that is not too long ago."""
        before = self.started_at
        if before is not None and timedelta(0) <= now - before <= timedelta(hours=most_hours):
            return before
        remove_folder(self.folder / _JOURNAL)
        replace_private(self.folder / _STARTED, msgspec.json.encode(now))
        return now

    def put(self, name: str, content: bytes) -> None:
        """Write a file that stays."""
        replace_private(self.folder / name, content)

    def end(self, state: str) -> None:
        """The pull is over. Nobody goes on from a good one, so its journal goes."""
        replace_private(self.folder / _ENDED, msgspec.json.encode(state))
        if state != "incomplete":
            self._forget()

    def forget_export(self) -> None:
        """What was downloaded led to a refusal: the next pull asks for another export."""
        shutil.rmtree(self.folder / EXPORT, ignore_errors=True)

    def _forget(self) -> None:
        """What cannot be removed now is removed when the next pull begins."""
        for name in (_JOURNAL, EXPORT):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for left in self.folder.glob(".*.tmp"):
            left.unlink(missing_ok=True)


def workplace(pulls: Path, about: About) -> Workplace:
    """The folder of the last pull of this kind if it stopped, else a new one; patient data of older ones are removed."""
    mine = [one for one in _all(pulls) if one.about is not None and one.about.scope == about.scope]
    stopped = mine[-1] if mine and mine[-1].about == about and mine[-1].ended in {None, "incomplete"} else None
    for one in mine:
        if one != stopped:
            one._forget()  # noqa: SLF001 - its own class
    return stopped or _new(pulls, about)


def forget_stale(pulls: Path, now: datetime, *, most_hours: float) -> None:
    """Remove what pulls of any scope had brought that nobody may go on with any more."""
    for one in _all(pulls):
        began = one.started_at
        if one.ended not in {None, "incomplete"} or (began and now - began > timedelta(hours=most_hours)):
            one._forget()  # noqa: SLF001 - its own class


def _all(pulls: Path) -> list[Workplace]:
    return [Workplace(path) for path in sorted(pulls.iterdir()) if path.is_dir() and path.name != _NEW]


def _new(pulls: Path, about: About) -> Workplace:
    """A folder that appears with its name and what it is about at once."""
    remove_folder(pulls / _NEW)  # left by a pull that died
    working = private_folder(pulls / _NEW)
    write_private(working / _ABOUT, msgspec.json.encode(about))
    sync_folder(working)
    taken = {path.name for path in pulls.iterdir()}
    folder = pulls / next(name for name in _names() if name not in taken)
    rename(working, folder)
    return Workplace(folder)


def _names() -> Iterator[str]:
    """Names come from here, never from the data."""
    return (f"{number:06d}" for number in count(1))


def _read(path: Path, kind: type[Content]) -> Content | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
