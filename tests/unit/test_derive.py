"""Deriving in parts: how many there are leaves no trace, even where a refused Medication belongs to every part."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pandas as pd

from crps_outcomes import derive
from crps_outcomes.fhir import folder_source
from crps_outcomes.home import Home
from crps_outcomes.stages.pull import pull
from crps_outcomes.state import Verdicts
from crps_outcomes.study import load, locate
from crps_outcomes.synthetic import Options, generate, write_ndjson

STUDY = load(locate())


def test_the_number_of_partitions_leaves_no_trace(tmp_path):
    cohort = generate(Options(patients=12, seed=4), STUDY)
    vial = cohort.resources["Medication"][0] | {"notAnElement": 1}
    given = [
        {**one, "medicationReference": {"reference": f"Medication/{vial['id']}"}}
        for one in cohort.resources["MedicationAdministration"]
    ]
    for one in given:
        one.pop("medicationCodeableConcept", None)
    changed = {"Medication": [vial], "MedicationAdministration": given}
    cohort = replace(cohort, resources={**cohort.resources, **changed})
    home = Home.at(tmp_path / "home")
    snapshot = pull(folder_source(write_ndjson(cohort, tmp_path / "cohort")), STUDY.protocol, home).snapshot

    def tables(partitions: int):
        plan = derive.plan(snapshot, STUDY, home, as_of=date(2026, 10, 31), partitions=partitions)
        for number in range(partitions):
            derive.derive_partition(plan, number, Verdicts(home.state_url))
        return derive.gather(plan)

    whole, parts = tables(1), tables(3)
    assert "Medication" in set(whole.rejections["resource_type"])
    for name in derive.PARTS:
        pd.testing.assert_frame_equal(getattr(whole, name), getattr(parts, name))
