"""Writes cohorts.json: six invented cohorts, people x visits, with a random person, visits that spread, and dropout.

Whoever has a worse score is more often not seen again (missing at random), and some scores are missing by chance.
"""

import json
from pathlib import Path

import numpy as np

MEANS = np.array([7.0, 5.8, 5.2, 4.9, 5.1])
SIZES = {"twelve": 12, "twenty-five": 25, "fifty": 50, "hundred": 100, "hundred and fifty": 150, "two hundred": 200}


def cohort(n: int, seed: int) -> list[list[float | None]]:
    chance = np.random.default_rng(seed)
    person, slope = chance.normal(0, 1.3, (n, 1)), chance.normal(0, 0.35, (n, 1))
    scores = np.round(MEANS + person + slope * np.arange(5) + chance.normal(0, 1, (n, 5)), 2)
    seen = chance.random((n, 5)) > 0.06
    for visit in range(1, 5):
        leaves = chance.random(n) < np.where(scores[:, visit - 1] > 6, 0.12, 0.03)
        seen[leaves, visit:] = False
    seen[:, 0] = True
    return [
        [float(s) if k else None for s, k in zip(row, known, strict=True)]
        for row, known in zip(scores, seen, strict=True)
    ]


if __name__ == "__main__":
    made = {name: cohort(n, 500 + n) for name, n in SIZES.items()}
    Path(__file__).with_name("cohorts.json").write_text(json.dumps(made) + "\n")
