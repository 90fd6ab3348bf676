"""The numbers of the report against the truth of the synthetic cohort: the whole way, folder to ESTIMATES.

A generator with known truth is the only patient whose answers we know. The fast tests ask for the very numbers its
facts give; the slow one asks whether the estimates of many cohorts centre on the truth of the population.
"""

from __future__ import annotations

import math
import statistics
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from crps_outcomes import derive
from crps_outcomes.fhir import folder_source
from crps_outcomes.home import Home
from crps_outcomes.stages.analyse import analyse
from crps_outcomes.stages.pull import pull
from crps_outcomes.state import Verdicts
from crps_outcomes.study import load, locate
from crps_outcomes.synthetic import Options, generate, population_truth, write_ndjson

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

STUDY = load(locate())
SEEDS = range(1, 21)


def whole_way(options: Options, place: Path) -> tuple[dict[str, Any], Any, pd.DataFrame]:
    """The cohort's truth, and the tables and ESTIMATES (by id) that the pipeline makes of its folder."""
    cohort = generate(options, STUDY)
    home = Home.at(place / "home")
    snapshot = pull(folder_source(write_ndjson(cohort, place / "cohort")), STUDY.protocol, home).snapshot
    as_of = date.fromisoformat(snapshot.manifest.data_as_of)
    plan = derive.plan(snapshot, STUDY, home, as_of=as_of, partitions=2)
    for number in range(plan.partitions):
        derive.derive_partition(plan, number, Verdicts(home.state_url))
    tables = derive.gather(plan)
    estimates = analyse(tables, STUDY, as_of=as_of).estimates.set_index("estimate_id")
    return dict(cohort.truth), tables, estimates


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> tuple[dict[str, Any], Any, pd.DataFrame]:
    return whole_way(Options(patients=40, seed=11), tmp_path_factory.mktemp("truth"))


def test_change_in_pain_and_response_are_those_of_the_facts(found):
    truth, _, estimates = found
    measure = STUDY.protocol.outcomes.primary  # other measures' facts cover people without a pain score too
    for visit, expected in truth["sample"][measure].items():
        row = estimates.loc[f"pain/mean_change/analysed/{measure}/{visit}/-"]
        assert row["n"] == expected["n"]
        assert row["estimate"] == pytest.approx(expected["mean_change"], abs=1e-4)
        assert row["sd"] == pytest.approx(expected["sd_change"], abs=1e-4)
        for percent, people in expected["n_responders"].items():
            assert estimates.loc[f"responders/responder/observed/{measure}/{visit}/{percent}", "k"] == people


def test_people_sessions_and_events_are_those_of_the_facts(found):
    truth, tables, estimates = found
    subjects = tables.subjects.set_index("subject_id")
    assert sorted(subjects.index) == sorted(truth["cohort"]["enrolled"])
    assert sorted(subjects.index[subjects["is_treated"]]) == sorted(truth["cohort"]["treated"])
    assert sorted(subjects.index[subjects["is_analysed"]]) == sorted(truth["cohort"]["analysed"])
    assert estimates.loc["dosing/count/treated/-/-/sessions", "k"] == truth["safety"]["n_sessions"]
    for term, events in truth["safety"]["adverse_events"].items():
        assert estimates.loc[f"safety/per_100_sessions/treated/-/-/{term}", "k"] == events


def test_every_labelled_fault_is_refused_for_its_reason_and_none_is_counted_as_data(found):
    truth, tables, _ = found
    refused = set(zip(tables.rejections["resource_ref"], tables.rejections["rule"], strict=True))
    flags = tables.doses.set_index("source_ref")["flags"]
    used = {*tables.observations["source_ref"], *tables.doses["source_ref"], *tables.events["source_ref"]}
    rules = set(tables.rejections["rule"])
    for fault in truth["faults"]:
        ref, rule = fault["resource_ref"], fault["rule"]
        if not rule:
            continue  # handled without refusal: the unit tests of each stage compare the value
        if rule in rules and (ref, rule) in refused:
            whole = rule not in {"duplicate", "superseded", "two-values", "items-missing", "total-disagrees-with-items"}
            assert not (whole and ref in used), fault["fault"]
        else:
            assert rule in flags.get(ref, ""), fault["fault"]


def test_no_number_depends_on_people_who_are_not_enrolled(found):
    truth, tables, _ = found
    strangers = {*truth["cohort"]["not_listed"], *truth["cohort"]["consent_revoked"], *truth["cohort"]["inactive"]}
    for frame in (tables.doses, tables.observations, tables.events, tables.outcomes):
        assert not strangers & set(frame["subject_id"])


@pytest.mark.slow
def test_the_truth_of_the_population_is_recovered_over_twenty_seeds(tmp_path):
    """With nobody leaving, the estimates centre on the truth; with leaving that depends on the outcome they do not,
    and the two denominators lie on either side of it."""
    complete = [_summary(Options(patients=40, seed=seed, dropout=False), tmp_path / f"all-{seed}") for seed in SEEDS]
    leaving = [_summary(Options(patients=40, seed=seed), tmp_path / f"left-{seed}") for seed in SEEDS]
    truth = population_truth(Options())
    for visit in ("week_4", "week_12"):
        expected = {
            "change": truth.mean_change["pain_nrs"][visit],
            "responders": truth.responder_percent["30"][visit],
        }
        for name, true_value in expected.items():
            values = [one[visit][name] for one in complete]
            standard_error = statistics.stdev(values) / math.sqrt(len(values))
            assert abs(statistics.mean(values) - true_value) < 3 * standard_error, (visit, name)
    observed = statistics.mean(one["week_12"]["responders"] for one in leaving)
    missing_as_none = statistics.mean(one["week_12"]["responders_of_all"] for one in leaving)
    assert missing_as_none < truth.responder_percent["30"]["week_12"] < observed


def _summary(options: Options, place: Path) -> dict[str, dict[str, float]]:
    _, _, estimates = whole_way(options, place)
    share = "responders/responder/{}/pain_nrs/{}/30"
    return {
        visit: {
            "change": float(estimates.loc[f"pain/mean_change/analysed/pain_nrs/{visit}/-", "estimate"]),
            "responders": float(estimates.loc[share.format("observed", visit), "estimate"]),
            "responders_of_all": float(estimates.loc[share.format("missing = non-responder", visit), "estimate"]),
        }
        for visit in ("week_4", "week_12")
    }
