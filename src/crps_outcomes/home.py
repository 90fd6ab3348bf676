"""The home folder: everything a run writes lands below it, readable by its owner only.

The root comes in by argument; only `cli.py` and `flows/` read it from the environment. What a pull writes, renames or
syncs, it does through this module.
"""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import TYPE_CHECKING, Self

from crps_outcomes.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
KEY_BYTES = 32


@dataclass(frozen=True)
class Home:
    """Where patient data may stand. Each folder is made with mode 0700 when it is first asked for."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> Home:
        """The home at ``root``, made if it is not there. A folder that exists keeps its mode; those below are private."""
        return cls(private_folder(Path(root).absolute()))

    @property
    def snapshots(self) -> Path:
        return private_folder(self.root / "snapshots")

    @property
    def pulls(self) -> Path:
        return private_folder(self.root / "pulls")

    @contextmanager
    def only_one_pull(self) -> Iterator[None]:
        """Nobody else pulls into this home meanwhile. The lock is the kernel's: it ends with the process that holds it.

        Raises:
            PipelineError: somebody else does.
        """
        with _locked(
            self.pulls / "lock", LOCK_EX | LOCK_NB, f"another pull into {self.root} is running; wait until it ends"
        ):
            yield

    @contextmanager
    def one_release_at_a_time(self) -> Iterator[None]:
        """Whoever makes, hands out or withdraws releases of this home takes turns: each is compared with all before."""
        with _locked(self.root / "release.lock", LOCK_EX, "another release is being made"):
            yield

    @property
    def release_key(self) -> bytes:
        """The key of the digests of who was behind a release; it never leaves this folder."""
        return secret(self.root / "release.key")

    @property
    def releases(self) -> int:
        """How many releases were made, as told beside the key: a register that knows of fewer has forgotten some.

        Raises:
            PipelineError: the file says no number.
        """
        path = self.root / "release.count"
        told = path.read_bytes().strip() if path.is_file() else b"0"
        if not told.isdigit():
            raise PipelineError(
                "release.count in the home folder: it should be one whole number; put it back from a backup"
            )
        return int(told)

    def count_releases(self, number: int) -> None:
        """Tell beside the key how many releases were made."""
        replace_private(self.root / "release.count", f"{number}\n".encode())

    @property
    def derived(self) -> Path:
        return private_folder(self.root / "derived")

    @property
    def runs(self) -> Path:
        return private_folder(self.root / "runs")

    @property
    def site(self) -> Path:
        return private_folder(self.root / "site")

    @property
    def release(self) -> Path:
        return private_folder(self.root / "release")

    @property
    def prefect(self) -> Path:
        return private_folder(self.root / "prefect")

    @property
    def state_url(self) -> str:
        """The SQLAlchemy address of the state database."""
        path = self.root / "state.sqlite"
        path.touch(PRIVATE_FILE)
        return f"sqlite:///{path}"


@contextmanager
def _locked(path: Path, how: int, otherwise: str) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        try:
            flock(handle, how)
        except BlockingIOError as error:
            raise PipelineError(otherwise) from error
        yield
    finally:
        os.close(handle)


def private_folder(path: Path) -> Path:
    """The folder, made with its parents if it is not there, and on disk when this returns; only its owner may read it."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        sync_folder(folder.parent)
    return path


class PrivateFile:
    """A new file with mode 0600 that is written in pieces and is on disk when the block ends.

    Raises:
        FileExistsError: the file is there; nothing is ever overwritten.
    """

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)

    def write(self, content: bytes) -> None:
        """Append all of the content."""
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._handle, rest) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                os.fsync(self._handle)
        finally:
            os.close(self._handle)


def write_private(path: Path, content: bytes) -> None:
    """A new file with mode 0600, on disk when this returns.

    Raises:
        FileExistsError: the file is there; nothing is ever overwritten.
    """
    with PrivateFile(path) as file:
        file.write(content)


def secret(path: Path) -> bytes:
    """The key in a file, drawn when it is first asked for; all of it is there or nothing, and it is never overwritten.

    Raises:
        PipelineError: the file is not a key.
    """
    if not path.exists():
        _draw(path)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise PipelineError(
            f"{path.name} in the home folder: it should have {KEY_BYTES} bytes and has {len(key)}; put it back from a backup"
        )
    return key


def _draw(path: Path) -> None:
    working = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    write_private(working, secrets.token_bytes(KEY_BYTES))
    try:
        with suppress(FileExistsError):  # another process drew it meanwhile: that one counts
            os.link(working, path)
    finally:
        working.unlink()
    sync_folder(path.parent)


def replace_private(path: Path, content: bytes) -> None:
    """The file with this content instead of any it had: all of the old or all of the new, whatever happens meanwhile."""
    working = path.with_name(f".{path.name}.tmp")
    working.unlink(missing_ok=True)  # left by a process that died
    write_private(working, content)
    rename(working, path)


def append_private(path: Path, content: bytes) -> None:
    """Add to a file with mode 0600; another thread's lines and these never mix."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
    try:
        os.write(handle, content)
    finally:
        os.close(handle)


def rename(source: Path, target: Path) -> None:
    """Give a file or folder its final name, on disk when this returns."""
    os.rename(source, target)  # noqa: PTH104 - beside os.write and os.fsync: what the crash tests fail stands here
    sync_folder(target.parent)


def remove_folder(path: Path) -> None:
    """Take a folder away with all that is in it, if it is there."""
    if path.exists():
        shutil.rmtree(path)


def sync_folder(path: Path) -> None:
    """Put the folder's list of names on disk, so that a rename in it survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
