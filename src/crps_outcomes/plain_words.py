"""Sentences of the sheet in plain words from the catalogue of the language, and numbers as that language writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.numbers import count, fixed
from crps_outcomes.traced import refs_of, traced

if TYPE_CHECKING:
    from crps_outcomes.definitions import Visit
    from crps_outcomes.facts import Facts


def said(facts: Facts, topic: str) -> tuple[str, ...]:
    """Every sentence of a topic, in the order of the catalogue."""
    return tuple(text for key, text in facts.words.items() if key.startswith(f"plain.{topic}."))


def when(facts: Facts, visit: Visit) -> str:
    """Such as "week 4"."""
    weeks, rest = divmod(visit.day, 7)
    n = visit.day if rest else traced(weeks, *refs_of(visit.day))
    return facts.words.say("plain.day" if rest else "plain.week", n=n)


def decimal(facts: Facts, value: float) -> str:
    """One decimal, with the comma or point of the language."""
    text = fixed(value, 1)
    return text.replace(".", ",") if facts.lang == "de" else text


def whole(facts: Facts, n: int) -> str:
    return count(n).replace(",", ".") if facts.lang == "de" else count(n)
