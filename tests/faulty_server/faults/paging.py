"""Faults of search and paging: F01 to F17."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx

from faulty_server.answers import Answer, Json, Row, Scene, bundle, edited, in_body, issues, match, outcome
from faulty_server.faults.variant import Act, Variant, status

if TYPE_CHECKING:
    from collections.abc import Callable

_ELSEWHERE = "http://elsewhere.invalid/r4/Observation?page=2"


def _next_of(answer: Answer) -> str:
    return next((one["url"] for one in in_body(answer, "link") if one["relation"] == "next"), "")


def _next_is(answer: Answer, address: str) -> Answer:
    links = [link for link in in_body(answer, "link") if link["relation"] != "next"]
    return edited(answer, link=[*links, {"relation": "next", "url": address}])


def _rewritten(write: Callable[[str, Scene], str]) -> Act:
    """The address of next written in another way, if there is a next page; the server knows both."""

    def act(answer: Answer, scene: Scene) -> Answer:
        address = _next_of(answer)
        if not address:
            return answer
        written = write(address, scene)
        scene.server.aliases[str(httpx.URL(scene.base + "/").join(written))] = httpx.URL(address)
        return _next_is(answer, written)

    return act


def _opaque(_: str, scene: Scene) -> str:
    return f"{scene.base}?_getpages={len(scene.server.aliases)}&_pageId=%7Cx,y&_fields=id&_bundletype=searchset"


def _relative(address: str, scene: Scene) -> str:
    return address.removeprefix(f"{scene.base}/")


def _odd(address: str, _: Scene) -> str:
    path, _, query = address.partition("?")
    return f"{path}?b=%2c,|:~&a=1&{query}"


def _loops(answer: Answer, scene: Scene) -> Answer:
    return _next_is(answer, str(scene.url))


def _never_ends(answer: Answer, scene: Scene) -> Answer:
    """The same page again and again, under a new address."""
    turn = int(scene.url.params.get("turn", "0")) + 1
    return _next_is(answer, str(scene.url.copy_set_param("turn", turn)))


def _next_elsewhere(answer: Answer, scene: Scene) -> Answer:
    return _next_is(answer, scene.option.replace("{host}", scene.url.host).replace("{port}", str(scene.url.port or 80)))


def _redirects(_: Answer, scene: Scene) -> Answer:
    return Answer(302, b"", {"location": scene.option})


def _row_vanishes(answer: Answer, scene: Scene) -> Answer:
    """After this page two resources of it are deleted: by offset, the next page starts two too late."""
    for one in _first_of(answer, 2):
        scene.server.delete(scene.name, one["id"])
    return answer


def _rows_swap(answer: Answer, scene: Scene) -> Answer:
    """One resource is deleted and one comes: the total stays, and a live one is never sent."""
    for one in _first_of(answer, 1):
        scene.server.delete(scene.name, one["id"])
        scene.server.put(_touched(one | {"id": f"{one['id']}-new"}, scene))
    return answer


def _row_moves(answer: Answer, scene: Scene) -> Answer:
    """A resource of this page is updated and moves to the end."""
    for one in _first_of(answer, 1):
        scene.server.put(_touched(one, scene))
    return answer


def _first_of(answer: Answer, n: int) -> list[Json]:
    return [one["resource"] for one in in_body(answer, "entry")][:n]


def _touched(one: Json, scene: Scene) -> Json:
    stamp = scene.server.now().isoformat().replace("+00:00", "Z")
    return one | {"meta": one.get("meta", {}) | {"versionId": "99", "lastUpdated": stamp}}


def _repeats(rows: list[Row], _: Any) -> list[Row]:
    return [*rows, *rows[:1]]


def _conflicts(rows: list[Row], _: Any) -> list[Row]:
    """The first resource again, another one in content, and neither says which is newer."""
    if not rows or not isinstance(rows[0], dict):
        return rows
    first = {key: value for key, value in rows[0].items() if key != "meta"}
    return [first, *rows[1:], first | {"language": "en"}]


def _no_total(answer: Answer, _: Scene) -> Answer:
    return edited(answer, total=None)


def _says_more(answer: Answer, scene: Scene) -> Answer:
    total = answer.body.get("total", 0) if isinstance(answer.body, dict) else 0
    return edited(answer, total=total + scene.option)


def _loses_page(answer: Answer, _: Scene) -> Answer:
    """The page's entries are lost; its total and next are as they should be."""
    return edited(answer, entry=None)


def _empty_page(answer: Answer, scene: Scene) -> Answer:
    """A page without entries comes first; its next is the page itself."""
    if "turn" in scene.url.params or not isinstance(answer.body, dict):
        return answer
    again = {"relation": "next", "url": str(scene.url.copy_set_param("turn", "1"))}
    links = [link for link in answer.body["link"] if link["relation"] == "self"]
    return replace(answer, body=bundle(answer.body.get("total"), [], [*links, again]) | (scene.option or {}))


def _strangers_among_results(answer: Answer, _: Scene) -> Answer:
    include = {"resource": {"resourceType": "Organization", "id": "o1"}, "search": {"mode": "include"}}
    hint = {"resource": issues("informational", "information"), "search": {"mode": "outcome"}}
    return edited(answer, entry=[*in_body(answer, "entry"), include, hint])


def _refuses_includes(answer: Answer, scene: Scene) -> Answer:
    return outcome(400, "too-costly") if {"_include", "_revinclude"} & {*scene.url.params} else answer


def _includes_without_end(answer: Answer, scene: Scene) -> Answer:
    if not {"_include", "_revinclude"} & {*scene.url.params}:
        return answer
    included = [
        {"resource": {"resourceType": "Patient", "id": f"i{n}"}, "search": {"mode": "include"}} for n in range(8000)
    ]
    return edited(answer, entry=[*in_body(answer, "entry"), *included])


def _refuses_long_lists(answer: Answer, scene: Scene) -> Answer:
    refusal, most = scene.option
    return outcome(refusal, "exception") if len(scene.values) > most else answer


def _headers_too_large(answer: Answer, scene: Scene) -> Answer:
    """A GET with a list longer than the option: 431 and nothing else; a POST carries it in its body."""
    return Answer(431) if len(scene.values) > scene.option and scene.request.method == "GET" else answer


def _ignores_the_filter(answer: Answer, scene: Scene) -> Answer:
    own = {"relation": "self", "url": f"{scene.base}/{scene.name}?_count=20"}
    return edited(answer, link=[own, *(link for link in in_body(answer, "link") if link["relation"] != "self")])


def _sends_everybodys(answer: Answer, scene: Scene) -> Answer:
    """The filter is ignored in earnest: somebody else's resource stands on the page, and an outcome says why."""
    stranger = {"resourceType": scene.name, "id": "of-a-stranger", "subject": {"reference": "Patient/stranger"}}
    note = {"resource": issues("not-supported", "warning"), "search": {"mode": "outcome"}}
    return _ignores_the_filter(edited(answer, entry=[*in_body(answer, "entry"), match(stranger), note]), scene)


def _shortened(rows: list[Row], _: Any) -> list[Row]:
    if not rows or not isinstance(rows[0], dict):
        return rows
    return [rows[0] | {"meta": rows[0].get("meta", {}) | {"tag": [{"code": "SUBSETTED"}]}}, *rows[1:]]


_OFFSET = {"paging": "offset"}
PAGING = (
    Variant("F01", "next is opaque: another path, other parameters, re-encoded", ("page",), _rewritten(_opaque), page=0),
    Variant("F01 relative", "next is relative to the base URL", ("page",), _rewritten(_relative), page=0),
    Variant("F01 odd", "next has odd characters and another order", ("page",), _rewritten(_odd), page=0),
    Variant("F02", "next repeats the address of its own page", ("page",), _loops),
    Variant("F02 never ends", "pages go on under new addresses and add nothing", ("page",), _never_ends),
    Variant("F03", "next is on another host (option: the address)", ("page",), _next_elsewhere, option=_ELSEWHERE),
    Variant("F03 port", "next is on another port", ("page",), _next_elsewhere, option="http://{host}:1/r4/Observation?page=2"),
    Variant("F03 userinfo", "the own host stands only in the userinfo of next", ("page",), _next_elsewhere,
            option="http://{host}:{port}@elsewhere.invalid/r4/Observation"),
    Variant("F03 redirect", "a redirect, to another host unless the option says otherwise",
            ("page", "file", "kickoff", "status", "token"), _redirects, option=_ELSEWHERE),
    Variant("F04", "two rows of a page are deleted while offsets are paged", ("page",), _row_vanishes, settings=_OFFSET, page=1),
    Variant("F04 swap", "one row is deleted and one comes; the total stays", ("page",), _rows_swap, settings=_OFFSET, page=1),
    Variant("F04 update", "a row of a page is updated and moves to the end", ("page",), _row_moves, settings=_OFFSET, page=1),
    Variant("F05", "the same resource twice", ("page", "lines"), rows=_repeats),
    Variant("F05 conflict", "one id with two contents, and nothing says which is newer", ("page", "lines"), rows=_conflicts),
    Variant("F06", "no total", ("page", "count"), _no_total, page=0),
    Variant("F07", "total is larger than what arrives (option: by how much)", ("page", "count"), _says_more, option=1),
    Variant("F07 lost page", "a page is empty, its total and next are as they should be", ("page",), _loses_page),
    Variant("F08", "a page without entry in between", ("page",), _empty_page),
    Variant("F08 empty list", "a page with an empty entry list in between", ("page",), _empty_page, option={"entry": []}),
    Variant("F09", "includes and outcomes stand among the results", ("page",), _strangers_among_results),
    Variant("F10", "_include is refused with 400", ("page",), _refuses_includes, page=0),
    Variant("F10 unbounded", "_include adds 8,000 entries to one page", ("page",), _includes_without_end, page=0),
    Variant("F11", "pages are smaller than asked for (option: how small)", ("page",), settings={"biggest_page": 1}),
    Variant("F12", "400, the offset is too large", ("page",), status(400, "too-costly")),
    Variant("F13", "an error for lists longer than some (option: status, most)", ("page",), _refuses_long_lists, page=1, option=(500, 1)),
    Variant("F13 413", "413 for long lists", ("page",), _refuses_long_lists, page=1, option=(413, 1)),
    Variant("F13 414", "414 for long lists", ("page",), _refuses_long_lists, page=1, option=(414, 1)),
    Variant("F13 431", "431 with an empty body for a long GET (option: most)", ("page",), _headers_too_large, page=0, option=1),
    Variant("F14", "the next page of a POST is a GET as long as the form", ("page",), settings=_OFFSET),
    Variant("F14 post 431", "and the server refuses a GET that long", ("page",), _headers_too_large, page=0, option=1, settings=_OFFSET),
    Variant("F15", "the self link does not name the filter", ("page",), _ignores_the_filter, page=1),
    Variant("F15 strangers", "the filter is ignored: other people's resources come too", ("page",), _sends_everybodys, page=1),
    Variant("F16", "a resource is tagged SUBSETTED", ("page", "lines"), rows=_shortened),
    Variant("F17", "410, the search has expired", ("page",), status(410, "expired")),
    Variant("F17 not found", "404 on the next page", ("page",), status(404, "not-found")),
)  # fmt: skip
