"""A run is named by everything its bytes depend on."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

from cohort_tables import the_study
from report_fixture import provenance

from crps_outcomes.language import Form
from crps_outcomes.plan_history import PlanRecord
from crps_outcomes.provenance import code_digest, software_versions, trace

CHANGES = {
    "snapshot": "6" * 64, "study": "8" * 64, "code": "d" * 64, "as_of": date(2026, 6, 13), "edition": "release",
    "report": "quality", "data_status": "unverified", "source_kind": "folder", "selector": "care_plan",
    "software": {"python": "3.12"}, "is_synthetic": False, "compared_with": "9" * 64, "compared_with_on": "2026-06-01",
    "holes": ("Observation F19",), "plan": PlanRecord("b" * 64, "2026-06-12"), "before_run": "r1",
    "restated": "f" * 64, "form": Form(paper="Letter"), "valid_until": "2026-07-12",
}  # fmt: skip


def test_the_same_provenance_has_the_same_name_and_any_change_another():
    own = provenance()
    assert own.run_id == provenance().run_id
    assert re.fullmatch(r"evidence-internal-2026-06-12-[0-9a-f]{12}", own.run_id)
    names = {replace(own, **{key: value}).run_id for key, value in CHANGES.items()}
    assert len(names | {own.run_id}) == len(CHANGES) + 1
    assert set(CHANGES) == set(own.record)


def package(folder, **files: str):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_py", ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_code_digest_covers_names_and_contents_but_not_the_card_of_the_wheel(tmp_path):
    first = code_digest(package(tmp_path / "1", a_py="one = 1\n"))
    assert (
        code_digest(package(tmp_path / "2", a_py="one = 1\n", card__flows__b_py="two = 2\n", notes="not code")) == first
    )
    assert code_digest(package(tmp_path / "3", c_py="one = 1\n")) != first
    assert code_digest(package(tmp_path / "4", a_py="one = 2\n")) != first


def test_a_trace_takes_the_manifest_and_the_study_at_their_word():
    class Manifest:
        digest, completeness, source_kind, selector = "1" * 64, "unverified", "folder", "group"
        before, before_on, holes = "2" * 64, "2026-06-01", ()

    made = trace(Manifest(), the_study(), "evidence", "release", date(2026, 6, 12))
    assert (made.snapshot, made.data_status, made.selector) == ("1" * 64, "unverified", "group")
    assert made.study == the_study().digest
    assert made.software == software_versions()
    assert {"python", "weasyprint", "pandas"} <= set(made.software)
