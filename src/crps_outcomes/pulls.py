"""The first step of the pipeline, as a plain function: a source in, the digest of a snapshot out.

Apart from the other steps, because whoever only pulls loads nothing of analysis or printing: it halves the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from crps_outcomes.failures import bounded
from crps_outcomes.fhir import open_source
from crps_outcomes.home import Home
from crps_outcomes.patient_list import list_for
from crps_outcomes.stages import pull as pulling
from crps_outcomes.study import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from crps_outcomes.progress import Tell


@dataclass(frozen=True)
class Asked:
    """What a pull is asked for: where, how a server is read, everything or changes, and what to do about holes."""

    source: str
    method: Literal["search", "export"]
    is_whole: bool = False
    is_draft: bool = False


@bounded("pull")
def pull(  # noqa: PLR0913 - whom, where from, where to, and who watches
    home: Path, study: Path, asked: Asked, access: Mapping[str, Any], progress: Tell, *, patients: Path | None = None
) -> str:
    """Everything the source holds about the enrolled, as a snapshot; its digest. ``patients``: their list, if any.

    Raises:
        DefinitionError: the list is missing, unused or wrong.
        SourceError: it cannot be reached or refuses.
        IncompleteDataError: something is missing; the ledger says what.
        NoPatientsError: nobody is enrolled.
    """
    place = Home.at(home)
    protocol = load(study).protocol
    chosen = list_for(protocol.enrolment.selector, patients)
    source = open_source(asked.source, method=asked.method, level=protocol.pull.export_level, **access)
    pulled = pulling.pull(
        source, protocol, place, patients=chosen, is_whole=asked.is_whole, is_draft=asked.is_draft, progress=progress
    )
    return pulled.snapshot.digest
