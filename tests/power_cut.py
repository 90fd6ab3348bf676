"""What a power cut may leave of a folder: what was synced is there, of the rest as much or as little as the disk liked.

A name is on disk when its folder was synced, a content when its file was. Databases are SQLite's own business: what
was committed is there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from failing_disk import Operation

#: Which names that were not synced the cut leaves as they were made, and how much of an unsynced content.
SURVIVING = {"nothing": (), "everything": ("create", "mkdir", "rename", "unlink", "rmdir"), "removals": ("unlink", "rmdir"),
             "renames": ("rename",)}  # fmt: skip
CONTENTS = ("none", "half")


@dataclass
class _Inode:
    """A file, or a folder if it has names: as it is, and as it was when it was last synced."""

    content: bytes = b""
    synced: bytes = b""
    names: dict[str, _Inode] | None = None
    synced_names: dict[str, _Inode] = field(default_factory=dict)
    since: list[tuple[Any, ...]] = field(default_factory=list)

    def sync(self) -> None:
        self.synced, self.synced_names, self.since = self.content, dict(self.names or {}), []

    def surviving(self, kinds: Iterable[str]) -> dict[str, _Inode]:
        names = dict(self.synced_names)
        for kind, name, other, inode in self.since:
            if kind in kinds:
                names.pop(name, None)
                if inode is not None:
                    names[other] = inode
        return names


class Disk:
    """A folder and what is done to it, operation by operation."""

    def __init__(self, folder: Path) -> None:
        """The folder as it is now, all of it on disk. ``database``: what the one in it holds."""
        self.folder, self.database = folder, b""
        self.root = self._read(folder)

    def _read(self, path: Path) -> _Inode:
        if path.is_dir():
            inode = _Inode(names={one.name: self._read(one) for one in path.iterdir()})
        else:
            inode = _Inode(content=path.read_bytes())
        inode.sync()
        return inode

    def do(self, operation: Operation) -> None:
        kind, path = operation.kind, operation.path
        if kind == "write":
            self._inode(path).content += operation.content
        elif kind == "fsync":
            self._inode(path).sync()
        elif kind in {"create", "mkdir"}:
            self._change(kind, path, path.name, _Inode(names={} if kind == "mkdir" else None))
        elif kind == "rename":
            assert path.parent == operation.target.parent  # a rename between folders is two changes
            self._change(kind, path, operation.target.name, self._inode(path))
        elif kind in {"unlink", "rmdir"}:
            self._change(kind, path, "", None)

    def _change(self, kind: str, path: Path, other: str, inode: _Inode | None) -> None:
        parent = self._inode(path.parent)
        parent.names.pop(path.name, None)
        if inode is not None:
            parent.names[other] = inode
        parent.since.append((kind, path.name, other, inode))

    def _inode(self, path: Path) -> _Inode:
        inode = self.root
        for name in path.relative_to(self.folder).parts:
            inode = inode.names[name]
        return inode

    def left(self, kinds: Iterable[str], contents: str) -> dict[str, bytes | None]:
        """Path -> content, or None for a folder."""
        return dict(self._left(self.root, "", kinds, contents)) | {"state.sqlite": self.database}

    def _left(self, inode, path, kinds, contents):
        for name, one in inode.surviving(kinds).items():
            if one.names is None:
                rest = one.content[len(one.synced) :] if contents == "half" else b""
                yield path + name, one.synced + rest[: len(rest) // 2]
            else:
                yield path + name, None
                yield from self._left(one, f"{path}{name}/", kinds, contents)


def laid_out(left: dict[str, bytes | None], folder: Path) -> Path:
    """The folder with what a power cut left."""
    folder.mkdir(mode=0o700)
    for path, content in left.items():
        if content is None:
            (folder / path).mkdir(mode=0o700)
        else:
            (folder / path).write_bytes(content)
    return folder
