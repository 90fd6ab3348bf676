"""A plan that names what is not there is refused, with the key and what would be right."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from cohort_tables import the_study

from crps_outcomes.errors import DefinitionError
from crps_outcomes.study import CARD, load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Any:
    """A copy of the study folder in whose protocol one text is replaced by another."""
    for folder in CARD:
        shutil.copytree(the_study().root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))

    def with_change(old: str, new: str) -> Any:
        protocol = tmp_path / "mappings" / "protocol.toml"
        text = protocol.read_text(encoding="utf-8")
        assert old in text
        protocol.write_text(text.replace(old, new, 1), encoding="utf-8")
        return load(tmp_path)

    return with_change


FIRST = '[[plan.key_secondary]]\nmeasure = "pain_nrs"\nvisit = "week_12"'
SECOND = 'measure = "promis_physical_function"\nvisit = "week_4"'


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (FIRST, FIRST.replace("week_12", "week_13"), 'plan.key_secondary 1: visit: no visit "week_13"; there are week_1, '),
        (FIRST, FIRST.replace("pain_nrs", "pain"), 'plan.key_secondary 1: measure: no outcome "pain" with a start score;'),
        (FIRST, FIRST.replace("pain_nrs", "pgic"), 'plan.key_secondary 1: measure: no outcome "pgic" with a start score;'),
        (FIRST, FIRST.replace("week_12", "week_4"), "plan.key_secondary 1: it is the primary endpoint; it should be"),
        (SECOND, SECOND + '\nsummary = "responders"', 'plan.key_secondary 2: summary: "promis_physical_function" has no'),
        (FIRST, FIRST + "\n" + FIRST, "plan.key_secondary: an endpoint is listed twice"),
        ('terms = ["opioid"]', 'terms = ["opiate"]', 'plan.intercurrent 4: terms: no "opiate" of "treatment started"; there are'),
        ('event = "death"', 'event = "death"\nterms = ["x"]', "this kind of event takes no terms"),
        ('event = "death"', 'event = "procedure"', 'plan.intercurrent 3 and 6: two rules for one "procedure"'),
        ('by = ["sex", ', 'by = ["gender", ', "plan.subgroups.by.0: Input should be 'sex', 'crps_type'"),
        ('by = ["sex", ', 'by = ["refractory", ', "plan.subgroups: by: a grouping is listed twice"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_plan_names_file_key_and_what_would_be_right(site, old, new, says):
    with pytest.raises(DefinitionError) as caught:
        site(old, new)
    assert "mappings/protocol.toml" in str(caught.value)
    assert says in str(caught.value)


def test_two_rules_for_different_classes_of_one_event_are_allowed(site):
    rule = '[[plan.intercurrent]]\nevent = "treatment started"\nterms = ["SNRI"]\n\n'
    study = site("# Key secondary endpoints in their order.", rule + "# Key secondary endpoints in their order.")
    assert len(study.protocol.plan.intercurrent) == 7
