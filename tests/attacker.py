"""A reader who keeps every release and subtracts: what can be found out about a few people, or about one.

The attacker has the files of the run folders and the published method (which counts add up), and nothing else: no
table, no register, no code of the guard. Claims are what this reader believes to have found; the test knows the truth.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import zipfile
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pikepdf
from scipy import stats
from scipy.optimize import Bounds, LinearConstraint, milp

from crps_outcomes.analysis.identities import NAMES, Identity, identities
from crps_outcomes.stages.disclose import HELD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from crps_outcomes.study import Study

SMALL = range(1, 11)
_ROLES = ("k", "n", "n_missing")
_STEPS = ("enrolled", "diagnosis", "treated", "baseline", "analysed")
_BOXES = frozenset(f"people/{step}" for step in _STEPS)


@dataclass(frozen=True)
class Night:
    """One night as its reader has it, all reports together: rows by id, the counts they show by quantity, and every text.

    ``marked`` has the mark of a hidden row by its first count, with the count it is a part of.
    ``texts`` go by report and file, such as "evidence/report.html".
    """

    rows: Mapping[str, Mapping[str, str]]
    counts: Mapping[str, int]
    marked: Mapping[str, tuple[str, str]]
    texts: Mapping[str, str]


@dataclass(frozen=True)
class Claim:
    """What the attacker believes: a quantity of one night, or its difference between two, or one person's value."""

    kind: str
    about: str
    nights: tuple[int, ...]
    value: float


# --- reading ----------------------------------------------------------------------------------------------------------


def read(folders: Mapping[str, Path], besides: Mapping[str, str] | None = None) -> Night:
    """Everything in the run folders of a night, by report: tables, pages, alternative texts, attachments, JSON.

    ``besides`` are texts that stand in no run folder, such as the page of the library.
    """
    texts = {f"{report}/{name}": text for report, folder in folders.items() for name, text in _files(folder)}
    texts |= besides or {}
    tables = [text for name, text in texts.items() if name.endswith("/estimates.csv")]
    rows = {row["estimate_id"]: row for table in tables for row in csv.DictReader(io.StringIO(table))}
    shown = {
        _quantity(row, role): int(row[role])
        for row in rows.values() for role in _ROLES if row[role] and _quantity(row, role)
    }  # fmt: skip
    hidden = {
        _quantity(row, "k" if "k" in _names(row) else "n"): (row["suppressed"], _quantity(row, "n"))
        for row in rows.values()
        if row["suppressed"]
    }
    boxes = (box for name, text in texts.items() if name.endswith("/report.html") for box in _boxes(text))
    return Night(rows, shown | dict(boxes), hidden, texts)


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        yield from _pdf(path) if path.suffix == ".pdf" else [(name, _text(path))]


def is_held(night: Night) -> bool:
    """Whether a report of the night says that figures were held."""
    return any(HELD in text for name, text in night.texts.items() if name.endswith("/disclosure.json"))


def _text(path: Path) -> str:
    """A file as text; of a spreadsheet the texts of all its parts."""
    if path.suffix != ".xlsx":
        return path.read_text(encoding="utf-8")
    with zipfile.ZipFile(path) as book:
        return "\n".join(book.read(part).decode("utf-8") for part in sorted(book.namelist()))


def _names(row: Mapping[str, str]) -> Mapping[str, str]:
    return NAMES.get(f"{row['section']}/{row['statistic']}", {})


def _quantity(row: Mapping[str, str], role: str) -> str:
    return _names(row).get(role, "").format(**row)


def _boxes(page: str) -> Iterator[tuple[str, int]]:
    """The boxes of the cohort flow, from the alternative text of its drawing."""
    found = re.search(r"Flow chart of people\. ([^.]*)\.", page)
    for box in found.group(1).split(", ") if found else ():
        label, _, number = box.rpartition(": ")
        step = {"diagnosis": "diagnosis", "intramuscular": "treated", "before": "baseline", "follow-up": "analysed"}
        name = next((own for word, own in step.items() if word in label), "enrolled")
        if number.replace(",", "").isdigit():
            yield f"people/{name}", int(number.replace(",", ""))


def _pdf(path: Path) -> Iterator[tuple[str, str]]:
    """The text on the pages, the alternative texts, and the attachments."""
    data = path.read_bytes()
    if not data:
        return
    if shutil.which("pdftotext"):
        done = subprocess.run(["pdftotext", "-layout", str(path), "-"], capture_output=True, check=True)
        yield path.name, done.stdout.decode()
    with pikepdf.open(path) as pdf:
        alternatives = (
            str(one["/Alt"]) for one in pdf.objects if isinstance(one, pikepdf.Dictionary) and "/Alt" in one
        )
        yield f"{path.name} alternative texts", "\n".join(alternatives)
        for name, attached in pdf.attachments.items():
            yield f"{path.name} {name}", attached.get_file().read_bytes().decode(errors="replace")


def pairs_in_words(text: str) -> set[tuple[int, int]]:
    """Every "k of n" in a text, but for the numbers of pages."""
    plain = re.sub(r"<[^>]+>|Page \d+ of \d+", " ", text)
    found = re.findall(r"(\d[\d,]*)\s+of\s+(\d[\d,]*)", plain)
    return {(int(k.replace(",", "")), int(n.replace(",", ""))) for k, n in found}


# --- solving one night ------------------------------------------------------------------------------------------------


def solved(night: Night, study: Study) -> dict[str, int]:
    """The counts shown, and those that linear algebra gives from them."""
    sums = identities(night.counts, study, _STEPS)
    unknown = sorted({name for one in sums for name in one.names} - night.counts.keys())
    matrix, side = _system(sums, unknown, night.counts)
    if not unknown:
        return dict(night.counts)
    found, *_ = np.linalg.lstsq(matrix, side, rcond=None)
    _, singular, directions = np.linalg.svd(matrix)
    free = directions[int((singular > 1e-9).sum()) :]
    fixed = np.abs(free).max(axis=0, initial=0.0) < 1e-9
    return {**night.counts, **{name: round(float(found[at])) for at, name in enumerate(unknown) if fixed[at]}}


def _system(sums: Sequence[Identity], unknown: Sequence[str], known: Mapping[str, int]) -> tuple[Any, Any]:
    places = {name: at for at, name in enumerate(unknown)}
    matrix, side = np.zeros((len(sums), len(unknown))), np.zeros(len(sums))
    for row, one in enumerate(sums):
        for name, sign in ((one.total, 1.0), *((part, -1.0) for part in one.parts)):
            if name in places:
                matrix[row, places[name]] += sign
            else:
                side[row] -= sign * known[name]
    return matrix, side


def bounded(night: Night, study: Study) -> dict[str, int]:
    """Hidden counts marked small that can have one value only, in whole numbers."""
    sums = identities({*night.counts, *night.marked} - {""}, study, _STEPS)
    unknown = sorted({name for one in sums for name in one.names} - night.counts.keys())
    matrix, side = _system(sums, unknown, night.counts)
    most = 10.0 * max(night.counts.values(), default=0) + 100
    small = _marked_small(night, solved(night, study)) & {*unknown}
    low = np.array([1.0 if name in small else 0.0 for name in unknown])
    high = np.array([10.0 if name in small else most for name in unknown])
    found = {}
    for name in sorted(small):
        goal = np.array([1.0 if other == name else 0.0 for other in unknown])
        ends = [
            milp(sign * goal, integrality=np.ones(len(unknown)), bounds=Bounds(low, high),
                 constraints=LinearConstraint(matrix, side, side))
            for sign in (1, -1)
        ]  # fmt: skip
        values = [round(float(end.x @ goal)) for end in ends if end.x is not None]
        if len(values) == len(ends) and values[0] == values[1]:
            found[name] = values[0]
    return found


def _marked_small(night: Night, known: Mapping[str, int]) -> set[str]:
    """The counts of rows marked low: the mark speaks of the part alone where the whole is known not to be small."""
    return {
        name for name, (mark, whole) in night.marked.items()
        if mark == "low" and (whole == name or known.get(whole, 0) not in {0, *SMALL})
    }  # fmt: skip


# --- claims -----------------------------------------------------------------------------------------------------------


def attack(nights: Sequence[Night], study: Study) -> list[Claim]:
    """Everything the attacker can be sure to have found in all nights together."""
    sure = [*dated(nights)]
    known = [solved(night, study) for night in sure]
    return [*small_counts(known), *small_differences(known), *single_answers(sure)]


def guesses(nights: Sequence[Night], study: Study) -> list[Claim]:
    """What the attacker would claim who takes every figure for one of its night, held or not."""
    known = [solved(night, study) for night in nights]
    return [*small_counts(known), *small_differences(known), *single_answers(nights)]


def blind(claims: Sequence[Claim], seed: int) -> list[Claim]:
    """As many claims of somebody who knows how far each quantity moves but not when: its values, put to its nights by chance."""
    chance, by_quantity = np.random.default_rng(seed), defaultdict[str, list[Claim]](list)
    for claim in claims:
        by_quantity[f"{claim.kind} {claim.about}"].append(claim)
    return [
        replace(claim, value=own[at].value)
        for own in by_quantity.values() for claim, at in zip(own, chance.permutation(len(own)), strict=True)
    ]  # fmt: skip


def dated(nights: Sequence[Night]) -> Iterator[Night]:
    """Each night with the figures that are certainly of that night.

    That is all of them where the report does not say that some are held, else those that are not what they were the
    night before. The flow is held as a whole, so one box that moved dates them all.
    """
    before = None
    for night in nights:
        if before is None or not is_held(night):
            yield night
        else:
            rows = {name: row for name, row in night.rows.items() if row != before.rows.get(name)}
            shown = {_quantity(row, role) for row in rows.values() for role in _ROLES if row[role]}
            boxes = {name for name in night.counts if name in _BOXES}
            moved = any(night.counts[name] != before.counts.get(name) for name in boxes)
            counts = {name: value for name, value in night.counts.items() if name in shown or (moved and name in boxes)}
            yield replace(night, rows=rows, counts=counts)
        before = night


def small_counts(known: Sequence[Mapping[str, int]]) -> Iterator[Claim]:
    """Counts of 1 to 10 that a night shows or gives by subtraction."""
    for number, counts in enumerate(known):
        yield from (Claim("count", name, (number,), value) for name, value in counts.items() if value in SMALL)


def small_differences(known: Sequence[Mapping[str, int]]) -> Iterator[Claim]:
    """Counts that differ by 1 to 10 between two nights: so many came or went."""
    for (one, before), (other, after) in combinations(enumerate(known), 2):
        for name in sorted(before.keys() & after.keys()):
            if abs(after[name] - before[name]) in SMALL:
                yield Claim("difference", name, (one, other), after[name] - before[name])


def single_answers(nights: Sequence[Night]) -> Iterator[Claim]:
    """The value of the one person by whom a mean grew from one night to another, where decimals allow."""
    means = [
        {name: found for name, row in night.rows.items() if row["statistic"].startswith("mean") and (found := _mean(row))}
        for night in nights
    ]  # fmt: skip
    for (one, before), (other, after) in combinations(enumerate(means), 2):
        for name in sorted(before.keys() & after.keys()):
            (n, mean, step), (n_then, mean_then, _) = after[name], before[name]
            if n == n_then + 1 and (n + n_then) * step / 2 < 0.5:
                yield Claim("answer", name, (one, other), round(n * mean - n_then * mean_then))


def _mean(row: Mapping[str, str]) -> tuple[int, float, float] | None:
    """n, mean and the step of its decimals; an n that was rounded is found again from the interval."""
    if not (row["estimate"] and row["lower"] and row["sd"] and row["n"]):
        return None
    mean, width, sd = float(row["estimate"]), float(row["upper"]) - float(row["lower"]), float(row["sd"])
    decimals = max(len(row[name].partition(".")[2]) for name in ("estimate", "lower", "upper", "sd"))
    near = [n for n in range(int(row["n"]) - 2, int(row["n"]) + 3) if n > 1]
    fits = {n: abs(2 * stats.t.ppf(0.975, n - 1) * sd / n**0.5 - width) for n in near}
    n = min(fits, key=fits.__getitem__) if int(row["n"]) % 5 == 0 else int(row["n"])
    return n, mean, 10.0**-decimals


def rounded_to_five(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their counts rounded to 5: what some publish instead of a guard."""
    return [{**row, **{role: 5 * round(row[role] / 5) for role in _ROLES if row[role] is not None}} for row in rows]
