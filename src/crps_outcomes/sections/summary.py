"""Page 1: what happened, how sure it is, in plain words, and what the report cannot tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.drawings import spark
from crps_outcomes.layout import noted, row, text_columns
from crps_outcomes.marks import NO_INTERVAL, NOT_APPLICABLE
from crps_outcomes.numbers import count, day_in_words, fixed, interval, people, percent, plural
from crps_outcomes.report_model import Cell, Run, Section, Table
from crps_outcomes.sections.completeness import completed_at_primary, pull_in_words
from crps_outcomes.sections.responders import (
    MISSING,
    OBSERVED,
    as_planned,
    best_known,
    responder,
    responders_in_words,
)
from crps_outcomes.sections.restatement import since_in_words
from crps_outcomes.sections.safety import ANY, most_frequent, serious_in_words
from crps_outcomes.series import BASELINE, course_in_words, mean_points, share_points, unit_words, week_of
from crps_outcomes.wording import (
    at,
    capital,
    counted_people,
    improved,
    k_of_n,
    mean_in_cell,
    mean_in_words,
    sentences,
    share_in_words,
    share_limits,
    why_hidden,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crps_outcomes.definitions import Measure, Visit
    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.figures import Point
    from crps_outcomes.layout import Row


def summary(facts: Facts) -> Section:
    """Headline, key results, plain words and limits."""
    return Section(
        id="summary",
        short="Summary",
        finding="Summary",
        headline=headline(facts),
        tables={"key": _key_results(facts)},
        text={"plain": plain_words(facts), "cannot_tell": cannot_tell(facts)},
    )


# --- headline -------------------------------------------------------------------------------------------------------


def headline(facts: Facts) -> tuple[Run, ...]:
    """Responders as planned and as observed, and function beside them, with counts and intervals."""
    return (*_responder_runs(facts), *_function_runs(facts))


def _responder_runs(facts: Facts) -> tuple[Run, ...]:
    first, visit = facts.protocol.outcomes.responder_percents[0], facts.primary_visit
    population, found = best_known(facts, first, visit.id)
    goal = improved(facts.primary, first)
    if found.mark:
        return (Run(f"For {at(visit)}, how many people had {goal} is not shown: {why_hidden(found)}."),)
    planned = as_planned(facts, first)
    if not planned.mark:
        return _planned_runs(facts, goal, planned)
    missing = responder(facts, first, MISSING, visit.id)
    both = f"; with missing scores counted as not improved, {share_in_words(missing)}"
    counted = ", a missing score counted as not improved" if population == MISSING else "" if missing.mark else both
    who = Run(responders_in_words(population, found), is_strong=True)
    return (Run(f"At {at(visit)}, "), who, Run(f" had {goal} than at the start{counted}."))


def _planned_runs(facts: Facts, goal: str, planned: Estimate) -> tuple[Run, ...]:
    return (
        Run(f"At {at(facts.primary_visit)}, "),
        Run(responders_in_words(MISSING, planned), is_strong=True),
        Run(f" had {goal} than at the start, as planned: {_no_response(facts)} is no response."),
    )


def _no_response(facts: Facts) -> str:
    """Such as "a missing score, or a score after an event the plan names,"; without such events the first alone."""
    has_events = any(rule.response == "composite" for rule in facts.protocol.plan.intercurrent)
    return "a missing score, or one after an event the plan names," if has_events else "a missing score"


def _function_runs(facts: Facts) -> tuple[Run, ...]:
    change = facts.one("function", "mean_change", measure=facts.function.id, visit=facts.primary_visit.id)
    if change.mark:
        return ()
    value = mean_in_words(change, 1, signed=True)
    unit = "" if unit_words(facts.function) == "points" else f" ({facts.function.unit_label})"
    return (Run(f" {facts.function.short}{unit} changed by "), Run(value, is_strong=True), Run("."))


# --- key results ----------------------------------------------------------------------------------------------------


def _key_results(facts: Facts) -> Table:
    table = Table(
        title="Key results.",
        encoding="Small lines: start to last visit, with the 95% interval as a band; the dot marks the visit of the row.",
        columns=text_columns(("Result", 43), ("Value", 38), ("Course", 33), ("What the numbers say", 60)),
        rows=(
            *(_change_row(facts, "pain", facts.primary, visit) for visit in (facts.primary_visit, facts.later_visit)),
            *(_responder_row(facts, percent) for percent in facts.protocol.outcomes.responder_percents),
            _change_row(facts, "function", facts.function, facts.primary_visit),
            _adverse_row(facts),
            _completeness_row(facts),
        ),
        style="key fixed",
    )
    return noted(table, facts, pull_in_words(facts), since_in_words(facts))


def _change_row(facts: Facts, section: str, measure: Measure, visit: Visit) -> Row:
    change = facts.one(section, "mean_change", measure=measure.id, visit=visit.id)
    points = mean_points(facts, section, measure.id)
    name = f"{measure.short}, change at {at(visit)}"
    return row(
        name, _big_mean(change), _course(facts, points, visit, measure), _from_to(facts, section, measure, visit)
    )


def _big_mean(estimate: Estimate) -> Cell:
    if estimate.mark or estimate.estimate is None:
        return Cell(estimate.mark, is_big=True)
    size, _, limits = mean_in_cell(estimate, 1, signed=True).partition(" (")
    level = "95% CI " if estimate.has_interval else ""
    return Cell(size, sub=f"{level}{limits.removesuffix(')')}, n = {count(estimate.n or 0)}", is_big=True)


def _course(facts: Facts, points: Sequence[Point], visit: Visit, measure: Measure) -> Cell:
    if len(points) < 2:
        return Cell(NOT_APPLICABLE)
    return Cell("", drawing=spark(points, week_of(visit), course_in_words(facts, points, measure)))


def _from_to(facts: Facts, section: str, measure: Measure, visit: Visit) -> str:
    start = facts.one(section, "mean", measure=measure.id, visit=BASELINE)
    then = facts.one(section, "mean", measure=measure.id, visit=visit.id)
    if start.mark or then.mark or start.estimate is None or then.estimate is None:
        return f"Not shown: {why_hidden(then if then.mark else start)}."
    means = f"Mean {fixed(start.estimate, 1)} at the start (n = {count(start.n or 0)}), {fixed(then.estimate, 1)} at {at(visit)}"
    return f"{means}; {measure.direction} is better."


def _responder_row(facts: Facts, percent: int) -> Row:
    visit = facts.primary_visit
    observed, missing = (responder(facts, percent, population, visit.id) for population in (OBSERVED, MISSING))
    points = share_points(facts, "responders", "responder", population=OBSERVED, group=str(percent))
    words = f"{capital(improved(facts.primary, percent))}, {at(visit)}"
    course, planned = _share_course(points, visit, improved(facts.primary, percent)), as_planned(facts, percent)
    if not planned.mark:
        beside = f"Observed, as in the course: {share_in_words(observed)} with a score, whatever happened before it."
        return row(f"{words}, as planned", _big_share(planned), course, beside)
    sentence = (
        f"Not shown: {why_hidden(missing)}."
        if missing.mark
        else f"With missing scores counted as not improved: {share_in_words(missing)}."
    )
    return row(words, _big_share(observed), course, sentence)


def _big_share(estimate: Estimate) -> Cell:
    if estimate.mark:
        return Cell(estimate.mark, is_big=True)
    limits = share_limits(estimate)
    return Cell(k_of_n(estimate), sub=limits.replace(" (", ", 95% CI ").removesuffix(")") or NO_INTERVAL, is_big=True)


def _share_course(points: Sequence[Point], visit: Visit, what: str) -> Cell:
    if len(points) < 2:
        return Cell(NOT_APPLICABLE)
    first, last = points[0], points[-1]
    alt = f"Share of people with {what}: {_share_at(first)} at the first visit, {_share_at(last)} at the last."
    return Cell("", drawing=spark(points, week_of(visit), alt))


def _share_at(point: Point) -> str:
    """Such as "51% (95% CI 41 to 61)", or "93% of 54" where the share only describes."""
    value = percent(point.mean, point.n)
    if point.lower is None or point.upper is None:
        return f"{value} of {count(point.n)}"
    return f"{value} (95% CI {interval(point.lower, point.upper, lambda limit: fixed(limit, 0))})"


def _adverse_row(facts: Facts) -> Row:
    rate = facts.one("safety", "per_100_sessions", group=ANY)
    affected = facts.one("safety", "people", group=ANY)
    events = "" if rate.mark else f"{count(rate.k or 0)} in {plural(rate.n or 0, 'session')}. "
    who = "" if affected.mark else f"{k_of_n(affected)} people had at least one. "
    serious = serious_in_words(facts).partition(" among")[0].partition(";")[0].rstrip(".")
    return row("Adverse events per 100 sessions", _big_rate(rate), NOT_APPLICABLE, f"{events}{who}{serious}.")


def _big_rate(rate: Estimate) -> Cell:
    if rate.mark:
        return Cell(rate.mark, is_big=True)
    if not rate.has_interval or rate.estimate is None:
        return Cell(k_of_n(rate), sub="events in sessions, no rate", is_big=True)
    return Cell(fixed(rate.estimate, 1), sub=mean_in_words(rate, 1).partition(" (")[2].removesuffix(")"), is_big=True)


def _completeness_row(facts: Facts) -> Row:
    found, visit = completed_at_primary(facts), facts.primary_visit
    points = share_points(facts, "completeness", "completed", measure=facts.primary.id)
    name = f"{facts.primary.short} scores on record, {at(visit)}"
    if found.mark:
        return row(name, Cell(found.mark, is_big=True), NOT_APPLICABLE, f"Not shown: {why_hidden(found)}.")
    missing = (found.n or 0) - (found.k or 0)
    value = Cell(k_of_n(found), sub="scores due", is_big=True)
    sentence = f"{people(missing)} due at {at(visit)} {'has' if missing == 1 else 'have'} no score."
    return row(name, value, _share_course(points, visit, "a score, of those due"), sentence)


# --- plain words and limits -----------------------------------------------------------------------------------------


def plain_words(facts: Facts) -> tuple[str, ...]:
    """Four sentences without a technical word, each with its numbers."""
    treated = facts.n_at("treated")
    lines = [f"{capital(counted_people(treated))} had ketamine injections into a muscle for CRPS."]
    lines += [_average(facts), _function_line(facts), _enough(facts), _side_effects(facts)]
    return tuple(line for line in lines if line)


def _average(facts: Facts) -> str:
    keys = {"measure": facts.primary.id}
    start = facts.one("pain", "mean", visit=BASELINE, **keys)
    means = [
        (visit, facts.one("pain", "mean", visit=visit.id, **keys)) for visit in (facts.primary_visit, facts.later_visit)
    ]
    known = [f"{fixed(e.estimate, 1)} at {at(visit)}" for visit, e in means if not e.mark and e.estimate is not None]
    if start.mark or start.estimate is None or not known:
        return "Too few pain scores may be shown to give an average."
    top = fixed(facts.primary.range[1], 0)
    course = f"{fixed(start.estimate, 1)} at the start, {' and '.join(known)}"
    return f"Average {facts.primary.short.lower()}, out of {top}: {course}."


def _enough(facts: Facts) -> str:
    joint = facts.one("function", "pain_and_function", visit=facts.primary_visit.id, group="both")
    if joint.mark or not facts.function.thresholds:
        return ""
    state = facts.function.thresholds[0].state
    rule = "better function" if state == "confirmed" else f"better function (threshold {state})"
    return f"At {at(facts.primary_visit)}, {k_of_n(joint)} people had at least 30% less pain together with {rule}."


def _function_line(facts: Facts) -> str:
    section, visit = "function", facts.primary_visit
    start = facts.one(section, "mean", measure=facts.function.id, visit=BASELINE)
    then = facts.one(section, "mean", measure=facts.function.id, visit=visit.id)
    if start.estimate is None or then.estimate is None or start.mark or then.mark:
        return ""
    return (
        f"Average {facts.function.short.lower()}: {fixed(start.estimate, 1)} at the start, "
        f"{fixed(then.estimate, 1)} at {at(visit)} ({facts.function.direction} is better)."
    )


def _side_effects(facts: Facts) -> str:
    top = most_frequent(facts)
    if top is None:
        return "No side effect can be named from the record."
    return f"Side effect recorded most often: {top.group.lower()}, {plural(top.k or 0, 'time')} in {plural(top.n or 0, 'session')}."


def cannot_tell(facts: Facts) -> tuple[str, ...]:
    """What a reader might want to know and this design cannot answer."""
    found = completed_at_primary(facts)
    missing = None if found.mark or found.n is None or found.k is None else found.n - found.k
    who = "people" if not missing else f"the {people(missing)}"
    verb = "is" if missing == 1 else "are"
    lines = [
        "Whether the change comes from ketamine: nobody here was given something else, and CRPS pain also changes by itself.",
        f"How {who} without a {at(facts.primary_visit)} score {verb} doing." if missing != 0 else "",
        "Which dose is best: dose can follow response.",
        "How this stands to published studies: none gave ketamine into a muscle for CRPS.",
        _unwatched(facts),
        _plan_changed(facts),
    ]
    return tuple(line for line in lines if line)


def _plan_changed(facts: Facts) -> str:
    changes = facts.provenance.plan.changes
    if not changes:
        return ""
    if not any(change.differences for change in changes):
        return "Whether the analysis plan changed after data were seen: earlier reports did not keep it."
    last = day_in_words(changes[-1].on)
    often = f"{len(changes)} times, last" if len(changes) > 1 else ""
    return f"What the first plan would have shown: it changed {sentences(often, f'on {last}')}, after data were seen."


def _unwatched(facts: Facts) -> str:
    watched = facts.one("safety", "monitored", measure=facts.protocol.safety.systolic)
    if watched.mark or not watched.n or watched.k is None or watched.k == watched.n:
        return "What went unseen: sessions without readings are unknown, not normal."
    return f"What happened in the {count(watched.n - watched.k)} of {count(watched.n)} sessions without blood pressure before and after."
