"""What was watched and what harm was seen. Unmonitored is never printed as normal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.drawings import grid_words, rate_dot, rate_scale
from crps_outcomes.layout import noted, number_columns, row, text_columns
from crps_outcomes.marks import NOT_AVAILABLE
from crps_outcomes.numbers import count, fixed, people, percent, plural
from crps_outcomes.report_model import Cell, Column, Section, Table
from crps_outcomes.safety_words import (
    ROBUST,
    course_table,
    cut_by_person,
    dose_lines,
    event_lines,
    rate_by_person,
    still_possible,
)
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
    from collections.abc import Iterator, Mapping

    from crps_outcomes.definitions import Cut
    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row

ANY, ANY_SEVERE, SERIOUS, FOR_HARM = "any", "any severe", "serious", "for a harm"
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
        tables={
            "events": _events(facts),
            **({} if facts.is_release else {"course": course_table(facts)}),
            "monitoring": _monitoring(facts),
            **({} if facts.is_release else {"signals": _signals(facts)}),
            "by_dose": _by_dose(facts),
        },
        text={
            "serious": (serious_in_words(facts), stops_in_words(facts)),
            "liver": (*_liver(facts), *_liver_grades(facts), *_hys_law(facts)),
            "events": event_lines(facts),
            "by_dose": dose_lines(facts),
        },
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
    return (
        f"No serious adverse event is on record among {people(found.n)}; if everybody was asked, that still allows up to "
        f"{_limit(found)} of people (one-sided exact 95% limit)."
    )


def stops_in_words(facts: Facts) -> str:
    """In how many people ketamine was stopped, and in how many of them for a harm; with none, what none still allows."""
    every, harm = (facts.one("safety", "stopped", group=group) for group in (ANY, FOR_HARM))
    if every.mark:
        return f"Stops of ketamine: not shown, because {why_hidden(every)}."
    if not every.k:
        limit = "" if every.upper is None or not every.n else f"; if every stop is recorded, {_still_allowed(every)}"
        return f"No injection broken off and no stopped order of ketamine is on record{limit}."
    reasons = f"for a harm in {harm.mark or counted(harm.k)}" if harm.mark or harm.k else "for a harm in nobody"
    if not harm.mark and not harm.k and harm.upper is not None and harm.n:
        reasons += f" (if every reason is recorded, {_still_allowed(harm)})"
    among = f"{people(every.k)} of {count(every.n or 0)}"
    return (
        f"Ketamine was broken off or its order stopped in {among}, {reasons}; without a recorded reason it is no harm."
    )


def _still_allowed(estimate: Estimate) -> str:
    return f"that still allows up to {_limit(estimate)} of people"


def _limit(estimate: Estimate) -> str:
    upper, n = estimate.upper or 0.0, estimate.n or 0
    return percent(upper, n) if upper < 1 else f"{fixed(upper, 1)}%"


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
        empty=facts.nothing("No adverse event is on record. That is not the same as none having happened."),
        style="fixed middle",
    )
    by_person = ROBUST if any(rate_by_person(facts, e.group) for e in rates) else ""
    exact = "Intervals: exact Poisson, too narrow where events come again in one person."
    return noted(table, facts, exact, by_person, f"Grid: {grid_words(scale)} per 100 sessions.")


def _event_row(facts: Facts, rate: Estimate, scale: Scale) -> Row:
    name = NAMES.get(rate.group, capital(rate.group))
    affected = facts.one("safety", "people", group=rate.group)
    return row(
        name,
        rate.mark or counted(rate.k),
        Cell(mean_in_cell(rate, 1), sub=rate_by_person(facts, rate.group)),
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
    first, last = plan.window_minutes
    table = Table(
        title="Watched around sessions.",
        encoding=f"Readings more than {first} and up to {last} minutes after the injection; the rest of the sessions are "
        "unknown, not normal.",
        columns=(
            *text_columns(("Vital sign or scale", 36)),
            *number_columns(("Sessions watched", 30), ("Mean peak rise (95% CI)", 40)),
            *text_columns(("Sessions beyond the cut-off", 68)),
        ),
        rows=tuple(_monitoring_rows(facts)) if any(_is_watched(facts, measure) for measure in plan.watched) else (),
        empty=facts.nothing("No vital sign is on record around any session, so nothing can be said about them."),
        style="fixed",
    )
    return noted(table, facts, *_monitoring_notes(facts))


def _is_watched(facts: Facts, measure: str) -> bool:
    found = facts.one("safety", "monitored", measure=measure)
    return not found.mark and bool(found.n)


def _monitoring_rows(facts: Facts) -> Iterator[Row]:
    """A row per measure and cut-off."""
    plan = facts.protocol.safety
    for measure in plan.watched:
        beyond = [_beyond(facts, cut) for cut in plan.cuts if cut.measure == measure]
        beyond += [_risen(facts)] if measure == plan.systolic else []
        rise = _peak_rise(facts) if measure == plan.systolic else "[z]"
        yield from (_watched(facts, measure, rise, cell) for cell in beyond)


def _monitoring_notes(facts: Facts) -> tuple[str, ...]:
    rise = facts.one("safety", "peak_rise", measure=facts.protocol.safety.systolic)
    anything = facts.one("safety", "watched", group="anything")
    return (
        "Watched: a reading in the window, and for blood pressure one before the injection too.",
        f"Sessions with any reading: {share_in_cell(anything)}; the others were not monitored."
        if not anything.mark
        else "",
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


SIGNS = {"at_least": "≥", "above": ">", "below": "<", "at_most": "≤"}


def _beyond(facts: Facts, cut: Cut) -> Cell:
    found = facts.one("safety", cut.statistic, measure=cut.measure, group=f"{cut.value:g}")
    definition = facts.study.measures[cut.measure]
    unit = (definition.unit_label or definition.unit).split(",")[0]
    words = f"{SIGNS[cut.statistic]} {fixed(cut.value, 0 if cut.value == int(cut.value) else 1)} {unit} ({UNCONFIRMED})"
    by_person = cut_by_person(facts, cut.measure, f"{cut.statistic} {cut.value:g}")
    sub = "; ".join(part for part in (words, by_person) if part)
    return Cell("not monitored" if found.n == 0 else share_line(found), sub=sub)


def _risen(facts: Facts) -> Cell:
    plan = facts.protocol.safety
    found = facts.one("safety", "rise", measure=plan.systolic)
    text = "not monitored" if found.n == 0 else share_line(found)
    return Cell(text, sub=f"{fixed(plan.systolic_rise_percent, 0)}% or more above the start")


# --- harms by source ------------------------------------------------------------------------------------------------

ANYWHERE = "any"
SOURCES = (ANYWHERE, "reported", "diagnosed", "answered")


def _signals(facts: Facts) -> Table:
    """Kinds of harm by where they are recorded; the internal edition only, and absent from the others."""
    found = {e.group: e for e in facts.every("safety", "signal")}
    declared = {e.group for e in facts.every("safety", "harm_absent")}
    kinds = sorted({group.rsplit(": ", 1)[0] for group in found} | declared)
    table = Table(
        title="Harms by where they are recorded.",
        encoding="People with each kind after the first dose. An answer counts above its cut; people asked are the "
        "denominator, and not asked is not the same as no.",
        columns=(
            *text_columns(("Kind of harm", 54)),
            *number_columns(("Anywhere", 28), ("Reported", 28), ("Diagnosis", 28), ("Answer", 36)),
        ),
        rows=tuple(row(capital(kind), *_source_cells(facts, found, kind)) for kind in kinds),
        empty=facts.nothing("No harm of a listed kind is on record."),
        style="dense fixed",
    )
    return noted(
        table, facts,
        "0 (up to ...): nobody on record, and what that still allows as a share of everyone treated if everybody was asked "
        "(one-sided exact 95% limit). Where it says 'none on record', it is measured as well, so there is no limit from "
        "reports; see the readings around sessions, the liver values and the answers.",
        "Suicidality and misuse belong to a safety review of each person.",
    )  # fmt: skip


def _source_cells(facts: Facts, found: Mapping[str, Estimate], kind: str) -> Iterator[str]:
    for source in SOURCES:
        nobody = still_possible(facts, kind) if source == ANYWHERE else ""
        yield nobody or _source_cell(found, kind, source)


def _source_cell(found: Mapping[str, Estimate], kind: str, source: str) -> str:
    estimate = found.get(f"{kind}: {source}")
    if estimate is None:
        return "[z]" if source == "answered" else "0"
    return share_in_cell(estimate) if source == "answered" else count_and_percent(estimate)


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


def _liver_grades(facts: Facts) -> tuple[str, ...]:
    """People by the grade of their highest value, such as "ALT by grade: 0 48, 1 3"."""
    edges = ", ".join(fixed(edge, 0) for edge in facts.protocol.safety.liver_grades)
    lines = []
    for measure in facts.protocol.safety.liver:
        found = facts.every("safety", "liver_grade", measure=measure)
        if not found or all(e.mark or not e.n for e in found):
            continue
        counts = ", ".join(f"grade {e.key(e.group)}: {e.mark or counted(e.k)}" for e in found)
        lines.append(
            f"{facts.study.measures[measure].short}, people by highest value, grades above {edges} × upper limit of normal of "
            f"the source ({UNCONFIRMED}): {counts}."
        )
    return tuple(lines)


def _hys_law(facts: Facts) -> tuple[str, ...]:
    found, plan = facts.one("safety", "hys_law"), facts.protocol.safety
    if not found.statistic:
        return ()
    if found.n == 0:
        return ("Screen for liver injury (Hy's law): nobody has all of its values after a dose.",)
    words = (
        f"ALT or AST above {fixed(plan.liver_multiple_of_upper_normal, 0)} ×, bilirubin above {fixed(plan.bilirubin_multiple, 0)} "
        f"× and ALP at most {fixed(plan.alkaline_phosphatase_at_most, 0)} × the upper limit ({UNCONFIRMED})"
    )
    return (f"Screen for liver injury (Hy's law), {words}: {share_line(found).replace(',', ' people,', 1)}.",)


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
