"""The pages in a real browser: nothing in the console, nothing serious from axe-core, nothing wider than the window."""

from __future__ import annotations

import shutil
from datetime import date

import pytest
from cohort_tables import the_study
from every_report import EVERY, made
from test_library import run

from browser import NEEDED, WIDTHS, needs_browser, window
from crps_outcomes import library
from crps_outcomes.home import Home
from crps_outcomes.language import Form
from crps_outcomes.number_links import linked
from crps_outcomes.stages.render import page_html, self_contained

pytestmark = needs_browser
TEMPLATES = the_study().root / "templates"
LONG_NAME = (
    "The Northern Regional Centre for Chronic Pain, Neuromodulation and Rehabilitation Medicine at Saint Bartholomew's"
)
#: Every report in every edition: internal ones of a cohort with all there is to see, released ones with a long name.
PAGES = {
    f"{name}-{edition}": lambda name=name, edition=edition: (
        made(name, edition, 12, Form("de", "Letter"), LONG_NAME) if edition == "release" else made(name, edition)
    )
    for name, edition in EVERY
}


def screen(name: str) -> str:
    """A page as it is published: with its links from numbers, and one file."""
    own = PAGES[name]()
    return self_contained(linked(page_html(own, TEMPLATES), own.behind), TEMPLATES)


@pytest.fixture(scope="module")
def browser():
    assert all(map(shutil.which, NEEDED))
    with window() as own:
        yield own


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Every page as a file, by name; made when it is first asked for."""
    folder, known = tmp_path_factory.mktemp("pages"), {}

    def file(name: str):
        if name not in known:
            known[name] = folder / f"{name}.html"
            if name == "library":
                known[name] = a_library(folder)
            else:
                known[name].write_text(screen(name), encoding="utf-8")
        return known[name]

    return file


def a_library(folder):
    home = Home.at(folder / "home")
    old = run(home, "2026-05-01")
    run(home, "2026-06-01", code="d" * 64)
    run(home, "2026-06-12", data_status="incomplete", holes=("Observation",))
    run(home, edition="release")
    library.withdraw(home, old, "The window of week 4 was wrong", date(2026, 7, 1))
    return library.publish(home, the_study(), date(2026, 7, 20))


@pytest.mark.parametrize("name", [*PAGES, "library"])
def test_a_page_fits_the_window_at_every_width_and_every_text_its_box(browser, files, name):
    for width in WIDTHS:
        browser.show(files(name), width)
        seen = browser.look()
        assert (seen["window"], seen["wide"]) == (width, width)
        assert seen["clipped"] == []
        assert seen["overlaps"] == []
        assert seen["texts"] > 20
    assert browser.console() == []


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", [*PAGES, "library"])
def test_axe_finds_nothing_serious(browser, files, name, is_dark):
    browser.show(files(name), 320 if is_dark else 1280, is_dark=is_dark)
    assert browser.faults() == []
    assert browser.console() == []


def test_dark_pages_are_dark_and_their_drawings_stay_on_white(browser, files):
    browser.show(files("evidence-internal"), 1280, is_dark=True)
    shades = browser.driver.execute_script(
        "const of = q => getComputedStyle(document.querySelector(q)).backgroundColor; return [of('main'), of('figure svg'), of('td svg')];"
    )
    assert shades == ["rgb(18, 24, 30)", "rgb(255, 255, 255)", "rgb(255, 255, 255)"]


def test_by_keyboard_the_first_stop_leads_to_the_report_and_every_stop_is_seen_and_named(browser, files):
    from selenium.webdriver.common.keys import Keys  # noqa: PLC0415 - only where there is a browser

    browser.show(files("evidence-internal"), 320)
    stops = []
    for _ in range(12):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        stops.append(browser.driver.execute_script(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "return [e.getAttribute('href') ?? e.className, s.outlineStyle, e.ariaLabel ?? e.textContent, e.getBoundingClientRect().left >= 0];"
        ))  # fmt: skip
    assert [stop[0] for stop in stops[:2]] == ["#report", "#summary-contents"]
    assert all(outline == "solid" and name and is_seen for _, outline, name, is_seen in stops)


def test_by_keyboard_the_second_stop_leads_past_the_numbers_to_the_contents(browser, files):
    from selenium.webdriver.common.keys import Keys  # noqa: PLC0415 - only where there is a browser

    browser.show(files("evidence-internal"), 320)
    for key in (Keys.TAB, Keys.TAB, Keys.ENTER, Keys.TAB):
        browser.driver.switch_to.active_element.send_keys(key)
    assert browser.driver.execute_script("return document.activeElement.getAttribute('href')") == "#flow"


def test_a_wide_table_moves_inside_its_box_by_arrow_key(browser, files):
    from selenium.webdriver.common.keys import Keys  # noqa: PLC0415 - only where there is a browser

    browser.show(files("evidence-internal"), 320)
    box = browser.driver.find_element("css selector", ".scroll")
    browser.driver.execute_script("arguments[0].focus()", box)
    for _ in range(5):
        box.send_keys(Keys.ARROW_RIGHT)
    moved = "const done = arguments[1]; setTimeout(() => done([arguments[0].scrollLeft, window.scrollX]), 400);"
    inside, page = browser.driver.execute_async_script(moved, box)
    assert inside > 0
    assert page == 0


def test_nothing_in_a_page_can_run_or_be_fetched(browser, files, tmp_path):
    text = files("evidence-internal").read_text(encoding="utf-8")
    hostile = text.replace(
        "<main ", '<script>document.title = "ran"</script><img alt="x" src="https://example.invalid/x.png"><main ', 1
    )
    assert hostile != text
    (tmp_path / "hostile.html").write_text(hostile, encoding="utf-8")
    browser.show(tmp_path / "hostile.html", 1280)
    assert browser.driver.title != "ran"
    assert len([said for said in browser.console() if "Content Security Policy" in said]) == 2


# --- the tests can fail -----------------------------------------------------------------------------------------------

SPOILT = {
    "a table without its box": ('class="scroll"', 'class="open"', "wide"),
    "text on text": ("</style>", "h2 { margin-bottom: -2em !important }</style>", "overlaps"),
    "text out of its cell": ("</style>", "td { white-space: nowrap; max-width: 10px }</style>", "clipped"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_page_is_seen(browser, files, tmp_path, what):
    old, new, where = SPOILT[what]
    text = files("evidence-internal").read_text(encoding="utf-8")
    (tmp_path / "spoilt.html").write_text(text.replace(old, new), encoding="utf-8")
    browser.show(tmp_path / "spoilt.html", 320)
    seen = browser.look()
    assert seen["wide"] > 320 if where == "wide" else seen[where]


def test_axe_sees_pale_text(browser, files, tmp_path):
    text = files("evidence-internal").read_text(encoding="utf-8").replace("</style>", "p { color: #ccd }</style>", 1)
    (tmp_path / "pale.html").write_text(text, encoding="utf-8")
    browser.show(tmp_path / "pale.html", 1280)
    assert any("color-contrast" in fault for fault in browser.faults())
