"""Pull, then report: what runs every night, and what `crps-outcomes run` runs once. No logic here.

Prefect stores parameters, states and messages for ever: folders, digests, counts and names of reports pass between
the tasks, never patient data and no credential.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - Prefect reads the annotations at run time
from typing import Any

from prefect import flow, task
from prefect.blocks.system import Secret
from prefect.cache_policies import NO_CACHE

from crps_outcomes import pipeline, progress, pulls, settings
from crps_outcomes.params import NightlyParams  # noqa: TC001 - Prefect reads the annotations at run time

# The pipeline's own manifests say what is done, not Prefect's cache. A request that fails is retried where it is made;
# a task that fails has a reason that trying again does not mend.
STEP: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False, "log_prints": False, "retries": 0}


def _secret(block: str) -> str:
    found: Any = Secret.load(block)
    return str(found.get())


@task(**STEP)
def pull(home: Path, study: Path, asked: pulls.Asked) -> str:
    """The digest of the snapshot."""
    access, patients = settings.access(os.environ, _secret), settings.patients(os.environ)
    return pulls.pull(home, study, asked, access, progress.current(), patients=patients)


derive = task(**STEP)(pipeline.derive)
report = task(**STEP)(pipeline.report)


@flow(persist_result=False, log_prints=False, retries=0)
def nightly_outcomes(params: NightlyParams) -> list[str]:
    """The folders of the reports made from what the source holds now."""
    home = settings.home(os.environ, params.home)
    study = settings.study(params)
    source = settings.source(os.environ, params.source)
    digest = pull(home, study, pulls.Asked(source, params.method.value, params.whole, params.draft))
    basis = pipeline.basis(home, study, digest, params.as_of)
    progress.current()("Screening, tabulating and scoring")
    parts = derive.map(home, basis, list(range(pipeline.partitions(home, basis))))
    parts.result()
    progress.current()("Making the report")
    folders = [str(report(home, basis, name, params.edition, params.form)) for name in params.reports]
    pipeline.shelve(home, study, datetime.now(UTC))
    pipeline.refuse_draft(home, basis, folders)
    return folders
