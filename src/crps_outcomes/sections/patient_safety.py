"""Page about one person: side effects on record, and what was measured around each session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from crps_outcomes.analysis.safety import since_first_dose
from crps_outcomes.analysis.vital_signs import pre_dose_readings, window_readings
from crps_outcomes.layout import listed, number_columns, row, text_columns
from crps_outcomes.marks import NOT_AVAILABLE
from crps_outcomes.numbers import count, fixed, plural
from crps_outcomes.report_model import Section, Table
from crps_outcomes.wording import explain, sentences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crps_outcomes.layout import Row
    from crps_outcomes.person import Person

MOST_SESSIONS, MOST_TERMS = 12, 10
KINDS = {"adverse event": "side effect", "condition": "diagnosis", "discontinuation": "stop of ketamine"}
SEVERITIES = ("not recorded", "mild", "moderate", "severe")


def patient_safety(person: Person) -> Section:
    """Side effects by term, then sessions with doses and peaks, the latest first."""
    events = _events(person)
    peaks = _peaks(person)
    return Section(
        id="patient_safety",
        short="Side effects and sessions",
        finding=_finding(person, events),
        tables={"events": _event_table(person, events), "sessions": _session_table(person, peaks)},
        refs={
            **{f"event {term}": tuple(sorted(own["source_ref"])) for term, own in events.groupby("term")},
            **{f"session {int(one['session'])}": one["refs"] for one in person.sessions},
        },
    )


def _finding(person: Person, events: pd.DataFrame) -> str:
    n = plural(person.told(len(events), "events"), "event") if len(events) else "No event"
    watched = sum(not pd.isna(one["systolic"]) for one in _peaks(person))
    n_watched = count(person.told(watched, "observations/systolic"))
    if not person.sessions:
        return f"{n} on record since the first dose"
    sessions = plural(person.n_sessions, "session")
    return f"{n} on record since the first dose; blood pressure was watched in {n_watched} of {sessions}"


# --- events ---------------------------------------------------------------------------------------------------------


def _events(person: Person) -> pd.DataFrame:
    """Side effects, diagnosed harms and stops since the first dose; diagnoses that are no harm are left out."""
    found = pd.concat([since_first_dose(person.cohort, kind) for kind in KINDS], ignore_index=True)
    return found[(found["kind"] != "condition") | (found["category"] != "")]


def _event_table(person: Person, events: pd.DataFrame) -> Table:
    groups = sorted(events.groupby(["term", "kind"]), key=lambda one: (-len(one[1]), one[0]))
    rows = tuple(_event_row(person, str(term), str(kind), own) for (term, kind), own in groups[:MOST_TERMS])
    more = person.told(len(groups) - len(rows), "events/more terms")
    note = f"{plural(more, 'more term')} with fewer entries: not listed here." if more else ""
    return Table(
        title="Side effects and events.",
        encoding="In the record's own words, the most frequent first.",
        columns=(
            *text_columns(("Term", 58), ("Kind", 23)),
            *number_columns(("Times", 13)),
            *text_columns(("Worst severity", 22), ("Serious", 18), ("First, last", 40)),
        ),
        rows=rows,
        note=sentences(note, explain((cell.plain for line in rows for cell in line), 0)),
        empty="No event is on record. That is not the same as no event.",
        style="dense",
    )


def _event_row(person: Person, term: str, kind: str, own: pd.DataFrame) -> Row:
    worst = max(own["severity"], key=SEVERITIES.index)
    days = sorted(own.loc[own["onset_on"].notna(), "onset_on"])
    span = listed(dict.fromkeys(person.day(one.date()) for one in (days[0], days[-1]))) if days else NOT_AVAILABLE
    times, serious = (person.told(n, f"events/{kind}/{term}") for n in (len(own), int(own["is_serious"].sum())))
    return row(term, KINDS[kind], count(times), worst, _serious(own, serious), span.replace(" and ", ", "))


def _serious(own: pd.DataFrame, n: int) -> str:
    return "not recorded" if own["is_serious"].isna().all() else f"yes, {count(n)}" if n else "no"


# --- sessions -------------------------------------------------------------------------------------------------------


def _peaks(person: Person) -> list[dict[str, Any]]:
    """Every session with what was measured around it; missing where nothing was."""
    plan = person.study.protocol.safety
    wanted = {
        "before": (pre_dose_readings, plan.systolic, "last"),
        "systolic": (window_readings, plan.systolic, "highest"),
        "oxygen": (window_readings, plan.oxygen_saturation, "lowest"),
        "dissociation": (window_readings, plan.dissociation, "highest"),
    }
    found = {
        name: read(person.cohort, measure).set_index("session")[column].to_dict() if measure else {}
        for name, (read, measure, column) in wanted.items()
    }
    return [
        {**one, **{name: _told(person, name, one, known) for name, known in found.items()}} for one in person.sessions
    ]


def _told(person: Person, name: str, one: Mapping[str, Any], known: Mapping[Any, Any]) -> Any:
    value: Any = known.get(one["session"])
    if value is None or pd.isna(value):
        return None
    return person.told(float(value), f"observations/{name}/{one['session']}")


def _session_table(person: Person, peaks: Sequence[Mapping[str, Any]]) -> Table:
    first, last = person.study.protocol.safety.window_minutes
    rows = tuple(_session_row(person, one) for one in reversed(peaks[-MOST_SESSIONS:]))
    earlier = person.told(len(peaks) - len(rows), "doses/earlier sessions")
    note = f"{plural(earlier, 'earlier session')}: drawn above, not listed here." if earlier else ""
    return Table(
        title="Sessions.",
        encoding=f"Latest first. Highest and lowest readings from {first} to {last} minutes after the injection; nothing read is not normal.",
        columns=(
            *text_columns(("Session", 30)),
            *number_columns(
                ("Dose, mg", 20), ("mg/kg", 18), ("Systolic before", 26), ("Systolic highest", 26),
                ("Oxygen lowest, %", 27), ("Dissociation highest", 27),
            ),
        ),
        rows=rows,
        note=sentences(note, explain((cell.plain for line in rows for cell in line), 0)),
        empty="No intramuscular session is on record.",
        style="tight",
    )  # fmt: skip


def _session_row(person: Person, one: Mapping[str, Any]) -> Row:
    columns = {"dose_mg": 1, "mg_per_kg": 2, "before": 0, "systolic": 0, "oxygen": 0, "dissociation": 0}
    number = int(one["session"])
    name = person.told(f"{number}: {person.day(one['began_on'].date())}", f"doses/session/{number}/day")
    return row(name, *(_reading(one[column], decimals) for column, decimals in columns.items()))


def _reading(value: float | None, decimals: int) -> str:
    return NOT_AVAILABLE if value is None or pd.isna(value) else fixed(value, decimals)
