"""What the people are like, and whether those outside the outcome analysis differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.layout import listed, noted, number_columns, row, text_columns
from crps_outcomes.numbers import fixed
from crps_outcomes.report_model import Section, Table
from crps_outcomes.sections.dosing import ROUTES
from crps_outcomes.wording import capital, count_and_percent, counted, marked, quartiles_in_cell

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row
    from crps_outcomes.report_model import Column

TREATED, ANALYSED, NOT_ANALYSED = "treated", "analysed", "not analysed"
NOTABLE = 0.20
WIDTHS = {TREATED: 30.0, ANALYSED: 35.0, NOT_ANALYSED: 41.0}
LEAST_TO_COMPARE = 10

#: What stands before the colon of a group, in the order of the table, and how it is printed.
KINDS = {
    "sex": "Sex: {}",
    "crps_type": "CRPS type: {}",
    "limb": "Limb: {}",
    "budapest": "Budapest criteria: {}",
    "refractory": "Refractory by the rule below: {}",
    "crps_match": "Diagnosis found by: {}",
    "earlier": "Before: {}",
    "at start": "Going on: {}",
}

TREATMENTS = ("earlier", "at start")
_PEOPLE = tuple(kind for kind in KINDS if kind not in TREATMENTS)

ANYTHING = "anything"
AFTER = {
    ANYTHING: "Any of these",
    "further series": "A further series of sessions",
    **{
        f"other ketamine route: {route}": f"Ketamine by another route: {name.lower()}" for route, name in ROUTES.items()
    },
}

#: The rules that find a diagnosis, as people write them.
MATCHES = {"icd-10-cm": "ICD-10-CM", "icd-10": "ICD-10", "icd-11": "ICD-11", "snomed": "SNOMED CT", "text": "its words"}


def participants(facts: Facts) -> Section:
    """The baseline table: everyone treated, in the analysis and not in it, with standardised differences."""
    return Section(
        id="participants",
        short="People at first dose",
        finding=_finding(facts),
        tables={"baseline": _baseline(facts), "treatments": _treatments(facts), "after": _after(facts)},
    )


def _finding(facts: Facts) -> str:
    known = [abs(e.estimate) for e in facts.every("participants", "smd") if not e.mark and e.estimate is not None]
    outside = _outside(facts)
    if outside is not None and 0 < outside < LEAST_TO_COMPARE:
        verb = "person outside the analysis is" if outside == 1 else "people outside the analysis are"
        return f"{outside} {verb} too few to tell whether they differ from those in it"
    if known and outside:
        notable, of = (
            facts.told(sum(size > least for size in known), f"participants/{name}")
            for name, least in (("notable", NOTABLE), ("compared", -1))
        )
        verb = "characteristic differs" if notable == 1 else "characteristics differ"
        return f"{notable or 'None'} of {of} {verb} by more than 0.20 between people in and outside the analysis"
    for population, who in ((TREATED, "Treated people"), (ANALYSED, "People in the analysis")):
        age = facts.one("participants", "median", population=population, measure="age_years")
        if age.has_interval:
            return f"{who} had a median age of {quartiles_in_cell(age, 0)} years at the first dose"
    return "People at first dose"


def _baseline(facts: Facts) -> Table:
    populations = _populations(facts)
    rows = [*_median_rows(facts, populations), *_share_rows(facts, populations, _PEOPLE)]
    table = Table(
        title="People at first dose.",
        encoding="Median (lower to upper quartile) or count (percent).",
        columns=_columns(facts, populations, "Characteristic"),
        rows=tuple(rows) if populations else (),
        empty=facts.nothing("Nothing is known about people at first dose."),
        style="dense tight",
    )
    return noted(table, facts, *_notes(facts, populations), _rules(facts))


def _treatments(facts: Facts) -> Table:
    """What people had had, and what they went on with, in the columns of the table before."""
    populations = _populations(facts)
    rows = _share_rows(facts, populations, TREATMENTS)
    table = Table(
        title="Other treatments.",
        encoding="Before: on record by the day of the first dose. Going on: not ended by then; an order without an end that is "
        "no longer active is not counted.",
        columns=_columns(facts, populations, "Treatment"),
        rows=tuple(rows) if populations else (),
        empty=facts.nothing("No other treatment is on record by the first dose."),
        style="dense tight",
    )
    return noted(table, facts, "One person can have several treatments.")


def _columns(facts: Facts, populations: Sequence[str], first: str) -> tuple[Column, ...]:
    heads = {TREATED: "All treated", ANALYSED: "In the analysis", NOT_ANALYSED: "Not in the analysis"}
    columns = [(f"{heads[p]} (n\u00a0=\u00a0{_n(facts, p)})", WIDTHS[p]) for p in populations]
    if NOT_ANALYSED in populations:
        columns.append(("Standardised difference", 24.0))
    left = min(100.0, 174.0 - sum(width for _, width in columns))
    return (*text_columns((first, left)), *number_columns(*columns))


def _populations(facts: Facts) -> tuple[str, ...]:
    """The columns worth printing: a group that is empty or altogether hidden has none."""
    rows = facts.every("participants", "median") + facts.every("participants", "share")
    filled = {e.population for e in rows if not e.mark}
    return tuple(p for p in (TREATED, ANALYSED, NOT_ANALYSED) if p in filled)


def _notes(facts: Facts, populations: Sequence[str]) -> tuple[str, ...]:
    if NOT_ANALYSED not in populations:
        return ("Nobody, or too few to show, is outside the analysis, so no groups are set side by side.",)
    few = (_outside(facts) or LEAST_TO_COMPARE) < LEAST_TO_COMPARE
    return (
        "Standardised difference: in the analysis minus not in it, in standard deviations; above 0.20 in either "
        "direction is worth a look.",
        "With fewer than 10 people in a group the difference says little." if few else "",
    )


def _rules(facts: Facts) -> str:
    """What the words about context mean, with the state of the rule."""
    plan = facts.protocol.context
    once = f"; {listed(plan.done_once)} as soon as done" if plan.done_once else ""
    return (
        f"Refractory{marked('', plan.state)}: {plan.refractory_classes} or more classes of treatment on record by the first "
        f"dose, each for {fixed(plan.refractory_weeks, 0)} weeks or longer{once}; not known: no earlier treatment on record. "
        "Budapest criteria: from recorded symptoms and signs; not examined counts as neither present nor absent."
    )


def _after(facts: Facts) -> Table:
    """Intercurrent events, most frequent first."""
    found = sorted(facts.every("participants", "after"), key=lambda e: (bool(e.mark), -(e.k or 0), e.group))
    happened, total = [e for e in found if e.group != ANYTHING], [e for e in found if e.group == ANYTHING]
    table = Table(
        title="What happened after the first dose and can change how later scores are read.",
        encoding="People with each event at any time after the day of the first dose.",
        columns=(*text_columns(("Event", 110)), *number_columns(("People", 40))),
        rows=tuple(
            row(AFTER.get(e.group, capital(e.group)), count_and_percent(e)) for e in (*happened, *total) if happened
        ),
        empty=facts.nothing("Nothing of the kind is on record."),
        style="dense",
    )
    return noted(table, facts, "What each does to the scores is fixed in the plan: see the planned endpoints.")


def _n(facts: Facts, population: str) -> str:
    return counted(_outside(facts) if population == NOT_ANALYSED else facts.n_at(population))


def _outside(facts: Facts) -> int | None:
    treated, analysed = facts.n_at(TREATED), facts.n_at(ANALYSED)
    return None if treated is None or analysed is None else treated - analysed


def _median_rows(facts: Facts, populations: Sequence[str]) -> list[Row]:
    names = {"age_years": "Age in years", "years_since_onset": "Years since onset"}
    scores = {
        m.id: f"{m.short}, start" for m in facts.outcome_measures if m.id != facts.protocol.outcomes.global_change
    }
    rows = []
    for measure, name in {**names, **scores}.items():
        found = [facts.one("participants", "median", population=p, measure=measure) for p in populations]
        if any(facts.every("participants", "median", measure=measure)):
            cells = [quartiles_in_cell(e, _decimals(e)) for e in found]
            rows.append(row(name, *cells, *_difference(facts, populations, measure=measure)))
    return rows


def _decimals(estimate: Estimate) -> int:
    """No decimals where median and quartiles are whole numbers, else one."""
    values = (estimate.estimate, estimate.lower, estimate.upper)
    return 0 if all(value is None or abs(value - round(value)) < 0.05 for value in values) else 1


def _share_rows(facts: Facts, populations: Sequence[str], kinds: Container[str]) -> list[Row]:
    groups = {e.group for e in facts.every("participants", "share") if e.group.split(": ", 1)[0] in kinds}
    if {"sex: female", "sex: male"} == {group for group in groups if group.startswith("sex: ")}:
        groups.remove("sex: male")  # all the others
    rows = []
    for group in sorted(groups, key=lambda group: (_rank(group), group)):
        found = [facts.one("participants", "share", population=p, group=group) for p in populations]
        cells = [count_and_percent(e) for e in found]
        rows.append(row(_label(group), *cells, *_difference(facts, populations, group=group)))
    return rows


def _rank(group: str) -> int:
    kind = group.split(": ", 1)[0]
    return [*KINDS].index(kind) if kind in KINDS else len(KINDS)


def _label(group: str) -> str:
    kind, _, name = group.partition(": ")
    return KINDS.get(kind, kind + ": {}").format(MATCHES.get(name, name) if kind == "crps_match" else name)


def _difference(facts: Facts, populations: Sequence[str], **keys: str) -> tuple[str, ...]:
    if NOT_ANALYSED not in populations:
        return ()
    found = facts.one("participants", "smd", **keys)
    if found.mark or found.estimate is None:
        return (found.mark or "[x]",)
    return (fixed(found.estimate, 2, signed=True),)
