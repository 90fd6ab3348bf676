"""The marks of traced numbers, as links in a page that people read on a screen; everywhere else they vanish."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from crps_outcomes.traced import Span, plain, short_id, spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_TAG = re.compile(r"(<[^>]*>)")
#: Inside these, text is no place for a link: drawings, the head, and other links.
_CLOSED = ("head", "style", "svg", "a", "title")
#: What may stand between two numbers of one row for both to be one link, as in "48 of 94 (51%, 95% CI 41 to 61)".
_JOINS = re.compile(
    r"%?( of | \(|, | to |\u00a0to\u00a0|, 95% CI | \(95% CI | people with a score \(| (\w+ ){0,3}\(95% CI )?"
)

#: What an id begins with that is no row of ESTIMATES and no box of the flow, and what is behind it.
ELSEWHERE = {
    "protocol:": "declared in mappings/protocol.toml",
    "measure:": "declared in mappings/measures",
    "evidence:": "declared in mappings/evidence",
    "evidence/": "rows of mappings/evidence, counted",
    "codelists/": "codes of mappings/codelists, counted",
    "checklists/": "items of mappings/checklists, counted",
    "sources/": "resources received: the completeness section",
    "rejections/": "resources refused: the completeness section",
    "changes/": "resources changed: the completeness section",
    "actions/": "the action list of this report",
}
COUNTED = "rows of this report, counted"


def linked(page: str, behind: Mapping[str, str]) -> str:
    """The page with a link at every number that has an id, and what is behind each at its end.

    Args:
        page: HTML with marks.
        behind: what is behind each id of ESTIMATES and of the flow, in words; with none, marks leave no trace.
    """
    if not behind:
        return plain(page)
    used: dict[str, None] = {}
    body = "".join(_pieces(page, behind, used))
    return body.replace("</main>", f"{_appendix(used, behind)}</main>", 1)


def _pieces(page: str, behind: Mapping[str, str], used: dict[str, None]) -> Iterator[str]:
    depth = 0
    for place, piece in enumerate(_TAG.split(page)):
        if place % 2:
            name = re.match(r"</?([a-z0-9]*)", piece)
            if name and name[1] in _CLOSED and not piece.endswith("/>"):
                depth += -1 if piece.startswith("</") else 1
            yield plain(piece)
        elif depth:
            yield plain(piece)
        else:
            yield "".join(_links([*spans(piece)], behind, used))


def _links(pieces: Sequence[Span], behind: Mapping[str, str], used: dict[str, None]) -> Iterator[str]:
    for refs, text in _joined(pieces):
        if ids := sorted(refs, key=lambda ref: ref not in behind):  # a result before what is declared
            used |= dict.fromkeys(ids)
            yield f'<a class="from" href="#{short_id(ids[0])}">{text}</a>'
        else:
            yield text


def _joined(pieces: Sequence[Span]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Spans with their text; numbers of one row that stand in one phrase are one."""
    at = 0
    while at < len(pieces):
        end = at
        while _goes_on(pieces[at], pieces[end + 1 : end + 3]):
            end += 2
        text = "".join(piece.text for piece in pieces[at : end + 1])
        yield pieces[at].refs, text
        at = end + 1


def _goes_on(first: Span, following: Sequence[Span]) -> bool:
    if not first.refs or len(following) < 2:
        return False
    return not following[0].refs and following[1].refs == first.refs and bool(_JOINS.fullmatch(following[0].text))


def _told(ref: str, behind: Mapping[str, str]) -> str:
    """What is behind an id, in words."""
    return behind.get(ref) or next((words for start, words in ELSEWHERE.items() if ref.startswith(start)), COUNTED)


def _appendix(used: Iterable[str], behind: Mapping[str, str]) -> str:
    rows = "".join(
        f'<tr id="{short_id(ref)}" tabindex="-1"><th scope="row">{short_id(ref)}</th><td>{escape(ref)}</td>'
        f"<td>{escape(_told(ref, behind))}</td></tr>"
        for ref in sorted(used)
    )
    return (
        '<section class="numbers"><h2 id="numbers">Where each number comes from</h2><p>Each number of this page leads to its '
        "row here. Results, with all digits, are in estimates.csv; <code>crps-outcomes explain RUN ID</code> tells the values "
        'behind one.</p><div class="table"><table class="dense"><thead><tr><th scope="col">ID</th><th scope="col">Section, '
        'statistic, population, measure, visit, group</th><th scope="col">Behind it</th></tr></thead><tbody>'
        f"{rows}</tbody></table></div></section>"
    )
