"""Positions of the small drawings that templates print: sparklines, rate dots and the cohort flow."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from crps_outcomes import spc
from crps_outcomes.figure_kit import nice_range
from crps_outcomes.numbers import fixed, percent
from crps_outcomes.report_model import Dot, FlowBox, Months, Spark
from crps_outcomes.traced import wrapped
from crps_outcomes.wording import capital, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crps_outcomes.facts import Step
    from crps_outcomes.figures import Point

BOX_STEP, BOX_HEIGHT, LINE_HEIGHT, OUT_CHARACTERS = 48.0, 34.0, 12.0, 50


def spark(points: Sequence[Point], week: float, alt: str) -> Spark | None:
    """A line of the points by real time with its interval band; None when fewer than two points are known."""
    if len(points) < 2:
        return None
    width, height, edge = 88.0, 22.0, 3.0
    lows, highs = ([_edge(p.lower, p.mean) for p in points], [_edge(p.upper, p.mean) for p in points])
    low, high = min(lows), max(highs)
    per_week = (width - 2 * edge) / (points[-1].week - points[0].week)
    per_unit = (height - 2 * edge) / ((high - low) or 1)
    xs = [edge + (p.week - points[0].week) * per_week for p in points]

    def ys(values: Sequence[float]) -> list[float]:
        return [height - edge - (value - low) * per_unit for value in values]

    line = ys([p.mean for p in points])
    at = next((i for i, p in enumerate(points) if p.week == week), len(points) - 1)
    band = [*zip(xs, ys(highs), strict=True), *reversed([*zip(xs, ys(lows), strict=True)])]
    return Spark(
        _path([*zip(xs, line, strict=True)]), _path(band), round(float(xs[at]), 1), round(float(line[at]), 1), alt
    )


def months(chart: spc.Chart, places: Sequence[int], states: Sequence[spc.State], top: float | None, alt: str) -> Months:
    """A process chart without axes: limits as a band, the centre as a line, dots where a point signals and for the latest."""
    width, height, edge = 108.0, 24.0, 3.5
    lines = [spc.drawn(one, 0, top) for one in chart.lines]
    seen = [
        *chart.values,
        *(limit for one in lines for limit in (one.lower, one.upper, one.centre) if limit is not None),
    ]
    low, per_unit = min(seen), (height - 2 * edge) / ((max(seen) - min(seen)) or 1)
    per_place = (width - 2 * edge) / ((places[-1] - places[0]) or 1)

    def x(place: float) -> float:
        return round(edge + (place - places[0]) * per_place, 1)

    def y(value: float) -> float:
        return round(height - edge - (value - low) * per_unit, 1)

    bands, centres = [], []
    for segment in chart.segments:
        own = range(segment.start, segment.start + len(segment.values))
        ends = (places[own[0]] - 0.4, places[own[-1]] + 0.4)
        centres.append(_path([(x(place), y(lines[own[-1]].centre)) for place in ends]))
        upper = [(x(places[i]), y(limit)) for i in own if (limit := lines[i].upper) is not None]
        lower = [(x(places[i]), y(limit)) for i in own if (limit := lines[i].lower) is not None]
        bands += [_path([*upper, *reversed(lower)])] if len(upper) > 1 else []
    at = [(x(place), y(value)) for place, value in zip(places, chart.values, strict=True)]
    dots = [(*spot, 1.7, state) for spot, state in zip(at[:-1], states[:-1], strict=True) if state != "common"]
    return Months(tuple(bands), tuple(centres), _path(at), (*dots, (*at[-1], 2.6, states[-1])), alt)


def _edge(limit: float | None, mean: float) -> float:
    return mean if limit is None else limit


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{float(x):.1f},{float(y):.1f}" for x, y in points)


def rate_scale(uppers: Sequence[float]) -> tuple[float, float, list[float]]:
    """The scale of a column of rate dots, from 0 to a round number above the largest upper limit."""
    return nice_range(0.0, max(uppers, default=1.0), (0.0, math.inf), ticks=4)


def rate_dot(rate: float, lower: float, upper: float, scale: tuple[float, float, list[float]], alt: str) -> Dot:
    """A rate with its interval on the column's scale."""
    per_unit = 88.0 / scale[1]

    def place(value: float) -> float:
        return round(4 + float(value) * float(per_unit), 1)

    return Dot(place(rate), place(lower), place(upper), tuple(place(tick) for tick in scale[2]), alt)


def grid_words(scale: tuple[float, float, list[float]]) -> str:
    """The grid of the rate dots in words: "0, 10, 20 and 30"."""
    ticks = [fixed(tick, 0 if tick == int(tick) else 1) for tick in scale[2]]
    return " and ".join([", ".join(ticks[:-1]), ticks[-1]]) if len(ticks) > 1 else "".join(ticks)


def flow_boxes(steps: Sequence[Step]) -> tuple[FlowBox, ...]:
    """The boxes of the cohort flow from top to bottom; the stage is named on its first box only."""
    boxes = []
    for i, step in enumerate(steps):
        above = steps[i - 1] if i else None
        is_last = i == len(steps) - 1
        boxes.append(
            FlowBox(
                top=2 + i * BOX_STEP,
                stage="" if above and above.stage == step.stage else step.stage,
                label=capital(step.label),
                count=_box_count(step, above),
                out=() if is_last else _left(step),
                is_last=is_last,
            )
        )
    return tuple(boxes)


def flow_height(boxes: Sequence[FlowBox]) -> float:
    return (boxes[-1].top + BOX_HEIGHT + 2) if boxes else 0.0


def _box_count(step: Step, above: Step | None) -> str:
    words = f"n = {counted(step.n)}"
    if above and above.n and step.n is not None:
        return f"{words} ({percent(100 * step.n / above.n, above.n)} of the box above)"
    return words


def _left(step: Step) -> tuple[tuple[float, str], ...]:
    """The lines beside the arrow with their heights; nothing when nobody left."""
    if step.n_left == 0:
        return ()
    words = f"{capital(step.reason or 'left')}: n = {counted(step.n_left)}"
    lines = wrapped(words, lambda text: textwrap.wrap(text, OUT_CHARACTERS))
    return tuple((BOX_HEIGHT + 10 + LINE_HEIGHT * i, line) for i, line in enumerate(lines))
