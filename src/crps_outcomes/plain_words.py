"""Sentences of the sheet in plain words from the catalogue of the language, and numbers as that language writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crps_outcomes.numbers import count, fixed

if TYPE_CHECKING:
    from crps_outcomes.definitions import Visit
    from crps_outcomes.facts import Facts


def said(facts: Facts, topic: str) -> tuple[str, ...]:
    """Every sentence of a topic, in the order of the catalogue."""
    return tuple(text for key, text in facts.words.items() if key.startswith(f"plain.{topic}."))


def when(facts: Facts, visit: Visit) -> str:
    """Such as "week 4"."""
    weeks, rest = divmod(visit.day, 7)
    return facts.words.say("plain.day", n=visit.day) if rest else facts.words.say("plain.week", n=weeks)


def decimal(facts: Facts, value: float) -> str:
    """One decimal, with the comma or point of the language."""
    text = fixed(value, 1)
    return text.replace(".", ",") if facts.lang == "de" else text


def whole(facts: Facts, n: int) -> str:
    return count(n).replace(",", ".") if facts.lang == "de" else count(n)
