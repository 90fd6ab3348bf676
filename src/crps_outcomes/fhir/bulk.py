"""One Bulk Data export from kick-off to files on disk, after F31 to F47 of the catalogue in docs/completeness.md.

What is on the way stands in ``job.json``: a pull that was killed asks for the same job again and downloads only what
it has not. However it ends, the server is told to delete its copy. File names come from counters, never from the
server.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import file_digest
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from crps_outcomes.fhir.client import FaultError
from crps_outcomes.fhir.complaints import complaint_in
from crps_outcomes.fhir.files import lines_in
from crps_outcomes.fhir.pace import asked_to_wait, http_date
from crps_outcomes.fhir.source import JSON_ERRORS, TYPE_NAME, Part, instant
from crps_outcomes.fhir.unpack import UnpackError
from crps_outcomes.fhir.wire import Link  # noqa: TC001 - msgspec reads the annotations
from crps_outcomes.home import PrivateFile, private_folder, rename, replace_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crps_outcomes.definitions import Pull
    from crps_outcomes.fhir.client import Client, RawReply

_JOB = "job.json"
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS, _LONGEST_ADVISED_SECONDS = 2.0, 60.0, 600.0
_TIMES_A_FILE = 3
_MOST_MANIFEST_PAGES = 10_000
_GONE = frozenset({httpx.codes.NOT_FOUND, httpx.codes.GONE})
_ENDED = {401: "F18", 403: "F19", 429: "F20"}  # what ends an export and is not F34


class Output(msgspec.Struct, frozen=True):
    """A file of the manifest."""

    type: str = ""
    url: str = ""
    count: Any = None

    @property
    def resource_type(self) -> str:
        return self.type if TYPE_NAME.fullmatch(self.type) else "unknown"

    @property
    def declared(self) -> int | None:
        return self.count if type(self.count) is int and self.count >= 0 else None


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """What counts of a manifest; the rest some servers mangle, and it is only information (F45)."""

    transaction_time: Any = None
    requires_access_token: Any = None
    output: tuple[Output, ...] | None = ()
    error: tuple[Output, ...] | None = ()
    deleted: tuple[Output, ...] | None = ()
    link: tuple[Link, ...] | None = ()

    def with_page(self, page: Manifest) -> Manifest:
        """This manifest and the files of one more page."""
        return msgspec.structs.replace(
            self,
            output=(*(self.output or ()), *(page.output or ())),
            error=(*(self.error or ()), *(page.error or ())),
            deleted=(*(self.deleted or ()), *(page.deleted or ())),
            link=page.link,
        )

    @property
    def next(self) -> str:
        return next((link.url for link in self.link or () if link.relation == "next"), "")

    def files(self) -> Iterator[tuple[str, str, Output]]:
        """Every file: which list it stands in, the name it gets here, and what the manifest says of it."""
        for kind, outputs in (("output", self.output), ("error", self.error), ("deleted", self.deleted)):
            for number, output in enumerate(outputs or (), 1):
                yield kind, f"{kind}-{number:05d}.ndjson", output


class Done(msgspec.Struct, frozen=True):
    """A file that is whole on disk."""

    n_bytes: int
    sha256: str
    n_lines: int


class Job(msgspec.Struct):
    """An export on its way, as job.json keeps it."""

    asked: str  # the address of the kick-off
    started_at: datetime
    status_url: str
    folder: str
    manifest: Manifest = Manifest()  # as long as it has no transactionTime, the export is being made
    files: dict[str, Done] = {}
    delete_status: int = 0  # of the server's answer to DELETE; 0: not asked, or no answer
    is_settled: bool = False  # all is here, compared and without a hole


class _GoneError(FaultError):
    """The server has thrown the export away, or a file of it."""


@dataclass(frozen=True)
class Bulk:
    """Exports from one address of a server, into one private folder."""

    client: Client
    place: Path
    asked: httpx.URL  # the kick-off
    limits: Pull

    def delivered(self) -> tuple[Job, tuple[Part, ...]]:
        """A job with its files on disk, and a part with a hole for each file that could not be had.

        Raises:
            FaultError: the server refuses, does not finish, or throws the export away twice.
        """
        job = self._stopped()
        for is_last in (False, True):
            try:
                return self._carried_out(job or self._started())
            except _GoneError:
                if is_last:
                    raise
                self.forget()
                job = None
        raise AssertionError  # the loop returns or raises

    def settle(self, job: Job) -> None:
        """Nothing is missing: a pull that is killed from here on asks the server for nothing."""
        job.is_settled = True
        self._save(job)

    def forget(self) -> None:
        """The next pull has a new export made."""
        (self.place / _JOB).unlink(missing_ok=True)

    # --- a job and its end ---

    def _stopped(self) -> Job | None:
        """The job of a pull that was killed, if it asked for the same and what it downloaded is still as it was."""
        try:
            job = msgspec.json.decode((self.place / _JOB).read_bytes(), type=Job)
        except (OSError, *JSON_ERRORS):
            return None
        age = self.client.surroundings.now() - job.started_at
        if job.asked != str(self.asked) or age > timedelta(hours=self.limits.resume_hours):
            return None
        whole = {name: done for name, done in job.files.items() if _is_as_it_was(self.place / job.folder / name, done)}
        if job.is_settled and len(whole) < len(job.files):
            return None
        job.files = whole
        return job

    def _started(self) -> Job:
        """A new export (F31, F32)."""
        for old in self.place.glob("files-*"):
            shutil.rmtree(old, ignore_errors=True)
        reply = self.client.ask("GET", self.asked, headers={"Prefer": "respond-async"})
        if reply.status != httpx.codes.ACCEPTED:
            raise FaultError("F32", f"the export is refused, {_said(reply)} (kickoff_refused)", status=reply.status)
        if "content-location" not in reply.headers:
            raise FaultError("F31", "the server took the export but does not say where to ask for it")
        status_url = self.client.follow(reply.url, reply.headers["content-location"])
        folder = next(name for n in range(1, 10_000) if not (self.place / (name := f"files-{n:04d}")).exists())
        job = Job(str(self.asked), self.client.surroundings.now(), str(status_url), folder)
        self._save(job)
        return job

    def _carried_out(self, job: Job) -> tuple[Job, tuple[Part, ...]]:
        """The job waited for and downloaded; whatever happens, the server's copy is deleted (F47)."""
        if job.is_settled:
            return job, ()
        try:
            if job.manifest.transaction_time is None:
                job.manifest = self._manifest(self._polled(job))
                self._save(job)
            holes = tuple(self._downloaded(job))
        finally:
            job.delete_status = self._deleted(job)
        self._save(job)
        return job, holes

    def _deleted(self, job: Job) -> int:
        """The status of the answer; that the server keeps its copy is noted and nothing more."""
        try:
            return self.client.ask("DELETE", httpx.URL(job.status_url)).status
        except FaultError as fault:
            return fault.status

    def _save(self, job: Job) -> None:
        replace_private(self.place / _JOB, msgspec.json.encode(job))

    # --- waiting (F33, F34) ---

    def _polled(self, job: Job) -> RawReply:
        surroundings, hours = self.client.surroundings, self.limits.export_hours
        latest, wait = surroundings.clock() + hours * 3600, _FIRST_WAIT_SECONDS
        while True:
            reply = self.client.ask("GET", httpx.URL(job.status_url))
            if reply.status != httpx.codes.ACCEPTED:
                return _whole(reply, "the export ended with")
            pause = max(wait, _advised(reply, surroundings.now()))
            if surroundings.clock() + pause > latest:
                raise FaultError("F33", f"the export was not done after {hours:g} hours; see pull.export_hours")
            surroundings.sleep(pause)
            wait = min(wait * 1.5, _LONGEST_WAIT_SECONDS)

    # --- the manifest (F41, F45) ---

    def _manifest(self, reply: RawReply) -> Manifest:
        """All its pages as one."""
        manifest, seen = _read_manifest(reply), {str(reply.url)}
        if instant(manifest.transaction_time) is None:
            raise FaultError("F45", "the manifest has no transactionTime, so nothing says how old the data are")
        while manifest.next:
            url = self.client.follow(reply.url, manifest.next)
            if str(url) in seen or len(seen) >= _MOST_MANIFEST_PAGES:
                raise FaultError("F02", "the pages of the manifest do not end (paging_loop)")
            seen.add(str(url))
            reply = _whole(self.client.ask("GET", url), "a page of the manifest,")
            manifest = manifest.with_page(_read_manifest(reply))
        return manifest

    # --- the files (F37 to F39) ---

    def _downloaded(self, job: Job) -> Iterator[Part]:
        """Download what is not there yet; a part for each file that cannot be had."""
        folder = private_folder(self.place / job.folder)
        for _, name, output in job.manifest.files():
            if name in job.files:
                continue
            try:
                job.files[name] = self._file(job, folder / name, output)
            except FaultError as fault:
                if fault.status in _GONE:
                    raise _GoneError(
                        "F37", "a file of the export is gone (file_expired)", status=fault.status
                    ) from fault
                yield Part(f"export {name}", 0, output.resource_type, hole=str(fault))
            else:
                self._save(job)

    def _file(self, job: Job, path: Path, output: Output) -> Done:
        """One file whole on disk; a cut one is thrown away and asked for again."""
        url = self.client.follow(httpx.URL(job.status_url), output.url)
        working = path.with_name(f"{path.name}.part")
        for times_left in reversed(range(_TIMES_A_FILE)):
            try:
                done = self._poured(url, working, with_token=job.manifest.requires_access_token is True)
            except FaultError as fault:
                if fault.code != "F39" or not times_left:
                    raise
                self.client.surroundings.sleep(_FIRST_WAIT_SECONDS)
            else:
                rename(working, path)
                return done
        raise AssertionError  # the last time returns or raises

    def _poured(self, url: httpx.URL, working: Path, *, with_token: bool) -> Done:
        working.unlink(missing_ok=True)
        with PrivateFile(working) as file:
            got = self.client.download(url, file.write, with_token=with_token)
        return Done(got.n_bytes, got.sha256, _count(working))


def _count(path: Path) -> int:
    """The lines of a file that has arrived.

    Raises:
        FaultError: its last line is cut (F39). Lines that are too long are found when the folder is looked through.
    """
    n_lines, line = 0, None
    try:
        for n_lines, line in enumerate(lines_in(path), 1):  # noqa: B007 - the last one matters
            pass
        if line is not None and not line.is_ended:
            msgspec.json.decode(line.text, type=msgspec.Raw)
    except UnpackError:
        return n_lines
    except JSON_ERRORS as error:
        raise FaultError("F39", "a file whose last line is cut") from error
    return n_lines


def _is_as_it_was(path: Path, done: Done) -> bool:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest() == done.sha256
    except OSError:
        return False


def _read_manifest(reply: RawReply) -> Manifest:
    try:
        return msgspec.json.decode(reply.body, type=Manifest)
    except JSON_ERRORS as error:
        raise FaultError("F22", "the export ended with something that is no manifest") from error


def _whole(reply: RawReply, what: str) -> RawReply:
    """The reply if its status is 200."""
    if reply.status == httpx.codes.OK:
        return reply
    kind = _GoneError if reply.status in _GONE else FaultError
    raise kind(_ENDED.get(reply.status, "F34"), f"{what} {_said(reply)}", status=reply.status)


def _said(reply: RawReply) -> str:
    """The status and the code of an outcome; its text may repeat a patient's data."""
    code = complaint_in(reply.body).code
    return f"HTTP {reply.status}" + (f" ({code})" if code else "")


def _advised(reply: RawReply, now: datetime) -> float:
    """Seconds that the server asks to wait before the next poll."""
    date = http_date(reply.headers.get("date", "")) or now
    return min(asked_to_wait(reply.headers, date) or 0.0, _LONGEST_ADVISED_SECONDS)
