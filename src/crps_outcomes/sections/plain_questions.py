"""What to ask a doctor: it needs no number, so it is there for a clinic of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.plain_words import said
from crps_outcomes.report_model import Section

if TYPE_CHECKING:
    from crps_outcomes.facts import Facts


def plain_questions(facts: Facts) -> Section:
    """The questions, and that the sheet takes no doctor's place."""
    *questions, close = said(facts, "ask")
    text = {"ask": tuple(questions), "close": (close,)}
    return Section("plain_questions", facts.words["plain.questions"], facts.words["plain.head.ask"], text=text)
