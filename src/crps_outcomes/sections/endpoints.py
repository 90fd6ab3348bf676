"""The endpoints of the plan under its estimand, how they are read, and the groups fixed in advance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crps_outcomes.analysis.endpoints import DESCRIBES, NOT_YET
from crps_outcomes.facts import shown
from crps_outcomes.figure_kit import drawing
from crps_outcomes.figures import Group, forest
from crps_outcomes.layout import listed, noted, number_columns, row, text_columns
from crps_outcomes.numbers import fixed, people, plural
from crps_outcomes.plan import Intercurrent
from crps_outcomes.report_model import Figure, Section, Table
from crps_outcomes.sections.responders import MISSING, responder
from crps_outcomes.series import unit_words
from crps_outcomes.traced import traced
from crps_outcomes.wording import (
    at,
    capital,
    counted,
    improved,
    marked,
    mean_in_cell,
    mean_in_words,
    share_in_cell,
    share_line,
    why_hidden,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crps_outcomes.definitions import Measure
    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row
    from crps_outcomes.plan import KeySecondary

PRIMARY, ANYTHING_ELSE = "primary", "anything else"
INTERNAL_ONLY = (
    "Shown in the internal edition only: these counts of people are not part of what a release is checked for."
)


def endpoints(facts: Facts) -> Section:
    """Primary endpoint, responders and key secondaries by the plan, its estimand, and the change in each group."""
    return Section(
        id="endpoints",
        short="Planned endpoints",
        finding=_finding(facts),
        lede=f"Endpoints, their order and what counts after other events: the analysis plan, version "
        f"{facts.protocol.plan.version}{marked('', 'example') if facts.protocol.is_example else ''}.",
        tables={"planned": _planned(facts), "estimand": _estimand(facts), "intercurrent": _intercurrent(facts)},
        figures={"groups": _groups(facts)},
    )


def _finding(facts: Facts) -> str:
    if facts.is_release:
        return "The planned endpoints under the estimand are shown in the internal edition only"
    found, measure = facts.one("endpoints", "planned", group=PRIMARY), facts.primary
    if found.mark:
        return f"The primary endpoint is not shown: {why_hidden(found)}"
    value = mean_in_words(found, max(measure.decimals, 1), signed=True, unit=unit_words(measure))
    change = value.replace(" (", f" at {at(facts.primary_visit)} (", 1)
    is_open = facts.one("endpoints", "reading", group=PRIMARY).reason == NOT_YET
    rest = "; no look is reached yet, so nothing is read from it" if is_open else _and_secondaries(facts)
    return f"Primary endpoint: {measure.short.lower()} changed by {change}{rest}"


def _and_secondaries(facts: Facts) -> str:
    """How many key secondaries the rule lets one read as changed; one that was never read is not called unchanged."""
    every = [e for e in facts.every("endpoints", "reading") if e.group != PRIMARY and e.reason != DESCRIBES]
    changed, read = sum(e.k or 0 for e in every), facts.told(len(every), "endpoints/readings")
    if not every:
        return ""
    if not changed:
        return "; no key secondary endpoint can be read as changed"
    return f"; {changed} of {plural(read, 'key secondary change')} differed from 0"


# --- endpoints ------------------------------------------------------------------------------------------------------


def _planned(facts: Facts) -> Table:
    table = Table(
        title="The endpoints of the plan, in its order.",
        encoding="Mean change with t interval, or people who responded with "
        f"{facts.protocol.plan.responder_interval.title()} interval; beside it the same with every score counted, whatever "
        "happened before it (treatment policy).",
        columns=(
            *text_columns(("Endpoint", 56)),
            *number_columns(("By the plan (95% CI)", 39), ("n", 9), ("Every score (95% CI)", 39)),
            *text_columns(("How it is read", 31)),
        ),
        rows=tuple(_planned_rows(facts)) if not facts.is_release else (),
        empty=INTERNAL_ONLY if facts.is_release else "Nobody is treated, so there is no endpoint to show.",
        style="dense fixed",
    )
    return noted(table, facts, "Response: a missing score, or an event that counts as no response, is no response.")


def _planned_rows(facts: Facts) -> Iterator[Row]:
    plan = facts.protocol.outcomes
    change = facts.one("pain", "mean_change", visit=plan.primary_visit)
    yield _row(facts, f"Primary: {_name(facts.primary)}, {at(facts.primary_visit)}", (PRIMARY, facts.primary), change)
    for found in facts.every("endpoints", "responder"):
        name = f"{capital(improved(facts.primary, traced(int(found.group), found.id)))}, {at(facts.primary_visit)}"
        policy = responder(facts, int(found.group), MISSING, plan.primary_visit)
        yield row(name, share_line(found), counted(found.n, found.mark), share_line(policy), "Descriptive")
    for number, one in enumerate(facts.protocol.plan.key_secondary, 1):
        measure, visit = facts.study.measures[one.measure], at(facts.visit(one.visit))
        what = _name(measure) if one.summary == "mean change" else improved(measure, one.percent)
        yield _row(facts, f"Secondary {number}: {what}, {visit}", (str(number), measure), _policy(facts, one))


def _row(facts: Facts, name: str, place: tuple[str, Measure], policy: Estimate) -> Row:
    group, measure = place
    found = facts.one("endpoints", "planned", group=group)
    reading = facts.one("endpoints", "reading", group=group)
    return row(
        name,
        _in_cell(found, measure),
        counted(found.n, found.mark),
        _in_cell(policy, measure),
        capital(_read(reading, is_by_look=group == PRIMARY and bool(facts.protocol.plan.looks))),
    )


def _in_cell(found: Estimate, measure: Measure) -> str:
    return mean_in_cell(found, max(measure.decimals, 1), signed=True) if found.k is None else share_line(found)


def _read(reading: Estimate, *, is_by_look: bool) -> str:
    """The reading in words, with the look it was made at, or the adjusted p-value where the rule makes one."""
    if is_by_look and reading.n is not None and reading.reason != NOT_YET:
        return f"at the look at {people(reading.n)}: {reading.reason}"
    if reading.estimate is None:
        return reading.reason
    p = "below 0.001" if reading.estimate < 0.001 else fixed(reading.estimate, 3)
    return f"{reading.reason} ({p})"


def _name(measure: Measure) -> str:
    return measure.short if measure.short[:2].isupper() else measure.short[:1].lower() + measure.short[1:]


def _policy(facts: Facts, one: KeySecondary) -> Estimate:
    """The same endpoint with every score counted, where the report has it."""
    if one.summary == "responders":
        return facts.one("responders", "responder", measure=one.measure, visit=one.visit, population=MISSING,
                         group=str(one.percent))  # fmt: skip
    section = "pain" if one.measure == facts.primary.id else "function"
    return facts.one(section, "mean_change", measure=one.measure, visit=one.visit)


# --- the estimand -----------------------------------------------------------------------------------------------------


def _estimand(facts: Facts) -> Table:
    table = Table(
        title="What is estimated.",
        encoding="The attributes of the estimand (ICH E9(R1)); the events after the first dose in the table that follows.",
        columns=text_columns(("Attribute", 30), ("In this report", 144)),
        rows=tuple(row(*pair) for pair in _attributes(facts)),
        style="dense fixed",
    )
    return noted(table, facts)


def _attributes(facts: Facts) -> tuple[tuple[str, str], ...]:
    plan, first, last = facts.protocol.outcomes, *facts.protocol.baseline.window_days
    percents = listed(f"{percent}%" for percent in plan.responder_percents)
    return (
        (
            "Population",
            "Enrolled people with a CRPS diagnosis on record, at least one completed intramuscular session of racemic "
            f"ketamine, a {facts.primary.short.lower()} score in days {fixed(first, 0)} to {fixed(last, 0)} before that "
            "session, and at least one score after it; for shares, without the last condition",
        ),
        ("Treatment", "The intramuscular sessions as delivered; no comparison group"),
        ("Variable", f"{facts.primary.title}: change from the start at {at(facts.primary_visit)}"),
        ("Summary", f"Mean change; share improved by {percents} or more"),
        (
            "Missing score",
            "Means: people with a score. Shares: counted as not improved. Imputed in sensitivity analyses only",
        ),
        (
            "Several endpoints",
            READING[facts.protocol.plan.multiplicity] + (AT_LOOKS if facts.protocol.plan.looks else ""),
        ),
        ("Intervals, tests", _how_many(facts)),
    )


def _how_many(facts: Facts) -> str:
    tests = sum(e.estimate is not None for e in facts.every("endpoints", "reading"))
    return (
        f"This report holds {plural(facts.n_intervals, 'interval')} of 95% and {plural(tests, 'test') if tests else 'no test'} of "
        "a hypothesis; all that is not in the order of the plan is descriptive or exploratory"
    )


READING = {
    "hierarchical": "Read in the order of the plan: the primary endpoint, then the key secondary ones one by one, until the "
    "first whose interval includes 0 (no change) or that has none; everything after it is descriptive",
    "holm": "The primary endpoint is read by its interval. If that excludes 0 (no change), the key secondary endpoints are read "
    "together by p-values of t tests adjusted by Holm, so that the chance of any false one among them is at most 5%",
}
AT_LOOKS = (
    ". Looks are declared: the interval of the primary endpoint is then that of the latest look reached, not the one printed "
    "for everybody; before the first look nothing is read, and everything is descriptive"
)
MEANINGS = (
    "Treatment policy: every score counts. Hypothetical: a score after the event does not count. Composite: the event makes "
    "the person one without response."
)
DURABILITY = {"ignored": "Goes on", "loss": "Ends", "censor": "Followed until then"}
DEFAULTS = Intercurrent(event="death")  # the strategies of an event the plan does not name, whatever its kind
EVENTS = {
    "further series": "A further series of sessions",
    "other ketamine route": "Ketamine by another route",
    "stopped for harm": "Ketamine stopped for a harm",
}


def _intercurrent(facts: Facts) -> Table:
    """The strategy for each event, and how many people had it; the release edition has the strategies alone."""
    heads = [("Event", 50.0), ("Mean change", 34.0), ("Response", 34.0), ("Duration of response", 36.0)]
    rows = [(rule.name, _event(rule), rule) for rule in facts.protocol.plan.intercurrent]
    rows.append((ANYTHING_ELSE, "Any other event on record", DEFAULTS))
    people = () if facts.is_release else number_columns((f"Before {at(facts.primary_visit)}", 20))
    table = Table(
        title="What counts after other events.",
        encoding=MEANINGS,
        columns=(*text_columns(*heads), *people),
        rows=tuple(
            row(name, *_strategies(rule), *(_before(facts, group) if people else ())) for group, name, rule in rows
        ),
        style="dense fixed",
    )
    return noted(table, facts, "" if facts.is_release else _placed(facts))


def _event(rule: Intercurrent) -> str:
    name = EVENTS.get(rule.event, capital(rule.event))
    return f"{name}: {listed(rule.terms)}" if rule.terms else name


def _strategies(rule: Intercurrent) -> tuple[str, str, str]:
    return capital(rule.change), capital(rule.response), DURABILITY[rule.durability]


def _before(facts: Facts, group: str) -> tuple[str]:
    return (share_in_cell(facts.one("endpoints", "before_score", group=group)),)


def _placed(facts: Facts) -> str:
    rows = facts.every("endpoints", "before_score")
    n = next((e.n for e in rows if e.n is not None), None)
    undated = sum(e.n_missing or 0 for e in rows)
    later = f" {plural(undated, 'event has', 'events have')} no day and cannot be placed." if undated else ""
    return (
        f"Before {at(facts.primary_visit)}: earlier than the day of the score, or without a score than the end of the visit's "
        f"window; of {counted(n)} treated people whose visit is due.{later}"
    )


# --- groups -----------------------------------------------------------------------------------------------------------

HEADINGS = {
    "sex": "Sex",
    "crps_type": "CRPS type",
    "age": "Age at first dose",
    "limb": "Limb",
    "refractory": "Refractory",
    "years_since_onset": "Time since onset",
}
UNKNOWN = ("not known", "not recorded", "not specified", "unknown")


def _groups(facts: Facts) -> Figure:
    """The forest; where no group is large enough, the reason."""
    figure = Figure(
        title=f"Change in {_name(facts.primary)} at {at(facts.primary_visit)}, by group.",
        encoding="Exploratory: groups fixed in advance, which overlap and are not compared with each other. Square: mean, its "
        "area by n; line: 95% confidence interval; diamond and band: everyone.",
        empty=_no_groups(facts),
    )
    whole = facts.one("endpoints", "planned", group=PRIMARY)
    if not shown(facts.every("endpoints", "subgroup")) or not whole.has_interval:
        return figure
    everyone, groups = _group(facts, whole, "Everyone"), _by_heading(facts)
    alt = f"Forest of mean changes, exploratory. {_spoken(everyone)} {' '.join(_spoken_groups(groups))}"
    with drawing(facts.study.root / "templates"):
        return replace(figure, svg=forest(everyone, groups, _sides(facts.primary), "groups", alt))


def _no_groups(facts: Facts) -> str:
    reasons = dict.fromkeys(e.reason for e in facts.every("endpoints", "subgroup") if e.reason)
    if facts.is_release:
        return INTERNAL_ONLY
    return f"No group is shown: {listed(reasons)}." if reasons else "The plan declares no groups, or nobody is in one."


def _by_heading(facts: Facts) -> Mapping[str, list[Group]]:
    """The rows under each heading, in the order of the plan; a rule that is not confirmed is marked."""
    found: dict[str, list[Group]] = {}
    for by in facts.protocol.plan.subgroups.by:
        heading = marked(HEADINGS[by], facts.protocol.context.state if by == "refractory" else "confirmed")
        own = {
            e.group.partition(": ")[2]: e for e in facts.every("endpoints", "subgroup") if e.group.startswith(f"{by}: ")
        }
        found[heading] = [_group(facts, own[name], _label(by, name)) for name in sorted(own, key=_rank)]
    return found


def _rank(name: str) -> tuple[bool, bool, float, str]:
    """Bands from low to high, other groups by name, and what nobody knows last."""
    first = name.partition(" ")[0]
    is_number = first.replace(".", "", 1).isdigit()
    return name in UNKNOWN, not name.startswith("under "), float(first) if is_number else 0.0, name


def _label(by: str, name: str) -> str:
    return f"Type {name}" if by == "crps_type" and name in ("I", "II") else capital(name)


def _group(facts: Facts, found: Estimate, label: str) -> Group:
    words = found.reason if found.estimate is None else mean_in_cell(found, max(facts.primary.decimals, 1), signed=True)
    return Group(label, found.n or 0, words, found.estimate, found.lower, found.upper)


def _sides(measure: Measure) -> tuple[str, str]:
    """What lies left and right of no change."""
    if measure.direction == "lower":
        return ("less pain", "more pain") if measure.domain == "pain" else ("better", "worse")
    return "worse", "better"


def _spoken(group: Group) -> str:
    return f"{group.label}, n = {group.n}: {group.words}."


def _spoken_groups(groups: Mapping[str, list[Group]]) -> Iterator[str]:
    for heading, members in groups.items():
        yield f"{heading}: {' '.join(_spoken(one) for one in members)}"
