"""Page about one person: every score at the start and the latest one, held against declared thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.layout import number_columns, row, text_columns
from crps_outcomes.marks import NOT_APPLICABLE, NOT_AVAILABLE
from crps_outcomes.numbers import fixed
from crps_outcomes.person_scores import is_reliable, reached, start_of, thresholds_of
from crps_outcomes.report_model import Section, Table
from crps_outcomes.wording import explain, sentences

if TYPE_CHECKING:
    from crps_outcomes.definitions import Measure
    from crps_outcomes.layout import Row
    from crps_outcomes.person import Person


def patient_scores(person: Person) -> Section:
    """A row per measure with at least one score."""
    measures = [measure for measure in person.measures if person.scores(measure.id)]
    rows = tuple(_row(person, measure) for measure in measures)
    table = Table(
        title="Start and latest score.",
        encoding="A threshold tells what groups of people called a change; it does not tell what this person feels.",
        columns=(
            *text_columns(("Measure", 50)),
            *number_columns(("Start", 13), ("Latest", 38), ("Change", 15)),
            *text_columns(("Thresholds reached", 29), ("Reliable change", 29)),
        ),
        rows=rows,
        note=sentences(explain((cell.plain for line in rows for cell in line), 0)),
        empty="No score is on record.",
        style="dense",
    )
    return Section("patient_scores", "Scores", _finding(person, measures), tables={"scores": table})


def _finding(person: Person, measures: list[Measure]) -> str:
    primary = person.measures[0]
    if primary not in measures:
        return f"No {primary.short.lower()} score is on record"
    start, last = start_of(person, primary), person.scores(primary.id)[-1]
    if start is None or last is start:
        return f"There is no change of {primary.short.lower()} to tell: it needs a start score and a later one"
    change = last.value - start.value
    words = is_reliable(primary, change)
    beyond = (
        ""
        if words == "not declared"
        else f", {words.split(' [', maxsplit=1)[0].replace(' ', ' the reliable change of ', 1)}"
    )
    size = fixed(abs(change), primary.decimals)
    how = f"{size} points {'lower' if change < 0 else 'higher'}" if change else "the same"
    return f"{primary.short} is {how} at {person.label(last.visit)} {'than' if change else 'as'} at the start{beyond}"


def _row(person: Person, measure: Measure) -> Row:
    start, last = start_of(person, measure), person.scores(measure.id)[-1]
    later = last if last is not start else None
    began = NOT_APPLICABLE if measure.domain == "global change" else NOT_AVAILABLE
    name = f"{measure.short}, {measure.unit_label}" if measure.unit_label else measure.short
    first = _value(measure, start.value) if start else began
    latest = f"{_value(measure, later.value)}, {person.label(later.visit)}" if later else NOT_AVAILABLE
    if start is None or later is None:
        return row(name, first, latest, began if start is None else NOT_AVAILABLE, NOT_APPLICABLE, NOT_APPLICABLE)
    change = later.value - start.value
    return row(
        name, first, latest, fixed(change, measure.decimals, signed=True), _reached(person, measure, change),
        is_reliable(measure, change),
    )  # fmt: skip


def _value(measure: Measure, value: float) -> str:
    words = next((answer.display for answer in measure.answers if answer.value == value), "")
    return words if measure.domain == "global change" and words else fixed(value, measure.decimals)


def _reached(person: Person, measure: Measure, change: float) -> str:
    held = thresholds_of(person, measure)
    if not held:
        return "none declared"
    return "; ".join(one.words for one in held if reached(change, one)) or "none"
