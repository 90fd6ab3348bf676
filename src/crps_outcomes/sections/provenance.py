"""Where every number came from, so that anyone with the same data can repeat the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.layout import noted, number_columns, row, text_columns
from crps_outcomes.numbers import day
from crps_outcomes.report_model import Section, Table
from crps_outcomes.sections.completeness import pull_in_words
from crps_outcomes.wording import whole_or_mark

if TYPE_CHECKING:
    from crps_outcomes.facts import Facts

SOURCES = {
    "rest": "FHIR server, read by search",
    "folder": "folder of NDJSON files",
    "bulk": "FHIR server, read by bulk export",
}


def provenance(facts: Facts) -> Section:
    """Digests, selector, source, as-of day and versions."""
    return Section(
        id="provenance",
        short="Where these numbers came from",
        finding="The same three digests give the same report",
        lede=(
            "Snapshot: the data. Study: protocol, measures, code lists and templates. Code: the program. The machine-readable "
            "record stands beside this file as provenance.json, the numbers as estimates.csv and one CSV file per table."
        ),
        tables={"record": _record(facts), "sources": _sources(facts)},
    )


def _record(facts: Facts) -> Table:
    table = Table(
        title="Provenance of this report.",
        columns=text_columns(("Item", 40), ("Value", 134)),
        rows=tuple(row(*pair) for pair in _items(facts)),
        style="dense fixed",
    )
    return noted(table, facts)


def _sources(facts: Facts) -> Table:
    """Resources by type with the holes of the pull; the release edition has no counts of source records."""
    rows = facts.releasable.sources.sort_values("resource_type").to_dict("records")
    has_counts = not facts.releasable.sources["n"].isna().all()
    counts = number_columns(("Resources", 24)) if has_counts else ()
    table = Table(
        title="What the source delivered.",
        encoding="Resources in the snapshot, by type." if has_counts else "Types of resources in the snapshot.",
        columns=(*text_columns(("Resource type", 60)), *counts, *text_columns(("Hole", 90))),
        rows=tuple(
            row(r["resource_type"], *([whole_or_mark(r["n"])] if has_counts else []), r["hole"] or "none") for r in rows
        ),
        empty="The ledger of the pull is empty.",
        style="dense fixed",
    )
    return noted(table, facts)


def _items(facts: Facts) -> tuple[tuple[str, str], ...]:
    origin = facts.provenance
    versions = ", ".join(f"{name} {version}" for name, version in origin.software.items())
    synthetic = "Synthetic: no person behind any number" if origin.is_synthetic else "Real"
    example = " (example protocol)" if facts.protocol.is_example else ""
    return (
        ("Run", origin.run_id),
        ("Data as of", day(origin.as_of)),
        ("Snapshot (SHA-256)", origin.snapshot),
        ("Study (SHA-256)", origin.study),
        ("Code (SHA-256)", origin.code),
        ("Protocol", f"{facts.protocol.id}, version {facts.protocol.version}{example}"),
        ("Source", SOURCES.get(origin.source_kind, origin.source_kind)),
        ("Enrolment selector", origin.selector),
        ("Completeness", pull_in_words(facts)),
        ("Data", synthetic),
        ("Edition and rules", " ".join(facts.releasable.rules) or origin.edition),
        ("Software", versions),
    )
