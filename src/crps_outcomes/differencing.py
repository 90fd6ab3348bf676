"""Two releases subtracted: which figures may be renewed, so that no difference tells about a few people.

Within one release the identities hold; between two releases nothing links a figure but the figure itself. So the
difference of a quantity between two releases can be worked out exactly where both let the quantity be worked out.
It must then be a difference of nobody or of at least as many people as the threshold of small counts says: people
who entered, left, or changed their value. A figure that fails is not renewed; it stands as it was last released.

What a release let be worked out, and who was behind it, is remembered in a register as keyed digests: the key stays in
the home folder, and without it a digest says nothing.
"""

from __future__ import annotations

import hmac
import json
from collections import defaultdict
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from crps_outcomes.analysis.coarse import OTHER_TERMS
from crps_outcomes.analysis.identities import Identity, Shown, between_releases, others_than
from crps_outcomes.analysis.members import nobody_known, settle_members
from crps_outcomes.disclosure import LEFT_OUT, LOW, Page, hide_small, protect, weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crps_outcomes.analysis.members import Members
    from crps_outcomes.disclosure import Layout

#: Who was behind a quantity at one release: digest of the person -> digest of the person with contribution and values.
Version = dict[bytes, bytes]

#: A row as it was published: its columns, its mark among them.
Published = dict[str, Any]

DIGEST_BYTES = 8

#: The role of the values behind a mean or median, beside k, n and n_missing.
VALUES = "values"


@dataclass(frozen=True)
class Standing:
    """The release that renewed figures last: its day, what it was made of, the rows it showed, and whether some were held."""

    as_of: str
    basis: str
    rows: tuple[str, ...] = field(repr=False)
    is_held: bool


@dataclass(frozen=True)
class Register:
    """What was released before by one home: all reports share it, for readers hold them all.

    ``versions`` has, by quantity, each set of people it was released with, the last one at the end; ``rows`` has each
    row as last published.
    """

    versions: Mapping[str, tuple[Version, ...]] = field(default_factory=dict, repr=False)
    rows: Mapping[str, Published] = field(default_factory=dict, repr=False)
    last: Standing | None = None


@dataclass(frozen=True)
class Seal:
    """Turns the people behind a quantity into keyed digests (HMAC-SHA-256, cut to 8 bytes)."""

    key: bytes = field(repr=False)

    @property
    def check(self) -> str:
        """Tells this key from another one, and nothing else about it."""
        return self._digest(b"which key").hex()

    def version(self, quantity: str, contents: Mapping[str, object]) -> Version:
        """The digests of one quantity: nobody can tell from them that a person is behind two quantities."""
        name = quantity.encode()
        return {
            self._digest(name, person.encode()): self._digest(name, person.encode(), repr(content).encode())
            for person, content in contents.items()
        }

    def _digest(self, *parts: bytes) -> bytes:
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self.key, framed, "sha256")[:DIGEST_BYTES]


def changed(one: Version, other: Version) -> int:
    """How many people entered, left or changed between two versions."""
    return sum(one.get(person) != other.get(person) for person in one.keys() | other.keys())


# --- the guard ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Guarded:
    """What a release shows anew. ``page`` has every other row hidden: under a mark of today, or left out of today.

    ``is_held``: some rows are left out because of releases before.
    """

    page: Page
    versions: Mapping[str, tuple[Version, ...]] = field(repr=False)
    is_held: bool = False


Contents = dict[str, dict[str, Any]]


def guard(layout: Layout, coarse: Layout, contents: Contents, register: Register, seal: Seal) -> Guarded:
    """The page of what may be shown anew, safe by itself and against every release before.

    Args:
        layout: what the rows would show, and what adds up within one release.
        coarse: the same with everything that counts only between releases (`between_releases`).
        contents: by quantity, each person with contribution or values.
        register: the releases before.
        seal: makes the digests.
    """
    now = {name: seal.version(name, contents[name]) for name in coarse.truth if name in register.versions}
    failing = frozenset(
        name for name, own in now.items() if fails(own, register.versions[name], layout.threshold)
    )  # fmt: skip
    same = _unchanged(coarse, now, register)
    layout = replace(layout, known=same & layout.truth.keys())
    held = _with_whole_flow(layout, frozenset(one.row for one in coarse.shown if one.quantity in failing))
    if _is_nothing_new(hide_small(layout, held), coarse, now, register):
        return Guarded(Page(layout, dict.fromkeys(layout.rows, LEFT_OUT)), register.versions, is_held=bool(held))
    safe = protect(layout, held)
    page = _without_failing(safe, coarse, failing, same)
    known = derivable(replace(page, layout=coarse), same)
    released = {name: now[name] if name in now else seal.version(name, contents[name]) for name in known}
    return Guarded(page, {
        **register.versions, **{name: _with_version(register.versions.get(name, ()), own) for name, own in released.items()},
    }, is_held=bool(held) or page.hidden != safe.hidden)  # fmt: skip


def _with_whole_flow(layout: Layout, rows: frozenset[str]) -> frozenset[str]:
    """The rows; the cohort flow is held as a whole, because its boxes must add up."""
    boxes = frozenset(row for row in layout.rows if row.startswith("counts/"))
    return rows | boxes if rows & boxes else rows


def _is_nothing_new(page: Page, coarse: Layout, now: Mapping[str, Version], register: Register) -> bool:
    """Whether every row that may be renewed stands in the register as it would be now, and the same rows are small as before."""
    if any(register.rows.get(row, {}).get("suppressed") != LOW for row, mark in page.hidden.items() if mark == LOW):
        return False
    return all(_is_as_published(one, now, register) for one in coarse.shown if one.row not in page.hidden)


def _is_as_published(one: Shown, now: Mapping[str, Version], register: Register) -> bool:
    """Whether the row was last published with the people of today; that an earlier release had them is not enough."""
    if one.quantity not in now or now[one.quantity] != register.versions[one.quantity][-1]:
        return False
    return one.role == VALUES or register.rows.get(one.row, {}).get(one.role) == one.value


def _unchanged(coarse: Layout, now: Mapping[str, Version], register: Register) -> frozenset[str]:
    """What is as it was last published: a reader who takes it for today's is right, whether it was renewed or not."""
    by_number = {one.quantity for one in coarse.shown if register.rows.get(one.row, {}).get(one.role) == one.value}
    return frozenset(
        by_number | {name for one in coarse.shown if now.get(name := one.quantity) in register.versions.get(name, ())}
    )


def fails(now: Version, before: Iterable[Version], threshold: int) -> bool:
    """Whether a few people, but not nobody, changed since any release before."""
    return any(0 < changed(now, one) < threshold for one in before)


def _with_version(before: tuple[Version, ...], now: Version) -> tuple[Version, ...]:
    """All versions, the one of this release at the end."""
    return (*(one for one in before if one != now), now)


def _without_failing(page: Page, coarse: Layout, failing: frozenset[str], same: frozenset[str]) -> Page:
    """The page with enough further rows left out that no failing quantity can be worked out; then as few as it takes.

    To leave out what is unchanged hides nothing. What follows from the unchanged alone tells nothing new.
    """
    given_up: list[frozenset[str]] = []
    failing -= derivable(Page(coarse, dict.fromkeys(coarse.rows, LEFT_OUT)), same).keys()
    while leaks := sorted((known := derivable(replace(page, layout=coarse), same)).keys() & failing):
        candidates = shown_behind(leaks[0], known) - same
        costs = {name: (weight(coarse.rows_of[name] - page.hidden.keys()), name) for name in candidates}
        rows = _with_whole_flow(page.layout, coarse.rows_of[min(costs, key=costs.__getitem__)]) - page.hidden.keys()
        given_up.append(rows)
        page = page.hiding(rows, LEFT_OUT)
    for rows in sorted(given_up, key=lambda rows: (-weight(rows), sorted(rows))):
        trial = page.showing(rows)
        if not derivable(replace(trial, layout=coarse), same).keys() & failing:
            page = trial
    return page


# --- what counts between releases --------------------------------------------------------------------------------------


def between(layout: Layout, members: Members, kept: Iterable[str], register: Register) -> tuple[Layout, Contents]:
    """The layout as a reader of several releases sees it, and by quantity each person with contribution or values.

    Values behind means and medians are quantities of their own. A group of other terms is named after the terms that
    are not in it, so that only equal groups are compared.
    """
    earlier = tuple(
        tuple(json.loads(name.split("/", 2)[2])) for name in register.versions if name.startswith(others_than(())[:-2])
    )
    named = _renamed(layout, {f"{what}/{OTHER_TERMS}": others_than(kept, what) for what in ("events", "affected")})
    shown = {one.row for one in layout.shown}
    values = {row: own for row, own in members.values.items() if row in shown}
    sums = (*named.identities, *between_releases(named.truth, earlier))
    vectors = settle_members(
        {
            others_than(kept, name.split("/")[0]) if name.endswith(f"/{OTHER_TERMS}") else name: own
            for name, own in members.counts.items()
        },
        sums,
    )
    moments = _Moments(values)
    truth = {
        **dict.fromkeys((*map(values_of, values), *moments.contents), 1),
        **{name: own.total() for name, own in vectors.items()}, **named.truth,
    }  # fmt: skip
    everything = (*sums, *moments.identities)
    wide = replace(
        named,
        shown=(*named.shown, *(Shown(row, VALUES, values_of(row), 1) for row in values)),
        identities=tuple(one for one in everything if truth.keys() >= set(one.names)),
        truth=truth,
    )
    contents: Contents = {name: dict(vectors.get(name) or nobody_known(name, size)) for name, size in truth.items()}
    contents |= {values_of(row): _exactly(own) for row, own in values.items()} | moments.contents
    return wide, contents


def values_of(row: str) -> str:
    """The quantity of the values behind a row's mean or median."""
    return f"values of {row}"


def _exactly(values: Mapping[str, tuple[float, ...]]) -> dict[str, Any]:
    """Values by person as far as a report could tell them apart."""
    return {person: tuple(round(value, 6) for value in own) for person, own in values.items()}


def _renamed(layout: Layout, names: Mapping[str, str]) -> Layout:
    return replace(
        layout,
        shown=tuple(replace(one, quantity=names.get(one.quantity, one.quantity)) for one in layout.shown),
        identities=tuple(
            Identity(names.get(one.total, one.total), tuple(names.get(part, part) for part in one.parts))
            if names.keys() & set(one.names) else one
            for one in layout.identities
        ),
        truth={names.get(name, name): value for name, value in layout.truth.items()},
    )  # fmt: skip


class _Moments:
    """What the means at baseline, at a visit, and of the change tell together: the baselines of some of the people.

    The sum of values at a visit less the sum of changes is the sum of baselines of the people with both; the others'
    is the rest of all baselines.
    """

    def __init__(self, values: Mapping[str, Mapping[str, tuple[float, ...]]]) -> None:
        self.identities: list[Identity] = []
        self.contents: Contents = {}
        for row in values:
            section, statistic, *about, visit, group = row.split("/")
            here, start = ("/".join((section, "mean", *about, when, group)) for when in (visit, "baseline"))
            if statistic == "mean_change" and {here, start} <= values.keys():
                self._add(row, here, start, values)

    def _add(self, row: str, here: str, start: str, values: Mapping[str, Mapping[str, tuple[float, ...]]]) -> None:
        both, others, alone = (
            f"{what} behind {row}" for what in ("baselines", "other baselines", "values without baseline")
        )
        parts = {
            both: {person: own for person, own in values[start].items() if person in values[row]},
            others: {person: own for person, own in values[start].items() if person not in values[row]},
            alone: {person: own for person, own in values[here].items() if person not in values[row]},
        }
        self.contents |= {name: _exactly(own) for name, own in parts.items()}
        rest = (alone,) if parts[alone] else ()  # equal numbers of people show that nobody is in it
        self.identities += [
            Identity(values_of(here), (values_of(row), both, *rest)), Identity(values_of(start), (both, others)),
        ]  # fmt: skip


# --- what can be worked out -------------------------------------------------------------------------------------------

#: Every quantity that can be worked out -> those it was worked out from; for what is shown, itself.
Reasons = dict[str, tuple[str, ...]]


def derivable(page: Page, besides: frozenset[str] = frozenset()) -> Reasons:
    """Every quantity that the page shows or that follows from it by adding and subtracting, in however many steps.

    ``besides`` are quantities that are known without it. The parts of a total of 0 follow too, because a count is never negative.
    """
    known: Reasons = {name: (name,) for name in page.published | besides}
    while True:
        _by_single_steps(page, known)
        more = _by_elimination(page.layout.identities, known)
        if not more:
            return known
        known |= more


def shown_behind(name: str, known: Reasons) -> frozenset[str]:
    """The shown quantities that one was worked out from, step by step."""
    seen, waiting, found = {name}, [name], set()
    while waiting:
        one = waiting.pop()
        if one in known[one]:
            found.add(one)
        waiting += (new := set(known[one]) - seen)
        seen |= new
    return frozenset(found)


def _by_single_steps(page: Page, known: Reasons) -> None:
    waiting = list(page.layout.identities)
    while waiting:
        later = []
        for one in waiting:
            lacking = {name for name in one.names if name not in known}
            is_empty = one.total in known and page.layout.truth[one.total] == 0
            if is_empty:
                known |= dict.fromkeys(lacking, (one.total,))
            elif len(lacking) == 1:
                known |= dict.fromkeys(lacking, tuple(name for name in one.names if name in known))
            elif lacking:
                later.append(one)
        if len(later) == len(waiting):
            return
        waiting = later


def _by_elimination(identities: Iterable[Identity], known: Reasons) -> Reasons:
    """What some combination of the sums gives: Gauss and Jordan, in exact numbers.

    Each line is a sum of unknowns that is known, with the quantities it was made of; a line with one unknown gives it.
    """
    lines: dict[str, tuple[dict[str, Fraction], frozenset[str]]] = {}  # by the unknown that only this line still has
    users: defaultdict[str, set[str]] = defaultdict(set)  # unknown -> the lines that have it
    for one in sorted(identities, key=lambda one: len(one.names)):
        weights: dict[str, Fraction] = {}
        for name, sign in ((one.total, 1), *((part, -1) for part in one.parts)):
            if name not in known:
                weights[name] = weights.get(name, Fraction(0)) + sign
        made_of = frozenset(name for name in one.names if name in known)
        for name in [name for name in weights if name in lines]:
            weights, made_of = _less(weights, made_of, name, lines[name])
        if not weights:
            continue
        pivot = min(weights, key=lambda name: (len(users[name]), name))
        line = ({name: own / weights[pivot] for name, own in weights.items()}, made_of)
        for other in tuple(users[pivot]):
            before, *_ = lines[other]
            lines[other] = _less(*lines[other], pivot, line)
            for name in before.keys() - lines[other][0].keys():
                users[name].discard(other)
            for name in lines[other][0].keys() - before.keys():
                users[name].add(other)
        lines[pivot] = line
        for name in line[0]:
            users[name].add(pivot)
    return {name: tuple(made_of) for name, (weights, made_of) in lines.items() if len(weights) == 1}


def _less(
    weights: dict[str, Fraction], made_of: frozenset[str], pivot: str, line: tuple[dict[str, Fraction], frozenset[str]]
) -> tuple[dict[str, Fraction], frozenset[str]]:
    """A line without one unknown: so many times the line that gives it is taken away."""
    times, result = weights[pivot], dict(weights)
    for name, own in line[0].items():
        result[name] = result.get(name, Fraction(0)) - times * own
    return {name: own for name, own in result.items() if own}, made_of | line[1]
