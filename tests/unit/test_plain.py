"""The sheet in plain words: easy to read, no proof claimed, harm beside benefit, and no number that should not be there."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pikepdf
import plain_fixture as sheets
import pytest
import readability
from cohort_tables import the_study
from report_fixture import facts, model, releasable
from test_sections import SMALL, lines

from crps_outcomes.facts import Facts
from crps_outcomes.icon_arrays import hundred, out_of_hundred
from crps_outcomes.language import LANGUAGES, Form
from crps_outcomes.sections.plain_numbers import LEAST, plain_numbers
from crps_outcomes.stages.render import render

GRADE = 7  # of a child of about 12 years
CAUSES = re.compile(
    r"\b(because of|due to|thanks to|caused?|effective|proves?|works|wirksam|verursacht\w*|dank|heilt)\b", re.IGNORECASE
)
EVERY = [(n, edition, lang) for n in (0, 12, 60) for edition in ("internal", "release") for lang in ("en-US", "de")
         if n or edition == "internal"]  # fmt: skip


def words(*of) -> str:
    return "\n".join(line for section in sheets.sheet(*of).sections for line in lines(section))


def grades(html: str) -> dict[str, float]:
    return readability.getmeasures(sheets.as_lines(sheets.sentences(html)), lang="en")["readability grades"]


# --- reading age ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ["en-GB", "en-US"])
@pytest.mark.parametrize(("n", "edition"), [(12, "internal"), (64, "internal"), (60, "release")])
def test_a_child_of_twelve_can_read_it_by_three_formulas(n, edition, lang):
    html = sheets.page(n, edition, lang)
    assert len(sheets.sentences(html)) > 50
    found = grades(html)
    assert {name: found[name] for name in ("Kincaid", "GunningFogIndex", "Coleman-Liau") if found[name] > GRADE} == {}
    assert found["FleschReadingEase"] > 80


def test_the_formulas_find_a_sentence_of_the_methods_hard_to_read():
    said = next(section for section in model().sections if section.id == "endpoints").lede
    assert grades(f"<p>{said}</p>")["Kincaid"] > GRADE


# --- what is said ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", EVERY)
def test_that_there_is_no_strong_proof_comes_first_and_no_cause_is_named(of):
    first = sheets.sheet(*of).sections[0]
    assert first.finding in {
        "Read this first: there is no strong proof",
        "Bitte zuerst lesen: Es gibt keinen starken Beleg",
    }
    html = sheets.page(*of)
    assert html.index(first.finding) < html.index(first.text["crps"][0])
    assert CAUSES.findall(words(*of)) == []


@pytest.mark.parametrize("of", EVERY)
def test_nothing_is_left_blank_and_no_mark_of_a_table_stands_in_a_sentence(of):
    said = words(*of)
    assert not re.search(r"\bnan\b|None\b(?! of)|<NA>|\{|\[[cxz]\]|<11", said)
    assert len(sheets.sheet(*of).sections) == 3


def test_who_is_missing_is_told_in_numbers():
    said = words(64)
    seen = facts().one("responders", "responder", population="observed", visit="week_4", group="30")
    share = out_of_hundred(seen.n_missing, seen.n + seen.n_missing)
    assert f"We do not know about {share} of 100 people" in said
    assert f"{share} we do not know: no score" in said


def test_german_has_its_own_words_dates_and_decimal_comma():
    html = sheets.page(64, "internal", "de")
    assert 'lang="de"' in html
    assert "12. Juni 2026" in html
    assert re.search(r"Mittel bei \d,\d am Anfang und bei \d,\d in Woche 4", html)
    assert not re.search(r"\b(the|people|pain|shot)\b", " ".join(sheets.sentences(html)))


def test_american_english_is_not_british():
    assert "injection" not in words(64, "internal", "en-US").replace("Injection-site", "")
    assert "shot" not in words(64, "internal", "en-GB")


# --- pictures of 100 people -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "edition"), [(64, "internal"), (60, "release")])
def test_harm_stands_beside_benefit_at_the_same_size(n, edition):
    arrays = sheets.section("plain_numbers", n=n, edition=edition).arrays
    pain, harm = arrays["pain"], arrays["harm"]
    assert (len(pain.icons), pain.width, pain.height) == (len(harm.icons), harm.width, harm.height) == (100, 234, 79.5)
    assert (pain.tone, harm.tone) == ("benefit", "harm")


def test_a_picture_says_the_same_in_figures_in_words_and_in_its_text_alternative():
    for array in sheets.section("plain_numbers").arrays.values():
        kinds = [icon.kind for icon in array.icons]
        assert {kind: kinds.count(kind) for kind in kinds} == {kind: int(size) for kind, size, _ in array.legend}
        assert array.sentence in array.alt
        assert all(f"{size} {said}" in array.alt for _, size, said in array.legend)
        assert re.search(r"(between \d+ and \d+|up to \d+|as few as \d+) of 100", array.sentence)


def test_the_interval_is_that_of_the_planned_estimate():
    found = facts().one("endpoints", "responder", visit="week_4", group="30")
    said = sheets.section("plain_numbers").arrays["pain"].sentence
    assert said == (
        f"About {100 * found.k / found.n:.0f} of 100. It could be between {found.lower:.0f} and {found.upper:.0f} of 100. "
        "If something that the plan names came first, such as a new drug, it counts as “did not”."
    )


@pytest.mark.parametrize(("k", "n", "wanted"), [(0, 40, 0), (1, 900, 1), (899, 900, 99), (40, 40, 100), (31, 64, 48)])
def test_somebody_never_becomes_nobody_and_not_all_never_become_all(k, n, wanted):
    assert out_of_hundred(k, n) == wanted


def test_a_picture_of_other_than_100_people_is_refused():
    with pytest.raises(ValueError, match="100 people"):
        hundred({"had": 60, "not": 39, "unknown": 0})


# --- when numbers do not allow it -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "edition"), [(0, "internal"), (2, "internal"), (12, "internal"), (12, "release")])
def test_too_few_people_give_no_number_and_still_something_to_read(n, edition):
    section = sheets.section("plain_numbers", n=n, edition=edition)
    assert section.finding == "There are too few people to say anything in numbers"
    assert not section.arrays
    assert not section.tables
    assert not re.search(r"of 100", "".join(section.text["few"]))
    assert len(sheets.section("plain_questions", n=n, edition=edition).text["ask"]) >= 6


def hidden(*statistics: str) -> Facts:
    own = releasable()
    names = own.estimates["section"] + "/" + own.estimates["statistic"]
    marked = own.estimates.assign(suppressed=own.estimates["suppressed"].mask(names.isin(statistics), "c"))
    return Facts(replace(own, estimates=marked), the_study(), the_study().reports["plain"], facts().provenance)


def test_without_harm_to_show_no_benefit_is_shown():
    section = plain_numbers(hidden("safety/people"))
    assert not section.arrays
    assert section.finding == "Numbers cannot be shown here yet"
    assert "without side effects next to it" in section.text["few"][0]


def test_hidden_responders_are_too_few_to_show():
    assert not plain_numbers(hidden("responders/responder", "endpoints/responder")).arrays


def test_where_any_harm_is_hidden_the_most_frequent_kind_stands_beside_benefit():
    own = releasable()
    is_any = (own.estimates["statistic"] == "people") & (own.estimates["group"] == "any")
    marked = own.estimates.assign(suppressed=own.estimates["suppressed"].mask(is_any, "c"))
    found = Facts(replace(own, estimates=marked), the_study(), the_study().reports["plain"], facts().provenance)
    assert "most people had: feeling cut off" in plain_numbers(found).arrays["harm"].title
    assert "most common side effect" in plain_numbers(found).finding


@pytest.mark.parametrize(("n", "has_numbers"), [(LEAST - 1, False), (LEAST, True)])
def test_the_least_number_is_that_of_people_with_a_score(n, has_numbers):
    own = releasable()
    is_response = own.estimates["statistic"] == "responder"
    fewer = own.estimates.assign(n=own.estimates["n"].mask(is_response, n), k=own.estimates["k"].mask(is_response, 9))
    found = Facts(replace(own, estimates=fewer), the_study(), the_study().reports["plain"], facts().provenance)
    assert bool(plain_numbers(found).arrays) == has_numbers


def test_the_release_edition_shows_benefit_beside_harm_and_no_small_count():
    section = sheets.section("plain_numbers", n=60, edition="release")
    assert "between 35 and 61 of 100" in section.arrays["pain"].sentence
    assert section.arrays["both"].sentence == "We cannot show this number. It would say too much about single people."
    assert SMALL.findall(words(60, "release").replace("of 100", "")) == []


# --- on paper -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
def test_it_fills_two_pages_in_every_language(lang):
    made = sheets.sheet(60, "release", lang)
    assert made.form == Form(lang=lang)
    with pikepdf.open(io.BytesIO(render(made, the_study().root).pdf)) as pdf:
        assert len(pdf.pages) == 2
