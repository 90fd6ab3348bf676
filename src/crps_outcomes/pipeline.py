"""The steps a flow strings together, as plain functions: folders, digests and counts in, folders, digests and counts out.

No patient data passes between them, so an orchestrator that records its arguments and results records none. Each
opens what it needs from the home folder; each lets only PipelineErrors out (`failures`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from crps_outcomes import derive as derivation
from crps_outcomes import library, plan_history, pseudonyms, restating
from crps_outcomes.carrying import History
from crps_outcomes.differencing import Seal
from crps_outcomes.errors import DefinitionError, DisclosureError, IncompleteDataError, NoPatientsError
from crps_outcomes.failures import bounded
from crps_outcomes.home import Home
from crps_outcomes.language import Form
from crps_outcomes.provenance import trace, with_history
from crps_outcomes.releases import Releases
from crps_outcomes.snapshot import Snapshot, open_snapshot
from crps_outcomes.stages import analyse, compose, disclose, publish, render
from crps_outcomes.state import Records, RunRow, Verdicts, Withdrawals
from crps_outcomes.study import file_digests, load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from crps_outcomes.differencing import Register
    from crps_outcomes.disclosure import Releasable
    from crps_outcomes.params import Edition
    from crps_outcomes.provenance import Provenance
    from crps_outcomes.stages.analyse import Analysis
    from crps_outcomes.study import Study
    from crps_outcomes.tables import Tables


RESTATEMENT = "restatement"  # the section that tells what changed since the last report of its kind
#: What a release leaves below runs/: a pointer and a folder.
_RELEASE_FOLDERS = ("CURRENT-*-release", "*-release-????-??-??-*")


@dataclass(frozen=True)
class Basis:
    """What a report is made from: a snapshot by digest, a study folder, and the day it speaks of."""

    snapshot: str
    study: Path
    as_of: date


@bounded("snapshot")
def basis(home: Path, study: Path, snapshot: str, as_of: str | None) -> Basis:
    """The basis of a report: "latest" is the newest snapshot, and without a day it is the newest in the data.

    Raises:
        DefinitionError: no such snapshot.
        IncompleteDataError: it is damaged.
        NoPatientsError: on that day nobody was enrolled yet.
    """
    found = _opened(home, _newest(home) if snapshot == "latest" else snapshot)
    day = date.fromisoformat(as_of or found.manifest.data_as_of)
    if not derivation.enrolled_people(found, load(study), day).enrolled:
        raise NoPatientsError(f"nobody in snapshot {found.digest[:12]} was enrolled on {day}; a later --as-of may help")
    return Basis(found.digest, study, day)


@bounded("derive")
def partitions(home: Path, basis: Basis) -> int:
    """How many partitions there are to derive."""
    return _plan(home, basis).partitions


@bounded("derive")
def derive(home: Path, basis: Basis, number: int) -> int:
    """Screen, tabulate and score one partition, unless it is there already; its number of people."""
    return derivation.derive_partition(_plan(home, basis), number, Verdicts(Home.at(home).state_url))


@bounded("report")
def report(home: Path, basis: Basis, name: str, edition: Edition, wish: Mapping[str, str | bool] | None = None) -> Path:
    """Analyse, disclose, compose, render and publish one report; its folder. ``wish``: what its form should be."""
    plan, place = _plan(home, basis), Home.at(home)
    if edition.value == "release" and (current := standing(place, plan.study, name, basis.as_of)):
        return current
    for number in range(plan.partitions):  # nothing to do, unless the study folder was edited while the run went on
        derivation.derive_partition(plan, number, Verdicts(place.state_url))
    study, tables, records = plan.study, derivation.gather(plan), Records(place.state_url)
    records.see_plan(plan_history.sighting(study.protocol, basis.as_of.isoformat()), study.digest)
    analysis = analyse.analyse(tables, study, as_of=basis.as_of, not_enrolled=derivation.not_enrolled(plan))
    with place.one_release_at_a_time():
        disclosed = _disclosed(
            analysis, tables, study, edition.value, place, basis, is_draft=bool(plan.snapshot.manifest.holes)
        )
    releasable = disclose.with_actions(disclosed, tables, study, pseudonyms.coder(place), basis.as_of)
    records.see_study(study.digest, file_digests(study.root))
    form = Form(**{**study.protocol.form.model_dump(), **(wish or {})})
    traced = trace(plan.snapshot.manifest, study, name, edition.value, basis.as_of, form)
    told = plan_history.told(study.protocol, records.plans())
    before = records.run_before(_run(traced))
    if RESTATEMENT in study.reports[name].sections:
        known = restating.restated(place, before, replace(traced, plan=told), plan, tables)
        releasable = replace(releasable, restatement=known)
    provenance = with_history(traced, told, releasable.restatement)
    model = compose.compose(releasable, study, study.reports[name], provenance, is_traced=edition.value == "internal")
    attached = publish.attached(releasable, provenance) if form.archive else {}
    rendered = render.render(model, study.root, attached=attached)
    is_withdrawn = provenance.run_id in Withdrawals(place.state_url).every()
    folder = publish.publish(rendered, model, releasable, provenance, place, is_withdrawn=is_withdrawn)
    records.add_run(_run(provenance))
    records.keep_before(_run(provenance), before)
    return folder


def _disclosed(  # noqa: PLR0913, PLR0917 - what was estimated, and what a release of it is compared and remembered by
    analysis: Analysis, tables: Tables, study: Study, edition: str, place: Home, basis: Basis, *, is_draft: bool
) -> Releasable:
    """The edition asked for; a release is compared with all before it, and remembered before anybody can see it."""
    if edition != "release":
        return disclose.disclose(analysis, tables, study, edition)
    releases, seal = Releases(place.state_url), Seal(place.release_key)
    register = releases.register(seal.check)
    _refuse_if_forgotten(place, releases.number(), is_empty=not register.versions and not register.rows)
    releasable = disclose.disclose(analysis, tables, study, edition, History(
        register, seal,
        as_of="" if is_draft else basis.as_of.isoformat(),
        basis=f"{basis.as_of} {basis.snapshot} {study.digest}",
        is_standing=_is_standing(register, study, basis.as_of),
    ))  # fmt: skip
    if releasable.register is not None:
        place.count_releases(releases.keep(releasable.register, seal.check))
    return releasable


def _refuse_if_forgotten(place: Home, known: int, *, is_empty: bool) -> None:
    """Nothing leaves when the register does not know of every release before: a difference to it could not be seen."""
    if place.releases > known or (is_empty and _was_released(place)):
        raise DisclosureError(
            "state.sqlite in the home folder does not remember every release that was made; put back the newest one, with "
            "release.key and release.count, or start a new home folder and withdraw what was handed out"
        )


def _was_released(place: Home) -> bool:
    """Whether anything in the home tells of a release: a run, a folder of one, or one to hand on."""
    runs = any(run.edition == "release" for run in Records(place.state_url).runs())
    folders = (one for pattern in _RELEASE_FOLDERS for one in place.runs.glob(pattern))
    return runs or any(folders) or any(one.is_dir() for one in place.release.glob("[!.]*"))


def _is_standing(register: Register, study: Study, as_of: date) -> bool:
    """Whether figures were renewed since the newest declared day, in whichever report."""
    due = study.protocol.disclosure.last_day(as_of)
    return bool(due and register.last and date.fromisoformat(register.last.as_of) >= due)


def standing(place: Home, study: Study, report: str, as_of: date) -> Path | None:
    """The folder of the release that stands until the next day the protocol declares; None when a new one is due."""
    current, due = publish.current(place.runs, report, "release"), study.protocol.disclosure.last_day(as_of)
    record = _record(current) if current else {}
    is_of_this_study = record.get("study") == study.digest
    return current if due and is_of_this_study and date.fromisoformat(record["as_of"]) >= due else None


def _record(folder: Path) -> dict[str, Any]:
    path = folder / "provenance.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def release_in_words(folder: Path, study: Study) -> str:
    """Which data a release speaks of, and when the next one is due; nothing about another edition."""
    record = _record(folder)
    if record.get("edition") != "release":
        return ""
    as_of = date.fromisoformat(record["as_of"])
    following = study.protocol.disclosure.next_day(as_of)
    return f"release with data as of {as_of}" + (
        f"; it stands until {following}, when the next is due" if following else ""
    )


@bounded("library")
def shelve(home: Path, study: Path, now: datetime) -> Path:
    """Write the run libraries anew, as of an instant; the page that lists every run."""
    found = load(study)
    return library.publish(Home.at(home), found, now.astimezone(ZoneInfo(found.protocol.timezone)).date())


@bounded("report")
def refuse_draft(home: Path, basis: Basis, reports: Sequence[str]) -> None:
    """The end of a run whose data were incomplete: what was made is a draft, and the run has failed all the same.

    Raises:
        IncompleteDataError: the snapshot is incomplete; the message says what is missing and where the drafts are.
    """
    holes = _opened(home, basis.snapshot).manifest.holes
    if holes:
        raise IncompleteDataError(
            f"the data are incomplete ({', '.join(holes)}), so nothing final was published; drafts: {', '.join(reports)}"
        )


def _plan(home: Path, basis: Basis) -> derivation.Plan:
    return derivation.plan(_opened(home, basis.snapshot), load(basis.study), Home.at(home), as_of=basis.as_of)


def _run(provenance: Provenance) -> RunRow:
    return RunRow(
        run_id=provenance.run_id, report=provenance.report, edition=provenance.edition, snapshot=provenance.snapshot,
        study=provenance.study, code=provenance.code, as_of=provenance.as_of.isoformat(), status=provenance.data_status,
    )  # fmt: skip


def _opened(home: Path, digest: str) -> Snapshot:
    folder = Home.at(home).snapshots / digest
    if not folder.is_dir():
        raise DefinitionError(
            f"snapshot {digest[:12]}: there is none in {folder.parent}; pull first, or ask for latest"
        )
    return open_snapshot(folder)


def _newest(home: Path) -> str:
    known = Records(Home.at(home).state_url).snapshots()
    if not known:
        raise IncompleteDataError(f"no snapshot in {home}; pull first: crps-outcomes run --source ...")
    return known[-1].digest
