"""Releases: what was released by one home, in the database of `state`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, delete, func, insert, select

from crps_outcomes.differencing import DIGEST_BYTES, Register, Standing
from crps_outcomes.errors import DisclosureError
from crps_outcomes.state import open_engine, slices

if TYPE_CHECKING:
    from collections.abc import Mapping

_METADATA = MetaData()
_RELEASE_KEYS = Table("release_keys", _METADATA, Column("key_check", String(64), primary_key=True))
_RELEASED_MEMBERS = Table(
    "released_members",
    _METADATA,
    Column("quantity", String, primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("members", LargeBinary),
)
_RELEASED_ROWS = Table(
    "released_rows",
    _METADATA,
    Column("row", String, primary_key=True),
    Column("content", String),
)
_RELEASES = Table(
    "releases",
    _METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("last", String),  # JSON of `differencing.Standing`
)


class Releases:
    """What was released by one home, and digests of who was behind it (`differencing.Register`).

    One home, one register, whatever the study is called: its readers are the same.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url, _METADATA)

    def number(self) -> int:
        """How many releases were remembered here."""
        with self._engine.connect() as connection:
            return int(connection.execute(select(func.coalesce(func.max(_RELEASES.c.number), 0))).scalar_one())

    def register(self, key_check: str) -> Register:
        """Everything released before.

        Raises:
            DisclosureError: it was written with another key, so nothing can be compared with it.
        """
        with self._engine.connect() as connection:
            if any(one.key_check != key_check for one in connection.execute(select(_RELEASE_KEYS))):
                raise DisclosureError(
                    "release.key in the home folder is not the one earlier releases were remembered with; put it back"
                )
            versions: dict[str, list[dict[bytes, bytes]]] = {}
            for row in connection.execute(select(_RELEASED_MEMBERS).order_by("quantity", "version")):
                versions.setdefault(row.quantity, []).append(_unpacked(row.members))
            rows = {row.row: json.loads(row.content) for row in connection.execute(select(_RELEASED_ROWS))}
            told = connection.execute(select(_RELEASES.c.last)).scalar_one_or_none()
        return Register({name: tuple(own) for name, own in versions.items()}, rows, _standing(told))

    def keep(self, register: Register, key_check: str) -> int:
        """Remember a release in place of what was known before, all of it or nothing; how many there were."""
        number = self.number() + 1
        members = [
            {"quantity": name, "version": _in_order(place, packed), "members": packed}
            for name, own in register.versions.items()
            for place, packed in enumerate(map(_packed, own))
        ]
        rows = [{"row": name, "content": json.dumps(content)} for name, content in register.rows.items()]
        last = json.dumps(asdict(register.last)) if register.last else ""
        told: tuple[tuple[Table, list[dict[str, Any]]], ...] = (
            (_RELEASE_KEYS, [{"key_check": key_check}]), (_RELEASES, [{"number": number, "last": last}]),
            (_RELEASED_MEMBERS, members), (_RELEASED_ROWS, rows),
        )  # fmt: skip
        with self._engine.begin() as connection:
            for table, contents in told:
                connection.execute(delete(table))
                for some in slices(contents):
                    connection.execute(insert(table), list(some))
        return number


def _standing(told: str | None) -> Standing | None:
    if not told:
        return None
    last = json.loads(told)
    return Standing(**{**last, "rows": tuple(last["rows"])})


def _in_order(place: int, packed: bytes) -> str:
    """The name of a version: names in order are versions in order, the last released at the end."""
    return f"{place:06d}-{hashlib.sha256(packed).hexdigest()[:57]}"


def _packed(version: Mapping[bytes, bytes]) -> bytes:
    return b"".join(person + content for person, content in sorted(version.items()))


def _unpacked(packed: bytes) -> dict[bytes, bytes]:
    pairs = (packed[at : at + 2 * DIGEST_BYTES] for at in range(0, len(packed), 2 * DIGEST_BYTES))
    return {pair[:DIGEST_BYTES]: pair[DIGEST_BYTES:] for pair in pairs}
