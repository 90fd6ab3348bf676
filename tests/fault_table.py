"""Every fault of the catalogue by every way of reading a source, and what a pull makes of it.

Each run is a whole pull of a small cohort in this process; waits are not waited for. A run that is not refused is
compared with what the source really holds, resource by resource: what is missing, or more, or other, and is not
accounted for is a violation.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jwt
import pandas as pd
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from small_cohort import cohort, consent, group, member, observation, protocol, resource

from crps_outcomes.errors import PipelineError
from crps_outcomes.fhir import export_source, folder_source, rest_source
from crps_outcomes.fhir.auth import bearer_from_variable
from crps_outcomes.fhir.client import Surroundings
from crps_outcomes.fhir.keys import signing_key
from crps_outcomes.fhir.smart import SmartBackend
from crps_outcomes.home import Home
from crps_outcomes.stages.pull import pull
from faulty_server import BASE, CATALOGUE, VARIANTS, FaultyServer, Inject, Smart, write_folder
from faulty_server.answers import EXPORT_PLACES, REST_PLACES, SMART_PLACES, key_of
from faulty_server.injection import full
from faulty_server.search import patients_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crps_outcomes.definitions import Protocol
    from crps_outcomes.stages.pull import Pulled
    from faulty_server import Fault, Variant

Json = dict[str, Any]
Verdict = Literal["recovered", "as sent", "rejected", "refused", "short", "not asked for", "VIOLATION"]

SOURCES = ("rest", "export", "folder")
LASTING, ONCE = 1_000_000, 1
FOLDER, NIGHTS = "files", "nights"  # places that the kit does not name
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOKEN = bearer_from_variable("TOKEN", {"TOKEN": "secret-token"})
KEY = ec.generate_private_key(ec.SECP384R1())
#: What the kit's server writes into its answers, and a token: no message repeats any of it.
NOT_TO_BE_REPEATED = ("Jane", "Roe", "1970-01-01", "elsewhere.invalid", "secret-token", "a-1", "Patient/")
#: Faults that show, or are found, from one night to the next.
OVER_NIGHTS = frozenset(
    {*((code, source) for code in ("F25", "F26", "F40", "F44") for source in SOURCES), ("F42", "folder")}
)
#: What changes after the only page of a search is a change after that search: the next night's.
_AFTER_A_PAGE = frozenset({"F04"})
_MANY_PLACES = 5
_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # thousands of small files, each synced


@dataclass(frozen=True)
class Case:
    """A fault at a place of a source, ``times`` often."""

    variant: str
    source: str
    at: str
    times: int = LASTING
    resource_type: str = "Observation"


@dataclass(frozen=True)
class Outcome:
    """How a run ended. ``words``: the ledger's line of a refusal, or what there is to say of a pull that went on."""

    verdict: Verdict
    words: str = ""
    exit_code: int = 0
    state: str = ""

    @property
    def code(self) -> str:
        found = re.search(r"\bF\d\d\b", self.words)
        return found[0] if found and self.exit_code else ""


@dataclass
class Clock:
    """The time of everybody; only sleeping moves it."""

    now_at: datetime = START

    def now(self) -> datetime:
        return self.now_at

    def seconds(self) -> float:
        return self.now_at.timestamp()

    def sleep(self, seconds: float) -> None:
        self.now_at += timedelta(seconds=seconds)

    def surroundings(self) -> Surroundings:
        return Surroundings(sleep=self.sleep, chance=lambda: 0.5, now=self.now, clock=self.seconds)


class Watched(FaultyServer):
    """Knows whether its faults have changed any answer."""

    has_struck = False

    def faulty(self, answer, scene, at, page):
        spoiled = super().faulty(answer, scene, at, page)
        self.has_struck |= spoiled != answer
        return spoiled

    def faulty_rows(self, rows, scene, page):
        spoiled = super().faulty_rows(rows, scene, page)
        self.has_struck |= spoiled != rows
        return spoiled

    def stored(self):
        found = super().stored()
        self.has_struck |= list(found) != list(self.resources)
        return found

    def setting(self, name):
        told = super().setting(name)
        self.has_struck |= told != getattr(self.settings, name)
        return told


# --- which cases ----------------------------------------------------------------------------------------------------


def cases(fault: Fault, *, is_thorough: bool = False) -> Iterator[Case]:
    """What is run of a fault: each of its ways at its places, lasting, and once where that is another thing.

    Of the faults that can stand anywhere only the first way stands at every place, unless all are asked for; then
    also what decides who is enrolled is struck, page by page.
    """
    for number, variant in enumerate(fault.variants):
        for source in variant.sources:
            for at in _places(variant, source, is_first=is_thorough or not number):
                yield from _times(variant, source, at)
            if (fault.code, source) in OVER_NIGHTS:
                yield Case(variant.name, source, NIGHTS)
        if is_thorough and "page" in variant.places and fault.code not in _AFTER_A_PAGE:
            for name in ("Group", "Patient", "Consent"):
                yield Case(variant.name, "rest", "page", resource_type=name)


def _places(variant: Variant, source: str, *, is_first: bool) -> tuple[str, ...]:
    """Reads of single resources are left out: no pull makes any, as a test of its own says."""
    if variant.name in {"F24 gone", "F44"}:
        return ("read",) if variant.name == "F24 gone" else ()
    if source == "folder":
        return (FOLDER,)
    own = {"rest": {*REST_PLACES, *SMART_PLACES} - {"read"}, "export": {*EXPORT_PLACES, *SMART_PLACES, "data"}}[source]
    found = tuple(one for one in variant.places if one in own)
    usual = {"rest": ("page",), "export": ("status", "file")}[source]
    return found if is_first or len(variant.places) < _MANY_PLACES else tuple(one for one in usual if one in found)


def _times(variant: Variant, source: str, at: str) -> Iterator[Case]:
    yield Case(variant.name, source, at)
    is_asked_once = at in {FOLDER, "data", "lines", "manifest", "discovery"} or (source == "export" and at == "token")
    if (variant.act or variant.rows) and not is_asked_once:
        yield Case(variant.name, source, at, ONCE)


# --- one run --------------------------------------------------------------------------------------------------------


@cache
def run(case: Case) -> Outcome:
    """A pull, or some nights of pulls, under a fault, judged."""
    with tempfile.TemporaryDirectory(dir=_MEMORY) as place:
        scene = _Scene(case, Path(place))
        try:
            return scene.nights() if case.at == NIGHTS else scene.pull()
        except PipelineError as error:
            return scene.refusal(error)
        except Exception as error:  # noqa: BLE001 - whatever is not foreseen is what is looked for
            return Outcome("VIOLATION", f"crashed: {type(error).__name__}: {error}")


@dataclass
class _Scene:
    case: Case
    place: Path
    clock: Clock = field(default_factory=Clock)

    @property
    def variant(self) -> Variant:
        return VARIANTS[self.case.variant]

    @property
    def inject(self) -> Inject:
        at = "" if self.case.at in {FOLDER, NIGHTS} else self.case.at
        page = 1 if self.case.resource_type != "Observation" else None
        return Inject(self.case.variant, page, self.case.resource_type, self.case.times, at=at)

    @property
    def home(self) -> Home:
        return Home.at(self.place / "home")

    def pull(self) -> Outcome:
        """One whole pull."""
        held, own = _SPECIAL.get(self.variant.name, _SPECIAL.get(self.variant.code, (_people, _usual)))
        resources = held()
        if self.case.source == "folder":
            pulled = pull(folder_source(write_folder(resources, self.place / "files", self.inject)), own(), self.home)
            truth = self.variant.data(resources, full(self.inject)) if self.variant.data else resources
            return _judged(pulled, truth, self.variant, full(self.inject))
        server = self.server(resources)
        pulled = pull(self.source(server), own(), self.home)
        if not server.has_struck:
            return Outcome("not asked for", "the pull never asks for what it strikes")
        return _judged(pulled, server.stored(), self.variant, full(self.inject))

    def nights(self) -> Outcome:
        """Two nights with changes in between, compared with a whole pull; then, if it must be, a week later."""
        server = self.clinic()
        self.night(server, days=1)
        self.change(server)
        for days, when in ((1, "in the same night"), (8, "by the whole pull of the week")):
            found = self.night(server, days)
            whole = self.night(server, 0, Home.at(self.place / f"whole-{days}"))
            if found.snapshot.digest == whole.snapshot.digest:
                return Outcome("recovered", f"found {when}", state=found.state)
        return Outcome("VIOLATION", "a week later it still differs from a whole pull")

    def clinic(self) -> Watched:
        """A server on the eve of the first night; what the fault does to resources is done to all it holds."""
        resources = _without_gaps(_people())
        if not self.starts_later:
            resources = _changed_by(self.variant, resources, self.inject)
        server = self.server([], *(() if self.variant.rows or self.starts_later else (self.inject,)))
        for number, one in enumerate(resources):
            stamp = self.clock.now() - timedelta(days=40) + timedelta(hours=number)
            server.put(_dated(one, stamp) if "meta" in one and self.variant.name != "F26" else one)
        return server

    @property
    def starts_later(self) -> bool:
        """The first night was good."""
        return self.variant.code in {"F25", "F42"}

    def night(self, server: Watched, days: int, home: Home | None = None) -> Pulled:
        self.clock.now_at += timedelta(days=days)
        source: Any = self.source(server)
        if self.case.source == "folder":
            files = self.place / f"files-{self.clock.now():%d}"
            source = folder_source(write_folder(server.resources, files, *server.injects))
        return pull(source, _usual(), home or self.home)

    def change(self, server: Watched) -> None:
        """What happens between the nights: changes, or nothing but the fault if that is one itself."""
        if self.starts_later:
            server.injects = (self.inject,)
            return
        now = self.clock.now()
        for one in (observation("a-1", "a", 9), observation("c-9", "c", 1)):
            server.put(*_changed_by(self.variant, [_dated(one, now)], self.inject))
        if self.variant.code == "F44":
            joined = member("x", period={"start": now.isoformat().replace("+00:00", "Z")})
            server.put(_dated(group(*map(member, "abc"), joined), now))

    def server(self, resources: Sequence[Json], *injects: Inject) -> Watched:
        """The server of this case, with the logins that the fault needs."""
        more: dict[str, Any] = {}
        if self.logs_in:
            public = jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True) | {"kid": "k"}
            more["smart"] = Smart("client", {"keys": [public]}, seconds=lambda: self.clock.now().timestamp())
        elif self.needs_token:
            more["token"] = "secret-token"
        # A page that says its total is not counted: for a fault of counts, no page says it.
        silent = (Inject("F06", 0, at="page"),) if self.case.at == "count" else ()
        faults = injects if self.case.at == NIGHTS else (self.inject, *silent)
        return Watched(resources, *faults, now=self.clock.now, **more)

    def source(self, server: Watched) -> Any:
        access: dict[str, Any] = {"transport": server.transport(), "surroundings": self.clock.surroundings()}
        if self.logs_in:
            access["credential"] = self.login()
        elif self.needs_token:
            access["credential"] = TOKEN
        return rest_source(BASE, **access) if self.case.source == "rest" else export_source(BASE, "group", **access)

    def login(self) -> SmartBackend:
        path = self.place / "key"
        path.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)
        return SmartBackend("client", signing_key(path, kid="k"))

    @property
    def logs_in(self) -> bool:
        is_login = self.case.at in SMART_PLACES or self.variant.code in {"F48", "F49", "F50", "F51", "F52"}
        return is_login or self.variant.name == "F18 used up"

    @property
    def needs_token(self) -> bool:
        return self.variant.code in {"F18", "F38"}

    def refusal(self, error: PipelineError) -> Outcome:
        """A refusal: nothing is published, the fault has a code, and nothing that was received is repeated."""
        words = _first_line(self.home, str(error))
        found = Outcome("refused", words.replace(str(self.place / "files"), "the folder"), error.exit_code)
        is_published = len(list(self.home.snapshots.glob("*"))) > (self.case.at == NIGHTS)
        is_named = found.code or error.exit_code == 5
        if is_published or not is_named or any(one in str(error) for one in NOT_TO_BE_REPEATED):
            return replace(found, verdict="VIOLATION")
        return found


def _first_line(home: Home, message: str) -> str:
    """The ledger's line: of what type, and the hole in it; what never came to a ledger says it in its message."""
    for path in home.pulls.glob("*/ledger.csv"):
        ledger = pd.read_csv(path, keep_default_na=False)
        holes = [(one["resource_type"], one["hole"]) for one in ledger.to_dict("records") if one["hole"]]
        if holes:
            return f"{holes[0][0] or 'the export'}: {holes[0][1]}"
    return message.splitlines()[0]


# --- judging --------------------------------------------------------------------------------------------------------


def _judged(pulled: Pulled, truth: Sequence[Json], variant: Variant, inject: Inject) -> Outcome:
    """Compared with a pull of the same data from a server without faults."""
    digest, expected = _clean(json.dumps(list(truth)))
    if pulled.snapshot.digest == digest:
        return Outcome("recovered", state=pulled.state)
    found = _contents(pulled)
    told = pulled.snapshot.rejections()
    rules = Counter(told["rule"])
    named = set(told.loc[told["rule"] == "subject-missing", "resource_ref"])
    missing = [key for key in expected if key not in found and f"{key[0]}/{key[1]}" not in named]
    missing = [key for key in missing if not _is_of(expected[key], missing)]  # a Patient who cannot be read is dangling
    changed = [key for key in expected if key in found and found[key] != expected[key]]
    rewritten = [key for key in changed if _is_as_sent(found[key], expected[key], variant, inject)]
    is_short = len(missing) > rules["unreadable"] and pulled.state == "complete"
    if found.keys() - expected.keys() or is_short or rewritten != changed:
        return Outcome(
            "VIOLATION", f"{len(missing)} missing, {len(changed) - len(rewritten)} other", state=pulled.state
        )
    if len(missing) > rules["unreadable"]:
        return Outcome("short", "nothing contradicts what is missing, and nothing confirms it", state=pulled.state)
    gone = {rule: rules[rule] for rule in ("unreadable", "subject-missing") if rules[rule]}
    if gone:
        return Outcome("rejected", ", ".join(f"{n} x {rule}" for rule, n in gone.items()), state=pulled.state)
    return Outcome("as sent", f"{len(changed)} resources are kept as the source sends them", state=pulled.state)


def _is_of(one: Json, missing: Sequence[tuple[str, str]]) -> bool:
    """It is about one of the Patients who are missing, or a Medication, of which then nothing is known."""
    people = {identity for name, identity in missing if name == "Patient"}
    return one["resourceType"] != "Patient" and bool(
        people & {*patients_of(one)} or (people and one["resourceType"] == "Medication")
    )


def _is_as_sent(found: Json, held: Json, variant: Variant, inject: Inject) -> bool:
    """As the fault made it of what the source holds; a shortened one is never good enough."""
    is_short = any(tag.get("code") == "SUBSETTED" for tag in found.get("meta", {}).get("tag", ()))
    return variant.rows is not None and not is_short and found in variant.rows([held], inject)


def _contents(pulled: Pulled) -> dict[tuple[str, str], Json]:
    snapshot = pulled.snapshot
    return {key_of(one): one for name in snapshot.types() for one in map(json.loads, snapshot.lines(name))}


@cache
def _clean(resources: str) -> tuple[str, dict[tuple[str, str], Json]]:
    with tempfile.TemporaryDirectory(dir=_MEMORY) as place:
        server = FaultyServer(json.loads(resources), now=lambda: START + timedelta(days=1))
        source = rest_source(BASE, transport=server.transport(), surroundings=Clock().surroundings())
        pulled = pull(source, _usual(), Home.at(Path(place)))
        return pulled.snapshot.digest, _contents(pulled)


# --- data -----------------------------------------------------------------------------------------------------------


def _people() -> list[Json]:
    """The cohort, with who does not count in the middle: what strikes a first or last line strikes one who does."""
    return sorted(cohort(), key=lambda one: "abdexc".find(one.get("subject", {}).get("reference", "")[-1:]))


def _crowd() -> list[Json]:
    """So many people with such long ids that their search is sent as a form (F14)."""
    names = [f"{number:02d}" + "x" * 50 for number in range(40)]
    return [
        group(*map(member, names)),
        *(resource("Patient", name) for name in names),
        *(consent(name) for name in names[:1]),
        *(observation(f"o{number}", name) for number, name in enumerate(names)),
    ]


def _nobodys() -> list[Json]:
    return [one for one in _people() if one["resourceType"] != "Group"]


def _usual() -> Protocol:
    """One query after the other, so that a fault that strikes once strikes the same one every time."""
    return protocol(workers=1)


def _crowded() -> Protocol:
    return protocol(
        patients_per_query=100, page_size=20, resource_types=("Patient", "Consent", "Observation"), workers=1
    )


_SPECIAL = {"F14": (_crowd, _crowded), "F43": (_nobodys, _usual)}


def _without_gaps(resources: list[Json]) -> list[Json]:
    """Everybody listed is there: who is not is looked for every night, and an export of changes is then not enough."""
    people = group(*(member(name) for name in "abc"))
    return [people, *(one for one in resources[1:] if one["id"] != "consent-e")]


def _dated(one: Json, at: datetime) -> Json:
    return one | {"meta": {"versionId": f"{at:%j}", "lastUpdated": at.isoformat().replace("+00:00", "Z")}}


def _changed_by(variant: Variant, resources: list[Json], inject: Inject) -> list[Json]:
    """The resources of the type, as the fault would send them: for nights, where it must say the same every time."""
    if variant.rows is None:
        return resources
    own = [one for one in resources if one["resourceType"] == inject.resource_type]
    return [*(one for one in resources if one["resourceType"] != inject.resource_type), *variant.rows(own, inject)]


# --- the page -------------------------------------------------------------------------------------------------------

_PAGE = """# What every fault ends in

*Written by `make faults-table` from whole pulls under every fault of the [fault kit](fault-kit.md); a test compares this
page with what the pulls do now.* What a pull promises is in [completeness.md](completeness.md).

{n_runs} pulls of a small cohort: each of the {n_variants} ways in which the {n_faults} faults show, at the places where it can
stand, once as a fault that lasts and once as one that passes. **None ended as a complete pull with data missing or added.**

| ending | pulls | what it means |
|---|---|---|
{endings}

*Once* is a fault that strikes a single time, *lasting* one that never goes away; where nothing is said, both end alike. Exit
codes: 3 the source refused, 4 something is missing and named, 5 nobody is enrolled. The code beside them is the one the
ledger or the message names; it says what the pull saw, which may be another row of the table. A dash: the source cannot
have the fault.

{table}

{remarks}

## In the ledger's words

What the refusal said, for each way of each fault. *Where* is the place in the source, as the fault kit calls it; *nights*
are pulls on following nights, with changes in between.

{details}

{peers}
"""

_ENDINGS: dict[Verdict, str] = {
    "recovered": "a snapshot with the digest of a pull without the fault (of what the source holds in the end, where rows change meanwhile)",
    "as sent": "every resource is there; those the source sends otherwise are kept as it sends them, and screened later",
    "rejected": "a single resource that cannot be read, or names no patient, is a rejection that the report counts; all others are there",
    "refused": "no snapshot, no report, exit code 3, 4 or 5",
    "short": "data are missing, nothing tells, and so the pull is not called complete: the report says unverified",
    "not asked for": "the pull never asks for what the fault strikes",
    "VIOLATION": "data are missing or added, and nothing says so",
}
_REMARKS = {
    "F10": "no pull asks for `_include` or `_revinclude`, which a test reads from the requests.",
    "F25": "a search counts fewer the same night and is asked again; after an export of changes its search counts fewer, and it is made whole; a folder is whole every night.",
    "F26": "resources without a date of change are found by the counts or, if only their content changed, by the whole pull of the week.",
    "F42": "a folder that lists an empty type on the first night cannot be told from a cohort that has none: unverified. On later nights it is refused.",
    "F49": "the client of these runs has an ES384 key.",
}


def outcomes(fault: Fault) -> dict[Case, Outcome]:
    return {case: run(case) for case in cases(fault)}


def page(peers: str) -> str:
    """docs/faults.md, with what was recorded about other clients."""
    counted = Counter(one.verdict for fault in CATALOGUE for one in outcomes(fault).values())
    return _PAGE.format(
        n_runs=counted.total(),
        n_variants=len(VARIANTS),
        n_faults=len(CATALOGUE),
        endings="\n".join(f"| {name} | {counted[name]} | {words} |" for name, words in _ENDINGS.items()),
        table="\n".join(_rows()),
        remarks="\n".join(f"- **{code}**: {words}" for code, words in _REMARKS.items()),
        details="\n".join(_details()),
        peers=peers.strip(),
    )


def _rows() -> Iterator[str]:
    yield "| fault | what the source does | REST search | `$export` | folder |"
    yield "|---|---|---|---|---|"
    for fault in CATALOGUE:
        found = outcomes(fault)
        cells = (_cell({case: one for case, one in found.items() if case.source == source}) for source in SOURCES)
        yield f"| {fault.code} | {fault.title} | {' | '.join(cells)} |"


def _cell(found: dict[Case, Outcome]) -> str:
    if not found:
        return "–"
    met = {case: one for case, one in found.items() if one.verdict != "not asked for"}
    if not met:
        return "not asked for"
    once, lasting = ({_short(one) for case, one in met.items() if case.times == times} for times in (ONCE, LASTING))
    if not once or once == lasting:
        return _together(lasting)
    return f"once: {_together(once)}; lasting: {_together(lasting)}"


def _together(words: set[str]) -> str:
    """Good endings first, and the codes of one exit code side by side."""
    codes: dict[str, list[str]] = {}
    for one in sorted(words):
        if one.startswith("exit"):
            codes.setdefault(one[:6], []).append(one[7:])
    refused = [f"{start} {'/'.join(own)}".strip() for start, own in codes.items()]
    return " or ".join([*sorted((one for one in words if not one.startswith("exit")), key=len), *refused])


def _short(one: Outcome) -> str:
    if one.verdict == "refused":
        return f"exit {one.exit_code} {one.code}".strip()
    words = {"as sent": "kept as sent", "rejected": "rejected by name", "short": "short, unverified"}.get(
        one.verdict, one.verdict
    )
    return f"{words} (unverified)" if one.verdict == "recovered" and one.state == "unverified" else words


def _details() -> Iterator[str]:
    yield "| fault | what the source does | read by | where | outcome | words |"
    yield "|---|---|---|---|---|---|"
    for fault in CATALOGUE:
        grouped: dict[tuple[str, str, str, str], list[Case]] = {}
        for case, one in outcomes(fault).items():
            grouped.setdefault((case.variant, case.source, _short(one), one.words), []).append(case)
        for (name, source, short, words), own in grouped.items():
            yield f"| {name} | {VARIANTS[name].what} | {source} | {_where(own)} | {short} | {words} |"


def _where(own: Sequence[Case]) -> str:
    """The places, with how often it struck where that mattered."""
    times: dict[str, set[int]] = {}
    for case in own:
        times.setdefault(case.at, set()).add(case.times)
    return ", ".join(f"{at} (once)" if struck == {ONCE} else at for at, struck in times.items())
