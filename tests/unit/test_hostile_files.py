"""Files made to harm: bombs, endless lines, cut files, mangled JSON, names that lead elsewhere (T6, T7, T9, T37)."""

from __future__ import annotations

import gzip
import json
import random
import re
import subprocess
import sys
from itertools import repeat

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_cohort import KEPT, cohort, counts, ndjson, observation, order, protocol, write_folder, write_manifest

from crps_outcomes.fhir import folder_source
from crps_outcomes.fhir.files import lines_in
from crps_outcomes.fhir.source import Item, Query, read_item
from crps_outcomes.fhir.unpack import UnpackError, blocks, lines
from crps_outcomes.home import Home
from crps_outcomes.stages.pull import pull

MEGABYTE = 1 << 20


def packed(raw, packing):
    return {
        "plain": lambda: raw,
        "gz": lambda: gzip.compress(raw),
        "zst": lambda: pa.compress(raw, codec="zstd", asbytes=True),
    }[packing]()


def ending(packing):
    return "" if packing == "plain" else f".{packing}"


# --- T6: larger than anything honest --------------------------------------------------------------------------------

WEIGHED = """
import resource, sys, time
from pathlib import Path
from crps_outcomes.fhir import folder_source
from crps_outcomes.fhir.source import Order
from crps_outcomes.study import load, locate
limits = load(locate()).protocol.pull
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
with folder_source(Path(sys.argv[1])).open(Order(("Observation",), limits, Path(sys.argv[1]))) as session:
    print([part.hole for part in session.parts if part.hole])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, time.process_time() - started)
"""


def weighed(folder):
    """(holes, more megabytes, seconds) of a look at a folder in a process of its own."""
    done = subprocess.run([sys.executable, "-c", WEIGHED, folder], check=True, capture_output=True, text=True)
    words, numbers = done.stdout.splitlines()
    megabytes, seconds = (float(one) for one in numbers.split())
    return words, megabytes, seconds


@pytest.mark.parametrize("packing", ["gz", "zst"])
@pytest.mark.parametrize("kind", ["ndjson", "json"])
def test_t6_a_bomb_is_refused_by_name_soon_and_in_little_memory(kind, packing, tmp_path):
    (tmp_path / f"Observation.{kind}.{packing}").write_bytes(packed(b" " * (256 * MEGABYTE), packing))
    words, megabytes, seconds = weighed(tmp_path)
    assert "F39 the file is a bomb that unpacks to more than 100 times its size" in words
    assert (megabytes < 64, seconds < 2) == (True, True)


def test_t6_a_line_of_a_gigabyte_is_refused_soon_and_in_little_memory(tmp_path):
    with (tmp_path / "Observation.ndjson").open("wb") as file:
        file.truncate(1 << 30)
    words, megabytes, seconds = weighed(tmp_path)
    assert "F39 the file is made of a line longer than 10 MB" in words
    assert (megabytes < 64, seconds < 2) == (True, True)


def test_t6_a_file_of_a_gigabyte_that_should_be_a_bundle_is_refused_soon(tmp_path):
    with (tmp_path / "all.json").open("wb") as file:
        file.truncate(1 << 30)
    words, megabytes, seconds = weighed(tmp_path)
    assert "F39 the file is larger than the 64 MB allowed" in words
    assert (megabytes < 192, seconds < 2) == (True, True)


def test_t6_an_endless_stream_is_refused():
    with pytest.raises(UnpackError, match="a line longer than 10 MB"):
        list(lines(repeat(b"x" * MEGABYTE)))

    class Endless:
        closed = False

        def readable(self):
            return True

        def read(self, size):
            return b"{}\n" * (size // 3)

        def tell(self):
            return 1

    with pytest.raises(UnpackError, match=r"larger than the 8 MB allowed|100 times"):
        list(lines(blocks(pa.PythonFile(Endless(), mode="r"), None, 8 * MEGABYTE)))


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_t6_ordinary_lines_that_pack_well_pass(packing, tmp_path):
    chance = random.Random(1)
    notes = (" ".join(chance.choices(["pain", "rest", "night", "hand", "foot", "cold"], k=40)) for _ in range(20_000))
    raw = ndjson([observation(f"o{number}", "a") | {"note": [{"text": one}]} for number, one in enumerate(notes)])
    content = packed(raw, packing)
    assert 4 < len(raw) / len(content) < 100
    path = tmp_path / f"Observation.ndjson.{packing}"
    path.write_bytes(content)
    assert sum(1 for _ in lines_in(path)) == 20_000


# --- T9: cut anywhere -----------------------------------------------------------------------------------------------


def holes_and_refs(folder):
    """What a look says is missing, and what a reading brings."""
    with folder_source(folder).open(order(folder)) as session:
        parts = [part for unit in session.units([Query("Observation")]) for part in session.take(unit)]
        return [part.hole for part in (*session.parts, *parts) if part.hole], {
            i.id for part in parts for i in part.items
        }


@pytest.mark.parametrize("packing", ["plain", "gz", "zst"])
def test_t9_no_prefix_of_a_listed_file_passes_for_all_of_it(packing, tmp_path):
    content = packed(ndjson([observation(f"o{number}", "a") for number in range(4)]), packing)
    name = f"Observation.ndjson{ending(packing)}"
    write_manifest(tmp_path, {"Observation.ndjson": ("Observation", 4)})
    for length in range(len(content)):
        (tmp_path / name).write_bytes(content[:length])
        holes, refs = holes_and_refs(tmp_path)
        assert holes or len(refs) == 4
        assert holes or (packing, length) == ("plain", len(content) - 1)  # only the last line break is missing


@pytest.mark.parametrize("packing", ["plain", "gz", "zst"])
def test_t9_no_prefix_of_a_bundle_passes_for_all_of_it(packing, tmp_path):
    entries = [{"resource": observation(f"o{number}", "a")} for number in range(4)]
    content = packed(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}).encode(), packing)
    for length in range(len(content)):
        (tmp_path / f"all.json{ending(packing)}").write_bytes(content[:length])
        assert holes_and_refs(tmp_path)[0]


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_t9_no_prefix_of_a_packed_file_passes_without_a_manifest_either(packing, tmp_path):
    content = packed(ndjson([observation(f"o{number}", "a") for number in range(4)]), packing)
    for length in range(len(content)):
        (tmp_path / f"Observation.ndjson.{packing}").write_bytes(content[:length])
        assert holes_and_refs(tmp_path)[0]


# --- T37: names that lead elsewhere ---------------------------------------------------------------------------------

HOSTILE = [
    "../../evil",
    "..",
    "/etc/cron.d/evil",
    "a\u0000b",
    "CON",
    "NUL.ndjson",
    "a" * 300,
    "..\\..\\evil",
    "~/evil",
    "%2e%2e%2fevil",
    "C:evil",
]


def files_below(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def test_t37_ids_that_are_paths_write_nothing_anywhere(tmp_path):
    source = write_folder(tmp_path / "source", [*cohort(), *(observation(name, "a") for name in HOSTILE)])
    before = files_below(tmp_path)
    found = pull(folder_source(source), protocol(), Home.at(tmp_path / "home"))
    written = files_below(tmp_path) - before
    are_ids = [name for name in HOSTILE if re.fullmatch(r"[A-Za-z0-9.\-]{1,64}", name)]
    assert counts(found) == KEPT | {"Observation": KEPT["Observation"] + len(are_ids)}
    assert found.snapshot.rejections()["rule"].eq("unreadable").sum() == len(HOSTILE) - len(are_ids)
    assert all(tmp_path / "home" in path.parents for path in written)
    assert not [path for path in written if any(name in path.name for name in ("evil", "CON", "NUL", "aaa"))]


@pytest.mark.parametrize("name", HOSTILE)
def test_t37_a_manifest_never_leads_out_of_its_folder(name, tmp_path):
    outside = write_folder(tmp_path, cohort(), is_listed=False)
    (outside / "evil").write_bytes(ndjson(cohort()))
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    listed = [{"type": name, "url": url, "count": 1} for url in (name, f"https://fhir.test/{name}", f"{name}.ndjson")]
    for kind in ("output", "error", "deleted"):
        document = {"transactionTime": "2026-03-01T12:00:00Z", "output": [], kind: listed[:1]}
        (inside / "manifest.json").write_text(json.dumps(document))
        with folder_source(inside).open(order(inside)) as session:
            assert [part.hole[:3] for part in session.parts] == ["F37"]
            assert session.units([Query(one) for one in KEPT]) == []


def test_t37_what_a_manifest_or_a_line_calls_a_type_is_not_repeated(tmp_path):
    (tmp_path / "one.ndjson").write_bytes(b'{"resourceType":"Jane Roe","id":"x"}\n')
    write_manifest(tmp_path, {"one.ndjson": ("Jane Roe, born 1970", 2)})
    with folder_source(tmp_path).open(order(tmp_path)) as session:
        assert "Jane" not in repr(session.parts) + repr(session.types)
        assert session.parts[0].hole.startswith("F36")


# --- T7: JSON that is none, or worse --------------------------------------------------------------------------------

WHOLE = json.dumps(
    observation("o", "a") | {"code": {"text": "pain \u00e9"}, "component": [{"valueInteger": 5}]}
).encode()
NASTY = [
    b"NaN", b"-Infinity", b"1e999999999", b"-1e-999999999", b"1" * 5000, b"0" * 400, b"[" * 100_000, b'{"a":' * 100_000,
    b"[" * 100_000 + b"]" * 100_000, b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b"\xef\xbb\xbf", b"\x00",
    b'"status":"final",', b'"status":"entered-in-error",', b'"\\u0073tatus":"x",', b'"id":"p",', b'"valueInteger":1,',
    b'"meta":5,', b'"meta":{"lastUpdated":5,"versionId":{}},', b'"subject":[],', b'{"reference":7}', b"null", b"true", b"{}", b'""',
]  # fmt: skip


def mangled(chance):
    """The whole resource after a few random cuts, swaps and insertions."""
    text = bytearray(WHOLE)
    for _ in range(chance.randint(1, 4)):
        at, to = sorted(chance.choices(range(len(text) + 1), k=2))
        spoil = chance.randint(0, 5)
        if spoil == 0:
            text[at:to] = b""
        elif spoil == 1:
            text[at:at] = chance.choice(NASTY)
        elif spoil == 2:
            text[at:at] = text[at:to]
        elif spoil == 3 and at < len(text):
            text[at] = chance.randrange(256)
        elif spoil == 4:
            text[:] = text[:at]
        else:  # a value or key in a place where JSON allows one
            places = [found.end() for found in re.finditer(rb"[:{,] ?", text)] or [0]
            place = chance.choice(places)
            text[place:place] = chance.choice(NASTY)
    return bytes(text)


def is_an_answer(raw):
    item = read_item(raw)
    return item.body != b"" if isinstance(item, Item) else bool(re.fullmatch(r"[a-zA-Z ]+", item))


@given(st.randoms(use_true_random=False))
@settings(max_examples=600, deadline=None)
def test_t7_mangled_json_is_a_resource_or_a_reason_and_nothing_else(chance):
    assert is_an_answer(mangled(chance))


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"")
@example(b'{"resourceType":"Observation","id":"o","x":%s}' % (b"[" * 100_000 + b"]" * 100_000))
@example(b'{"resourceType":"Observation","id":"o","meta":{"versionId":%s}}' % (b"1" * 5000))
@settings(max_examples=300, deadline=None)
def test_t7_any_bytes_are_a_resource_or_a_reason_and_nothing_else(raw):
    assert is_an_answer(raw)


@pytest.mark.slow
def test_t7_a_million_mangled_inputs():
    chance = random.Random(7)
    assert all(is_an_answer(mangled(chance)) for _ in range(1_000_000))


@pytest.mark.parametrize("key", ["resourceType", "id", "meta", "status", "subject", "valueQuantity"])
@pytest.mark.parametrize("spelled", ["plain", "escaped"])
def test_t7_a_guarded_key_that_stands_twice_is_unreadable(key, spelled):
    name = key if spelled == "plain" else f"\\u{ord(key[0]):04x}{key[1:]}"
    value = json.dumps(observation("o", "a")[key])
    assert (
        read_item(b'{"%s": %s, %s' % (name.encode(), value.encode(), WHOLE[1:]))
        == "a key that must be unique stands twice"
    )


def test_t7_a_key_may_stand_in_several_objects():
    twice = observation("o", "a") | {"text": {"status": "generated"}, "contained": [observation("c", "a")]}
    assert isinstance(read_item(json.dumps(twice).encode()), Item)
    assert isinstance(read_item(json.dumps(twice | {"note": [{"text": "\u00e9\ud83d\ude00"}]}).encode()), Item)


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b'"\\ud800"', b"[" * 100_000, b'"\xff"'])
def test_t7_what_json_does_not_allow_costs_one_line(value, tmp_path):
    spoiled = (
        b'{"resourceType":"Observation","id":"bad","status":"final","subject":{"reference":"Patient/a"},"x":%s}\n'
        % value
    )
    write_folder(tmp_path, cohort(), is_listed=False)
    with (tmp_path / "Observation.ndjson").open("ab") as file:
        file.write(spoiled)
    found = pull(folder_source(tmp_path), protocol(), Home.at(tmp_path / "home"))
    assert counts(found) == KEPT
    assert found.snapshot.rejections()["rule"].eq("unreadable").sum() == 1
