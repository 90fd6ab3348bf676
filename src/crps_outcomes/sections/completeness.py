"""How much of what was planned is on record, and what was refused."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes.layout import listed, noted, number_columns, row, text_columns
from crps_outcomes.marks import NOT_APPLICABLE, NOT_AVAILABLE
from crps_outcomes.numbers import count, percent, plural
from crps_outcomes.rejections import RULES
from crps_outcomes.report_model import Cell, Section, Table
from crps_outcomes.series import BASELINE
from crps_outcomes.wording import at, capital, counted, share_in_cell, why_hidden

if TYPE_CHECKING:
    from crps_outcomes.definitions import Measure
    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row


#: Percent missing from which a cell of the grid gets its next darker tint.
MISSING_EDGES = (0, 5, 10, 20, 35)
LEAST_FOR_PERCENT = 10  # of fewer scores the counts say all
_HOLES_NAMED = 3
#: Kind of change -> what it means in the reader's words, in the order of reading.
CHANGES = {
    "new": "new",
    "changed": "changed at the source",
    "entered-in-error": "marked as entered in error",
    "deleted": "deleted at the source",
    "late": "found late, though older than the pull before",
    "left": "no longer about anybody enrolled",
}
#: Said of every release: where a reason was left out, even that there is one would tell, so no sum of a rule is called whole.
MAY_BE_MORE = "n counts what may be shown: a rule can have refused more, and other rules too."
STAGES = ("pull", "screen", "tabulate", "score")


def completeness(facts: Facts) -> Section:
    """Values on record of values due, and refused resources by rule."""
    return Section(
        id="completeness",
        short="Completeness and data quality",
        finding=_finding(facts),
        lede=(
            "Due: the visit window has closed. A visit that is not due yet counts nowhere, not even with a value. "
            "Nothing is dropped in silence: what is refused is counted with its rule."
        ),
        tables={"grid": _grid(facts), "refused": _refused(facts)},
        text={"pull": (pull_in_words(facts),)},
    )


def completed_at_primary(facts: Facts) -> Estimate:
    """Scores of the primary measure on record at the primary visit, of those due."""
    return facts.one("completeness", "completed", measure=facts.primary.id, visit=facts.primary_visit.id)


def _finding(facts: Facts) -> str:
    found = completed_at_primary(facts)
    name = f"{at(facts.primary_visit)} {facts.primary.short.lower()} scores"
    if found.n == 0:
        return f"No {at(facts.primary_visit)} {facts.primary.short.lower()} score is due yet"
    if found.mark or not found.n:
        return f"How many {name} are on record is not shown: {why_hidden(found)}"
    share = f" ({percent(100 * (found.k or 0) / found.n, found.n)})" if found.n >= LEAST_FOR_PERCENT else ""
    return f"{share_in_cell(found)} {name} that were due are on record{share}"


# --- grid -----------------------------------------------------------------------------------------------------------


def _grid(facts: Facts) -> Table:
    visits = [(BASELINE, "Start"), *((visit.id, visit.label) for visit in facts.visits)]
    width = min(19.0, 132.0 / len(visits))
    rows = tuple(_grid_row(facts, measure, [visit for visit, _ in visits]) for measure in facts.outcome_measures)
    table = Table(
        title="Values on record of values due.",
        encoding="Everyone treated; the darker, the larger the share that is missing.",
        columns=(
            *text_columns(("Measure", 174 - width * len(visits))),
            *number_columns(*((label, width) for _, label in visits)),
        ),
        rows=rows if facts.every("completeness", "completed") else (),
        empty=facts.nothing("Nobody was treated, so no value is due."),
        style="heat dense",
    )
    return noted(table, facts, "Not due: nobody has reached the visit.")


def _grid_row(facts: Facts, measure: Measure, visits: list[str]) -> Row:
    found = [(visit, facts.one("completeness", "completed", measure=measure.id, visit=visit)) for visit in visits]
    return row(measure.short, *(_grid_cell(e) for _, e in found))


def _grid_cell(estimate: Estimate) -> Cell:
    if not estimate.statistic:
        return Cell(NOT_APPLICABLE)
    if estimate.n == 0:
        return Cell("not due")
    if estimate.mark or estimate.k is None:
        return Cell(estimate.mark or NOT_AVAILABLE)
    missing = 100 * (1 - estimate.k / (estimate.n or 1))
    return Cell(share_in_cell(estimate), tint=sum(missing > edge for edge in MISSING_EDGES))


# --- what was refused -----------------------------------------------------------------------------------------------


def _refused(facts: Facts) -> Table:
    found = sorted(_by_rule(facts).items(), key=lambda one: (STAGES.index(one[0][0]), one[0][1]))
    more = f" {MAY_BE_MORE}" if facts.releasable.edition == "release" else ""
    table = Table(
        title="Refused, by rule.",
        encoding="Resources or values that do not count, in the order of the stages that refuse them." + more,
        columns=(*text_columns(("Rule", 44), ("Stage", 16), ("Meaning", 100)), *number_columns(("n", 14))),
        rows=tuple(row(rule, stage, capital(meaning), counted(n)) for (stage, rule), (meaning, n) in found),
        empty="Nothing was refused." if not more else "Nothing that may be shown was refused.",
        style="dense tight fixed",
    )
    return noted(table, facts)


def _by_rule(facts: Facts) -> dict[tuple[str, str], tuple[str, int | None]]:
    """Meaning and number by stage and rule, whatever the detail; unknown as soon as one part is hidden."""
    found: dict[tuple[str, str], tuple[str, int | None]] = {}
    for r in facts.releasable.rejections.to_dict("records"):
        key = (str(r["stage"]), str(r["rule"]))
        before = found[key][1] if key in found else 0
        own = f"rejections/{r['rule']}/{r['reason']}/{r['stage']}"
        n = None if before is None or pd.isna(r["n"]) else before + facts.told(int(r["n"]), own)
        found[key] = (RULES[key[1]][1] if key[1] in RULES else str(r["reason"]), n)
    return found


def pull_in_words(facts: Facts) -> str:
    """Two sentences on the pull: whether anything is known to be lacking, how much came, and of how many types."""
    sources = facts.releasable.sources
    status = {
        "complete": "Data pull: complete.",
        "unverified": "Data pull: unverified, because the source did not say how much there should be.",
        "incomplete": f"Data pull: INCOMPLETE. {capital(missing_in_words(facts))}.",
    }[facts.provenance.data_status]
    types, holes, total = (
        None if pd.isna(n) else facts.told(int(n), f"sources/{name}")
        for name, n in (
            ("types", len(sources)),
            ("holes", (sources["hole"] != "").sum()),
            ("n", sources["n"].sum(skipna=False)),
        )
    )
    received = "Resources of " if total is None else f"{plural(total, 'resource')} of "
    return f"{status} {received}{plural(types, 'type')}, {plural(holes, 'hole')}."


def draft_in_words(facts: Facts) -> str:
    """What every page of a draft says."""
    return f"DRAFT - INCOMPLETE: {missing_in_words(facts)}"


def missing_in_words(facts: Facts) -> str:
    """Which resource types are missing or cut short, with the fault code of each."""
    holes = facts.provenance.holes
    more = [f"{len(holes) - _HOLES_NAMED} more"] if len(holes) > _HOLES_NAMED else []
    return f"{listed((*holes[:_HOLES_NAMED], *more))} missing"


# --- what is different from the data before -------------------------------------------------------------------------


def changes_in_words(facts: Facts) -> str:
    """One sentence on what changed at the source since the data before; nothing for the first data.

    For reports that do not tell what changed since the last report of their kind.
    """
    if not facts.provenance.compared_with_on:
        return ""
    since = f"the data of {facts.day(date.fromisoformat(facts.provenance.compared_with_on))}"
    if facts.releasable.edition == "release":
        return f"Corrections and deletions since {since} are included."
    told = facts.releasable.changes.groupby("change", sort=False)["n"].sum()
    found = [
        f"{count(facts.told(int(told[one]), f'changes/{one}'))} {words}"
        for one, words in CHANGES.items()
        if one in told.index
    ]
    return f"Since {since}: {', '.join(found)}." if found else f"Nothing changed since {since}."
