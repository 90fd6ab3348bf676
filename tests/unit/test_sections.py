"""Sections: every number in a heading stands in ESTIMATES, nothing hidden is printed, and nothing lacking breaks a page.

Golden files: ``python tests/unit/test_sections.py`` writes them anew; read the difference before you keep it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import patient_fixture
import plain_fixture
import pytest
import quality_fixture
from cohort_tables import the_study
from report_fixture import AS_OF, facts, model, provenance, releasable, tables

from crps_outcomes.analysis.flow import REASONS
from crps_outcomes.errors import DefinitionError
from crps_outcomes.facts import Facts
from crps_outcomes.report_model import Figure, Section
from crps_outcomes.sections.completeness import MAY_BE_MORE, _refused
from crps_outcomes.sections.endpoints import _rank
from crps_outcomes.sections.flow import checked
from crps_outcomes.sections.pain import person_lines
from crps_outcomes.stages.analyse import analyse
from crps_outcomes.stages.compose import PERSON_SECTIONS, SECTIONS, compose
from crps_outcomes.stages.disclose import disclose

GOLDEN = Path(__file__).parents[1] / "golden" / "sections"
BANNED = (
    "improved because",
    "due to",
    "thanks to",
    "reduced by",
    "proves",
    "mild",
    "well tolerated",
    "caused",
    "effective",
)
SMALL = re.compile(r"\b(?:[1-9]|10) of \d|\b(?:[1-9]|10) \((?:<|>)?\d+(?:\.\d)?%\)")
EDITIONS = ("internal", "release")


def lines(section: Section) -> list[str]:
    """Everything a section says, a piece a line; drawings by their text alternative only."""
    said = [section.short, section.finding, section.lede, "".join(run.text for run in section.headline)]
    for figure in section.figures.values():
        said += [f"Figure {figure.number}. {figure.title}", figure.encoding, *_drawn(figure)]
    for table in section.tables.values():
        said += [
            f"Table {table.number}. {table.title}",
            table.encoding,
            " | ".join(column.label for column in table.columns),
        ]
        said += [" | ".join(_cell(cell) for cell in row) for row in table.rows] or [table.empty]
        said.append(table.note)
    for array in section.arrays.values():
        said += [array.title, array.alt or array.sentence]
    said += [line for part in section.text.values() for line in part]
    return [line for line in said if line]


def _drawn(figure) -> list[str]:
    if not isinstance(figure, Figure):
        return [
            figure.alt,
            *(" | ".join((b.stage, b.label, b.count, *(text for _, text in b.out))) for b in figure.boxes),
        ]
    title = re.search("<title>(.*?)</title>", figure.svg)
    return [title[1] if title else figure.empty]


def _cell(cell) -> str:
    links = "; ".join(link.words for link in cell.links)
    return " ".join(part for part in (cell.text, links, cell.sub, cell.drawing.alt if cell.drawing else "") if part)


def said(edition: str = "internal", n: int = 64, but: tuple[str, ...] = ()) -> str:
    return "\n".join("\n".join(lines(section)) for section in model(n, edition).sections if section.id not in but)


def without_rows() -> Facts:
    """No estimate and no count at all, as if every stage before had nothing to say."""
    own = releasable()
    empty = replace(own, estimates=own.estimates.iloc[:0], counts=own.counts.iloc[:0], rejections=own.rejections.iloc[:0],
                    sources=own.sources.iloc[:0], people=own.people.iloc[:0], doses=own.doses.iloc[:0])  # fmt: skip
    return Facts(empty, the_study(), the_study().reports["evidence"], provenance())


# --- golden files ---------------------------------------------------------------------------------------------------


def every_section() -> dict[str, Section]:
    """Each section once, from the report it stands in first."""
    reports = (patient_fixture.page(), plain_fixture.sheet(), quality_fixture.model(), model())
    return {section.id: section for made in reports for section in made.sections}


@pytest.mark.parametrize("name", [*SECTIONS, *PERSON_SECTIONS])
def test_a_section_says_what_its_golden_file_says(name):
    section = every_section()[name]
    assert "\n".join(lines(section)) + "\n" == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_every_section_has_its_template_and_every_template_its_section():
    assert {path.name.split(".")[0] for path in (the_study().root / "templates/sections").iterdir()} == {
        *SECTIONS,
        *PERSON_SECTIONS,
    }


def test_every_report_lists_sections_that_exist():
    for report in the_study().reports.values():
        assert set(report.sections) <= set(PERSON_SECTIONS if report.about == "person" else SECTIONS)
    odd = replace_report(sections=("summary", "astrology"))
    with pytest.raises(DefinitionError, match='no section "astrology"'):
        compose(releasable(), the_study(), odd, provenance())


def replace_report(**changes):
    return the_study().reports["evidence"].model_copy(update=changes)


# --- what is said ---------------------------------------------------------------------------------------------------


def test_every_number_of_the_headline_stands_in_the_estimates():
    frame = releasable().estimates
    numbers = frame[["k", "n", "estimate", "lower", "upper"]].astype("Float64").stack().dropna()
    known = {f"{abs(value):.{places}f}" for value in numbers for places in (0, 1)} | {
        "4",
        "30",
        "95",
    }  # week, goal, level
    text = "".join(run.text for run in model().sections[0].headline)
    found = re.findall(r"\d+(?:\.\d+)?", text)
    assert len(found) > 10
    assert set(found) <= known


@pytest.mark.parametrize(("edition", "is_planned"), [("internal", True), ("release", False)])
def test_responders_on_page_one_are_the_planned_ones_where_the_edition_holds_them(edition, is_planned):
    rows = releasable(64, edition).estimates
    planned = rows[(rows["section"] == "endpoints") & (rows["statistic"] == "responder") & (rows["group"] == "30")]
    first = model(64, edition).sections[0]
    headline = "".join(run.text for run in first.headline)
    names = [cells[0].text for cells in first.tables["key"].rows]
    assert ("as planned" in headline, len(planned) == 1) == (is_planned, is_planned)
    assert ("At least 30% less pain, week 4, as planned" in names) == is_planned
    for one in planned.itertuples():
        shown = f"{one.k} of {one.n}"
        assert f"At week 4, {shown} people whose score was due" in headline
        assert any(shown == cells[1].text for cells in first.tables["key"].rows)


def test_function_stands_beside_pain_in_the_headline():
    text = "".join(run.text for run in model().sections[0].headline)
    assert "pain" in text
    assert "Physical function" in text
    assert text.count("95% CI") == 2  # the planned share and function; the share observed stands in the table below
    assert any("Observed" in line for line in lines(model().sections[0]))


@pytest.mark.parametrize("edition", EDITIONS)
def test_no_banned_word_and_no_tested_hypothesis_stands_in_the_report(edition):
    words = said(edition, but=("context",)).lower()
    assert [word for word in BANNED if re.search(rf"\b{word}\b", words)] == []
    assert not re.search(r"\bp\s*[<=]", words)


@pytest.mark.parametrize(("n", "edition"), [*((n, "internal") for n in (0, 1, 2, 5, 12, 64)), (64, "release")])
def test_a_cohort_of_any_size_makes_a_report_without_a_hole(n, edition):
    words = said(edition, n)
    assert not re.search(r"\bnan\b|None\b(?! of)|<NA>|inf\b|-0\.0|−0\.0\b", words)
    assert all(
        cell.text or cell.drawing or cell.links
        for s in model(n, edition).sections
        for t in s.tables.values()
        for r in t.rows
        for cell in r
    )


def test_a_report_without_a_single_row_still_says_so_in_every_section():
    for name, section in SECTIONS.items():
        made = section(without_rows())
        assert made.id == name
        assert made.finding


def test_a_hidden_row_prints_its_mark_even_if_its_numbers_were_left_in():
    own = releasable()
    estimates = own.estimates.assign(suppressed="low")
    hidden = Facts(replace(own, estimates=estimates), the_study(), the_study().reports["evidence"], provenance())
    table = SECTIONS["responders"](hidden).tables["shares"]
    assert table.rows == ()
    assert hidden.one("pain", "mean").n is None


def test_unconfirmed_thresholds_keep_their_mark():
    words = said()
    assert "Farrar 2001, Pain 94:149-158; study confirmed, value not [unconfirmed]" in words
    assert words.count("cut-off unconfirmed") >= 4
    assert "[example]" in words


def test_the_safety_section_says_how_many_sessions_were_watched():
    table = next(s for s in model().sections if s.id == "safety").tables["monitoring"]
    watched = facts().one("safety", "monitored", measure="systolic_pressure")
    assert table.rows[0][1].text == f"{watched.k} of {watched.n}"


def test_every_published_row_is_printed_and_an_unverified_one_shows_no_result():
    rows = the_study().evidence.studies
    section = next(s for s in model().sections if s.id == "context")
    printed = [row for key, table in section.tables.items() if key != "doses" for row in table.rows]
    assert len(printed) == len(rows)
    assert section.finding == "IV (and one IM non-pain) evidence — not a comparator arm"
    for row in (row for row in printed if row[1].sub == "verified: no"):
        assert row[3].text.endswith("No result shown: not confirmed.")
    assert sum(row[1].sub == "verified: no" for row in printed) == sum(study.verified == "no" for study in rows) > 0


def test_boxes_of_the_flow_that_do_not_add_up_are_refused():
    one, two, *rest = facts().steps
    with pytest.raises(AssertionError, match="minus those who left"):
        checked([one, replace(two, n=two.n + 1), *rest])


def test_what_happens_after_other_events_is_what_the_plan_says():
    table = next(s for s in model().sections if s.id == "endpoints").tables["intercurrent"]
    said_of = {row[0].text: [cell.text for cell in row[1:4]] for row in table.rows}
    assert said_of["Treatment started: opioid"] == ["Treatment policy", "Composite", "Ends"]
    assert said_of["Ketamine by another route"] == ["Hypothetical", "Treatment policy", "Followed until then"]
    assert "every score counts" not in said(but=("endpoints",)).lower()


@pytest.mark.parametrize("wanted", [
    ["under 1 year", "1 to under 5 years", "5 to under 10 years", "10 years or more", "not known"],
    ["female", "male", "other", "unknown"], ["no", "yes", "not known"], ["I", "II", "not specified"],
])  # fmt: skip
def test_groups_stand_from_low_to_high_and_what_nobody_knows_last(wanted):
    assert sorted(set(wanted), key=_rank) == wanted


def test_adjusted_p_values_are_printed_where_the_plan_asks_for_them_and_their_number_is_told():
    study = the_study()
    plan = study.protocol.plan.model_copy(update={"multiplicity": "holm"})
    study = replace(study, protocol=study.protocol.model_copy(update={"plan": plan}))
    own = disclose(analyse(tables(64), study, as_of=AS_OF), tables(64), study, "internal")
    section = SECTIONS["endpoints"](Facts(own, study, study.reports["evidence"], provenance()))
    words = "\n".join(lines(section))
    assert words.count("Adjusted p below 0.05 (below 0.001)") == 3
    assert "and 3 tests of a hypothesis" in words
    assert "adjusted by Holm" in words


# --- the release edition --------------------------------------------------------------------------------------------


def test_the_search_for_small_counts_finds_a_planted_one():
    assert SMALL.search("3 of 54")
    assert SMALL.search("4 (80%)")
    assert not SMALL.search("28 of 54, 0 of 54, 13 of 54, 44 (77%)")


def test_the_release_edition_prints_no_small_count_and_no_mark_of_a_person():
    words = said("release", but=("context", "methods"))
    assert SMALL.findall(words) == []
    sections = {section.id: section for section in model(64, "release").sections}
    assert sections["dosing"].figures == {}
    assert "Thin lines: one person" not in sections["pain"].figures["course"].svg


def test_the_release_edition_says_of_the_planned_endpoints_what_is_done_and_no_number_of_them():
    section = next(s for s in model(64, "release").sections if s.id == "endpoints")
    assert section.tables["planned"].rows == ()
    assert section.figures["groups"].svg == ""
    assert len(section.tables["intercurrent"].rows) == 7
    assert "internal edition only" in section.finding


def test_the_release_edition_says_in_general_why_people_listed_are_not_enrolled():
    named, general = (releasable(64, edition).counts.set_index("step").loc["listed"] for edition in EDITIONS)
    assert named["reason"] == "membership not active 12, consent refused or withdrawn 3, not at the source 1"
    assert (general["n_left"], general["reason"]) == (16, REASONS["listed"])  # 16 may be shown, 3 and 1 may not


def test_the_release_edition_prints_no_number_of_a_hidden_row():
    rows, marked = releasable().estimates, releasable(64, "release").estimates
    shares = rows[(rows["unit"] == "%") & rows["lower"].notna() & (rows["k"] > 0)]
    hidden = shares["estimate_id"].isin(marked.loc[marked["suppressed"] != "", "estimate_id"])
    own = as_printed(shares[hidden]) - as_printed(shares[~hidden])  # some other row may have the same numbers
    assert len(own) > 10
    assert [text for text in own if text in said("internal")]
    assert not [text for text in own if text in said("release")]


def as_printed(shares) -> set[str]:
    return {f"{r.k} of {r.n}, {r.estimate:.0f}% ({r.lower:.0f} to {r.upper:.0f})" for r in shares.itertuples()}


def test_the_release_edition_says_where_the_precision_of_the_result_is_told():
    said = next(section for section in model(64, "release").sections if section.id == "precision")
    assert not any(table.rows for table in said.tables.values())
    assert said.text["absent"][0].startswith("Shown in the internal edition only")


def test_both_editions_say_which_they_are():
    assert model(64, "internal").status[0] == "Internal edition: contains small cells"
    assert model(64, "release").status[0] == "Release edition"
    assert all("Synthetic data" in model(64, edition).status for edition in EDITIONS)


def test_lines_of_people_carry_no_identifier_and_need_a_start():
    own = releasable().people
    drawn = person_lines(facts(), own)
    with_start = own[(own["measure"] == "pain_nrs") & (own["visit"] == "baseline") & own["value"].notna()]
    assert 0 < len(drawn) <= len(with_start)
    assert all(line[0][0] == 0.0 and isinstance(line[0][1], float) for line in drawn)
    assert "s0001" not in said()


def test_figures_and_tables_are_numbered_through_the_report():
    sections = model().sections
    tables = [table.number for s in sections for table in s.tables.values() if table.rows]
    figures = [f.number for s in sections for f in s.figures.values() if f.number]
    assert tables == list(range(1, len(tables) + 1))
    assert figures == list(range(1, len(figures) + 1))


def test_a_release_calls_no_number_refused_a_whole_because_reasons_may_be_left_out():
    inside = facts()
    outside = replace(inside, releasable=replace(inside.releasable, edition="release"))
    assert MAY_BE_MORE in _refused(outside).encoding
    assert MAY_BE_MORE not in _refused(inside).encoding


def test_the_page_of_a_release_counts_nobody_and_says_what_was_held():
    page = next(one for one in model(64, "release").sections if one.id == "restatement")
    assert [name for name, one in page.tables.items() if one.rows] == ["rules"]
    assert not re.search(r"\d", " ".join((*page.text["data"], *page.text["rules"])))
    assert "No figure was held" in page.text["data"][1]


def test_as_many_figures_differ_as_the_heading_says():
    page = next(one for one in model().sections if one.id == "restatement")
    differ = [row for row in page.tables["figures"].rows if row[3].text != "none"]
    assert page.finding.startswith(f"{len(differ)} of {len(page.tables['figures'].rows)} headline figures differ")


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for made in every_section().values():
        (GOLDEN / f"{made.id}.txt").write_text("\n".join(lines(made)) + "\n", encoding="utf-8")
