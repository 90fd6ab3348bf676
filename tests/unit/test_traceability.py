"""Every printed number is found in ESTIMATES, COUNTS or a definition through its id."""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace
from functools import cache

import patient_fixture
import pytest
import quality_fixture
import report_fixture
from cohort_tables import the_study
from hypothesis import given
from hypothesis import strategies as st
from known_numbers import judged, known_of, known_of_person
from printed_numbers import printed

from crps_outcomes.errors import PipelineError
from crps_outcomes.language import Form
from crps_outcomes.number_links import linked
from crps_outcomes.numbers import people
from crps_outcomes.reconciliation import AGREEMENTS
from crps_outcomes.sections import responders, safety, summary
from crps_outcomes.sections.responders import MISSING, OBSERVED, responder
from crps_outcomes.stages.compose import compose, compose_person, with_ids
from crps_outcomes.stages.render import page_html
from crps_outcomes.traced import mark, plain, refs_of, short_id, spans, traced, wrapped

TEMPLATES = the_study().root / "templates"
DRAWING = re.compile(r"<svg.*?</svg>", re.DOTALL)
ALT = re.compile(r"<title>([^<]*)</title>")


def origin_of(report, edition="internal", lang="en-GB"):
    fixture = quality_fixture if report == "quality" else report_fixture
    return replace(fixture.provenance(edition), report=report, form=Form(lang=lang))


def releasable_of(report, n, edition):
    return (quality_fixture if report == "quality" else report_fixture).releasable(n, edition)


def model_of(n, edition, known=None, *, report="evidence", lang="en-GB", sections=()):
    study, origin = the_study(), origin_of(report, edition, lang)
    known, listed = known or releasable_of(report, n, edition), study.reports[report]
    listed = listed.model_copy(update={"sections": sections}) if sections else listed
    return compose(known, study, listed, origin, is_traced=True)


@cache
def cached_model(n, edition, report="evidence", lang="en-GB"):
    return model_of(n, edition, report=report, lang=lang)


@cache
def page_of(n, edition, report="evidence", lang="en-GB"):
    return page_html(cached_model(n, edition, report, lang), TEMPLATES)


@cache
def known(n, edition, report="evidence", lang="en-GB"):
    return known_of(releasable_of(report, n, edition), origin_of(report, edition, lang))


def page_about(subject=patient_fixture.FULL):
    """A person, and the model of the page about them with its marks."""
    person = patient_fixture.person(subject, patient_fixture.origin(patient_fixture.WEEK_14))
    return person, compose_person(person, the_study().reports["patient"], is_traced=True)


# --- every number ---------------------------------------------------------------------------------------------------

REPORTS = [
    ("evidence", "en-GB", 64, "internal"), ("evidence", "en-GB", 64, "release"), ("evidence", "en-GB", 5, "internal"),
    ("evidence", "en-GB", 0, "internal"), ("quality", "en-GB", 64, "internal"), ("quality", "en-GB", 64, "release"),
    ("quality", "en-GB", 5, "internal"), ("plain", "en-GB", 64, "internal"), ("plain", "en-GB", 64, "release"),
    ("plain", "en-GB", 5, "internal"), ("plain", "en-US", 64, "internal"), ("plain", "de", 64, "internal"),
    ("plain", "de", 5, "internal"),
]  # fmt: skip


@pytest.mark.parametrize(("report", "lang", "n", "edition"), REPORTS)
def test_every_printed_number_is_that_of_the_row_it_names(report, lang, n, edition):
    of = {"report": report, "lang": lang}
    wrong, bare = judged(page_of(n, edition, **of), known(n, edition, **of))
    assert not wrong
    assert not bare


@pytest.mark.parametrize(
    "subject", [patient_fixture.FULL, patient_fixture.SINGLE, patient_fixture.DOSES_ONLY, patient_fixture.UNSURE]
)
def test_every_number_of_a_page_about_one_person_is_that_of_a_row_of_this_person(subject):
    person, made = page_about(subject)
    wrong, bare = judged(page_html(made, TEMPLATES), known_of_person(person, made))
    assert not wrong
    assert not bare


def test_a_number_that_nobody_marked_is_found():
    page = page_of(64, "internal").replace("</main>", "<p>Mean change 2.7 points</p></main>")
    _, bare = judged(page, known(64, "internal"))
    assert bare == [(("2.7",), "Mean change 2.7 points")]


@pytest.mark.parametrize(("report", "lang"), [("evidence", "en-GB"), ("quality", "en-GB"), ("plain", "de")])
def test_a_number_that_is_not_in_its_row_is_found(report, lang):
    one = releasable_of(report, 64, "internal").estimates["estimate_id"].iloc[0]
    page = page_of(64, "internal", report, lang).replace("</main>", f"<p>{mark('987.65', one)}</p></main>")
    wrong, _ = judged(page, known(64, "internal", report, lang))
    assert wrong == [("987.65", (one,), "987.65")]


def test_a_line_of_a_chart_that_is_not_the_one_on_record_is_found():
    own = releasable_of("quality", 64, "internal")
    is_centre = (own.estimates["section"] == "quality") & (own.estimates["statistic"] == "centre")
    moved = own.estimates.assign(estimate=own.estimates["estimate"].mask(is_centre, own.estimates["estimate"] + 7))
    wrong, _ = judged(page_of(64, "internal", "quality"), known_of(replace(own, estimates=moved), origin_of("quality")))
    assert {ref for _, refs, _ in wrong for ref in refs} <= {*own.estimates.loc[is_centre, "estimate_id"]}
    assert len(wrong) > 10


@pytest.mark.parametrize(
    ("report", "n", "edition"),
    [("evidence", 64, "internal"), ("evidence", 5, "internal"), ("quality", 64, "internal"), ("plain", 64, "internal")],
)
def test_marks_change_no_word_of_a_report(report, n, edition):
    study, origin = the_study(), origin_of(report, edition)
    page = page_html(compose(releasable_of(report, n, edition), study, study.reports[report], origin), TEMPLATES)
    traced_page = page_of(n, edition, report)
    assert [one.within for one in printed(plain(traced_page))] == [one.within for one in printed(page)]
    assert [plain(alt) for alt in ALT.findall(traced_page)] == ALT.findall(page)


def test_marks_change_no_word_of_a_page_about_one_person():
    page, traced_page = (page_html(made, TEMPLATES) for made in (patient_fixture.page(), page_about()[1]))
    assert [one.within for one in printed(plain(traced_page))] == [one.within for one in printed(page)]


# --- links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("report", ["evidence", "quality", "plain"])
def test_every_number_links_to_its_row_in_the_internal_page(report):
    page = page_of(64, "internal", report)
    linked_page = linked(page, cached_model(64, "internal", report).behind)
    targets, rows = (
        {*re.findall(pattern, linked_page)} for pattern in (r'class="from" href="#(\w+)"', r'<tr id="(E\w+)"')
    )
    marked = [piece.refs for piece in printed(DRAWING.sub("", page)) if piece.refs]
    assert rows == {short_id(ref) for refs in marked for ref in refs}
    assert targets <= rows
    assert {short_id(refs[0]) for refs in marked if len(refs) == 1} <= targets
    assert plain(linked_page) == linked_page


def test_a_release_has_no_links_and_no_marks():
    made = cached_model(64, "release")
    page = linked(page_html(made, TEMPLATES), made.behind)
    assert 'class="from"' not in page
    assert plain(page) == page


def test_the_numbers_of_one_phrase_are_one_link():
    text = f"<p>{mark('48', 'a/b')} of {mark('94', 'a/b')} ({mark('51', 'a/b')}%, 95% CI {mark('41', 'a/b')} to {mark('62', 'a/b')})</p>"
    page = linked(f"<main>{text}</main>", {"a/b": "n 94"})
    assert f'<p><a class="from" href="#{short_id("a/b")}">48 of 94 (51%, 95% CI 41 to 62</a>)</p>' in page


def test_marks_in_attributes_heads_and_drawings_leave_no_trace():
    number = mark("48", "a/b")
    text = f'<title>{number}</title></head><main><h2 data-short="{number}"></h2><svg><text>{number}</text></svg></main>'
    expected = '<title>48</title></head><main><h2 data-short="48"></h2><svg><text>48</text></svg>'
    assert linked(f"<head>{text}", {"a/b": "n 94"}).startswith(f"<head>{expected}")


def test_text_of_the_data_cannot_pose_as_a_mark():
    own = report_fixture.releasable(64, "internal")
    forged = own.estimates.assign(group=own.estimates["group"].replace("Nausea", mark("Nausea", "forged")))
    page = page_html(model_of(64, "internal", replace(own, estimates=forged)), TEMPLATES)
    assert "Nausea" in plain(page)
    assert not any("forged" in one.refs for one in printed(page))


# --- numbers that remember --------------------------------------------------------------------------------------------


def test_what_is_worked_out_from_two_numbers_remembers_both():
    n, k = traced(94, "a"), traced(48, "b")
    assert [refs_of(one) for one in (n - k, k + 1, 100 * k / n, -k, abs(k), sum([n, k]), max(k, n))] == [
        ("a", "b"), ("b",), ("b", "a"), ("b",), ("b",), ("a", "b"), ("a",),
    ]  # fmt: skip
    assert (n - k, 100 * k / n) == (46, 100 * 48 / 94)


@given(st.lists(st.tuples(st.text(alphabet="ab 1.", max_size=12), st.sampled_from(["", "x/1"])), max_size=8))
def test_breaking_lines_keeps_words_and_marks(parts):
    text = "".join(mark(words, ref) for words, ref in parts)
    lines = wrapped(text, lambda words: textwrap.wrap(words, 9))
    assert [plain(line) for line in lines] == textwrap.wrap(plain(text), 9)
    marked = "".join(span.text for span in spans(text) if span.refs)
    kept = "".join(span.text for line in lines for span in spans(line) if span.refs)
    assert kept.replace(" ", "") == marked.replace(" ", "")


def test_a_short_id_is_the_same_in_every_run():
    assert short_id("pain/mean_change/analysed/pain_nrs/week_4/-") == "Et8vsvyh"


# --- the same number in several places ------------------------------------------------------------------------------


def test_a_flow_box_that_disagrees_with_the_first_words_stops_the_report(monkeypatch):
    monkeypatch.setattr(summary, "counted_people", lambda n: people(n + 1))
    with pytest.raises(PipelineError, match="flow box of treated people and the first of the plain words"):
        model_of(64, "internal", sections=("summary", "flow"))


def test_a_curve_with_another_n_than_the_table_stops_the_report(monkeypatch):
    steps = responders._steps
    monkeypatch.setattr(responders, "_steps", lambda *of: replace(steps(*of), n=51))
    with pytest.raises(PipelineError, match="the table of responders and the curve of responders"):
        model_of(64, "internal", sections=("responders",))


def test_a_table_that_does_not_add_up_to_its_total_stops_the_report(monkeypatch):
    terms = safety._sorted_terms
    monkeypatch.setattr(safety, "_sorted_terms", lambda facts: terms(facts)[1:])
    with pytest.raises(PipelineError, match="the sum of adverse events by kind and the total of adverse events"):
        model_of(64, "internal", sections=("safety",))


def test_a_headline_that_disagrees_with_the_table_of_planned_endpoints_stops_the_report(monkeypatch):
    monkeypatch.setattr(summary, "as_planned", lambda facts, percent: responder(facts, percent, MISSING, "week_12"))
    with pytest.raises(PipelineError, match="the table of key results and the table of planned endpoints"):
        model_of(64, "internal", sections=("summary", "endpoints"))


def at_week_12(population):
    return lambda facts, percent, visit: (population, responder(facts, percent, population, "week_12"))


@pytest.mark.parametrize(("edition", "population"), [("internal", OBSERVED), ("release", MISSING)])
def test_a_heading_of_responders_at_another_visit_than_its_table_stops_the_report(monkeypatch, edition, population):
    monkeypatch.setattr(responders, "best_known", at_week_12(population))
    with pytest.raises(PipelineError, match="the heading of responders"):
        model_of(64, edition, sections=("summary", "responders"))


def test_a_headline_at_another_visit_than_the_heading_of_responders_stops_a_release(monkeypatch):
    monkeypatch.setattr(summary, "best_known", at_week_12(MISSING))
    with pytest.raises(PipelineError, match="the headline and the heading of responders"):
        model_of(64, "release", sections=("summary", "responders"))


#: How many places each agreement must find in the cohort of the tests; a sentence in other words would end it in silence.
PLACES = {
    "internal": {"treated": 3, "analysed": 2, "planned": 3, "observed": 2, "curves": 2, "change": 2, "sessions": 3, "events": 3},
    "release": {"due": 3, "change": 2},
}  # fmt: skip


@pytest.mark.parametrize("edition", ["internal", "release"])
def test_every_place_that_must_agree_with_another_is_found(edition):
    sections = {section.id: section for section in cached_model(64, edition).sections}
    facts = replace(report_fixture.facts(64, edition), study=with_ids(the_study()), is_traced=True)
    found = {
        agreement.__name__.strip("_"): sum(place.printed is not None for place in agreement(sections, facts))
        for agreement in AGREEMENTS
    }
    assert {name: n for name, n in found.items() if n > 1} == PLACES[edition]
