"""Which counts of the report are the same number, and which add up to others.

Every count a row shows gets the name of the quantity behind it: two rows that show the same people name the same
quantity. An identity says that one quantity is the sum of others. Some parts are shown by no row ("not due", "the
rest"); they are worked out, because a reader can work them out too. `settle` uses this to prove that the report adds
up, `disclosure` to prove that a hidden count cannot be worked out.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from crps_outcomes.analysis.cohort import ANALYSED, NOT_ANALYSED, TREATED
from crps_outcomes.analysis.dosing import BAND_NAMES, NOT_KNOWN, WEEKS
from crps_outcomes.analysis.function import BOTH_GROUPS, PAIN_PERCENT
from crps_outcomes.analysis.participants import ANYTHING, AT_START, EARLIER, PARTITIONS, POPULATIONS
from crps_outcomes.analysis.responders import OBSERVED
from crps_outcomes.analysis.safety import ANY, ANY_SEVERE, FOR_HARM, RESERVED, SERIOUS, THIRDS
from crps_outcomes.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from crps_outcomes.study import Study

#: column of COUNTS -> the quantity behind it
FLOW_NAMES = {"n_subjects": "people", "n_left": "left"}

#: section/statistic -> the quantity behind k, n and n_missing.
_VISIT = {"n": "seen/{measure}/{visit}", "n_missing": "unseen/{measure}/{visit}"}
_CHANGE = {"n": "changed/{measure}/{visit}", "n_missing": "unchanged/{measure}/{visit}"}
_RESPONSE = {"k": "better/{visit}/{group}", "n": "responders/{population}/{visit}", "n_missing": "lost/{visit}"}
_BEYOND = {"k": "beyond/{measure}/{group}", "n": "watched/{measure}", "n_missing": "unwatched/{measure}"}
NAMES: Mapping[str, Mapping[str, str]] = {
    "participants/median": {
        "n": "known/{population}/{measure}/{visit}", "n_missing": "unknown/{population}/{measure}/{visit}",
    },
    "participants/share": {"k": "group/{population}/{group}", "n": "people/{population}"},
    "participants/after": {"k": "after/{group}", "n": "people/treated"},
    "dosing/count": {"k": "total/{group}", "n": "total/{group}"},
    "dosing/median": {"n": "measured/{measure}", "n_missing": "unmeasured/{measure}"},
    "dosing/sessions": {"k": "cell/{visit}/{group}", "n": "cell people/{visit}/{group}"},
    "dosing/route": {"k": "route/{group}", "n": "total/administrations"},
    "dosing/flag": {"k": "flag/{group}", "n": "total/administrations"},
    "pain/mean": _VISIT, "pain/quantile": _VISIT, "pain/mean_change": _CHANGE, "pain/median_change": _CHANGE,
    "responders/responder": _RESPONSE, "responders/improved_by": _RESPONSE,
    "function/mean": _VISIT, "function/mean_change": _CHANGE,
    "function/share": {"k": "answer/{measure}/{visit}/{group}", **_VISIT},
    "function/pain_and_function": {
        "k": "both/{visit}/{group}", "n": "both/{visit}", "n_missing": "not both/{visit}",
    },
    "safety/per_100_sessions": {"k": "events/{group}", "n": "total/sessions"},
    "safety/people": {"k": "affected/{group}", "n": "people/treated"},
    "safety/serious": {"k": "events/{group}", "n": "people/treated"},
    "safety/monitored": {"k": "monitored/{measure}", "n": "total/sessions"},
    "safety/peak_rise": {"n": "monitored/{measure}", "n_missing": "unmonitored/{measure}"},
    "safety/watched": {"k": "watched at all", "n": "total/sessions"},
    "safety/rise": {"k": "risen/{measure}", "n": "monitored/{measure}", "n_missing": "unmonitored/{measure}"},
    "safety/at_least": _BEYOND, "safety/below": _BEYOND, "safety/above": _BEYOND, "safety/at_most": _BEYOND,
    "safety/stopped": {"k": "stopped/{group}", "n": "people/treated"},
    "safety/hys_law": {"k": "hy", "n": "hy seen", "n_missing": "hy unseen"},
    "safety/signal": {"k": "signal/{group}", "n": "signal seen/{group}", "n_missing": "signal unseen/{group}"},
    "safety/liver_grade": {
        "k": "liver grade/{measure}/{group}", "n": "liver seen/{measure}", "n_missing": "liver unseen/{measure}",
    },
    "safety/liver_above": {"k": "liver/{measure}", "n": "liver seen/{measure}", "n_missing": "liver unseen/{measure}"},
    "safety/by_dose": {"k": "third events/{group}", "n": "third/{group}"},
    "completeness/completed": {
        "k": "recorded/{measure}/{visit}", "n": "planned/{measure}/{visit}", "n_missing": "unrecorded/{measure}/{visit}",
    },
    "completeness/quality": {"k": "refused/{group}", "n": "total/refused"},
}  # fmt: skip

_SHARES_OF_ALL = {  # part -> whole, for every name that starts with the part; the rest is shown by no row
    "flag/": "total/administrations",
    "affected/": "people/treated",
    "after/": "people/treated",
    "monitored/": "total/sessions",
    "stopped/": "people/treated",
}


@dataclass(frozen=True, eq=False)
class Identity:
    """One quantity as the sum of others. Compared by object, which makes it a cheap key."""

    total: str
    parts: tuple[str, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return (self.total, *self.parts)


@dataclass(frozen=True)
class Shown:
    """One count on the page: the row and column that show it, the quantity it is, and its value."""

    row: str
    role: str
    quantity: str
    value: int


# --- names --------------------------------------------------------------------------------------------------------


def shown_counts(estimates: pd.DataFrame, counts: pd.DataFrame) -> tuple[Shown, ...]:
    """Every count that rows of ESTIMATES and COUNTS show; rows are named by estimate_id, cells of the flow by step and column."""
    return (*_shown_estimates(estimates), *_shown_steps(counts))


def _shown_estimates(estimates: pd.DataFrame) -> Iterator[Shown]:
    for one in cast("list[dict[str, Any]]", estimates.to_dict("records")):
        for role, template in NAMES.get(f"{one['section']}/{one['statistic']}", {}).items():
            if pd.notna(one[role]):
                yield Shown(str(one["estimate_id"]), role, template.format(**one), int(one[role]))


def _shown_steps(counts: pd.DataFrame) -> Iterator[Shown]:
    for one in counts.to_dict("records"):
        step = str(one["step"])
        for column, quantity in FLOW_NAMES.items():
            yield Shown(f"counts/{step}/{column}", column, f"{quantity}/{step}", int(one[column]))


# --- identities ---------------------------------------------------------------------------------------------------


def identities(names: Iterable[str], study: Study, steps: Iterable[str]) -> tuple[Identity, ...]:
    """What adds up to what, among the quantities that a report shows.

    Args:
        names: the quantities shown.
        study: its plan says which measure is primary.
        steps: the boxes of the cohort flow, in order.
    """
    known = frozenset(names)
    found = (
        *_of_flow(steps), *_of_participants(known), *_of_dosing(known, study), *_of_visits(known),
        *_of_responders(known, study), *_of_function(known, study), *_of_safety(known, study), *_of_completeness(known),
    )  # fmt: skip
    return tuple(one for one in found if sum(name in known for name in one.names) > 1 or one.total in known)


def between_releases(names: Iterable[str], groupings: Iterable[tuple[str, ...]]) -> tuple[Identity, ...]:
    """What adds up besides, where another release showed other steps of the curve or other groups of terms.

    Args:
        names: the quantities shown.
        groupings: for each earlier release, the terms of events that it showed one by one.
    """
    known = frozenset(names)
    curves: defaultdict[str, list[str]] = defaultdict(list)
    for tail in _tails(known, "better/"):
        curves[tail.rsplit("/", 1)[0]].append(tail)
    return (
        *(
            _rest(f"better/{fewer}", f"better/{more}")
            for own in curves.values()
            for more, fewer in combinations(sorted(own, key=lambda tail: int(tail.rsplit("/", 1)[1])), 2)
        ),
        *(
            Identity(f"events/{ANY}", (*(f"events/{term}" for term in kept), others_than(kept)))
            for kept in groupings
            if {f"events/{ANY}", *(f"events/{term}" for term in kept)} <= known
        ),
    )


def others_than(terms: Iterable[str], what: str = "events") -> str:
    """The quantity of all terms but these; the terms are named, because another release may keep others."""
    return f"{what}/others than/{json.dumps(sorted(terms))}"


def _tails(known: Iterable[str], start: str) -> list[str]:
    """What follows ``start`` in the names that begin with it, sorted."""
    return sorted(name.removeprefix(start) for name in known if name.startswith(start))


def _rest(part: str, total: str) -> Identity:
    """The part within its total; "~" keeps the name of the rest apart from any term of a site."""
    return Identity(total, (part, f"~{total} without {part}"))


def _all_due(tail: str, people: str, due: str) -> Identity:
    """A baseline is due for everybody; at a visit some may not be due yet."""
    return Identity(people, (due,)) if tail.endswith("/baseline") else _rest(due, people)


def _of_flow(steps: Iterable[str]) -> Iterator[Identity]:
    for step, following in pairwise(steps):
        yield Identity(f"people/{step}", (f"people/{following}", f"left/{step}"))
    yield Identity("people/treated", ("people/analysed", "people/not analysed"))
    yield Identity("total/people", ("people/treated",))


def _of_participants(known: frozenset[str]) -> Iterator[Identity]:
    for population in POPULATIONS:
        groups = _tails(known, f"group/{population}/")
        for prefix in PARTITIONS:
            parts = tuple(f"group/{population}/{group}" for group in groups if group.startswith(f"{prefix}: "))
            if parts:
                yield Identity(f"people/{population}", parts)
        yield from (_rest(f"group/{population}/{group}", f"people/{population}") for group in groups)
        for measure in _tails(known, f"known/{population}/"):
            yield Identity(f"people/{population}", (f"known/{population}/{measure}", f"unknown/{population}/{measure}"))
        for name in (group.removeprefix(f"{AT_START}: ") for group in groups if group.startswith(f"{AT_START}: ")):
            yield _rest(f"group/{population}/{AT_START}: {name}", f"group/{population}/{EARLIER}: {name}")
    for group in _tails(known, "after/"):
        if group != ANYTHING:
            yield _rest(f"after/{group}", f"after/{ANYTHING}")
    yield from _shares_of_all(known, "after/")
    for kind in ("group", "known", "unknown"):
        for tail in _tails(known, f"{kind}/{TREATED}/"):
            yield Identity(
                f"{kind}/{TREATED}/{tail}", tuple(f"{kind}/{name}/{tail}" for name in (ANALYSED, NOT_ANALYSED))
            )


def _of_dosing(known: frozenset[str], study: Study) -> Iterator[Identity]:
    yield Identity("total/sessions", tuple(f"cell/{week}/{band}" for week in WEEKS for band in BAND_NAMES))
    yield Identity(f"third/{NOT_KNOWN}", tuple(f"cell/{week}/{NOT_KNOWN}" for week in WEEKS))
    for measure in ("dose_mg", "mg_per_kg"):
        yield Identity("total/sessions", (f"measured/{measure}", f"unmeasured/{measure}"))
    for measure in (
        "sessions_per_person",
        "cumulative_mg",
        "cumulative_mg_per_kg",
        "series_per_person",
        "titration_mg_per_kg",
    ):
        yield Identity("people/treated", (f"measured/{measure}", f"unmeasured/{measure}"))
    yield _rest("measured/cumulative_mg_per_kg", "measured/cumulative_mg")
    routes = tuple(f"route/{route}" for route in _tails(known, "route/"))
    if routes:
        yield Identity("total/administrations", routes)
        yield _rest("total/doses", f"route/{study.protocol.exposure.route}")
    for route in routes:
        yield _rest(route, "total/administrations")
    yield from _shares_of_all(known, "flag/")


def _of_visits(known: frozenset[str]) -> Iterator[Identity]:
    for tail in _tails(known, "seen/"):
        yield Identity(f"due/{tail}", (f"seen/{tail}", f"unseen/{tail}"))
        yield _all_due(tail, "people/analysed", f"due/{tail}")
        yield _rest(f"seen/{tail}", "people/analysed")
    for tail in _tails(known, "changed/"):
        yield Identity(f"due/{tail}", (f"changed/{tail}", f"unchanged/{tail}"))
        yield _rest(f"changed/{tail}", f"seen/{tail}")
        yield _rest(f"changed/{tail}", "people/analysed")


def _of_responders(known: frozenset[str], study: Study) -> Iterator[Identity]:
    primary = study.protocol.outcomes.primary
    for visit in _tails(known, f"responders/{OBSERVED}/"):
        observed, expected = f"responders/{OBSERVED}/{visit}", f"responders/missing = non-responder/{visit}"
        yield Identity(expected, (observed, f"lost/{visit}"))
        yield _rest(expected, "people/baseline")
        yield _rest(observed, f"seen/{primary}/{visit}")
        yield _rest(f"due/{primary}/{visit}", expected)
        percents = sorted((int(one) for one in _tails(known, f"better/{visit}/")), reverse=True)
        names = [f"better/{visit}/{percent}" for percent in percents]
        yield from (_rest(fewer, more) for fewer, more in pairwise(names))
        yield from (_rest(name, whole) for name in names for whole in (observed, expected))


def _of_function(known: frozenset[str], study: Study) -> Iterator[Identity]:
    plan = study.protocol.outcomes
    answers = study.measures[plan.global_change].answers
    for visit in _tails(known, f"seen/{plan.global_change}/"):
        parts = tuple(f"answer/{plan.global_change}/{visit}/{answer.display}" for answer in answers)
        yield Identity(f"seen/{plan.global_change}/{visit}", parts)
        yield from (_rest(part, f"seen/{plan.global_change}/{visit}") for part in parts)
    for visit in (tail for tail in _tails(known, "both/") if "/" not in tail):
        parts = tuple(f"both/{visit}/{group}" for group in BOTH_GROUPS.values())
        yield Identity(f"both/{visit}", parts)
        yield from (_rest(part, f"both/{visit}") for part in parts)
        if f"not both/{visit}" in known:
            yield Identity(f"due/{plan.primary}/{visit}", (f"both/{visit}", f"not both/{visit}"))
        yield _rest(f"both/{visit}", f"seen/{plan.primary}/{visit}")
        if f"better/{visit}/{PAIN_PERCENT}" in known:
            alone = f"{PAIN_PERCENT} % without function/{visit}"
            yield Identity(f"better/{visit}/{PAIN_PERCENT}", (f"both/{visit}/both", f"both/{visit}/pain only", alone))


def _of_safety(known: frozenset[str], study: Study) -> Iterator[Identity]:
    terms = [term for term in _tails(known, "events/") if term not in RESERVED]
    if terms:
        yield Identity(f"events/{ANY}", tuple(f"events/{term}" for term in terms))
    if f"events/{ANY}" in known:
        yield from (_rest(f"events/{group}", f"events/{ANY}") for group in (ANY_SEVERE, SERIOUS))
        thirds = tuple(f"third events/{group}" for group in (*THIRDS, NOT_KNOWN))
        yield Identity(f"events/{ANY}", (*thirds, "events without session"))
    for group in _tails(known, "affected/"):
        if group != ANY:
            yield _rest(f"affected/{group}", f"affected/{ANY}")
    yield from _shares_of_all(known, "affected/")
    yield from _shares_of_all(known, "monitored/")
    yield Identity("total/sessions", tuple(f"third/{group}" for group in (*THIRDS, NOT_KNOWN)))
    yield from _shares_of_all(known, "stopped/")
    yield _rest(f"stopped/{FOR_HARM}", f"stopped/{ANY}")
    yield from _of_readings(known)
    yield from _of_liver(known, study)


def _of_readings(known: frozenset[str]) -> Iterator[Identity]:
    for measure in _tails(known, "unmonitored/"):
        yield Identity("total/sessions", (f"monitored/{measure}", f"unmonitored/{measure}"))
    for measure in _tails(known, "watched/"):
        yield Identity("total/sessions", (f"watched/{measure}", f"unwatched/{measure}"))
        yield _rest(f"monitored/{measure}", f"watched/{measure}")
        cuts = sorted(_tails(known, f"beyond/{measure}/"), key=float)
        yield from (_rest(f"beyond/{measure}/{cut}", f"watched/{measure}") for cut in cuts)
        yield from (_rest(f"beyond/{measure}/{fewer}", f"beyond/{measure}/{more}") for fewer, more in pairwise(cuts))
    for measure in _tails(known, "monitored/"):
        yield _rest(f"watched/{measure}", "watched at all")
        yield _rest(f"monitored/{measure}", "watched at all")
    for measure in _tails(known, "risen/"):
        yield _rest(f"risen/{measure}", f"monitored/{measure}")
    yield _rest("watched at all", "total/sessions")


def _of_liver(known: frozenset[str], study: Study) -> Iterator[Identity]:
    plan = study.protocol.safety
    above = range(plan.liver_grades.index(plan.liver_multiple_of_upper_normal) + 1, len(plan.liver_grades) + 1)
    for measure in _tails(known, "liver/"):
        yield Identity("people/treated", (f"liver seen/{measure}", f"liver unseen/{measure}"))
        yield _rest(f"liver/{measure}", f"liver seen/{measure}")
        every = [f"liver grade/{measure}/{grade}" for grade in range(len(plan.liver_grades) + 1)]
        yield Identity(f"liver seen/{measure}", tuple(every))
        yield from (_rest(grade, f"liver seen/{measure}") for grade in every)
        yield Identity(f"liver/{measure}", tuple(every[grade] for grade in above))
    yield Identity("people/treated", ("hy seen", "hy unseen"))
    yield _rest("hy", "hy seen")


def _of_completeness(known: frozenset[str]) -> Iterator[Identity]:
    for tail in _tails(known, "recorded/"):
        yield Identity(f"planned/{tail}", (f"recorded/{tail}", f"unrecorded/{tail}"))
        yield _all_due(tail, "people/treated", f"planned/{tail}")
        if f"seen/{tail}" in known:
            yield _rest(f"seen/{tail}", f"recorded/{tail}")
            yield _rest(f"due/{tail}", f"planned/{tail}")
    rules = tuple(f"refused/{rule}" for rule in _tails(known, "refused/"))
    if rules:
        yield Identity("total/refused", rules)
    yield from (_rest(rule, "total/refused") for rule in rules)
    for rule in rules:
        reasons = tuple(sorted(name for name in known if name.startswith(f"refusal/{rule.removeprefix('refused/')}/")))
        if reasons:
            yield Identity(rule, reasons)


def _shares_of_all(known: frozenset[str], start: str) -> Iterator[Identity]:
    for tail in _tails(known, start):
        yield _rest(f"{start}{tail}", _SHARES_OF_ALL[start])


# --- adding up ----------------------------------------------------------------------------------------------------


def settle(shown: Iterable[Shown], sums: Iterable[Identity]) -> dict[str, int]:
    """The value of every quantity, those that no row shows included.

    Raises:
        PipelineError: two rows disagree about one quantity, or something does not add up; it names the rows.
    """
    first: dict[str, Shown] = {}
    for one in shown:
        other = first.setdefault(one.quantity, one)
        if other.value != one.value:
            raise PipelineError(f"{other.row} ({other.role}) and {one.row} ({one.role}) count the same but differ")
    values = {name: one.value for name, one in first.items()}
    waiting = list(sums)
    while waiting:
        later = [one for one in waiting if not _settled(one, values, first)]
        if len(later) == len(waiting):
            return values
        waiting = later
    return values


def _settled(identity: Identity, values: dict[str, int], first: Mapping[str, Shown]) -> bool:
    """Whether the identity was checked or gave the one value it lacked; False while two or more are lacking."""
    lacking = [name for name in identity.names if name not in values]
    if len(lacking) > 1:
        return False
    known_sum = sum(values[name] for name in identity.parts if name in values)
    if not lacking and values[identity.total] == known_sum:
        return True
    if lacking:
        values[lacking[0]] = known_sum if lacking[0] == identity.total else values[identity.total] - known_sum
    if not lacking or values[lacking[0]] < 0:
        raise PipelineError(_broken(identity, first))
    return True


def _broken(identity: Identity, first: Mapping[str, Shown]) -> str:
    total, *parts = (first[name].row if name in first else name for name in identity.names)
    return f"{total} is not the sum of {', '.join(parts[:8])}; it should be"
