"""Bundles saved in a folder: every entry counts like a line, and a page nobody saved is missed."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest
from small_cohort import cohort, counts, newer, observation, order, protocol, write_folder, write_manifest

from crps_outcomes.errors import IncompleteDataError, SourceError
from crps_outcomes.fhir import folder_source
from crps_outcomes.fhir.source import Query
from crps_outcomes.home import Home
from crps_outcomes.stages.pull import pull

BASE = "https://fhir.test/r4"


def pulled(folder):
    return pull(folder_source(folder), protocol(), Home.at(folder / "home"))


@pytest.fixture(scope="module")
def digest(tmp_path_factory):
    return pulled(write_folder(tmp_path_factory.mktemp("lines"), cohort())).snapshot.digest


def bundle(kind, resources, **more):
    entries = [{"fullUrl": f"{BASE}/{one['resourceType']}/{one['id']}", "resource": one} for one in resources]
    return {"resourceType": "Bundle", "type": kind, "entry": entries} | more


def page(resources, number, *, last=1, **more):
    """A page of a saved search with links to its neighbours."""
    others = [("self", number), ("next", number + 1), ("previous", number - 1)]
    link = [{"relation": name, "url": f"{BASE}/Observation?page={n}&_count=9"} for name, n in others if 1 <= n <= last]
    return bundle("searchset", resources, link=link, **more)


def saved(folder, **documents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document, indent=1))
    return folder


def holes(folder):
    with folder_source(folder).open(order(folder)) as session:
        return {part.query_id: part.hole for part in session.parts if part.hole}


def brought(folder):
    """The resources of the types asked for, with (refs, reasons for what is not taken)."""
    with folder_source(folder).open(order(folder)) as session:
        found = [part for name in ("Observation", "Patient") for unit in session.units([Query(name)])
                 for part in session.take(unit)]  # fmt: skip
    return [item.ref for part in found for item in part.items], [
        one.reason for part in found for one in part.unreadable
    ]


OBSERVATIONS = [observation(f"o{number}", "a") for number in range(4)]


@pytest.mark.parametrize("kind", ["collection", "batch", "transaction", "searchset", "history"])
def test_a_cohort_in_bundles_gives_the_digest_of_the_same_cohort_in_lines(kind, tmp_path, digest):
    everything = cohort()
    found = pulled(saved(tmp_path / "bundles", one=bundle(kind, everything[:9]), two=bundle(kind, everything[9:])))
    assert (found.snapshot.digest, found.state) == (digest, "unverified")
    assert found.ledger["received"].sum() == len(everything)


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_packed_bundle_is_read_like_a_plain_one(packing, tmp_path, digest):
    raw = json.dumps(bundle("collection", cohort())).encode()
    packed = gzip.compress(raw) if packing == "gz" else pa.compress(raw, codec="zstd", asbytes=True)
    (tmp_path / f"all.json.{packing}").write_bytes(packed)
    assert pulled(tmp_path).snapshot.digest == digest


def test_a_file_of_one_resource_is_one_resource(tmp_path, digest):
    files = {f"{number:02d}": one for number, one in enumerate(cohort())}
    assert pulled(saved(tmp_path, **files)).snapshot.digest == digest


def test_lines_and_bundles_may_lie_side_by_side(tmp_path, digest):
    everything = cohort()
    write_folder(tmp_path, everything[5:], is_listed=False)
    assert pulled(saved(tmp_path, first=bundle("collection", everything[:5]))).snapshot.digest == digest


def test_one_bad_entry_is_a_rejection_and_loses_nothing_else(tmp_path, digest):
    own = [one for one in cohort() if one["resourceType"] == "Observation"]
    document = bundle("collection", own)
    document["entry"][3:3] = [{"resource": {"resourceType": "Observation", "id": "no id of FHIR"}}, {}, {"resource": 5}]
    others = bundle("collection", [one for one in cohort() if one not in own])
    found = pulled(saved(tmp_path, Observation=document, others=others))
    unreadable = found.snapshot.rejections().query("rule == 'unreadable'")
    assert (found.snapshot.digest, len(unreadable)) == (digest, 3)
    assert found.ledger["received"].sum() == len(cohort()) + 3


def test_a_bad_entry_among_all_types_may_be_the_withdrawal(tmp_path):
    document = bundle("collection", cohort())
    document["entry"][3:3] = [{"resource": 5}]
    with pytest.raises(IncompleteDataError, match="F30 1 cannot be read, so it is not known who is enrolled"):
        pulled(saved(tmp_path, all=document))


def test_a_bundle_larger_than_allowed_is_a_hole(tmp_path):
    saved(tmp_path, all=bundle("collection", [observation("o", "a") | {"note": [{"text": "x" * (1 << 20)}]}]))
    with folder_source(tmp_path).open(order(tmp_path, max_body_mb=1)) as session:
        assert [part.hole for part in session.parts] == ["F39 the file is larger than the 1 MB allowed"]


@pytest.mark.parametrize("kind", ["document", "message", "transaction-response", "subscription-notification"])
def test_a_bundle_that_is_no_store_of_resources_is_refused_by_name(kind, tmp_path):
    assert f"a {kind} Bundle" in holes(saved(tmp_path, all=bundle(kind, OBSERVATIONS)))["all.json"]


def test_a_type_that_no_bundle_has_is_not_repeated(tmp_path):
    (hole,) = holes(saved(tmp_path, all=bundle("Jane Roe", OBSERVATIONS))).values()
    assert "no known type" in hole
    assert "Jane" not in hole


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", '{"log": 1}', '{"resourceType": "Bundle", "entry": 5}', "[" * 10**5]
)
def test_a_json_file_that_is_no_resource_is_a_hole(text, tmp_path):
    saved(tmp_path, all=bundle("collection", cohort()))
    (tmp_path / "notes.json").write_text(text)
    assert list(holes(tmp_path)) == ["notes.json"]
    with pytest.raises(IncompleteDataError, match="a name that the ledger has"):
        pulled(tmp_path)


@pytest.mark.parametrize("name", ["more.jsonl", "more.ndjson.bz2", "more.NDJSON", "more.json.part", "more.xml"])
def test_a_file_in_a_form_that_is_not_read_is_a_hole(name, tmp_path):
    saved(tmp_path, all=bundle("collection", cohort()))
    (tmp_path / name).write_bytes(b"")
    assert list(holes(tmp_path)) == [name]


def test_a_bundle_that_the_manifest_does_not_list_is_a_hole(tmp_path):
    write_folder(tmp_path, cohort())
    assert "does not list" in holes(saved(tmp_path, more=bundle("collection", OBSERVATIONS)))["more.json"]


# --- saved searches -------------------------------------------------------------------------------------------------


def test_all_pages_of_a_search_are_whole_in_any_order_of_names(tmp_path):
    pages = {"b": page(OBSERVATIONS[:2], 1, last=2, total=4), "a": page(OBSERVATIONS[2:], 2, last=2, total=4)}
    assert holes(saved(tmp_path, **pages)) == {}


def test_f07_a_first_page_saved_alone_is_a_hole(tmp_path):
    hole = holes(saved(tmp_path, one=page(OBSERVATIONS[:2], 1, last=2, total=4)))["one.json"]
    assert hole.startswith("F37 the page after this one")


@pytest.mark.parametrize("more", [{}, {"total": 4}])
def test_f07_a_page_missing_in_the_middle_is_a_hole_with_a_total_and_without(more, tmp_path):
    pages = {f"p{n}": page(OBSERVATIONS[n : n + 1], n, last=3, **more) for n in (1, 3)}
    assert set(holes(saved(tmp_path, **pages))) == {"p1.json", "p3.json"}


def test_f07_fewer_matches_than_the_total_are_a_hole(tmp_path):
    hole = holes(saved(tmp_path, one=page(OBSERVATIONS[:3], 1, total=4)))["one.json"]
    assert hole == "F07 the Bundles declare 4, 3 are here (count_mismatch)"


def test_f07_the_same_match_twice_counts_once(tmp_path):
    pages = {"a": page(OBSERVATIONS[:2], 1, last=2, total=4), "b": page(OBSERVATIONS[1:3], 2, last=2, total=4)}
    assert "3 are here" in holes(saved(tmp_path, **pages))["a.json"]


def test_a_page_saved_twice_is_no_hole(tmp_path):
    pages = {
        name: page(OBSERVATIONS[2 * n - 2 : 2 * n], n, last=2, total=4)
        for name, n in zip("abc", (1, 2, 2), strict=True)
    }
    assert holes(saved(tmp_path, **pages)) == {}


def test_f02_pages_in_a_ring_are_a_hole(tmp_path):
    pages = {"a": page(OBSERVATIONS[:2], 1, last=2), "b": page(OBSERVATIONS[2:], 2, last=2)}
    pages["b"]["link"].append({"relation": "next", "url": f"{BASE}/Observation?page=1&_count=9"})
    assert any("F02" in hole for hole in holes(saved(tmp_path, **pages)).values())


def test_f09_only_matches_count_for_the_total_but_included_resources_are_read(tmp_path):
    document = page(OBSERVATIONS, 1, total=4)
    for entry in document["entry"]:
        entry["search"] = {"mode": "match"}
    document["entry"].append({"resource": observation("included", "a"), "search": {"mode": "include"}})
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "information", "code": "x"}]}
    document["entry"].append({"resource": outcome, "search": {"mode": "outcome"}})
    saved(tmp_path, one=document)
    assert holes(tmp_path) == {}
    assert len(brought(tmp_path)[0]) == 5


def test_f23_an_error_inside_a_saved_page_is_a_hole(tmp_path):
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "diagnostics": "Jane Roe"}]}
    document = page(OBSERVATIONS, 1, total=4)
    document["entry"].append({"resource": outcome, "search": {"mode": "outcome"}})
    hole = holes(saved(tmp_path, one=document))["one.json"]
    assert hole.startswith("F23")
    assert "Jane" not in hole


# --- deletions ------------------------------------------------------------------------------------------------------


def gone(*refs):
    return [{"request": {"method": "DELETE", "url": ref}} for ref in refs]


def test_f40_what_a_transaction_deletes_is_rejected_and_counted(tmp_path):
    document = bundle("transaction", OBSERVATIONS)
    later = {"resourceType": "Bundle", "type": "transaction", "entry": gone("Observation/o1", f"{BASE}/Patient/z")}
    saved(tmp_path, a=document, b=later)
    with folder_source(tmp_path).open(order(tmp_path)) as session:
        assert session.deleted == {("Observation", "o1"), ("Patient", "z")}
    refs, reasons = brought(tmp_path)
    assert refs == ["Observation/o0", "Observation/o2", "Observation/o3"]
    assert reasons == ["the source lists it as deleted (F40)"]


def test_f40_a_history_deletes_only_what_it_did_not_bring_again(tmp_path):
    back, away = observation("back", "a"), observation("away", "a")
    document = bundle("history", [newer(back)])
    document["entry"] += [*gone("Observation/back", "Observation/away"), {"resource": away}, {"resource": back}]
    refs, reasons = brought(saved(tmp_path, all=document))
    assert (refs, len(reasons)) == (["Observation/back", "Observation/back"], 1)


@pytest.mark.parametrize("url", ["Observation?identifier=x", "Observation", "", "../../x", "Observation/../x"])
def test_f40_a_deletion_that_names_no_resource_is_a_hole(url, tmp_path):
    document = {"resourceType": "Bundle", "type": "transaction", "entry": gone(url)}
    assert holes(saved(tmp_path, all=document))["all.json"].startswith("F40")


def test_a_change_sent_as_a_patch_is_a_hole(tmp_path):
    document = bundle("transaction", OBSERVATIONS)
    document["entry"][0]["request"] = {"method": "PATCH", "url": "Observation/o0"}
    assert "PATCH" in holes(saved(tmp_path, all=document))["all.json"]


def listed_deletions(folder, *lines, **more):
    (folder / "deleted.ndjson").write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    output = json.loads((folder / "manifest.json").read_text())["output"]
    files = {one["url"].rsplit("/", 1)[-1]: (one["type"], one["count"]) for one in output}
    write_manifest(folder, files, deleted=[{"type": "Bundle", "url": "deleted.ndjson"} | more])
    return folder


def test_f40_what_an_export_lists_as_deleted_is_gone_and_counted(tmp_path):
    whole = pulled(write_folder(tmp_path / "whole", cohort()))
    folder = write_folder(tmp_path / "export", cohort())
    line = {"resourceType": "Bundle", "type": "transaction", "entry": gone("Observation/a-1", "Observation/gone")}
    found = pulled(listed_deletions(folder, line, count=1))
    assert counts(found) == counts(whole) | {"Observation": counts(whole)["Observation"] - 1}
    assert found.snapshot.rejections()["reason"].str.contains("lists it as deleted").sum() == 1
    assert found.ledger["received"].sum() == len(cohort())


def test_f36_fewer_lists_of_deletions_than_declared_are_a_hole(tmp_path):
    folder = listed_deletions(write_folder(tmp_path, cohort()), count=1)
    assert holes(folder)["manifest.json deleted"].startswith("F36")


# --- exports of changes only ----------------------------------------------------------------------------------------


def test_f44_an_export_of_changes_only_never_passes_for_a_full_one(tmp_path):
    write_folder(tmp_path, cohort())
    document = json.loads((tmp_path / "manifest.json").read_text())
    document["request"] = f"{BASE}/$export?_since=2026-02-01T00:00:00%2B01:00"
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    assert holes(tmp_path)["manifest.json request"].startswith("F44")


def test_f42_an_export_that_was_not_asked_for_consents_does_not_say_that_there_are_none(tmp_path):
    write_folder(tmp_path, [one for one in cohort() if one["resourceType"] != "Consent"])
    document = json.loads((tmp_path / "manifest.json").read_text())
    for types, expected in (("Group,Patient,Observation", ["Consent"]), ("Group,Consent,Patient", [])):
        document["request"] = f"{BASE}/$export?_type={types}"
        (tmp_path / "manifest.json").write_text(json.dumps(document))
        with folder_source(tmp_path).open(order(tmp_path)) as session:
            assert [part.resource_type for part in session.parts if "not asked for" in part.hole] == expected


@pytest.mark.parametrize("request_", [None, 5, "no address", ["x"], "https://fhir.test/$export?_since=yesterday"])
def test_f45_a_mangled_request_in_a_manifest_is_only_information(request_, tmp_path):
    write_folder(tmp_path, cohort())
    document = json.loads((tmp_path / "manifest.json").read_text()) | {"request": request_, "error": None}
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    assert holes(tmp_path) == {}


def test_a_folder_of_nothing_to_read_is_a_source_error(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(SourceError, match=r"no \.ndjson or \.json"):
        holes(tmp_path)
