"""A patient list in a file: read strictly, never quoted, and a Group like any other from then on."""

from __future__ import annotations

import json
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_cohort import (
    cohort,
    counts,
    group,
    member,
    selecting,
    write_folder,
)  # fmt: skip

from crps_outcomes import resources as fhir
from crps_outcomes.definitions import Enrolment
from crps_outcomes.enrolment import enrol
from crps_outcomes.errors import DefinitionError, NoPatientsError
from crps_outcomes.fhir import folder_source
from crps_outcomes.home import Home
from crps_outcomes.patient_list import ListedPatient, list_as_group, list_for, read_patient_list
from crps_outcomes.stages.pull import pull, wanted_types
from crps_outcomes.validation import VALID, judge

OWN = selecting("list")
SECRET = "mrn-4711-secret"


@pytest.fixture
def written(tmp_path):
    def write(text, mode=0o600):
        path = tmp_path / "patients.csv"
        path.write_bytes(text.encode())
        path.chmod(mode)
        return path

    return write


@pytest.mark.parametrize(("text", "rows"), [
    ("patient\na\nb\n", [ListedPatient("a"), ListedPatient("b")]),
    ("patient,from,until\na,2025-06-01,\nb,,2026-01-31\n",
     [ListedPatient("a", since=date(2025, 6, 1)), ListedPatient("b", until=date(2026, 1, 31))]),
    ("system,value\nhttps://x.test/mrn,0042\n", [ListedPatient(system="https://x.test/mrn", value="0042")]),
    ("patient,system,value\na,,\n,https://x.test/mrn,7\n",
     [ListedPatient("a"), ListedPatient(system="https://x.test/mrn", value="7")]),
    ("\ufeffpatient\r\na\r\n", [ListedPatient("a")]),
    ('patient\n"a"\n\n b \n', [ListedPatient("a"), ListedPatient("b")]),
    ("patient\n", []),
])  # fmt: skip
def test_a_list_names_people_by_id_or_by_identifier(text, rows, written):
    assert read_patient_list(written(text)) == tuple(rows)


@pytest.mark.parametrize(("text", "words"), [
    ("", "line 1: the header should name the column patient, or system and value"),
    (f"{SECRET}\n", "line 1: the header should name columns of: patient, system"),
    ("patient,patient\na,b\n", "line 1: .*each once"),
    ("system\nhttps://x.test\n", "line 1: .*system and value"),
    (f"patient\na\n{SECRET}_\n", "line 3: patient: not the id"),
    (f"patient,from\n{SECRET},01.02.2025\n", "line 2: from: not a day"),
    (f"patient,until\n{SECRET},2025-02-30\n", "line 2: until: not a day"),
    (f"patient,until\n{SECRET},20250203\n", "line 2: until: not a day"),
    (f"patient,from,until\n{SECRET},2025-02-01,2025-01-01\n", "line 2: until: before"),
    (f"system,value\n,{SECRET}\n", "line 2: system"),
    ("system,value\nhttps://x.test,\n", "line 2: value"),
    (f"system,value\nhttps://x.test,{SECRET}|1\n", "line 2: value"),
    (f'system,value\nhttps://x.test,"{SECRET}\n1"\n', "line 3: value"),
    (f"patient,system,value\na,https://x.test,{SECRET}\n", "line 2: patient: stands beside"),
    (f"patient\na,{SECRET}\n", "line 2: another number of fields"),
    (f"patient,from\n{SECRET}\n", "line 2: another number of fields"),
    (f'patient\n"{SECRET}" x\n', "line 2: not CSV"),
    ("patient\n\n\n,\n", "line 4: another number"),
])  # fmt: skip
def test_what_is_wrong_is_named_by_file_line_and_column_and_never_quoted(text, words, written):
    path = written(text)
    with pytest.raises(DefinitionError, match=words) as caught:
        read_patient_list(path)
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_list_that_others_may_read_is_refused(mode, written):
    with pytest.raises(DefinitionError, match="0600"):
        read_patient_list(written("patient\na\n", mode))


def test_a_list_that_is_not_there_or_no_text_is_refused(tmp_path, written):
    with pytest.raises(DefinitionError, match="cannot be read"):
        read_patient_list(tmp_path / "none.csv")
    path = written("")
    path.write_bytes(b"patient\n\xff\xfe\n")
    with pytest.raises(DefinitionError, match="cannot be read"):
        read_patient_list(path)


def test_a_list_is_given_exactly_where_the_protocol_asks_for_one(written):
    path = written("patient\na\n")
    assert list_for("list", path) == (ListedPatient("a"),)
    assert list_for("group", None) == ()
    with pytest.raises(DefinitionError, match="--patients"):
        list_for("list", None)
    with pytest.raises(DefinitionError, match='should be "list"'):
        list_for("group", path)


def test_the_selector_needs_no_key():
    assert Enrolment(selector="list").selector == "list"


ROWS = st.lists(
    st.builds(
        lambda named, since, until: named._replace(since=since, until=until),
        st.sampled_from(
            [*map(ListedPatient, "abc"), *(ListedPatient("", "https://x.test/mrn", value) for value in "12")]
        ),
        st.sampled_from([None, date(2025, 6, 1), date(2026, 6, 1)]),
        st.sampled_from([None, date(2026, 7, 1)]),
    )
)


@given(ROWS, st.randoms(use_true_random=False))
def test_a_list_is_one_valid_group_whatever_the_order_and_repetition_of_its_lines(rows, chance):
    made = list_as_group(rows)
    again = rows + rows[:2]
    chance.shuffle(again)
    assert list_as_group(again) == made
    assert judge("Group", json.dumps(made).encode()) == VALID
    texts = [json.dumps(one, sort_keys=True) for one in made.get("member", ())]
    assert all(one != two for one, two in pairwise(sorted(texts)))


# --- pulled by a list ------------------------------------------------------------------------------------------------

LIST = (
    ListedPatient("a", since=date(2025, 6, 1)),
    ListedPatient(system="https://x.test/mrn", value="7,1"),
    ListedPatient("e"),  # withdrew
    ListedPatient("f"),  # nowhere to be found
    ListedPatient("d", until=date(2025, 12, 31)),
)


def held():
    """The small cohort at a source without Groups; b is known by an identifier."""
    known = {"identifier": [{"system": "https://x.test/mrn", "value": "7,1"}]}
    return [
        one | known if (one["resourceType"], one["id"]) == ("Patient", "b") else one
        for one in cohort()
        if one["resourceType"] != "Group"
    ]


def pulled(folder, own=OWN, rows=LIST):
    return pull(folder_source(folder), own, Home.at(folder / "home"), patients=rows)


def test_who_is_on_the_list_is_pulled_as_if_the_source_had_a_group(tmp_path):
    found = pulled(write_folder(tmp_path, held()))
    assert found.enrolment.enrolled == {"a": date(2025, 6, 1), "b": None}
    assert (found.enrolment.n_listed, found.enrolment.n_inactive) == (5, 1)
    assert (found.enrolment.n_consent_revoked, found.enrolment.n_dangling) == (1, 1)
    assert (counts(found)["Group"], counts(found)["Observation"]) == (1, 8)
    assert found.snapshot.manifest.selector == "list"
    assert found.state == "complete"


def test_the_snapshot_says_the_same_as_the_list(tmp_path):
    found = pulled(write_folder(tmp_path, held()))
    read = {
        name: [fhir.decode(name, raw) for raw in found.snapshot.lines(name)] for name in ("Group", "Patient", "Consent")
    }
    assert enrol(read, OWN, as_of=date.fromisoformat(found.snapshot.manifest.pulled_on)) == found.enrolment


def test_a_source_with_a_list_is_not_asked_for_groups():
    assert "Group" not in wanted_types(OWN)
    assert "Group" in wanted_types(selecting("group"))


def test_an_empty_list_is_nobody(tmp_path):
    with pytest.raises(NoPatientsError, match="list selector lists 0"):
        pulled(write_folder(tmp_path, held()), rows=())


def test_a_group_of_the_source_is_not_the_list(tmp_path):
    folder = write_folder(tmp_path, [group(member("c")), *held()])
    assert list(pulled(folder).enrolment.enrolled) == ["a", "b"]
