"""The sheet for people who think about the treatment, page 1: that there is no strong proof, then what is known and what is not.

Every sentence stands in the catalogue of the language.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.plain_words import said, when
from crps_outcomes.report_model import Section

if TYPE_CHECKING:
    from crps_outcomes.facts import Facts


def plain(facts: Facts) -> Section:
    """Page 1: no strong proof, what CRPS, the usual care and ketamine are, what is known and what is not."""
    topics = ("proof", "crps", "care", "ketamine", "known")
    text = {topic: said(facts, topic) for topic in topics}
    until = when(facts, facts.visits[-1])
    unknown = tuple(sentence.format(until=until) for sentence in said(facts, "unknown"))
    first = facts.words["plain.first"]
    return Section("plain", first, first, text={**text, "unknown": unknown})
