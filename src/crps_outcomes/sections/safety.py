"""What was watched and what harm was seen. Unmonitored is never printed as normal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.drawings import grid_words, rate_dot, rate_scale
from crps_outcomes.layout import noted, number_columns, row, text_columns
from crps_outcomes.marks import NOT_AVAILABLE
from crps_outcomes.numbers import count, fixed, people, percent, plural
from crps_outcomes.report_model import Cell, Column, Section, Table
from crps_outcomes.wording import (
    capital,
    count_and_percent,
    counted,
    mean_in_cell,
    rate_in_words,
    share_in_cell,
    share_line,
    why_hidden,
)

if TYPE_CHECKING:
    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row

ANY, ANY_SEVERE, SERIOUS = "any", "any severe", "serious"
NAMES = {ANY: "Any adverse event", ANY_SEVERE: "Any severe adverse event"}
UNCONFIRMED = "cut-off unconfirmed"
Scale = tuple[float, float, list[float]]


def safety(facts: Facts) -> Section:
    """Adverse events, monitoring around sessions, liver values, and events by dose."""
    return Section(
        id="safety",
        short="Safety",
        finding=_finding(facts),
        lede=(
            "Everyone treated counts. Events are those on record; an event nobody wrote down is not here. Severe is the "
            "recorded intensity, serious the recorded consequence: they are not the same."
        ),
        tables={"events": _events(facts), "monitoring": _monitoring(facts), "by_dose": _by_dose(facts)},
        text={"serious": (serious_in_words(facts),), "liver": _liver(facts)},
    )


def most_frequent(facts: Facts) -> Estimate | None:
    """The adverse event recorded most often among those that may be shown."""
    return next((e for e in _sorted_terms(facts) if not e.mark and e.k), None)


def _finding(facts: Facts) -> str:
    everything, top = facts.one("safety", "per_100_sessions", group=ANY), most_frequent(facts)
    if everything.mark:
        return f"Adverse events cannot be put as a rate: {why_hidden(everything)}"
    if not everything.k:
        return f"No adverse event is on record in {plural(everything.n or 0, 'session')}"
    rate = f"{plural(everything.k, 'adverse event')} in {plural(everything.n or 0, 'session')}"
    return f"{rate}; most often {top.group.lower()}" if top and top.has_interval else rate


def serious_in_words(facts: Facts) -> str:
    """The serious events, and with none what none still allows."""
    found = facts.one("safety", "serious", group=SERIOUS)
    if found.mark:
        return f"Serious adverse events: not shown, because {why_hidden(found)}."
    if found.k:
        affected = facts.one("safety", "people", group=SERIOUS)
        among = "" if affected.mark else f" in {people(affected.k or 0)} of {count(affected.n or 0)}"
        return f"{plural(found.k, 'serious adverse event')} on record{among}."
    if found.upper is None or not found.n:
        return "No serious adverse event is on record."
    limit = percent(found.upper, found.n) if found.upper < 1 else f"{fixed(found.upper, 1)}%"
    return (
        f"No serious adverse event is on record among {people(found.n)}; up to {limit} of people could still be affected "
        "(one-sided exact 95% limit)."
    )


# --- events ---------------------------------------------------------------------------------------------------------


def _sorted_terms(facts: Facts) -> list[Estimate]:
    rows = [e for e in facts.every("safety", "per_100_sessions") if e.group not in NAMES]
    return sorted(rows, key=lambda e: (bool(e.mark), -(e.k or 0), e.group.lower()))


def _events(facts: Facts) -> Table:
    totals = [facts.one("safety", "per_100_sessions", group=group) for group in NAMES]
    rates = [e for e in (*_sorted_terms(facts), *totals) if e.statistic]
    scale = rate_scale([e.upper for e in _sorted_terms(facts) if e.has_interval and e.upper is not None])
    sessions = next((e.n for e in rates if not e.mark), None)
    table = Table(
        title="Adverse events on record, most frequent first.",
        encoding=f"{plural(sessions, 'session')}. One person can appear in several rows." if sessions else "",
        columns=(
            *text_columns(("Adverse event", 58)),
            *number_columns(("Events", 16)),
            Column("Per 100 sessions (95% CI)", 37, is_number=True),
            Column("Rate on a common scale", 36),
            *number_columns(("People", 27)),
        ),
        rows=tuple(_event_row(facts, e, scale) for e in rates) if _sorted_terms(facts) else (),
        empty="No adverse event is on record. That is not the same as none having happened.",
        style="fixed middle",
    )
    return noted(table, facts, f"Intervals: exact Poisson. Grid: {grid_words(scale)} per 100 sessions.")


def _event_row(facts: Facts, rate: Estimate, scale: Scale) -> Row:
    name = NAMES.get(rate.group, capital(rate.group))
    affected = facts.one("safety", "people", group=rate.group)
    return row(
        name,
        rate.mark or counted(rate.k),
        mean_in_cell(rate, 1),
        _drawn(rate, name, scale),
        count_and_percent(affected),
    )


def _drawn(rate: Estimate, name: str, scale: Scale) -> Cell:
    if not rate.has_interval or rate.estimate is None or rate.lower is None or rate.upper is None:
        return Cell("not drawn")
    if rate.upper > scale[1]:
        return Cell("beyond this scale")
    alt = f"{name}: {rate_in_words(rate, 'per 100 sessions')}."
    return Cell("", drawing=rate_dot(rate.estimate, rate.lower, rate.upper, scale, alt))


# --- monitoring -----------------------------------------------------------------------------------------------------


def _monitoring(facts: Facts) -> Table:
    plan = facts.protocol.safety
    rows = [
        _watched(facts, plan.systolic, _peak_rise(facts), _beyond(facts, "at_least", plan.systolic)),
        _watched(facts, plan.diastolic, "[z]", _beyond(facts, "at_least", plan.diastolic)),
        _watched(facts, plan.oxygen_saturation, "[z]", _beyond(facts, "below", plan.oxygen_saturation)),
    ]
    known = [e for e in facts.every("safety", "monitored") if not e.mark and e.n]
    first, last = plan.window_minutes
    table = Table(
        title="Watched around sessions.",
        encoding=f"Readings more than {first} and up to {last} minutes after the injection; the rest of the sessions are "
        "unknown, not normal.",
        columns=(
            *text_columns(("Vital sign", 38)),
            *number_columns(("Sessions watched", 38), ("Mean peak rise (95% CI)", 44)),
            *text_columns(("Sessions beyond the cut-off", 54)),
        ),
        rows=tuple(rows) if known else (),
        empty="No vital sign is on record around any session, so nothing can be said about them.",
        style="fixed",
    )
    return noted(table, facts, *_monitoring_notes(facts))


def _monitoring_notes(facts: Facts) -> tuple[str, ...]:
    rise = facts.one("safety", "peak_rise", measure=facts.protocol.safety.systolic)
    return (
        "Watched: a reading in the window, and for blood pressure one before the injection too.",
        f"Peak rise: {rise.method}." if rise.method and not rise.mark else "",
    )


def _watched(facts: Facts, measure: str, rise: str, beyond: Cell) -> Row:
    watched = facts.one("safety", "monitored", measure=measure)
    share = Cell(share_in_cell(watched), sub=_plain_percent(watched))
    return row(facts.study.measures[measure].short, share, rise, beyond)


def _plain_percent(estimate: Estimate) -> str:
    if estimate.mark or estimate.estimate is None or not estimate.n:
        return ""
    return percent(estimate.estimate, estimate.n)


def _peak_rise(facts: Facts) -> str:
    return mean_in_cell(facts.one("safety", "peak_rise", measure=facts.protocol.safety.systolic), 1, signed=True)


def _beyond(facts: Facts, statistic: str, measure: str) -> Cell:
    found = facts.one("safety", statistic, measure=measure)
    plan, definition = facts.protocol.safety, facts.study.measures[measure]
    cuts = {plan.systolic: plan.systolic_at_least, plan.diastolic: plan.diastolic_at_least}
    cut = cuts.get(measure, plan.oxygen_below)
    sign = "<" if statistic == "below" else "≥"
    words = (
        f"{sign} {fixed(cut, 0 if cut == int(cut) else 1)} {definition.unit_label or definition.unit} ({UNCONFIRMED})"
    )
    return Cell(share_line(found), sub=words)


# --- liver and dose -------------------------------------------------------------------------------------------------


def _liver(facts: Facts) -> tuple[str, ...]:
    multiple = fixed(facts.protocol.safety.liver_multiple_of_upper_normal, 0)
    lines = []
    for measure in facts.protocol.safety.liver:
        found, name = facts.one("safety", "liver_above", measure=measure), facts.study.measures[measure].short
        if found.mark or not found.n:
            lines.append(
                f"{name}: not shown; {'nobody has a value after a dose' if found.n == 0 else why_hidden(found)}."
            )
            continue
        share = share_line(found).replace(",", " people,", 1)
        lines.append(f"{name} above {multiple} × upper limit of normal ({UNCONFIRMED}): {share}.")
    return tuple(lines)


def _by_dose(facts: Facts) -> Table:
    order = ("lowest third", "middle third", "highest third", "not known")
    found = [facts.one("safety", "by_dose", group=group) for group in order]
    rows = [e for e in found if e.statistic and e.n != 0]
    table = Table(
        title="Adverse events by third of the session dose (mg per kg): exploratory.",
        encoding="Dose can follow response and earlier events, so these groups must not be set against each other.",
        columns=(
            *text_columns(("Session dose", 58)),
            *number_columns(("Events", 24), ("Sessions", 24), ("Events per 100 sessions (95% CI)", 68)),
        ),
        rows=tuple(_third_row(e) for e in rows) if any(not e.mark for e in rows) else (),
        empty="Events cannot be laid out by dose.",
        style="fixed",
    )
    return noted(table, facts)


def _third_row(estimate: Estimate) -> Row:
    mark = estimate.mark or NOT_AVAILABLE
    return row(
        capital(estimate.group), counted(estimate.k, mark), counted(estimate.n, mark),
        mean_in_cell(estimate, 1),
    )  # fmt: skip
