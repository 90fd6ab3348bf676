"""Where a report comes from: three digests, and everything else its identity depends on."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from crps_outcomes.language import PLAIN, Form
from crps_outcomes.plan_history import PlanRecord

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from crps_outcomes.restatement import Restatement
    from crps_outcomes.snapshot import Completeness, Manifest
    from crps_outcomes.study import Study

Edition = Literal["internal", "release"]

#: Libraries whose version can change a number, a validity verdict or a page.
LIBRARIES = (
    "crps-outcomes", "numpy", "pandas", "scipy", "statsmodels", "fhir.resources", "matplotlib", "weasyprint", "pikepdf",
    "xlsxwriter",
)  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """Everything a report is a function of. The same provenance gives the same bytes."""

    snapshot: str
    study: str
    code: str
    as_of: date
    edition: Edition
    report: str
    data_status: Completeness
    source_kind: str
    selector: str
    software: Mapping[str, str]
    is_synthetic: bool
    compared_with: str = ""  # digest of the snapshot that the changes are told against
    compared_with_on: str = ""  # the day it was pulled
    holes: tuple[str, ...] = ()  # of a draft: what is missing
    plan: PlanRecord = field(default_factory=PlanRecord)
    before_run: str = ""  # the last report of this kind, where this one tells what changed since
    restated: str = ""  # digest of what it tells
    form: Form = PLAIN  # paper, language, and whether the data are attached
    valid_until: str = ""  # the last day the report may be read as the present state

    @property
    def record(self) -> dict[str, Any]:
        """The provenance as plain JSON values, for ``provenance.json``."""
        return {**asdict(self), "as_of": self.as_of.isoformat(), "software": dict(sorted(self.software.items()))}

    @property
    def identity(self) -> str:
        """SHA-256 over the whole record, in hexadecimal."""
        text = json.dumps(self.record, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def run_id(self) -> str:
        """The name of the run's folder: what it is, as of when, and twelve characters of its identity."""
        draft = "DRAFT-" if self.is_draft else ""
        return f"{draft}{self.report}-{self.edition}-{self.as_of.isoformat()}-{self.identity[:12]}"

    @property
    def is_draft(self) -> bool:
        """Something is missing, and the report says so on every page."""
        return self.data_status == "incomplete"


def trace(  # noqa: PLR0913, PLR0917 - what a report is made of
    manifest: Manifest, study: Study, report: str, edition: Edition, as_of: date, form: Form = PLAIN
) -> Provenance:
    """The provenance of a report about to be made from this snapshot and this study with the running code."""
    return Provenance(
        snapshot=manifest.digest,
        study=study.digest,
        code=code_digest(),
        as_of=as_of,
        edition=edition,
        report=report,
        data_status=manifest.completeness,
        source_kind=manifest.source_kind,
        selector=manifest.selector,
        software=software_versions(),
        is_synthetic=study.protocol.is_synthetic,
        compared_with=manifest.before,
        compared_with_on=manifest.before_on,
        holes=manifest.holes,
        form=form,
        valid_until="" if manifest.holes else study.protocol.valid_until(as_of, edition).isoformat(),
    )


def with_history(traced: Provenance, plan: PlanRecord, restated: Restatement | None = None) -> Provenance:
    """The provenance with what earlier runs of this home have to do with it: the plan's history, and what is not as it was.

    A report that does not tell what changed since the one before it has no trace of it.
    """
    if restated is None:
        return replace(traced, plan=plan)
    return replace(traced, plan=plan, before_run=restated.run_id, restated=restated.digest)


@cache  # the code that runs is the code that was read; files edited meanwhile are another program
def code_digest(package: Path | None = None) -> str:
    """SHA-256 over names and contents of the package's Python files, sorted, so that any change of code shows."""
    root = package or Path(__file__).resolve().parent
    total = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*.py") if "card" not in path.relative_to(root).parts):
        total.update(path.relative_to(root).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def software_versions() -> dict[str, str]:
    """Python and the libraries that can change a result or a page, with their versions."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}
