"""What others published never stands one-sided, and the total doses beside it are worked out, not remembered."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace

import pytest
from cohort_tables import Person, cohort, the_study
from report_fixture import facts, provenance, releasable

from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.analysis.context import context as rows_of
from crps_outcomes.errors import DefinitionError
from crps_outcomes.evidence import COUNTERWEIGHTS, Evidence, mistakes_in
from crps_outcomes.facts import Facts
from crps_outcomes.sections.context import context
from crps_outcomes.sections.natural_course import natural_course
from crps_outcomes.stages.disclose import disclose
from crps_outcomes.study import CARD, load, locate

EVIDENCE = the_study().evidence
PUBLISHED = "mappings/evidence/published.csv"


def mistakes(**changes) -> str:
    return "\n".join(mistakes_in(replace(EVIDENCE, **changes)))


def changed(number: int, **changes):
    """The studies with the counterweight of this number changed, or left out."""
    chosen = EVIDENCE.counterweights[number]
    others = tuple(study for study in EVIDENCE.studies if study != chosen)
    return (*others, chosen.model_copy(update=changes)) if changes else others


def test_the_study_folder_holds_every_counterweight():
    assert mistakes() == ""
    assert len(EVIDENCE.counterweights) == len(COUNTERWEIGHTS) == 3
    assert {study.reading for study in EVIDENCE.counterweights} == {"null", "mixed"}


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("change", [{}, {"verified": "no"}, {"result": "pain fell"}])
def test_favourable_rows_without_a_counterweight_are_a_mistake_in_the_study_folder(number, change):
    found = mistakes(studies=changed(number, **change), doses=(), untreated=())
    assert found.startswith(f"{PUBLISHED}: favourable results stand without {[*COUNTERWEIGHTS][number]}")
    assert found.count("\n") == 0


def test_a_table_without_a_favourable_row_needs_no_counterweight():
    silent = tuple(study for study in EVIDENCE.studies if study.reading == "no result")
    assert mistakes(studies=silent, doses=(), untreated=()) == ""
    unverified = tuple(study.model_copy(update={"verified": "no"}) for study in EVIDENCE.studies)
    assert mistakes(studies=unverified, doses=(), untreated=()) == ""


def test_a_study_folder_without_pickering_is_not_read(tmp_path):
    for folder in CARD[1:]:
        shutil.copytree(locate() / folder, tmp_path / folder)
    path = tmp_path / PUBLISHED
    rows = [*csv.reader(path.open(encoding="utf-8", newline=""))]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(row for row in rows if not row[0].startswith("Pickering"))
    with pytest.raises(DefinitionError, match="favourable results stand without Pickering 2020"):
        load(tmp_path)


def test_a_quoted_number_that_is_not_in_its_source_is_a_mistake():
    (group,) = EVIDENCE.untreated
    assert "should stand in the result" in mistakes(untreated=(group.model_copy(update={"mean": 5.54}),))
    assert "should stand in the result" in mistakes(untreated=(group.model_copy(update={"study": "Nobody"}),))


# --- total doses ------------------------------------------------------------------------------------------------------


def test_the_published_totals_are_the_known_answers():
    assert {dose.id: dose.total_mg for dose in EVIDENCE.doses} == {"schwartzman_2009": 1000, "sigtermans_2009": 2238}
    dose = EVIDENCE.doses[1]
    assert "total_mg should be 2238" in mistakes(doses=(dose.model_copy(update={"total_mg": 2200}),))
    assert "verified row" in mistakes(doses=(dose.model_copy(update={"study": "Nobody"}),))


def found(people):
    return {row["estimate_id"].split("/")[-1]: row for row in rows_of(Cohort(cohort(people), the_study()))}


def test_six_sessions_of_three_quarters_of_a_milligram_per_kilogram_are_about_a_third_of_a_thousand():
    rows = found([Person(f"p{number}", doses_mg=(0.75 * 75,) * 6, weight_kg=75.0) for number in range(5)])
    assert rows["-"]["estimate"] == 337.5
    assert rows["schwartzman_2009"]["estimate"] == pytest.approx(1000 / 337.5)
    assert rows["sigtermans_2009"]["estimate"] == pytest.approx(2238 / 337.5)
    assert {(row["n"], row["n_missing"]) for row in rows.values()} == {(5, 0)}


def test_a_series_with_an_unknown_dose_is_missing_and_not_smaller():
    rows = found([Person("p1", doses_mg=(40.0, None)), *(Person(f"p{n}", doses_mg=(40.0, 60.0)) for n in range(2, 6))])
    assert (rows["-"]["n"], rows["-"]["n_missing"], rows["-"]["estimate"]) == (4, 1, 100)


@pytest.mark.parametrize("people", [
    [], [Person("p1")], [Person("p1"), Person("p2")], [Person(f"p{n}", doses_mg=(None,)) for n in range(9)],
    [Person(f"p{n}", doses_mg=(0.0,)) for n in range(9)],
])  # fmt: skip
def test_where_there_is_no_median_there_is_a_reason_and_no_ratio(people):
    for name, row in found(people).items():
        if name != "-":
            assert row["estimate"] is None
            assert row["reason"]


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_total_dose_gap_is_said_in_words_with_its_caveats():
    section = context(facts())
    ratios = [f"{facts().one('context', 'ratio', group=dose.id).estimate:.1f} times" for dose in EVIDENCE.doses]
    assert all(ratio in section.lede for ratio in ratios)
    assert "milligrams are not equivalents" in section.lede
    note = section.tables["doses"].note
    assert all(word in note for word in ("route", "enantiomer", "unconfirmed", "base or salt"))


def test_nulls_stand_first_in_every_table_and_beside_the_favourable_rows():
    section = context(facts())
    for kind in ("reviews", "trials", "cohorts"):
        readings = [row[1].text for row in section.tables[kind].rows]
        assert readings[0] == "Null"
        assert "Null" not in readings[readings.index("Favourable") :]
    against = section.text["against"]
    assert [line.split()[0] for line in against] == ["Pickering", "Ferraro,", "Sigtermans"]
    assert all("Certainty: " in line for line in against)
    assert "no functional improvement" in against[2]


def test_the_placebo_course_stands_beside_the_change_and_nothing_is_worked_out_from_it():
    quoted = "Placebo group of Sigtermans (n = 30), week 1: mean pain score 5.45 ± 0.48."
    assert context(facts()).text["untreated"][0].startswith(quoted)
    assert any(quoted in line for line in natural_course(facts()).text["course"])
    assert "not compared" in context(facts()).text["untreated"][1]


def test_the_release_edition_keeps_the_published_totals_and_says_where_those_of_the_cohort_are():
    table = context(facts(64, "release")).tables["doses"]
    assert [row[2].text for row in table.rows] == ["[x]", "≤ 1,000", "≤ 2,238"]
    assert "internal edition only" in table.note


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_cohort_without_a_median_has_an_honest_page(n):
    study = the_study()
    people = [Person(f"p{number}") for number in range(n)]
    from crps_outcomes.stages.analyse import analyse  # noqa: PLC0415 - heavy, and only here

    tables = cohort(people)
    own = disclose(analyse(tables, study, as_of=provenance().as_of), tables, study, "internal")
    table = context(Facts(own, study, study.reports["evidence"], provenance())).tables["doses"]
    assert table.rows[0][2].text == "[x]"
    assert table.rows[0][4].text[:1].isupper()


def test_a_study_folder_without_evidence_says_so():
    bare = replace(the_study(), evidence=Evidence())
    section = context(Facts(releasable(), bare, bare.reports["evidence"], provenance()))
    assert all(table.rows == () for table in section.tables.values())
