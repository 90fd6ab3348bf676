"""Every report there is, in every edition it comes in, made from the invented cohort: what looks and forms are tested on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import patient_fixture
import quality_fixture
import report_fixture
from cohort_tables import the_study

from crps_outcomes.language import PLAIN
from crps_outcomes.stages.compose import compose

if TYPE_CHECKING:
    from crps_outcomes.language import Form
    from crps_outcomes.report_model import ReportModel

EDITIONS = ("internal", "release")
#: Reports that need more than the cohort of report_fixture, each with the module whose releasable() and provenance() make it.
FIXTURES = {"quality": quality_fixture}
#: Reports that never leave the clinic.
INTERNAL_ONLY = {"patient"}

EVERY = [
    (name, edition)
    for name in sorted(the_study().reports)
    for edition in EDITIONS
    if not (edition == "release" and name in INTERNAL_ONLY)
]


def made(name: str, edition: str, n: int = 64, form: Form = PLAIN, site: str = "") -> ReportModel:
    """The report of a cohort of ``n``, in a form, from a clinic of that name, its numbers marked as in a run."""
    study, fixture = the_study(), FIXTURES.get(name, report_fixture)
    if site:
        study = replace(study, protocol=study.protocol.model_copy(update={"site": site}))
    if name == "patient":
        own = replace(patient_fixture.origin(patient_fixture.WEEK_14), form=form)
        return patient_fixture.page(own=own, study=study)
    origin = replace(fixture.provenance(edition), report=name, form=form)
    return compose(fixture.releasable(n, edition), study, study.reports[name], origin, is_traced=edition == "internal")
