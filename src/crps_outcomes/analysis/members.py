"""Who is behind each count: what the release edition needs to compare two releases, and nothing else may see.

Every count is a sum over people of a small whole number, so beside the number of a row stands, for each person, how
often that person counts. What adds up for the numbers adds up for each person too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crps_outcomes.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crps_outcomes.analysis.identities import Identity
    from crps_outcomes.analysis.rows import Row

#: By subject_id (or the reference of a refused resource), how often it counts; who does not count is not in it.
Vector = Counter[str]

_BEHIND = "behind"


@dataclass(frozen=True)
class Behind:
    """The people behind one row: by role of the count, and the values that enter its mean or median."""

    counts: Mapping[str, Vector]
    values: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Members:
    """Who is behind every quantity, and whose values behind every row. Never printed, logged or written in clear."""

    counts: Mapping[str, Vector] = field(default_factory=dict, repr=False)
    values: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict, repr=False)

    def with_counts(self, more: Mapping[str, Vector]) -> Members:
        """The same members with more quantities."""
        return Members({**self.counts, **more}, self.values)


def behind(row: Row, *, values: Iterable[tuple[Any, Any]] = (), **counts: Iterable[Any]) -> Row:
    """The row with who is behind its counts: subject ids by role, each as often as it counts.

    Args:
        row: the row, its numbers worked out.
        values: subject_id and value of all that enters a mean or median; they are behind n too, if n is not given.
        counts: subject ids by k, n, n_missing.
    """
    by_person: dict[str, list[float]] = {}
    for person, value in values:
        by_person.setdefault(str(person), []).append(float(value))
    entered = {person: tuple(sorted(own)) for person, own in by_person.items()}
    own = {role: Counter(map(str, people)) for role, people in counts.items()}
    if entered:
        own.setdefault("n", Counter({person: len(numbers) for person, numbers in entered.items()}))
    return row | {_BEHIND: Behind(own, entered)}


def collected(rows: Iterable[Mapping[str, Any]], names: Mapping[str, Mapping[str, str]]) -> Members:
    """The members of all rows, by quantity; ``names`` as in `identities.NAMES`.

    Raises:
        PipelineError: a count is not the number of those behind it, or two rows of one quantity have other people.
    """
    counts: dict[str, Vector] = {}
    values: dict[str, Mapping[str, tuple[float, ...]]] = {}
    for row in rows:
        if (own := row.get(_BEHIND)) is None:
            continue
        if own.values:
            values[row["estimate_id"]] = own.values
        own_names = names.get(f"{row['section']}/{row['statistic']}", {})
        for role in own.counts.keys() & own_names.keys():
            found = own.counts[role]
            if found.total() != row[role] or counts.setdefault(own_names[role].format(**row), found) != found:
                raise PipelineError(f"{row['estimate_id']}: {role} is not the number of people behind it; it should be")
    return Members(counts, values)


def settle_members(known: Mapping[str, Vector], sums: Iterable[Identity]) -> dict[str, Vector]:
    """The members of the quantities that no row shows too, as far as the identities give them."""
    found, waiting = dict(known), list(sums)
    while waiting:
        later = [one for one in waiting if not _settled(one, found)]
        if len(later) == len(waiting):
            break
        waiting = later
    return found


def _settled(identity: Identity, found: dict[str, Vector]) -> bool:
    """Whether the identity had or gave all its members; False while two or more are lacking."""
    lacking = [name for name in identity.names if name not in found]
    if len(lacking) == 1:
        rest = Counter() if lacking[0] == identity.total else Counter(found[identity.total])
        sign = 1 if lacking[0] == identity.total else -1
        for part in identity.parts:
            for person, times in found.get(part, {}).items():
                rest[person] += sign * times
        found[lacking[0]] = Counter({person: times for person, times in rest.items() if times})
    return len(lacking) < 2


def nobody_known(quantity: str, size: int) -> Vector:
    """Stands for people nobody knows: the first so many of a queue, so that two counts differ by their difference."""
    return Counter({f"{quantity} no. {number}": 1 for number in range(size)})
