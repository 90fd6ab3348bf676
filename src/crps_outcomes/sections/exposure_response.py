"""Dose and experience beside change: exploratory, and never as if doses had been given by chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.facts import shown
from crps_outcomes.layout import noted, number_columns, row, text_columns
from crps_outcomes.numbers import count, fixed, plural
from crps_outcomes.report_model import Section, Table
from crps_outcomes.wording import (
    at,
    capital,
    counted,
    mean_in_cell,
    mean_in_words,
    mean_or_why,
    quartiles_in_cell,
    why_hidden,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row

WITHIN, BETWEEN, TOTAL = "within a person", "between people", "total"
WITHIN_PLAIN = "within a person, mean course left in"
THIRDS = ("lowest third", "middle third", "highest third")
INTERNAL_ONLY = "Shown in the internal edition only: its counts are not part of the audit for release."


def exposure_response(facts: Facts) -> Section:
    """Slopes of change on dose, thirds of the dose side by side, and experience scores against change."""
    return Section(
        id="exposure_response",
        short="Dose and change",
        finding=_finding(facts),
        lede=(
            "Exploratory. Nobody was given a dose by chance: who responds little is given more, who bears little is given "
            "less, and later sessions have higher doses. So a slope says how dose and change went together here, and not "
            "what another dose would do."
        ),
        tables=_tables(facts),
        text={"notes": () if facts.is_release else tuple(_notes(facts))},
    )


def _tables(facts: Facts) -> dict[str, Table]:
    if facts.is_release:
        return {"slopes": _slopes(facts)}
    return {"slopes": _slopes(facts), "thirds": _thirds(facts), "experience": _experience(facts)}


def _of(facts: Facts, statistic: str, group: str) -> Estimate:
    return facts.one("exposure_response", statistic, group=group)


def _finding(facts: Facts) -> str:
    if facts.is_release:
        return "How dose and change went together is in the internal edition only"
    found = _of(facts, "slope", WITHIN)
    if found.mark:
        return f"Dose and change cannot be set beside each other: {why_hidden(found)}"
    words = mean_in_words(found, 2, signed=True, unit="points")
    return f"Exploratory: 0.1 mg/kg more per session went with {words} of change within the same person"


# --- slopes ---------------------------------------------------------------------------------------------------------


def _slopes(facts: Facts) -> Table:
    name, when = facts.primary.short.lower(), at(facts.primary_visit)
    between_scores = f"Change in {name} between neighbouring scores, per 0.1 mg/kg and session between them"
    named = (
        (f"{between_scores}: within a person", _of(facts, "slope", WITHIN), 2),
        ("The same between people", _of(facts, "slope", BETWEEN), 2),
        ("Within a person, without taking the mean course out", _of(facts, "slope", WITHIN_PLAIN), 2),
        (f"Change in {name} at {when}, per 1 mg/kg in total before it", _of(facts, "slope", TOTAL), 2),
        ("The same by rank (Spearman, −1 to 1)", _of(facts, "rank_correlation", TOTAL), 2),
    )
    known = [(text, found, decimals) for text, found, decimals in named if found.statistic]
    table = Table(
        title="Dose beside change: slopes.",
        encoding="Below 0: more dose went with a larger fall. The mean change of everybody up to each visit is taken out of "
        "the first two rows.",
        columns=(
            *text_columns(("", 96)),
            *number_columns(("People", 16), ("Without", 18), ("Points (95% CI)", 44)),
        ),
        rows=() if facts.is_release else tuple(_slope_row(*one) for one in known),
        empty=INTERNAL_ONLY if facts.is_release else "No dose and no change can be set beside each other.",
        style="fixed",
    )
    return noted(table, facts, *dict.fromkeys(f"{capital(f.method)}." for _, f, _ in known if not f.mark))


def _slope_row(text: str, found: Estimate, decimals: int) -> Row:
    return row(text, count(found.n or 0), counted(found.n_missing), mean_or_why(found, decimals))


def _thirds(facts: Facts) -> Table:
    changes = [_of(facts, "third_change", third) for third in THIRDS]
    table = Table(
        title=f"People by third of their mean dose per session, change by {at(facts.primary_visit)}.",
        encoding="The groups differ in who is in them, so they must not be set against each other.",
        columns=(
            *text_columns(("Mean dose per session", 54)),
            *number_columns(("People", 20), ("mg/kg, median (quartiles)", 48), ("Mean change (95% CI)", 52)),
        ),
        rows=tuple(_third_row(facts, one) for one in changes) if shown(changes) else (),
        empty=facts.nothing("Fewer than 10 people have a known dose and a change: no groups."),
        style="fixed",
    )
    return noted(table, facts)


def _third_row(facts: Facts, change: Estimate) -> Row:
    dose = _of(facts, "third_dose", change.group)
    return row(
        change.group.capitalize(), counted(change.n), quartiles_in_cell(dose, 2), mean_in_cell(change, 1, signed=True)
    )


# --- experience -----------------------------------------------------------------------------------------------------


def _experience(facts: Facts) -> Table:
    found = facts.every("exposure_response", "experience")
    table = Table(
        title=f"What sessions were like, beside the change by {at(facts.primary_visit)}: rank correlation.",
        encoding="Below 0: a stronger experience went with a larger fall. A stronger dose may stand behind both.",
        columns=(
            *text_columns(("Mean score of a person before the score at this visit", 80)),
            *number_columns(("People", 18), ("Without", 18)),
            *text_columns(("Spearman (95% CI), or why not", 58)),
        ),
        rows=tuple(_experience_row(facts, one) for one in found) if any(one.n for one in found if not one.mark) else (),
        empty=_not_collected(facts, found),
        style="fixed",
    )
    return noted(table, facts)


def _experience_row(facts: Facts, found: Estimate) -> Row:
    name = facts.study.measures[found.measure].short
    return row(name, counted(found.n, "0"), counted(found.n_missing, "all"), mean_or_why(found, 2))


def _not_collected(facts: Facts, found: tuple[Estimate, ...]) -> str:
    names = ", ".join(facts.study.measures[one.measure].short for one in found)
    return (
        f"{names}: collected in too few people or in nobody, so nothing is set beside the change."
        if names
        else "No scale is declared."
    )


# --- words ----------------------------------------------------------------------------------------------------------


def _notes(facts: Facts) -> Iterator[str]:
    with_dose, without = (
        _of(facts, "count", group) for group in ("changes with a dose", "changes without a known dose")
    )
    if with_dose.k is not None and without.k is not None:
        yield (
            f"{plural(with_dose.k, 'change')} between neighbouring scores have sessions with a known dose between them, "
            f"{count(without.k)} have not and are left out. A score on the day of a session is taken as made before it."
        )
    within = _of(facts, "slope", WITHIN)
    if not within.mark and within.estimate is not None:
        yield (
            "Within a person: weeks with more dose against weeks with less of the same person. Titration bends this too, "
            f"in a direction nobody can read off these {fixed(within.n or 0, 0)} people."
        )
