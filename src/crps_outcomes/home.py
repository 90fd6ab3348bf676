"""The home folder: everything a run writes lands below it, readable by its owner only.

The root comes in by argument; only `cli.py` and `flows/` read it from the environment.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600


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

    @property
    def derived(self) -> Path:
        return private_folder(self.root / "derived")

    @property
    def runs(self) -> Path:
        return private_folder(self.root / "runs")

    @property
    def prefect(self) -> Path:
        return private_folder(self.root / "prefect")

    @property
    def state_url(self) -> str:
        """The SQLAlchemy address of the state database."""
        path = self.root / "state.sqlite"
        path.touch(PRIVATE_FILE)
        return f"sqlite:///{path}"


def private_folder(path: Path) -> Path:
    """The folder, made with its parents if it is not there; what is made is readable by its owner only."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    return path


def write_private(path: Path, content: bytes) -> None:
    """A new file with mode 0600, on disk when this returns.

    Raises:
        FileExistsError: the file is there; nothing is ever overwritten.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Put the folder's list of names on disk, so that a rename in it survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
