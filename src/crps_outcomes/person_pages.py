"""A page about each person, made in worker processes, all in one run folder of the clinic.

A person is called by the code of this home folder. A page that cannot be made is listed, the folder is called INCOMPLETE,
and the command fails: what is missing is never left out in silence.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING

from crps_outcomes import derive as derivation
from crps_outcomes import progress, pseudonyms
from crps_outcomes.errors import DefinitionError, PipelineError
from crps_outcomes.home import remove_folder
from crps_outcomes.language import day
from crps_outcomes.person import Person, each
from crps_outcomes.provenance import trace
from crps_outcomes.snapshot import open_snapshot
from crps_outcomes.stages import render
from crps_outcomes.stages.compose import compose_person, refuse_release
from crps_outcomes.stages.publish import appear
from crps_outcomes.state import Verdicts
from crps_outcomes.study import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from crps_outcomes.home import Home
    from crps_outcomes.pipeline import Basis
    from crps_outcomes.progress import Tell
    from crps_outcomes.provenance import Provenance
    from crps_outcomes.study import Study
    from crps_outcomes.tables import Tables

REPORT = "patient"
DIED = "the process that made it ended"


@dataclass(frozen=True)
class Task:
    """What a worker makes one page from: a person's rows; it reads the study folder itself."""

    code: str
    tables: Tables
    provenance: Provenance
    study: Path


@dataclass(frozen=True)
class Made:
    """A page, or the reason why there is none."""

    code: str
    pdf: bytes = b""
    failed: str = ""


# --- in a worker ----------------------------------------------------------------------------------------------------


def make(task: Task) -> Made:
    """The page of one person. Whatever goes wrong is a reason without anything of the person in it."""
    try:
        study = _study(task.study)
        person = Person(task.code, task.tables, study, task.provenance)
        model = compose_person(person, study.reports[REPORT])
        return Made(task.code, render.render(model, study.root).pdf)
    except PipelineError as known:
        return Made(task.code, failed=str(known))
    except Exception as unforeseen:  # noqa: BLE001 - its text may hold what a person answered
        return Made(task.code, failed=f"unforeseen {type(unforeseen).__name__}")


@cache
def _study(root: Path) -> Study:
    return load(root)


# --- the batch ------------------------------------------------------------------------------------------------------


def batch(tasks: Sequence[Task], workers: int, tell: Tell = progress.quiet) -> tuple[Made, ...]:
    """Every page or its reason, in the order of the tasks; a worker that dies fails the pages it left open."""
    found: dict[str, Made] = {}
    with ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn")) as pool:
        waiting = {pool.submit(make, task): task.code for task in tasks}
        for done in as_completed(waiting):
            code = waiting[done]
            try:
                found[code] = done.result()
            except BrokenProcessPool:
                found[code] = Made(code, failed=DIED)
            tell(f"Pages about people: {len(found)} of {len(tasks)}")
    return tuple(found[task.code] for task in tasks)


def tasks_of(
    tables: Tables, study: Study, provenance: Provenance, home: Home, wanted: Sequence[str]
) -> tuple[Task, ...]:
    """A task for each person with a dose, or for those wanted by their codes.

    Raises:
        DefinitionError: a code that nobody has, or nobody to make a page of.
        PipelineError: two people have one code.
    """
    people = list(each(tables, study, provenance, pseudonyms.coder(home)))
    if max(Counter(code for code, _ in people).values(), default=0) > 1:
        raise PipelineError("two people have one code; a page each under one name is not possible")
    codes = {code.strip().upper() for code in wanted}
    unknown = codes - {code for code, _ in people}
    if unknown:
        raise DefinitionError(f"--patient: {len(unknown)} of the codes is nobody's who has a dose in this snapshot")
    chosen = [one for code, one in people if not codes or code in codes]
    if not chosen:
        raise DefinitionError("nobody in this snapshot has a dose on record, so there is no page to make")
    return tuple(Task(one.code, one.tables, provenance, study.root) for one in chosen)


def pages(  # noqa: PLR0913, PLR0917 - what a batch is made from, and how
    home: Home, basis: Basis, wanted: Sequence[str], edition: str, workers: int, tell: Tell
) -> tuple[Path, tuple[Made, ...]]:
    """Make and publish the pages; the run folder, and every page or the reason why there is none.

    Raises:
        DefinitionError: a release edition, an unknown code, or nobody to make a page of.
    """
    study = load(basis.study)
    refuse_release(study.reports[REPORT], edition)
    plan = derivation.plan(open_snapshot(home.snapshots / basis.snapshot), study, home, as_of=basis.as_of)
    for number in range(plan.partitions):
        tell(f"Deriving: {number + 1} of {plan.partitions}")
        derivation.derive_partition(plan, number, Verdicts(home.state_url))
    tables = derivation.gather(plan)
    provenance = trace(plan.snapshot.manifest, study, REPORT, "internal", basis.as_of)
    tasks = tasks_of(tables, study, provenance, home, wanted)
    made = batch(tasks, workers, tell)
    return publish(made, study, provenance, home, is_whole=not wanted, without=_without_dose(tables)), made


def _without_dose(tables: Tables) -> int:
    return int(tables.subjects["first_dose_on"].isna().sum())


# --- on disk --------------------------------------------------------------------------------------------------------


def publish(  # noqa: PLR0913 - the parts of a folder
    made: Sequence[Made], study: Study, provenance: Provenance, home: Home, *, is_whole: bool, without: int
) -> Path:
    """One folder below runs/: a PDF per person by code, an index page, and where they come from."""
    failed = [one for one in made if one.failed]
    some = "" if is_whole else "-" + "-".join(one.code for one in made)[:80]
    final = home.runs / f"{'INCOMPLETE-' if failed else ''}{provenance.run_id}{some}"
    if failed:
        remove_folder(final)  # of an attempt before this one
    record = json.dumps(provenance.record, indent=2, sort_keys=True) + "\n"
    files = {f"{one.code}.pdf": one.pdf for one in made if not one.failed}
    index = index_page(made, study, provenance, without=without if is_whole else 0)
    appear({**files, "index.html": index.encode(), "provenance.json": record.encode()}, final)
    return final


def index_page(made: Sequence[Made], study: Study, provenance: Provenance, *, without: int) -> str:
    """Every person by code, first those whose page failed."""
    templates = study.root / "templates"
    text = render.page_environment(templates, provenance.form.lang).get_template("patients.html.j2").render(
        title=study.reports[REPORT].kind, site=study.protocol.site, lang=provenance.form.lang,
        as_of=day(provenance.as_of, provenance.form.lang), is_synthetic=study.protocol.is_synthetic,
        draft=", ".join(provenance.holes), made=[one.code for one in made if not one.failed],
        failed=[(one.code, one.failed) for one in made if one.failed], without=without,
    )  # fmt: skip
    return render.self_contained(text, templates)


# --- what is said of it ----------------------------------------------------------------------------------------------


def told(made: Sequence[Made]) -> Iterator[str]:
    """How many pages there are, and every page that there is not, by code with its reason."""
    failed = [one for one in made if one.failed]
    yield f"{len(made) - len(failed)} of {len(made)} pages made"
    yield from (f"no page about {one.code}: {one.failed}" for one in failed)


def complain(made: Sequence[Made]) -> None:
    """A batch in which a page is lacking has failed.

    Raises:
        PipelineError: a page could not be made.
    """
    n = sum(bool(one.failed) for one in made)
    if n:
        raise PipelineError(f"{n} of {len(made)} pages could not be made; the folder is marked INCOMPLETE")
