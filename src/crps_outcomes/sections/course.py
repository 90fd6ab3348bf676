"""The change of pain at every visit, estimated from all visits at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.facts import shown
from crps_outcomes.layout import noted, number_columns, row, text_columns
from crps_outcomes.report_model import Section, Table
from crps_outcomes.series import change_at
from crps_outcomes.wording import capital, counted, mean_in_cell, why_hidden

if TYPE_CHECKING:
    from crps_outcomes.definitions import Visit
    from crps_outcomes.facts import Facts
    from crps_outcomes.layout import Row


def course(facts: Facts) -> Section:
    """The modelled change beside the observed one."""
    return Section(
        id="course",
        short="All visits at once",
        finding=_finding(facts),
        lede=(
            "A mixed model uses every score of everybody treated who has a start score, so people lost later still count. "
            "It takes what was seen before as a guide to what was missed."
        ),
        tables={"change": _change(facts)},
    )


def _finding(facts: Facts) -> str:
    visits = (facts.primary_visit, facts.later_visit)
    changes = change_at(facts, "course", facts.primary, visits, "model_change")
    if changes:
        return f"Estimated from all visits at once, {facts.primary.short.lower()} changed by {changes}"
    if facts.is_release:
        return "The change estimated from all visits at once is shown in the internal edition only"
    found = facts.one("course", "model_change", visit=facts.primary_visit.id)
    return f"The change is not estimated from all visits at once: {why_hidden(found)}"


def _change(facts: Facts) -> Table:
    known = facts.every("course", "model_change")
    table = Table(
        title=f"Change in {facts.primary.short.lower()} from the start, observed and estimated.",
        encoding="Without: due at this visit but no score. Observed: people with a score at the visit.",
        columns=(
            *text_columns(("Visit", 30)),
            *number_columns(
                ("Without", 24), ("Observed change (95% CI)", 58), ("Estimated change (95% CI)", 58),
            ),
        ),
        rows=tuple(_change_row(facts, visit) for visit in facts.visits) if known else (),
        empty="Shown in the internal edition only."
        if facts.is_release
        else "No score is there to estimate a course from.",
        style="fixed",
    )  # fmt: skip
    methods = dict.fromkeys(e.method for e in shown(known))
    reasons = dict.fromkeys(e.reason for e in known if e.mark)
    people = f"{counted(known[0].n)} people with a start score are in it." if methods else ""
    return noted(table, facts, *(f"{capital(words)}." for words in (*methods, *reasons)), people)


def _change_row(facts: Facts, visit: Visit) -> Row:
    keys, decimals = {"measure": facts.primary.id, "visit": visit.id}, max(facts.primary.decimals, 1)
    observed, found = facts.one("pain", "mean_change", **keys), facts.one("course", "model_change", **keys)
    return row(
        visit.label,
        counted(found.n_missing),
        mean_in_cell(observed, decimals, signed=True),
        mean_in_cell(found, decimals, signed=True),
    )
