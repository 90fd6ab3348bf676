"""A release under the NHS rule: 1 to 7 hidden, every other count rounded to 5, and no count to be found again."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from cohort_tables import the_study
from pydantic import ValidationError
from report_fixture import analysis, provenance, tables

from crps_outcomes import estimators, hiding, rounding
from crps_outcomes.analysis.rows import Key, counts_only, median_row, row
from crps_outcomes.carrying import History
from crps_outcomes.definitions import Disclosure
from crps_outcomes.differencing import Seal, Standing
from crps_outcomes.facts import Step
from crps_outcomes.rounding import METHODS, nearest, rounded, surely
from crps_outcomes.sections.flow import checked
from crps_outcomes.stages.compose import compose
from crps_outcomes.stages.disclose import _may_leave, disclose
from crps_outcomes.stages.publish import contents
from crps_outcomes.stages.render import Rendered, page_html
from crps_outcomes.tables import ESTIMATES, build
from crps_outcomes.traced import plain
from extractor import leaks, said_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crps_outcomes.disclosure import Releasable
    from crps_outcomes.report_model import ReportModel
    from crps_outcomes.study import Study

N = 60
COUNTS = ["k", "n", "n_missing"]
PRINTED = [*COUNTS, "estimate", "lower", "upper", "sd", "method", "reason"]
ONCE = "Counts are rounded to the nearest 5, so they may not add up."
OFFSETS = range(-2, 3)


def under(rule: str) -> Study:
    protocol = the_study().protocol
    return replace(the_study(), protocol=protocol.model_copy(update={"disclosure": Disclosure(rule=rule)}))


@cache
def release() -> Releasable:
    return disclose(analysis(N), tables(N), under("NHS"), "release")


@cache
def model(report: str) -> ReportModel:
    return compose(release(), under("NHS"), the_study().reports[report], replace(provenance("release"), report=report))


def page(report: str) -> str:
    return page_html(model(report), the_study().root / "templates")


def counts_of(found: Releasable) -> Iterator[int]:
    for frame, columns in (
        (found.estimates, COUNTS),
        (found.counts, ["n_subjects", "n_left"]),
        (found.rejections, ["n"]),
    ):
        for column in columns:
            yield from map(int, frame[column].dropna())


# --- what leaves --------------------------------------------------------------------------------------------------------


def test_every_count_that_leaves_is_0_or_at_least_10_and_a_multiple_of_5():
    found = [*counts_of(release())]
    assert len(found) > 300
    assert [n for n in found if n % 5 or 0 < n < 10] == []


def test_the_same_release_before_rounding_has_other_counts_and_none_from_1_to_7():
    exact = [own[role] for own in release().register.rows.values() for role in COUNTS if own.get(role) is not None]
    assert any(n % 5 for n in exact)
    assert [n for n in exact if 0 < n < 8] == []


def test_what_is_hidden_is_what_would_be_hidden_without_rounding():
    exact = {name: own["suppressed"] for name, own in release().register.rows.items() if "estimate_id" in own}
    shown = release().estimates.set_index("estimate_id")["suppressed"].to_dict()
    assert {name for name in exact if exact[name] != shown[name]} <= {name for name in exact if "/smd/" in name}
    assert {"low", "c"} <= set(shown.values())


def test_percentages_and_rates_are_those_of_the_rounded_counts():
    shown = release().estimates.query("suppressed == '' and n > 0")
    for unit, factor in (("%", 100), ("per 100 sessions", 100)):
        own = shown[(shown["unit"] == unit) & shown["estimate"].notna()]
        assert len(own) > 10
        expected = (factor * own["k"] / own["n"]).astype(float).round(0 if unit == "%" else 1)
        assert (own["estimate"] - expected).abs().max() < 1e-9


def test_standardised_differences_of_shares_are_those_of_the_rounded_counts():
    shown = release().estimates.query("section == 'participants' and suppressed == '' and group != ''")
    shares = {
        (one["population"], one["group"]): (one["k"], one["n"])
        for one in shown.query("statistic == 'share'").to_dict("records")
    }
    own = shown.query("statistic == 'smd'").to_dict("records")
    assert len(own) >= 2
    for one in own:
        pair = (*shares["analysed", one["group"]], *shares["not analysed", one["group"]])
        expected = estimators.standardised_difference_binary(*pair).estimate
        assert (None if pd.isna(one["estimate"]) else one["estimate"]) == (
            None if expected is None else round(expected, 2)
        )


def texts(thing: Any) -> Iterator[str]:
    """Every text of a part of the report: headings, cells, captions, alternatives, labels of charts."""
    if isinstance(thing, str):
        yield plain(thing)
    elif is_dataclass(thing):
        yield from (text for one in fields(thing) for text in texts(getattr(thing, one.name)))
    elif isinstance(thing, dict):
        yield from (text for one in thing.values() for text in texts(one))
    elif isinstance(thing, tuple):
        yield from (text for one in thing for text in texts(one))


NOUNS = "people|person|sessions?|events?|doses?|administrations?|scores?|values?"
COUNTED = [
    r"\bn = (\d[\d,]*)",
    r"\b(\d[\d,]*) of (?:the )?(\d[\d,]*)\b(?! characteristics)",
    rf"(?<![Ww]eek )\b(\d[\d,]*) (?:\w+ )?(?:{NOUNS})\b",
]
#: Sections that quote other studies, and the rules.
QUOTING = {"context", "methods", "checklist", "provenance", "missing", "plain_questions", "natural_course", "precision"}


def told(report: str) -> set[int]:
    own = [text for one in model(report).sections if one.id not in QUOTING for text in texts(one)]
    found = (match for text in own for pattern in COUNTED for match in re.finditer(pattern, text))
    return {int(n.replace(",", "")) for match in found for n in match.groups() if match[0] != f"{match[1]} of 100"}


@pytest.mark.parametrize(("report", "least"), [("evidence", 15), ("quality", 3), ("plain", 3)])
def test_no_sentence_caption_or_label_tells_another_count(report, least):
    found = told(report)
    assert len([n for n in found if n % 5 == 0]) >= least
    assert {n for n in found if n % 5} == set()


def test_T32_no_file_of_a_release_tells_a_count_from_1_to_7():
    own, inside = model("evidence"), disclose(analysis(N), tables(N), under("NHS"), "internal")
    about, templates = replace(provenance("release"), report="evidence"), the_study().root / "templates"
    whole = compose(inside, under("NHS"), the_study().reports["evidence"], replace(about, edition="internal"))
    files = contents(Rendered(page("evidence"), b""), own, release(), about)
    found = leaks(
        {name: data for name, data in files.items() if data},
        {"report.html": page_html(whole, templates).encode()},
        said_by(the_study(), release().rules),
        under("NHS").protocol.disclosure.threshold,
    )
    assert [one for one in found if not re.search(r": (?:10\b|[nk]\s?[=:]\s?10\b)|/rounded_to$", one)] == []


@pytest.mark.parametrize("report", ["evidence", "quality", "plain"])
def test_a_report_says_once_that_counts_may_not_add_up(report):
    assert page(report).count(ONCE) == 1


def test_the_marks_say_the_threshold_of_the_rule():
    text = page("evidence")
    assert "&lt;8: fewer than 8, hidden to protect privacy." in text
    assert "&lt;11" not in text
    assert "1 to 7 are hidden" in text


def test_the_run_says_by_which_rule():
    files = contents(Rendered(page("plain"), b"%PDF"), model("plain"), release(), provenance("release"))
    told = files["disclosure.json"].decode()
    assert '"rule": "NHS"' in told
    assert '"rounded_to": 5' in told
    assert '"threshold": 8' in told
    assert "every count is rounded to the nearest 5" in told


# --- no count can be found again ----------------------------------------------------------------------------------------


def exactly(known: dict[str, Any], k: int, n: int) -> dict[str, Any]:
    """The row as an exact release would have it, if these were its counts."""
    method, what = known["method"].partition(";")[0], "people"
    if method in {"share", "count"}:
        return {**known, "k": k, "n": n, "estimate": 100 * k / n if method == "share" else float(k)}
    if method == "mean, t interval":
        lower, upper = estimators.t_limits(known["estimate"], known["sd"], n) if known["sd"] else (None, None)
        return {**known, "n": n, "lower": lower, "upper": upper}
    of_shares = {
        "Wilson interval": estimators.wilson, "rate per 100, exact Poisson interval": estimators.poisson_rate_exact,
        "share of people, one-sided exact 95 % upper limit, supposing that nothing went unrecorded": estimators.one_sided_upper,
    }  # fmt: skip
    if method in of_shares:
        found = counts_only(of_shares[method](k, n), what)
        own = {name: getattr(found, name) for name in ("estimate", "lower", "upper", "reason")}
        return {**known, "k": k, "n": n, **own}
    return {**known, "k": None if known["k"] is None else k, "n": n}


def printed(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The rows as a release under the rule prints them."""
    frame = hiding.hidden_estimates(build(ESTIMATES, rows), {}, 8)
    shown = rounded(replace(release(), estimates=frame, register=None)).estimates.set_index("estimate_id")
    own = shown.loc[[one["estimate_id"] for one in rows], PRINTED].astype(object)
    return [*own.where(own.notna(), None).itertuples(index=False, name=None)]


def shown_rows() -> list[dict[str, Any]]:
    own = release().estimates.query("suppressed == '' and n > 0 and statistic != 'smd'").astype(object)
    return own.where(own.notna(), None).to_dict("records")


def is_possible(known: dict[str, Any], k: int, n: int) -> bool:
    """Whether the rule would show such counts: none of them, nor their difference, is small."""
    is_share = known["k"] is not None and known["unit"] == "%"
    parts = (k, n, n - k) if is_share else (n,) if known["k"] is None else (k, n)
    return all(part == 0 or part >= 8 for part in parts)


def what_fits() -> dict[str, set[tuple[int, int]]]:
    """By row, every pair of k and n that would be printed in the same way."""
    rows = shown_rows()
    fitting: dict[str, set[tuple[int, int]]] = {one["estimate_id"]: set() for one in rows}
    for dk, dn in product(OFFSETS, OFFSETS):
        guesses = [(one, 0 if not one["k"] else one["k"] + dk, one["n"] + dn) for one in rows]
        if dk == 0:
            guesses += [(one, one["n"] + dn, one["n"] + dn) for one in rows if one["k"] == one["n"]]
        by_row: dict[str, tuple[dict[str, Any], int, int]] = {}
        for one, k, n in guesses:
            if is_possible(one, k, n):
                by_row[one["estimate_id"]] = (one, k, n)
        for (one, k, n), text in zip(by_row.values(), printed([exactly(*own) for own in by_row.values()]), strict=True):
            if text == tuple(one[name] for name in PRINTED):
                fitting[one["estimate_id"]].add((k, n))
    return fitting


def test_at_least_three_pairs_of_counts_fit_everything_that_a_row_prints():
    fitting = what_fits()
    assert len(fitting) > 150
    assert {name: own for name, own in fitting.items() if len(own) < 3} == {}
    alone = {name for name, own in fitting.items() if len({n for _, n in own}) < 2 or len({k for k, _ in own}) < 2}
    without_k = {one["estimate_id"] for one in shown_rows() if not one["k"]}
    assert {name for name in alone if name not in without_k or len({n for _, n in fitting[name]}) < 3} == set()


def test_intervals_of_exact_counts_would_give_counts_away(monkeypatch):
    known = release().register.rows
    exact = build(ESTIMATES, [own for own in known.values() if "estimate_id" in own])
    monkeypatch.setattr(rounding, "METHODS", dict.fromkeys(METHODS, lambda _: {}))
    leaking = rounded(replace(release(), estimates=exact, register=None))
    monkeypatch.setitem(globals(), "release", lambda: leaking)
    fitting = what_fits()
    assert sum(len(own) < 3 for own in fitting.values()) > 50


@pytest.mark.parametrize("n", [20, 45])
def test_quartiles_of_whole_scores_do_not_tell_n(n):
    def triples(size: int, *, coarse: bool) -> set[tuple[float, ...]]:
        found = set()
        for low in range(size + 1):
            for high in range(size + 1 - low):
                values = np.array([5.0] * low + [6.0] * (size - low - high) + [7.0] * high)
                made = median_row(Key("pain", "median"), values, unit="points, 0 to 10")
                shown = METHODS[made["method"]](made) if coarse else made
                found.add(tuple(shown[one] for one in ("lower", "estimate", "upper")))
        return found

    sizes = [n + offset for offset in OFFSETS]
    assert len({frozenset(triples(size, coarse=True)) for size in sizes}) == 1
    assert len({frozenset(triples(size, coarse=False)) for size in sizes}) > 1


def test_every_method_of_a_row_that_may_leave_is_known():
    for n in (N, 16):
        methods = _may_leave(analysis(n).estimates)["method"].str.partition(";")[0]
        assert set(methods) - {"median (range)"} <= METHODS.keys()


def test_a_method_that_is_not_known_loses_its_numbers():
    strange = row(
        Key("pain", "mean"), estimators.Interval(57, 5.0, 4.1, 5.9, "an odd estimator", sd=2.0), unit="points"
    )
    shown = rounded(replace(release(), estimates=build(ESTIMATES, [strange]), register=None)).estimates.iloc[0]
    assert shown[["estimate", "lower", "upper", "sd"]].isna().all()
    assert (shown["n"], shown["reason"]) == (55, "not shown beside rounded counts")


def test_which_numbers_need_how_many_people_does_not_tell_n_either():
    quantile = {n: row(Key("pain", "quantile", group="50", visit=str(n)), estimators.quantile(np.arange(n) * 1.0, 50), unit="")
                for n in (13, 15, 16, 17, 18)}  # fmt: skip
    shown = rounded(replace(
        release(), estimates=hiding.hidden_estimates(build(ESTIMATES, quantile.values()), {}, 8), register=None
    )).estimates.set_index("visit")  # fmt: skip
    assert shown.loc[["13", "15", "16", "17"], PRINTED].drop_duplicates().shape[0] == 1
    assert shown.loc["17", "reason"] == "fewer than 20: not shown"
    assert shown.loc["18", "estimate"] == 8


# --- small things -------------------------------------------------------------------------------------------------------


def test_counts_are_rounded_to_the_nearest_5():
    assert [nearest(n) for n in (0, 8, 10, 12, 13, 17, 18, 22, 1463)] == [0, 10, 10, 10, 15, 15, 20, 20, 1465]
    assert all(min(n for n in range(200) if nearest(n) == surely(least)) >= least for least in range(8, 100))


def test_a_flow_of_rounded_boxes_may_be_off_by_5_and_no_more():
    steps = _steps((60, 10), (45, 0))
    assert checked(steps, 5) is steps
    with pytest.raises(AssertionError):
        checked(steps)
    with pytest.raises(AssertionError):
        checked(_steps((60, 10), (40, 0)), 5)


def _steps(*boxes: tuple[int, int]) -> list[Any]:
    return [Step(f"step {place}", "", "", n, left, "") for place, (n, left) in enumerate(boxes)]


def test_a_release_that_stands_is_rounded_too_and_marks_of_another_rule_do_not_stand():
    register = release().register
    rows = {
        name: {**own, "below": 11} if own.get("suppressed") == "low" else own for name, own in register.rows.items()
    }
    stood = replace(register, rows=rows, last=Standing("2026-06-01", "", tuple(rows), is_held=False))
    history = History(stood, Seal(b"k" * 32), is_standing=True)
    found = disclose(analysis(N), tables(N), under("NHS"), "release", history)
    assert [n for n in counts_of(found) if n % 5] == []
    assert set(found.estimates["suppressed"]) == {"", "c"}
    same = replace(stood, rows=register.rows)
    again = disclose(analysis(N), tables(N), under("NHS"), "release", replace(history, register=same))
    pd.testing.assert_frame_equal(again.estimates, release().estimates)
    pd.testing.assert_frame_equal(again.counts, release().counts)


def test_the_internal_edition_is_never_rounded():
    inside = disclose(analysis(N), tables(N), under("NHS"), "internal")
    assert not inside.is_rounded
    assert rounded(inside) is inside
    assert any(n % 5 for n in counts_of(inside))


# --- the study folder ---------------------------------------------------------------------------------------------------


def test_each_rule_has_its_threshold():
    assert (Disclosure().rule, Disclosure().threshold) == ("CMS", 11)
    assert Disclosure(rule="NHS").threshold == 8
    assert Disclosure(rule="NHS", threshold=8).threshold == 8
    assert Disclosure(rule="CMS", threshold=20).threshold == 20
    assert Disclosure(threshold=5).rule == "CMS"


@pytest.mark.parametrize("threshold", [5, 11])
def test_the_nhs_rule_with_another_threshold_is_refused_with_what_would_be_right(threshold):
    with pytest.raises(ValidationError, match="hides 1 to 7 and rounds the rest, so leave it out or say 8"):
        Disclosure(rule="NHS", threshold=threshold)


def test_a_rule_nobody_knows_is_refused():
    with pytest.raises(ValidationError, match="'CMS' or 'NHS'"):
        Disclosure(rule="ONS")
