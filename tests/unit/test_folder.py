"""A folder of NDJSON: with a manifest every line is accounted for or missed; without one the pull says so."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest
from small_cohort import (
    KEPT,
    cohort,
    consent,
    counts,
    ndjson,
    newer,
    observation,
    order,
    protocol,
    resource,
    write_folder,
    write_manifest,
)

from crps_outcomes.errors import IncompleteDataError, NoPatientsError, SourceError
from crps_outcomes.fhir import folder as folder_module
from crps_outcomes.fhir import folder_source
from crps_outcomes.fhir.source import Query
from crps_outcomes.home import Home
from crps_outcomes.stages.pull import pull


def pulled(folder, **settings):
    return pull(folder_source(folder), protocol(**settings), Home.at(folder / "home"))


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "export", cohort())


@pytest.fixture(scope="module")
def digest(tmp_path_factory):
    return pulled(write_folder(tmp_path_factory.mktemp("clean"), cohort())).snapshot.digest


def test_a_listed_folder_is_complete_and_every_line_is_accounted_for(folder):
    found = pulled(folder)
    assert (found.state, counts(found)) == ("complete", KEPT)
    assert found.ledger["received"].sum() == len(cohort())
    assert (found.ledger["accepted"] + found.ledger["rejected"] == found.ledger["received"]).all()
    assert (found.snapshot.manifest.pulled_at, found.snapshot.manifest.data_as_of) == (
        "2026-03-01T12:00:00Z", "2026-02-01",
    )  # fmt: skip


def test_a_folder_without_manifest_is_unverified(tmp_path, digest):
    found = pulled(write_folder(tmp_path, cohort(), is_listed=False))
    assert (found.state, found.snapshot.digest) == ("unverified", digest)


def test_a_listed_file_without_count_is_unverified(folder):
    counted = {f"{name}.ndjson": (name, None) for name in {one["resourceType"] for one in cohort()}}
    write_manifest(folder, counted)
    assert pulled(folder).state == "unverified"


@pytest.mark.parametrize("packing", ["gz", "zst", "one file"])
def test_how_the_lines_are_packed_does_not_matter(packing, folder, digest):
    if packing == "one file":
        for path in folder.glob("*"):
            path.unlink()
        (folder / "all.ndjson").write_bytes(ndjson(cohort()))
    for path in folder.glob("*.ndjson") if packing != "one file" else ():
        raw = path.read_bytes()
        packed = gzip.compress(raw) if packing == "gz" else pa.compress(raw, codec="zstd", asbytes=True)
        path.with_name(f"{path.name}.{packing}").write_bytes(packed)
        path.unlink()
    found = pulled(folder)
    assert found.snapshot.digest == digest
    assert found.ledger["received"].sum() == len(cohort())


def test_long_files_are_read_in_pieces(folder, digest, monkeypatch):
    monkeypatch.setattr(folder_module, "_LINES_IN_A_PART", 3)
    found = pulled(folder)
    assert found.snapshot.digest == digest
    assert found.ledger.query("resource_type == 'Observation'")["part"].max() == 8


def test_duplicates_and_older_versions_are_rejections_under_their_own_rule(tmp_path, digest):
    first, *others = [one for one in cohort() if one["resourceType"] == "Observation"]
    rest = [one for one in cohort() if one["resourceType"] != "Observation"]
    amended = pulled(write_folder(tmp_path / "amended", [*rest, newer(first), first, *others, others[0]]))
    assert set(amended.snapshot.rejections()["rule"]) == {"duplicate", "superseded"}
    assert (
        amended.snapshot.digest
        == pulled(write_folder(tmp_path / "plain", [*rest, newer(first), *others])).snapshot.digest
    )
    assert amended.snapshot.digest != digest


def test_nothing_of_anybody_else_is_kept(folder):
    found = pulled(folder)
    kept = b"".join(line for name in found.snapshot.types() if name != "Group" for line in found.snapshot.lines(name))
    stored = b"".join(path.read_bytes() for path in (folder / "home").rglob("*") if path.suffix in {".csv", ".json"})
    for stranger in (b"Patient/x", b"Patient/d", b'"x-', b"of-others"):
        assert stranger not in kept + stored
    assert kept.count(b"Patient/e") == 1  # the Consent that says e withdrew
    assert b'"e-' not in kept


def test_what_names_nobody_belongs_to_nobody(folder, digest):
    with (folder / "Observation.ndjson").open("ab") as file:
        file.write(b'{"resourceType":"Observation","id":"whose"}\n')
    write_manifest(folder, {f"{name}.ndjson": (name, None) for name in {one["resourceType"] for one in cohort()}})
    assert pulled(folder).snapshot.digest == digest


def test_f28_a_urn_that_no_patient_answers_to_is_a_rejection_and_one_of_a_stranger_is_not(tmp_path):
    stranger = "8c5ad3c8-8e2f-4a9c-9d3e-27f27f27f27f"
    loose = [observation("whose", f"urn:uuid:{stranger[:-1]}0"), observation("theirs", f"urn:uuid:{stranger}")]
    written = [one | {"subject": {"reference": one["subject"]["reference"].removeprefix("Patient/")}} for one in loose]
    found = pulled(write_folder(tmp_path, [*cohort(), resource("Patient", stranger), *written]))
    told = found.snapshot.rejections()
    assert list(zip(told["resource_ref"], told["rule"], strict=True)) == [("Observation/whose", "subject-missing")]


# --- holes ----------------------------------------------------------------------------------------------------------


def refused(folder, words):
    with pytest.raises(IncompleteDataError, match=words):
        pulled(folder)
    assert list(Home.at(folder / "home").snapshots.iterdir()) == []


def test_one_line_fewer_than_listed_is_a_hole(folder):
    path = folder / "Observation.ndjson"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    refused(folder, r"Observation.*F36.*declares 24 lines, the file holds 23")


def test_one_line_more_than_listed_is_a_hole(folder):
    with (folder / "Observation.ndjson").open("ab") as file:
        file.write(b'{"resourceType":"Observation","id":"more"}\n')
    refused(folder, "F36")


CHANGES = {
    "a line fewer": lambda raw: gzip.compress(gzip.decompress(raw).split(b"\n", 1)[1]),
    "twice as long": lambda raw: raw + raw,
    "cut": lambda raw: raw[:-9],
    "gone": lambda _: b"",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_after_the_look_is_a_hole(change, tmp_path):
    path = tmp_path / "Observation.ndjson.gz"
    path.write_bytes(gzip.compress(ndjson([observation(f"o{number}", "a") for number in range(5)])))
    with folder_source(tmp_path).open(order(tmp_path)) as session:
        path.write_bytes(CHANGES[change](path.read_bytes()))
        (unit,) = session.units([Query("Observation")])
        *_, last = session.take(unit)
    assert last.hole == "F39 the file changed while it was read"


def test_a_missing_file_is_a_hole(folder):
    (folder / "Observation.ndjson").unlink()
    refused(folder, "Observation.ndjson.*F37")


def test_a_file_the_manifest_does_not_list_is_a_hole(folder):
    (folder / "Leftover.ndjson").write_bytes(b"")
    refused(folder, "a name that the ledger has.*does not list")


def test_a_consent_that_cannot_be_read_is_a_hole(folder):
    path = folder / "Consent.ndjson"
    path.write_bytes(path.read_bytes().replace(b'"status": "inactive"', b'"status": 5'))
    refused(folder, "Consent.*F30.*not known who is enrolled")


@pytest.mark.parametrize(("more", "words"), [
    ({"error": [{"type": "OperationOutcome", "url": "errors.ndjson"}]}, "F35 the export reports errors"),
    ({"error": [{"type": "OperationOutcome", "url": "gone.ndjson"}]}, "F37"),
    ({"deleted": [{"type": "Bundle", "url": "gone.ndjson"}]}, "deleted.*F37"),
    ({"deleted": [{"type": "Bundle", "url": "errors.ndjson"}]}, "deleted.*F40"),
])  # fmt: skip
def test_what_an_export_says_went_wrong_is_a_hole(more, words, folder):
    issue = {"severity": "error", "code": "exception", "diagnostics": "Jane Roe"}
    (folder / "errors.ndjson").write_bytes(ndjson([{"resourceType": "OperationOutcome", "issue": [issue]}]))
    output = json.loads((folder / "manifest.json").read_text())["output"]
    listed = {one["url"].rsplit("/", 1)[-1]: (one["type"], one["count"]) for one in output}
    write_manifest(folder, listed, **({"error": [{"type": "O", "url": "errors.ndjson"}]} | more))
    refused(folder, words)


def test_warnings_of_an_export_are_no_hole(folder, digest):
    issue = {"severity": "warning", "code": "not-supported"}
    (folder / "errors.ndjson").write_bytes(ndjson([{"resourceType": "OperationOutcome", "issue": [issue]}]))
    output = json.loads((folder / "manifest.json").read_text())["output"]
    listed = {one["url"].rsplit("/", 1)[-1]: (one["type"], one["count"]) for one in output}
    write_manifest(folder, listed, error=[{"type": "OperationOutcome", "url": "errors.ndjson"}])
    assert pulled(folder).snapshot.digest == digest


# --- lines that are none --------------------------------------------------------------------------------------------


def test_a_line_that_is_no_resource_is_a_rejection_and_loses_nothing_else(folder, digest):
    path = folder / "Observation.ndjson"
    path.write_bytes(b"not JSON\n" + path.read_bytes() + b'{"resourceType":"Observation"}\n')
    write_manifest(folder, {f"{name}.ndjson": (name, None) for name in {one["resourceType"] for one in cohort()}})
    found = pulled(folder)
    unreadable = found.snapshot.rejections().query("rule == 'unreadable'")
    assert found.snapshot.digest == digest
    assert sorted(unreadable["resource_ref"]) == [
        "Observation/Observation.ndjson line 1", "Observation/Observation.ndjson line 26",
    ]  # fmt: skip
    assert found.ledger["received"].sum() == len(cohort()) + 2


def test_blank_lines_and_a_missing_last_line_break_are_fine(folder, digest):
    path = folder / "Observation.ndjson"
    path.write_bytes(b"\n\r\n" + path.read_bytes().replace(b"\n", b"\r\n\n").rstrip())
    assert pulled(folder).snapshot.digest == digest


def test_f23_an_error_among_the_lines_is_a_hole_and_a_hint_is_none(folder, digest):
    path, whole = folder / "Observation.ndjson", (folder / "Observation.ndjson").read_bytes()
    names = {one["resourceType"] for one in cohort()}
    write_manifest(folder, {f"{name}.ndjson": (name, None) for name in names})
    for severity in ("information", "error"):
        issue = {"severity": severity, "code": "incomplete", "diagnostics": "Jane Roe"}
        path.write_bytes(whole + ndjson([{"resourceType": "OperationOutcome", "issue": [issue]}]))
        if severity == "information":
            assert pulled(folder).snapshot.digest == digest
    with pytest.raises(IncompleteDataError, match=r"Observation.*F23") as caught:
        pulled(folder)
    assert "Jane" not in str(caught.value)


def test_f28_a_consent_that_may_be_anybodys_is_a_hole_and_one_of_a_stranger_is_not(folder):
    names = {one["resourceType"] for one in cohort()}
    write_manifest(folder, {f"{name}.ndjson": (name, None) for name in names})
    known = resource("Patient", "y", identifier=[{"system": "urn:ids", "value": "7"}])
    with (folder / "Patient.ndjson").open("ab") as file:
        file.write(ndjson([known]))
    path = folder / "Consent.ndjson"
    whole = path.read_bytes()
    path.write_bytes(whole + ndjson([consent("y") | {"patient": {"identifier": known["identifier"][0]}}]))
    assert counts(pulled(folder)) == KEPT
    path.write_bytes(whole + ndjson([consent("y") | {"patient": {"display": "someone"}}]))
    with pytest.raises(IncompleteDataError, match=r"Consent.*F28 1 name nobody.*not known who withdrew"):
        pulled(folder)


def test_f39_a_line_of_another_type_in_a_listed_file_is_a_rejection(folder):
    path = folder / "Observation.ndjson"
    path.write_bytes(ndjson([{"resourceType": "Basic", "id": "other"}]) + path.read_bytes().split(b"\n", 1)[1])
    told = pulled(folder).snapshot.rejections()
    assert list(told["resource_ref"]) == ["Observation/Observation.ndjson line 1"]
    assert list(told["rule"]) == ["unreadable"]


def test_f42_that_a_listed_type_is_empty_is_confirmed_by_nothing(folder):
    (folder / "Observation.ndjson").write_bytes(b"")
    listed = {f"{one['resourceType']}.ndjson": (one["resourceType"], 0) for one in cohort()}
    for name in listed:
        listed[name] = (listed[name][0], len((folder / name).read_bytes().splitlines()))
    write_manifest(folder, listed)
    assert pulled(folder).state == "unverified"


def test_f42_a_type_that_was_there_the_night_before_and_is_gone_is_a_hole_until_somebody_says_it_is_right(tmp_path):
    home, events = Home.at(tmp_path / "home"), [one for one in cohort() if one["resourceType"] == "AdverseEvent"]
    rest = [one for one in cohort() if one not in events]
    pull(folder_source(write_folder(tmp_path / "first", cohort())), protocol(), home)
    second = folder_source(write_folder(tmp_path / "second", rest))
    with pytest.raises(IncompleteDataError, match=r"AdverseEvent.*F42.*--whole"):
        pull(second, protocol(), home)
    assert "AdverseEvent" not in counts(pull(second, protocol(), home, is_whole=True))
    pull(second, protocol(), home)


def test_f42_a_type_goes_with_the_only_person_it_was_about(tmp_path):
    home = Home.at(tmp_path / "home")
    events = [one for one in cohort() if one["resourceType"] == "AdverseEvent" and one["id"] != "event-a"]
    rest = [one for one in cohort() if one["resourceType"] != "AdverseEvent"]
    pull(folder_source(write_folder(tmp_path / "first", [*rest, events[0]])), protocol(), home)
    withdrawn = [consent("b", status="inactive") if one["id"] == "consent-b" else one for one in rest]
    assert "AdverseEvent" not in counts(
        pull(folder_source(write_folder(tmp_path / "second", withdrawn)), protocol(), home)
    )


# --- sources that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{", "[]", '{"output": []}', '{"transactionTime": "yesterday", "output": []}'])
def test_a_manifest_that_is_none_is_a_source_error(text, tmp_path):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(SourceError, match=r"manifest\.json"):
        pulled(tmp_path)


def test_a_folder_that_is_none_is_a_source_error(tmp_path):
    with pytest.raises(SourceError, match="no such folder"):
        pull(folder_source(tmp_path / "none"), protocol(), Home.at(tmp_path))
    with pytest.raises(SourceError, match=r"no \.ndjson"):
        pull(folder_source(tmp_path), protocol(), Home.at(tmp_path / "home"))


def test_a_folder_about_nobody_is_an_error_of_its_own(tmp_path):
    strangers = [one for one in cohort() if one["resourceType"] != "Group"]
    with pytest.raises(NoPatientsError):
        pulled(write_folder(tmp_path, strangers))
