"""The pipeline reads from the synthetic cohort exactly what the generator says is in it: no value more, none less."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from crps_outcomes import resources as fhir
from crps_outcomes.context import context
from crps_outcomes.enrolment import SELECTOR_TYPES, enrol
from crps_outcomes.rejections import RULES
from crps_outcomes.stages.score import score
from crps_outcomes.stages.screen import screen
from crps_outcomes.stages.tabulate import tabulate
from crps_outcomes.study import load, locate
from crps_outcomes.synthetic import Options, generate

PULL_RULES = {"superseded", "duplicate"}  # settled before screening


class Nothing:
    """A memory of verdicts that remembers nothing."""

    def get_many(self, hashes):
        return {}

    def put_many(self, verdicts):
        pass


class Read:
    """A cohort, and what screen, tabulate and score make of its newest versions."""

    def __init__(self, options):
        study = load(locate())
        self.study, self.cohort = study, generate(options, study)
        self.truth = self.cohort.truth
        newest = {(name, one["id"]): one for name, own in self.cohort.resources.items() for one in own}
        lines = [(name, json.dumps(one).encode()) for (name, _), one in newest.items()]
        self.held = {}
        for name, raw in lines:
            self.held.setdefault(name, []).append(fhir.decode(name, raw))
        self.enrolled, records = self.enrolment("group").enrolled, self.enrolment("group").records
        wanted = {*study.protocol.pull.resource_types, "Medication"} - {"Consent"}
        screened = screen(
            [line for line in lines if line[0] in wanted],
            records,
            as_of=options.ends_on,
            study=study,
            verdicts=Nothing(),
        )
        self.tables = tabulate(screened, study)
        self.scored = score(self.tables, self.enrolled, study, as_of=options.ends_on)
        every = (*screened.rejections, *self.tables.rejections, *self.scored.rejections)
        self.rejected = {(one.resource_ref, one.rule) for one in every if one.rule != "subject-not-enrolled"}

    def enrolment(self, selector):
        chosen = self.study.protocol.enrolment.model_copy(update={"selector": selector})
        protocol = self.study.protocol.model_copy(update={"enrolment": chosen})
        return enrol(self.held, protocol, as_of=self.cohort.options.ends_on)

    def labelled(self, *, are_rules):
        return {
            (fault["resource_ref"], fault["rule"])
            for fault in self.truth["faults"]
            if fault["rule"] not in {"", *PULL_RULES} and (fault["rule"] in RULES) == are_rules
        }


@pytest.fixture(scope="module")
def read():
    return Read(Options(patients=38))


def test_every_fault_meets_its_rule_and_nothing_else_is_refused(read):
    assert read.rejected == read.labelled(are_rules=True)


def test_every_unusual_dose_carries_its_flag_and_no_other_dose_does(read):
    flags = {(row.source_ref, flag) for row in read.tables.doses.itertuples() for flag in row.flags.split("; ") if flag}
    assert flags == read.labelled(are_rules=False)


@pytest.mark.parametrize("selector", sorted(SELECTOR_TYPES.keys() - {"list"}))
def test_each_selector_enrols_the_same_people(read, selector):
    found = read.enrolment(selector)
    assert sorted(found.enrolled) == read.truth["cohort"]["enrolled"]
    assert found.enrolled == read.enrolled


def test_each_visit_has_the_value_that_was_recorded(read):
    rows = read.scored.outcomes[read.scored.outcomes["state"] == "observed"]
    found = {}
    for row in rows.itertuples():
        found.setdefault(row.subject_id, {}).setdefault(row.measure, {})[row.visit] = row.value
    outcomes = {name for name, measure in read.study.measures.items() if measure.role == "outcome"}
    for person in read.truth["cohort"]["treated"]:
        recorded = read.truth["patients"][person]["recorded"]
        assert found[person] == {name: own for name, own in recorded.items() if name in outcomes}


def test_each_dose_is_the_dose_that_was_given(read):
    found = {row.source_ref: (row.route, row.dose_mg, row.mg_per_kg) for row in read.tables.doses.itertuples()}
    given = {ref: dose for person in read.enrolled for ref, dose in read.truth["patients"][person]["doses"].items()}
    assert set(found) == set(given)
    for ref, (route, mg, per_kg) in found.items():
        assert route == given[ref]["route"]
        assert mg == pytest.approx(given[ref]["dose_mg"], abs=1e-3)
        assert pd.isna(per_kg) == (given[ref]["mg_per_kg"] is None)
        if given[ref]["mg_per_kg"] is not None:
            assert per_kg == pytest.approx(given[ref]["mg_per_kg"], abs=1e-3)


def test_sessions_events_and_populations_are_those_of_the_truth(read):
    told, subjects, doses = read.truth["cohort"], read.scored.subjects, read.tables.doses
    assert sorted(subjects.loc[subjects["is_treated"], "subject_id"]) == told["treated"]
    assert sorted(subjects.loc[subjects["is_analysed"], "subject_id"]) == told["analysed"]
    injected = doses[(doses["route"] == "im") & doses["subject_id"].isin(told["treated"])]
    assert injected.groupby(["subject_id", "session"]).ngroups == read.truth["safety"]["n_sessions"]
    events = read.tables.events
    events = events[(events["kind"] == "adverse event") & events["subject_id"].isin(told["treated"])]
    assert events["term"].value_counts().to_dict() == read.truth["safety"]["adverse_events"]
    assert int(events["is_serious"].sum()) == read.truth["safety"]["serious"]


def test_a_clean_cohort_is_read_without_a_single_refusal():
    clean = Read(Options(patients=6, mess=False))
    assert clean.rejected == set()


def test_the_context_of_everybody_treated_is_that_of_the_truth(read):
    known = context(read.tables, read.scored.subjects, read.study)
    rows = known.context.set_index("subject_id")
    treatments, changes = known.treatments, known.intercurrent
    for person in read.truth["cohort"]["treated"]:
        told, row = read.truth["patients"][person]["context"], rows.loc[person]
        own = treatments[treatments["subject_id"] == person]
        found = {
            "limb": row["limb"],
            "side": row["side"],
            "budapest": row["budapest"],
            "refractory": row["refractory"],
            "earlier": sorted(own.loc[own["is_earlier"], "treatment"]),
            "at_start": sorted(own.loc[own["is_at_start"], "treatment"]),
            "started": sorted(
                changes.loc[
                    (changes["subject_id"] == person) & changes["kind"].isin(["treatment started", "procedure"]), "term"
                ]
            ),
        }
        assert found == told


def test_harms_stops_and_scales_are_those_of_the_truth(read):
    told, events = read.truth["safety"], read.tables.events
    events = events[events["subject_id"].isin(read.truth["cohort"]["treated"])]
    assert events.loc[events["kind"] == "condition", "category"].value_counts().to_dict() == told["harms"]
    assert (events["kind"] == "discontinuation").sum() == told["stops"] > 0
    scales = read.tables.observations[read.tables.observations["measure"] == "dissociation_cadss"]
    scales = scales[scales["subject_id"].isin(read.truth["cohort"]["treated"])]
    assert (scales["value"] > 4).sum() == told["dissociated"] > 0
