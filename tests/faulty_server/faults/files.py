"""Faults of the files of a Bulk Data export, downloaded or on disk: F35 to F42."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from faulty_server.answers import Answer, Inject, Row, Scene, outcome
from faulty_server.faults.variant import Variant, status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LINES, _FILE = ("lines",), ("file",)


def _refuses_a_token(answer: Answer, scene: Scene) -> Answer:
    """As a store with signed addresses does: two ways to be allowed are one too many."""
    return outcome(400, "security") if "authorization" in scene.request.headers else answer


def _bytes(change: Callable[[bytes], bytes]) -> dict[str, Any]:
    """The file of the type with other bytes, downloaded or on disk."""

    def act(answer: Answer, _: Scene) -> Answer:
        return replace(answer, body=change(answer.content))

    def spoil(folder: Path, inject: Inject) -> None:
        path = folder / f"{inject.resource_type}.ndjson"
        path.write_bytes(change(path.read_bytes()))

    return {"act": act, "folder": spoil}


def _cut_packed(answer: Answer, _: Scene) -> Answer:
    packed = gzip.compress(answer.content)
    return replace(answer, body=packed[:-12], headers={**answer.headers, "content-encoding": "gzip"})


def _cut_packed_on_disk(folder: Path, inject: Inject) -> None:
    path = folder / f"{inject.resource_type}.ndjson"
    path.with_suffix(".ndjson.gz").write_bytes(gzip.compress(path.read_bytes())[:-12])
    path.unlink()
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"{path.name}"', f'"{path.name}.gz"'), encoding="utf-8")


def _missing_on_disk(folder: Path, inject: Inject) -> None:
    (folder / f"{inject.resource_type}.ndjson").unlink()


def _html_on_disk(folder: Path, inject: Inject) -> None:
    (folder / f"{inject.resource_type}.ndjson").write_bytes(b"<html>login</html>\n")


def _unlisted_on_disk(folder: Path, inject: Inject) -> None:
    (folder / "of-another-export.ndjson").write_bytes((folder / f"{inject.resource_type}.ndjson").read_bytes())


def _lines(change: Callable[[list[bytes]], list[bytes]]) -> dict[str, Any]:
    return _bytes(lambda content: b"".join(change(content.splitlines(keepends=True))))


def _is_stranger_type(rows: list[Row], _: Any) -> list[Row]:
    return [{"resourceType": "Basic", "id": "of-another-type"}, *rows[1:]]


def _none(_: list[Row], __: Any) -> list[Row]:
    return []


def _unreadable(rows: list[Row], _: Any) -> list[Row]:
    return [b'{"resourceType":"Observ', *rows[1:]]


FILES = (
    Variant("F35 unlisted", "a file that the manifest does not list lies there", folder=_unlisted_on_disk),
    Variant("F36 short", "the last line of a file is missing", _FILE, **_lines(lambda lines: lines[:-1])),
    Variant("F37", "410 for a file", _FILE, status(410, "expired"), folder=_missing_on_disk),
    Variant("F37 gone", "404 for a file", _FILE, status(404, "not-found")),
    Variant("F38", "requiresAccessToken is false, and a token with a file is refused", _FILE, _refuses_a_token,
            settings={"files_need_token": False}),
    Variant("F38 expires", "401 for a file", _FILE, status(401, "login")),
    Variant("F39", "a file ends in the middle of a line", _FILE, **_bytes(lambda content: content[:-9])),
    Variant("F39 reset", "the connection dies in the middle of a file", _FILE,
            lambda answer, _: replace(answer, body=answer.content[:-9], is_cut=True)),
    Variant("F39 gzip", "a packed file is cut", _FILE, _cut_packed, folder=_cut_packed_on_disk),
    Variant("F39 blank", "blank lines", _FILE, **_lines(lambda lines: [b"\n", *lines, b"\n"])),
    Variant("F39 no end", "no newline at the end", _FILE, **_bytes(lambda content: content.removesuffix(b"\n"))),
    Variant("F39 other type", "a line of another type", _LINES, rows=_is_stranger_type),
    Variant("F39 unreadable", "a line that is no JSON", _LINES, rows=_unreadable),
    Variant("F39 html", "200 with HTML instead of a file", _FILE,
            lambda *_: Answer(200, b"<html>login</html>", {"content-type": "text/html"}), folder=_html_on_disk),
    Variant("F42", "a type is empty", _LINES, rows=_none, page=0),
)  # fmt: skip
