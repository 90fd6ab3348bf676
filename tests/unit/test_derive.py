"""Deriving in parts: how many there are leaves no trace, nor does a merged record; and which day decides who counts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pandas as pd
from small_cohort import cohort, consent, protocol, write_folder

from crps_outcomes import derive
from crps_outcomes.fhir import folder_source
from crps_outcomes.home import Home
from crps_outcomes.stages.pull import pull
from crps_outcomes.state import Verdicts
from crps_outcomes.study import load, locate
from crps_outcomes.synthetic import Options, generate, write_ndjson

if TYPE_CHECKING:
    from pathlib import Path

    from crps_outcomes.synthetic import Cohort
    from crps_outcomes.tables import Tables

STUDY = load(locate())


def test_the_number_of_partitions_leaves_no_trace(tmp_path):
    whole = generate(Options(patients=12, seed=4), STUDY)
    vial = whole.resources["Medication"][0] | {"notAnElement": 1}
    given = [
        {**one, "medicationReference": {"reference": f"Medication/{vial['id']}"}}
        for one in whole.resources["MedicationAdministration"]
    ]
    for one in given:
        one.pop("medicationCodeableConcept", None)
    changed = {"Medication": [vial], "MedicationAdministration": given}
    changed_cohort = replace(whole, resources={**whole.resources, **changed})
    home = Home.at(tmp_path / "home")
    snapshot = pull(folder_source(write_ndjson(changed_cohort, tmp_path / "cohort")), STUDY.protocol, home).snapshot

    def tables(partitions: int):
        plan = derive.plan(snapshot, STUDY, home, as_of=date(2026, 10, 31), partitions=partitions)
        for number in range(partitions):
            derive.derive_partition(plan, number, Verdicts(home.state_url))
        return derive.gather(plan)

    one, parts = tables(1), tables(3)
    assert "Medication" in set(one.rejections["resource_type"])
    for name in derive.PARTS:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(parts, name))


def test_a_person_with_a_merged_record_gives_the_same_tables_as_with_one(tmp_path):
    whole = generate(Options(patients=12, seed=4), STUDY)
    merged = with_a_merged_record(whole, "crps-000001", "record-of-old")
    assert derive.partition_of("crps-000001", 3) != derive.partition_of("record-of-old", 3)
    expected, found = (derived(one, tmp_path / name, partitions=3) for name, one in (("one", whole), ("two", merged)))
    assert {"crps-000001", "record-of-old"} & set(expected.observations["subject_id"]) == {"crps-000001"}
    for name in ("subjects", "doses", "observations", "events", "outcomes"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name))
    refused = found.rejections[~found.rejections["resource_ref"].isin(expected.rejections["resource_ref"])]
    assert refused[["resource_ref", "rule"]].to_numpy().tolist() == [["Patient/record-of-old", "merged-record"]]


def with_a_merged_record(cohort: Cohort, survivor: str, old: str) -> Cohort:
    """The old record is in the Group instead of the survivor, and half of what is known of the person is about it."""
    changed: dict[str, list[dict[str, Any]]] = {}
    for name, resources in cohort.resources.items():
        texts = [json.dumps(one) for one in resources]
        is_moved = [name == "Group" or (name != "Patient" and number % 2 == 0) for number in range(len(texts))]
        moved = [text.replace(f'"Patient/{survivor}"', f'"Patient/{old}"') for text in texts]
        changed[name] = [
            json.loads(new if is_one else text) for text, new, is_one in zip(texts, moved, is_moved, strict=True)
        ]
    (person,) = {one["id"]: one for one in changed["Patient"] if one["id"] == survivor}.values()
    link = [{"other": {"reference": f"Patient/{survivor}"}, "type": "replaced-by"}]
    changed["Patient"].append({**person, "id": old, "link": link})
    return replace(cohort, resources=changed)


def derived(cohort: Cohort, folder: Path, partitions: int) -> Tables:
    home = Home.at(folder / "home")
    snapshot = pull(folder_source(write_ndjson(cohort, folder / "cohort")), STUDY.protocol, home).snapshot
    plan = derive.plan(snapshot, STUDY, home, as_of=date(2026, 10, 31), partitions=partitions)
    for number in range(partitions):
        derive.derive_partition(plan, number, Verdicts(home.state_url))
    return derive.gather(plan)


def test_a_withdrawal_that_takes_effect_after_the_pull_counts_from_its_day(tmp_path):
    denied = consent("b", provision={"type": "deny", "period": {"start": "2026-03-10"}})  # pulled on the first
    others = [one for one in cohort() if one["id"] != "consent-b"]
    folder = write_folder(tmp_path, [*others, denied])
    snapshot = pull(folder_source(folder), protocol(), Home.at(tmp_path / "home")).snapshot
    study = replace(STUDY, protocol=protocol())
    on = {day: derive.enrolled_people(snapshot, study, date(2026, 3, day)) for day in (9, 10)}
    assert [(list(one.enrolled), one.n_consent_revoked) for one in on.values()] == [
        (["a", "b", "c"], 1),
        (["a", "c"], 2),
    ]
