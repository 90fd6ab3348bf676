"""What changed since the last report of the same kind: people, records, plan, definitions, program, and the figures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

from crps_outcomes.facts import MONTHS, Facts
from crps_outcomes.headlines import Headline, headlines
from crps_outcomes.layout import listed, noted, number_columns, row, text_columns
from crps_outcomes.marks import NOT_APPLICABLE
from crps_outcomes.numbers import count, fixed, month, people, plural
from crps_outcomes.report_model import Cell, Section, Table
from crps_outcomes.restatement import THEN, Kind, Restatement, Why
from crps_outcomes.sections.completeness import changes_in_words
from crps_outcomes.stages.disclose import HELD
from crps_outcomes.traced import plain
from crps_outcomes.watching import Watch, big_value, counts_of
from crps_outcomes.wording import at, capital, improved, mean_in_cell, mean_in_words, share_in_cell, share_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crps_outcomes.facts import Estimate
    from crps_outcomes.layout import Row
    from crps_outcomes.restatement import Reason

SHORT = "What changed since the last report"
SHORT_DIGEST = 8  # characters of a digest: enough to tell two versions of a file apart
SAME = "As then."
NOT_THERE = "not there"

#: Reason -> its name, and what comes under it.
REASONS: Mapping[Kind, tuple[str, str]] = {
    "entered": ("New patients", "enrolled now and not then, with all records about them"),
    "left": ("Left the cohort", "enrolled then and not now: membership ended, consent withdrawn or expired, merged"),
    "follow-up": ("New follow-up", "dated after the day of the last report"),
    "late": ("Late entry", "dated on or before that day, and not in the data of then"),
    "amended": ("Amended", "another content than then"),
    "entered-in-error": ("Entered in error", "marked as entered in error, or refuted, since then"),
    "deleted": ("Deleted", "in the data of then, and no longer at the source"),
    "undated": ("New, without a day", "not in the data of then; whether it is late cannot be told"),
    "resaved": ("Saved again", "another version with the content of then; no figure rests on it"),
}
#: The same for the figures: who stands behind a difference. The last two have no record of their own.
IN_SHORT: Mapping[Kind, str] = {
    **{kind: name.lower() for kind, (name, _) in REASONS.items()},
    "time": "visits that are due by now",
    "other": "not traced to one record",
}


def restatement(facts: Facts) -> Section:
    """Reasons with people and records, changes of plan, definitions and program, and the headline figures then and now."""
    told = facts.releasable.restatement
    if told is None:
        return Section("restatement", SHORT, "This is the first report of its kind made here, so nothing is restated")
    pairs = () if facts.is_release else pairs_of(facts, told)
    return Section(
        id="restatement",
        short=SHORT,
        finding=_finding(facts, told, pairs),
        lede=f"Compared with the last report of this kind and edition made here: run {told.run_id}.",
        tables={
            "reasons": _reasons(facts, told),
            "rules": _rules(facts, told),
            "figures": _figures(facts, told, pairs),
        },
        text={"data": _data_in_words(facts, told), "rules": _rules_in_words(facts, told)},
    )


def since_in_words(facts: Facts) -> str:
    """One sentence for page 1: since which report what changed, and where more is told."""
    told = facts.releasable.restatement
    if told is None:
        return changes_in_words(facts)
    if facts.is_release:
        return f"What is not as in the last release ({_data_of(facts, told)}): see “{SHORT}”."
    rules = [*(["plan"] if told.plan else []), *told.rules_changed]
    parts = (_people_in_brief(facts, told), _records_in_brief(facts, told), f"{listed(rules)} changed" if rules else "")
    lost = "" if told.is_data_kept else "its data are not kept"
    known = "; ".join(part for part in (*parts, lost) if part)
    since = f"since the last report ({_data_of(facts, told)})"
    return f"{capital(since)}: {known} (see “{SHORT}”)." if known else f"Nothing changed {since}."


def _people_in_brief(facts: Facts, told: Restatement) -> str:
    """Such as "2 people entered, 1 left"."""
    n = {one.kind: facts.told(one.n_people, f"restatement/{one.kind}/people") for one in told.reasons}
    came, went = n.get("entered", 0), n.get("left", 0)
    parts = [f"{people(came)} entered"] if came else []
    return ", ".join([*parts, f"{count(went) if came else people(went)} left"] if went else parts)


#: Of the records of who stayed.
IN_BRIEF: Mapping[Kind, str] = {
    "follow-up": "new follow-up", "late": "late", "amended": "amended", "entered-in-error": "entered in error",
    "deleted": "deleted", "undated": "new without a day",
}  # fmt: skip


def _records_in_brief(facts: Facts, told: Restatement) -> str:
    """Such as "records: 143 new follow-up, 2 amended"."""
    found = [
        f"{count(facts.told(one.n_records, f'restatement/{one.kind}/records'))} {IN_BRIEF[one.kind]}"
        for one in told.reasons
        if one.kind in IN_BRIEF and one.n_records
    ]
    return f"records: {', '.join(found)}" if found else ""


def _data_of(facts: Facts, told: Restatement) -> str:
    return f"data of {facts.day(date.fromisoformat(told.as_of))}"


def _finding(facts: Facts, told: Restatement, pairs: tuple[Pair, ...]) -> str:
    if facts.is_release:
        return f"What changed since the last release ({_data_of(facts, told)})"
    if not pairs:
        return f"The figures of the last report ({_data_of(facts, told)}) are not there to compare with"
    n = facts.told(sum(pair.differs for pair in pairs), "restatement/differ")
    of = facts.told(len(pairs), "restatement/figures")
    return f"{count(n)} of {plural(of, 'headline figure')} {'differs' if n == 1 else 'differ'} from the last report ({_data_of(facts, told)})"


# --- people and records ---------------------------------------------------------------------------------------------


def _reasons(facts: Facts, told: Restatement) -> Table:
    table = Table(
        title="People and records by reason.",
        encoding="A record is one resource at the source and counts once, under the first reason that applies; a person counts "
        "under each reason that one of their records has. Behind a score: records that a score of then or now was read from.",
        columns=(
            *text_columns(("Reason", 36)),
            *number_columns(("People", 16), ("Records", 18), ("Behind a score", 22)),
            *text_columns(("What comes under it", 82)),
        ),
        rows=tuple(_reason(facts, one) for one in told.reasons),
        style="dense fixed",
    )
    return noted(table, facts)


def _reason(facts: Facts, one: Reason) -> Row:
    name, meaning = REASONS[one.kind]
    numbers = {"people": one.n_people, "records": one.n_records, "scores": one.n_scores}
    cells = (count(facts.told(n, f"restatement/{one.kind}/{what}")) for what, n in numbers.items())
    return row(name, *cells, capital(meaning))


def _data_in_words(facts: Facts, told: Restatement) -> tuple[str, ...]:
    if not facts.is_release:
        gone = (
            "The data of the last report are not kept here any more, so how many people and records changed, and why a figure "
            "is another, cannot be told."
        )
        return () if told.is_data_kept else (gone,)
    held = HELD if HELD in facts.releasable.rules else "No figure was held: each is of the data of this release."
    return (
        "New patients, new follow-up, late entries, corrections and deletions since then are included as far as the rules for a "
        "release let figures be renewed. How many there were, and whether there were any of a kind, is not told: two releases "
        "could be subtracted from each other.",
        held,
    )


# --- plan, definitions, program ---------------------------------------------------------------------------------------


def _rules(facts: Facts, told: Restatement) -> Table:
    table = Table(
        title="Plan, definitions and program that are not as then.",
        encoding="Files and code by the first characters of their SHA-256.",
        columns=text_columns(("What", 30), ("Entry, file or package", 64), ("Then", 40), ("Now", 40)),
        rows=tuple(_rule_rows(facts, told)),
        style="dense fixed",
    )
    return noted(table, facts)


def _rule_rows(facts: Facts, told: Restatement) -> Iterator[Row]:
    def marked(text: str, name: str) -> str:
        words: str = facts.told(text or NOT_THERE, f"restatement/{name}")
        return words

    for number, change in enumerate(told.plan, 1):
        for place, one in enumerate(change.differences, 1):
            texts = (capital(one.entry), one.before, one.after)
            yield row("Analysis plan", *(marked(text, f"plan/{number}.{place}") for text in texts))
        if not change.differences:
            yield row("Analysis plan", "The plan of then was not kept", NOT_APPLICABLE, NOT_APPLICABLE)
    for name, then, now in _digests(told):
        what, where = (
            ("Program", name)
            if name == CODE
            else ("Study folder", name if told.files is None else marked(name, "rules"))
        )
        yield row(what, where, *(marked(one[:SHORT_DIGEST], "rules") for one in (then, now)))
    for name, then, now in told.versions:
        yield row("Software", marked(name, "rules"), marked(then, "rules"), marked(now, "rules"))


CODE, WHICH_UNKNOWN = "all of its code", "which file is not known: they were not kept then"


def _digests(told: Restatement) -> Iterator[tuple[str, str, str]]:
    if told.files is None:
        yield WHICH_UNKNOWN, *told.study
    for one in told.files or ():
        yield one.name, one.before, one.after
    if told.code != ("", ""):
        yield CODE, *told.code


def _rules_in_words(facts: Facts, told: Restatement) -> tuple[str, ...]:
    changed = (*(["plan"] if told.plan else []), *told.rules_changed)
    if not changed and not told.versions:
        return ("Analysis plan, definitions and program are those of the last report.",)
    if not told.rules_changed:
        return ()
    if facts.is_release:
        return ("Whether this alone changes a number is worked out in the internal edition.",)
    if told.again is None:
        return (
            "Whether this alone changes a number cannot be told: data or figures of the last report are not kept here.",
        )
    n_same, n = (facts.told(one, f"restatement/{name}") for name, one in vars(told.again).items())
    verdict = "no" if told.again.n_same == told.again.n else "yes"
    return (
        f"The data of then were worked out again with the {listed(told.rules_changed)} of now: {count(n_same)} of "
        f"{plural(n, 'figure')} of the last report come out as they were. Results change: {verdict}.",
    )


# --- figures then and now -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """A headline figure of the last report and of this one."""

    headline: Headline
    then: Estimate
    now: Estimate

    @property
    def differs(self) -> bool:
        """Whether anything that is printed of it is another number."""
        one, two = (
            (e.mark, e.n, e.k, *(None if x is None else round(float(x), 6) for x in (e.estimate, e.lower, e.upper)))
            for e in (self.then, self.now)
        )
        return one != two


def pairs_of(facts: Facts, told: Restatement) -> tuple[Pair, ...]:
    """The headline figures the last report had, in order."""
    before = replace(facts, releasable=replace(facts.releasable, estimates=told.then))
    found = (
        Pair(one, *(known.one(one.section, one.statistic, **one.keys) for known in (before, facts)))
        for one in headlines(facts.study, facts.report, told.then)
    )
    return tuple(pair for pair in found if pair.then.statistic)


def _figures(facts: Facts, told: Restatement, pairs: tuple[Pair, ...]) -> Table:
    table = Table(
        title="Headline figures then and now.",
        encoding="With 95% interval where there is one. Why: the people whose part in the figure is another, by reason; one "
        "with several reasons counts under each. It says who, not how much each of them moves the figure.",
        columns=text_columns(("Figure", 46), ("Then", 34), ("Now", 34), ("Difference", 20), ("Why", 40)),
        rows=tuple(_pair_row(facts, told, pair) for pair in pairs),
        style="dense fixed",
    )
    return noted(table, facts)


def _pair_row(facts: Facts, told: Restatement, pair: Pair) -> Row:
    cells = (_cell(facts, pair.headline, one) for one in (pair.then, pair.now))
    return row(_name(facts, pair.headline), *cells, _difference(facts, pair), _why(facts, told, pair))


def _name(facts: Facts, one: Headline) -> str:
    if one.form == "month":
        label = next(own.label for own in facts.protocol.quality.measures if own.id == one.keys["measure"])
        return f"{label}, {month(one.keys['visit'])}"
    if one.form == "rate":
        return "Adverse events per 100 sessions"
    measure, visit = facts.study.measures[one.rests.measure], at(facts.visit(one.rests.visit))
    if one.statistic == "completed":
        return f"{measure.short} scores on record, {visit}"
    what = f"{measure.short}, change" if one.form == "mean" else capital(improved(measure, _percent(facts, one)))
    role = {"primary": "Primary: ", "": "", "as planned": ""}.get(one.role, f"Secondary {one.role}: ")
    rest = {"as planned": ", as planned", "": ", every score" if one.section != "function" else ""}.get(one.role, "")
    return f"{role}{what}, {visit}{rest}"


def _percent(facts: Facts, one: Headline) -> int:
    if one.statistic == "planned":
        return facts.protocol.plan.key_secondary[int(one.role) - 1].percent
    return next(
        own for own in facts.protocol.outcomes.responder_percents if str(plain(str(int(own)))) == one.keys["group"]
    )


def _decimals(facts: Facts, one: Headline) -> int:
    return max(facts.study.measures[one.rests.measure].decimals, 1) if one.form == "mean" else 1


def _cell(facts: Facts, one: Headline, found: Estimate) -> Cell:
    if one.form == "month":
        watched = next(own for own in facts.protocol.quality.measures if own.id == one.keys["measure"])
        watch = Watch(watched, facts.protocol.quality, (found,))
        return Cell(big_value(watch, found), sub=counts_of(watch, found))
    if one.form == "mean":
        return Cell(
            mean_in_cell(found, _decimals(facts, one), signed=True),
            sub="" if found.n is None else f"n = {count(found.n)}",
        )
    if one.form == "rate":
        return Cell(
            mean_in_words(found, 1),
            sub="" if found.k is None or found.n is None else f"{count(found.k)} in {plural(found.n, 'session')}",
        )
    return Cell(share_in_cell(found) if one.statistic == "completed" else share_line(found))


def _difference(facts: Facts, pair: Pair) -> Cell:
    """Of the estimate, and under it of the number of people or sessions."""
    then, now = pair.then, pair.now
    if not pair.differs:
        return Cell("none")
    decimals = 0 if pair.headline.form == "share" else _decimals(facts, pair.headline)
    size = (
        ""
        if then.estimate is None or now.estimate is None
        else fixed(now.estimate - then.estimate, decimals, signed=True)
    )
    unit = " points" if size and pair.headline.form == "share" else ""
    n = "" if then.n is None or now.n is None else f"n {fixed(now.n - then.n, 0, signed=True)}"
    return Cell(f"{size}{unit}" or NOT_APPLICABLE, sub=n)


def _why(facts: Facts, told: Restatement, pair: Pair) -> str:
    known = told.whys.get(pair.headline.id)
    if known is None:
        return "Not known." if pair.differs else SAME
    rules = [" or ".join(told.rules_changed)] if known.by_rules else []
    ref = f"restatement/why/{pair.headline.id}"
    parts = [f"{IN_SHORT[kind]} ({count(facts.told(n, f'{ref}/{kind}'))})" for kind, n in _in_order(known)]
    if parts or rules:
        return f"{capital('; '.join([*rules, *parts]))}."
    return "Not traced to a record." if pair.differs else SAME


def _in_order(known: Why) -> list[tuple[Kind, int]]:
    places = [*IN_SHORT]
    return sorted(known.people, key=lambda one: places.index(one[0]))


# --- ids ------------------------------------------------------------------------------------------------------------


def behind_restated(facts: Facts) -> dict[str, str]:
    """What is behind each number of the last report that is printed again, by its id."""
    told = facts.releasable.restatement
    if told is None:
        return {}
    rows = told.then[(told.then["section"] != MONTHS) | (MONTHS in facts.report.sections)]
    return {
        name: f"in the last report, run {told.run_id}: estimates.csv"
        for name in rows["estimate_id"]
        if name.startswith(THEN)
    }
