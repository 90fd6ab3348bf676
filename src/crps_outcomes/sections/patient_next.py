"""Page about one person, for the clinician: which scores are due next, which are missing, and what waits for somebody."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from crps_outcomes.analysis.quality import sessions_with_monitoring
from crps_outcomes.layout import listed, row, text_columns
from crps_outcomes.numbers import count, plural
from crps_outcomes.person import records
from crps_outcomes.report_model import Section, Table
from crps_outcomes.series import BASELINE
from crps_outcomes.wording import capital

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from crps_outcomes.definitions import Visit
    from crps_outcomes.layout import Row
    from crps_outcomes.person import Person

LACKING = {"has_pressure": "no blood pressure before and after", "has_oxygen": "no oxygen saturation after"}


def patient_next(person: Person) -> Section:
    """Visits to come with their windows, and open items."""
    coming, items = _coming(person), _items(person)
    return Section(
        id="patient_next",
        short="Next, and open items",
        finding=_finding(person, coming, items),
        tables={"next": _next_table(person, coming), "open": _open_table(items)},
    )


def _finding(person: Person, coming: list[Visit], items: list[Row]) -> str:
    n = plural(person.told(len(items), "open items"), "open item")
    if not coming:
        return f"No further visit is planned; {n}"
    return f"Next scores: {person.label(coming[0].id)}, planned for {_on(person, coming[0].day)}; {n}"


def _on(person: Person, day: int) -> str:
    return person.day(person.first_dose_on + timedelta(days=day))


# --- to come --------------------------------------------------------------------------------------------------------


def _coming(person: Person) -> list[Visit]:
    """Visits whose window is not over and of which a score is still to come."""
    today = person.provenance.as_of
    return [
        visit
        for visit in person.visits
        if person.first_dose_on + timedelta(days=visit.window_days[1]) >= today and _lacking(person, visit.id)
    ]


def _lacking(person: Person, visit: str) -> list[str]:
    """The measures without a score at a visit."""
    return [
        measure.short
        for measure in person.measures
        if visit not in {one.visit for one in person.scores(measure.id)}
        and not (visit == BASELINE and measure.domain == "global change")
    ]


def _next_table(person: Person, coming: list[Visit]) -> Table:
    every = len(person.measures)
    return Table(
        title="Next scores.",
        encoding="A score counts inside the window; nearest to the planned day is best.",
        columns=text_columns(("Visit", 26), ("Planned", 28), ("Window", 56), ("Scores to come", 64)),
        rows=tuple(
            row(
                capital(person.label(visit.id)), _on(person, visit.day),
                f"{_on(person, visit.window_days[0])} to {_on(person, visit.window_days[1])}",
                "all" if len(_lacking(person, visit.id)) == every else listed(_lacking(person, visit.id)),
            )
            for visit in coming
        ),
        empty="The windows of all planned visits are over.",
        style="dense",
    )  # fmt: skip


# --- open items -----------------------------------------------------------------------------------------------------


def _items(person: Person) -> list[Row]:
    """What waits for somebody, most pressing first: answers for review, then sessions, then scores that are missing."""
    return [*_answers(person), *_unwatched(person), *_missing(person)]


def _answers(person: Person) -> Iterator[Row]:
    """The latest answer of each kind that goes to a safety review, however old; never what the answer was."""
    observations = person.tables.observations
    found: dict[str, pd.Timestamp] = {}
    for signal in person.study.protocol.safety.signals:
        is_item = (observations["measure"] == signal.measure) & (observations["item"] == signal.item)
        own = observations[is_item & (observations["value"] > signal.above) & observations["taken_on"].notna()]
        for on in own["taken_on"]:
            found[signal.category] = max(on, found.get(signal.category, on))
    for category, on in sorted(found.items()):
        what = f"{capital(category)}: an answer above the cut of the protocol; see the record"
        yield row("For clinical review", what, person.day(on.date()))


def _unwatched(person: Person) -> Iterator[Row]:
    """Sessions that lack a reading, by what they lack."""
    sessions = records(sessions_with_monitoring(person.cohort))
    for column, what in LACKING.items():
        lacking = [one for one in sessions if not one[column]]
        if lacking:
            held = (int(one["session"]) for one in lacking)
            numbers = listed(count(person.told(number, f"doses/session/{number}")) for number in held)
            name = "Session" if len(lacking) == 1 else "Sessions"
            last = max(one["began_on"] for one in lacking)
            yield row("Not fully watched", f"{name} {numbers}: {what}", person.day(last.date()))


def _missing(person: Person) -> Iterator[Row]:
    """Scores whose window is over, and start scores, that are not there."""
    lacking = _lacking(person, BASELINE)
    if lacking:
        yield row("Start score missing", listed(lacking), f"by {_on(person, 0)}")
    for visit in person.visits:
        closed = person.first_dose_on + timedelta(days=visit.window_days[1])
        lacking = _lacking(person, visit.id)
        if closed < person.provenance.as_of and lacking:
            words = "all measures" if len(lacking) == len(person.measures) else listed(lacking)
            yield row("Score missing", f"{capital(person.label(visit.id))}: {words}", f"by {person.day(closed)}")


def _open_table(items: list[Row]) -> Table:
    return Table(
        title="For the clinician: open items.",
        encoding="An answer for clinical review is named whatever the total of its questionnaire, and not what it was.",
        columns=text_columns(("Kind", 36), ("What", 102), ("When", 36)),
        rows=tuple(items),
        empty="Nothing is open.",
        style="dense",
    )
