"""The run library: one static page per readership, which says of every report what it is worth today.

``site/index.html`` in the home folder lists every run; ``release/`` holds release editions alone, with a copy of their
files, and may be handed on as it is: nothing in it tells that any other run exists. Each page appears by one rename.
What is listed comes from the state, from the run's own provenance.json and about.json; folders are never searched.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import unicodedata
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from crps_outcomes.errors import DefinitionError
from crps_outcomes.home import Home, remove_folder, rename, replace_private
from crps_outcomes.language import day, strings
from crps_outcomes.stages.publish import current, point_to
from crps_outcomes.stages.render import page_environment, self_contained
from crps_outcomes.state import Records, Withdrawal, Withdrawals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from crps_outcomes.language import Strings
    from crps_outcomes.state import RunRow
    from crps_outcomes.study import Study

Standing = Literal["final", "late", "not_final", "superseded", "withdrawn"]
Shelved = Literal["internal", "release"]

CURRENT = {"final", "late"}  # the newest complete run of its kind, in its time or past it
LONGEST_REASON = 300
_WORKING = ".handing-out-"  # of a copy on its way into release/
#: What a run offers to read, in the order of the page; the words beside them stand in the catalogues.
FILES = {
    "report.pdf": "pdf",
    "report.html": "html",
    "report-archive.pdf": "archive",
    "estimates.csv": "estimates",
    "provenance.json": "provenance",
}


@dataclass(frozen=True)
class Entry:
    """A run as the state and its own folder describe it; ``files`` is empty where the folder is gone."""

    run: RunRow
    record: Mapping[str, Any]
    about: Mapping[str, str]
    files: tuple[str, ...]
    withdrawal: Withdrawal | None
    standing: Standing = "superseded"
    changed: tuple[str, ...] = ()  # what is not as in the run before it: "study", "code"

    @property
    def kind(self) -> tuple[str, str]:
        return self.run.report, self.run.edition

    @property
    def is_draft(self) -> bool:
        return self.run.status == "incomplete"

    @property
    def valid_until(self) -> date:
        """The last day to read it as the present state; a run of an older version of this program never said one."""
        return date.fromisoformat(self.record.get("valid_until") or self.run.as_of)


# --- what is on the shelf -------------------------------------------------------------------------------------------


def entries(home: Home, today: date) -> dict[tuple[str, str], tuple[Entry, ...]]:
    """Every run by report and edition, the newest first, each with its standing on that day."""
    records, withdrawn = Records(home.state_url), Withdrawals(home.state_url).every()
    order = records.order()
    runs = sorted(records.runs(), key=lambda run: (run.as_of, order.get(run.run_id, 0)), reverse=True)
    runs.sort(key=lambda run: (run.report, run.edition))
    read = [_entry(home, run, withdrawn.get(run.run_id)) for run in runs]
    return {kind: tuple(_judged([*own], today)) for kind, own in groupby(read, key=lambda entry: entry.kind)}


def _entry(home: Home, run: RunRow, withdrawal: Withdrawal | None) -> Entry:
    folder = home.runs / run.run_id
    record, about = (_read(folder / name) for name in ("provenance.json", "about.json"))
    return Entry(run, record, about, tuple(name for name in FILES if (folder / name).is_file()), withdrawal)


def _read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _judged(newest_first: Sequence[Entry], today: date) -> Iterator[Entry]:
    """The entries of one kind with their standing, and what each changed of the run before it."""
    newest = next((one for one in newest_first if not one.withdrawal and not one.is_draft and one.files), None)
    last: tuple[Entry | None, ...] = (*newest_first, None)
    for entry, before in pairwise(last):
        assert entry is not None, "only the last of the row has none before it"
        changed = tuple(
            name for name in ("study", "code") if before and getattr(entry.run, name) != getattr(before.run, name)
        )
        yield replace(entry, standing=_standing(entry, newest, today), changed=changed)


def _standing(entry: Entry, newest: Entry | None, today: date) -> Standing:
    if entry.withdrawal:
        return "withdrawn"
    if entry.is_draft:
        return "not_final"
    if entry is not newest:
        return "superseded"
    return "late" if today > entry.valid_until else "final"


# --- a run is withdrawn ---------------------------------------------------------------------------------------------


def withdraw(home: Home, run_id: str, reason: str, today: date) -> None:
    """Mark a run as withdrawn; its folder stays, and the one before it that was neither draft nor withdrawn is current.

    Raises:
        DefinitionError: no such run, it is withdrawn already, or the reason is none.
    """
    with home.one_release_at_a_time():
        _withdraw(home, run_id, reason, today)


def _withdraw(home: Home, run_id: str, reason: str, today: date) -> None:
    known = {entry.run.run_id: entry for own in entries(home, today).values() for entry in own}
    if run_id not in known:
        raise DefinitionError("withdraw: no run of that name; site/index.html in the home folder lists them")
    if known[run_id].withdrawal:
        raise DefinitionError("withdraw: that run is withdrawn already")
    Withdrawals(home.state_url).add(Withdrawal(run_id, today.isoformat(), _plain(reason)))
    _point(home, entries(home, today))


def _point(home: Home, found: Mapping[tuple[str, str], Sequence[Entry]]) -> None:
    """The current run of each kind is the one the page calls so."""
    for (report, edition), own in found.items():
        wanted = next((one.run.run_id for one in own if one.standing in CURRENT), None)
        standing = current(home.runs, report, edition)
        if wanted != (standing.name if standing else None):
            point_to(home.runs, report, edition, wanted)


def _plain(reason: str) -> str:
    """One line of a person's words, without characters that steer a terminal or turn the direction of a text."""
    text = " ".join("".join(" " if unicodedata.category(one).startswith(("C", "Z")) else one for one in reason).split())
    if not text or len(text) > LONGEST_REASON:
        raise DefinitionError(f"withdraw: --reason should say why, in at most {LONGEST_REASON} characters")
    return text


# --- pages ----------------------------------------------------------------------------------------------------------


def publish(home: Home, study: Study, today: date) -> Path:
    """Write both libraries anew; the page that lists every run. Who publishes or withdraws waits for who does."""
    with home.one_release_at_a_time():
        return _publish(home, study, today)


def _publish(home: Home, study: Study, today: date) -> Path:
    for left in home.release.glob(f"{_WORKING}*"):  # by a process that died
        remove_folder(left)
    found = entries(home, today)
    _point(home, found)
    released = {kind: own for kind, own in found.items() if kind[1] == "release"}
    for entry in (one for own in released.values() for one in own):
        _hand_out(home, entry)
    replace_private(home.release / "index.html", page(study, released, "release", today).encode())
    replace_private(home.site / "index.html", page(study, found, "internal", today).encode())
    return home.site / "index.html"


def _hand_out(home: Home, entry: Entry) -> None:
    """A copy of a release among what may be handed on; none of one that was withdrawn."""
    target = home.release / entry.run.run_id
    if entry.withdrawal:
        remove_folder(target)
    elif entry.files and not target.exists():
        working = Path(tempfile.mkdtemp(prefix=_WORKING, dir=home.release))
        shutil.copytree(home.runs / entry.run.run_id, working, dirs_exist_ok=True)
        rename(working, target)


def page(study: Study, found: Mapping[tuple[str, str], Sequence[Entry]], shelved: Shelved, today: date) -> str:
    """One self-contained page; links lead from ``site/`` to ``runs/``, or within ``release/``."""
    lang, templates = study.protocol.form.lang, study.root / "templates"
    words = strings(study.root, lang)
    shelves = tuple(_shelf(study, own, shelved, words, lang) for _, own in sorted(found.items()) if own)
    text = page_environment(templates, lang).get_template("library.html.j2").render(
        lang=lang, shelved=shelved, site=study.protocol.site, written=day(today, lang), shelves=shelves,
        is_synthetic=study.protocol.is_synthetic,
    )  # fmt: skip
    return self_contained(text, templates)


@dataclass(frozen=True)
class Item:
    """A run in words."""

    run_id: str
    standing: Standing
    word: str
    meaning: str
    as_of: str
    valid_until: str
    lines: tuple[str, ...]
    links: tuple[tuple[str, str], ...]  # words and where they lead


@dataclass(frozen=True)
class Row:
    """One kind of report: what to read first, and all before it."""

    id: str
    title: str
    edition: str
    first: tuple[Item, ...]
    earlier: tuple[Item, ...]


def _shelf(study: Study, own: Sequence[Entry], shelved: Shelved, words: Strings, lang: str) -> Row:
    report, edition = own[0].kind
    known = study.reports.get(report)
    titles = (one.about.get("title", "") for one in own)
    items = [_item(entry, shelved, words, lang) for entry in own]
    newest_final = next((place for place, one in enumerate(items) if one.standing in CURRENT), 0)
    first = {0, newest_final}
    return Row(
        id=f"{report}-{edition}",
        title=known.kind if known else next(filter(None, titles), report),
        edition=words[f"status.{edition}"],
        first=tuple(items[place] for place in sorted(first)),
        earlier=tuple(item for place, item in enumerate(items) if place not in first),
    )


def _item(entry: Entry, shelved: Shelved, words: Strings, lang: str) -> Item:
    run, base = entry.run, "" if shelved == "release" else "../runs/"
    is_offered = not (shelved == "release" and entry.withdrawal)
    until = day(entry.valid_until, lang)
    is_draft = entry.standing == "not_final"
    return Item(
        run_id=run.run_id,
        standing=entry.standing,
        word=words[f"library.{entry.standing}"],
        meaning=words.say(f"library.{entry.standing}_means", day=until),
        as_of=day(date.fromisoformat(run.as_of), lang),
        valid_until="" if is_draft else until,
        lines=tuple(_lines(entry, shelved, words, lang)),
        links=tuple((words[f"file.{FILES[name]}"], f"{base}{run.run_id}/{name}") for name in entry.files if is_offered),
    )


def _lines(entry: Entry, shelved: Shelved, words: Strings, lang: str) -> Iterator[str]:
    """What else is known of a run. A release page tells what its own report prints at most, and no reason of the house."""
    if entry.withdrawal:
        on = day(date.fromisoformat(entry.withdrawal.withdrawn_on), lang)
        why = f" {entry.withdrawal.reason}" if shelved == "internal" else ""
        yield words.say("library.withdrawn_on", day=on) + why
    if entry.about.get("draft"):
        yield entry.about["draft"]
    if shelved == "internal" and entry.about.get("pulled"):
        yield entry.about["pulled"]
    else:
        yield words.say("library.completeness", status=words[f"data.{entry.run.status}"])
    yield from (words[f"library.{name}_changed"] for name in entry.changed)
    if not entry.files:
        yield words["library.gone"]


# --- the state of things for a script -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """Whether there is a report of a kind that may be read as the present state, in one line."""

    is_good: bool
    text: str


def verdicts(home: Home, today: date, wanted: Iterable[tuple[str, str]] = ()) -> tuple[Verdict, ...]:
    """One verdict for each kind that was ever made or is wanted; a kind without a final report in its time is not good."""
    found = entries(home, today)
    return tuple(_verdict(kind, found.get(kind, ())) for kind in sorted({*found, *wanted}))


def _verdict(kind: tuple[str, str], own: Sequence[Entry]) -> Verdict:
    name = f"{kind[0]}, {kind[1]} edition"
    newest = next((one for one in own if one.standing in CURRENT), None)
    if newest is None:
        return Verdict(is_good=False, text=f"{name}: MISSING, there is no final report")
    said = f"data as of {newest.run.as_of}, valid until {newest.valid_until}, {newest.run.run_id}"
    return Verdict(newest.standing == "final", f"{name}: {newest.standing.upper()}, {said}")
