"""Pieces of the safety section that take people, not sessions, as the unit, and what happens by time and by dose.

All of it stands in the internal edition only: the counts behind it are not part of the audit for release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.layout import noted, number_columns, row, text_columns
from crps_outcomes.numbers import count, fixed, interval, percent, plural
from crps_outcomes.report_model import Cell, Table
from crps_outcomes.wording import capital, mean_in_words, why_hidden

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crps_outcomes.facts import Estimate, Facts

WITH_EVENT = "with an event"
ROBUST = "By person: interval that allows for several sessions of one person (people as clusters, t)."


def rate_by_person(facts: Facts, group: str) -> str:
    """Such as "by person 12.8 to 20.1", to stand under a rate; "" where there is none."""
    found = facts.one("safety", "rate_by_person", group=group)
    if not found.has_interval or found.lower is None or found.upper is None:
        return ""
    return f"by person {interval(found.lower, found.upper, lambda value: fixed(value, 1))}"


def cut_by_person(facts: Facts, measure: str, group: str) -> str:
    """Such as "by person 8 to 28%", to stand under a share of sessions; "" where there is none."""
    return _share_limits(facts.one("safety", "session_by_person", measure=measure, group=group))


def _share_limits(found: Estimate) -> str:
    if not found.has_interval or found.lower is None or found.upper is None:
        return ""
    n = found.n or 0
    return f"by person {interval(found.lower, found.upper, lambda value: percent(value, n).removesuffix('%'))}%"


def event_lines(facts: Facts) -> tuple[str, ...]:
    """The share of sessions with an event, and how soon after the injection events begin."""
    return tuple(line for line in (_sessions(facts), _onset(facts)) if line)


def _sessions(facts: Facts) -> str:
    found, all_sessions = (
        facts.one("safety", "session_by_person", group=WITH_EVENT),
        facts.one("safety", "per_100_sessions", group="any"),
    )
    if found.mark or not all_sessions.n:
        return ""
    limits = _share_limits(found).replace("by person", "95% CI by person") or found.reason
    share = f"{count(found.k or 0)} of {plural(all_sessions.n, 'session')}"
    return f"Sessions in which an event began: {share} ({percent(found.estimate or 0, all_sessions.n)}, {limits})."


def _onset(facts: Facts) -> str:
    found = facts.one("safety", "onset", group="any")
    if not found.statistic:
        return ""
    if found.mark or found.estimate is None or found.lower is None or found.upper is None:
        return f"Time from injection to event: not shown, {why_hidden(found)}."
    quartiles = interval(found.lower, found.upper, lambda value: fixed(value, 0))
    return (
        f"Time from injection to event: median {fixed(found.estimate, 0)} minutes (quartiles {quartiles}), of "
        f"{plural(found.n or 0, 'event')} in sessions with both times on record; {count(found.n_missing or 0)} lack one."
    )


# --- by time --------------------------------------------------------------------------------------------------------


def course_table(facts: Facts) -> Table:
    """Readings by time since the injection, a row per measure, a column per time."""
    plan = facts.protocol.safety
    changes = {plan.systolic, plan.diastolic}
    found = {measure: facts.every("safety", "course", measure=measure) for measure in plan.watched}
    known = {measure: own for measure, own in found.items() if any(e.n and not e.mark for e in own)}
    times = list(dict.fromkeys(e.group for own in known.values() for e in own))
    times = [time for time in times if any(e.n and e.group == time for own in known.values() for e in own)]
    width = (174.0 - 46) / max(len(times), 1)
    table = Table(
        title="Around a session, by minutes since the first injection.",
        encoding="Mean over sessions with a reading at that time, 95% CI that allows for several sessions of one person, "
        "and n, the number of sessions. Who is read late may be who was unwell. Times without any reading are left out.",
        columns=(*text_columns(("", 46)), *number_columns(*((f"{time} min", width) for time in times))),
        rows=tuple(
            row(
                f"{facts.study.measures[measure].short}{', change from the start' if measure in changes else ''}",
                *(_timed(e, is_change=measure in changes) for e in own if e.group in times),
            )
            for measure, own in known.items()
        ),
        empty=facts.nothing("No reading with a time is on record around any session."),
        style="fixed",
    )
    return noted(table, facts)


def _timed(found: Estimate, *, is_change: bool) -> Cell:
    if not found.n:
        return Cell("none")
    sessions = f"n {count(found.n)}"
    if found.mark or found.estimate is None:
        return Cell("too few", sub=sessions)
    limits = ""
    if found.lower is not None and found.upper is not None:
        limits = interval(found.lower, found.upper, lambda value: fixed(value, 1, signed=is_change and value > 0))
    return Cell(fixed(found.estimate, 1, signed=is_change), sub=", ".join(part for part in (limits, sessions) if part))


# --- by dose --------------------------------------------------------------------------------------------------------


def dose_lines(facts: Facts) -> tuple[str, ...]:
    """Events and dissociation against the dose of the session, inside people."""
    return tuple(_dose_lines(facts))


def _dose_lines(facts: Facts) -> Iterator[str]:
    per = "per 0.1 mg/kg more in a session, within a person"
    named = (
        (facts.one("safety", "dose_odds"), f"Exploratory: odds of an event {per}", 2, "times"),
        (facts.one("safety", "dose_slope"), f"Exploratory: highest dissociation score {per}", 1, "points"),
    )
    for found, words, decimals, unit in named:
        if found.mark:
            yield from (f"{words}: {why_hidden(found)}." for _ in [0] if found.statistic)
            continue
        is_odds = found.method.startswith("odds ratio")
        shown_unit = unit if is_odds or unit == "points" else "in share of sessions"
        value = mean_in_words(found, decimals, signed=not is_odds, unit=shown_unit)
        yield f"{words}: {value}. {capital(found.method)}. The session's number is taken out; titration by what happened before is not."


# --- none on record -------------------------------------------------------------------------------------------------


def still_possible(facts: Facts, kind: str) -> str:
    """Such as "0 (up to 5%)", or "none on record" for what is measured too, where nobody has it; "" for others."""
    found = facts.one("safety", "harm_absent", group=kind)
    if not found.statistic or not found.n:
        return ""
    return "none on record" if found.upper is None else f"0 (up to {percent(found.upper, found.n)})"
