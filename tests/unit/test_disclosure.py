"""Disclosure control: what a release edition hides, and that nobody can work it out again."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from itertools import pairwise, product

import numpy as np
import pandas as pd
import pytest
from cohort_tables import (
    AS_OF,
    PAIN,
    cohort,
    event,
    random_events,
    random_people,
    rejected,
    the_study,
    with_pain,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crps_outcomes import disclosure
from crps_outcomes.analysis.coarse import OTHER_TERMS, coarsened, frequent_terms, kept_steps, with_fewer_counts
from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.analysis.identities import Identity, Shown
from crps_outcomes.disclosure import Layout, Page, audit, hide_small, protect, puzzle
from crps_outcomes.errors import DefinitionError, DisclosureError
from crps_outcomes.hiding import layout_of, showing_only
from crps_outcomes.stages.analyse import analyse
from crps_outcomes.stages.disclose import disclose
from crps_outcomes.tables import LEDGER, build

THRESHOLD = 11
COUNTS = ["k", "n", "n_missing"]


# --- small layouts ------------------------------------------------------------------------------------------------


def partition(*cells: int, threshold: int = THRESHOLD, name: str = "a") -> Layout:
    """A total and the cells that make it up, each on a row of its own."""
    names = tuple(f"{name}{number}" for number in range(len(cells)))
    truth = {f"{name} total": sum(cells), **dict(zip(names, cells, strict=True))}
    shown = tuple(Shown(f"row {quantity}", "k", quantity, value) for quantity, value in truth.items())
    return Layout(shown, (Identity(f"{name} total", names),), truth, threshold)


def two_way(table: list[list[int]], threshold: int = THRESHOLD) -> Layout:
    """A table with both margins and the grand total, every count on a row of its own."""
    cells = np.array(table)
    name = {(i, j): f"cell {i} {j}" for i, j in product(*map(range, cells.shape))}
    truth = {name[place]: int(cells[place]) for place in name}
    rows = [Identity(f"row {i}", tuple(name[i, j] for j in range(cells.shape[1]))) for i in range(cells.shape[0])]
    columns = [Identity(f"column {j}", tuple(name[i, j] for i in range(cells.shape[0]))) for j in range(cells.shape[1])]
    grand = Identity("all", tuple(one.total for one in rows))
    for one in (*rows, *columns):
        truth[one.total] = sum(truth[part] for part in one.parts)
    truth["all"] = int(cells.sum())
    shown = tuple(Shown(f"of {quantity}", "k", quantity, value) for quantity, value in truth.items())
    return Layout(shown, (*rows, *columns, grand), truth, threshold)


def solved_by_subtraction(page: Page) -> set[str]:
    """The hidden small counts that linear algebra alone gives: an opinion that shares no code with the audit."""
    unknown = sorted(set(page.layout.truth) - page.published)
    sums = [one for one in page.layout.identities if set(unknown) & set(one.names)]
    matrix = np.zeros((len(sums), len(unknown)))
    for at, one in enumerate(sums):
        for quantity, sign in ((one.total, 1), *((part, -1) for part in one.parts)):
            if quantity in unknown:
                matrix[at, unknown.index(quantity)] += sign
    _, singular, directions = np.linalg.svd(matrix) if sums else (None, np.array([]), np.eye(len(unknown)))
    free = directions[int((singular > 1e-9).sum()) :]
    return {
        name for at, name in enumerate(unknown) if page.layout.is_small(name) and not (abs(free[:, at]) > 1e-9).any()
    }


def possible_by_counting(page: Page, name: str, most: int) -> set[int]:
    """Every value a hidden count can have, found by trying all whole numbers up to ``most``."""
    layout = page.layout
    unknown = sorted(set(layout.truth) - page.published)
    marks = {one.quantity: page.hidden[one.row] for one in layout.shown if one.quantity in unknown}
    found = set()
    for values in product(range(most + 1), repeat=len(unknown)):
        guess = {**layout.truth, **dict(zip(unknown, values, strict=True))}
        adds_up = all(guess[one.total] == sum(guess[part] for part in one.parts) for one in layout.identities)
        small = {quantity: 1 <= guess[quantity] < layout.threshold for quantity in marks}
        if adds_up and all(small[quantity] == (mark == "low") for quantity, mark in marks.items()):
            found.add(guess[name])
    return found


# --- the audit ------------------------------------------------------------------------------------------------------


def test_a_single_hidden_cell_is_found_when_nothing_protects_it():
    layout = partition(3, 20, 30)
    assert audit(hide_small(layout)) == ("a0",)
    assert audit(protect(layout)) == ()


def test_the_protecting_cell_is_the_smallest_one_and_the_total_stays():
    page = protect(partition(3, 20, 30))
    assert page.hidden == {"row a0": "low", "row a1": "c"}


def test_a_page_without_small_counts_hides_nothing():
    assert protect(partition(0, 20, 30)).hidden == {}


def test_two_small_cells_protect_each_other_only_while_three_values_are_possible():
    assert protect(partition(5, 4, 30)).hidden == {"row a0": "low", "row a1": "low"}
    assert audit(hide_small(partition(1, 1, 30))) == ("a0", "a1")
    assert "c" in protect(partition(1, 1, 30)).hidden.values()


def test_a_mark_can_give_a_count_away_and_the_audit_knows():
    layout = partition(1, 11, 11)
    page = hide_small(layout).hiding(["row a1"], "c")  # low + c = 12, and c says 11 or more or none
    assert audit(page) == ("a0",)
    assert possible_by_counting(page, "a0", 23) == {1}


def test_a_shown_small_count_is_a_finding():
    assert audit(Page(partition(3, 20, 30))) == ("a0",)


def test_a_count_that_is_only_a_difference_is_found_too():
    truth = {"people": 40, "better": 37, "~people without better": 3}
    shown = (Shown("row", "n", "people", 40), Shown("row", "k", "better", 37), Shown("other", "n", "people", 40))
    layout = Layout(shown, (Identity("people", ("better", "~people without better")),), truth, THRESHOLD)
    assert audit(Page(layout)) == ("~people without better",)
    page = protect(layout)
    assert page.hidden == {"row": "c"}


def test_what_cannot_be_protected_is_refused_and_not_tried_for_ever(monkeypatch):
    monkeypatch.setattr("crps_outcomes.disclosure.is_safe", lambda *_: False)
    with pytest.raises(DisclosureError, match="needs more people"):
        protect(partition(3, 20, 30))


def test_rows_whose_marks_alone_would_tell_are_left_out():
    layout = partition(*[1] * 9)  # nine marks "low" under a total marked "low" leave 1 or 2 for each
    assert "a0" in audit(hide_small(layout))
    page = protect(layout)
    assert set(page.hidden.values()) == {"left out"}
    assert audit(page) == ()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 14), min_size=2, max_size=4))
def test_the_audit_agrees_with_trying_every_number(cells):
    layout = partition(*cells, threshold=5)
    for page in (hide_small(layout), protect(layout)):
        found = set(audit(page))
        if "row a total" in page.hidden or "left out" in page.hidden.values():
            continue  # without the total there is no end to trying
        for quantity in layout.small:
            values = possible_by_counting(page, quantity, sum(cells))
            is_found = 0 not in values and max(values) < 5 and max(values) - min(values) + 1 < 3
            assert is_found == (quantity in found)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=2, max_size=9))
def test_nothing_can_be_recovered_from_a_random_partition(cells):
    page = protect(partition(*cells))
    assert audit(page) == ()
    assert solved_by_subtraction(page) == set()
    assert not any(page.layout.is_small(name) for name in page.published)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(2, 4).flatmap(lambda width: st.lists(
        st.lists(st.integers(0, 40), min_size=width, max_size=width), min_size=2, max_size=4
    ))
)  # fmt: skip
def test_nothing_can_be_recovered_from_a_random_table_with_margins(table):
    page = protect(two_way(table))
    assert audit(page) == ()
    assert solved_by_subtraction(page) == set()
    assert not any(page.layout.is_small(name) for name in page.published)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(2, 4).flatmap(lambda width: st.lists(
        st.lists(st.integers(0, 20), min_size=width, max_size=width), min_size=2, max_size=4
    ))
)  # fmt: skip
def test_looking_for_the_nearest_report_first_hides_the_same_rows(table):
    layout = two_way(table)
    by_extremes = protect(layout).hidden
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disclosure, "_LARGE_PART", 0)
        assert protect(layout).hidden == by_extremes


def test_the_nearest_report_is_one_that_a_reader_cannot_rule_out():
    layout = two_way([[3, 20, 30], [25, 4, 18], [16, 17, 5]])
    page = protect(layout)
    unknown, n_found = puzzle(page, frozenset(page.unknown)), 0
    for name in layout.small:
        for lowest, highest in ((layout.truth[name] + 2, np.inf), (0, layout.truth[name] - 2)):
            for found in unknown._nearest(name, layout.truth, lowest, highest):
                guess, n_found = {**layout.truth, **found}, n_found + 1
                assert lowest <= guess[name] <= highest
                assert all(guess[one.total] == sum(guess[part] for part in one.parts) for one in layout.identities)
                assert all(guess[one.quantity] == one.value for one in layout.shown if one.row not in page.hidden)
    assert n_found >= len(layout.small) == 3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=2, max_size=6))
def test_a_partition_with_exactly_one_small_cell_leaks_without_complementary_hiding(cells):
    others = [20, *(cell if cell == 0 or cell >= THRESHOLD else THRESHOLD for cell in cells)]
    page = hide_small(partition(4, *others))
    assert audit(page) == ("a0",)
    assert solved_by_subtraction(page) == {"a0"}


# --- coarser rows -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 120), min_size=25, max_size=25), st.integers(0, 40))
def test_no_step_of_the_kept_curve_is_a_small_count(counts, not_better):
    better = dict(zip(range(-20, 101, 5), sorted(counts, reverse=True), strict=True))
    total = max(counts) + not_better
    kept = kept_steps(better, [total], THRESHOLD)
    levels = [total, *(better[percent] for percent in kept), 0]
    assert not kept or all(one == other or one - other >= THRESHOLD for one, other in pairwise(levels))


def test_the_curve_keeps_30_and_50_before_anything_else():
    better = {percent: 60 - percent // 2 for percent in range(0, 101, 5)}
    assert {30, 50} & set(kept_steps(better, [100], 10)) == {30, 50}


def test_rare_terms_become_one_group_that_is_not_rare_itself():
    events = pd.DataFrame({"subject_id": [f"p{i}" for i in range(40)], "term": ["a"] * 20 + ["b"] * 14 + ["c"] * 6})
    assert frequent_terms(events, THRESHOLD) == ["a"]  # the six of c need the fourteen of b beside them
    assert frequent_terms(events[events["term"] != "c"], THRESHOLD) == ["a", "b"]


# --- a whole report ---------------------------------------------------------------------------------------------------


@cache
def made(n: int, seed: int, lost: float):
    people = random_people(seed, n, share_lost=lost)
    rare = [event(900 + i, people[i].id, f"a very rare event {i}") for i in range(3) if people[i].is_treated]
    events = [*random_events(seed, people, ["nausea", "dizziness", "headache", "anxiety"]), *rare]
    refusals = [rejected(i, "unit-unknown") for i in range(30)] + [rejected(100 + i, "date-missing") for i in range(4)]
    ledger = [
        {"query_id": f"q{i}", "part": 1, "resource_type": kind, "received": 60, "distinct": 60, "accepted": 60, "rejected": 0,
         "hole": ""} for i, kind in enumerate(("Patient", "Observation"))
    ]  # fmt: skip
    tables = replace(cohort(people, events=events, rejections=refusals), ledger=build(LEDGER, ledger))
    return tables, analyse(tables, the_study(), as_of=AS_OF, not_enrolled={"consent withdrawn": 3})


@cache
def released(n: int, seed: int, lost: float):
    tables, analysis = made(n, seed, lost)
    return disclose(analysis, tables, the_study(), "release")


@cache
def released_page(n: int, seed: int, lost: float) -> Page:
    """What a reader of a release edition has before them, as a page to audit."""
    edition = released(n, seed, lost)
    tables, analysis = made(n, seed, lost)
    visible = edition.estimates[edition.estimates["suppressed"] == ""]
    rejections = disclose(analysis, tables, the_study(), "internal").rejections
    rows = _full_rows(edition, analysis, tables)
    full = showing_only(layout_of(rows, analysis.counts, rejections, the_study()), with_fewer_counts(rows))
    shown_rows = set(visible["estimate_id"])
    hidden = edition.estimates.set_index("estimate_id")["suppressed"].to_dict()
    marks = {one.row: hidden.get(one.row, "left out") for one in full.shown if one.row not in shown_rows}
    marks = {row: mark for row, mark in marks.items() if not row.startswith(("counts/", "rejections/"))}
    counts = edition.counts.set_index("step")
    for step in counts.index:
        for column in ("n_subjects", "n_left"):
            if pd.isna(counts.loc[step, column]):
                marks[f"counts/{step}/{column}"] = "c"
    refused = {
        "/".join(map(str, (r["rule"], r["reason"], r["stage"]))): r for r in edition.rejections.to_dict("records")
    }
    for row in rejections.to_dict("records"):
        tail = f"{row['rule']}/{row['reason']}/{row['stage']}"
        if mark := refused.get(tail, {"suppressed": "left out"})["suppressed"]:
            marks[f"rejections/{tail}"] = mark
    return Page(full, marks)


def _full_rows(edition, analysis, tables) -> pd.DataFrame:
    """The rows of a release edition with their true numbers."""
    rows = coarsened(analysis.estimates, Cohort(tables, the_study()), edition.threshold)
    visible = edition.estimates[edition.estimates["suppressed"] == ""].set_index("estimate_id")[COUNTS]
    carried = with_fewer_counts(rows).set_index("estimate_id").loc[visible.index, COUNTS]
    pd.testing.assert_frame_equal(visible, carried)
    return rows


SMALL, LARGE = (40, 5, 0.2), (90, 6, 0.2)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_release_edition_shows_no_small_count(size):
    edition = released(*size)
    for column in COUNTS:
        values = edition.estimates[column].dropna()
        assert values[(values > 0) & (values < edition.threshold)].empty
    for column in ("n_subjects", "n_left"):
        values = edition.counts[column].dropna()
        assert values[(values > 0) & (values < edition.threshold)].empty
    assert edition.rejections["n"].dropna().ge(edition.threshold).all()


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_nothing_hidden_in_a_release_edition_can_be_worked_out(size):
    page = released_page(*size)
    assert audit(page) == ()
    assert solved_by_subtraction(page) == set()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("n", [17, 25, 60, 150, 300])
@pytest.mark.parametrize("lost", [0.02, 0.15, 0.4])
def test_nothing_can_be_worked_out_for_many_cohorts(n, seed, lost):
    page = released_page(n, seed, lost)
    assert audit(page) == ()
    assert solved_by_subtraction(page) == set()


def test_without_complementary_hiding_the_same_report_leaks():
    page = released_page(*LARGE)
    assert solved_by_subtraction(hide_small(page.layout))
    assert audit(hide_small(page.layout))


def test_a_hidden_row_has_no_number_and_no_reason_left():
    estimates = released(*LARGE).estimates
    hidden = estimates[estimates["suppressed"] != ""]
    assert len(hidden) > 0
    assert hidden[[*COUNTS, "estimate", "lower", "upper", "sd"]].isna().all(axis=None)
    assert (hidden["reason"] == "").all()


def test_a_release_edition_still_says_something():
    shown = released(*LARGE).estimates.query("suppressed == ''")
    assert {"pain", "responders", "dosing", "safety"} <= set(shown["section"])


def test_nothing_about_a_single_person_leaves():
    edition = released(*SMALL)
    assert edition.people is None
    assert edition.doses is None
    assert edition.sources["n"].isna().all()
    assert edition.sources["resource_type"].tolist() == ["Observation", "Patient"]


def test_rare_terms_of_a_site_do_not_leave():
    edition = released(*LARGE)
    assert not edition.estimates["group"].str.contains("rare").any()
    assert OTHER_TERMS in set(edition.estimates["group"])
    internal = disclose(made(*LARGE)[1], made(*LARGE)[0], the_study(), "internal")
    assert internal.estimates["group"].str.contains("rare").any()


def test_percentages_of_a_release_edition_are_whole_numbers():
    shares = released(*LARGE).estimates.query("unit == '%' and suppressed == ''")
    for column in ("estimate", "lower", "upper"):
        values = shares[column].dropna()
        assert (values == values.round(0)).all()


def test_quantiles_need_more_people_than_counts_do():
    estimates = released(*LARGE).estimates
    quantiles = estimates[(estimates["statistic"] == "quantile") & (estimates["suppressed"] == "")]
    outer = quantiles["group"].isin(["10", "90"])
    assert quantiles.loc[~outer & (quantiles["n"] < 22), "estimate"].isna().all()
    assert quantiles.loc[outer & (quantiles["n"] < 50), "estimate"].isna().all()
    assert quantiles.loc[quantiles["n"] >= 50, "estimate"].notna().all()


def test_no_text_of_a_release_edition_holds_a_small_count():
    edition = released(*LARGE)
    texts = " ".join((*edition.estimates["reason"], *edition.estimates["method"], *edition.counts["reason"]))
    assert not re.search(r"\d+ not due", texts)
    assert edition.estimates["reason"].str.contains("not due").sum() == 0


def test_the_rules_are_sentences_and_say_when_a_figure_is_renewed():
    rules = released(*SMALL).rules
    assert all(rule.endswith(".") for rule in rules)
    assert any("A figure is renewed only when nobody or at least 11 people" in rule for rule in rules)


def test_the_internal_edition_is_the_analysis_untouched():
    tables, analysis = made(*SMALL)
    edition = disclose(analysis, tables, the_study(), "internal")
    pd.testing.assert_frame_equal(edition.estimates, analysis.estimates)
    pd.testing.assert_frame_equal(edition.counts, analysis.counts)
    assert edition.people is tables.outcomes
    assert edition.doses is tables.doses
    assert edition.rejections["n"].tolist() == [4, 30]
    assert "small cells" in edition.rules[0]
    released(*SMALL)
    pd.testing.assert_frame_equal(edition.estimates, analysis.estimates)


def test_a_cohort_below_the_threshold_is_refused():
    tables = cohort([with_pain(i, 8, 5, 5, 5) for i in range(THRESHOLD - 1)])
    analysis = analyse(tables, the_study(), as_of=AS_OF)
    with pytest.raises(DisclosureError, match="at least 11 treated people") as caught:
        disclose(analysis, tables, the_study(), "release")
    assert caught.value.exit_code == 4
    assert disclose(analysis, tables, the_study(), "internal").estimates is analysis.estimates


def test_a_cohort_of_exactly_the_threshold_is_shown():
    tables = cohort([with_pain(i, 8, 5, 5, 5, 5, 5, 5) for i in range(THRESHOLD)])
    analysis = analyse(tables, the_study(), as_of=AS_OF)
    edition = disclose(analysis, tables, the_study(), "release")
    row = edition.estimates.set_index("estimate_id").loc[f"responders/responder/observed/{PAIN}/week_4/30"]
    assert (row["k"], row["n"], row["estimate"]) == (11, 11, 100.0)


@pytest.mark.parametrize(("edition", "threshold"), [("public", 11), ("release", 3)])
def test_an_unknown_edition_or_a_threshold_that_protects_nobody_is_a_bad_definition(edition, threshold):
    tables, analysis = made(*SMALL)
    protocol = the_study().protocol
    study = replace(
        the_study(),
        protocol=protocol.model_copy(
            update={"disclosure": protocol.disclosure.model_copy(update={"threshold": threshold})}
        ),
    )
    with pytest.raises(DefinitionError):
        disclose(analysis, tables, study, edition)


def test_the_order_of_rows_leaves_no_trace_in_a_release():
    tables, _ = made(*SMALL)
    turned = {name: frame.iloc[::-1].reset_index(drop=True) for name, frame in vars(tables).items()}
    again = replace(tables, **turned)
    analysis = analyse(again, the_study(), as_of=AS_OF, not_enrolled={"consent withdrawn": 3})
    second = disclose(analysis, again, the_study(), "release")
    pd.testing.assert_frame_equal(second.estimates, released(*SMALL).estimates)
    pd.testing.assert_frame_equal(second.counts, released(*SMALL).counts)
