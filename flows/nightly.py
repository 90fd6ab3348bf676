"""Pull, then report: what runs every night, and what `crps-outcomes run` runs once. No logic here.

Prefect stores parameters, states and messages for ever: folders, digests, counts and names of reports pass between
the tasks, never patient data and no credential.
"""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003 - Prefect reads the annotations at run time
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from crps_outcomes import pipeline, progress, settings
from crps_outcomes.params import NightlyParams  # noqa: TC001 - Prefect reads the annotations at run time

# The pipeline's own manifests say what is done, not Prefect's cache. A request that fails is retried where it is made;
# a task that fails has a reason that trying again does not mend.
STEP: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False, "log_prints": False, "retries": 0}


@task(**STEP)
def pull(home: Path, study: Path, source: str) -> str:
    """The digest of a complete snapshot."""
    access = {"token": settings.token(os.environ), "ca_file": settings.ca_file(os.environ)}
    listed = settings.patients(os.environ)
    return pipeline.pull(home, study, source, access, progress.current(), patients=listed)


derive = task(**STEP)(pipeline.derive)
report = task(**STEP)(pipeline.report)


@flow(persist_result=False, log_prints=False, retries=0)
def nightly_outcomes(params: NightlyParams) -> list[str]:
    """The folders of the reports made from what the source holds now."""
    home = settings.home(os.environ, params.home)
    study = settings.study(params)
    digest = pull(home, study, settings.source(os.environ, params.source))
    basis = pipeline.basis(home, study, digest, params.as_of)
    progress.current()("Screening, tabulating and scoring")
    parts = derive.map(home, basis, list(range(pipeline.partitions(home, basis))))
    parts.result()
    progress.current()("Making the report")
    return [str(report(home, basis, name, params.edition)) for name in params.reports]
