"""Small cells: which rows are hidden, and the proof that nobody can work them out again.

A count from 1 to threshold - 1 is small. The proof is exact: everything a reader of the release edition knows (the
counts shown, the sums they belong to, and what the marks "low" and "c" say) is written as a linear system in whole
numbers, and the smallest and largest value of every small count under it is computed (`scipy.optimize.milp`). A small
count is safe when at least three values are possible for it, or one of them is 0 or not small.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import block_array, csr_array, eye_array, hstack

from crps_outcomes.errors import DisclosureError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from crps_outcomes.analysis.identities import Identity, Shown
    from crps_outcomes.definitions import Rule
    from crps_outcomes.differencing import Register
    from crps_outcomes.restatement import Restatement

LOW, PROTECTING = "low", "c"
#: A row that is left out altogether, for the rare case that even a mark would say too much.
LEFT_OUT = "left out"

#: Counts that a mark speaks about; the mark of a row says whether one of these is small.
MARKED_ROLES = ("k", "n")

#: Fewer possible values than this, all of them small, and a hidden count counts as found.
LEAST_CANDIDATES = 3

#: In the first looks around a quantity, those with more neighbours than this are not looked beyond.
_FEW_CONNECTIONS = 12

#: In parts with more quantities than this, the reports nearest to the true one are looked for, in smaller ones the extreme ones.
_LARGE_PART = 100

_INFEASIBLE = 2  # what `milp` says when there is no solution

#: What it costs the reader to lose a row of this section, when there is a choice.
WEIGHTS = {"pain": 5, "responders": 5, "function": 3, "safety": 3, "counts": 3}


@dataclass(frozen=True)
class Releasable:
    """What may leave the analysis in one edition; nothing after this sees anything else.

    ``people`` is OUTCOMES and ``doses`` is DOSES in the internal edition, None in the release edition. ``counts`` is
    COUNTS, its hidden cells missing. ``rejections`` has rule, reason, stage, n, suppressed; ``sources`` has
    resource_type, n, hole; ``changes`` is CHANGES, its numbers missing in the release edition. ``actions`` lists what
    to see to, people by their code; only an internal edition has it, and only where codes can be made.
    """

    edition: str
    threshold: int
    estimates: pd.DataFrame
    counts: pd.DataFrame
    people: pd.DataFrame | None
    doses: pd.DataFrame | None
    rejections: pd.DataFrame
    sources: pd.DataFrame
    changes: pd.DataFrame
    rules: tuple[str, ...]
    actions: pd.DataFrame | None = None
    rule: Rule = "CMS"
    restatement: Restatement | None = None  # what changed since the last report of its kind; None for a first one
    register: Register | None = field(default=None, repr=False)  # what is remembered of this release; never published

    @property
    def is_rounded(self) -> bool:
        """Whether counts are, or are to be, rounded to the nearest 5."""
        return self.edition == "release" and self.rule == "NHS"


@dataclass(frozen=True)
class Layout:
    """Every count that could be shown, and what adds up to what; the same for all pages made of it.

    ``truth`` has the true value of every quantity in ``shown`` and ``identities``, and of no other. ``known`` are
    quantities that a reader has from a release before, whatever is hidden now.
    """

    shown: tuple[Shown, ...]
    identities: tuple[Identity, ...]
    truth: Mapping[str, int]
    threshold: int
    known: frozenset[str] = frozenset()

    def is_small(self, quantity: str) -> bool:
        return 1 <= self.truth[quantity] < self.threshold

    @cached_property
    def rows(self) -> frozenset[str]:
        """All rows that show a count."""
        return frozenset(one.row for one in self.shown)

    @cached_property
    def small(self) -> tuple[str, ...]:
        """The small quantities, most linked first: what protects those protects many of the others too."""
        links = {name: len(self.sums_of.get(name, ())) for name in self.truth if self.is_small(name)}
        return tuple(sorted(links, key=lambda name: (-links[name], name)))

    @cached_property
    def sums_of(self) -> Mapping[str, tuple[Identity, ...]]:
        """The identities a quantity stands in."""
        found: defaultdict[str, list[Identity]] = defaultdict(list)
        for one in self.identities:
            for name in one.names:
                found[name].append(one)
        return {name: tuple(sums) for name, sums in found.items()}

    @cached_property
    def rows_of(self) -> Mapping[str, frozenset[str]]:
        """The rows that show a quantity."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for one in self.shown:
            found[one.quantity].add(one.row)
        return {name: frozenset(rows) for name, rows in found.items()}


@dataclass(frozen=True)
class Page:
    """A layout with some rows hidden, each under its mark."""

    layout: Layout
    hidden: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def published(self) -> frozenset[str]:
        """The quantities that at least one visible row shows, or that are known anyway."""
        return self.layout.known.union(one.quantity for one in self.layout.shown if one.row not in self.hidden)

    @cached_property
    def unknown(self) -> frozenset[str]:
        """The quantities that a reader could only work out."""
        return frozenset(self.layout.truth) - self.published

    @cached_property
    def marked(self) -> Mapping[str, frozenset[str]]:
        """For every hidden row, the unknown quantities its mark speaks about; the flow and rows left out have none."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for one in self.layout.shown:
            has_mark = self.hidden.get(one.row, LEFT_OUT) != LEFT_OUT
            if has_mark and one.role in MARKED_ROLES and one.quantity in self.unknown:
                found[one.row].add(one.quantity)
        return {row: frozenset(names) for row, names in found.items()}

    @cached_property
    def determined(self) -> frozenset[str]:
        """The unknown quantities that plain subtraction gives, one sum after the other."""
        lacking = {one: set(left) for one, left in self._sums.items()}
        waiting = [one for one, left in lacking.items() if len(left) == 1]
        found: set[str] = set()
        while waiting:
            found |= (new := lacking[waiting.pop()] - found)
            for one in chain.from_iterable(self.layout.sums_of[name] for name in new):
                lacking[one] -= new
                if len(lacking[one]) == 1:
                    waiting.append(one)
        return frozenset(found)

    @cached_property
    def _sums(self) -> Mapping[Identity, frozenset[str]]:
        """The unknown quantities of every identity that has some."""
        found: defaultdict[Identity, set[str]] = defaultdict(set)
        for name in self.unknown:
            for one in self.layout.sums_of.get(name, ()):
                found[one].add(name)
        return {one: frozenset(names) for one, names in found.items()}

    @cached_property
    def _near(self) -> Mapping[str, set[str]]:
        """For every unknown quantity, those that an equation or a mark connects with it."""
        near: defaultdict[str, set[str]] = defaultdict(set)
        for linked in chain(self._sums.values(), self.marked.values()):
            for name in linked:
                near[name] |= linked
        return near

    def surroundings(self, name: str) -> Iterator[frozenset[str]]:
        """Ever wider parts of the unknown around a quantity; the last one is all that is connected with it.

        The first ones do not go beyond quantities with many connections, which keeps them small.
        """
        for most in (_FEW_CONNECTIONS, len(self.unknown) + 1):
            part, edge = {name}, {name}
            while edge:
                edge = set().union(*(self._near[one] for one in edge if len(self._near[one]) <= most)) - part
                part |= edge
                if edge and most == _FEW_CONNECTIONS:
                    yield frozenset(part)
        yield frozenset(part)

    def hiding(self, rows: Iterable[str], mark: str) -> Page:
        """The same page with more rows hidden; a row hidden before keeps its mark."""
        return replace(self, hidden={**dict.fromkeys(rows, mark), **self.hidden})

    def showing(self, rows: frozenset[str]) -> Page:
        """The same page with these rows visible again."""
        return replace(self, hidden={row: mark for row, mark in self.hidden.items() if row not in rows})


# --- primary and complementary suppression ------------------------------------------------------------------------


def protect(layout: Layout, held: frozenset[str] = frozenset()) -> Page:
    """The page with enough rows hidden that no small count is shown or can be worked out.

    Hiding more never makes a safe count unsafe again, so each small count is looked at once. ``held`` are rows that show
    nothing new (`differencing`): they say nothing about today, but for the mark of a small count.

    Raises:
        DisclosureError: even with everything hidden that is linked to it, a small count could be worked out.
    """
    page, evidence = hide_small(layout, held), Evidence([])
    given_up: list[tuple[str, frozenset[str]]] = []
    lost: set[str] = set()
    for leak in layout.small:
        while not is_safe(page, leak, evidence):
            victim = _cheapest(page, leak, only_near=True)
            if victim is None and is_safe(bare := _without_marks(page, leak), leak, evidence):
                page = bare
            elif victim := victim or _cheapest(page, leak, only_near=False):
                rows = layout.rows_of[victim] - page.hidden.keys()
                given_up.append((leak, rows))
                page = page.hiding(rows, PROTECTING)
            elif layout.known:
                lost.add(leak)  # it follows from releases before, so nothing that is hidden now would help
                break
            else:
                raise DisclosureError(
                    "small counts can be worked out whatever is hidden; the release edition needs more people"
                )
    return _without_vain_marks(_restored(page, given_up, evidence, [name for name in layout.small if name not in lost]))


def _without_vain_marks(page: Page) -> Page:
    """The page with the rows shown whose every count another row shows anyway: hiding those protects nothing."""
    hidden_only = {one.row for one in page.layout.shown if one.quantity in page.unknown}
    return page.showing(frozenset(row for row, mark in page.hidden.items() if mark == PROTECTING) - hidden_only)


def _restored(
    page: Page, given_up: Sequence[tuple[str, frozenset[str]]], evidence: Evidence, small: Sequence[str]
) -> Page:
    """The page with rows shown again that later hiding made superfluous, dearest groups first, then halves of them."""
    waiting = sorted(((leak, sorted(rows)) for leak, rows in given_up), key=lambda one: (weight(one[1]), one[1]))
    while waiting:
        leak, rows = waiting.pop()
        trial = page.showing(frozenset(rows))
        kept = evidence.fitting(trial)
        if is_safe(trial, leak, kept) and all(is_safe(trial, name, kept) for name in small):
            page, evidence = trial, kept
        elif len(rows) > 1:
            waiting += [(leak, rows[len(rows) // 2 :]), (leak, rows[: len(rows) // 2])]
    return page


def _without_marks(page: Page, leak: str) -> Page:
    """The page without the rows around a leak whose marks, taken together, could give it away."""
    near = set(chain.from_iterable(one.names for one in page.layout.sums_of.get(leak, ()))) | {leak}
    rows = (row for name in near for row in page.layout.rows_of.get(name, ()) if row in page.marked)
    return replace(page, hidden={**page.hidden, **dict.fromkeys(rows, LEFT_OUT)})


def hide_small(layout: Layout, held: frozenset[str] = frozenset()) -> Page:
    """Primary suppression: low where k or n is small, c where only n - k or the number missing is."""
    small = [one for one in layout.shown if layout.is_small(one.quantity)]
    low = (one.row for one in small if one.role in MARKED_ROLES)
    beside = (*(one.row for one in small), *_small_rests(layout))
    return Page(layout).hiding(low, LOW).hiding(held, LEFT_OUT).hiding(beside, PROTECTING)


def _small_rests(layout: Layout) -> Iterator[str]:
    """Rows that show k and n where n - k is small, as far as k is a part of n."""
    counts: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for one in layout.shown:
        counts[one.row][one.role] = one.quantity
    for row, roles in counts.items():
        rest = f"~{roles.get('n')} without {roles.get('k')}"
        if rest in layout.truth and layout.is_small(rest):
            yield row


def _cheapest(page: Page, leak: str, *, only_near: bool) -> str | None:
    """The published quantity whose hiding helps the leak at the least cost to the reader.

    Near are those in a sum with the leak itself; else the nearest there are in any chain of sums.
    """
    near = {leak}
    while True:
        touching = {one for name in near for one in page.layout.sums_of.get(name, ())}
        names = frozenset(chain.from_iterable(one.names for one in touching))
        candidates = (names & page.published) - page.layout.known
        if candidates:
            return min(candidates, key=lambda name: (_cost(page, name), page.layout.truth[name], name))
        wider = near | (names & page.unknown)
        if wider == near or only_near:
            return None
        near = wider


def _cost(page: Page, quantity: str) -> int:
    return weight(page.layout.rows_of[quantity] - page.hidden.keys())


def weight(rows: Iterable[str]) -> int:
    return sum(WEIGHTS.get(row.split("/", maxsplit=1)[0], 1) for row in rows)


# --- the audit ----------------------------------------------------------------------------------------------------


def audit(page: Page) -> tuple[str, ...]:
    """The small quantities that a reader can work out from what the page shows, sorted."""
    evidence = Evidence([])
    return tuple(sorted(name for name in page.layout.small if not is_safe(page, name, evidence)))


@dataclass(frozen=True)
class Evidence:
    """Reports that would look the same to a reader as the true one: the quantities that differ from the truth.

    One found while some rows were hidden stays good when more are hidden, because it has the true values of those.
    """

    others: list[Mapping[str, int]]
    reach: dict[str, tuple[int, int]] = field(default_factory=dict)  # the smallest and the largest value in any of them

    def leaves_doubt(self, page: Page, name: str) -> bool:
        """Whether nothing, something not small, or three small values are known to be possible."""
        true = page.layout.truth[name]
        lowest, highest = self.reach.get(name, (true, true))
        lowest, highest = min(lowest, true), max(highest, true)
        return lowest == 0 or highest >= page.layout.threshold or highest - lowest + 1 >= LEAST_CANDIDATES

    def fitting(self, page: Page) -> Evidence:
        """What a reader of this page cannot rule out: the reports that have the true values of all it shows."""
        kept = Evidence([])
        for other in self.others:
            if page.published.isdisjoint(other):
                kept._take(other)
        return kept

    def add(self, page: Page, report: Mapping[str, int]) -> None:
        self._take({name: value for name, value in report.items() if value != page.layout.truth[name]})

    def _take(self, other: Mapping[str, int]) -> None:
        self.others.append(other)
        for name, value in other.items():
            lowest, highest = self.reach.get(name, (value, value))
            self.reach[name] = (min(lowest, value), max(highest, value))


def is_safe(page: Page, name: str, evidence: Evidence) -> bool:
    """Whether a reader cannot work out a small quantity; what is found on the way is added to the evidence.

    Doubt that exists while everything further away has its true value exists all the more when it does not: a small
    part of the system can prove safety, and only the whole of it can prove the contrary.
    """
    if name in page.published or name in page.determined:
        return False
    if evidence.leaves_doubt(page, name):
        return True
    for part in page.surroundings(name):
        for report in puzzle(page, part).reports(name, page.layout.truth):
            evidence.add(page, report)
            if evidence.leaves_doubt(page, name):
                return True
    return False


# --- what a reader knows ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Puzzle:
    """What a reader knows about some unknown counts, as a linear system in whole numbers.

    The variables are the quantities, then two switches for every quantity that a mark speaks about.
    """

    places: Mapping[str, int]
    threshold: int
    constraints: LinearConstraint
    bounds: Bounds

    def reports(self, name: str, truth: Mapping[str, int]) -> Iterator[Mapping[str, int]]:
        """Reports that decide whether this quantity is in doubt, as far as there are any.

        Of a small system those with its largest and its smallest value. Of a large one those nearest to the truth with a
        value far enough from it for doubt by itself, else with the values beside it: as they differ from the true report in
        as little as they can, they go on being evidence when other rows are shown again, which saves most of the work.
        """
        if len(self.places) <= _LARGE_PART:
            yield from (self.extreme(name, largest=largest) for largest in (True, False))
            return
        true = truth[name]
        yield from self._nearest(name, truth, min(true + 2, self.threshold), np.inf)
        yield from self._nearest(name, truth, 0, max(true - 2, 0))
        for beside in (true + 1, true - 1):
            found = [*self._nearest(name, truth, beside, beside)]
            if not found:  # two values at most, both small
                return
            yield from found

    def _nearest(
        self, name: str, truth: Mapping[str, int], lowest: float, highest: float
    ) -> Iterator[Mapping[str, int]]:
        """The report that differs about the least from the true one while this quantity lies between two values, if there is one.

        Behind the variables stands, for every quantity, the size of its difference from the truth.
        """
        n, others = len(self.places), len(self.bounds.lb) - len(self.places)
        true = np.array([truth[one] for one in self.places], dtype=float)
        same, unbound = eye_array(n), np.full(n, np.inf)
        own = hstack([same, csr_array((n, others))])
        blocks: Any = [[self.constraints.A, None], [own, -same], [own, same]]
        sides = [*self.constraints.lb, *-unbound, *true], [*self.constraints.ub, *true, *unbound]
        low, high = np.array([*self.bounds.lb, *np.zeros(n)]), np.array([*self.bounds.ub, *unbound])
        low[self.places[name]], high[self.places[name]] = lowest, min(highest, high[self.places[name]])
        solved = milp(
            np.array([0.0] * (n + others) + [1.0] * n), integrality=np.array([1] * (n + others) + [0] * n),
            bounds=Bounds(low, high), constraints=LinearConstraint(block_array(blocks, format="csr"), *sides), options={"mip_rel_gap": 0.5},
        )  # fmt: skip
        if solved.x is not None:
            yield self._counts(solved.x)
        elif solved.status != _INFEASIBLE:
            raise DisclosureError("the disclosure audit could not be finished")

    def _counts(self, values: NDArray[np.float64]) -> Mapping[str, int]:
        return {one: round(float(value)) for one, value in zip(self.places, values, strict=False)}

    def extreme(self, name: str, *, largest: bool) -> Mapping[str, int]:
        """The values of all its quantities in one report that gives this one its largest or smallest value."""
        goal = np.zeros(len(self.bounds.lb))
        goal[self.places[name]] = -1.0 if largest else 1.0
        solved = milp(goal, integrality=np.ones(len(goal), dtype=int), bounds=self.bounds, constraints=self.constraints)
        if solved.x is None:
            raise DisclosureError("the disclosure audit found no solution; the report does not add up")
        return self._counts(solved.x)


Equation = tuple[dict[int, float], float, float]  # coefficients by variable, lower and upper side


def puzzle(page: Page, part: frozenset[str]) -> Puzzle:
    """The linear system of a part of the unknown quantities, everything else having its true value."""
    names = tuple(sorted(part))
    places = {name: number for number, name in enumerate(names)}
    marks = {row: sorted(own & part) for row, own in page.marked.items() if own & part and not _kept(page, row, part)}
    switched = sorted(set(chain.from_iterable(marks.values())))
    switches = {name: len(names) + 2 * number for number, name in enumerate(switched)}
    most = float(10 * (page.layout.threshold + max(page.layout.truth.values())))
    equations = [
        *_sums(page, places),
        *chain.from_iterable(_switch(places[one], switches[one], page.layout.threshold, most) for one in switched),
        *(_mark([switches[one] for one in own], page.hidden[row]) for row, own in marks.items()),
    ]
    highest = np.array([most] * len(names) + [1.0] * (2 * len(switched)))
    constraint, bounds = _constraint(equations, len(highest)), Bounds(np.zeros(len(highest)), highest)
    return Puzzle(places, page.layout.threshold, constraint, bounds)


def _kept(page: Page, row: str, part: frozenset[str]) -> bool:
    """Whether the mark "low" of a row holds already by a count outside the part."""
    return page.hidden[row] == LOW and any(page.layout.is_small(name) for name in page.marked[row] - part)


def _sums(page: Page, places: Mapping[str, int]) -> Iterator[Equation]:
    for one in dict.fromkeys(chain.from_iterable(page.layout.sums_of.get(name, ()) for name in places)):
        side, weights = 0.0, defaultdict[int, float](float)
        for name, sign in ((one.total, 1.0), *((part, -1.0) for part in one.parts)):
            if name in places:
                weights[places[name]] += sign
            else:
                side -= sign * page.layout.truth[name]
        yield dict(weights), side, side


def _switch(at: int, switch: int, threshold: int, most: float) -> Iterator[Equation]:
    """0 with both switches off, 1 to threshold - 1 with the first on, threshold or more with the second on."""
    yield {switch: 1.0, switch + 1: 1.0}, 0.0, 1.0
    yield {at: 1.0, switch: -1.0, switch + 1: -float(threshold)}, 0.0, np.inf
    yield {at: 1.0, switch: -float(threshold - 1), switch + 1: -most}, -np.inf, 0.0


def _mark(switches: Sequence[int], mark: str) -> Equation:
    """Low says that one of the counts of the row is small, c that none is."""
    return dict.fromkeys(switches, 1.0), *((1.0, np.inf) if mark == LOW else (0.0, 0.0))


def _constraint(equations: Sequence[Equation], width: int) -> LinearConstraint:
    rows = [number for number, (weights, _, _) in enumerate(equations) for _ in weights]
    columns = [at for weights, _, _ in equations for at in weights]
    data = [weight for weights, _, _ in equations for weight in weights.values()]
    matrix = csr_array((data, (rows, columns)), shape=(len(equations), width))
    return LinearConstraint(matrix, [low for _, low, _ in equations], [high for _, _, high in equations])
