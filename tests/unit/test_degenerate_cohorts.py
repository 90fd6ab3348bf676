"""Cohorts that statistics was not made for, in both editions: an honest page each time, in every section there is."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
from cohort_tables import AS_OF, Person, cohort, event, the_study, with_pain
from report_fixture import provenance
from test_sections import lines

from crps_outcomes.errors import DisclosureError
from crps_outcomes.stages.analyse import analyse
from crps_outcomes.stages.compose import SECTIONS, compose
from crps_outcomes.stages.disclose import disclose
from crps_outcomes.stages.render import page_html, render

COHORTS = {
    "nobody": [],
    "nobody treated": [Person(f"p{i}", doses_mg=()) for i in range(3)],
    "one person": [with_pain(1, 8, 5, 5, 5, 5, 5, 5)],
    "two people": [with_pain(1, 8, 5, 5, 5), with_pain(2, 7, 7, 7, 7)],
    "all missing": [Person(f"p{i}") for i in range(12)],
    "no variance": [with_pain(i, 8, 5, 5, 5, 5, 5, 5) for i in range(12)],
    "all responders": [with_pain(i, 8 + i % 2, 1, 1, 1, 1, 1, 1) for i in range(12)],
    "one visit only": [with_pain(i, 8 - i % 3, 5) for i in range(12)],
    "no variance, many": [with_pain(i, 8, 5, 5, 5, 5, 5, 5) for i in range(60)],
    "everybody the same dose": [with_pain(i, 8 - i % 3, 5, 5 - i % 2, 3 + i % 4, doses_mg=(40.0,) * 4) for i in range(24)],
    "one event": [with_pain(i, 8 - i % 3, 5, 5, 3 + i % 4) for i in range(12)],
}  # fmt: skip
EDITIONS = ("internal", "release")
HOLE = re.compile(r"\bnan\b|\bNaN\b|\bNone\b(?! of)|<NA>|\binf\b|[-−]0\.0+\b(?!\d)")
#: 100 % that is neither followed by its interval nor a description of who is in, such as "12 (100%)" or "100% of 12".
BARE = re.compile(
    r"(?<!to )(?<!\d \()(?<!on record \()(?<!≥ )\b100(?:\.0)?%"
    r"(?! \(| or more|, 95% CI| of \d| \d+ of \d| improved by \d+% or more \(95% CI)"
)


@cache
def tables(name: str):
    events = [event(1, "p0003", "nausea")] if name == "one event" else []
    return cohort(COHORTS[name], events=events)


@cache
def analysis(name: str):
    return analyse(tables(name), the_study(), as_of=AS_OF)


@cache
def made(name: str, edition: str):
    """The report with every section there is."""
    study = the_study()
    everything = study.reports["evidence"].model_copy(update={"sections": tuple(SECTIONS)})
    found = disclose(analysis(name), tables(name), study, edition)
    return compose(found, study, everything, provenance(edition))


#: Lines of charts, which are no estimates: "median 100%" in words, and the columns of the tables that list them.
CHART_LINES = re.compile(
    r"\b(?:median|mean|limits|target) [\d.]+%(?: to [\d.]+%)?| \| 100% \| (?:\[z\]|[\d.]+%) \| (?:\[z\]|[\d.]+%) \|"
)


def said(name: str, edition: str) -> list[str]:
    return [line for section in made(name, edition).sections for line in lines(section)]


def n_treated(name: str) -> int:
    return sum(person.is_treated for person in COHORTS[name])


@pytest.mark.parametrize("edition", EDITIONS)
@pytest.mark.parametrize("name", COHORTS)
def test_a_degenerate_cohort_gives_an_honest_page_or_is_refused(name, edition):
    if edition == "release" and n_treated(name) < the_study().protocol.disclosure.threshold:
        with pytest.raises(DisclosureError, match="at least"):
            made(name, edition)
        return
    words = said(name, edition)
    assert [line for line in words if HOLE.search(line)] == []
    assert [line for line in words if BARE.search(CHART_LINES.sub("", line))] == []
    page = page_html(made(name, edition), the_study().root / "templates")
    assert all(f'id="{section}"' in page for section in SECTIONS)


def test_the_searches_find_what_they_are_for():
    assert HOLE.search("a mean of nan points")
    assert HOLE.search("changed by −0.0 points")
    assert BARE.search("12 of 12, 100% improved")
    assert not BARE.search("12 of 12, 100% (76 to 100); 12 of 12 (100%, 95% CI 76 to 100); 12 (100%)")


def test_what_is_the_same_for_everybody_has_no_interval_in_any_row():
    rows = analysis("no variance, many").estimates
    change = rows[rows["statistic"].isin(["mean_change", "median_change"]) & (rows["n"] > 0)]
    assert len(change) > 5
    assert change[["lower", "upper"]].isna().all(axis=None)
    assert (change["reason"] != "").all()


@pytest.mark.parametrize("name", COHORTS)
def test_no_row_of_a_degenerate_cohort_is_infinite_or_without_a_reason(name):
    rows = analysis(name).estimates
    numbers = rows[["estimate", "lower", "upper", "sd"]].to_numpy("float64", na_value=np.nan)
    assert not np.isinf(numbers).any()
    assert ((rows["reason"] != "") | rows["upper"].notna()).all()


def test_a_degenerate_cohort_is_printed():
    assert render(made("no variance", "internal"), the_study().root).pdf.startswith(b"%PDF")
