"""A disk that fails at the Nth thing a program does to it, or that only watches.

What counts, in the folder that is watched: files and folders made, writes, syncs, renames, names taken away, and the
COMMITs of databases. A failing write writes nothing; a failing rename renames nothing.
"""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NEEDS_SPACE = frozenset({"create", "write", "mkdir", "rename", "commit"})
_SQLITE_NAMES = {errno.ENOSPC: "SQLITE_FULL", errno.EIO: "SQLITE_IOERR_WRITE"}


class Operation(NamedTuple):
    """Something about to be done: to a path, with what is written, or with the name it gets."""

    kind: str
    path: Path
    content: bytes = b""
    target: Path = Path()


@contextmanager
def watched(folder: Path, before: Callable[[Operation], None]) -> Iterator[None]:
    """Tell of every operation below a folder before it is done; what is raised stands for its failure.

    Nothing is really synced: that would take long, and without a power cut nobody can tell.
    """
    disk = _Disk(folder, before)
    commit = lambda connection: disk.commit(Path(connection.engine.url.database))  # noqa: E731 - SQLAlchemy wants one object
    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "close", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
            patch.setattr(os, name, partial(getattr(disk, name), getattr(os, name)))
        event.listen(Engine, "commit", commit)
        event.listen(Engine, "connect", _not_synced)
        try:
            yield
        finally:
            event.remove(Engine, "commit", commit)
            event.remove(Engine, "connect", _not_synced)


def _not_synced(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")


class _Disk:
    """The functions of ``os``, each with the one it stands for as its first argument."""

    def __init__(self, folder: Path, before: Callable[[Operation], None]) -> None:
        self.folder, self.before, self.names = folder, before, dict[int, Path]()

    def open(self, real, path, flags, *args, dir_fd=None, **more):
        place = self._place(path, dir_fd)
        if flags & os.O_CREAT and not place.exists():
            self._tell("create", place)
        handle = real(path, flags, *args, dir_fd=dir_fd, **more)
        self.names[handle] = place
        return handle

    def close(self, real, handle):
        self.names.pop(handle, None)
        real(handle)

    def write(self, real, handle, content):
        if handle in self.names:
            self._tell("write", self.names[handle], bytes(content))
        return real(handle, content)

    def fsync(self, real, handle):
        if handle in self.names:
            self._tell("fsync", self.names[handle])

    def rename(self, real, source, target, **more):
        self._tell("rename", Path(source), target=Path(target))
        real(source, target, **more)

    replace = rename

    def mkdir(self, real, path, *args, dir_fd=None, **more):
        self._tell("mkdir", self._place(path, dir_fd))
        real(path, *args, dir_fd=dir_fd, **more)

    def unlink(self, real, path, *, dir_fd=None):
        self._taken_away(real, "unlink", path, dir_fd)

    def rmdir(self, real, path, *, dir_fd=None):
        self._taken_away(real, "rmdir", path, dir_fd)

    def commit(self, database: Path) -> None:
        self._tell("commit", database)

    def _taken_away(self, real, kind, path, dir_fd):
        place = self._place(path, dir_fd)
        if place.exists():
            self._tell(kind, place)
        real(path, dir_fd=dir_fd)

    def _tell(self, kind: str, path: Path, content: bytes = b"", target: Path = Path()) -> None:
        if self.folder == path or self.folder in path.parents:
            self.before(Operation(kind, path, content, target))

    def _place(self, path: Any, dir_fd: int | None) -> Path:
        return Path(path) if dir_fd is None else self.names.get(dir_fd, Path("elsewhere")) / path


def killed(_: Operation) -> None:
    """The process is gone, and cleans up nothing."""
    os.kill(os.getpid(), signal.SIGKILL)


def full(operation: Operation) -> None:
    """No space is left."""
    _raise(errno.ENOSPC, operation)


def broken(operation: Operation) -> None:
    """The device does not do it."""
    _raise(errno.EIO, operation)


def _raise(number: int, operation: Operation) -> None:
    if operation.kind != "commit":
        raise OSError(number, os.strerror(number), str(operation.path))
    said = sqlite3.OperationalError("as SQLite would say")
    said.sqlite_errorname = _SQLITE_NAMES[number]
    raise OperationalError("COMMIT", None, said)


@dataclass
class Failing:
    """Does the failure at the Nth operation. A disk that is full stays full."""

    nth: int
    fail: Callable[[Operation], None]
    n_seen: int = 0

    def __call__(self, operation: Operation) -> None:
        self.n_seen += 1
        stays = self.fail is full and operation.kind in _NEEDS_SPACE
        if self.n_seen == self.nth or (stays and self.n_seen > self.nth):
            self.fail(operation)

    @property
    def has_failed(self) -> bool:
        return self.n_seen >= self.nth


def survives(work: Callable[[], object]) -> bool:
    """Do something in a process of its own; False if it is killed.

    Raises:
        AssertionError: it failed otherwise; its traceback is on stderr.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - nothing may come back into the parent's copy of the test
            import traceback  # noqa: PLC0415

            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status in {0, signal.SIGKILL}, "see stderr"
    return status == 0
