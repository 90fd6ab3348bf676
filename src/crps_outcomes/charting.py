"""From months to a process chart, the same way for the rows of ESTIMATES and for the page that draws them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from crps_outcomes import spc
from crps_outcomes.traced import traced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crps_outcomes.monitoring import Quality, Watched


@dataclass(frozen=True)
class Monthly:
    """The months of a measure that have a value, such as "2026-03", with the denominator of each."""

    months: tuple[str, ...]
    values: tuple[float, ...]
    sizes: tuple[int, ...]


def settings_of(watched: Watched, plan: Quality) -> spc.Settings:
    """How the protocol wants a measure charted."""
    return spc.Settings(watched.chart, plan.variant, plan.screen, watched.fixed_after)


def rebases_of(watched: Watched, months: Sequence[str]) -> tuple[int, ...]:
    """For each declared rebase, the index of the first month that belongs to the new process."""
    return tuple(sum(month < f"{rebase.on:%Y-%m}" for month in months) for rebase in watched.rebases)


def chart_of(watched: Watched, plan: Quality, series: Monthly) -> spc.Chart:
    """The chart of a measure that has at least one month with a value."""
    rebases = rebases_of(watched, series.months)
    return spc.chart(series.values, settings_of(watched, plan), sizes=series.sizes, rebases=rebases)


def chart_of_gaps(gaps: Sequence[float], plan: Quality) -> spc.Chart:
    """The chart of sessions between rare events; there is at least one gap."""
    return spc.chart(gaps, spc.Settings("g", plan.variant, plan.screen))


def with_ids(chart: spc.Chart, ref_of: Callable[[spc.Segment], str]) -> spc.Chart:
    """The chart whose latest lines in each segment, the ones that are printed, remember their row of ESTIMATES."""

    def remembering(segment: spc.Segment) -> spc.Segment:
        last, ref = segment.lines[-1], ref_of(segment)
        own = spc.Lines(*(traced(value, ref) for value in (last.centre, last.lower, last.upper))) if ref else last
        return replace(segment, lines=(*segment.lines[:-1], own))

    return replace(chart, segments=tuple(remembering(segment) for segment in chart.segments))


#: Kind of chart -> what its lines are.
METHODS: dict[spc.Kind, str] = {
    "xmr": "mean of months, process limits 2.66 mean moving ranges either side (XmR chart)",
    "p": "pooled share, process limits 3 binomial standard deviations either side (p chart); those of the last month",
    "p_prime": "pooled share, process limits 3 binomial standard deviations times their spread (p' chart); those of the last month",
    "g": "0.693 times the mean, process limits of the geometric distribution (g chart)",
    "t": "process limits of the time to the power 1/3.6 (t chart)",
}
MEDIAN = "median of months (run chart)"
