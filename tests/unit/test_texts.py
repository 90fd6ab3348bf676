"""The door for texts that others wrote: one line of visible letters, and never what our own marks are made of (T11, T19)."""

from __future__ import annotations

import io
import unicodedata

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console

from crps_outcomes import console
from crps_outcomes.declaration import Definition
from crps_outcomes.errors import PipelineError
from crps_outcomes.events import plain_term
from crps_outcomes.rejections import RULES
from crps_outcomes.resources import CodeableConcept, Coding
from crps_outcomes.tables import DOSES, EVENTS, INTERCURRENT, LEDGER, REJECTIONS, build
from crps_outcomes.texts import LONGEST, MOST_MARKS, UNREADABLE, is_plain, one_line, printable

ANY = st.text(st.characters(), max_size=300)  # lone surrogates too
BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e\u3164\U000e0041"
NO_LETTERS = "\ud800\udfff\ue000\uf8ff\U000f0000\ufdd0\ufffe\U0010ffff"
CONTROLS = "\0\x07\x08\x0b\x1b\x7f\x85\u2028\u2029"


def is_visible(letter: str) -> bool:
    return letter == " " or unicodedata.category(letter) not in {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"}


@given(ANY)
@example("\u0344" * 9)
@example("a\u200d\u0301")
def test_what_passes_the_door_is_one_short_line_of_visible_letters_and_passes_again_unchanged(text):
    fit = printable(text)
    assert all(map(is_visible, fit))
    assert len(fit) <= LONGEST
    assert fit == fit.strip() == unicodedata.normalize("NFC", fit)
    assert printable(fit) == fit
    assert is_plain(fit)
    fit.encode()


@given(st.text(st.characters(categories=["L", "N", "P"]), max_size=100))
def test_words_in_any_script_pass_as_they_are(text):
    whole = unicodedata.normalize("NFC", text)
    assert printable(text) == "".join(letter for letter in whole if letter not in "\u115f\u1160\u3164\uffa0")


@pytest.mark.parametrize("letter", [*BIDI, *INVISIBLE])
def test_what_reorders_or_hides_goes(letter):
    assert printable(f"Nau{letter}sea") == "Nausea"


@pytest.mark.parametrize("letter", NO_LETTERS)
def test_what_is_no_letter_shows_as_unreadable(letter):
    assert printable(f"Nau{letter}sea") == f"Nau{UNREADABLE}sea"


@pytest.mark.parametrize("letter", [*CONTROLS, "\r\n", "\t", "\u00a0\u3000", "\n\n\n"])
def test_line_ends_and_controls_are_one_blank(letter):
    assert printable(f"{letter}Nausea{letter}at rest{letter}") == "Nausea at rest"


def test_a_text_of_ten_thousand_letters_is_cut_with_an_ellipsis():
    assert printable("x" * 10_000) == "x" * (LONGEST - 1) + "…"
    assert printable("x" * LONGEST) == "x" * LONGEST
    assert printable("\u200b" * 9_000 + "late") == "…"


def test_a_tower_of_marks_is_kept_low():
    assert printable("a" + "\u0347" * 90) == "a" + "\u0347" * MOST_MARKS


# --- where texts come in ----------------------------------------------------------------------------------------------

DIRTY = "Nau\u202esea\r\n\x1b[31m\ue000"
CLEAN = "Nausea [31m\ufffd"


def test_T19_the_source_s_words_for_an_event_come_in_fit_for_print():
    assert plain_term(CodeableConcept(text=DIRTY)) == CLEAN
    hidden = CodeableConcept(text="\u200b", coding=(Coding(display="\u2066"), Coding(display="Nausea")))
    assert plain_term(hidden) == "Nausea"
    assert plain_term(CodeableConcept(text="\u200b")) == "not named"


@pytest.mark.parametrize(
    ("schema", "column"),
    [
        (EVENTS, "term"), (EVENTS, "status"), (INTERCURRENT, "term"), (DOSES, "flags"), (REJECTIONS, "reason"),
        (LEDGER, "hole"),
    ],
    ids=lambda part: getattr(part, "name", part),
)  # fmt: skip
def test_T19_no_table_takes_a_text_that_is_not_fit_for_print(schema, column):
    blank = {"string[pyarrow]": "", "Int64": 0, "boolean": False}
    row = {name: blank.get(str(own.dtype)) for name, own in schema.columns.items()}
    choices = {
        name: own.checks[0].statistics["allowed_values"][0]
        for name, own in schema.columns.items()
        if row[name] == "" and own.checks
    }
    table = build(schema, [row | choices | {column: DIRTY}])
    assert table[column].tolist() == [CLEAN]
    assert build(schema, table.to_dict("records"))[column].tolist() == [CLEAN]  # as when it is read again


class Named(Definition):
    site: str
    notes: tuple[str, ...] = ()


@pytest.mark.parametrize("letter", [*BIDI, *INVISIBLE, *NO_LETTERS[2:], "\0", "\x1b", "\r"])
def test_the_study_folder_is_refused_with_such_a_letter_and_the_message_does_not_repeat_it(letter):
    for wrong in ({"site": f"a{letter}b"}, {"site": "a", "notes": (f"a{letter}b",)}):
        with pytest.raises(ValidationError, match="retype it") as found:
            Named(**wrong)
        assert letter not in found.value.errors(include_input=False, include_url=False)[0]["msg"]
    assert Named(site="Klinik für Schmerz, 名古屋\u00a0—\nline two").site


# --- terminal ---------------------------------------------------------------------------------------------------------


@given(ANY)
def test_T19_a_line_of_a_log_stays_one_line_without_control(text):
    said = one_line(text)
    assert said.isprintable()
    assert len(said.splitlines()) <= 1


def test_T19_no_rest_of_a_control_sequence_is_left_in_a_line_of_a_log():
    assert one_line("\x1b[2J\x1b[1;31mred\x1b[0m\x1bc") == "red"


def test_T19_a_hostile_text_in_a_message_gives_no_control_and_no_line_of_its_own(monkeypatch):
    heard = io.StringIO()
    monkeypatch.setattr(console, "Console", lambda **options: Console(file=heard, **{**options, "stderr": False}))
    text = "F07 Nausea\r\x1b[2J\x1b]0;owned\x07\x1b[1;31mStopped. \u202eall is well\x85forged [bold]x[/]"
    console._tell(PipelineError(f"first line\n{text}"))
    assert heard.getvalue().count("\n") == 2
    assert not any(letter in heard.getvalue() for letter in "\x1b\r\x07\x85\u202e")
    assert "[bold]x[/]" in heard.getvalue()


def test_the_rules_of_rejections_pass_the_door_as_they_are():
    assert all(printable(meaning, 400) == meaning for _, meaning in RULES.values())
    assert pd.Series(["…"]).map(printable).tolist() == ["…"]
