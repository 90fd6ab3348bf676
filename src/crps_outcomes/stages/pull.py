"""Pull: everything the source holds about the enrolled people, as an immutable snapshot, or a refusal.

Whom to ask for comes first (the selector, then Patients and Consents), then what is known about them. Only enrolled
people's resources are kept; of somebody who withdrew, the Consent that says so and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from crps_outcomes.asking import (
    WholeIsNeededError,
    ask,
    clinical_types,
    decisive,
    is_patient,
    local_day,
    vanished,
    wanted_types,
)
from crps_outcomes.errors import IncompleteDataError, NoPatientsError
from crps_outcomes.fhir.source import Order
from crps_outcomes.ledger import complaint, missing
from crps_outcomes.nights import last_night, next_watermarks, scope_of
from crps_outcomes.rejections import rejection_table
from crps_outcomes.snapshot import Completeness, Conclusion, Origin, Snapshot, write_snapshot
from crps_outcomes.state import Night, Records
from crps_outcomes.taking import Keeps, Taking
from crps_outcomes.workplace import About, forget_stale, workplace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd

    from crps_outcomes.definitions import Protocol
    from crps_outcomes.enrolment import Enrolment, Listed
    from crps_outcomes.fhir.source import Source
    from crps_outcomes.home import Home
    from crps_outcomes.journal import Held
    from crps_outcomes.nights import Past
    from crps_outcomes.patient_list import ListedPatient
    from crps_outcomes.progress import Tell
    from crps_outcomes.workplace import Workplace


def _say_nothing(sentence: str) -> None:
    """For callers who do not watch."""


@dataclass(frozen=True)
class Pulled:
    """A published snapshot, its state, the pull's LEDGER, and who is enrolled."""

    snapshot: Snapshot
    state: Completeness
    ledger: pd.DataFrame
    enrolment: Enrolment


def pull(  # noqa: PLR0913 - two of them are switches
    source: Source,
    protocol: Protocol,
    home: Home,
    *,
    patients: Sequence[ListedPatient] = (),
    is_whole: bool = False,
    is_draft: bool = False,
    progress: Tell = _say_nothing,
) -> Pulled:
    """Take a complete snapshot from a source, or none; a pull that stopped goes on where it did.

    The ledger is written below ``home.pulls`` in any case, as soon as the source has answered at all.

    Args:
        source: a server, an export or a folder.
        protocol: whom to pull, and how.
        home: where everything lands.
        patients: the list of the enrolled, where the protocol's selector is "list".
        is_whole: ask for everything, also of what a pull before has brought.
        is_draft: with holes, take what there is as an incomplete snapshot, which is good for a draft only.
        progress: told what is going on.

    Raises:
        SourceError: the source cannot be reached, refuses, or does not know a resource type.
        IncompleteDataError: something that should be there is missing; no snapshot is published.
        NoPatientsError: the selector names nobody who counts.
        PipelineError: another pull into this home is running.
    """
    with home.only_one_pull():
        scope = scope_of(source, protocol)
        past = last_night(home, scope)
        place = workplace(home.pulls, About(scope, past.snapshot.digest if past else ""))
        asked = partial(_take, source, protocol, place, past, patients, trusts_empty=is_whole, progress=progress)
        try:
            taken = asked(is_whole=is_whole)
        except WholeIsNeededError:
            taken = asked(is_whole=True)
        progress("Writing the snapshot")
        return _Ending(taken, protocol, home, place, scope, is_draft=is_draft).published()


# --- taking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """What a pull has brought, not settled yet."""

    taking: Taking
    source_kind: Literal["rest", "export", "folder"]
    software: str
    is_whole: bool
    people: Listed
    enrolment: Enrolment | None
    keeps: Keeps


def _take(  # noqa: PLR0913 - what a pull is made of
    source: Source,
    protocol: Protocol,
    place: Workplace,
    past: Past | None,
    patients: Sequence[ListedPatient],
    *,
    is_whole: bool,
    trusts_empty: bool,
    progress: Tell,
) -> _Found:
    watermarks = past.night.watermarks.values() if past and not is_whole else ()
    order = Order(
        resource_types=wanted_types(protocol),
        limits=protocol.pull,
        workplace=place.folder,
        since=min(watermarks, default=None),
        whole_from=past.whole_from(protocol) if past else None,
        group=protocol.enrolment.group_identifier if protocol.enrolment.selector == "group" else "",
    )
    with source.open(order) as session:
        hours = protocol.pull.resume_hours if source.kind == "rest" else 0  # nothing else is reused
        started_at = place.start(session.pulled_at, most_hours=hours)
        whole = is_whole or past is None or past.is_whole_due(started_at, protocol)
        if whole and not is_whole and session.since is not None:
            raise WholeIsNeededError
        taking = Taking(
            session=session,
            journal=place.journal,
            past=past,
            may_reuse=source.kind == "rest",
            by_person=frozenset(clinical_types(protocol)),
            read=lambda part: decisive(part, protocol),
            started_at=started_at,
            now=session.pulled_at,
            progress=progress,
        )
        people, enrolment, keeps = ask(taking, protocol, patients, is_whole=whole)
        if source.kind != "rest" and not trusts_empty and enrolment is not None:
            taking.note(vanished(taking, clinical_types(protocol), enrolment))
        return _Found(taking, source.kind, session.software, whole, people, enrolment, keeps)


# --- settling and publishing ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ending:
    """From what was found to a snapshot, or to the reason why there is none."""

    found: _Found
    protocol: Protocol
    home: Home
    place: Workplace
    scope: str
    is_draft: bool

    def published(self) -> Pulled:
        books = self.found.taking.books
        snapshot = write_snapshot(self.home.snapshots, self._kept(), self._conclude)
        enrolment = self.found.enrolment
        assert enrolment is not None
        state = self._state
        if state != "incomplete":
            Records(self.home.state_url).add_snapshot(snapshot.manifest, self._night(snapshot))
        self.place.end(state)
        forget_stale(self.home.pulls, self.found.taking.now, most_hours=self.protocol.pull.resume_hours)
        return Pulled(snapshot, state, books.ledger(), enrolment)

    @property
    def _state(self) -> Completeness:
        if self.found.taking.has_holes:
            return "incomplete"
        return "complete" if self.found.taking.is_verified else "unverified"

    def _kept(self) -> Mapping[str, Iterator[Held]]:
        taking, keeps = self.found.taking, self.found.keeps
        clinical = clinical_types(self.protocol)
        taking.books.patients = frozenset(one.id for one in taking.newest("Patient", is_patient))
        return {name: taking.settled(name, keeps, names_people=name in clinical) for name in taking.types}

    def _conclude(self) -> Conclusion:
        """The ledger on disk, and what the snapshot says of itself.

        Raises:
            IncompleteDataError: there are holes, and no draft was asked for.
            NoPatientsError: nobody is enrolled.
        """
        taking = self.found.taking
        ledger = taking.books.ledger()
        self.place.put("ledger.csv", ledger.to_csv(index=False).encode())
        self.place.put("changes.csv", _changed(taking.books.changed))
        has_people = self.found.enrolment is not None and bool(self.found.enrolment.enrolled)
        if taking.has_holes and not (self.is_draft and has_people):
            taking.forget_doubtful()
            self.place.forget_export()
            self.place.end("incomplete")
            raise IncompleteDataError(
                f"the data are incomplete, so nothing was published:\n{complaint(ledger)}\n"
                f"The ledger is pulls/{self.place.folder.name}/ledger.csv in the home folder. "
                "The next pull asks again for what is missing."
            )
        if not has_people:
            self.place.end("nobody")
            raise NoPatientsError(_nobody(self.found, self.protocol.enrolment.selector))
        tables = {
            "ledger": ledger,
            "rejections": rejection_table(taking.books.refused()),
            "changes": taking.books.changes_table(),
        }
        return Conclusion(self._origin(ledger), tables)

    def _origin(self, ledger: pd.DataFrame) -> Origin:
        found, past = self.found, self.found.taking.past
        newest = max(found.taking.books.newest.values(), default=found.taking.now)
        return Origin(
            source_kind=found.source_kind,
            completeness=self._state,
            selector=self.protocol.enrolment.selector,
            pulled_at=found.taking.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            pulled_on=local_day(found.taking.now, self.protocol),
            data_as_of=local_day(newest, self.protocol),
            software=found.software,
            before=past.snapshot.digest if past else "",
            before_on=past.snapshot.manifest.pulled_on if past else "",
            holes=missing(ledger),
        )

    def _night(self, snapshot: Snapshot) -> Night:
        found, past = self.found, self.found.taking.past
        newest = {name: found.taking.books.newest.get(name) for name in clinical_types(self.protocol)}
        return Night(
            scope=self.scope,
            snapshot=snapshot.digest,
            whole_at=found.taking.started_at if found.is_whole or past is None else past.night.whole_at,
            watermarks=next_watermarks(newest, found.taking.started_at, past),
        )


def _changed(changes: Iterable[tuple[str, str]]) -> bytes:
    return "".join(["resource_ref,change\n", *(f"{ref},{change}\n" for ref, change in changes)]).encode()


def _nobody(found: _Found, selector: str) -> str:
    enrolment, people = found.enrolment, found.people
    if enrolment is None:
        return f"no enrolled patients: the {selector} selector lists {people.n} and none of them is active"
    return (
        f"no enrolled patients: of {enrolment.n_listed} listed by the {selector} selector {enrolment.n_inactive} are "
        f"inactive, {enrolment.n_consent_revoked} withdrew consent, of {enrolment.n_consent_expired} it has expired, "
        f"{enrolment.n_merged} are merged into another record, {enrolment.n_dangling} have no Patient resource, and "
        f"{enrolment.n_unresolved} cannot be resolved"
    )
