"""What is installed is what was written: the wheel carries the study folder, and finds it without the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from crps_outcomes.study import digest_of

ROOT = Path(__file__).resolve().parents[1]
LOOK = """
import json
from crps_outcomes import study
root = study.locate()
found = study.load(root)
print(json.dumps({"code": study.__file__, "root": str(root), "digest": found.digest, "reports": sorted(found.reports)}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, unpacked as an installer would, in a folder that knows nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def in_installation(site: Path, code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=site.parent, env=environment, check=True, capture_output=True
    )
    return done.stdout.decode()


def test_the_installed_program_finds_the_study_folder_that_came_with_it(installed):
    found = json.loads(in_installation(installed, LOOK))
    assert found["code"].startswith(str(installed))
    assert found["root"] == str(installed / "crps_outcomes" / "card")
    assert "evidence" in found["reports"]


def test_the_installed_study_folder_is_the_one_of_the_checkout_byte_for_byte(installed):
    assert json.loads(in_installation(installed, LOOK))["digest"] == digest_of(ROOT)


def test_the_installed_program_brings_the_fault_kit(installed):
    listed = in_installation(
        installed, "import sys; sys.argv[1:] = ['faults', '--list']; from crps_outcomes.cli import main; main()"
    )
    assert [word for word in listed.split() if word in {"F01", "F52"}] == ["F01", "F52"]
    place = in_installation(installed, "from crps_outcomes.faults import kit; print(kit().__file__)").strip()
    assert place == str(installed / "crps_outcomes" / "card" / "tests" / "faulty_server" / "__init__.py")


def test_the_wheel_carries_licences_and_flows_and_no_patient_data(installed):
    names = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)
    assert "crps_outcomes/card/flows/nightly.py" in names
    assert not [
        name for name in names if name.startswith("crps_outcomes/card/tests/") and "/faulty_server/" not in name
    ]
    assert not [name for name in names if name.endswith((".pyc", ".ndjson", ".zst", ".sqlite", ".parquet"))]
