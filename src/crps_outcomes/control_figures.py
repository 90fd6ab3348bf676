"""Process charts of the quality report. They draw a chart that has been worked out and judge nothing.

Each function is called inside `figure_kit.drawing` and returns inline SVG whose title is the text alternative.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from crps_outcomes import spc
from crps_outcomes.figure_kit import (
    BAND,
    BLUE,
    GREY,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    RED,
    canvas,
    direct_labels,
    inline_svg,
    nice_range,
    settle,
    step_between,
)
from crps_outcomes.numbers import MONTHS, fixed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from crps_outcomes.figure_kit import Label

STATE_COLOURS: dict[spc.State, str] = {
    "common": GREY, "none": GREY, "improving": BLUE, "concern": ORANGE, "neutral": PURPLE,
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """A chart of the page in points. ``wrap`` characters fit in a line above it, beside a rebase only in a wide one."""

    width: float
    height: float
    right: float
    ticks: int  # marks of the time axis, at most
    wrap: int


LINE_PT = 10.0
SIZES: dict[Literal["wide", "small"], Size] = {
    "wide": Size(493.5, 114, 78, 12, 44),
    "small": Size(235.0, 98, 66, 4, 38),
}


@dataclass(frozen=True)
class Control:
    """A chart with its points at places on the axis: months by `place_of`, or the numbers of rare events.

    ``marks``: place and words of each rebase; ``top`` ends the scale.
    """

    chart: spc.Chart
    at: tuple[int, ...]
    states: tuple[spc.State, ...]
    decimals: int
    suffix: str = ""
    target: float | None = None
    top: float | None = None
    marks: tuple[tuple[int, str], ...] = ()
    is_by_month: bool = True
    axis: str = ""
    centre: str = "Mean"  # of a chart with limits


def place_of(month: str) -> int:
    """The place of a month on an axis of real time."""
    return 12 * int(month[:4]) + int(month[5:]) - 1


def control(drawn: Control, size: Literal["wide", "small"], key: str, alt: str) -> str:
    """Points in the colour of their state, centre and limits of each segment, the target, and rebases with their reason."""
    own = SIZES[size]
    reasons = [(place, textwrap.wrap(words, own.wrap)) for place, words in drawn.marks]
    figure, axes = canvas(own.height + LINE_PT * sum(len(lines) for _, lines in reasons), own.width)
    for segment in drawn.chart.segments:
        _segment(axes, drawn, segment)
    if drawn.target is not None:
        axes.axhline(drawn.target, color=RED, lw=0.8, ls=(0, (1.1, 1.9)))
    _points(axes, drawn)
    _scale(axes, drawn)
    _time(axes, drawn, own.ticks)
    axes.set_xlabel(drawn.axis)
    _rebases(axes, drawn, reasons, is_beside=size == "wide")
    settle(figure, axes, right_pt=own.right)
    direct_labels(figure, axes, _labels(drawn))
    return inline_svg(figure, key, alt)


def _segment(axes: Axes, drawn: Control, segment: spc.Segment) -> None:
    """Lines of one segment as steps, each from half a place before its point to half a place before the next."""
    at = drawn.at[segment.start : segment.start + len(segment.values)]
    edges = [place - 0.5 for place in at] + [at[-1] + 0.5]
    lines = [spc.drawn(one, 0, drawn.top) for one in segment.lines]
    lower = [one.lower for one in lines if one.lower is not None]
    upper = [one.upper for one in lines if one.upper is not None]
    if lower and upper:
        axes.fill_between(edges, [*lower, lower[-1]], [*upper, upper[-1]], step="post", color=BAND, lw=0, zorder=0)
        for limit in (lower, upper):
            axes.stairs(limit, edges, baseline=None, color=GREY, lw=0.75, ls=(0, (4, 3)))
    axes.stairs([one.centre for one in lines], edges, baseline=None, color=INK, lw=0.9)


def _points(axes: Axes, drawn: Control) -> None:
    values = drawn.chart.values
    for segment in drawn.chart.segments:
        own = slice(segment.start, segment.start + len(segment.values))
        axes.plot(drawn.at[own], values[own], color=GREY, lw=1)
    for state in dict.fromkeys(drawn.states):
        chosen = [i for i, own in enumerate(drawn.states) if own == state]
        places, heights = [drawn.at[i] for i in chosen], [values[i] for i in chosen]
        axes.plot(places, heights, "o", color=STATE_COLOURS[state], ms=5.0, zorder=4, clip_on=False)


def _scale(axes: Axes, drawn: Control) -> None:
    lines = [spc.drawn(one, 0, drawn.top) for one in drawn.chart.lines]
    edges = [edge for one in lines for edge in (one.lower, one.upper) if edge is not None]
    seen = [*drawn.chart.values, *edges, *(one.centre for one in lines)]
    seen += [] if drawn.target is None else [drawn.target]
    low, high, marks = nice_range(min(seen), max(seen), (0.0, drawn.top or math.inf), ticks=5)
    step = step_between(marks)
    axes.set(xlim=(drawn.at[0] - 0.7, drawn.at[-1] + 0.7), ylim=(low, high))
    decimals = next(places for places in (0, 1, 2, 3) if math.isclose(step, round(step, places)))
    axes.set_yticks(marks, [fixed(mark, decimals) for mark in marks])


def _time(axes: Axes, drawn: Control, most: int) -> None:
    """Names under the axis: the last one always, the others at even steps as far as there is room."""
    last, first = drawn.at[-1], drawn.at[0]
    step = next(step for step in (1, 2, 3, 6, 12, 24, 48, 96) if (last - first) / step <= most)
    places = range(last, first - 1, -step)
    axes.set_xticks(places, [_month(place) if drawn.is_by_month else str(place) for place in places])


def _month(place: int) -> str:
    return f"{MONTHS[place % 12]} {place // 12 % 100:02d}"


def _rebases(axes: Axes, drawn: Control, reasons: Sequence[tuple[int, Sequence[str]]], *, is_beside: bool) -> None:
    """A dotted line where a process ends, its reason above the drawing; reasons stand one above the other."""
    row = 0
    for place, lines in reversed(reasons):
        axes.axvline(place - 0.5, color=MUTED, lw=0.6, ls=(0, (2, 3)))
        is_right = is_beside and place - drawn.at[0] > (drawn.at[-1] - drawn.at[0]) / 2
        at = place - 0.5 if is_beside else drawn.at[0] - 0.5
        for line in reversed(lines):
            axes.annotate(
                line, (at, 1), (-2 if is_right else 2, 3 + LINE_PT * row), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="right" if is_right else "left", va="bottom", weight=600,
            )  # fmt: skip
            row += 1


def _labels(drawn: Control) -> Sequence[Label]:
    segment = drawn.chart.last
    lines = spc.drawn(segment.lines[-1], 0, drawn.top)

    def text(name: str, value: float) -> str:
        return f"{name} {fixed(value, drawn.decimals)}{drawn.suffix}"

    found: list[Label] = [
        (text("Median" if segment.is_run_chart else drawn.centre, lines.centre), lines.centre, INK, 600)
    ]
    if lines.lower is not None and lines.upper is not None:
        found += [
            (text("Upper limit", lines.upper), lines.upper, MUTED, 400),
            (text("Lower limit", lines.lower), lines.lower, MUTED, 400),
        ]
    if drawn.target is not None:
        found.append((text("Target", drawn.target), drawn.target, RED, 600))
    return found
