"""Statistical process control: is a series of months changing, or is it noise?

Plain values in, charts out; nothing here knows what is measured. Sources: XmR limits and their constants, Wheeler 2000
(Understanding Variation); the rules and both readings of "two of three", NHS England Making Data Count 2021 and 2023;
p and p-prime charts, Laney 2002; g charts, Benneyan 2001; t charts, Nelson 1994; runs and crossings of a run chart,
Anhøj and Olesen 2014.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Literal

from scipy import stats

from crps_outcomes.traced import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Kind = Literal["xmr", "p", "p_prime", "g", "t"]
Variant = Literal["mdc_2021", "mdc_2023"]
Side = Literal["above", "below"]
Better = Literal["higher", "lower", "none"]
Rule = Literal["outside limits", "trend", "two of three", "shift"]
State = Literal["common", "improving", "concern", "neutral", "none"]
Target = Literal["met", "missed", "by chance", "none"]

LEAST_FOR_LIMITS = 13  # points of a segment; fewer make a run chart
LEAST_FOR_BASELINE = 12  # points that fixed limits are worked out from
RUN = 7  # points of a trend or a shift
PER_RANGE, SCREEN_RANGE, D2 = 2.66, 3.267, 1.128  # 3 / d2, D4 and d2 for ranges of two
NEAR = 2 / 3  # of the way from the centre to a limit
T_POWER = 3.6  # makes waiting times nearly normal
MEDIAN_OF_WAITING = 0.693  # of the mean, for the centre of a g chart
TOLERANCE = 1e-9  # of floating point: far below any difference that is printed


@dataclass(frozen=True)
class Hit:
    """One rule that one point breaks, and where to: for a trend, the side it travels to."""

    rule: Rule
    side: Side


@dataclass(frozen=True)
class Lines:
    """Centre and limits at one point; no limits on a run chart."""

    centre: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Settings:
    """How a series is charted. ``fixed_after`` fixes the limits of a segment from its first so many points; 0: from all."""

    kind: Kind = "xmr"
    variant: Variant = "mdc_2023"
    screen: bool = True
    fixed_after: int = 0

    def __post_init__(self) -> None:
        """Refuse a baseline that is too short.

        Raises:
            ValueError: fewer points than fixed limits need.
        """
        if 0 < self.fixed_after < LEAST_FOR_BASELINE:
            raise ValueError(f"fixed_after: limits are fixed from at least {LEAST_FOR_BASELINE} points, or 0 for never")


@dataclass(frozen=True)
class Segment:
    """The points from ``start`` on that share one process; windows of rules and moving ranges never leave it."""

    start: int
    values: tuple[float, ...]
    lines: tuple[Lines, ...]
    hits: tuple[tuple[Hit, ...], ...]
    n_baseline: int  # points that the lines come from
    n_screened: int = 0  # moving ranges left out of their mean

    @property
    def is_run_chart(self) -> bool:
        return len(self.values) < LEAST_FOR_LIMITS

    @property
    def is_fixed(self) -> bool:
        """Whether points have come after those that the limits were worked out from."""
        return self.n_baseline < len(self.values)


@dataclass(frozen=True)
class Chart:
    """A series with its segments in order."""

    segments: tuple[Segment, ...]

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(value for segment in self.segments for value in segment.values)

    @property
    def lines(self) -> tuple[Lines, ...]:
        return tuple(lines for segment in self.segments for lines in segment.lines)

    @property
    def hits(self) -> tuple[tuple[Hit, ...], ...]:
        return tuple(hits for segment in self.segments for hits in segment.hits)

    @property
    def last(self) -> Segment:
        return self.segments[-1]


def chart(
    values: Sequence[float],
    settings: Settings | None = None,
    *,
    sizes: Sequence[int] | None = None,
    rebases: Sequence[int] = (),
) -> Chart:
    """The series charted.

    Args:
        values: one number per point in the order of time, none missing; percentages for p charts.
        settings: kind of chart, variant of rules, screening, fixed baseline.
        sizes: the denominator of each percentage, for p charts.
        rebases: the indices at which somebody declared that a new process begins.

    Raises:
        ValueError: no value, a value that is not finite, or a p chart without denominators.
    """
    settings = settings or Settings()
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError("a chart needs at least one value, and every value must be a finite number")
    if settings.kind in {"p", "p_prime"} and (sizes is None or len(sizes) != len(values)):
        raise ValueError("a p chart needs the denominator of every percentage")
    edges = sorted({0, *(index for index in rebases if 0 < index < len(values)), len(values)})
    own_sizes = tuple(sizes) if sizes is not None else (0,) * len(values)
    return Chart(tuple(_segment(a, tuple(values[a:b]), own_sizes[a:b], settings) for a, b in pairwise(edges)))


def _segment(start: int, values: tuple[float, ...], sizes: tuple[int, ...], settings: Settings) -> Segment:
    if len(values) < LEAST_FOR_LIMITS:
        return Segment(start, values, (Lines(_median(values)),) * len(values), ((),) * len(values), len(values))
    n = settings.fixed_after or len(values)
    lines = _LINES[settings.kind](values, sizes, n, settings)
    found = Segment(start, values, lines, (), n, _n_screened(values[:n], settings))
    return replace(found, hits=_hits(values, lines, settings))


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


# --- limits -------------------------------------------------------------------------------------------------------


def moving_ranges(values: Sequence[float]) -> tuple[float, ...]:
    """The distance of each value from the one before it."""
    return tuple(abs(two - one) for one, two in pairwise(values))


def mean_range(values: Sequence[float], *, screen: bool) -> float:
    """The mean moving range; screened, ranges of 3.267 times it or more are left out once. Equal values give 0."""
    kept = _screened(moving_ranges(values), screen=screen)
    return _mean(kept)


def _screened(ranges: Sequence[float], *, screen: bool) -> Sequence[float]:
    edge = SCREEN_RANGE * _mean(ranges)
    kept = [one for one in ranges if one < edge - TOLERANCE]
    return kept if screen and kept else ranges


def _n_screened(values: Sequence[float], settings: Settings) -> int:
    ranges = moving_ranges(values)
    return len(ranges) - len(_screened(ranges, screen=settings.screen)) if settings.kind in {"xmr", "t"} else 0


def _xmr(values: Sequence[float], _sizes: Sequence[int], n: int, settings: Settings) -> tuple[Lines, ...]:
    centre, reach = _mean(values[:n]), PER_RANGE * mean_range(values[:n], screen=settings.screen)
    return (Lines(centre, centre - reach, centre + reach),) * len(values)


def _p(values: Sequence[float], sizes: Sequence[int], n: int, _settings: Settings) -> tuple[Lines, ...]:
    centre = _pooled(values[:n], sizes[:n])
    return tuple(Lines(centre, centre - 3 * sd, centre + 3 * sd) for sd in _binomial_sd(centre, sizes))


def _p_prime(values: Sequence[float], sizes: Sequence[int], n: int, _settings: Settings) -> tuple[Lines, ...]:
    """Limits of a p chart, widened (or narrowed) by how much the standardised points vary from one to the next."""
    centre = _pooled(values[:n], sizes[:n])
    sds = _binomial_sd(centre, sizes)
    scores = [(value - centre) / sd if sd else 0.0 for value, sd in zip(values[:n], sds[:n], strict=True)]
    factor = _mean(moving_ranges(scores)) / D2
    return tuple(Lines(centre, centre - 3 * sd * factor, centre + 3 * sd * factor) for sd in sds)


def _pooled(values: Sequence[float], sizes: Sequence[int]) -> float:
    return math.fsum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)


def _binomial_sd(percent: float, sizes: Sequence[int]) -> list[float]:
    return [math.sqrt(max(percent * (100 - percent), 0.0) / size) for size in sizes]


def _g(values: Sequence[float], _sizes: Sequence[int], n: int, _settings: Settings) -> tuple[Lines, ...]:
    """Opportunities between rare events: limits of the geometric distribution, its median as centre."""
    mean = _mean(values[:n])
    reach = 3 * math.sqrt(mean * (mean + 1))
    return (Lines(MEDIAN_OF_WAITING * mean, max(mean - reach, 0.0), mean + reach),) * len(values)


def _t(values: Sequence[float], _sizes: Sequence[int], n: int, settings: Settings) -> tuple[Lines, ...]:
    """Time between rare events: an XmR chart of the time to the power 1 / 3.6, drawn on the scale of time."""
    straight = [value ** (1 / T_POWER) for value in values[:n]]
    centre, reach = _mean(straight), PER_RANGE * mean_range(straight, screen=settings.screen)
    lower, middle, upper = (max(one, 0.0) ** T_POWER for one in (centre - reach, centre, centre + reach))
    return (Lines(middle, lower, upper),) * len(values)


_LINES: Mapping[Kind, Callable[[Sequence[float], Sequence[int], int, Settings], tuple[Lines, ...]]] = {
    "xmr": _xmr, "p": _p, "p_prime": _p_prime, "g": _g, "t": _t,
}  # fmt: skip


def drawn(lines: Lines, low: float | None = None, high: float | None = None) -> Lines:
    """The lines as they are drawn, cut to the scale; rules always take the uncut ones."""

    def cut(value: float | None) -> float | None:
        if value is None:
            return None
        return within(value, -math.inf if low is None else low, math.inf if high is None else high)

    return Lines(lines.centre, cut(lines.lower), cut(lines.upper))


# --- rules --------------------------------------------------------------------------------------------------------


def _side(value: float, centre: float) -> Side | None:
    """On which side of the centre a value lies; a value on it lies on none."""
    if abs(value - centre) <= TOLERANCE:
        return None
    return "above" if value > centre else "below"


def _outside(values: Sequence[float], lines: Sequence[Lines], _variant: Variant) -> Iterator[tuple[int, Side]]:
    for i, (value, own) in enumerate(zip(values, lines, strict=True)):
        side = _beyond(value, own)
        if side:
            yield i, side


def _beyond(value: float, lines: Lines) -> Side | None:
    if lines.upper is not None and value > lines.upper + TOLERANCE:
        return "above"
    if lines.lower is not None and value < lines.lower - TOLERANCE:
        return "below"
    return None


def _trend(values: Sequence[float], _lines: Sequence[Lines], _variant: Variant) -> Iterator[tuple[int, Side]]:
    steps = [_side(two, one) for one, two in pairwise(values)]
    for i in range(len(values) - RUN + 1):
        side = _all_one(steps[i : i + RUN - 1])
        if side:
            yield from ((j, side) for j in range(i, i + RUN))


def _two_of_three(values: Sequence[float], lines: Sequence[Lines], variant: Variant) -> Iterator[tuple[int, Side]]:
    sides = [_side(value, own.centre) for value, own in zip(values, lines, strict=True)]
    near = [_is_near(value, own, variant) for value, own in zip(values, lines, strict=True)]
    for i in range(len(values) - 2):
        side, flagged = _all_one(sides[i : i + 3]), [j for j in range(i, i + 3) if near[j]]
        if side and len(flagged) >= 2:
            yield from ((j, side) for j in flagged)


def _is_near(value: float, lines: Lines, variant: Variant) -> bool:
    """At the near line or beyond it; what lies outside the limits counts in the variant of 2023 only."""
    if variant == "mdc_2021" and _beyond(value, lines):
        return False
    up, down = (None if limit is None else NEAR * (limit - lines.centre) for limit in (lines.upper, lines.lower))
    distance = value - lines.centre
    return (up is not None and distance >= up - TOLERANCE) or (down is not None and distance <= down + TOLERANCE)


def _shift(values: Sequence[float], lines: Sequence[Lines], _variant: Variant) -> Iterator[tuple[int, Side]]:
    sides = [_side(value, own.centre) for value, own in zip(values, lines, strict=True)]
    for i in range(len(values) - RUN + 1):
        side = _all_one(sides[i : i + RUN])
        if side:
            yield from ((j, side) for j in range(i, i + RUN))


def _all_one(sides: Sequence[Side | None]) -> Side | None:
    """The side all of them are on, or none."""
    return sides[0] if len(set(sides)) == 1 else None


#: The rules in their order of precedence: the first one a point breaks gives its colour.
RULES: Mapping[Rule, Callable[[Sequence[float], Sequence[Lines], Variant], Iterator[tuple[int, Side]]]] = {
    "outside limits": _outside, "trend": _trend, "two of three": _two_of_three, "shift": _shift,
}  # fmt: skip
#: Two thirds of a limit mean nothing where the scale is skewed.
_SKEWED: frozenset[Kind] = frozenset({"g", "t"})


def _hits(values: Sequence[float], lines: Sequence[Lines], settings: Settings) -> tuple[tuple[Hit, ...], ...]:
    """All rules each point breaks, in the order of precedence."""
    found: list[list[Hit]] = [[] for _ in values]
    for rule, flagged in RULES.items():
        if rule == "two of three" and settings.kind in _SKEWED:
            continue
        for i, side in dict.fromkeys(flagged(values, lines, settings.variant)):
            found[i].append(Hit(rule, side))
    return tuple(tuple(hits) for hits in found)


# --- run charts ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runs:
    """Runs of a run chart: the longest one and how often the line crosses the median, with what chance allows."""

    n_useful: int  # points that do not lie on the median
    longest: int
    longest_allowed: int
    crossings: int
    crossings_needed: int

    @property
    def is_signal(self) -> bool:
        return self.longest > self.longest_allowed or self.crossings < self.crossings_needed


def runs(segment: Segment) -> Runs:
    """Runs and crossings of a segment; points on the median count for neither."""
    sides = [_side(value, own.centre) for value, own in zip(segment.values, segment.lines, strict=True)]
    useful = [side for side in sides if side]
    n, lengths = len(useful), [len([*same]) for _, same in groupby(useful)]
    if n == 0:
        return Runs(0, 0, 0, 0, 0)
    needed = int(stats.binom.ppf(0.05, n - 1, 0.5)) if n > 1 else 0
    return Runs(n, max(lengths), round(math.log2(n)) + 3, len(lengths) - 1, needed)


# --- what the latest point says -------------------------------------------------------------------------------------


def state(hits: Sequence[Hit], better: Better) -> State:
    """What a point says: common cause, or a special cause to the good side, to the bad side, or without a good side."""
    if not hits:
        return "common"
    if better == "none":
        return "neutral"
    return "improving" if (hits[0].side == "above") == (better == "higher") else "concern"


def variation(charted: Chart, better: Better) -> State:
    """The variation icon: the state of the latest point; none where its segment is a run chart."""
    return "none" if charted.last.is_run_chart else state(charted.last.hits[-1], better)


def is_signal(charted: Chart) -> bool:
    """Whether the latest point signals: by a rule, or in a run chart by an unusual run."""
    segment = charted.last
    return runs(segment).is_signal if segment.is_run_chart else bool(segment.hits[-1])


def standing(charted: Chart, better: Better) -> str:
    """The state of the latest point in words, of a run chart whether a run is unusual."""
    found = variation(charted, better)
    return found if found != "none" else "unusual run" if is_signal(charted) else "no unusual run"


def target_state(charted: Chart, target: float | None, better: Better) -> Target:
    """The target icon, from the limits of the last segment: met or missed every time if nothing changes, or by chance."""
    segment = charted.last
    lines = segment.lines[-1]
    if target is None or better == "none" or lines.lower is None or lines.upper is None or needs_review(charted):
        return "none"
    if lines.lower - TOLERANCE <= target <= lines.upper + TOLERANCE:
        return "by chance"
    return "missed" if (target > lines.upper) == (better == "higher") else "met"


def needs_review(charted: Chart) -> bool:
    """Whether fixed limits no longer describe the process: seven points in a row or more signal to one side."""
    segment = charted.last
    return segment.is_fixed and any(len(part) >= RUN for part in episodes(segment))


def episodes(segment: Segment) -> tuple[tuple[int, ...], ...]:
    """Indices within the segment of points that signal one after the other, to one side."""
    sides = [hits[0].side if hits else None for hits in segment.hits]
    groups = groupby(range(len(sides)), key=lambda i: sides[i])
    return tuple(tuple(part) for side, part in groups if side)


def began(segment: Segment) -> int:
    """The index within the segment at which what the latest point signals began.

    A shift begins with the first point on its side of the centre, a trend with the point it leaves, the other rules with
    the first of the points that signal one after the other. The latest point must signal.
    """
    hit, last = segment.hits[-1][0], len(segment.values) - 1
    if hit.rule == "shift":
        goes_on = [_side(v, own.centre) == hit.side for v, own in zip(segment.values, segment.lines, strict=True)]
    elif hit.rule == "trend":
        goes_on = [_side(two, one) == hit.side for one, two in pairwise(segment.values)]
        return last - _length_at_end(goes_on)
    else:
        return episodes(segment)[-1][0]
    return last + 1 - _length_at_end(goes_on)


def _length_at_end(holds: Sequence[bool]) -> int:
    return next((i for i, one in enumerate(reversed(holds)) if not one), len(holds))
