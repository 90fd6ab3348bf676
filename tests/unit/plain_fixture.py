"""The sheet in plain words of an invented cohort, and the sentences a reader of its page meets."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from cohort_tables import the_study
from report_fixture import provenance, releasable

from crps_outcomes.language import Form
from crps_outcomes.stages.compose import compose
from crps_outcomes.stages.render import page_html

if TYPE_CHECKING:
    from crps_outcomes.report_model import ReportModel, Section


@cache
def sheet(n: int = 64, edition: str = "internal", lang: str = "en-GB") -> ReportModel:
    own = replace(provenance(edition), report="plain", form=Form(lang=lang))
    return compose(releasable(n, edition), the_study(), the_study().reports["plain"], own)


def page(n: int = 64, edition: str = "internal", lang: str = "en-GB") -> str:
    return page_html(sheet(n, edition, lang), the_study().root / "templates")


def section(name: str, **of) -> Section:
    return next(one for one in sheet(**of).sections if one.id == name)


class _Paragraphs(HTMLParser):
    """The texts of paragraphs, list items and headings, without drawings and tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag in {"p", "li", "h1", "h2", "h3", "svg", "table", "ul"}:
            self._inside.append("" if ("class", "meta") in attrs or ("class", "screen-status") in attrs else tag)
            if tag in {"p", "li", "h2"}:
                self.found.append("")

    def handle_endtag(self, tag):
        if tag in {"p", "li", "h1", "h2", "h3", "svg", "table", "ul"}:
            self._inside.pop()

    def handle_data(self, data):
        if self._inside and self._inside[-1] in {"p", "li", "h2"} and not {"", "table"} & set(self._inside):
            self.found[-1] += data


def sentences(html: str) -> list[str]:
    """Every whole sentence of the page, one a list item; headings and legends, being short, would make it look easier."""
    texts = (" ".join(text.split()) for text in _Paragraphs(html).found)
    parts = (one for text in texts if text for one in re.split(r"(?<=[.?!])\s+", text))
    return [one for one in parts if one.endswith((".", "?", "!"))]


def as_lines(texts: list[str]) -> str:
    """The form the readability library reads: a sentence a line, its marks apart, so that none counts as part of a word."""
    return "\n".join(re.sub(r"([.?!])$", r" \1", re.sub(r"[,;:()“”%]", "", one)) for one in texts)
