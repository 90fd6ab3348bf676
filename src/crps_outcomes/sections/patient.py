"""Page about one person, first half: what was measured, with the doses below it, and what such a page cannot tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.figure_kit import drawing
from crps_outcomes.layout import listed
from crps_outcomes.numbers import fixed, plural
from crps_outcomes.person_figure import Level, Mark, Panel, trajectory
from crps_outcomes.person_scores import start_of, thresholds_of
from crps_outcomes.report_model import Figure, Run, Section

if TYPE_CHECKING:
    from crps_outcomes.definitions import Measure
    from crps_outcomes.person import Person, Score

CANNOT_TELL = (
    "Whether a change comes from ketamine: pain of CRPS changes by itself, and other treatments change too.",
    "How it was between the scores: each dot is one answer on one day.",
    "Whether a change matters to this person: thresholds come from groups, ask the person.",
    "What was not recorded: no event on record is not the same as no event.",
)


def patient(person: Person) -> Section:
    """Headline, the course of every measure above the doses, and the limits of the page."""
    course = _course(person)
    return Section(
        id="patient",
        short="Course",
        finding="Scores over time, and doses",
        headline=_headline(person),
        figures={"course": course},
        text={"absent": _absent(person), "cannot_tell": CANNOT_TELL},
        refs={f"{measure.id}/{one.visit}": one.refs for measure in person.measures for one in person.scores(measure.id)},
    )  # fmt: skip


# --- headline -------------------------------------------------------------------------------------------------------


def _headline(person: Person) -> tuple[Run, ...]:
    """The primary measure and function from the start to the latest score, and how many sessions there were."""
    runs = [run for measure in person.measures[:2] for run in _from_to(person, measure)]
    sessions = plural(person.n_sessions, "intramuscular session")
    return (*runs, Run(f"{sessions} on record."))


def _from_to(person: Person, measure: Measure) -> tuple[Run, ...]:
    scores = person.scores(measure.id)
    if not scores:
        return (Run(f"No {measure.short.lower()} score is on record. "),)
    said = [f"{_value(measure, one)} at {person.label(one.visit)}" for one in (scores[0], scores[-1])]
    words = said[0] if len(scores) == 1 else ", ".join(said)
    note = " (only this one)" if len(scores) == 1 else ""
    return Run(f"{measure.short}: "), Run(words, is_strong=True), Run(f"{note}. ")


def _value(measure: Measure, score: Score) -> str:
    return fixed(score.value, 0 if score.value == int(score.value) else measure.decimals)


def _absent(person: Person) -> tuple[str, ...]:
    without = [measure.short for measure in person.measures if not person.scores(measure.id)]
    return (f"No score on record: {listed(without)}.",) if without else ()


# --- figure ---------------------------------------------------------------------------------------------------------


def _course(person: Person) -> Figure:
    measures = [measure for measure in person.measures if person.scores(measure.id)]
    panels = [_panel(person, measure) for measure in measures]
    doses = [Mark(one["week"], _mg(one["dose_mg"])) for one in person.sessions]
    doses += [Mark((one["given_on"].date() - person.first_dose_on).days / 7, _mg(one["dose_mg"]), is_session=False)
              for one in person.other_doses if one["given_on"] == one["given_on"]]  # fmt: skip
    doses.sort(key=lambda mark: mark.week)
    with drawing(person.study.root / "templates"):
        svg = trajectory(panels, doses, "course", _alt(person, measures))
    return Figure(
        title="Weeks since the first dose.",
        encoding=(
            "Dots: scores. Red dotted lines: declared thresholds, from this person’s start score. Grey band: the start score "
            "give or take the reliable change, which 95 of 100 unchanged people stay within. Stems: doses."
        ),
        svg=svg,
    )


def _mg(value: float | None) -> float | None:
    return None if value is None or value != value else value  # noqa: PLR0124 - the one value that is not itself


def _panel(person: Person, measure: Measure) -> Panel:
    scores, start = person.scores(measure.id), start_of(person, measure)
    low, high = measure.range
    half = measure.error.reliable_change if measure.error and start else None
    band = (max(low, start.value - half), min(high, start.value + half)) if start and half else None
    levels = [Level(one.at, one.words) for one in thresholds_of(person, measure) if low <= one.at <= high]
    return Panel(
        title=_title(measure, start),
        points=[(one.week, one.value) for one in scores],
        scale=measure.range,
        last=_value(measure, scores[-1]),
        levels=levels,
        band=band,
    )


def _title(measure: Measure, start: Score | None) -> str:
    better = {"lower": "lower is better", "higher": "higher is better", "none": "no direction"}[measure.direction]
    if start is None:
        return (
            f"{measure.short}: {better}; no start score"
            if measure.domain != "global change"
            else f"{measure.short}: {better}"
        )
    if measure.error is None:
        return f"{measure.short}: {better}; reliable change not declared"
    mark = "" if measure.error.state == "confirmed" else f" [{measure.error.state}]"
    return f"{measure.short}: {better}; reliable change {fixed(measure.error.reliable_change, 1)}{mark}"


def _alt(person: Person, measures: list[Measure]) -> str:
    said = [
        f"{measure.short}: {', '.join(f'{_value(measure, one)} at {person.label(one.visit)}' for one in person.scores(measure.id))}."
        for measure in measures
    ]
    doses = [mg for one in person.sessions if (mg := _mg(one["dose_mg"])) is not None]
    span = f", {fixed(min(doses), 0)} to {fixed(max(doses), 0)} mg" if doses else ""
    return " ".join(["Scores and doses over weeks.", *said, f"{plural(person.n_sessions, 'session')}{span}."])
