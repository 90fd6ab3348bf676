"""The sheet for people who think about the treatment, page 2: what happened here, as pictures of 100 people.

Benefit and harm have the same size, whole people only, with the interval in words; below `LEAST` people with a score, or
where no harm may be shown, there is no number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.analysis.coarse import OTHER_TERMS
from crps_outcomes.analysis.safety import ANY, ANY_SEVERE, FOR_HARM, SERIOUS
from crps_outcomes.icon_arrays import HEIGHT, PEOPLE, WIDTH, hundred, out_of_hundred
from crps_outcomes.layout import number_columns, row, text_columns
from crps_outcomes.marks import NOT_AVAILABLE
from crps_outcomes.numbers import count, fixed
from crps_outcomes.plain_words import decimal, when, whole
from crps_outcomes.report_model import IconArray, Section, Table
from crps_outcomes.sections.responders import MISSING, OBSERVED, as_planned, responder
from crps_outcomes.series import BASELINE
from crps_outcomes.wording import sentences

if TYPE_CHECKING:
    from typing import Literal

    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row
    from crps_outcomes.report_model import IconKind

#: Below so many people with a score one person more or less would be four of 100 or more.
LEAST = 25
MOST_HARMS = 4
GOAL = 30


def plain_numbers(facts: Facts) -> Section:
    """Page 2: benefit and harm as pictures of 100 people, the most frequent harms, and who is missing."""
    short, harm = facts.words["plain.numbers"], _worst_known(facts)
    if harm is None or not _known(_shown_goal(facts)):
        return _without_numbers(facts, short)
    arrays = {"pain": _pain(facts), "harm": _frequent(facts, harm), "both": _both(facts),
              "serious": _harm(facts, SERIOUS, "serious")}  # fmt: skip
    text = {"who": (_who(facts), _word(facts, "how")), "pain": _beside(facts), "stopped": _stopped(facts)}
    tables = {"harms": _harms(facts)}
    return Section("plain_numbers", short, _finding(facts, harm), arrays=arrays, tables=tables, text=text)


def _word(facts: Facts, key: str, **values: object) -> str:
    return facts.words.say(f"plain.numbers_words.{key}", **values)


# --- no numbers --------------------------------------------------------------------------------------------------------


def _known(estimate: Estimate) -> bool:
    """Whether counts and interval may be shown and come from enough people."""
    return estimate.has_interval and estimate.k is not None and (estimate.n or 0) >= LEAST


def _without_numbers(facts: Facts, short: str) -> Section:
    """What is said in place of numbers: too few people have a score, or harm cannot be shown beside benefit."""
    reason = "held" if _known(_shown_goal(facts)) else "few"
    said = _word(facts, reason, least=LEAST, visit=when(facts, facts.primary_visit)), _word(facts, "few_then")
    return Section("plain_numbers", short, _word(facts, f"finding_{reason}"), text={"who": (_who(facts),), "few": said})


def _goal(facts: Facts, population: str) -> Estimate:
    return responder(facts, GOAL, population, facts.primary_visit.id)


# --- words ----------------------------------------------------------------------------------------------------------


def _who(facts: Facts) -> str:
    treated = facts.n_at("treated")
    return _word(facts, "who_hidden") if treated is None else _word(facts, "who", n=whole(facts, treated))


def _finding(facts: Facts, harm: Estimate) -> str:
    visit, key = when(facts, facts.primary_visit), "finding" if harm.group == ANY else "finding_top"
    return _word(facts, key, visit=visit, benefit=_of_hundred(_shown_goal(facts)), harm=_of_hundred(harm))


def _shown_goal(facts: Facts) -> Estimate:
    """As the plan counts them where that may be shown, else everyone whose score is due, else people with a score."""
    planned = as_planned(facts, GOAL)
    if _known(planned):
        return planned
    everyone = _goal(facts, MISSING)
    return everyone if _known(everyone) else _goal(facts, OBSERVED)


def _of_hundred(estimate: Estimate) -> int:
    return out_of_hundred(0 if estimate.k is None else estimate.k, estimate.n or 1)


def _limits(estimate: Estimate) -> tuple[str, str]:
    low, high = (fixed(0 if one is None else one, 0) for one in (estimate.lower, estimate.upper))
    return low, high


def _beside(facts: Facts) -> tuple[str, ...]:
    """What the pictures of pain do not show: means, and of whom nothing is known."""
    visit, keys = when(facts, facts.primary_visit), {"measure": facts.primary.id}
    start, then = (facts.one("pain", "mean", visit=one, **keys) for one in (BASELINE, facts.primary_visit.id))
    means = [decimal(facts, one.estimate) for one in (start, then) if not one.mark and one.estimate is not None]
    top, unknown = fixed(facts.primary.range[1], 0), _unknown(facts)
    said = [
        _word(facts, "mean", start=means[0], then=means[1], visit=visit, top=top) if len(means) == 2 else "",
        _word(facts, "missing", missing=unknown, visit=visit) if unknown else "",
        _word(facts, "left_out"),
        _word(facts, "still_open"),
    ]
    return tuple(sentence for sentence in said if sentence)


def _unknown(facts: Facts) -> int | None:
    """How many of 100 people have no score; None where that may not be shown."""
    everyone, seen = _goal(facts, MISSING), _goal(facts, OBSERVED)
    if not _known(everyone) or seen.mark or seen.n_missing is None or everyone.n is None:
        return None
    return out_of_hundred(seen.n_missing, everyone.n)


def _stopped(facts: Facts) -> tuple[str, ...]:
    stopped = facts.one("safety", "stopped", group=FOR_HARM)
    if stopped.mark or stopped.k is None or (stopped.n or 0) < LEAST:
        return ()
    return (_word(facts, "stopped", n=_of_hundred(stopped)) if stopped.k else _word(facts, "stopped_none"),)


# --- pictures of 100 people -----------------------------------------------------------------------------------------


def _pain(facts: Facts) -> IconArray:
    found, unknown = _shown_goal(facts), _unknown(facts)
    no = "pain_not" if unknown is not None or found.population == OBSERVED else "not_or_unknown"
    only = "" if found.population == MISSING else _picture(facts, "only")
    if _known(as_planned(facts, GOAL)) and _has_events(facts):
        only = _picture(facts, "planned")
    return _array(facts, found, "pain", no, unknown=unknown or 0, only=only)


def _has_events(facts: Facts) -> bool:
    """Whether the plan names events after which a score is no response."""
    return any(rule.response == "composite" for rule in facts.protocol.plan.intercurrent)


def _both(facts: Facts) -> IconArray:
    found = facts.one("function", "pain_and_function", visit=facts.primary_visit.id, group="both")
    is_sure = all(threshold.state == "confirmed" for threshold in facts.function.thresholds[:1])
    only = sentences(_picture(facts, "only"), "" if is_sure else _picture(facts, "unconfirmed"))
    return _array(facts, found, "both", "both_not", only=only)


def _harm(facts: Facts, group: str, name: str) -> IconArray:
    return _array(facts, facts.one("safety", "people", group=group), name, f"{name}_not", tone="harm")


def _worst_known(facts: Facts) -> Estimate | None:
    """Any harm at all; where that is hidden, because nearly everybody had one, the most frequent kind."""
    every = facts.one("safety", "people", group=ANY)
    return every if _known(every) else next(iter(_kinds_of_harm(facts)), None)


def _frequent(facts: Facts, harm: Estimate) -> IconArray:
    if harm.group == ANY:
        return _harm(facts, ANY, "harm")
    return _array(facts, harm, "top", "top_not", tone="harm", what=_kind(facts, harm.group))


def _array(  # noqa: PLR0913 - what makes a picture
    facts: Facts,
    found: Estimate,
    name: str,
    no: str,
    *,
    unknown: int = 0,
    only: str = "",
    tone: Literal["benefit", "harm"] = "benefit",
    what: str = "",
) -> IconArray:
    """The picture of one share, or the reason why there is none, in the same place and size."""
    title = _picture(facts, name, visit=when(facts, facts.primary_visit), what=what)
    if not _known(found):
        return IconArray(title, _why_none(facts, found), tone=tone)
    had = _of_hundred(found)
    unknown = min(unknown, PEOPLE - had)
    sizes: dict[IconKind, int] = {"had": had, "not": PEOPLE - had - unknown, "unknown": unknown}
    words: dict[IconKind, str] = {"had": f"{name}_had", "not": no, "unknown": "unknown"}
    legend = tuple((kind, count(sizes[kind]), _picture(facts, words[kind])) for kind in sizes if sizes[kind])
    sentence = sentences(_share(facts, found, "none_on_record" if tone == "harm" else "none"), only)
    counts = "; ".join(f"{size} {said}" for _, size, said in legend)
    alt = _picture(facts, "alt", title=title, words=f"{sentence} {counts}.")
    return IconArray(title, sentence, alt, hundred(sizes), legend, tone, WIDTH, HEIGHT)


def _why_none(facts: Facts, found: Estimate) -> str:
    reason = {"": "few", NOT_AVAILABLE: "absent"}.get(found.mark, "hidden")
    return _picture(facts, reason, least=LEAST)


def _picture(facts: Facts, key: str, **values: object) -> str:
    return facts.words.say(f"plain.picture.{key}", **values)


def _share(facts: Facts, found: Estimate, none: str) -> str:
    """The share with its uncertainty in words: "About 58 of 100. It could be between 46 and 70 of 100."."""
    key = none if not found.k else "all" if found.k == found.n else "about"
    low, high = _limits(found)
    return _picture(facts, key, n=_of_hundred(found), low=low, high=high, people=whole(facts, found.n or 0))


# --- harms by kind --------------------------------------------------------------------------------------------------


def _harms(facts: Facts) -> Table:
    """The most frequent kinds of harm, most frequent first."""
    words = facts.words
    return Table(
        title=words["plain.table.title"],
        columns=(
            *text_columns((words["plain.table.what"], 51)),
            *number_columns((words["plain.table.how_many"], 15), (words["plain.table.range"], 17)),
        ),
        rows=tuple(_harm_row(facts, one) for one in _kinds_of_harm(facts)[:MOST_HARMS]),
        empty=words["plain.table.empty"],
        style="middle",
    )


def _kinds_of_harm(facts: Facts) -> list[Estimate]:
    every = (one for one in facts.every("safety", "people") if one.group not in {ANY, ANY_SEVERE, SERIOUS})
    known = (one for one in every if _known(one) and one.k)
    return sorted(known, key=lambda one: (one.group == OTHER_TERMS, -(one.k or 0), one.group))


def _harm_row(facts: Facts, found: Estimate) -> Row:
    low, high = _limits(found)
    span = facts.words.say("plain.table.to", low=low, high=high)
    return row(_kind(facts, found.group), count(_of_hundred(found)), span)


def _kind(facts: Facts, term: str) -> str:
    """The kind of harm in plain words, with the site's own term beside it."""
    if term == OTHER_TERMS:
        return facts.words["plain.table.others"]
    groups = facts.study.groups_said(facts.protocol.safety.event_codelist, term)
    known = (facts.words.get(f"plain.harm.{group.replace(' ', '_')}") for group in sorted(groups))
    words = next((text for text in known if text), "")
    key = "recorded" if words else "unnamed"
    return facts.words.say(f"plain.table.{key}", words=words, term=term)
