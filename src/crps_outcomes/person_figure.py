"""One person's course: a small panel per measure above the doses, on one axis of weeks since the first dose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from crps_outcomes.figure_kit import BAND, BLUE, GREY, INK, MUTED, WIDTH_PT, apart, inline_svg, nice_range, step_between
from crps_outcomes.numbers import fixed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

LEFT_PT, RIGHT_PT, TITLE_PT, PANEL_PT, DOSES_PT, AXIS_PT = 30.0, 104.0, 13.5, 30.0, 28.0, 28.0
GAP_PT, LABEL_PT = 6.0, 9.2
RED = "#b3261e"
#: Labels of doses keep so many points between them; where they would not, only a changed dose is named.
DOSE_LABEL_PT = 17.0


@dataclass(frozen=True)
class Level:
    """A declared threshold at the height it has for this person."""

    at: float
    words: str


@dataclass(frozen=True)
class Panel:
    """A measure as it is drawn: ``band`` is the start give or take the reliable change, None where there is none."""

    title: str
    points: Sequence[tuple[float, float]]
    scale: tuple[float, float]
    last: str
    levels: Sequence[Level] = ()
    band: tuple[float, float] | None = None


@dataclass(frozen=True)
class Mark:
    """A dose: ``is_session`` false for one that belongs to no intramuscular session."""

    week: float
    mg: float | None
    is_session: bool = True


def trajectory(panels: Sequence[Panel], doses: Sequence[Mark], key: str, alt: str) -> str:
    """The panels one below the other, then the doses, all over the same weeks."""
    height = len(panels) * (TITLE_PT + PANEL_PT + GAP_PT) + TITLE_PT + DOSES_PT + AXIS_PT
    figure = Figure(figsize=(WIDTH_PT / 72, height / 72))
    figure.set_layout_engine("none")
    weeks = _weeks(panels, doses)
    top = height
    for panel in panels:
        top -= TITLE_PT + PANEL_PT
        _panel(_axes(figure, top, PANEL_PT, height, weeks), panel)
        top -= GAP_PT
    axes = _axes(figure, AXIS_PT, DOSES_PT, height, weeks)
    _doses(axes, doses)
    _week_axis(axes, weeks)
    return inline_svg(figure, key, alt)


def _axes(figure: Figure, bottom: float, tall: float, height: float, weeks: tuple[float, float]) -> Axes:
    axes = figure.add_axes(
        (LEFT_PT / WIDTH_PT, bottom / height, (WIDTH_PT - LEFT_PT - RIGHT_PT) / WIDTH_PT, tall / height)
    )
    axes.set_xlim(*weeks)
    axes.set_xticks([])
    return axes


def _weeks(panels: Sequence[Panel], doses: Sequence[Mark]) -> tuple[float, float]:
    every = [0.0, 4.0, *(week for panel in panels for week, _ in panel.points), *(mark.week for mark in doses)]
    margin = 0.025 * (max(every) - min(every))
    return min(every) - margin, max(every) + margin


def _per_week(axes: Axes) -> float:
    low, high = axes.get_xlim()
    return (WIDTH_PT - LEFT_PT - RIGHT_PT) / (high - low)


# --- a measure ------------------------------------------------------------------------------------------------------


def _panel(axes: Axes, panel: Panel) -> None:
    low, high, ticks = _height(panel)
    axes.set_ylim(low, high)
    axes.axvline(0, color=GREY, lw=0.6, ls=(0, (2, 2)), zorder=1)
    step = step_between(ticks)
    axes.set_yticks(ticks, [fixed(tick, 0 if step == int(step) else 1) for tick in ticks])
    axes.annotate(
        panel.title, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", va="bottom", color=INK
    )
    if panel.band:
        axes.axhspan(*panel.band, color=BAND, lw=0, zorder=0)
    for level in panel.levels:
        axes.axhline(level.at, color=RED, lw=0.7, ls=(0, (1.5, 2)), zorder=2)
    weeks, values = zip(*panel.points, strict=True)
    axes.plot(weeks, values, color=BLUE, lw=1.4, zorder=3)
    axes.plot(weeks, values, "o", color=BLUE, ms=5, zorder=4, clip_on=False)
    _labels(axes, panel)


def _height(panel: Panel) -> tuple[float, float, list[float]]:
    """The whole of a short scale; of a long one what the values, the band and the thresholds need."""
    low, high = map(float, panel.scale)  # a scale is no number that remembers anything
    if high - low > 30:
        shown = [value for _, value in panel.points]
        shown += [level.at for level in panel.levels] + list(panel.band or ())
        middle, half = (min(shown) + max(shown)) / 2, max((max(shown) - min(shown)) / 2, (high - low) / 10)
        low, high = max(low, middle - half), min(high, middle + half)
        return nice_range(low, high, panel.scale, ticks=2)
    middle = (low + high) / 2
    return low, high, [low, *([middle] if middle == int(middle) else []), high]


def _labels(axes: Axes, panel: Panel) -> None:
    """The last value, and what each threshold is, at the right edge, moved apart."""
    wanted = [(panel.points[-1][1], panel.last, BLUE, 600), *((one.at, one.words, RED, 400) for one in panel.levels)]
    wanted.sort(key=lambda label: label[0])
    low, high = axes.get_ylim()
    per_unit = PANEL_PT / (high - low)
    heights = [(at - low) * per_unit for at, *_ in wanted]
    for (_, words, colour, weight), at in zip(wanted, apart(heights, LABEL_PT, 0, PANEL_PT), strict=True):
        axes.annotate(
            words, (1, 0), (6, at), xycoords="axes fraction", textcoords="offset points", va="center", color=colour,
            weight=weight, size=7.9, annotation_clip=False,
        )  # fmt: skip


# --- doses ----------------------------------------------------------------------------------------------------------


def _doses(axes: Axes, doses: Sequence[Mark]) -> None:
    known = [mark.mg for mark in doses if mark.mg is not None]
    top = max(known, default=1.0)
    axes.set(ylim=(0, 1.6 * top), yticks=[])  # room for the mg of the highest dose below the title
    axes.grid(visible=False)
    title = "Doses, mg of ketamine" if any(mark.is_session for mark in doses) else "Doses"
    axes.annotate(title, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", va="bottom", color=INK)
    for mark in doses:
        height = mark.mg if mark.mg is not None else 0.15 * top
        axes.plot([mark.week] * 2, [0, height], color=INK if mark.is_session else GREY, lw=1.4, solid_capstyle="butt")
        axes.plot(mark.week, height, "o" if mark.is_session else "s", color=INK if mark.is_session else GREY, ms=3.6)
    for mark in _named(doses, DOSE_LABEL_PT / _per_week(axes)):
        words = fixed(mark.mg, 0) if mark.mg is not None else "?"
        axes.annotate(
            words, (mark.week, mark.mg if mark.mg is not None else 0.15 * top), (0, 3), textcoords="offset points",
            ha="center", va="bottom", size=7.9, color=MUTED,
        )  # fmt: skip
    if any(not mark.is_session for mark in doses):
        words = "grey: not an IM session"
        axes.annotate(
            words, (1, 0.2), (6, 0), xycoords="axes fraction", textcoords="offset points", size=7.9, color=MUTED
        )


def _named(doses: Sequence[Mark], apart_by: float) -> list[Mark]:
    """The doses with their mg written on: as many as have room, a dose that differs from the last one named first."""
    chosen: list[Mark] = []
    differing = [mark for i, mark in enumerate(doses) if i == 0 or mark.mg != doses[i - 1].mg]
    for mark in (*doses[:1], *doses[-1:], *differing, *doses):
        if all(abs(mark.week - other.week) >= apart_by for other in chosen):
            chosen.append(mark)
    return chosen


def _week_axis(axes: Axes, weeks: tuple[float, float]) -> None:
    ticks = [tick for tick in nice_range(*weeks, (-1e6, 1e6), ticks=8)[2] if weeks[0] <= tick <= weeks[1]]
    whole = [tick for tick in ticks if tick == int(tick)]
    axes.set_xticks(whole, [fixed(tick, 0) for tick in whole])
    axes.tick_params(axis="x", length=0, pad=4)
    axes.set_xlabel("Weeks since first dose")
