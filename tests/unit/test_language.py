"""Language: every catalogue is whole, a missing string is an error, and days are written as the language writes them."""

from __future__ import annotations

import string
from datetime import date

import pytest
from cohort_tables import the_study

from crps_outcomes.errors import DefinitionError
from crps_outcomes.language import LANGUAGES, catalogue_mistakes, day, strings

ROOT = the_study().root


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_language_has_the_same_strings_with_the_same_places(lang):
    own, english = strings(ROOT, lang), strings(ROOT, "en-GB")
    assert own.keys() == english.keys()
    assert {key: places(text) for key, text in own.items()} == {key: places(text) for key, text in english.items()}


def test_no_catalogue_stands_there_that_no_run_can_ask_for():
    assert {path.stem for path in (ROOT / "templates" / "strings").iterdir()} == set(LANGUAGES)


def test_german_is_not_english():
    german, english = strings(ROOT, "de"), strings(ROOT, "en-GB")
    same = {key for key in german if german[key] == english[key]}
    assert same == set()


def test_a_string_that_is_not_there_is_an_error_that_names_the_file():
    with pytest.raises(DefinitionError, match=r'strings/de\.toml: no string "label\.moon"'):
        strings(ROOT, "de")["label.moon"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("a = 3", "a: should be text"), ('a = ""', "a: should be text"), ("a = ", "not valid TOML"), (None, "not found")],
)
def test_a_catalogue_that_cannot_be_used_says_why(tmp_path, text, words):
    (tmp_path / "templates" / "strings").mkdir(parents=True)
    if text is not None:
        (tmp_path / "templates" / "strings" / "de.toml").write_text(text)
    with pytest.raises(DefinitionError, match=words):
        strings(tmp_path, "de")


def test_check_names_every_string_a_catalogue_lacks(tmp_path):
    assert [*catalogue_mistakes(ROOT)] == []
    folder = tmp_path / "templates" / "strings"
    folder.mkdir(parents=True)
    for lang in LANGUAGES:
        (folder / f"{lang}.toml").write_text('[page]\nof = "of"\n' if lang == "de" else 'a = "b"\n[page]\nof = "of"\n')
    assert [*catalogue_mistakes(tmp_path)] == ['templates/strings/de.toml: no string "a"']


def test_a_language_there_is_none_of_is_refused():
    with pytest.raises(DefinitionError, match="en-GB, en-US, de"):
        strings(ROOT, "../../mappings/protocol")


@pytest.mark.parametrize(("lang", "words"), [("en-GB", "3 Mar 2026"), ("en-US", "Mar 3, 2026"), ("de", "3. März 2026")])
def test_a_day_is_written_as_the_language_writes_it(lang, words):
    assert day(date(2026, 3, 3), lang) == words
