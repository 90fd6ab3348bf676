"""What every figure shares: style and fonts of the study, a canvas in points, house margins, label check, clean SVG.

matplotlib's settings are global, so one figure is drawn at a time, inside `drawing`.
"""

from __future__ import annotations

import html
import io
import math
import re
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from threading import RLock
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from crps_outcomes.errors import DefinitionError
from crps_outcomes.traced import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

INK, MUTED, BAND, RULE = "#1c2733", "#5a6673", "#f1f4f7", "#c9d0d8"
BLUE, GREY, PERSON = "#0072b2", "#808a96", "#6f8496"
ORANGE, PURPLE, RED = "#c8500a", "#6a3d9a", "#b3261e"
FAMILY, WIDTH_PT = "Source Sans Pro", 493.5
Label = tuple[str, float, str, int]

_ONE_AT_A_TIME = RLock()


@contextmanager
def drawing(templates: Path) -> Iterator[None]:
    """The study's figure style and fonts, for as long as the block lasts; other threads wait.

    Raises:
        DefinitionError: the fonts beside the style are not the ones it names.
    """
    with _ONE_AT_A_TIME, mpl.rc_context(fname=templates / "report.mplstyle"):
        _register(templates / "fonts")
        yield


@lru_cache(maxsize=8)
def _register(fonts: Path) -> None:
    for file in sorted(fonts.glob("*.ttf")):
        font_manager.fontManager.addfont(file)
    wanted = font_manager.FontProperties(family=[FAMILY], weight=600)
    if "Semibold" not in str(font_manager.findfont(wanted)):
        raise DefinitionError(f"templates/fonts: weight 600 of {FAMILY} should resolve to its Semibold file")


def canvas(height_pt: float, width_pt: float = WIDTH_PT) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, in points. No pyplot: no global state, no leak between runs."""
    figure = Figure(figsize=(width_pt / 72, height_pt / 72))
    return figure, figure.add_subplot()


def settle(figure: Figure, axes: Axes, left_pt: float = 30, right_pt: float = 78) -> None:
    """Let the layout engine measure the labels, then align the axes on the house margins."""
    hide_marks(figure)
    figure.draw_without_rendering()
    box, width = axes.get_position(), figure.get_figwidth() * 72
    figure.set_layout_engine("none")
    x0, x1 = max(box.x0, left_pt / width), min(box.x1, 1 - right_pt / width)
    axes.set_position((x0, box.y0, x1 - x0, box.height))


def direct_labels(figure: Figure, axes: Axes, labels: Sequence[Label], gap_pt: float = 9.4, dx_pt: float = 5) -> None:
    """Labels (text, y, colour, weight) at the right edge, moved apart so that none overlap."""
    per_unit = axes.get_position().height * figure.get_figheight() * 72 / float(np.ptp(axes.get_ylim()))
    ordered = sorted(labels, key=lambda label: label[1])
    wanted = [label[1] * per_unit for label in ordered]
    low, high = (edge * per_unit for edge in axes.get_ylim())
    at = apart(wanted, gap_pt, low, high - gap_pt / 2)
    for (text, y, colour, weight), shift in zip(ordered, np.subtract(at, wanted), strict=True):
        axes.annotate(
            text, (1, y), (dx_pt, shift), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            color=colour, weight=weight, size=9 if weight == 700 else None, annotation_clip=False,
        )  # fmt: skip


def apart(wanted: Sequence[float], gap: float, low: float = -math.inf, high: float = math.inf) -> list[float]:
    """Sorted positions pushed apart until neighbours keep ``gap``, inside ``low`` to ``high`` as far as there is room."""
    at = list(wanted)
    for _ in range(60):
        for i in range(len(at) - 1):
            short = gap - (at[i + 1] - at[i])
            if short > 0:
                at[i] -= short / 2
                at[i + 1] += short / 2
    for i in reversed(range(len(at))):
        at[i] = min(at[i], high if i == len(at) - 1 else at[i + 1] - gap)
    for i in range(len(at)):
        at[i] = max(at[i], low if i == 0 else at[i - 1] + gap)
    return at


def rows_without_overlap(positions: Sequence[float], widths: Sequence[float], gap: float = 2) -> list[int]:
    """The row (0, 1, ...) each centred text goes to so that texts of one row keep ``gap`` between them."""
    ends: list[float] = []
    rows = []
    for at, width in zip(positions, widths, strict=True):
        row = next((i for i, end in enumerate(ends) if at - width / 2 >= end + gap), len(ends))
        ends[row : row + 1] = [at + width / 2]
        rows.append(row)
    return rows


def check_text(figure: Figure) -> None:
    """Every label lies inside the figure and touches no other.

    Raises:
        ValueError: one does not; the page would show it clipped or on top of another.
    """
    hide_marks(figure)
    figure.draw_without_rendering()
    boxes = [(text.get_window_extent(), text.get_text()) for text in _painted_texts(figure)]
    for box, words in boxes:
        if box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1:
            raise ValueError(f"label outside the figure: {words!r}")
    for i, (box, words) in enumerate(boxes):
        for other, name in boxes[:i]:
            across = min(box.x1, other.x1) - max(box.x0, other.x0)
            if across > 1 and min(box.y1, other.y1) - max(box.y0, other.y0) > 2:
                raise ValueError(f"labels overlap: {words!r} and {name!r}")


def _painted_texts(figure: Figure) -> list[Text]:
    hidden = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in _outside(axis)}

    def is_painted(artist: Artist) -> bool:
        if not isinstance(artist, Text) or artist in hidden:
            return False
        return artist.get_visible() and bool(artist.get_text().strip())

    return [text for text in figure.findobj(is_painted) if isinstance(text, Text)]


def _outside(axis: mpl.axis.Axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]


_MARKED = "marked-"


def hide_marks(figure: Figure) -> None:
    """Take the marks of traced numbers out of labels before they are measured; a label's id keeps them for the SVG."""
    for text in figure.findobj(Text):
        words = text.get_text()
        if plain(words) != words:
            text.set_gid(f"{_MARKED}{words.encode().hex()}")
            text.set_text(plain(words))


def _show_marks(svg: str) -> str:
    """The SVG with the marks back in its labels."""

    def remarked(group: re.Match[str]) -> str:
        words = bytes.fromhex(group[1]).decode()
        return f"<g>{group[2]}{html.escape(words, quote=False)}</text>"

    return re.sub(
        rf'<g id="{_MARKED}(\w+)">(\s*(?:<!--.*?-->)?\s*<text[^>]*>)[^<]*</text>', remarked, svg, flags=re.DOTALL
    )


def inline_svg(figure: Figure, key: str, alt: str) -> str:
    """SVG for the page: title as alternative text, ids unique in the page, nothing global, no clock."""
    check_text(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = _show_marks(buffer.getvalue())
    svg = re.sub(
        r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", svg[svg.index("<svg") :], flags=re.DOTALL
    )
    svg = re.sub(r"<[^>]+>", _style_as_attributes, svg)
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), svg)
    svg = re.sub(r' transform="rotate\(-?0(\.0+)? [^"]*"|<!--.*?-->', "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{key}-", svg)
    head = '<svg role="img" stroke-linejoin="round" stroke-linecap="butt"'
    return re.sub(r"^<svg([^>]*)>", lambda match: f"{head}{match[1]}><title>{html.escape(alt)}</title>", svg)


def _style_as_attributes(tag: re.Match[str]) -> str:
    """style="fill: x" -> fill="x": WeasyPrint reads style in inline SVG as page CSS and warns on every property."""
    style = re.search(r' style="([^"]*)"', tag[0])
    if not style:
        return tag[0]
    pairs = (item.strip().split(": ", 1) for item in style[1].split(";") if item.strip())
    attributes = (f' {name}="{_attribute(value)}"' for name, value in pairs)
    return tag[0].replace(style[0], "".join(attributes))


def _attribute(value: str) -> str:
    return value.replace("'", "").removesuffix("px")


def nice_range(
    low: float, high: float, limits: tuple[float, float], ticks: int = 4
) -> tuple[float, float, list[float]]:
    """Axis limits that hold the data and stay inside the scale, and round ticks between them."""
    step = _nice_step((high - low) / ticks or 1.0)
    first, last = np.floor(low / step) * step, np.ceil(high / step) * step
    first, last = max(first, limits[0]), min(last, limits[1])
    if first == last:
        first, last = max(first - step, limits[0]), min(last + step, limits[1])
    marks = np.arange(np.ceil(first / step - 1e-9), np.floor(last / step + 1e-9) + 1) * step
    return float(first), float(last), [float(mark) for mark in marks]


def _nice_step(rough: float) -> float:
    magnitude = 10.0 ** np.floor(np.log10(rough))
    return float(next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough * (1 - 1e-9)))


def step_between(ticks: Sequence[float]) -> float:
    return min((b - a for a, b in pairwise(ticks)), default=1.0)
