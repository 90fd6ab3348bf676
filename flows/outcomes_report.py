"""Report from data already pulled: any snapshot, any report, any edition, on demand. No logic here.

Prefect stores parameters, states and messages for ever: folders, digests, counts and names of reports pass between
the tasks, never patient data.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from crps_outcomes import pipeline, progress, settings
from crps_outcomes.params import ReportParams  # noqa: TC001 - Prefect reads the annotations at run time

STEP: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False, "log_prints": False, "retries": 0}

derive = task(**STEP)(pipeline.derive)
report = task(**STEP)(pipeline.report)


@flow(persist_result=False, log_prints=False, retries=0)
def outcomes_report(params: ReportParams) -> list[str]:
    """The folders of the reports made from one snapshot."""
    home = settings.home(os.environ, params.home)
    study = settings.study(params)
    basis = pipeline.basis(home, study, params.snapshot, params.as_of)
    progress.current()("Screening, tabulating and scoring")
    parts = derive.map(home, basis, list(range(pipeline.partitions(home, basis))))
    parts.result()
    progress.current()("Making the report")
    folders = [str(report(home, basis, name, params.edition, params.form)) for name in params.reports]
    pipeline.shelve(home, study, datetime.now(UTC))
    return folders
