"""Every printed number is found in ESTIMATES, COUNTS or a definition through its id."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from collections import Counter
from dataclasses import replace
from functools import cache

import pandas as pd
import pytest
import quality_fixture
import report_fixture
from cohort_tables import the_study
from hypothesis import given
from hypothesis import strategies as st
from printed_numbers import ANY_NUMBER, declared_numbers, everything_on, is_printed_from, numbers_of, printed, texts
from report_fixture import model, provenance, releasable

from crps_outcomes.errors import PipelineError
from crps_outcomes.evidence import typeset
from crps_outcomes.number_links import linked
from crps_outcomes.numbers import people
from crps_outcomes.sections import responders, safety, summary
from crps_outcomes.sections.responders import OBSERVED, responder
from crps_outcomes.stages.compose import compose, with_ids
from crps_outcomes.stages.render import page_html, render
from crps_outcomes.traced import mark, plain, refs_of, short_id, spans, traced, wrapped

TEMPLATES = the_study().root / "templates"
ALT = re.compile(r"<title>([^<]*)</title>")


def model_of(n, edition, known=None, fixture=report_fixture):
    study, origin = the_study(), fixture.provenance(edition)
    return compose(known or fixture.releasable(n, edition), study, study.reports[origin.report], origin, is_traced=True)


@cache
def page_of(n, edition, fixture=report_fixture):
    return page_html(model_of(n, edition, fixture=fixture), TEMPLATES)


def behind(known, edition):
    """Every id of a report with the numbers behind it, or with its text."""
    found = {row["estimate_id"]: numbers_of(row) for row in known.estimates.to_dict("records")}
    for row in known.counts.to_dict("records"):
        for column in ("n_subjects", "n_left", "reason"):
            found[f"counts/{row['step']}/{column}"] = row[column] if column == "reason" else _known(row[column])
    for row in known.rejections.to_dict("records"):
        found[f"rejections/{row['rule']}/{row['reason']}/{row['stage']}"] = _known(row["n"])
    found |= {f"sources/{row['resource_type']}/n": _known(row["n"]) for row in known.sources.to_dict("records")}
    found |= {
        f"changes/{row['resource_type']}/{row['change']}": _known(row["n"]) for row in known.changes.to_dict("records")
    }
    found |= counts_of_rows(known) | numbers_restated(known.restatement)
    study = with_ids(the_study())
    for piece in (study.protocol, study.measures, study.evidence):
        found |= {key: [value] for key, value in declared_numbers(piece)}
    for name, measure in study.measures.items():
        if measure.error and measure.error.standard_error is None:
            found[f"measure:{name}:error.sd"] += [measure.error.of_one_score, measure.error.reliable_change]
    return found


def numbers_restated(told):
    """What is told of the last report: its rows, people and records by reason, and the texts of rules that changed."""
    found = {row["estimate_id"]: numbers_of(row) for row in told.then.to_dict("records")}
    for one in told.reasons:
        numbers = {"people": one.n_people, "records": one.n_records, "scores": one.n_scores}
        found |= {f"restatement/{one.kind}/{name}": [float(n)] for name, n in numbers.items()}
    for name, why in told.whys.items():
        found |= {f"restatement/why/{name}/{kind}": [float(n)] for kind, n in why.people}
    if told.again:
        found |= {"restatement/n_same": [float(told.again.n_same)], "restatement/n": [float(told.again.n)]}
    for number, change in enumerate(told.plan, 1):
        for place, one in enumerate(change.differences, 1):
            found[f"restatement/plan/{number}.{place}"] = f"{one.entry} {one.before} {one.after}"
    words = [*told.study, *told.code, *(" ".join(one) for one in told.versions), *texts(told.files)]
    return found | {
        "restatement/rules": " ".join(words), "restatement/figures": [float(len(told.whys))],
        "restatement/differ": [float(n) for n in range(len(told.whys) + 1)],  # test_sections counts them
    }  # fmt: skip


def counts_of_rows(known):
    """What sections count themselves: rows of ESTIMATES and of definitions, not people."""
    rows, study = known.estimates, the_study()
    known_rows = rows[rows["suppressed"] == ""]
    known_rows = known_rows[known_rows["section"] != "quality"]
    with_interval = known_rows[known_rows[["estimate", "lower", "upper"]].notna().all(axis=1)]
    readings = known_rows[(known_rows["section"] == "endpoints") & (known_rows["statistic"] == "reading")]
    smd = known_rows[(known_rows["section"] == "participants") & (known_rows["statistic"] == "smd")][
        "estimate"
    ].dropna()
    sources, changes = known.sources, known.changes.groupby("change")["n"].sum()
    listed = [code for listing in study.codelists.values() for code in listing]
    items = [item for part in study.checklists.values() for item in part]
    sections = set(study.reports["evidence"].sections)
    return {
        "estimates/intervals": [float((~with_interval["method"].str.startswith("median (")).sum())],
        "endpoints/readings": [
            float(((readings["group"] != "primary") & ~readings["reason"].str.startswith("descriptive: ")).sum())
        ],
        "participants/notable": [float((smd.abs() > 0.20).sum())],
        "participants/compared": [float(len(smd))],
        "sources/types": [float(len(sources))],
        "sources/holes": [float((sources["hole"] != "").sum())],
        "sources/n": _known(sources["n"].sum(skipna=False)),
        **{f"changes/{name}": _known(n) for name, n in changes.items()},
        "evidence/studies": [float(len(study.evidence.studies))],
        "evidence/unconfirmed": [float(sum(one.verified == "no" for one in study.evidence.studies))],
        "evidence/readings": [float(n) for n in range(1, len(study.evidence.studies))],
        "codelists/codes": [float(len(listed))],
        "codelists/unconfirmed": [float(sum(code.state == "unconfirmed" for code in listed))],
        "checklists/items": [float(len(items))],
        "checklists/answered": [float(sum(bool(sections & set(item.sections.split())) for item in items))],
    }


def _known(value):
    return [] if pd.isna(value) else [float(value)]


#: Numbers that are no result and stand in no definition, each with its reason. Read by people; short on purpose.
CONSTANTS = {
    r"95 ?%": "the level of every interval",
    r"1\.96|5 times in 100|at most 5%": "the same level, in a sentence about it",
    r"\b\d{1,2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4}": "a date of the provenance",
    r"(Table|Figure) \d+\.": "its number",
    r"Secondary \d+:": "the place in the plan's order",
    r"(at least|At least) 30% less pain|by 30% or more|at least 30% or 50% better|exactly 30%": "the flags of OUTCOMES",
    r"[Pp]er 100 sessions|Grid: [\d, and.]+": "the unit and the scale of a rate",
    r"0\.1 mg/kg|1 mg/kg in total|per 10 mg": "the unit of a slope",
    r"[Ff]ewer than (10|3)\b( people)?|Fewer than 3": "the rule for small numbers",
    r"above 0\.20|more than 0\.20": "the usual edge of a standardised difference",
    r"Below 0:|includes? 0|excludes 0|differed from 0|start score of 0|left of 0%|−1 to 1|0 \(up to \.\.\.\)|^0 \(up to ": "no change, nobody, or an end",
    r"Day 0|; 0 is the first seven days|first 26 weeks": "how days and weeks are counted",
    r"In a simulation study .*": "published with the program, docs/simulation.md",
    r"Published for context: .*": "published, quoted in the words of the section with its source",
    r"SF-36 PF10|ICH E9\(R1\)|SHA-256|HL7 v3|ICD-1[01](-CM)?|CD\d{6}": "names",
    r"^0$": "a cell for which there is no row, so nobody",
    r"moved up to \d\.\d\d": "how far lines of people are moved apart in a drawing",
    r"middle 80%": "the name of a band",
    r"<11: fewer than 11|<11|(count|counts|count is) (of )?1 to 10": "the threshold of the release edition",
}


CHECKLIST_ITEMS = r"items [\w.]+ to [\w.]+\.|(STROBE|RECORD|RECORD-PE) [\d.]+[a-z]?"


def declared_texts(known, edition):
    """Texts that come word for word from a definition, a row's own words or the provenance, the longest first."""
    rows, study, origin = known.estimates, the_study(), provenance(edition)
    words = {text for name in ("method", "reason", "group", "measure", "visit") for text in rows[name]}
    declared = {*texts((study.protocol, study.measures, study.codelists, study.evidence, study.checklists))}
    words |= {*declared, *(typeset(text) for text in declared), *texts(origin.record), *known.rules, origin.run_id}
    words |= {f"version {study.protocol.version}", f"version {study.protocol.plan.version}"}
    words |= {f"{name} {version}" for name, version in origin.software.items()}
    words |= {f"n: {one.n}" for one in study.evidence.studies} | {f" {one.year}" for one in study.evidence.studies}
    words |= {text.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}") for text in words}
    wanted = {plain(text) for text in words if re.search(r"\d", text) and not re.fullmatch(r"[\d.,]{1,4}", text)}
    return sorted(wanted, key=len, reverse=True)


def codes():
    """Codes of four characters or fewer, which count only beside the name of their system."""
    study = the_study()
    listed = [code.code for listing in study.codelists.values() for code in listing]
    return {code for code in listed if re.fullmatch(r"[\d.]{1,4}", code)}


def judged(page, known, edition):
    """The marked numbers that their rows do not hold, and the numbers that nothing stands behind."""
    values, words = behind(known, edition), declared_texts(known, edition)
    wrong, bare = [], []
    for piece in printed(page):
        if piece.refs:
            if not _holds(piece, values):
                wrong.append((piece.text, piece.refs, piece.within))
        elif left := _left(piece.text, words):
            bare.append((left, piece.within))
    return wrong, bare


def _holds(piece, values):
    if any(ref not in values for ref in piece.refs):
        return False
    if isinstance(values[piece.refs[0]], str):
        return piece.text.lower() in values[piece.refs[0]].lower()
    named = re.split(r"[/:, ]+", piece.refs[0])  # a week or a grade out of the row's own key
    return piece.text in named or is_printed_from(piece.text, values, piece.refs)


def _left(text, words):
    text = re.sub(CHECKLIST_ITEMS, " ", text)
    for word in words:
        if not re.search(r"\d", text):
            break
        at = text.lower().find(word.lower())
        while at >= 0:
            text = text[:at] + " " + text[at + len(word) :]
            at = text.lower().find(word.lower())
    for pattern in CONSTANTS:
        text = re.sub(pattern, " ", text)
    listed = codes() if re.search(r"RxNorm|SNOMED|LOINC|ATC|EDQM", text) else ()
    return tuple(number for number in ANY_NUMBER.findall(text) if number not in listed)


# --- every number ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edition", ["internal", "release"])
def test_every_printed_number_is_that_of_the_row_it_names(edition):
    wrong, bare = judged(page_of(64, edition), releasable(64, edition), edition)
    assert not wrong
    assert not bare


def test_a_number_that_nobody_marked_is_found():
    page = page_of(64, "internal").replace("</main>", "<p>Mean change 2.7 points</p></main>")
    _, bare = judged(page, releasable(64, "internal"), "internal")
    assert bare == [(("2.7",), "Mean change 2.7 points")]


def test_a_number_that_is_not_in_its_row_is_found():
    known = releasable(64, "internal")
    one = known.estimates["estimate_id"].iloc[0]
    page = page_of(64, "internal").replace("</main>", f"<p>{mark('987.65', one)}</p></main>")
    wrong, _ = judged(page, known, "internal")
    assert wrong == [("987.65", (one,), "987.65")]


@pytest.mark.parametrize(("n", "edition"), [(64, "internal"), (64, "release"), (5, "internal"), (0, "internal")])
def test_marks_change_no_word_of_the_report(n, edition):
    traced_page, page = page_of(n, edition), page_html(model(n, edition), TEMPLATES)
    assert [one.within for one in printed(plain(traced_page))] == [one.within for one in printed(page)]
    assert [plain(alt) for alt in ALT.findall(traced_page)] == ALT.findall(page)


def test_marks_change_no_word_of_the_quality_report_either():
    page = page_html(quality_fixture.model(64, "internal"), TEMPLATES)
    traced_page = page_of(64, "internal", quality_fixture)
    wrong, _ = judged(traced_page, quality_fixture.releasable(64, "internal"), "internal")
    assert [one.within for one in printed(plain(traced_page))] == [one.within for one in printed(page)]
    assert not wrong


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="pdftotext of poppler-utils is not installed")
def test_the_pdf_prints_the_numbers_of_the_page_and_no_other_but_page_numbers(tmp_path):
    made = model_of(64, "internal")
    pdf = render(made, the_study().root).pdf
    (tmp_path / "report.pdf").write_bytes(pdf)
    text = subprocess.run(
        ["pdftotext", "-raw", tmp_path / "report.pdf", "-"], capture_output=True, check=True
    ).stdout.decode()
    pages = text.count("\f")
    on_page = Counter(ANY_NUMBER.findall(" ".join(everything_on(page_html(made, TEMPLATES)))))
    in_pdf = Counter(ANY_NUMBER.findall(text))
    lacking, added = on_page - in_pdf, in_pdf - on_page
    for whole in lacking:  # a long identifier may break at the end of a line
        added -= next(
            (
                Counter((whole[:at], whole[at:]))
                for at in range(1, len(whole))
                if added[whole[:at]] and added[whole[at:]]
            ),
            Counter(),
        )
    assert plain(text) == text
    assert all(number.isdigit() and int(number) <= pages for number in added)


# --- links ----------------------------------------------------------------------------------------------------------


def test_every_number_of_estimates_links_to_its_row_in_the_internal_page():
    made = model_of(64, "internal")
    page = linked(page_html(made, TEMPLATES), made.behind)
    targets, rows = set(re.findall(r'class="from" href="#(\w+)"', page)), set(re.findall(r'<tr id="(E\w+)"', page))
    known = {short_id(one) for one in behind(releasable(64, "internal"), "internal")}
    assert len(targets) > 300
    assert targets <= rows  # a number worked out from two rows leads to the first of them
    assert rows <= known
    assert plain(page) == page


def test_a_release_has_no_links_and_no_marks():
    made = model_of(64, "release")
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
    known = releasable(64, "internal")
    forged = known.estimates.assign(group=known.estimates["group"].replace("Nausea", mark("Nausea", "forged")))
    page = page_html(model_of(64, "internal", replace(known, estimates=forged)), TEMPLATES)
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
        model_of(64, "internal")


def test_a_curve_with_another_n_than_the_table_stops_the_report(monkeypatch):
    steps = responders._steps
    monkeypatch.setattr(responders, "_steps", lambda *of: replace(steps(*of), n=51))
    with pytest.raises(PipelineError, match="the table of responders and the curve of responders"):
        model_of(64, "internal")


def test_a_table_that_does_not_add_up_to_its_total_stops_the_report(monkeypatch):
    terms = safety._sorted_terms
    monkeypatch.setattr(safety, "_sorted_terms", lambda facts: terms(facts)[1:])
    with pytest.raises(PipelineError, match="the sum of adverse events by kind and the total of adverse events"):
        model_of(64, "internal")


def test_a_headline_with_another_n_than_its_table_stops_the_report(monkeypatch):
    monkeypatch.setattr(
        summary, "best_known", lambda facts, percent, visit: (OBSERVED, responder(facts, percent, OBSERVED, "week_12"))
    )
    with pytest.raises(PipelineError, match="the denominator of the headline and the table of responders"):
        model_of(64, "internal")
