"""How the numbers were made, by the rules actually used, and what limits them."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from crps_outcomes.coverage import undercoverage_in_words
from crps_outcomes.layout import noted, row, text_columns
from crps_outcomes.numbers import count, day_in_words, fixed, plural
from crps_outcomes.report_model import Section, Table
from crps_outcomes.wording import at, better, capital, code_words, marked, system_name, thresholds_in_words

if TYPE_CHECKING:
    from crps_outcomes.definitions import ListedCode, Measure, Visit
    from crps_outcomes.facts import Facts
    from crps_outcomes.layout import Row
    from crps_outcomes.plan_history import PlanChange, PlanRecord

SHORT = 12  # characters of a digest
CHANGES_TOLD = 3  # of one change in a sentence; the table has all


def methods(facts: Facts) -> Section:
    """Definitions, statistics, limits and code lists, read from the study folder."""
    example = " It is an example, to be replaced by the clinic's own." if facts.protocol.is_example else ""
    return Section(
        id="methods",
        short="Methods and limits",
        finding="How the numbers were made, and what limits them",
        lede=f"Rules of the protocol {facts.protocol.id}, version {facts.protocol.version}.{example}",
        tables={
            "plan": _plan_changes(facts),
            "measures": _measures(facts),
            "watched": _watched(facts),
            "codes": _codes(facts),
        },
        text={
            "plan": _plan_history(facts),
            "rules": _rules(facts),
            "statistics": _statistics(facts),
            "limits": _limits(facts),
        },
    )


# --- the plan over time ---------------------------------------------------------------------------------------------


def _plan_history(facts: Facts) -> tuple[str, ...]:
    """When this plan was first used, and how often it changed after data were seen."""
    plan = facts.provenance.plan
    if not plan.digest:
        return ("No record was kept of when the analysis plan was first used.",)
    first = f"Analysis plan {plan.digest[:SHORT]}: first used here on the data of {day_in_words(plan.first_on)}."
    return (f"{first} {_declared(plan)}", *plan_changes_in_words(plan))


def _declared(plan: PlanRecord) -> str:
    if not plan.declared_on:
        return "It does not say on what day it was declared."
    late = ", after data had been used with it" if plan.declared_on > plan.first_on else ""
    return f"By its own word it was declared on {day_in_words(plan.declared_on)}{late}."


def plan_changes_in_words(plan: PlanRecord) -> tuple[str, ...]:
    """One sentence for each change after data were seen."""
    return tuple(_plan_change(change) for change in plan.changes)


def _plan_change(change: PlanChange) -> str:
    when = day_in_words(change.on)
    if not change.differences:
        return (
            f"Before the first plan on record (data of {when}) reports were made here with another study folder whose plan was "
            "not kept: whether the plan changed after data had been seen is not known."
        )
    told = [f"{one.entry}, from {one.before} to {one.after}" for one in change.differences[:CHANGES_TOLD]]
    more = len(change.differences) - len(told)
    rest = f"; and {count(more)} more in the table" if more else ""
    return f"The analysis plan changed on {when} (day of the data), after data had been seen: {'; '.join(told)}{rest}."


def _plan_changes(facts: Facts) -> Table:
    table = Table(
        title="Changes of the analysis plan after data had been seen.",
        encoding="By the day of the data on which a report first used the new entry.",
        columns=text_columns(("Day", 22), ("Entry", 60), ("Before", 46), ("From then on", 46)),
        rows=tuple(
            row(day_in_words(change.on), capital(one.entry), one.before, one.after)
            for change in facts.provenance.plan.changes
            for one in change.differences
        ),
        empty="No report made here changed it.",
        style="dense fixed",
    )
    return noted(table, facts)


# --- measures -------------------------------------------------------------------------------------------------------


def _measures(facts: Facts) -> Table:
    table = Table(
        title="Outcome measures.",
        encoding="Where they stand in FHIR, and their rules. A code without a mark is confirmed in a named public source.",
        columns=text_columns(
            ("Measure", 26), ("FHIR source", 37), ("Scale and missing rule", 46), ("Matters in one person", 65)
        ),
        rows=tuple(_measure_row(measure) for measure in facts.outcome_measures),
        style="dense fixed tall",
    )
    return noted(table, facts)


def _measure_row(measure: Measure) -> Row:
    low, high = (fixed(edge, 0) for edge in measure.range)
    rule = f"{low} to {high}, {better(measure)}. Recall: {measure.recall}. {capital(measure.missing_rule)}"
    return row(measure.short, _source_words(measure), rule, thresholds_in_words(measure.thresholds) or "none declared")


def _watched(facts: Facts) -> Table:
    safety = facts.protocol.safety
    names = (
        *safety.watched,
        *safety.liver,
        safety.bilirubin,
        safety.alkaline_phosphatase,
        *(signal.measure for signal in safety.signals if not signal.item),
        facts.protocol.exposure.weight_measure,
    )
    measures = [facts.study.measures[name] for name in dict.fromkeys(names) if name]
    table = Table(
        title="Vital signs, scales around sessions, liver values and weight.",
        columns=text_columns(("Measure", 28), ("FHIR source", 98), ("Plausible", 48)),
        rows=tuple(row(measure.short, _source_words(measure), _plausible(measure)) for measure in measures),
        style="dense fixed",
    )
    return noted(table, facts)


def _plausible(measure: Measure) -> str:
    low, high = (fixed(edge, 0) for edge in measure.range)
    return f"{low} to {high} {(measure.unit_label or measure.unit).split(',')[0]}"


def _source_words(measure: Measure) -> str:
    codes = []
    for source in measure.sources:
        inner = f", component {' or '.join(code_words(code) for code in source.component)}" if source.component else ""
        raw = ", a raw sum" if source.is_raw_sum else ""
        stated = ", where the range is stated" if source.needs_stated_range else ""
        codes.append(" or ".join(code_words(code) for code in source.codes) + inner + raw + stated)
    forms = ["QuestionnaireResponse, scored from its items"] if measure.questionnaires else []
    if measure.items and measure.items.of:
        forms.append(f"Answers to items of {measure.items.of}")
    return "; ".join([f"Observation: {'; '.join(codes)}" if codes else "", *forms]).strip("; ")


# --- rules, statistics, limits --------------------------------------------------------------------------------------


def _rules(facts: Facts) -> tuple[str, ...]:
    exposure, safety = facts.protocol.exposure, facts.protocol.safety
    first, last = safety.window_minutes
    return (
        f"Enrolment: by {SELECTORS[facts.protocol.enrolment.selector]}. Day 0 is the local day of the first intramuscular "
        f"dose ({facts.protocol.timezone}).",
        f"Visits: {'; '.join(_visit_words(visit) for visit in facts.visits)}. The value nearest the planned day counts.",
        "Due: the window has closed before the as-of day. A value in a window that is still open is not counted yet: one "
        "nearer the planned day may come, and people who have none so far would be left out beside it.",
        f"Start value: the {facts.protocol.baseline.pick} in its window and before the first dose; a later value never "
        "stands in for it.",
        f"Sessions: injections within {fixed(exposure.session_gap_hours, 0)} hours. Series: sessions less than "
        f"{exposure.series_gap_days} days apart. Doses in mg of ketamine base; hydrochloride is divided by "
        f"{fixed(exposure.hydrochloride_per_base, 4)}; weights up to {exposure.weight_max_age_days} days old.",
        f"Around sessions: readings {first} to {last} minutes after the injection; before it, up to "
        f"{safety.pre_dose_minutes} minutes. All cut-offs for vital signs and liver values are unconfirmed.",
    )


SELECTORS = {
    "group": "membership of a FHIR Group",
    "research_subject": "ResearchSubject of a study",
    "episode_of_care": "EpisodeOfCare of a type",
    "care_plan": "CarePlan of a category",
    "list": "the clinic's own list of patients",
}


def _visit_words(visit: Visit) -> str:
    return f"{at(visit)} = day {visit.day} ({visit.window_days[0]} to {visit.window_days[1]})"


DURABILITY = (
    "Time to loss of a response: Kaplan–Meier, log–log intervals with Greenwood's variance. A loss counts at the visit that "
    "showed it, although it came between two visits; the table beside it counts each loss as early as possible."
)


def _statistics(facts: Facts) -> tuple[str, ...]:
    then = "; every other count is rounded to the nearest 5" if facts.releasable.is_rounded else ""
    hidden = (
        f"Release edition: counts of 1 to {facts.threshold - 1} are hidden, then further cells until none can be worked "
        f"out{then}."
        if facts.is_release
        else "Internal edition: small cells are shown; it must not leave the service."
    )
    exact = "" if facts.protocol.plan.responder_interval == "wilson" else "; responders: exact (Clopper–Pearson)"
    return (
        f"Means: t intervals. Shares: Wilson intervals{exact}. Rates: exact Poisson intervals. Medians of change: Hodges–Lehmann. "
        "All intervals are 95%, two-sided unless said otherwise, and none is adjusted for their number.",
        "Fewer than 10 people: no interval; changes have their median and range. Fewer than 3: no estimate.",
        undercoverage_in_words(),
        "Response: score at least 30% or 50% better than the start; exactly 30% counts.",
        *([] if facts.is_release else [DURABILITY]),
        hidden,
        TESTS[facts.protocol.plan.multiplicity],
    )


TESTS = {
    "hierarchical": "No hypothesis is tested and no p-value is computed.",
    "holm": "Tests: only of the key secondary endpoints, one-sample t tests with p-values adjusted by Holm.",
}


def _limits(facts: Facts) -> tuple[str, ...]:
    return (
        "One group and no comparison: pain in CRPS varies, people are often treated at their worst, and later scores then "
        "tend to be lower whatever is done (regression to the mean).",
        "People knew what they received. Scores and events are those on record.",
        "People without a score may differ from those with one; the baseline table and the second denominator show how much "
        "that could matter.",
        "Doses were not fixed in advance by chance: dose and response can affect each other.",
        f"One site, {facts.protocol.site}. Conditions, routes and codes are as the site recorded them.",
    )


# --- code lists -----------------------------------------------------------------------------------------------------


def _codes(facts: Facts) -> Table:
    total = [code for listing in facts.study.codelists.values() for code in listing]
    codes = facts.told(len(total), "codelists/codes")
    unconfirmed = facts.told(sum(code.state == "unconfirmed" for code in total), "codelists/unconfirmed")
    table = Table(
        title="Code lists.",
        encoding=f"{plural(codes, 'code')}, {count(unconfirmed)} of them unconfirmed; without a mark a code is confirmed.",
        columns=text_columns(("List", 24), ("Codes, by what they stand for", 150)),
        rows=tuple(
            row(name.replace("_", " "), _codelist_words(codes)) for name, codes in sorted(facts.study.codelists.items())
        ),
        style="dense fixed tall",
    )
    return noted(table, facts)


def _codelist_words(listing: tuple[ListedCode, ...]) -> str:
    ordered = sorted(listing, key=lambda code: (code.group, system_name(code.system), code.state, code.code))
    groups = groupby(ordered, key=lambda code: code.group)
    return ". ".join(f"{group}: {_code_words([*codes])}" for group, codes in groups)


def _code_words(codes: list[ListedCode]) -> str:
    """Such as "RxNorm 25480, 187832 [unconfirmed]; ATC N01AX03"."""
    by_system = groupby(codes, key=lambda code: (system_name(code.system), code.state))
    return "; ".join(
        marked(f"{system} {', '.join(code.code for code in own)}", state) for (system, state), own in by_system
    )
