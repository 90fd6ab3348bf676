"""What others published: context for the reader, kept apart from every result of this report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.evidence import published, typeset
from crps_outcomes.layout import noted, row, text_columns
from crps_outcomes.numbers import count
from crps_outcomes.report_model import Cell, Section, Table
from crps_outcomes.wording import capital, sentences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crps_outcomes.evidence import PublishedStudy
    from crps_outcomes.facts import Facts
    from crps_outcomes.layout import Row

#: Words in a design that put a study into a table, in the order of the tables; the last one takes what is left.
KINDS = {
    "reviews": ("review", "meta-analysis", "overview"),
    "trials": ("randomised",),
    "cohorts": (),
}
ENCODING = "Quoted. Verified: seen in the source named; points still unconfirmed stand in the note."
TITLES = {
    "trials": "Published randomised trials.",
    "cohorts": "Published open-label studies and cohorts.",
    "reviews": "Published reviews and meta-analyses.",
}


def context(facts: Facts) -> Section:
    """Every row of the evidence table, favourable or not, with its certainty note and whether it was confirmed."""
    rows = published(facts.study.root)
    return Section(
        id="context",
        short="Published context",
        finding="IV (and one IM non-pain) evidence — not a comparator arm",
        lede=_lede(rows),
        tables={kind: _table(facts, kind, [study for study in rows if kind_of(study) == kind]) for kind in TITLES},
    )


def kind_of(study: PublishedStudy) -> str:
    design = study.design.lower()
    return next((kind for kind, words in KINDS.items() if any(word in design for word in words)), "cohorts")


def _lede(rows: Sequence[PublishedStudy]) -> str:
    unconfirmed = sum(study.verified == "no" for study in rows)
    return sentences(
        f"All {count(len(rows))} publications of the evidence table, whatever they found. None of them gave ketamine into a "
        "muscle for CRPS, and total doses in the CRPS infusion trials were several times those of an IM series.",
        f"Rows not confirmed in their source ({count(unconfirmed)}) show no result." if unconfirmed else "",
    )


def _table(facts: Facts, kind: str, studies: Sequence[PublishedStudy]) -> Table:
    table = Table(
        title=TITLES[kind],
        encoding=ENCODING if kind == "trials" else "",
        columns=text_columns(
            ("Study", 34),
            ("Design, people, condition, route, regimen", 48),
            ("Outcome, timing, result", 50),
            ("Certainty note", 28),
            ("Verified", 14),
        ),
        rows=tuple(_row(study) for study in studies),
        empty="The evidence table lists none.",
        style="evidence fixed",
    )
    return noted(table, facts)


def _row(study: PublishedStudy) -> Row:
    people = f"n: {study.n}" if study.n else ""
    given = "; ".join(part for part in (study.design, people, study.condition, study.route, study.regimen) if part)
    return row(
        Cell(sentences(study.study, study.year), sub=study.doi), capital(typeset(given)), capital(typeset(_result(study))),
        capital(typeset(study.certainty_risk_note)), study.verified,
    )  # fmt: skip


def _result(study: PublishedStudy) -> str:
    what = "; ".join(part for part in (study.outcome, study.timing) if part)
    return f"{what}. No result shown: not confirmed." if study.verified == "no" else f"{what}: {study.result}"
