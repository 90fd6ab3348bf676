"""Each guard of docs/threats.md is taken out once, in a copy of the program, and the test named beside it must then fail.

A test that passes with and without its guard proves nothing. `pytest -m slow tests/test_guards_matter.py` runs them all;
the normal suite checks that the list is whole and that every text to be taken out is still there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("src", "mappings", "templates", "reports", "flows", "tests", "pyproject.toml", "docs")
PASSED, FAILED = 0, 1  # of pytest; anything else says that the tests could not run


class Guard(NamedTuple):
    """A guard of a row: where it stands, its text, what stands there without it, and the test that notices."""

    row: str
    what: str
    file: str
    text: str
    without: str
    test: str


RENDER, DISCLOSE = "src/crps_outcomes/stages/render.py", "src/crps_outcomes/stages/disclose.py"
FINISH, DIFFERENCING = "src/crps_outcomes/pdf_finish.py", "src/crps_outcomes/differencing.py"
PUBLISH, WORKBOOK = "src/crps_outcomes/stages/publish.py", "src/crps_outcomes/workbook.py"
TEXTS, TABLES = "src/crps_outcomes/texts.py", "src/crps_outcomes/tables.py"
PAGES, LEAKS = "tests/unit/test_hostile_pages.py", "tests/unit/test_release_leaks.py"
SHEETS, DOOR = "tests/unit/test_workbook.py", "tests/unit/test_texts.py"
NIGHTS = "tests/unit/test_differencing.py"
FILLED = 'return page_environment(templates, model.form.lang).get_template("report.html.j2").render(report=model)'
FILLED_TWICE = (
    f"{FILLED.replace('return', 'once =')}\n    return page_environment(templates).from_string(once).render()"
)
FETCH = "test_T12_a_page_that_tries_every_way_to_fetch_reaches_nobody_and_each_way_stops_the_render"

GUARDS = (
    Guard("T11", "texts are escaped", RENDER, "autoescape=True", "autoescape=False",
          f"{PAGES}::test_T11_hostile_texts_of_source_and_study_folder_give_the_elements_of_their_harmless_twins"),
    Guard("T11", "an alternative text is escaped", "src/crps_outcomes/figure_kit.py", "{html.escape(alt)}", "{alt}",
          f"{PAGES}::test_T11_a_hostile_label_or_text_alternative_of_a_figure_is_a_text_in_it"),
    Guard("T11", "the door of the tables", TABLES, "text: printable(text, longest)", "text: text",
          f"{DOOR}::test_T19_no_table_takes_a_text_that_is_not_fit_for_print"),
    Guard("T11", "what reorders or hides goes", TEXTS, 'if category == "Cf" or letter in BLANK:', "if letter in BLANK:",
          f"{DOOR}::test_what_reorders_or_hides_goes"),
    Guard("T11", "a study folder is plain", "src/crps_outcomes/declaration.py", "if not all(is_plain(text)", "if not all(True",
          f"{DOOR}::test_the_study_folder_is_refused_with_such_a_letter_and_the_message_does_not_repeat_it"),
    Guard("T12", "the fetcher asks nobody", RENDER, "return OnlyTemplates()", "return URLFetcher()", f"{PAGES}::{FETCH}"),
    Guard("T12", "no file outside the templates", RENDER, " or not path.is_relative_to(templates)", "", f"{PAGES}::{FETCH}"),
    Guard("T12", "the fetcher is used", RENDER, ", url_fetcher=_fetcher(templates))", ")",
          f"{PAGES}::test_T12_the_render_says_that_it_stopped_and_why"),
    Guard("T12", "the audit hook", RENDER, "    sys.addaudithook(_refuse_network)\n", "",
          f"{PAGES}::test_T12_a_library_that_opens_a_connection_all_the_same_stops_the_render"),
    Guard("T12", "a network of its own", RENDER, "    leave_network()\n    resource", "    resource",
          f"{PAGES}::test_T12_the_layout_engine_works_in_a_network_of_its_own_where_the_system_allows_it"),
    Guard("T13", "the finished PDF is scanned", FINISH, "    refuse_active(document, ACTIVE if", "    str((document, ACTIVE) if",
          f"{PAGES}::test_T13_whatever_acts_or_leads_out_of_a_PDF_is_found_and_refused"),
    Guard("T13", "no link leads out", FINISH, '"/URI", ', "",
          f"{PAGES}::test_T13_a_link_in_a_page_does_not_reach_the_PDF"),
    Guard("T13", "an archive holds its own data alone", FINISH, "            _check_attached(document, attached)\n", "",
          "tests/unit/test_pdf_form.py::test_an_attachment_that_is_not_the_reports_own_is_refused"),
    Guard("T14", "a page is filled once", RENDER, FILLED, FILLED_TWICE,
          f"{PAGES}::test_T14_the_language_of_templates_prints_literally_in_every_text"),
    Guard("T14", "no template is made of a text", RENDER, FILLED, FILLED_TWICE,
          f"{PAGES}::test_T14_no_template_is_made_of_a_text_and_markup_is_made_in_one_reviewed_place"),
    Guard("T14", "no template turns escaping off", "templates/sections/flow.html.j2", "{{", "{{ '' | safe }}{{",
          f"{PAGES}::test_T14_no_template_turns_escaping_off_and_drawings_pass_in_the_macros_alone"),
    Guard("T15", "what is missing is an error", RENDER, "undefined=StrictUndefined", "undefined=__import__('jinja2').Undefined",
          f"{PAGES}::test_T15_a_page_without_any_one_of_the_parts_it_asks_for_is_not_printed"),
    Guard("T16", "a long table is refused", RENDER, "    check_length(model)\n", "",
          f"{PAGES}::test_T16_a_table_of_20000_rows_is_refused_by_name_before_anything_is_laid_out"),
    Guard("T16", "a child that failed is no report", RENDER, "    if done.returncode:\n", "    if False:\n",
          f"{PAGES}::test_T16_a_render_that_is_stopped_leaves_the_last_report_and_its_pointer_as_they_are[killed]"),
    Guard("T16", "a limit on time", RENDER, "timeout=SECONDS,", "timeout=None,",
          f"{PAGES}::test_T16_a_render_that_is_stopped_leaves_the_last_report_and_its_pointer_as_they_are[out of time]"),
    Guard("T16", "limits of the child", RENDER, "    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))\n", "",
          f"{PAGES}::test_T16_the_child_has_limits_of_memory_and_time"),
    Guard("T16", "limits of the child", RENDER, "    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))\n", "",
          f"{PAGES}::test_T16_the_child_has_limits_of_memory_and_time"),
    Guard("T17", "an apostrophe before a formula", PUBLISH, """return f"'{value}\"""", "return value",
          f"{SHEETS}::test_T17_no_value_head_or_row_head_of_a_CSV_file_begins_like_a_formula"),
    Guard("T17", "full-width signs too", PUBLISH, r"\uff1d\uff0b\uff0d\uff20", "",
          f"{SHEETS}::test_T17_no_value_head_or_row_head_of_a_CSV_file_begins_like_a_formula"),
    Guard("T17", "numbers stay numbers", PUBLISH, "isinstance(value, str) and FORMULA.match(value)", "FORMULA.match(str(value))",
          f"{SHEETS}::test_T17_numeric_columns_come_back_to_the_last_bit"),
    Guard("T18", "texts are typed", WORKBOOK, "sheet.write_string(line, place, cell_text(value))",
          "sheet.write_formula(line, place, value) if value[:1] == '=' else sheet.write_string(line, place, value)",
          f"{SHEETS}::test_T18_no_text_of_a_workbook_is_a_formula_or_a_link"),
    Guard("T18", "safe names of sheets", WORKBOOK, r"""re.sub(r"[^\w .-]|[\U00010000-\U0010ffff]", "-", printable(text))""", "printable(text)",
          f"{SHEETS}::test_T18_a_name_of_a_sheet_is_one_that_every_program_takes"),
    Guard("T19", "messages", "src/crps_outcomes/console.py", "map(one_line,", "map(str,",
          f"{DOOR}::test_T19_a_hostile_text_in_a_message_gives_no_control_and_no_line_of_its_own"),
    Guard("T19", "control sequences go whole", TEXTS, '_TERMINAL.sub("", text)', "text",
          f"{DOOR}::test_T19_no_rest_of_a_control_sequence_is_left_in_a_line_of_a_log"),
    Guard("T19", "words of the source", "src/crps_outcomes/events.py", "map(printable, words)", "iter(words)",
          f"{DOOR}::test_T19_the_source_s_words_for_an_event_come_in_fit_for_print"),
    Guard("T32", "a hidden row loses its numbers", "src/crps_outcomes/hiding.py", "    frame[_NUMBERS] = frame[_NUMBERS].mask(is_hidden)\n", "",
          f"{LEAKS}::test_T32_a_release_tells_no_small_count_that_it_hides_and_draws_no_person"),
    Guard("T32", "small counts are hidden", "src/crps_outcomes/disclosure.py", "    page, evidence = hide_small(layout, held), Evidence([])\n",
          "    return Page(layout)\n", f"{LEAKS}::test_T32_a_release_tells_no_small_count_that_it_hides_and_draws_no_person"),
    Guard("T32", "nobody's own line leaves", DISCLOSE, "people=None, doses=None,", "people=tables.outcomes, doses=tables.doses,",
          f"{LEAKS}::test_T32_a_release_tells_no_small_count_that_it_hides_and_draws_no_person"),
    Guard("T32", "months stay inside", DISCLOSE, "isin(may_leave)", 'isin(may_leave | {"quality/month"})',
          f"{LEAKS}::test_T32_a_release_has_no_row_by_month"),
    Guard("T32", "only releases are handed on", "src/crps_outcomes/library.py", 'if kind[1] == "release"}', "}",
          f"{LEAKS}::test_T32_the_library_to_hand_on_tells_of_no_other_edition"),
    Guard("T33", "a difference of few is held", DIFFERENCING,
          "return any(0 < changed(now, one) < threshold for one in before)", "return False",
          f"{NIGHTS}::test_a_mean_stands_as_last_released_until_eleven_people_changed"),
    Guard("T33", "the same in sixty nights", DIFFERENCING,
          "return any(0 < changed(now, one) < threshold for one in before)", "return False",
          "tests/test_attacker.py::test_T33_nothing_about_few_people_is_found_in_sixty_guarded_nights"),
    Guard("T33", "what could be worked out is held too", DIFFERENCING, "    page = _without_failing(safe, coarse, failing, same)\n",
          "    page = safe\n", "tests/test_attacker.py::test_T33_nothing_about_few_people_is_found_in_sixty_guarded_nights"),
    Guard("T33", "between declared days the release stands", DISCLOSE, "if history and history.is_standing:", "if False:",
          "tests/test_attacker.py::test_T33_a_report_of_another_kind_between_declared_days_tells_nothing_new"),
)  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The program and its tests, to be spoiled."""
    folder = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "build"))
        else:
            shutil.copy(source, target)
    return folder


def run(copy: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Tests in a process of their own, on the program of the copy and no other."""
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_with_every_guard_in_its_place_the_tests_pass(copy):
    done = run(copy, *sorted({guard.test for guard in GUARDS}))
    assert done.returncode == PASSED, done.stdout[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.row} {guard.what}")
def test_without_its_guard_each_test_fails(guard, copy):
    path = copy / guard.file
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace(guard.text, guard.without, 1), encoding="utf-8")
    try:
        done = run(copy, guard.test)
    finally:
        path.write_text(whole, encoding="utf-8")
    if "skipped" in done.stdout:
        pytest.skip(done.stdout[-300:])
    assert done.returncode == FAILED, done.stdout[-2000:]


def test_every_row_of_the_threats_has_a_guard_that_is_taken_out():
    page = (ROOT / "docs" / "threats.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| (T\d+) \|", page, flags=re.MULTILINE)) == {guard.row for guard in GUARDS}


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.row} {guard.what}")
def test_the_text_of_a_guard_and_its_test_are_there(guard):
    assert guard.text in (ROOT / guard.file).read_text(encoding="utf-8")
    file, _, name = guard.test.partition("::")
    assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8")
