"""Bulk Data ``$export``: kick-off, polling, manifest in pages, NDJSON files, deletion of the job."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faulty_server.answers import NDJSON_TYPE, Answer, Json, Row, Scene, line, outcome
from faulty_server.search import instant, patients_of, updated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from faulty_server.server import FaultyServer

_FORMATS = {"", "application/fhir+ndjson", "application/ndjson", "ndjson"}
_PARAMETERS = {"_type", "_since", "_typeFilter", "_outputFormat", "_elements"}
#: What belongs to no patient and comes with an export of patients all the same.
_BESIDE = frozenset({"Group", "Medication", "ResearchStudy"})


@dataclass(frozen=True)
class Lines:
    """Encoded lines with their line ends, made anew for every download; ``count`` goes into the manifest."""

    source: Path | Callable[[], Iterator[bytes]]
    count: int | None = None

    def blocks(self) -> Iterator[bytes]:
        if not isinstance(self.source, Path):
            yield from self.source()
            return
        with self.source.open("rb") as file:
            while block := file.read(65_536):
                yield block


@dataclass(frozen=True)
class File:
    resource_type: str
    rows: Sequence[Row] | Lines
    kind: str = "output"  # or error, deleted, unlisted
    number: int = 1  # among the files of its type

    @property
    def count(self) -> int | None:
        return self.rows.count if isinstance(self.rows, Lines) else len(self.rows)

    def blocks(self) -> Iterator[bytes]:
        if isinstance(self.rows, Lines):
            yield from self.rows.blocks()
        else:
            yield from (line(row) + b"\n" for row in self.rows)


@dataclass
class Job:
    url: str
    at: datetime
    files: list[File] = field(default_factory=list)
    n_polls: int = 0


def kick_off(server: FaultyServer, scene: Scene, level: str, group: str) -> Answer:
    answer = _refused(server, scene, level, group) or start(server, scene, _files(server, scene, level, group))
    return server.faulty(answer, scene, "kickoff", 1)


def _refused(server: FaultyServer, scene: Scene, level: str, group: str) -> Answer | None:
    headers, asked = scene.request.headers, scene.url.params
    if "respond-async" not in headers.get("prefer", "") or "application/fhir+json" not in headers.get("accept", ""):
        return outcome(400, "required")
    if level == "Group" and not any(one["resourceType"] == level and one.get("id") == group for one in server.stored()):
        return outcome(404, "not-found")
    wrong = set(asked) - _PARAMETERS or asked.get("_outputFormat", "") not in _FORMATS
    wrong = wrong or ("_since" in asked and instant(asked["_since"]) is None)
    wrong = wrong or _types(scene) - {
        *server.parameters,
        *server.lines,
        *(one["resourceType"] for one in server.stored()),
    }
    if wrong:
        return outcome(400, "invalid")
    return server.smart.refusal_of_export(scene, _types(scene)) if server.smart else None


def start(server: FaultyServer, scene: Scene, files: list[File]) -> Answer:
    """A new job with these files; 202 and where to ask for it."""
    job = str(len(server.jobs) + 1)
    server.jobs[job] = Job(str(scene.request.url), server.now(), files)
    return Answer(202, b"", {"content-location": f"{scene.base}/bulkstatus/{job}"})


def _types(scene: Scene) -> set[str]:
    return {name for text in scene.url.params.get_list("_type") for name in text.split(",") if name}


def _files(server: FaultyServer, scene: Scene, level: str, group: str) -> list[File]:
    asked, since = _types(scene), instant(scene.url.params.get("_since", ""))
    if server.smart:
        asked = server.smart.narrowed(
            scene, asked or {one["resourceType"] for one in server.stored()} | {*server.lines}
        )
        if not asked:
            return []
    found: dict[str, list[Json]] = {}
    for one in _exported(server, level, group, since):
        if not asked or one["resourceType"] in asked:
            found.setdefault(one["resourceType"], []).append(one)
    files = [each for name, rows in found.items() for each in _split(server, replace(scene, name=name), rows)]
    files += [
        File(name, lines if isinstance(lines, Lines) else Lines(lines))
        for name, lines in server.lines.items()
        if not asked or name in asked
    ]
    return [*files, *_deletions(server, asked, since)]


def _split(server: FaultyServer, scene: Scene, rows: Sequence[Json]) -> Iterator[File]:
    size = server.setting("file_lines")
    for number, at in enumerate(range(0, len(rows), size), 1):
        yield File(scene.name, server.faulty_rows(rows[at : at + size], scene, number), number=number)


def _exported(server: FaultyServer, level: str, group: str, since: datetime | None) -> Iterator[Json]:
    """What the level holds and has changed; of who joined the Group since then, everything."""
    stored = server.stored()
    members = {each: joined for one in stored if one.get("id") == group for each, joined in _members(one)}
    new = {each for each, joined in members.items() if since and joined and joined > since}
    for one in stored:
        own, name = {*patients_of(one)}, one["resourceType"]
        is_beside = name in _BESIDE and (name != "Group" or level != "Group" or one.get("id") == group)
        is_in = {"": True, "Patient": bool(own), "Group": bool(own & {*members})}[level] or is_beside
        is_changed = since is None or "meta" not in one or updated(one) > since
        if is_in and (is_changed or (own & new and server.setting("whole_new_members"))):
            yield one


def _members(group: Json) -> Iterator[tuple[str, datetime | None]]:
    """Everybody the Group lists, inactive or not (F27), and since when."""
    for one in group.get("member", ()):
        reference = one.get("entity", {}).get("reference", "")
        yield reference.removeprefix("Patient/"), instant(one.get("period", {}).get("start", ""))


def _deletions(server: FaultyServer, asked: set[str], since: datetime | None) -> Iterator[File]:
    gone = [key for key, at in server.deleted.items() if since and at >= since and (not asked or key[0] in asked)]
    if gone:
        yield File("Bundle", [deletions(gone)], "deleted")


def deletions(keys: Sequence[tuple[str, str]]) -> Json:
    entries = [{"request": {"method": "DELETE", "url": f"{name}/{identity}"}} for name, identity in keys]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


# --- the job --------------------------------------------------------------------------------------------------------


def status(server: FaultyServer, scene: Scene, job: str) -> Answer:
    """202 while it works, then the manifest; DELETE ends it."""
    scene = replace(scene, job=job)
    own = server.jobs.get(job)
    if scene.request.method == "DELETE":
        server.jobs.pop(job, None)
        return server.faulty(Answer(202) if own else outcome(404, "not-found"), scene, "delete", 1)
    if own is None:
        return outcome(404, "not-found")
    own.n_polls += 1
    answer, page = (
        Answer(202, b"", {"retry-after": "1", "x-progress": "working"}),
        int(scene.url.params.get("page", "1")),
    )
    if own.n_polls > server.setting("polls"):
        answer = server.faulty(Answer(200, _manifest(server, scene, own, page)), scene, "manifest", page)
    return server.faulty(answer, scene, "status", own.n_polls)


def _manifest(server: FaultyServer, scene: Scene, job: Job, page: int) -> Json:
    size, start_at = server.setting("manifest_files"), (page - 1) * server.setting("manifest_files")
    made: Json = {
        "transactionTime": job.at.isoformat().replace("+00:00", "Z"),
        "request": job.url,
        "requiresAccessToken": server.needs_token_for_files,
        **{kind: [] for kind in ("output", "error", "deleted")},
    }
    listed = [(number, one) for number, one in enumerate(job.files) if one.kind in made]
    for number, one in listed[start_at : start_at + size]:
        made[one.kind].append(entry(scene, number, one))
    if start_at + size < len(listed):
        made["link"] = [{"relation": "next", "url": f"{scene.base}/bulkstatus/{scene.job}?page={page + 1}"}]
    return made


def entry(scene: Scene, number: int, one: File) -> Json:
    counted = {} if one.count is None else {"count": one.count}
    return {"type": one.resource_type, "url": f"{scene.base}/bulkfiles/{scene.job}/{number}", **counted}


def add_file(scene: Scene, one: File) -> Json:
    """One more file of the job, as a fault may list it; the manifest itself does not, and it is not added twice."""
    files, one = scene.server.jobs[scene.job].files, replace(one, kind="unlisted")
    if one not in files:
        files.append(one)
    return entry(scene, files.index(one), one)


def file(server: FaultyServer, scene: Scene, job: str, number: str) -> Answer:
    """One file, packed on the way for who accepts that."""
    own = server.jobs.get(job)
    if own is None or int(number) >= len(own.files):
        return outcome(404, "not-found")
    one = own.files[int(number)]
    scene = replace(scene, name=one.resource_type, job=job)
    answer = server.faulty(Answer(200, one.blocks, {"content-type": NDJSON_TYPE}), scene, "file", one.number)
    wants = "gzip" in scene.request.headers.get("accept-encoding", "") and server.setting("packs")
    return packed(answer) if wants and answer.status == 200 and "content-encoding" not in answer.headers else answer


def packed(answer: Answer) -> Answer:
    return replace(answer, body=lambda: _gzip(answer.chunks()), headers={**answer.headers, "content-encoding": "gzip"})


def _gzip(chunks: Iterator[bytes], window: int = 31) -> Iterator[bytes]:
    packer: Any = zlib.compressobj(1, wbits=window)
    for chunk in chunks:
        if block := packer.compress(chunk):
            yield block
    yield packer.flush()
