"""What others published: context for the reader, kept apart from every result of this report."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from crps_outcomes.evidence import typeset
from crps_outcomes.layout import listed, noted, number_columns, row, text_columns
from crps_outcomes.marks import NOT_APPLICABLE
from crps_outcomes.numbers import count, fixed, interval, plural
from crps_outcomes.report_model import Cell, Section, Table
from crps_outcomes.series import BASELINE
from crps_outcomes.wording import at, capital, counted, mean_in_words, sentences, why_hidden

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crps_outcomes.evidence import PublishedDose, PublishedStudy, Untreated
    from crps_outcomes.facts import Estimate, Facts
    from crps_outcomes.layout import Row

#: Words in a design that put a study into a table, in the order of the tables; the last one takes what is left.
KINDS = {
    "reviews": ("review", "meta-analysis", "overview"),
    "trials": ("randomised",),
    "cohorts": (),
}
TITLES = {
    "reviews": "Published reviews and meta-analyses",
    "trials": "Published randomised trials",
    "cohorts": "Published open-label studies and cohorts",
}
#: Readings in the order of the rows: what found nothing is read first.
READINGS = ("null", "mixed", "favourable", "not about pain", "no result")
ENCODING = (
    "Quoted. Reading: ours. Verified: seen in the source named; what is unconfirmed in it stands under certainty."
)
INTERNAL_ONLY = "Of this cohort: shown in the internal edition only."


def context(facts: Facts) -> Section:
    """Every row of the evidence table, favourable or not, with its certainty; the total doses; and pain without ketamine."""
    rows = facts.study.evidence.studies
    return Section(
        id="context",
        short="Published context",
        finding="IV (and one IM non-pain) evidence — not a comparator arm",
        lede=_lede(facts, rows),
        tables={
            **{kind: _table(facts, kind, [study for study in rows if kind_of(study) == kind]) for kind in TITLES},
            "doses": _doses(facts),
        },
        text={
            "against": tuple(_against(study) for study in facts.study.evidence.counterweights),
            "untreated": _untreated(facts),
        },
    )


def kind_of(study: PublishedStudy) -> str:
    design = study.design.lower()
    return next((kind for kind, words in KINDS.items() if any(word in design for word in words)), "cohorts")


def short_name(study: str) -> str:
    """The name without journal and register numbers."""
    return study.partition(" (")[0]


def _lede(facts: Facts, rows: Sequence[PublishedStudy]) -> str:
    every = facts.told(len(rows), "evidence/studies")
    unconfirmed = facts.told(sum(study.verified == "no" for study in rows), "evidence/unconfirmed")
    return sentences(
        f"All {plural(every, 'publication')} of the evidence table, whatever they found. None of them gave ketamine into a "
        "muscle for CRPS, and nothing in this report is tested against them.",
        f"What is not confirmed in its source ({plural(unconfirmed, 'row')}) shows no result." if unconfirmed else "",
        doses_in_words(facts),
    )


# --- what favourable results are read with ---------------------------------------------------------------------------


def _against(study: PublishedStudy) -> str:
    name = f"{short_name(study.study)} {study.year}".strip()
    return f"{name} ({typeset(study.condition)}): {typeset(study.result)}. Certainty: {typeset(study.certainty_risk_note)}."


# --- pain without ketamine --------------------------------------------------------------------------------------------


def _untreated(facts: Facts) -> tuple[str, ...]:
    return tuple(
        line for group in facts.study.evidence.untreated for line in (untreated_in_words(group), _here(facts, group))
    )


def untreated_in_words(group: Untreated) -> str:
    """Pain in a published group that got none, with what is not known of it."""
    return (
        f"{capital(group.group)} group of {short_name(group.study)} (n = {count(group.people)}), week {group.week}: mean pain score "
        f"{fixed(group.mean, 2)} ± {fixed(group.spread, 2)}. {group.note}."
    )


def _here(facts: Facts, group: Untreated) -> str:
    start, then = (
        facts.one("pain", "mean", visit=visit, measure=facts.primary.id) for visit in (BASELINE, group.visit)
    )
    if start.mark or then.mark or start.estimate is None or then.estimate is None:
        return f"Here, week {group.week}: not shown, {why_hidden(then if then.mark else start)}."
    change = facts.one("pain", "mean_change", visit=facts.primary_visit.id, measure=facts.primary.id)
    later = "" if change.mark else f"; change at {at(facts.primary_visit)} {mean_in_words(change, 1, signed=True)}"
    return (
        f"Here: mean {mean_in_words(start, 1)} at the start, {mean_in_words(then, 1)} in week {group.week}{later}. Pain also changes "
        "without ketamine; the two groups are not alike and are not compared."
    )


# --- total doses ------------------------------------------------------------------------------------------------------


def _doses(facts: Facts) -> Table:
    here = facts.one("context", "median", measure="series_mg")
    published = facts.study.evidence.doses
    table = Table(
        title="Total dose of a course.",
        encoding="Milligrams as published, or as recorded here. Times: published total over the median of a series here.",
        columns=(
            *text_columns(("Course", 38), ("Ketamine", 26)),
            *number_columns(("Total, mg", 30), ("Times", 30)),
            *text_columns(("How the total comes about", 50)),
        ),
        rows=(_own_series(facts, here), *(_published(facts, dose) for dose in published)) if published else (),
        empty="The evidence table gives no total dose.",
        style="dense fixed",
    )
    return noted(table, facts, CAVEATS, INTERNAL_ONLY if facts.is_release else "")


CAVEATS = (
    "Milligrams are not equivalents: route, speed, enantiomer and what was given beside differ, how much of an intramuscular "
    "dose arrives in CRPS is unconfirmed, and whether the published milligrams are base or salt is not stated."
)


def doses_in_words(facts: Facts) -> str:
    """How many times the median series here the published courses were; nothing where there is no ratio."""
    found = ((dose, facts.one("context", "ratio", group=dose.id)) for dose in facts.study.evidence.doses)
    told = [
        f"{fixed(e.estimate, 1)} times ({short_name(dose.study)})"
        for dose, e in found
        if not e.mark and e.estimate is not None
    ]
    return (
        f"In milligrams, infusion courses came to at most {listed(told)} the median series here; milligrams are not equivalents."
        if told
        else ""
    )


def _own_series(facts: Facts, here: Estimate) -> Row:
    if here.mark or here.estimate is None:
        total = here.mark
        why = INTERNAL_ONLY if facts.is_release else f"{capital(why_hidden(here))}."
    else:
        total = fixed(here.estimate, 0)
        missing = f"; {count(here.n_missing)} without a known dose" if here.n_missing else ""
        why = f"Median of {counted(here.n)} series{missing}"
    return row(
        Cell("A series here", sub="not fixed in advance"),
        "Racemic, IM",
        Cell(total, sub=_quartiles(here, 0)),
        NOT_APPLICABLE,
        why,
    )


def _published(facts: Facts, dose: PublishedDose) -> Row:
    times = facts.one("context", "ratio", group=dose.id)
    ratio = times.mark if times.mark or times.estimate is None else fixed(times.estimate, 1)
    worked_out = f"{dose.mg_per_hour:g} mg/h × {dose.hours_per_day:g} h/d × {dose.days:g} d"
    return row(
        Cell(short_name(dose.study), sub=dose.course), f"{capital(dose.ketamine)}, IV", f"≤ {fixed(dose.total_mg, 0)}",
        Cell(ratio, sub=_quartiles(times, 1)), Cell(worked_out, sub=dose.note),
    )  # fmt: skip


def _quartiles(estimate: Estimate, decimals: int) -> str:
    if not estimate.has_interval or estimate.lower is None or estimate.upper is None:
        return ""
    return f"quartiles {interval(estimate.lower, estimate.upper, lambda value: fixed(value, decimals))}"


# --- the evidence table -----------------------------------------------------------------------------------------------


def _table(facts: Facts, kind: str, studies: Sequence[PublishedStudy]) -> Table:
    table = Table(
        title=f"{TITLES[kind]}: {_found(facts, studies)}." if studies else f"{TITLES[kind]}.",
        encoding=ENCODING if kind == "reviews" else "",
        columns=text_columns(
            ("Study", 33),
            ("Reading", 19),
            ("Design, people, condition, route, regimen", 42),
            ("Outcome, timing, result", 48),
            ("Certainty and limits", 32),
        ),
        rows=tuple(_row(study) for study in sorted(studies, key=_order)),
        empty="The evidence table lists none.",
        style="published fixed tall",
    )
    return noted(table, facts)


def _found(facts: Facts, studies: Sequence[PublishedStudy]) -> str:
    """Such as "1 null, 1 mixed, 2 favourable"."""
    readings: Counter[str] = Counter(study.reading for study in studies)
    return ", ".join(
        f"{count(facts.told(readings[one], 'evidence/readings'))} {one}" for one in READINGS if readings[one]
    )


def _order(study: PublishedStudy) -> tuple[int, str]:
    return READINGS.index(study.reading), study.year


def _row(study: PublishedStudy) -> Row:
    people = f"n: {study.n}" if study.n else ""
    given = "; ".join(part for part in (study.design, people, study.condition, study.route, study.regimen) if part)
    return row(
        Cell(sentences(study.study, study.year), sub=study.doi), Cell(capital(study.reading), sub=f"verified: {study.verified}"),
        capital(typeset(given)), capital(typeset(_result(study))), capital(typeset(study.certainty_risk_note)),
    )  # fmt: skip


def _result(study: PublishedStudy) -> str:
    what = "; ".join(part for part in (study.outcome, study.timing) if part)
    return f"{what}. No result shown: not confirmed." if study.verified == "no" else f"{what}: {study.result}"
