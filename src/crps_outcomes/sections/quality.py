"""Page 1 of the quality report: is anything changing, measure by measure, and what the report cannot tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.control_figures import place_of
from crps_outcomes.drawings import months
from crps_outcomes.layout import listed, noted, row, text_columns
from crps_outcomes.marks import NOT_APPLICABLE
from crps_outcomes.numbers import count, month, plural
from crps_outcomes.report_model import Cell, Icons, Run, Section, Table
from crps_outcomes.sections.completeness import completed_at_primary, pull_in_words
from crps_outcomes.sections.responders import OBSERVED, responder
from crps_outcomes.sections.restatement import since_in_words
from crps_outcomes.sections.safety import ANY, serious_in_words
from crps_outcomes.watching import (
    STATE_WORDS,
    TARGET_WORDS,
    alt_of,
    big_value,
    counts_of,
    is_signal,
    number_of,
    said,
    signals,
    watched,
)
from crps_outcomes.wording import (
    at,
    capital,
    counted_people,
    improved,
    mean_in_words,
    share_in_cell,
    share_in_words,
    why_hidden,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crps_outcomes import spc
    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row
    from crps_outcomes.monitoring import WatchedId
    from crps_outcomes.watching import Watch

WHY_INSIDE = (
    "Most months of one clinic hold fewer people than may be shown, and two monthly reports could be subtracted from each "
    "other: months are in the internal edition only."
)


def quality(facts: Facts) -> Section:
    """Headline, the measures to watch, plain words and limits."""
    return Section(
        id="quality",
        short="Measures to watch",
        finding="Measures to watch",
        headline=_whole_headline(facts) if facts.is_release else headline(watched(facts, front=True)),
        tables={"watch": _whole(facts) if facts.is_release else _watch(facts)},
        text={"plain": _plain_words(facts), "cannot_tell": _cannot_tell(facts)},
    )


MOST_NAMED = 2
SIGNAL_WORDS: dict[spc.State, str] = {
    "improving": "improving",
    "concern": "of concern",
    "neutral": "without a good direction",
    "none": "by an unusual run",
}


# --- internal edition -----------------------------------------------------------------------------------------------


def headline(watches: Sequence[Watch]) -> tuple[Run, ...]:
    """How many measures signal a change in their latest month, and which."""
    charted = [one for one in watches if one.chart]
    if not charted:
        return (Run("No measure has a complete month yet, so nothing can be said about change."),)
    found, n = signals(charted), number_of(charted)
    which = f": {_named(found)}" if found else ""
    verb = "signals" if len(found) <= 1 else "signal"
    others = "" if len(found) == len(charted) else "The others vary" if found else "They vary"
    rest = f" {others} as chance alone would have them." if others else ""
    count_of = f"{'None' if not found else count(number_of(found))} of {plural(n, 'measure')}"
    return (Run(f"{count_of} {verb} a change", is_strong=True), Run(f"{which}.{rest}"))


def _named(found: Sequence[Watch]) -> str:
    """The measures that signal with what they signal; where they are many, how many signal what."""
    if len(found) <= MOST_NAMED:
        return listed(f"{one.name} ({SIGNAL_WORDS[one.state]})" for one in found)
    states = dict.fromkeys(one.state for one in found)
    by_state = {state: number_of([one for one in found if one.state == state]) for state in states}
    return listed(f"{count(n)} {SIGNAL_WORDS[state]}" for state, n in by_state.items())


def _watch(facts: Facts) -> Table:
    watches = watched(facts, front=True)
    known = sorted((row for one in watches for row in one.known), key=lambda row: row.visit)
    span = " to ".join(row.key(month(row.visit)) for row in (known[0], known[-1])) if known else "Months"
    table = Table(
        title=f"{_number(len(watches))} to watch.",
        encoding="The latest complete month with a value, with all complete months as a line. Grey band: expected from month to "
        "month. Coloured dots: months that signal.",
        columns=text_columns(
            ("Measure", 34), ("Latest month", 28), (span, 41), ("Signal", 18), ("What the rules say", 53)
        ),
        rows=tuple(_row(one) for one in watches),
        empty="The protocol names no measure to watch on page 1 ([[quality.measures]] with front = true).",
        style="key fixed",
    )
    return noted(
        table,
        facts,
        "First icon: a line for common cause, H or L for a special cause up or down: blue improving, orange of concern, purple "
        "neutral. Second: P target met every month if nothing changes, F missed, ? by chance. A bar: none.",
        pull_in_words(facts),
        since_in_words(facts),
    )


def _number(n: int) -> str:
    return "One measure" if n == 1 else f"{('No', 'One', 'Two', 'Three', 'Four', 'Five')[n]} measures"


def _row(watch: Watch) -> Row:
    if watch.chart is None:
        return row(watch.measure.label, Cell("[x]", is_big=True), NOT_APPLICABLE, NOT_APPLICABLE, said(watch))
    latest = watch.known[-1]
    value = Cell(big_value(watch, latest), sub=f"{counts_of(watch, latest)}, {watch.month(-1)}", is_big=True)
    return row(watch.measure.label, value, _line(watch, watch.chart), Cell("", drawing=_icons(watch)), said(watch))


def _line(watch: Watch, chart: spc.Chart) -> Cell:
    places = [place_of(name) for name in watch.series.months]
    top = 100.0 if watch.measure.is_share else None
    return Cell("", drawing=months(chart, places, watch.states, top, alt_of(watch)))


def _icons(watch: Watch) -> Icons:
    return Icons(
        state=watch.state,
        is_high=watch.is_high,
        state_alt=f"{capital(STATE_WORDS[watch.state])}.",
        target=watch.target,
        target_alt=f"{capital(TARGET_WORDS[watch.target])}.",
    )


# --- release edition ------------------------------------------------------------------------------------------------

#: What stands in the release edition for a measure: a number of the whole period that is shown there anyway.
WHOLE: dict[WatchedId, tuple[str, Callable[[Facts], Estimate]]] = {
    "on_time": ("scores on record of those due", completed_at_primary),
    "monitored": (
        "sessions with systolic pressure before and after the injection",
        lambda facts: facts.one("safety", "monitored", measure=facts.protocol.safety.systolic),
    ),
    "adverse_events": (
        "all adverse events, exact Poisson interval",
        lambda facts: facts.one("safety", "per_100_sessions", group=ANY),
    ),
    "response": (
        "people with a score, Wilson interval",
        lambda facts: responder(facts, facts.protocol.outcomes.responder_percents[0], OBSERVED, facts.primary_visit.id),
    ),
}


def _whole_headline(facts: Facts) -> tuple[Run, ...]:
    found = completed_at_primary(facts)
    what = f"{at(facts.primary_visit)} {facts.primary.short.lower()} scores"
    if found.mark or not found.n:
        return (Run(f"How many {what} are on record is not shown: {why_hidden(found)}."),)
    return (
        Run(f"{share_in_cell(found)} {what} that were due are on record", is_strong=True),
        Run(" over the whole period. Whether anything changes from month to month is told inside the clinic only."),
    )


def _whole(facts: Facts) -> Table:
    rows = [_whole_row(facts, one) for one in watched(facts, front=True)]
    table = Table(
        title="Over the whole period.",
        encoding="What may be shown of the measures that the clinic watches month by month.",
        columns=text_columns(("Measure", 56), ("Whole period", 58), ("What is counted", 60)),
        rows=tuple(rows),
        empty="The protocol names no measure to watch on page 1.",
        style="key fixed",
    )
    return noted(table, facts, WHY_INSIDE)


def _whole_row(facts: Facts, watch: Watch) -> Row:
    what, read = WHOLE.get(watch.measure.id, ("a number by month only: internal edition", None))
    if read is None:
        return row(watch.measure.label, NOT_APPLICABLE, what)
    found = read(facts)
    if found.mark:
        return row(watch.measure.label, found.mark, what)
    if watch.measure.id == "adverse_events":
        return row(watch.measure.label, mean_in_words(found, 1), what)
    return row(watch.measure.label, share_in_words(found) if found.has_interval else share_in_cell(found), what)


# --- plain words and limits -----------------------------------------------------------------------------------------


def _plain_words(facts: Facts) -> tuple[str, ...]:
    treated = facts.n_at("treated")
    found = completed_at_primary(facts)
    on_record = (
        ""
        if found.mark or not found.n
        else f"Of the {at(facts.primary_visit)} {facts.primary.short.lower()} scores due so far, {share_in_cell(found)} are on record."
    )
    lines = [f"{capital(counted_people(treated))} had ketamine injections into a muscle for CRPS.", on_record]
    lines += [*_by_state(facts), serious_in_words(facts), _to_see_to(facts)]
    return tuple(line for line in lines if line)


def _by_state(facts: Facts) -> list[str]:
    """Measures by what their latest month says, those that signal first."""
    watches = watched(facts, front=True)
    groups = {
        "Changed for the better: ": [one for one in watches if one.state == "improving"],
        "Changed in a way that needs a look: ": [one for one in watches if one.state == "concern"],
        "Changed: ": [one for one in watches if is_signal(one) and one.state in {"neutral", "none"}],
    }
    steady = number_of([one for one in watches if not is_signal(one)])
    rest = (
        [f"No sign of change in {'the other ' if signals(watches) else ''}{plural(steady, 'measure')}."]
        if steady
        else []
    )
    return [*(f"{words}{listed(one.name for one in own)}." for words, own in groups.items() if own), *rest]


def _to_see_to(facts: Facts) -> str:
    actions = facts.releasable.actions
    if actions is None:
        return ""
    return f"{plural(facts.told(len(actions), 'actions/n'), 'entry', 'entries')} on the action list at the end of this report."


def _cannot_tell(facts: Facts) -> tuple[str, ...]:
    goal = improved(facts.primary, facts.protocol.outcomes.responder_percents[0])
    return (
        "Why a measure changed: a signal says that something is different, not what.",
        f"Whether {goal} comes from ketamine: nobody here was given something else.",
        "What nobody wrote down: a session without readings is unknown, not normal.",
        "How this clinic stands to another: limits come from its own months.",
        "Anything about the running month: it is not over, and is left out.",
    )
