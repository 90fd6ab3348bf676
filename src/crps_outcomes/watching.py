"""What the quality report says of one measure: its months, its chart, and the sentences that follow from the rules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from crps_outcomes import spc
from crps_outcomes.analysis.cohort import TREATED
from crps_outcomes.analysis.quality import CROSSINGS, LONGEST
from crps_outcomes.analysis.rows import Key
from crps_outcomes.charting import Monthly, chart_of, rebases_of, with_ids
from crps_outcomes.facts import MONTHS
from crps_outcomes.marks import NOT_AVAILABLE
from crps_outcomes.monitoring import WATCHABLE
from crps_outcomes.numbers import count, fixed, in_words, month, percent, plural
from crps_outcomes.traced import traced, within
from crps_outcomes.wording import k_of_n

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.monitoring import Quality, Watched


@dataclass(frozen=True)
class Watch:
    """One measure with all its complete months; ``chart`` is None where no month has a value."""

    measure: Watched
    plan: Quality
    rows: tuple[Estimate, ...]

    @property
    def id(self) -> str:
        return self.measure.id

    @cached_property
    def known(self) -> tuple[Estimate, ...]:
        return tuple(row for row in self.rows if not row.mark and row.estimate is not None)

    @cached_property
    def series(self) -> Monthly:
        return Monthly(
            tuple(row.visit for row in self.known),
            tuple(float(row.estimate or 0.0) for row in self.known),  # plain: a chart would carry along every id
            tuple(row.n or 0 for row in self.known),
        )

    @cached_property
    def chart(self) -> spc.Chart | None:
        if not self.known:
            return None
        found = chart_of(self.measure, self.plan, self.series)
        return with_ids(found, lambda segment: self._ref("centre", segment.start))

    def _ref(self, statistic: str, place: int, group: str = "") -> str:
        """The id of a row that was worked out from the months, by the place of its month; "" where nothing is traced."""
        row = self.known[place]
        return Key(MONTHS, statistic, TREATED, self.id, row.visit, group).id if row.id else ""

    def month(self, place: int) -> str:
        """A month with a value in words; it remembers its row."""
        row = self.known[place]
        return row.key(month(row.visit))

    def told(self, n: int, statistic: str, place: int, group: str = "") -> int:
        """A count that the chart gives, which remembers its row."""
        own: int = traced(n, ref) if (ref := self._ref(statistic, place, group)) else n
        return own

    @property
    def n_months(self) -> int:
        """Months with a value."""
        return sum(self.points(segment) for segment in self.chart.segments) if self.chart else 0

    def points(self, segment: spc.Segment) -> int:
        """Months of a segment."""
        return self.told(len(segment.values), "points", segment.start)

    @property
    def one(self) -> int:
        """This measure as one of those that have a chart, for counting them."""
        return 0 if self.chart is None else self.told(1, "latest", -1, spc.standing(self.chart, self.measure.better))

    @property
    def state(self) -> spc.State:
        return "none" if self.chart is None else spc.variation(self.chart, self.measure.better)

    @cached_property
    def states(self) -> tuple[spc.State, ...]:
        """The state of every month: what it is coloured by."""
        return () if self.chart is None else tuple(spc.state(hits, self.measure.better) for hits in self.chart.hits)

    @property
    def is_high(self) -> bool:
        """Whether what the latest point signals goes up."""
        return bool(self.chart and self.chart.last.hits[-1] and self.chart.last.hits[-1][0].side == "above")

    @property
    def target(self) -> spc.Target:
        if self.chart is None:
            return "none"
        return spc.target_state(self.chart, self.measure.target, self.measure.better)

    @property
    def name(self) -> str:
        """The label inside a sentence."""
        return self.measure.label[:1].lower() + self.measure.label[1:]

    @cached_property
    def rebases(self) -> tuple[tuple[int, str], ...]:
        """Index and reason of each rebase that lies inside the chart."""
        places = rebases_of(self.measure, self.series.months)
        pairs = zip(places, self.measure.rebases, strict=True)
        return tuple((i, rebase.reason) for i, rebase in pairs if 0 < i < len(self.known))


def watched(facts: Facts, *, front: bool | None = None) -> tuple[Watch, ...]:
    """The measures of the protocol in its order: all, those of page 1, or the others."""
    plan = facts.protocol.quality
    chosen = (measure for measure in plan.measures if front is None or measure.front == front)
    return tuple(Watch(one, plan, facts.every("quality", "month", measure=one.id)) for one in chosen)


# --- values ---------------------------------------------------------------------------------------------------------


def decimals(watch: Watch) -> int:
    return 0 if watch.measure.unit in {"%", "days"} else 1


def shown_value(watch: Watch, value: float | None) -> str:
    """A value or line of the chart, cut to what the scale can be."""
    if value is None:
        return NOT_AVAILABLE
    top = 100.0 if watch.measure.is_share else math.inf
    return f"{fixed(within(value, 0.0, top), decimals(watch))}{'%' if watch.measure.is_share else ''}"


def big_value(watch: Watch, row: Estimate) -> str:
    """The value of one month, such as "81%"."""
    if row.mark or row.estimate is None:
        return NOT_AVAILABLE
    return percent(row.estimate, row.n or 0) if watch.measure.is_share else fixed(row.estimate, decimals(watch))


def counts_of(watch: Watch, row: Estimate) -> str:
    """What a month's value rests on, such as "22 of 27", "median of 9 people", or why there is no value."""
    if row.k is None:
        return f"median of {plural(row.n, 'person', 'people')}" if row.n else row.reason or "no data"
    if watch.measure.is_share:
        return k_of_n(row)
    if watch.id == "sessions_per_week":
        return plural(row.k, "session")
    return f"{count(row.k)} in {plural(row.n or 0, 'session')}"


def counts_in_brief(watch: Watch, row: Estimate) -> str:
    """The same for a narrow column: "22 of 27", "9", "3 in 25"."""
    n = 0 if row.n is None else row.n
    if row.k is None:
        return count(n)
    if watch.measure.is_share:
        return k_of_n(row)
    return count(row.k) if watch.id == "sessions_per_week" else f"{count(row.k)} in {count(n)}"


def sizes_in_words(watch: Watch) -> str:
    """How large the denominators are; nothing for bare counts."""
    if not watch.known or watch.id == "sessions_per_week":
        return ""
    sizes, what = watch.series.sizes, WATCHABLE[watch.measure.id].each
    span = f"{count(min(sizes))} to {count(max(sizes))}" if min(sizes) < max(sizes) else count(min(sizes))
    return f"{span} {what} a month."


# --- sentences ------------------------------------------------------------------------------------------------------


def months_in_words(n: int) -> str:
    return plural(n, "month")


def said(watch: Watch) -> str:
    """What the rules say of the latest month, and of the target."""
    if watch.chart is None:
        return "No complete month has a value yet."
    segment = watch.chart.last
    first = _run_chart(watch, segment) if segment.is_run_chart else _control_chart(watch, segment)
    review = " Limits need review." if spc.needs_review(watch.chart) else ""
    return f"{first}{review}{target_in_words(watch)}"


def _run_chart(watch: Watch, segment: spc.Segment) -> str:
    found = spc.runs(segment)
    centre = shown_value(watch, segment.lines[-1].centre)
    n_months = months_in_words(watch.points(segment))
    start = f"Run chart of {n_months} (limits from {spc.LEAST_FOR_LIMITS}), median {centre}: "
    if found.longest > found.longest_allowed:
        longest = count(watch.told(found.longest, "runs", segment.start, LONGEST))
        return f"{start}{longest} in a row on one side, more than chance gives."
    if found.crossings < found.crossings_needed:
        n = watch.told(found.crossings, "runs", segment.start, CROSSINGS)
        crossings = f"{plural(n, 'crossing')} of the median"
        return f"{start}only {crossings}, fewer than chance gives."
    return f"{start}no unusual run."


def _control_chart(watch: Watch, segment: spc.Segment) -> str:
    hits = segment.hits[-1]
    if hits:
        return _signal(watch, segment, hits[0])
    lines = segment.lines[-1]
    limits = f"{shown_value(watch, lines.lower)} to {shown_value(watch, lines.upper)}"
    if watch.measure.is_share and (lines.lower or 0.0) <= 0 and (lines.upper or 0.0) >= 100:
        return f"Too few a month for limits inside the scale. {_earlier(watch, segment)}"
    return f"In its usual range ({limits}). {_earlier(watch, segment)}"


def _earlier(watch: Watch, segment: spc.Segment) -> str:
    found = spc.episodes(segment)
    if not found:
        return f"No signal in {months_in_words(watch.points(segment))}."
    last = found[-1]
    rule = segment.hits[last[0]][0].rule
    return f"Last signal: {_span(watch, segment, last)}, {RULE_NAMES[rule]}."


def signals_in_words(watch: Watch) -> str:
    """The months that signal in the last segment with their rule, or that none does."""
    segment = None if watch.chart is None else watch.chart.last
    if segment is None or segment.is_run_chart:
        return "no limits" if segment else "no signal"
    found = [
        f"{_span(watch, segment, part)}: {RULE_NAMES[segment.hits[part[0]][0].rule]}" for part in spc.episodes(segment)
    ]
    if len(found) <= _TOLD:
        return "; ".join(found) or "no signal"
    every = plural(watch.told(len(found), "episodes", segment.start), "signal")
    return "; ".join([f"{every}, the last {in_words(_TOLD)}: {found[-_TOLD]}", *found[1 - _TOLD :]])


_TOLD = 2  # signals named in a table; a chart shows them all


def _span(watch: Watch, segment: spc.Segment, part: Sequence[int]) -> str:
    first, last = (watch.month(segment.start + i) for i in (part[0], part[-1]))
    return first if first == last else f"{first} to {last}"


RULE_NAMES: dict[spc.Rule, str] = {
    "outside limits": "outside the limits",
    "trend": f"{spc.RUN} rising or falling",
    "two of three": "two of three near a limit",
    "shift": f"{spc.RUN} on one side of the mean",
}


def _signal(watch: Watch, segment: spc.Segment, hit: spc.Hit) -> str:
    start = spc.began(segment)
    n = watch.told(len(segment.values) - start, "since", segment.start + start, hit.rule)
    since = watch.month(segment.start + start)
    limit = "upper" if hit.side == "above" else "lower"
    lines = segment.lines[-1]
    edge = shown_value(watch, lines.upper if hit.side == "above" else lines.lower)
    if hit.rule == "outside limits":
        before = f", {months_in_words(n)} in a row that signal" if n > 1 else ""
        return f"{'Above' if hit.side == 'above' else 'Below'} the {limit} limit ({edge}){before}."
    if hit.rule == "two of three":
        return f"Two of three months near the {limit} limit ({edge}), since {since}."
    if hit.rule == "trend":
        return f"{'Rising' if hit.side == 'above' else 'Falling'} over {months_in_words(n)}, since {since}."
    return f"{'Above' if hit.side == 'above' else 'Below'} the mean {months_in_words(n)} in a row, since {since}."


def target_in_words(watch: Watch) -> str:
    """Whether the target will be met if nothing changes; nothing without a target or without limits."""
    if watch.measure.target is None or watch.target == "none":
        return ""
    goal = shown_value(watch, watch.measure.target)
    return {
        "met": f" Target {goal}: met every month if nothing changes.",
        "missed": f" Target {goal}: missed every month if nothing changes.",
        "by chance": f" Target {goal}: met or missed by chance.",
    }[watch.target]


def signals(watches: Sequence[Watch]) -> list[Watch]:
    """The measures whose latest month signals, by limits or by an unusual run."""
    return [one for one in watches if is_signal(one)]


def is_signal(watch: Watch) -> bool:
    return watch.chart is not None and spc.is_signal(watch.chart)


def number_of(watches: Sequence[Watch]) -> int:
    """How many of the measures have a chart; it remembers what each one's latest month says."""
    return sum(one.one for one in watches)


STATE_WORDS: dict[spc.State, str] = {
    "common": "common cause: no signal in the latest month",
    "improving": "special cause, improving",
    "concern": "special cause, of concern",
    "neutral": "special cause, no direction is better",
    "none": "no icon: too few months for limits",
}
TARGET_WORDS: dict[spc.Target, str] = {
    "met": "target met every month if nothing changes",
    "missed": "target missed every month if nothing changes",
    "by chance": "target met or missed by chance",
    "none": "no target, or no limits to judge it by",
}


def alt_of(watch: Watch) -> str:
    """The chart in words: kind, latest value, lines, target and signals."""
    if watch.chart is None:
        return ""
    lines, n = watch.chart.last.lines[-1], watch.n_months
    kind = "Run chart" if watch.chart.last.is_run_chart else "Process chart"
    last = watch.known[-1]
    latest = f"latest {big_value(watch, last)} ({counts_of(watch, last)}) in {watch.month(-1)}"
    limits = (
        ""
        if lines.upper is None
        else (f", limits {shown_value(watch, lines.lower)} to {shown_value(watch, lines.upper)}")
    )
    target = "" if watch.measure.target is None else f", target {shown_value(watch, watch.measure.target)}"
    flagged = sum(bool(hits) for hits in watch.chart.hits)
    return (
        f"{kind}, {watch.measure.label}, {months_in_words(n)}: {latest}, {centre_name(watch)} "
        f"{shown_value(watch, lines.centre)}{limits}{target}. Months that signal: {count(flagged)}. {said(watch)}"
    )


def centre_name(watch: Watch) -> str:
    return "median" if watch.chart is None or watch.chart.last.is_run_chart else "mean"
