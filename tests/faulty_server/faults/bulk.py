"""Faults of the course of a Bulk Data export and of its manifest, also of one on disk: F31 to F47."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from faulty_server import export
from faulty_server.answers import Answer, Inject, Json, Scene, edited, in_body, issues
from faulty_server.export import File
from faulty_server.faults.variant import Act, Variant, asks_to_wait, status

if TYPE_CHECKING:
    from pathlib import Path

_ELSEWHERE = "http://elsewhere.invalid/r4/bulk/1"
_KICKOFF, _STATUS, _MANIFEST, _DELETE = ("kickoff",), ("status",), ("manifest",), ("delete",)
Edit = Callable[[Json, Inject, Callable[[File], Json]], Json]


# --- kick-off and polling -------------------------------------------------------------------------------------------


def _headers(change: Callable[[str, Scene], dict[str, str]]) -> Act:
    """The kick-off with another Content-Location."""

    def act(answer: Answer, scene: Scene) -> Answer:
        return replace(answer, headers=change(answer.headers.get("content-location", ""), scene))

    return act


def _relative(address: str, scene: Scene) -> dict[str, str]:
    return {"content-location": address.removeprefix(scene.base.removesuffix("/r4"))}


def _elsewhere(_: str, scene: Scene) -> dict[str, str]:
    return {"content-location": scene.option}


def _accepts_unknown_group(answer: Answer, scene: Scene) -> Answer:
    return export.start(scene.server, scene, []) if answer.status == 404 else answer


def _bare(answer: Answer, _: Scene) -> Answer:
    return Answer(202) if answer.status == 202 else answer


def _never_done(_: Answer, __: Scene) -> Answer:
    return Answer(202, b"", {"retry-after": "1", "x-progress": "99 %"})


def _partial_manifest(answer: Answer, _: Scene) -> Answer:
    return replace(answer, status=202)


# --- the manifest, of a server and of a folder ----------------------------------------------------------------------


def _act(edit: Edit) -> Act:
    def act(answer: Answer, scene: Scene) -> Answer:
        if not isinstance(answer.body, dict):
            return answer
        return replace(answer, body=edit(answer.body, scene.inject, lambda file: export.add_file(scene, file)))

    return act


def _in_folder(edit: Edit) -> Callable[[Path, Inject], None]:
    """The same edit of the manifest.json of a folder; a file it adds lies beside it, and one it drops no longer does."""

    def spoil(folder: Path, inject: Inject) -> None:
        def add(file: File) -> Json:
            name = f"{file.kind}.ndjson"
            (folder / name).write_bytes(b"".join(file.blocks()))
            return {"type": file.resource_type, "url": name, "count": file.count}

        path = folder / "manifest.json"
        before = json.loads(path.read_text(encoding="utf-8"))
        after = edit(before, inject, add)
        path.write_text(json.dumps(after), encoding="utf-8")
        for name in {one["url"] for one in before["output"]} - {one["url"] for one in after["output"]}:
            (folder / name).unlink()

    return spoil


def _manifest(name: str, what: str, edit: Edit, **more: Any) -> Variant:
    return Variant(name, what, _MANIFEST, _act(edit), folder=_in_folder(edit), **more)


def _outputs(change: Callable[[Json, Inject], Json | None]) -> Edit:
    """Entries of the injection's type in the output changed, or taken away."""

    def edit(manifest: Json, inject: Inject, _: Any) -> Json:
        changed = [change(one, inject) if one["type"] == inject.resource_type else one for one in manifest["output"]]
        return manifest | {"output": [one for one in changed if one is not None]}

    return edit


def _error_file(severity: str, *, loses_files: bool) -> Edit:
    def edit(manifest: Json, inject: Inject, add: Callable[[File], Json]) -> Json:
        error = add(File("OperationOutcome", [issues("exception", severity)], "error"))
        kept = [one for one in manifest["output"] if one["type"] != inject.resource_type or not loses_files]
        return manifest | {"output": kept, "error": [*manifest.get("error", ()), error]}

    return edit


def _deletes(manifest: Json, inject: Inject, add: Callable[[File], Json]) -> Json:
    gone = [(inject.resource_type, str(inject.option))]
    return manifest | {"deleted": [add(File("Bundle", [export.deletions(gone)], "deleted"))]}


def _with(**changes: Any) -> Edit:
    return lambda manifest, _, __: {key: value for key, value in (manifest | changes).items() if value is not None}


def _counts(by: int | None) -> Edit:
    def change(one: Json, _: Inject) -> Json:
        counted = {key: value for key, value in one.items() if key != "count"}
        return counted if by is None else one | {"count": one.get("count", 0) + by}

    return _outputs(change)


def _next_manifest(write: Callable[[Scene], str]) -> Act:
    return lambda answer, scene: edited(answer, link=[{"relation": "next", "url": write(scene)}])


def _presigned_elsewhere(answer: Answer, scene: Scene) -> Answer:
    moved = [one | {"url": one["url"].replace(scene.base, scene.option)} for one in in_body(answer, "output")]
    return edited(answer, output=moved, requiresAccessToken=False)


BULK = (
    Variant("F31", "Content-Location is relative", _KICKOFF, _headers(_relative)),
    Variant("F31 foreign", "Content-Location is on another host (option: the address)", _KICKOFF, _headers(_elsewhere), option=_ELSEWHERE),
    Variant("F31 missing", "202 without Content-Location", _KICKOFF, _headers(lambda *_: {})),
    Variant("F32", "the kick-off is refused with 400", _KICKOFF, status(400, "invalid")),
    Variant("F32 none", "404, there is no export", _KICKOFF, status(404, "not-supported")),
    Variant("F32 not done", "501, there is no export", _KICKOFF, status(501, "not-supported")),
    Variant("F32 busy", "429 for the kick-off", _KICKOFF, status(429, "throttled", **{"retry-after": "1"})),
    Variant("F33", "202 without any header", _STATUS, _bare),
    Variant("F33 too often", "429 for a poll, with epoch seconds", _STATUS,
            asks_to_wait(lambda at: {"retry-after": str(int(at.timestamp()))})),
    Variant("F33 never", "the export is never done", _STATUS, _never_done),
    Variant("F34", "500 for a poll, issue.code=transient", _STATUS, status(500, "transient")),
    Variant("F34 for good", "500 for a poll, and not transient", _STATUS, status(500, "exception")),
    _manifest("F35", "done, and an error file says something failed", _error_file("error", loses_files=False)),
    _manifest("F35 lost", "done, but the files of a type are lost and an error file says so", _error_file("error", loses_files=True)),
    Variant("F35 silent", "done, and the files of a type are lost in silence", _MANIFEST, _act(_outputs(lambda *_: None)), page=0),
    _manifest("F35 warning", "done, with a warning in an error file", _error_file("warning", loses_files=False)),
    _manifest("F36", "count is larger than the lines delivered", _counts(1), page=0),
    _manifest("F36 more", "count is smaller than the lines delivered", _counts(-1), page=0),
    _manifest("F36 absent", "no count", _counts(None), page=0),
    Variant("F38 absent", "requiresAccessToken is absent", _MANIFEST, _act(_with(requiresAccessToken=None)),
            settings={"files_need_token": False}),
    Variant("F38 elsewhere", "files are on another host (option: its base)", _MANIFEST, _presigned_elsewhere,
            option="http://elsewhere.invalid/r4"),
    _manifest("F40", "deleted lists a resource (option: its id)", _deletes, option="deleted-long-ago"),
    Variant("F41", "the manifest comes in pages", _MANIFEST, settings={"manifest_files": 1}),
    Variant("F41 loops", "next of the manifest is the same page", _MANIFEST, _next_manifest(lambda scene: str(scene.url))),
    Variant("F41 foreign", "next of the manifest is on another host", _MANIFEST, _next_manifest(lambda _: _ELSEWHERE)),
    Variant("F41 continues", "continuesInFile names a file that does not exist", _MANIFEST,
            _act(_outputs(lambda one, _: one | {"continuesInFile": f"{one['url']}9"}))),
    Variant("F41 partial", "202 with a manifest that is not all yet (times=1: once)", _MANIFEST, _partial_manifest),
    Variant("F43", "202 and an empty export for an unknown Group", _KICKOFF, _accepts_unknown_group),
    _manifest("F45", "no transactionTime", _with(transactionTime=None), page=0),
    _manifest("F45 mangled", "request and outputOrganizedBy make no sense", _with(request="null", outputOrganizedBy=""), page=0),
    Variant("F47", "500 for the DELETE of the job", _DELETE, status(500, "exception")),
    Variant("F47 unknown", "404 for the DELETE of the job", _DELETE, status(404, "not-found")),
)  # fmt: skip
