"""How pain changed over time: the primary outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crps_outcomes.facts import shown
from crps_outcomes.figure_kit import drawing
from crps_outcomes.figures import Scale, course
from crps_outcomes.layout import noted, number_columns, row, text_columns
from crps_outcomes.marks import NOT_APPLICABLE, NOT_AVAILABLE
from crps_outcomes.numbers import fixed
from crps_outcomes.report_model import Cell, Figure, Section, Table
from crps_outcomes.series import BASELINE, change_at, course_in_words, mean_points, moments, week_of
from crps_outcomes.wording import (
    at,
    better,
    counted,
    error_in_words,
    mean_in_cell,
    middle_in_cell,
    thresholds_in_words,
    why_hidden,
)

if TYPE_CHECKING:
    import pandas as pd

    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.figures import Line, Point

OUTER_BAND_FROM = 50
#: Lines of more people than this are one grey area in which neither a person nor a quartile can be followed.
MOST_LINES = 120


def pain(facts: Facts) -> Section:
    """The score by week, and the change from the start with its interval at every visit."""
    return Section(
        id="pain",
        short=f"{facts.primary.short} over time",
        finding=_finding(facts),
        lede=(
            f"{facts.primary.title}; {better(facts.primary)}. There was no comparison group, so this is change after "
            "treatment, not the effect of treatment."
        ),
        figures={"course": _course(facts)},
        tables={"change": _change(facts)},
        text={"thresholds": _thresholds(facts)},
    )


def _finding(facts: Facts) -> str:
    changes = change_at(facts, "pain", facts.primary, (facts.primary_visit, facts.later_visit))
    if changes:
        return f"{facts.primary.short} changed by {changes}"
    row = facts.one("pain", "mean_change", measure=facts.primary.id, visit=facts.primary_visit.id)
    return f"The change in {facts.primary.short.lower()} at {at(facts.primary_visit)} is not shown: {why_hidden(row)}"


# --- figure ---------------------------------------------------------------------------------------------------------


def _course(facts: Facts) -> Figure:
    points = tuple(_with_quantiles(facts, point) for point in mean_points(facts, "pain", facts.primary.id))
    people = _lines(facts)
    marks = "one line per person; dashed: quartiles" if people else "bands: middle half and middle 80% of people"
    figure = Figure(
        title=f"{facts.primary.short} score by week.",
        encoding=f"Mean with 95% confidence interval at each visit, over {marks}. n: people with a score that week.",
        empty="A line over time needs a mean at two visits or more; there are too few scores that may be shown.",
    )
    if len(points) < 2:
        return figure
    alt = f"Line chart. {course_in_words(facts, points, facts.primary)} Numbers in the table that follows."
    with drawing(facts.study.root / "templates"):
        scale = Scale(*facts.primary.range, max(facts.primary.decimals, 1))
        return replace(figure, svg=course(points, people, scale, "course", alt))


def _lines(facts: Facts) -> tuple[Line, ...]:
    """One line per person, where each may be shown and can be told from the others; else none."""
    people = facts.releasable.people
    found = () if people is None else person_lines(facts, people)
    return found if len(found) <= MOST_LINES else ()


def _with_quantiles(facts: Facts, point: Point) -> Point:
    visit = next((visit for visit, week in moments(facts) if week == point.week), BASELINE)
    rows = facts.every("pain", "quantile", measure=facts.primary.id, visit=visit)
    wanted = {int(e.group): e.estimate for e in rows if not e.mark and e.estimate is not None}
    if point.n < OUTER_BAND_FROM:
        wanted = {q: value for q, value in wanted.items() if q not in (10, 90)}
    return replace(point, quantiles=wanted)


def person_lines(facts: Facts, outcomes: pd.DataFrame) -> tuple[Line, ...]:
    """Week and score of each analysed person with two scores or more; no identifier leaves this function."""
    weeks = {visit.id: week_of(visit) for visit in facts.visits} | {BASELINE: 0.0}
    rows = outcomes[(outcomes["measure"] == facts.primary.id) & outcomes["value"].notna()]
    with_baseline = rows.loc[rows["visit"] == BASELINE, "subject_id"]
    rows = rows[rows["subject_id"].isin(with_baseline)]
    lines = (
        tuple(sorted(zip(part["visit"].map(weeks), part["value"].astype(float), strict=True)))
        for _, part in rows.groupby("subject_id", sort=True)
    )
    return tuple(line for line in lines if len(line) > 1)


# --- table ----------------------------------------------------------------------------------------------------------


def _change(facts: Facts) -> Table:
    visits = [(BASELINE, "Start"), *((visit.id, visit.label) for visit in facts.visits)]
    rows = tuple(_change_row(facts, visit, label) for visit, label in visits)
    table = Table(
        title=f"{facts.primary.short} score and change from the start, by visit.",
        encoding="People in the outcome analysis. Without: due at this visit but no score.",
        columns=(
            *text_columns(("Visit", 18)),
            *number_columns(
                ("n", 11),
                ("Without", 16),
                ("Mean (95% CI)", 35),
                ("SD", 11),
                ("Mean change (95% CI)", 41),
                ("Median change (95% CI)", 42),
            ),
        ),
        rows=rows if shown(facts.every("pain", "mean")) else (),
        empty=f"No mean {facts.primary.short.lower()} score may be shown: too few people, or none, have one.",
        style="fixed",
    )
    few = "Under 10 people: median and range." if any("(range " in line[-1].text for line in rows) else ""
    return noted(
        table,
        facts,
        "Mean: t interval. Median change: Hodges–Lehmann estimate and interval. Observed scores only.",
        few,
    )


def _change_row(facts: Facts, visit: str, label: str) -> tuple[Cell, ...]:
    keys = {"measure": facts.primary.id, "visit": visit}
    mean, change, middle = (facts.one("pain", name, **keys) for name in ("mean", "mean_change", "median_change"))
    decimals = max(facts.primary.decimals, 1)
    is_start = visit == BASELINE
    return row(
        label,
        counted(mean.n, mean.mark or NOT_AVAILABLE),
        NOT_APPLICABLE if is_start else counted(mean.n_missing, mean.mark or NOT_AVAILABLE),
        mean_in_cell(mean, decimals),
        _sd(mean, decimals),
        NOT_APPLICABLE if is_start else mean_in_cell(change, decimals, signed=True),
        NOT_APPLICABLE if is_start else middle_in_cell(middle, decimals),
    )


def _sd(estimate: Estimate, decimals: int) -> str:
    if estimate.mark or estimate.sd is None:
        return estimate.mark or NOT_AVAILABLE
    return fixed(estimate.sd, decimals)


def _thresholds(facts: Facts) -> tuple[str, ...]:
    known = thresholds_in_words(facts.primary.thresholds)
    what = (
        f"Changes taken to matter in one person: {known}."
        if known
        else "No change is declared to matter in one person."
    )
    return (
        f"{what} They are for individuals and never for a difference between group means. "
        f"{error_in_words(facts.primary)}",
    )
