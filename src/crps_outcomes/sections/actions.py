"""What somebody should see to now, person by person, by code: the internal edition only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from crps_outcomes.layout import noted, number_columns, row, text_columns
from crps_outcomes.marks import NOT_APPLICABLE
from crps_outcomes.numbers import count, day, plural
from crps_outcomes.report_model import Section, Table
from crps_outcomes.wording import capital

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crps_outcomes.facts import Facts
    from crps_outcomes.layout import Row

#: A table longer than a page would be cut.
ROWS_A_TABLE = 40
#: Kind of matter -> title, head of the day, head of the days since.
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
    n, n_people = len(found), found["code"].nunique()
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
    for kind, (title, head) in TITLES.items():
        own = found[found["kind"] == kind].to_dict("records")
        parts = range(0, len(own), ROWS_A_TABLE)
        for number, start in enumerate(parts, 1):
            part = own[start : start + ROWS_A_TABLE]
            words = f", part {number} of {len(parts)}" if len(parts) > 1 else ""
            table = Table(
                title=f"{title}{words}.",
                encoding=f"{plural(len(own), 'entry', 'entries')}, oldest first.",
                columns=(
                    *text_columns(("Person", 28), ("What", 78), (head, 26)),
                    *number_columns(("Days since", 18)),
                    *text_columns(("Counts until", 24)),
                ),
                rows=tuple(_row(one) for one in part),
                style="dense fixed",
            )
            tables[f"{kind.replace(' ', '_')}_{number}"] = noted(table, facts)
    return tables


def _row(one: Mapping[Any, Any]) -> Row:
    since, until = (
        NOT_APPLICABLE if pd.isna(one[name]) else day(one[name].date()) for name in ("since_on", "until_on")
    )
    return row(str(one["code"]), capital(str(one["what"])), since, count(int(one["days"])), until)
