"""The figures of the reports. They draw prepared results; they compute no statistic and apply no suppression.

Each function is called inside `figure_kit.drawing` and returns inline SVG whose title is the text alternative.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from crps_outcomes.figure_kit import (
    BLUE,
    GREY,
    INK,
    MUTED,
    PERSON,
    WIDTH_PT,
    apart,
    canvas,
    direct_labels,
    inline_svg,
    nice_range,
    rows_without_overlap,
    settle,
    step_between,
)
from crps_outcomes.numbers import fixed, percent
from crps_outcomes.wording import capital

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from crps_outcomes.figure_kit import Label

JITTER = 0.22  # of a tenth of the scale, so that equal whole scores do not hide each other
LEFT_PT, RIGHT_PT = 30.0, 96.0
PANEL_PT = 106.0
LABEL_STEP, LABEL_TOP = 8.0, 92.0  # of the percent scale of the responder curve


@dataclass(frozen=True)
class Point:
    """A mean at a week, with its interval where there is one, and the quantiles where they may be shown."""

    week: float
    n: int
    mean: float
    lower: float | None = None
    upper: float | None = None
    quantiles: dict[int, float] | None = None


@dataclass(frozen=True)
class Scale:
    """The range of a measure and the decimals its means are printed with."""

    low: float
    high: float
    decimals: int


Line = tuple[tuple[float, float], ...]


# --- pain over time -------------------------------------------------------------------------------------------------


def course(points: Sequence[Point], people: Sequence[Line] | None, scale: Scale, key: str, alt: str) -> str:
    """Scores by week: one thin line per person (``people``), or quantile bands where there are none; mean and interval."""
    figure, axes = canvas(height_pt=192)
    span = float(scale.high) - float(scale.low)
    labels = _people(axes, people, scale, points) if people else _bands(axes, points)
    _mean_line(axes, points)
    ticks = nice_range(scale.low, scale.high, (scale.low, scale.high), ticks=5)[2]
    axes.set(xlim=(-0.5, points[-1].week + 0.5), ylim=(scale.low, scale.high + 0.03 * span), yticks=ticks)
    _week_axis(axes, points)
    settle(figure, axes, LEFT_PT, RIGHT_PT)
    direct_labels(figure, axes, labels + _last_mean(points[-1], scale.decimals, 0.02 * span))
    return inline_svg(figure, key, alt)


def _people(axes: Axes, people: Sequence[Line], scale: Scale, points: Sequence[Point]) -> list[Label]:
    span = float(scale.high) - float(scale.low)
    most = JITTER * span / 10
    jitter = np.random.default_rng(1).uniform(-most, most, len(people))
    for shift, line in zip(jitter, people, strict=True):
        weeks, scores = np.array(line, float).T
        axes.plot(
            weeks, np.clip(scores + shift, scale.low, scale.high), color=PERSON, lw=0.5, alpha=0.32, clip_on=False
        )
    for q in (25, 75):
        _quantile_line(axes, points, q)
    words = ("Thin lines: one person", f"each, moved up to {fixed(most, 2)}", "to keep them apart")
    notes: list[Label] = [(text, scale.high - (0.01 + 0.04 * i) * span, MUTED, 400) for i, text in enumerate(words)]
    return notes + _quantile_labels(points[-1], {25: "Lower quartile", 75: "Upper quartile"}, BLUE)


def _bands(axes: Axes, points: Sequence[Point]) -> list[Label]:
    for low, high, alpha in ((10, 90, 0.09), (25, 75, 0.13)):
        known = [p for p in points if p.quantiles and low in p.quantiles and high in p.quantiles]
        if len(known) > 1:
            weeks = [p.week for p in known]
            edges = [[p.quantiles[q] for p in known if p.quantiles] for q in (low, high)]
            axes.fill_between(weeks, edges[0], edges[1], color=BLUE, alpha=alpha, lw=0)
    outer = _quantile_labels(points[-1], {10: "10th percentile", 90: "90th percentile"}, MUTED)
    return outer + _quantile_labels(points[-1], {25: "Lower quartile", 75: "Upper quartile"}, BLUE)


def _quantile_line(axes: Axes, points: Sequence[Point], q: int) -> None:
    known = [(p.week, p.quantiles[q]) for p in points if p.quantiles and q in p.quantiles]
    if len(known) > 1:
        axes.plot(*zip(*known, strict=True), color=BLUE, lw=0.85, ls=(0, (5, 3)))


def _quantile_labels(last: Point, names: dict[int, str], colour: str) -> list[Label]:
    known = last.quantiles or {}
    return [(name, known[q], colour, 400) for q, name in names.items() if q in known]


def _mean_line(axes: Axes, points: Sequence[Point], width: float = 2.1) -> None:
    weeks, means = [p.week for p in points], [p.mean for p in points]
    axes.plot(weeks, means, color="white", lw=width + 2.4, zorder=3)
    axes.plot(weeks, means, color=BLUE, lw=width, zorder=4)
    for p in points:
        if p.lower is not None and p.upper is not None:
            axes.errorbar(
                p.week, p.mean, [[p.mean - p.lower], [p.upper - p.mean]], color=BLUE, elinewidth=1.2, capsize=3.2,
                capthick=1.2, zorder=4,
            )  # fmt: skip
    axes.plot(weeks, means, "o", color=BLUE, zorder=5)


def _last_mean(last: Point, decimals: int, offset: float) -> list[Label]:
    labels: list[Label] = [(f"Mean {fixed(last.mean, decimals)}", last.mean + offset, BLUE, 700)]
    if last.lower is not None and last.upper is not None:
        limits = f"95% CI {fixed(last.lower, decimals)} to {fixed(last.upper, decimals)}"
        labels.append((limits, last.mean - offset, BLUE, 400))
    return labels


def _week_axis(axes: Axes, points: Sequence[Point]) -> None:
    """Weeks below the axis with n under each; where two would touch, only the first is named (all are in the table)."""
    per_week = (WIDTH_PT - LEFT_PT - RIGHT_PT) / (points[-1].week + 1)
    named = _spread([p.week for p in points], 12 / per_week)
    axes.set_xticks(named, [_week(week) for week in named])
    axes.tick_params(axis="x", length=0, pad=6)
    axes.set_xlabel("Weeks since first dose")
    known = [p for p in points if p.week in named]
    rows = rows_without_overlap([p.week * per_week for p in known], [4.2 * len(f"{int(p.n):,}") for p in known])
    for p, row in zip(known, rows, strict=True):
        axes.annotate(
            f"{p.n:,}", (p.week, 0), (0, -31 - 10 * row), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="center", va="top",
        )  # fmt: skip
    axes.annotate(
        "n", (0, 0), (-6, -31), xycoords="axes fraction", textcoords="offset points", ha="right", va="top", weight=600
    )


def _week(week: float) -> str:
    return "0" if week == 0 else fixed(week, 0 if week == int(week) else 1)


# --- cumulative responders ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """The share of people improved by at least x percent, for rising x, and its number of people."""

    x: tuple[float, ...]
    share: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    n: int
    population: str
    name: str


@dataclass(frozen=True)
class Mark:
    """A labelled threshold on the curve."""

    at: float
    share: float
    label: str


def cumulative(curves: Sequence[Curve], marks: Sequence[Mark], axis_label: str, key: str, alt: str) -> str:
    """Step curves of the share improved by at least x: the first with its band and labelled thresholds, others dashed."""
    first, *others = curves
    figure, axes = canvas(height_pt=190)
    axes.fill_between(first.x, first.lower, first.upper, step="pre", color=BLUE, alpha=0.12, lw=0)
    for other in others:
        axes.step(other.x, other.share, where="pre", color=MUTED, lw=0.9, ls=(0, (4, 3)))
    axes.step(first.x, first.share, where="pre", color=BLUE, lw=1.7)
    _percent_axes(axes, min(first.x), max(100.0, *first.x), axis_label)  # the same end where the last steps are hidden
    _worse_and_better(axes)
    _name_curves(axes, first, others)
    _thresholds(axes, marks, first)
    settle(figure, axes, left_pt=34, right_pt=20)
    return inline_svg(figure, key, alt)


def _percent_axes(axes: Axes, low: float, high: float, label: str) -> None:
    axes.set(xlim=(low, high), ylim=(0, 103), xlabel=label)
    ticks = np.arange(math.ceil(low / 20) * 20, high + 1, 20)
    axes.set_xticks(ticks, [f"{fixed(float(tick), 0)}%" for tick in ticks])
    axes.set_yticks(range(0, 101, 20), [f"{tick}%" for tick in range(0, 101, 20)])
    axes.tick_params(axis="x", length=0, pad=6)


def _worse_and_better(axes: Axes) -> None:
    """A line at no change, and which side of it is which."""
    low, high = axes.get_xlim()
    if not low < 0 < high:
        return
    axes.axvline(0, color=GREY, lw=0.8, zorder=1)
    for text, shift, side in (("worse", -4, "right"), ("better", 4, "left")):
        axes.annotate(text, (0, 0), (shift, 3), textcoords="offset points", ha=side, va="bottom", color=MUTED, size=7.9)


def _thresholds(axes: Axes, marks: Sequence[Mark], curve: Curve) -> None:
    """A dot and a drop line at every threshold, its label above the band; labels that would touch are moved apart."""
    for mark in marks:
        axes.plot([mark.at] * 2, [0, mark.share], color=INK, lw=0.7, ls=(0, (2, 2)))
        axes.plot(mark.at, mark.share, "o", color=BLUE, ms=6.4, mew=1, zorder=4)
    rising = sorted(marks, key=lambda mark: (mark.share, -mark.at))
    tops = [curve.upper[curve.x.index(mark.at)] for mark in rising]
    highest = LABEL_TOP - LABEL_STEP * max(len(tops) - 1, 0)
    heights = apart([min(top, highest) for top in tops], LABEL_STEP)
    lowest = min([0.0, *heights])
    for mark, height in zip(rising, heights, strict=True):
        _threshold_label(axes, mark, height - lowest)


def _threshold_label(axes: Axes, mark: Mark, height: float) -> None:
    low, high = axes.get_xlim()
    is_right = (mark.at - low) / (high - low) > 0.6
    axes.annotate(
        mark.label, (mark.at, height), (-4 if is_right else 4, 3), textcoords="offset points", weight=600, size=8.4,
        va="bottom", ha="right" if is_right else "left",
    )  # fmt: skip


def _name_curves(axes: Axes, first: Curve, others: Sequence[Curve]) -> None:
    """What each line is, above the drawing, where no line can run."""
    names = [(f"Dashed: {other.name} (n = {other.n:,})", MUTED, 400) for other in others]
    names.append((f"{capital(first.name)} (n = {first.n:,}), band: 95% CI", BLUE, 600))
    for i, (text, colour, weight) in enumerate(names):
        axes.annotate(
            text, (1, 1), (0, 3 + 11 * i), xycoords="axes fraction", textcoords="offset points", ha="right", va="bottom",
            color=colour, weight=weight,
        )  # fmt: skip


def label_share(share: float, n: int, threshold: int, lower: float, upper: float) -> str:
    """The words beside a threshold on the curve, with the interval."""
    limits = f"{percent(lower, n).removesuffix('%')} to {percent(upper, n).removesuffix('%')}"
    return f"{percent(share, n)} improved by {threshold}% or more (95% CI {limits})"


# --- groups ---------------------------------------------------------------------------------------------------------

FOREST_ROW_PT, FOREST_LEFT_PT, FOREST_RIGHT_PT = 14.0, 206.0, 124.0


@dataclass(frozen=True)
class Group:
    """One row of a forest: its numbers in words, and the mean with its interval unless there is none."""

    label: str
    n: int
    words: str
    mean: float | None = None
    lower: float | None = None
    upper: float | None = None


def forest(whole: Group, groups: Mapping[str, Sequence[Group]], sides: tuple[str, str], key: str, alt: str) -> str:
    """Means of groups under their headings: squares with area by n, a diamond for everyone, numbers at the right.

    ``sides`` says what lies left and right of zero.
    """
    lines: list[Group | str] = [whole]
    for heading, members in groups.items():
        lines += [heading, *members]
    figure, axes = canvas(height_pt=FOREST_ROW_PT * (len(lines) + 1) + 40)
    _forest_axes(axes, [whole, *(member for own in groups.values() for member in own)], len(lines))
    _sides(axes, sides)
    settle(figure, axes, FOREST_LEFT_PT, FOREST_RIGHT_PT)
    _forest_words(axes, lines)
    _everyone(axes, whole)
    for y, line in enumerate(lines[1:], 1):
        if isinstance(line, Group):
            _square(axes, y, line, whole.n)
    return inline_svg(figure, key, alt)


def _forest_axes(axes: Axes, groups: Sequence[Group], n_lines: int) -> None:
    """A scale of the changes that holds every interval and zero."""
    edges = [edge for one in groups for edge in (one.lower, one.upper, one.mean) if edge is not None]
    low, high = min([0.0, *edges]), max([0.0, *edges])
    margin = 0.06 * (high - low) or 1.0
    low, high = low - margin, high + margin
    ticks = [tick for tick in nice_range(low, high, (-math.inf, math.inf))[2] if low <= tick <= high]
    step = step_between(ticks)
    axes.set(xlim=(low, high), ylim=(n_lines - 0.4, -1.4))
    axes.set_xticks(ticks, [fixed(tick, 0 if step == int(step) else 1) for tick in ticks])
    axes.set_yticks([])
    axes.tick_params(axis="x", length=0, pad=6)
    axes.grid(visible=False)
    axes.plot([0, 0], [-0.7, n_lines - 0.4], color=INK, lw=0.8, zorder=2)


def _forest_words(axes: Axes, lines: Sequence[Group | str]) -> None:
    columns = {
        "label": (0, -FOREST_LEFT_PT + 2, "left"),
        "n": (0, -12, "right"),
        "words": (1, FOREST_RIGHT_PT - 2, "right"),
    }

    def write(column: str, y: float, text: str, weight: int, indent: float = 0) -> None:
        edge, dx, side = columns[column]
        axes.annotate(
            text, (edge, y), (dx + indent, 0), xycoords=("axes fraction", "data"), textcoords="offset points", ha=side,
            va="center", weight=weight, color=MUTED if y < 0 else INK, annotation_clip=False,
        )  # fmt: skip

    for column, head in (("label", "Group"), ("n", "n"), ("words", "Mean change (95% CI)")):
        write(column, -1, head, 600)
    for y, line in enumerate(lines):
        if isinstance(line, str):
            write("label", y, line, 600)
            continue
        weight, indent = (600, 0) if y == 0 else (400, 10)
        write("label", y, line.label, weight, indent)
        write("n", y, f"{line.n:,}", weight)
        write("words", y, line.words, weight)


def _sides(axes: Axes, sides: tuple[str, str]) -> None:
    texts = (f"\N{LEFTWARDS ARROW} {sides[0]}", -5, "right"), (f"{sides[1]} \N{RIGHTWARDS ARROW}", 5, "left")
    for text, dx, side in texts:
        axes.annotate(
            text, (0, 0), (dx, -19), xycoords=("data", "axes fraction"), textcoords="offset points", ha=side, va="top",
            color=MUTED,
        )  # fmt: skip


def _everyone(axes: Axes, whole: Group) -> None:
    """The diamond from limit to limit, its band and a line at its mean."""
    if whole.mean is None or whole.lower is None or whole.upper is None:
        return
    bottom = axes.get_ylim()[0]
    axes.fill_betweenx([-0.7, bottom], whole.lower, whole.upper, color=BLUE, alpha=0.1, lw=0, zorder=1)
    axes.plot([whole.mean] * 2, [0, bottom], color=BLUE, lw=0.8, ls=(0, (3, 2)), zorder=2)
    axes.fill([whole.lower, whole.mean, whole.upper, whole.mean], [0, -0.3, 0, 0.3], color=BLUE, lw=0, zorder=4)


def _square(axes: Axes, y: float, group: Group, n: int) -> None:
    if group.mean is None:
        return
    if group.lower is not None and group.upper is not None:
        axes.plot([group.lower, group.upper], [y, y], color=INK, lw=1.1, zorder=3)
    axes.scatter([group.mean], [y], s=6 + 60 * group.n / max(n, 1), marker="s", color=INK, lw=0, zorder=4)


# --- small multiples ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """One measure over the visits, with which way is better."""

    title: str
    direction: str
    points: tuple[Point, ...]
    scale: tuple[float, float]


def small_multiples(panels: Sequence[Panel], key: str, alt: str, columns: int = 3) -> str:
    """Means with intervals, one panel per measure, all on the same weeks and each on its own scale."""
    rows = math.ceil(len(panels) / columns)
    height = PANEL_PT * rows
    figure = Figure(figsize=(WIDTH_PT / 72, height / 72))
    figure.set_layout_engine("none")
    last_week = max(point.week for panel in panels for point in panel.points)
    for i, panel in enumerate(panels):
        row, column = divmod(i, columns)
        cell, left = WIDTH_PT / columns, 24.0
        axes = figure.add_axes((
            (column * cell + left) / WIDTH_PT, 1 - (row + 1) * PANEL_PT / height + 18 / height,
            (cell - left - 14) / WIDTH_PT, 60 / height,
        ))  # fmt: skip
        _panel(axes, panel, last_week)
    return inline_svg(figure, key, alt)


def _panel(axes: Axes, panel: Panel, last_week: float) -> None:
    _mean_line(axes, panel.points, width=1.5)
    edges = [edge for p in panel.points for edge in (p.mean, p.lower, p.upper) if edge is not None]
    low, high, ticks = nice_range(min(edges), max(edges), panel.scale, ticks=3)
    step = step_between(ticks)
    axes.set(xlim=(-last_week * 0.04, last_week * 1.04), ylim=(low, high))
    axes.set_yticks(ticks, [fixed(tick, 0 if step == int(step) else 1) for tick in ticks])
    weeks = _spread([p.week for p in panel.points], last_week / 7)
    axes.set_xticks(weeks, [_week(week) for week in weeks])
    axes.annotate(
        textwrap.shorten(panel.title, 34, placeholder=" …"),
        (0, 1),
        (-20, 17),
        xycoords="axes fraction",
        textcoords="offset points",
        weight=600,
        size=8.4,
    )
    axes.annotate(panel.direction, (0, 1), (-20, 7), xycoords="axes fraction", textcoords="offset points", color=MUTED)


def _spread(weeks: Sequence[float], gap: float) -> list[float]:
    """The weeks that can carry a label without touching the one before."""
    kept: list[float] = []
    for week in weeks:
        if not kept or week - kept[-1] >= gap:
            kept.append(week)
    return kept


# --- doses of each person (internal edition) ------------------------------------------------------------------------


@dataclass(frozen=True)
class Swimmer:
    """One person's sessions: week and mg per kg, the latter None where unknown."""

    sessions: tuple[tuple[float, float | None], ...]


def swimmers(people: Sequence[Swimmer], last_week: float, key: str, alt: str) -> str:
    """One row per person from first to last session, longest at the top; dot area grows with mg per kg."""
    row = min(8.6, 138.0 / len(people))
    figure, axes = canvas(height_pt=max(row * len(people) + 34, 92.0))
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    largest = max((dose for person in people for _, dose in person.sessions if dose), default=1.0)
    for y, person in enumerate(people):
        weeks = [week for week, _ in person.sessions]
        axes.plot(
            [weeks[0], weeks[-1]],
            [y, y],
            color="#dbe2e9",
            lw=row * 0.42,
            solid_capstyle="round",
            zorder=2,
            clip_on=False,
        )
        areas = [_area(dose, largest, row) for _, dose in person.sessions]
        axes.scatter(weeks, [y] * len(weeks), s=areas, color=BLUE, alpha=0.8, lw=0, zorder=3, clip_on=False)
    axes.set(xlim=(-0.6, last_week + 0.6), ylim=(len(people) - 0.4, -0.6), yticks=[])
    axes.set_xticks(range(0, int(last_week) + 1, 2 if last_week <= 16 else 4))
    axes.set_xlabel("Weeks since first dose")
    settle(figure, axes, left_pt=6, right_pt=84)
    _dose_key(figure, axes, largest, row)
    return inline_svg(figure, key, alt)


def _area(dose: float | None, largest: float, row: float) -> float:
    return (row * 1.15) ** 2 * ((dose or 0.0) / largest) if dose else 1.2


def _dose_key(figure: Figure, axes: Axes, largest: float, row: float) -> None:
    """Three doses beside the rows, drawn at their size."""
    axes.annotate(
        "mg per kg", (1, 1), (10, 0), xycoords="axes fraction", textcoords="offset points", va="top", weight=600
    )
    for i, part in enumerate((1 / 3, 2 / 3, 1.0)):
        dose, down = largest * part, -19 - 12 * i
        spot = offset_copy(axes.transAxes, fig=figure, x=16, y=down, units="points")
        axes.scatter([1], [1], s=_area(dose, largest, row), color=BLUE, lw=0, transform=spot, clip_on=False)
        axes.annotate(
            fixed(dose, 2),
            (1, 1),
            (26, down),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            gid=f"scale_{i}",
        )


# --- half-width by number of people ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Width:
    """The half-width of an interval with so many people, and what it could be."""

    people: int
    middle: float
    lower: float
    upper: float


def narrowing(widths: Sequence[Width], now: tuple[float, float], aim: float, axis_label: str, alt: str) -> str:
    """How an interval narrows as people are added: line and band, the aim dashed, a dot for today."""
    figure, axes = canvas(height_pt=150)
    at = [one.people for one in widths]
    axes.fill_between(at, [one.lower for one in widths], [one.upper for one in widths], color=BLUE, alpha=0.12, lw=0)
    axes.plot(at, [one.middle for one in widths], color=BLUE, lw=1.7)
    axes.axhline(aim, color=MUTED, lw=0.9, ls=(0, (4, 3)))
    axes.plot(*now, "o", color=BLUE, ms=6.4, mew=1, zorder=4)
    axes.annotate(f"now: {fixed(now[1], 2)}", now, (7, 6), textcoords="offset points", weight=600, color=BLUE)
    highest = max([one.upper for one in widths] + [now[1], aim])
    first, last = min(at[0], now[0]), max(at[-1], now[0])
    axes.set(xlim=(first, last), ylim=(0, highest * 1.05), xlabel="People analysed", ylabel=axis_label)
    axes.tick_params(axis="x", length=0, pad=6)
    settle(figure, axes, LEFT_PT, RIGHT_PT)
    direct_labels(figure, axes, [(f"Aim {fixed(aim, 2)}", aim, MUTED, 400)])
    return inline_svg(figure, "width", alt)
