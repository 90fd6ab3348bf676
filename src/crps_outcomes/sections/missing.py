"""Who was lost, what is missing, and what would have to be true of it for the finding to vanish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.analysis.missing import ANY, COMPLETE, DIED, NOT_DUE, OTHERS, SEEN, SET_ASIDE, UNSEEN
from crps_outcomes.analysis.responders import OBSERVED
from crps_outcomes.layout import listed, noted, number_columns, row, text_columns
from crps_outcomes.marks import NOT_APPLICABLE
from crps_outcomes.numbers import count, fixed, people, percent
from crps_outcomes.report_model import Section, Table
from crps_outcomes.series import unit_words
from crps_outcomes.wording import (
    at,
    capital,
    count_and_percent,
    counted,
    improved,
    k_of_n,
    mean_in_cell,
    mean_in_words,
    quartiles_in_cell,
    share_line,
)

if TYPE_CHECKING:
    from crps_outcomes.definitions import Visit
    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row

INTERNAL_ONLY = "Shown in the internal edition only: most of its counts are small."
ANSWERS = {SEEN: "yes", UNSEEN: "no", NOT_DUE: "not due"}


def missing(facts: Facts) -> Section:
    """The sensitivity of the findings first, then bounds, disposition and patterns."""
    if facts.is_release:
        finding = "What is missing, and what it could change: internal edition only"
        return Section(
            id="missing", short="What is missing", finding=finding, text={"what_if": (), "notes": (INTERNAL_ONLY,)}
        )
    return Section(
        id="missing",
        short="What is missing",
        finding=_finding(facts),
        tables={
            "sensitivity": _sensitivity(facts),
            "bounds": _bounds(facts),
            "disposition": _disposition(facts),
            "patterns": _patterns(facts),
        },
        text={"what_if": _what_if(facts), "notes": _notes(facts)},
    )


def _main_visits(facts: Facts) -> tuple[Visit, ...]:
    return tuple({visit.id: visit for visit in (facts.primary_visit, facts.later_visit)}.values())


# --- what would have to be true -------------------------------------------------------------------------------------


def _finding(facts: Facts) -> str:
    visit = facts.primary_visit
    found = facts.one("missing", "imputed_change", visit=visit.id, group="0")
    if found.n is None or found.n_missing is None:
        return "Nothing is known about missing scores"
    if not found.n_missing:
        return f"Everybody who was due at {at(visit)} has a {facts.primary.short.lower()} score"
    verb = "has" if found.n_missing == 1 else "have"
    start = f"{count(found.n_missing)} of {count(found.n)} people due at {at(visit)} {verb} no {facts.primary.short.lower()} score"
    return f"{start}; {_vanishes(facts, visit, 'they')}"


def _what_if(facts: Facts) -> tuple[str, ...]:
    """The same for the later visit; the heading has the primary one."""
    return tuple(
        f"{visit.label}: {_vanishes(facts, visit)}."
        for visit in _main_visits(facts)[1:]
        if facts.every("missing", "tipping_point", visit=visit.id)
    )


def _vanishes(facts: Facts, visit: Visit, who: str = "") -> str:
    """What would have to be true of the people without a score for the interval to include no change."""
    tip = facts.one("missing", "tipping_point", visit=visit.id)
    worst = facts.one("missing", "change_bound", visit=visit.id, group="worst")
    decimals = max(facts.primary.decimals, 1)
    if tip.estimate == 0:
        return "with the scores there are, the interval is not on the better side of no change, so there is no finding to lose"
    if tip.n_missing and _is_better(facts, worst):
        change = mean_in_words(worst, decimals, signed=True, unit=unit_words(facts.primary))
        return f"if all missing scores were the worst of the scale, the mean change would still be {change}"
    if tip.estimate is None:
        return (
            f"what they could change cannot be said: {tip.reason}"
            if tip.n_missing
            else "no score that was due is missing"
        )
    who = who or f"the {people(tip.n_missing or 0)} without a score"
    return (
        f"for the interval to include no change, {who} would have to be on average "
        f"{fixed(tip.estimate, decimals)} {unit_words(facts.primary)} worse than people like them with a score"
    )


def _is_better(facts: Facts, found: Estimate) -> bool:
    """Whether the whole interval is on the better side of no change."""
    if not found.has_interval or found.lower is None or found.upper is None:
        return False
    return found.lower > 0 if facts.primary.direction == "higher" else found.upper < 0


# --- tables ---------------------------------------------------------------------------------------------------------


def _sensitivity(facts: Facts) -> Table:
    visits = _main_visits(facts)
    rows = {
        "Observed scores only": [
            facts.one("pain", "mean_change", measure=facts.primary.id, visit=v.id) for v in visits
        ],
        "Mixed model over all visits": [facts.one("course", "model_change", visit=v.id) for v in visits],
    }
    for group, one in {e.group: e for e in facts.every("missing", "imputed_change")}.items():
        rows[_imputed_name(facts, one)] = [
            facts.one("missing", "imputed_change", visit=v.id, group=group) for v in visits
        ]
    decimals, width = max(facts.primary.decimals, 1), 90 / len(visits)
    found = facts.every("missing", "imputed_change", group="0")
    table = Table(
        title=f"Change in {facts.primary.short.lower()} from the start, by what is taken of missing scores.",
        encoding=f"Mean change (95% CI). Worse by: so many {unit_words(facts.primary)} on top of what imputation gives.",
        columns=(*text_columns(("Analysis", 84)), *number_columns(*((v.label, width) for v in visits))),
        rows=tuple(row(name, *(mean_in_cell(e, decimals, signed=True) for e in own)) for name, own in rows.items())
        if found
        else (),
        empty="No score is there to be missed.",
        style="dense fixed",
    )
    return noted(
        table, facts, *dict.fromkeys(f"{capital(e.method)}." for e in found if not e.mark), _reasons_why(found)
    )


def _imputed_name(facts: Facts, found: Estimate) -> str:
    """What stands before an imputed change: the scores that were made worse, or those that were set aside as well."""
    if found.group == SET_ASIDE:
        events = listed(rule.name for rule in facts.protocol.plan.intercurrent if rule.change == "hypothetical")
        return f"Multiple imputation, also of scores after: {events}"
    delta = float(found.group)
    worse = f", missing scores worse by {found.key(fixed(delta, 0 if delta == int(delta) else 1))}" if delta else ""
    return f"Multiple imputation{worse}"


def _reasons_why(found: tuple[Estimate, ...]) -> str:
    return " ".join(f"{capital(reason)}." for reason in dict.fromkeys(e.reason for e in found if e.mark))


def _bounds(facts: Facts) -> Table:
    rows = [line for visit in _main_visits(facts) for line in _bound_rows(facts, visit)]
    table = Table(
        title="The ends between which the result lies, whatever the missing scores are.",
        encoding="Missing scores all at one end of the scale; for responders, nobody or everybody without a score responded.",
        columns=(
            *text_columns(("Result", 48)),
            *number_columns(("All missing worst", 42), ("With a score", 42), ("All missing best", 42)),
        ),
        rows=tuple(rows),
        empty="No score is there to set bounds to.",
        style="dense fixed",
    )
    return noted(table, facts, "Share: 95% Wilson interval. Mean change: t interval.")


def _bound_rows(facts: Facts, visit: Visit) -> list[Row]:
    decimals, keys = max(facts.primary.decimals, 1), {"measure": facts.primary.id, "visit": visit.id}
    ends = [facts.one("missing", "change_bound", group=end, **keys) for end in ("worst", "best")]
    if not facts.every("missing", "change_bound", **keys):
        return []
    cells = [
        mean_in_cell(e, decimals, signed=True) for e in (ends[0], facts.one("pain", "mean_change", **keys), ends[1])
    ]
    rows = [row(f"{visit.label}: mean change", *cells)]
    for level in facts.protocol.outcomes.responder_percents:
        none, every = (
            facts.one("missing", "responder_bound", group=f"{level}: {end}", **keys) for end in ("none", "all")
        )
        seen = facts.one("responders", "responder", population=OBSERVED, group=str(level), **keys)
        if facts.every("missing", "responder_bound", **keys):
            rows.append(
                row(f"{visit.label}: {improved(facts.primary, level)}", *(share_line(e) for e in (none, seen, every)))
            )
    return rows


def _disposition(facts: Facts) -> Table:
    stops = sorted(facts.every("missing", "stopped"), key=lambda e: (e.group != ANY, -(e.k or 0), e.group))
    rows = [_stop_row(facts, e) for e in stops]
    rows += [row("Died", _of_all(e), NOT_APPLICABLE) for e in facts.every("missing", DIED)]
    lost = {e.group: e for e in facts.every("missing", "last_score")}
    names = {"baseline": "at the start", **{visit.id: f"at {at(visit)}" for visit in facts.visits}}
    rows += [
        row(f"Last score {where}, later ones due", _of_all(lost[visit]), NOT_APPLICABLE)
        for visit, where in names.items()
        if visit in lost
    ]
    rows += [row("Followed to the last score due", _of_all(lost[COMPLETE]), NOT_APPLICABLE)] if COMPLETE in lost else []
    table = Table(
        title="Who stopped or was lost, and when.",
        encoding="Stops and deaths: of everyone treated. Scores: of those with a start score. Week: median (quartiles).",
        columns=(*text_columns(("What happened", 92)), *number_columns(("People", 42), ("Week", 40))),
        rows=tuple(rows),
        empty="Nobody was treated.",
        style="dense fixed",
    )
    return noted(
        table, facts, "A stop: an injection broken off, or an order of ketamine stopped, in the words of the record."
    )


def _stop_row(facts: Facts, stop: Estimate) -> Row:
    week = facts.one("missing", "stopped_week", group=stop.group)
    name = "Ketamine stopped" if stop.group == ANY else f"Ketamine stopped: {stop.group}"
    return row(name, _of_all(stop), quartiles_in_cell(week, 0) if stop.k else NOT_APPLICABLE)


def _of_all(found: Estimate) -> str:
    """Such as "5 of 54 (9%)"."""
    if found.mark or found.k is None or not found.n:
        return k_of_n(found)
    return f"{k_of_n(found)} ({percent(100 * found.k / found.n, found.n)})"


def _patterns(facts: Facts) -> Table:
    found = sorted(facts.every("missing", "pattern"), key=lambda e: (e.group == OTHERS, -(e.k or 0), e.group))
    width = min(22.0, 128 / max(len(facts.visits), 1))
    visits = facts.protocol.visits
    table = Table(
        title="Which visits have a score.",
        encoding="One line per pattern, the most frequent first; all of these people have a start score.",
        columns=(*text_columns(*((v.label, width) for v in visits)), *number_columns(("People", 30))),
        rows=tuple(
            row(
                *("other" if e.group == OTHERS else ANSWERS[letter] for letter in _letters(e, len(visits))),
                count_and_percent(e),
            )
            for e in found
        ),
        empty="Nobody treated has a start score.",
        style="dense tight fixed",
    )
    return noted(table, facts)


def _letters(found: Estimate, n_visits: int) -> str:
    return SEEN * n_visits if found.group == OTHERS else found.group


# --- notes ----------------------------------------------------------------------------------------------------------


def _notes(facts: Facts) -> tuple[str, ...]:
    if not facts.every("missing", "imputed_change"):
        return ()
    reasons = facts.every("missing", "reason")
    stated = listed(f"{e.group} ({counted(e.k)})" for e in reasons)
    died = facts.one("missing", DIED)
    notes = {
        "Imputed from the start score, the other visits, the global change at the primary visit and the mean dose; few people "
        f"allow only the first of these. Seed {facts.protocol.plan.seed}. An imputed score may lie beyond the end of the scale. "
        "The last score is never carried forward.": True,
        "Scores after a death are imputed as if the person lived.": bool(died.k),
        f"Records that say why they hold no value, of any measure: {stated}.": bool(reasons),
        "How people outside the analysis differ from those in it stands in the section on people at first dose.": True,
    }
    return tuple(words for words, holds in notes.items() if holds)
