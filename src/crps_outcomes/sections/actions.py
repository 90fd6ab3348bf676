"""What somebody should see to now, person by person, by code: the internal edition only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crps_outcomes.layout import noted, number_columns, row, text_columns
from crps_outcomes.numbers import count, day, plural
from crps_outcomes.report_model import Section, Table
from crps_outcomes.wording import capital

if TYPE_CHECKING:
    import pandas as pd

    from crps_outcomes.facts import Facts
    from crps_outcomes.layout import Row

#: A table does not break over pages, so it stays short.
ROWS_A_TABLE = 20
STILL_COUNTS = "score overdue"
#: Kind of matter, most pressing first -> title and head of its day.
TITLES = {
    "answer to review": ("Answers for a safety review", "Answered on"),
    "score overdue": ("Scores overdue that still count", "Planned on"),
    "score missed": ("Scores missed lately", "Planned on"),
    "session not fully watched": ("Sessions not fully watched", "Session on"),
}


def actions(facts: Facts) -> Section:
    """The action list, most pressing first."""
    found = facts.releasable.actions
    return Section(
        id="actions",
        short="Action list",
        finding=_finding(facts),
        lede=_lede(facts),
        tables={} if found is None else _tables(facts, found),
    )


def _finding(facts: Facts) -> str:
    found = facts.releasable.actions
    if found is None:
        return "The action list is in the internal edition only"
    n, n_people = facts.told(len(found), "actions/n"), facts.told(found["code"].nunique(), "actions/people")
    return f"{plural(n, 'matter')} to see to, in {plural(n_people, 'person', 'people')}" if n else "Nothing to see to"


def _lede(facts: Facts) -> str:
    if facts.releasable.actions is None:
        return "It names single people by a code of the clinic, so it never leaves the clinic."
    plan = facts.protocol.quality
    return (
        "People by the code that this clinic's reports give them; crps-outcomes who CODE tells on the clinic's own machine who it "
        f"is. Scores of {facts.primary.short.lower()}; scores missed and sessions of the last {plan.list_days} days, answers of "
        f"the last {plan.answer_days} days. An answer is listed whatever the total of its questionnaire, and not what it was."
    )


def _tables(facts: Facts, found: pd.DataFrame) -> dict[str, Table]:
    """A table per kind of matter, in parts that fit a page."""
    tables = {}
    for kind in TITLES:
        own = found[found["kind"] == kind].to_dict("records")
        for number, start in enumerate(range(0, len(own), ROWS_A_TABLE), 1):
            table = _table(facts, kind, own[start : start + ROWS_A_TABLE], number, len(own))
            tables[f"{kind.replace(' ', '_')}_{number}"] = noted(table, facts)
    return tables


def _table(facts: Facts, kind: str, part: list[dict[Any, Any]], number: int, n: int) -> Table:
    title, head = TITLES[kind]
    words = f", part {number}" if n > ROWS_A_TABLE else ""
    until = text_columns(("Counts until", 24)) if kind == STILL_COUNTS else ()
    return Table(
        title=f"{title}{words}.",
        encoding=f"{plural(facts.told(n, f'actions/{kind}/n'), 'entry', 'entries')}, oldest first.",
        columns=(
            *text_columns(("Person", 28), ("What", 98 - sum(column.width_mm for column in until)), (head, 26)),
            *number_columns(("Days since", 22)),
            *until,
        ),
        rows=tuple(_row(facts, one, kind) for one in part),
        style="dense fixed",
    )


def _row(facts: Facts, one: dict[Any, Any], kind: str) -> Row:
    """A matter; its numbers remember the row of the list, which the person's code and the day name."""
    own = f"actions/{kind}/{one['code']}/{one['since_on']:%Y-%m-%d}"
    until = (facts.told(day(one["until_on"].date()), own),) if kind == STILL_COUNTS else ()
    return row(
        facts.told(str(one["code"]), own),
        facts.told(capital(str(one["what"])), own),
        facts.told(day(one["since_on"].date()), own),
        count(facts.told(int(one["days"]), own)),
        *until,
    )
