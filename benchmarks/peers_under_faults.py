"""Other FHIR clients under the faults of the kit: do they say that something is missing, or do they say "done"?

Each run is a process of its own that asks a faulty server on loopback for all Observations of three patients, the way
the client's documentation shows. Writes benchmarks/peers_under_faults.md; see README.md for how to repeat it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

from small_cohort import cohort  # noqa: E402

from fault_table import LASTING, ONCE, Case, run  # noqa: E402 - found through the line above
from faulty_server import VARIANTS, Answer, FaultyServer, Inject, listening  # noqa: E402

HERE = Path(__file__).parent
TOKEN, PATIENTS, PAGE_SIZE = "secret-token", "abc", 2
SECONDS = 20
ELSEWHERE = "http://{elsewhere}/r4/Observation?page=2"
#: What can strike a plain search, with an address on a second listener where a fault leads to another host.
FAULTS = [
    name for name, one in VARIANTS.items()
    if "page" in one.places and one.code <= "F30" and name not in {"F10", "F10 unbounded", "F13 431", "F14", "F14 post 431", "F18 used up", "F26 clock"}
    and one.resource_type in {"", "Observation"}
]  # fmt: skip
#: Faults that pass: does the client ask again?
PASSING = ["F04", "F07", "F17", "F18", "F20 seconds", "F21", "F21 500", "F21 cut", "F21 reset", "F23 empty"]


class Peer(NamedTuple):
    name: str
    python: str
    script: str


def main() -> None:
    """Ask every peer under every fault, and write the table."""
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("--pyrate", help="python of an environment with fhir-pyrate", required=True)
    peers = [
        Peer("fhirpy", sys.executable, "ask_fhirpy.py"),
        Peer("FHIR-PYrate", read.parse_args().pyrate, "ask_fhir_pyrate.py"),
    ]
    cases = [(name, LASTING) for name in FAULTS] + [(name, ONCE) for name in PASSING]
    with ThreadPoolExecutor(3) as pool:
        endings = pool.map(lambda case: [asked(peer, *case) for peer in peers], cases)
        rows = [(*case, own) for case, own in zip(cases, endings, strict=True)]
    named = [f"{peer.name} {version(peer)}" for peer in peers]
    (HERE / "peers_under_faults.md").write_text(page(named, rows), encoding="utf-8")


def version(peer: Peer) -> str:
    told = subprocess.run([peer.python, HERE / peer.script, "version"], capture_output=True, text=True, check=False)  # noqa: S603 - scripts of this folder
    return (told.stdout + told.stderr).strip().splitlines()[-1]


def asked(peer: Peer, name: str, times: int) -> str:
    """How one client ends under one fault."""
    heard: list[bool] = []  # whether a request to the other host carried the token

    def stranger(request, _base):
        heard.append(TOKEN in request.headers.get("authorization", ""))
        return Answer(200, {"resourceType": "Bundle", "type": "searchset"})

    with ExitStack() as stack:
        elsewhere = stack.enter_context(listening(stranger)).removeprefix("http://").removesuffix("/r4")
        option = ELSEWHERE.format(elsewhere=elsewhere) if name in {"F03", "F03 port", "F03 redirect"} else None
        if name == "F03 userinfo":
            option = f"http://{{host}}:{{port}}@{elsewhere}/r4/Observation"
        server = FaultyServer(cohort(), Inject(name, times=times, option=option), token=TOKEN)
        base = stack.enter_context(server.listen())
        command = [peer.python, HERE / peer.script, base, TOKEN, ",".join(PATIENTS), str(PAGE_SIZE)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603 - likewise
        except subprocess.TimeoutExpired:
            return f"no end within {SECONDS} s, {len(server.requests):,} requests"
        held = server.stored()
    told = {True: "; **the token went to the other host**", False: "; asked the other host"}.get(
        max(heard, default=None), ""
    )
    return ended(done, [one for one in held if is_theirs(one)]) + told


def is_theirs(one: dict) -> bool:
    subject = one.get("subject", {}).get("reference", "")
    return one["resourceType"] == "Observation" and subject in {f"Patient/{name}" for name in PATIENTS}


def ended(done: subprocess.CompletedProcess, held: list[dict]) -> str:
    """An exception, or what it gave back against what the server holds."""
    if done.returncode:
        raised = re.findall(r"^([\w.]*(?:Error|Exception|Outcome|Response|NotFound))\b", done.stderr, re.MULTILINE)
        return f"error: {raised[-1].rpartition('.')[2]}" if raised else "error"
    rows = json.loads(done.stdout.splitlines()[-1])
    found = Counter(one for one in rows if not one.endswith(("/None", "/nan")))
    expected = {f"Observation/{one['id']}" for one in held}
    missing, more = expected - found.keys(), found.keys() - expected
    n_nameless = len(rows) - found.total()
    words = [
        _of(len(expected) - len(missing), len(expected), done.stderr) if len(missing) > n_nameless else "all rows",
        f"{n_nameless} without its id" if n_nameless else "",
        f"{found.total() - len(found)} twice" if found.total() > len(found) else "",
        f"{len(more)} more" if more else "",
    ]
    return ", ".join(word for word in words if word)


def _of(n: int, expected: int, log: str) -> str:
    is_logged = re.search("error|exception", log, re.IGNORECASE)
    return f"**{n} of {expected} rows**, {'an error in the log' if is_logged else 'silent'}"


def ours(name: str, times: int) -> str:
    one = run(Case(name, "rest", "page", times))
    words = {"recovered": "all rows", "as sent": "all rows, as sent", "rejected": "the others; rejected by name"}
    return words.get(one.verdict, f"error: exit {one.exit_code} {one.code}")


PAGE = """## Other clients, same server

Recorded on {day} by `benchmarks/peers_under_faults.py` with {versions}, on Python 3.11. The environments of other
clients are no part of the checks of this project, so this table, unlike those above, is not compared with what they do
now. To repeat it: [benchmarks/README.md](../benchmarks/README.md).

Asked for: all Observations of three patients, twelve on six pages, with a token, as each client's documentation shows it.
A run ends with *an error* (an exception), with *all rows*, or with *fewer rows* and no exception: *silent*, or with an error
in the log only. *More* are rows that were not asked for. A fault stands at page 2 unless its nature is another one, and
lasts unless it says *once*.

{counts}

| fault | what the server does | {names} | this project |
|---|---|---|{dashes}
{rows}

What to read in it, and what not:

- Both are general clients. They promise to follow pages, not completeness, and what they gave was as the server had sent it. A
  script around either can count and compare, and should.
- **fhirpy** raises an exception for every error status, every cut body and most answers of another kind; it never goes on
  after one, and it keeps apart what stands among the results. It does not ask again, does not compare totals, and
  follows pages that do not end.
- **FHIR-PYrate** builds tables from many queries; a page that fails is written to its log, and the table is made from the
  others, so its log has to be read. It sorts by `_id`, which keeps pages steady while rows are updated. Its
  `retry_requests` was left as it is by default: off.
- **This project** refuses more than it must: where a total, a filter or a version is contradicted (F05, F07, F15, F16, F23)
  all rows may have been there, and it stops all the same, for it cannot know. It rejects by name what names no patient (F28).
- Neither client sent the token to the other host, which answered with an empty page (F03). "No end" is what 20 seconds showed; of F21 slow, where the server is
  silent for two minutes, they show only that neither gives up sooner.
"""


def page(names: list[str], rows: list[tuple[str, int, list[str]]]) -> str:
    lines = [
        f"| {name}{' (once)' if times == ONCE else ''} | {VARIANTS[name].what} | {' | '.join(own)} | {ours(name, times)} |"
        for name, times, own in rows
    ]
    counts = [f"- {name}: {counted([own[place] for _, _, own in rows])}" for place, name in enumerate(names)]
    counts.append(f"- this project: {counted([ours(name, times) for name, times, _ in rows])}")
    return PAGE.format(
        day=datetime.now(UTC).date(), versions=" and ".join(names), counts="\n".join(counts), names=" | ".join(names),
        dashes="---|" * len(names), rows="\n".join(lines),
    )  # fmt: skip


KINDS = {
    "error": "an error",
    "all rows": "all rows",
    "silent": "fewer rows, silent",
    "log": "fewer rows, an error in the log",
    "no end": "no end",
    "by name": "all but a row that is rejected by name",
}


def counted(endings: list[str]) -> str:
    found = Counter(
        next(kind for kind in ("no end", "silent", "log", "by name", "error", "all rows") if kind in one)
        for one in endings
    )
    return ", ".join(f"{found[kind]} x {words}" for kind, words in KINDS.items() if found[kind])


if __name__ == "__main__":
    main()
