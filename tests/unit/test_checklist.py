"""Checklists point to sections of this very report, or say that the author has to answer."""

from __future__ import annotations

import csv
import io
import shutil
from dataclasses import replace

import pytest
from cohort_tables import the_study
from report_fixture import facts, model, provenance, releasable

from crps_outcomes.errors import DefinitionError
from crps_outcomes.sections.checklist import AUTHOR, checklist
from crps_outcomes.stages.compose import compose
from crps_outcomes.stages.publish import contents
from crps_outcomes.stages.render import Rendered
from crps_outcomes.study import CARD, load, locate

STUDY = the_study()
ITEMS = [item for items in STUDY.checklists.values() for item in items]


def rows(made):
    return [line for table in made.tables.values() for line in table.rows]


def test_every_section_a_checklist_names_is_in_the_evidence_report():
    assert {name for item in ITEMS for name in item.sections.split()} <= set(STUDY.reports["evidence"].sections)


def test_the_three_checklists_are_there_once_each_item():
    assert {name: len(items) for name, items in STUDY.checklists.items()} == {
        "record": 13,
        "record_pe": 15,
        "strobe": 34,
    }
    assert len({item.item.rstrip("abcde") for item in STUDY.checklists["strobe"]}) == 22
    assert [line[0].text for line in rows(checklist(facts()))][:2] == ["STROBE 1a", "STROBE 1b"]
    assert len(rows(checklist(facts()))) == len(ITEMS)


def test_items_of_what_only_an_author_knows_are_left_to_the_author():
    where = {line[0].text: line[2] for line in rows(checklist(facts()))}
    for item in ("STROBE 2", "STROBE 21", "STROBE 22", "RECORD 12.3"):
        assert where[item].text == AUTHOR
    assert [link.section for link in where["STROBE 13c"].links] == ["flow"]


def test_links_carry_the_short_name_of_their_section():
    short = {section.id: section.short for section in model().sections}
    links = [
        link
        for section in model().sections
        if section.id == "checklist"
        for line in rows(section)
        for link in line[2].links
    ]
    assert len(links) > 50
    assert all(link.words == short[link.section] for link in links)


def test_an_item_whose_section_the_report_lacks_is_left_to_the_author():
    few = STUDY.reports["evidence"].model_copy(update={"sections": ("summary", "pain", "checklist")})
    made = compose(releasable(), STUDY, few, provenance())
    where = {line[0].text: line[2] for line in rows(made.sections[-1])}
    assert where["STROBE 13c"].text == AUTHOR
    assert [link.section for link in where["STROBE 15"].links] == ["pain"]
    assert made.sections[-1].finding.startswith(
        f"{sum(bool(cell.links) for cell in where.values())} of {len(ITEMS)} items"
    )


def test_the_run_folder_holds_one_list_of_all_items():
    files = contents(Rendered("<title>x</title>", b"%PDF-1.7"), model(), releasable(), provenance())
    head, *lines = csv.reader(io.StringIO(files["checklist.csv"].decode()))
    assert head == ["Item", "Asks for", "Answered in", "Note"]
    assert len(lines) == len(ITEMS)
    assert ["STROBE 13c", "Flow diagram", "Who is in the report", "–"] in lines
    assert all(line[2] for line in lines)


def test_a_report_without_the_section_has_no_list():
    without = replace(model(), sections=tuple(one for one in model().sections if one.id != "checklist"))
    assert "checklist.csv" not in contents(
        Rendered("<title>x</title>", b"%PDF-1.7"), without, releasable(), provenance()
    )


def test_counts_of_items_are_said_to_be_unconfirmed():
    assert "unconfirmed" in checklist(facts()).lede


@pytest.mark.parametrize(("text", "message"), [
    ("STROBE,1a,Design,Summary page,\n", "sections"), ("STROBE,1a,Design,,\nSTROBE,1a,Again,,\n", "1a is listed twice"),
])  # fmt: skip
def test_a_mistake_in_a_checklist_is_named_with_its_file(tmp_path, text, message):
    for folder in CARD[1:]:
        shutil.copytree(locate() / folder, tmp_path / folder)
    (tmp_path / "mappings/checklists/strobe.csv").write_text("checklist,item,about,sections,note\n" + text)
    with pytest.raises(DefinitionError, match=message) as caught:
        load(tmp_path)
    assert "mappings/checklists/strobe.csv" in str(caught.value)
