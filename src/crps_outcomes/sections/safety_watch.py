"""Safety watch of the quality report: serious events and how far apart they lie, and what was watched around sessions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crps_outcomes import spc
from crps_outcomes.charting import chart_of_gaps, with_ids
from crps_outcomes.control_figures import Control, control
from crps_outcomes.figure_kit import drawing
from crps_outcomes.numbers import fixed, plural
from crps_outcomes.report_model import Figure, Section
from crps_outcomes.sections.safety import safety, serious_in_words, stops_in_words

if TYPE_CHECKING:
    from crps_outcomes.facts import Facts

RARE = "serious"


def safety_watch(facts: Facts) -> Section:
    """Serious events, sessions between them, stops, and readings around sessions."""
    whole = safety(facts)
    tables = {name: whole.tables[name] for name in ("monitoring", "signals") if name in whole.tables}
    return Section(
        id="safety_watch",
        short="Safety watch",
        finding=whole.finding,
        lede="Events on record; an event nobody wrote down is not here. Unmonitored is not normal.",
        figures={} if facts.is_release else {"rare": _rare(facts)},
        tables=tables,
        text={"serious": (_serious(facts), stops_in_words(facts))},
    )


def _serious(facts: Facts) -> str:
    since = facts.one("quality", "since_last", measure=RARE)
    serious = serious_in_words(facts)
    if since.mark or since.k is None:
        return serious
    last = facts.one("safety", "serious").k
    words = "since the last one" if last else "held so far"
    return f"{serious} {plural(since.k, 'session')} {words}."


def _rare(facts: Facts) -> Figure:
    between = [one for one in facts.every("quality", "between", measure=RARE) if not one.mark]
    gaps = [float(one.estimate or 0.0) for one in between]
    figure = Figure(
        title="Sessions between serious adverse events.",
        encoding="Too rare for a share a month: each dot is the number of sessions from one event to the next, and more is "
        "better (g chart; below 13 dots a run chart).",
        empty="A chart needs three serious adverse events with a date; there are fewer.",
    )
    if len(gaps) < 2:
        return figure
    lines = facts.one("quality", "centre", measure=RARE, visit=between[0].visit)
    chart = with_ids(chart_of_gaps(gaps, facts.protocol.quality), lambda _: lines.id)
    states = tuple(spc.state(hits, "higher") for hits in chart.hits)
    own = Control(
        chart,
        tuple(range(2, len(gaps) + 2)),
        states,
        decimals=0,
        is_by_month=False,
        axis="Number of the serious event",
        centre="Median",
    )
    kind = "Run chart" if chart.last.is_run_chart else "g chart"
    alt = f"{kind} of sessions between {len(gaps) + 1} serious adverse events; latest {fixed(gaps[-1], 0)}."
    with drawing(facts.study.root / "templates"):
        return replace(figure, svg=control(own, "wide", "rare", alt))
