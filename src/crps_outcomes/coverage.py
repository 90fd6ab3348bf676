"""Where 95 % intervals are known to hold the truth less than 93 times in 100: what docs/simulation.md found.

The methods section says it. A test compares this list with the cells of that page, so neither can go its own way.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Undercoverage:
    """One situation of the simulation study: its generator, the estimators that fall short in it, and both in words."""

    generator: str
    estimators: tuple[str, ...]
    words: str


KNOWN_UNDERCOVERAGE = (
    Undercoverage(
        "MNAR dropout",
        (
            "mean change, t",
            "mean change, mixed model",
            "Hodges-Lehmann",
            "responders, observed",
            "still responding, 12 weeks",
            "median time to loss",
        ),
        "where people who do worse stay away, means and medians of change, responders with a score and times to loss look "
        "better than they are, and more people do not mend it",
    ),
    Undercoverage(
        "skewed",
        ("mean change, t", "mean change, mixed model"),
        "where a few change very much, mean changes of about 25 people or fewer",
    ),
    Undercoverage(
        "skewed", ("events per 100 sessions",), "where adverse events gather in few people, rates per 100 sessions"
    ),
    Undercoverage(
        "heavy ties",
        ("median time to loss",),
        "where a loss of response is seen at the next visit only, its median time",
    ),
)


def undercoverage_in_words() -> str:
    """One sentence for the methods section."""
    return (
        "In a simulation study of these estimates (docs/simulation.md of the program), 95% intervals held the truth 93 to 97 "
        f"times in 100 or more often, but less often in these cases: {'; '.join(one.words for one in KNOWN_UNDERCOVERAGE)}."
    )
