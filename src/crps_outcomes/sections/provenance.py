"""Where every number came from, so that anyone with the same data can repeat the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from crps_outcomes.layout import noted, row, text_columns
from crps_outcomes.numbers import count
from crps_outcomes.report_model import Section, Table
from crps_outcomes.sections.completeness import pull_in_words

if TYPE_CHECKING:
    from crps_outcomes.facts import Facts

SOURCES = {
    "rest": "FHIR server, read by search",
    "folder": "folder of files",
    "export": "FHIR server, read by bulk export",
}


def provenance(facts: Facts) -> Section:
    """Digests, selector, source, as-of day and versions."""
    return Section(
        id="provenance",
        short="Where these numbers came from",
        finding="The same three digests give the same report",
        lede=(
            "Snapshot: the data. Study: protocol, measures, code lists and templates. Code: the program. What is told of earlier "
            "runs (methods: the plan over time) is in the record as well. The machine-readable record stands beside this file as "
            "provenance.json, the numbers as estimates.csv and one CSV file per table."
        ),
        tables={"record": _record(facts)},
    )


def _record(facts: Facts) -> Table:
    table = Table(
        title="Provenance of this report.",
        columns=text_columns(("Item", 40), ("Value", 134)),
        rows=tuple(row(*pair) for pair in _items(facts)),
        style="dense fixed",
    )
    return noted(table, facts)


def _resources(facts: Facts) -> str:
    """The types that delivered anything, with their counts; in the release edition the types alone."""
    rows = facts.releasable.sources.sort_values("resource_type").to_dict("records")
    known = [
        (r["resource_type"], None if pd.isna(r["n"]) else facts.told(int(r["n"]), f"sources/{r['resource_type']}/n"))
        for r in rows
    ]
    return ", ".join(name if n is None else f"{name} {count(n)}" for name, n in known if n != 0) or "none"


def _holes(facts: Facts) -> str:
    rows = facts.releasable.sources.sort_values("resource_type").to_dict("records")
    return "; ".join(f"{r['resource_type']}: {r['hole']}" for r in rows if r["hole"]) or "none"


def _items(facts: Facts) -> tuple[tuple[str, str], ...]:
    origin = facts.provenance
    versions = ", ".join(f"{name} {version}" for name, version in origin.software.items())
    synthetic = "Synthetic: no person behind any number" if origin.is_synthetic else "Real"
    example = " (example protocol)" if facts.protocol.is_example else ""
    return (
        ("Run", origin.run_id),
        ("Data as of", facts.day(origin.as_of)),
        ("Snapshot (SHA-256)", origin.snapshot),
        *([("Compared with snapshot", origin.compared_with)] if origin.compared_with else []),
        *([("Last report of this kind", origin.before_run)] if origin.before_run else []),
        ("Study (SHA-256)", origin.study),
        ("Code (SHA-256)", origin.code),
        *([("Analysis plan (SHA-256)", origin.plan.digest)] if origin.plan.digest else []),
        ("Protocol", f"{facts.protocol.id}, version {facts.protocol.version}{example}"),
        ("Source", SOURCES.get(origin.source_kind, origin.source_kind)),
        ("Enrolment selector", origin.selector),
        ("Completeness", pull_in_words(facts)),
        ("Resources in the snapshot", _resources(facts)),
        ("Holes", _holes(facts)),
        ("Data", synthetic),
        ("Edition and rules", " ".join(facts.releasable.rules) or origin.edition),
        ("Software", versions),
    )
