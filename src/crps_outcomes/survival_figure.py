"""The curve of people still responding, on the time axis of the at-risk table that stands under it.

It draws prepared results, inside `figure_kit.drawing`, and returns inline SVG whose title is the text alternative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crps_outcomes.figure_kit import BLUE, GREY, INK, MUTED, WIDTH_PT, canvas, hide_marks, inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The first column of the at-risk table; the others share what is left, each centred under its tick.
HEAD_PT = 84.0
MM_PER_PT = 25.4 / 72


@dataclass(frozen=True)
class Step:
    """The share in percent from a week on, with its limits where there are any."""

    week: float
    share: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Survival:
    """A step curve. ``few_from``: the week from which fewer than ten people are at risk; ``label`` names the median."""

    steps: tuple[Step, ...]
    ticks: tuple[float, ...]
    weeks: tuple[int, ...]
    few_from: float
    median: float | None
    label: str
    followed: float


def column_width_mm(n_columns: int) -> float:
    """The width of each column of the at-risk table, so that its numbers stand under the ticks."""
    return (WIDTH_PT - HEAD_PT) / n_columns * MM_PER_PT


def survival(curve: Survival, key: str, alt: str) -> str:
    """The steps with their band and a tick for each censoring; grey where fewer than ten people are at risk."""
    figure, axes = canvas(height_pt=186)
    _band(axes, curve)
    for start, end, colour in ((0.0, curve.few_from, BLUE), (curve.few_from, curve.followed, GREY)):
        if end > start:
            axes.step(*_corners(curve, start, end), where="post", color=colour, lw=1.7 if colour == BLUE else 1.2)
    _ticks(axes, curve)
    if curve.median is not None:
        axes.plot([0, curve.median, curve.median], [50, 50, 0], color=INK, lw=0.7, ls=(0, (2, 2)))
    _axes(axes, curve)
    _words(axes, curve)
    hide_marks(figure)
    figure.draw_without_rendering()
    box, column = axes.get_position(), (WIDTH_PT - HEAD_PT) / len(curve.weeks)
    figure.set_layout_engine("none")
    width = column * (len(curve.weeks) - 1)
    axes.set_position(((HEAD_PT + column / 2) / WIDTH_PT, box.y0, width / WIDTH_PT, box.height))
    return inline_svg(figure, key, alt)


def _share_at(curve: Survival, week: float) -> float:
    return next((step.share for step in reversed(curve.steps) if step.week <= week), 100.0)


def _corners(curve: Survival, start: float, end: float) -> tuple[list[float], list[float]]:
    """The corners of the step line between two weeks."""
    inside = [step for step in curve.steps if start < step.week <= end]
    weeks = [start, *(step.week for step in inside), end]
    shares = [_share_at(curve, start), *(step.share for step in inside)]
    return weeks, [*shares, shares[-1]]


def _band(axes: Axes, curve: Survival) -> None:
    """The band where ten or more are at risk and the limits are known."""
    known = [step for step in curve.steps if step.lower is not None and step.week < curve.few_from]
    if not known:
        return
    weeks = [*(step.week for step in known), max(curve.few_from, known[-1].week)]
    edges = [[*shares, shares[-1]] for shares in ([s.lower or 0.0 for s in known], [s.upper or 0.0 for s in known])]
    axes.fill_between(weeks, edges[0], edges[1], step="post", color=BLUE, alpha=0.12, lw=0)


def _ticks(axes: Axes, curve: Survival) -> None:
    for is_few, colour in ((False, BLUE), (True, GREY)):
        weeks = [week for week in curve.ticks if (week > curve.few_from) == is_few]
        if weeks:
            axes.plot(weeks, [_share_at(curve, week) for week in weeks], "|", color=colour, ms=6.4, mew=0.9, mec=colour)


def _axes(axes: Axes, curve: Survival) -> None:
    axes.set(xlim=(0, curve.weeks[-1]), ylim=(0, 103), xlabel="Weeks since the first response")
    axes.set_xticks(curve.weeks, [str(week) for week in curve.weeks])
    axes.set_yticks(range(0, 101, 25), [f"{tick}%" for tick in range(0, 101, 25)])
    axes.tick_params(axis="x", length=0, pad=6)


def _words(axes: Axes, curve: Survival) -> None:
    """The median above the drawing, and where few people are left in the line below it: no curve can run there."""
    axes.annotate(
        curve.label, (1, 1), (0, 15), xycoords="axes fraction", textcoords="offset points", ha="right", va="bottom",
        color=BLUE, weight=600, size=8.4,
    )  # fmt: skip
    if curve.few_from < curve.followed:
        axes.plot([curve.few_from] * 2, [0, 103], color=MUTED, lw=0.7, ls=(0, (1, 2)))
        is_right = curve.few_from > curve.weeks[-1] * 0.6
        axes.annotate(
            "Grey: fewer than 10 people at risk", (curve.few_from, 103), (0, 3), textcoords="offset points",
            ha="right" if is_right else "left", va="bottom", color=MUTED, annotation_clip=False,
        )  # fmt: skip
