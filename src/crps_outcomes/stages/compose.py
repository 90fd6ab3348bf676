"""From releasable numbers to a report with every text formatted: sections in the order the report lists them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date
from itertools import count
from typing import TYPE_CHECKING, Any

import pandas as pd

from crps_outcomes.errors import DefinitionError
from crps_outcomes.facts import Facts
from crps_outcomes.language import ENGLISH, strings
from crps_outcomes.numbers import keep_together
from crps_outcomes.reconciliation import reconcile
from crps_outcomes.report_model import Cell, Figure, Flow, ReportModel, Section, Table
from crps_outcomes.sections.actions import actions
from crps_outcomes.sections.charts import charts
from crps_outcomes.sections.checklist import checklist
from crps_outcomes.sections.completeness import completeness, draft_in_words, pull_in_words
from crps_outcomes.sections.context import context
from crps_outcomes.sections.course import course
from crps_outcomes.sections.dosing import dosing
from crps_outcomes.sections.durability import durability
from crps_outcomes.sections.endpoints import endpoints
from crps_outcomes.sections.exposure_response import exposure_response
from crps_outcomes.sections.flow import flow
from crps_outcomes.sections.function import function
from crps_outcomes.sections.methods import methods
from crps_outcomes.sections.missing import missing
from crps_outcomes.sections.natural_course import natural_course
from crps_outcomes.sections.pain import pain
from crps_outcomes.sections.participants import participants
from crps_outcomes.sections.patient import patient
from crps_outcomes.sections.patient_next import patient_next
from crps_outcomes.sections.patient_safety import patient_safety
from crps_outcomes.sections.patient_scores import patient_scores
from crps_outcomes.sections.plain import plain
from crps_outcomes.sections.plain_numbers import plain_numbers
from crps_outcomes.sections.plain_questions import plain_questions
from crps_outcomes.sections.precision import precision
from crps_outcomes.sections.process import process
from crps_outcomes.sections.provenance import provenance as provenance_section
from crps_outcomes.sections.quality import quality
from crps_outcomes.sections.responders import responders
from crps_outcomes.sections.restatement import behind_restated, restatement, since_in_words
from crps_outcomes.sections.safety import safety
from crps_outcomes.sections.safety_watch import safety_watch
from crps_outcomes.sections.summary import summary
from crps_outcomes.traced import declared
from crps_outcomes.wording import counted, sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from crps_outcomes.definitions import Protocol, ReportDefinition
    from crps_outcomes.disclosure import Releasable
    from crps_outcomes.language import Strings
    from crps_outcomes.person import Person
    from crps_outcomes.provenance import Provenance
    from crps_outcomes.study import Study

SECTIONS: Mapping[str, Callable[[Facts], Section]] = {
    "summary": summary,
    "flow": flow,
    "participants": participants,
    "dosing": dosing,
    "endpoints": endpoints,
    "pain": pain,
    "course": course,
    "natural_course": natural_course,
    "responders": responders,
    "durability": durability,
    "function": function,
    "exposure_response": exposure_response,
    "safety": safety,
    "completeness": completeness,
    "restatement": restatement,
    "missing": missing,
    "precision": precision,
    "context": context,
    "methods": methods,
    "checklist": checklist,
    "quality": quality,
    "charts": charts,
    "process": process,
    "safety_watch": safety_watch,
    "actions": actions,
    "provenance": provenance_section,
    "plain": plain,
    "plain_numbers": plain_numbers,
    "plain_questions": plain_questions,
}

#: Sections of a page about one person.
PERSON_SECTIONS: Mapping[str, Callable[[Person], Section]] = {
    "patient": patient,
    "patient_scores": patient_scores,
    "patient_safety": patient_safety,
    "patient_next": patient_next,
}


def compose(
    releasable: Releasable,
    study: Study,
    report: ReportDefinition,
    provenance: Provenance,
    *,
    is_traced: bool = False,
) -> ReportModel:
    """The report model: all sections written, tables and figures numbered, nothing left to compute.

    With ``is_traced`` every printed number is marked with the id it comes from, for `render` to make a link of it.

    Raises:
        DefinitionError: the report lists a section that does not exist, or is about single people.
        PipelineError: two places would print different numbers for the same thing; it names both.
    """
    if report.about == "person":
        raise DefinitionError(f"report {report.id}: a page about one person is made by crps-outcomes {report.id}")
    facts = Facts(releasable, with_ids(study) if is_traced else study, report, provenance, is_traced)
    sections = with_links(numbered(_sections(facts)))
    reconcile(sections, facts)
    title, kind, subject = _names(facts)
    return ReportModel(
        report=report.id,
        title=title,
        subject=subject,
        kind=kind,
        running=f"{title} · {kind}",
        status=_status(facts),
        draft=draft_in_words(facts) if facts.provenance.is_draft else "",
        meta=_meta(facts),
        rounding=facts.words["counts.rounded"] if releasable.is_rounded else "",
        author=study.protocol.site,
        created=provenance.as_of.isoformat(),
        identity=provenance.identity,
        sections=sections,
        pulled=sentences(pull_in_words(facts), since_in_words(facts)),
        form=provenance.form,
        text_lang=facts.lang if facts.lang in report.languages else ENGLISH,
        behind=_behind(facts) if is_traced and not facts.is_release else {},
    )


def compose_person(person: Person, report: ReportDefinition, *, is_traced: bool = False) -> ReportModel:
    """The page about one person, by the code that stands for them. It is of the internal edition, always.

    With ``is_traced`` every printed number is marked with the row of this person it comes from, such as
    "outcomes/pain_nrs/week_4"; nothing links there, for nobody but the clinic has the rows.

    Raises:
        DefinitionError: the report lists a section that does not exist, or another edition is asked for.
    """
    refuse_release(report, person.provenance.edition)
    if is_traced:
        person = replace(person, study=with_ids(person.study), is_traced=True)
    protocol, provenance = person.study.protocol, person.provenance
    words = strings(person.study.root, provenance.form.lang)
    unknown = [name for name in report.sections if name not in PERSON_SECTIONS]
    if unknown:
        known = ", ".join(PERSON_SECTIONS)
        raise DefinitionError(f'reports/{report.id}.toml: sections: no section "{unknown[0]}"; there are {known}')
    return ReportModel(
        report=report.id,
        title=f"{report.title}: {person.code}",
        subject=f"{report.kind} for {report.audience[:1].lower()}{report.audience[1:]}",
        kind=report.kind,
        running=f"{report.kind} · {person.code}",
        status=_marks(protocol, provenance, words),
        draft=f"DRAFT - INCOMPLETE: missing {', '.join(provenance.holes)}" if provenance.is_draft else "",
        meta=(
            (words["label.site"], protocol.site),
            (words["label.as_of"], person.day(provenance.as_of)),
            ("First dose", person.day(person.first_dose_on)),
            ("Sessions", counted(person.n_sessions)),
        ),
        author=protocol.site,
        created=provenance.as_of.isoformat(),
        identity=hashlib.sha256(f"{provenance.identity} {person.code}".encode()).hexdigest(),
        sections=numbered(PERSON_SECTIONS[name](person) for name in report.sections),
        form=provenance.form,
    )


def refuse_release(report: ReportDefinition, edition: str) -> None:
    """A page about one person is never part of a release edition.

    Raises:
        DefinitionError: it was asked for one.
    """
    if report.about == "person" and edition != "internal":
        raise DefinitionError(
            f"report {report.id}: nothing about a single person leaves the clinic (disclosure rule: no per-person marks in a "
            "release edition); the edition should be internal"
        )


def _names(facts: Facts) -> tuple[str, str, str]:
    """Title, kind and subject: those of the catalogue where it has some for this report, else those of its definition."""
    report, words = facts.report, facts.words
    subject = f"{report.kind} for {report.audience[:1].lower()}{report.audience[1:]}"
    own = {"title": report.title, "kind": report.kind, "subject": subject}
    title, kind, subject = (words.get(f"{report.id}.{name}", text) for name, text in own.items())
    return title, kind, subject


def with_ids(study: Study) -> Study:
    """The study with numbers that know their key in it."""
    return replace(
        study,
        protocol=declared(study.protocol, "protocol"),
        measures={name: declared(one, f"measure:{name}") for name, one in study.measures.items()},
        evidence=declared(study.evidence, "evidence"),
    )


def _behind(facts: Facts) -> dict[str, str]:
    """What is behind each estimate, in words."""
    rows = facts.releasable.estimates.to_dict("records")
    boxes = {
        f"counts/{step.step}/{column}": f"people: {step.label}"
        for step in facts.steps
        for column in ("n_subjects", "n_left")
    }
    return {row["estimate_id"]: _behind_row(row) for row in rows} | boxes | behind_restated(facts)


def _behind_row(row: Mapping[Hashable, Any]) -> str:
    counts = {"n": row["n"], "missing": row["n_missing"]}
    told = [f"{name} {int(value):,}" for name, value in counts.items() if not pd.isna(value)]
    return "; ".join(part for part in (*told, row["method"], row["reason"]) if part)


def _sections(facts: Facts) -> Iterator[Section]:
    for name in facts.report.sections:
        if name not in SECTIONS:
            known = ", ".join(SECTIONS)
            raise DefinitionError(f'reports/{facts.report.id}.toml: sections: no section "{name}"; there are {known}')
        yield SECTIONS[name](facts)


def numbered(sections: Iterator[Section]) -> tuple[Section, ...]:
    """The sections with figures and tables numbered through the report; what is empty takes no number."""
    figures, tables = count(1), count(1)
    return tuple(
        replace(
            section,
            finding=keep_together(section.finding),
            headline=tuple(replace(run, text=keep_together(run.text)) for run in section.headline),
            figures={
                key: replace(item, number=next(figures)) if _is_drawn(item) else item
                for key, item in section.figures.items()
            },
            tables={
                key: replace(item, number=next(tables)) if item.rows else item for key, item in section.tables.items()
            },
        )
        for section in sections
    )


def with_links(sections: tuple[Section, ...]) -> tuple[Section, ...]:
    """The sections with every link in the words of the section it leads to."""
    names = {section.id: section.short for section in sections}

    def named(cell: Cell) -> Cell:
        return replace(cell, links=tuple(replace(link, words=names[link.section]) for link in cell.links))

    def linked(table: Table) -> Table:
        return replace(
            table, rows=tuple(tuple(named(cell) if cell.links else cell for cell in line) for line in table.rows)
        )

    return tuple(replace(one, tables={key: linked(table) for key, table in one.tables.items()}) for one in sections)


def _is_drawn(item: Figure | Flow) -> bool:
    return bool(item.svg if isinstance(item, Figure) else item.boxes)


def _status(facts: Facts) -> tuple[str, ...]:
    """What stands at the foot of every page."""
    return _marks(facts.protocol, facts.provenance, facts.words)


def _marks(protocol: Protocol, provenance: Provenance, words: Strings) -> tuple[str, ...]:
    marks = {
        provenance.edition: True,
        "synthetic": protocol.is_synthetic,
        "example": protocol.is_example,
        "unverified": provenance.data_status == "unverified",
    }
    return tuple(words[f"status.{mark}"] for mark, holds in marks.items() if holds)


def _meta(facts: Facts) -> tuple[tuple[str, str], ...]:
    words, protocol = facts.words, facts.protocol
    kind = words[f"data.{'synthetic' if protocol.is_synthetic else 'real'}"]
    name = "data.example_protocol" if protocol.is_example else "data.protocol"
    until = facts.provenance.valid_until
    found = {
        "site": protocol.site,
        "as_of": facts.day(facts.provenance.as_of),
        "valid_until": facts.day(date.fromisoformat(until)) if until else "",
        "treated": counted(facts.n_at("treated")),
        "data": f"{kind}, {words[f'data.{facts.provenance.data_status}']}",
        "protocol": words.say(name, id=protocol.id, version=protocol.version),
    }
    return tuple((words[f"label.{label}"], value) for label, value in found.items() if value)
