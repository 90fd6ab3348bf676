"""``crps-outcomes codes``: what a snapshot holds that no measure of the study took."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crps_outcomes import resources as fhir
from crps_outcomes.console import CODES, OutOption, StudyOption, home_at, stops
from crps_outcomes.readings import Catalogue, is_taken
from crps_outcomes.snapshots import find
from crps_outcomes.stages.screen import subject_id
from crps_outcomes.study import load, locate
from crps_outcomes.texts import one_line
from crps_outcomes.wording import system_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crps_outcomes.snapshot import Snapshot
    from crps_outcomes.study import Study

app = typer.Typer(no_args_is_help=True, help="Codes: what a server holds that no measure of the study took.")
_SHOWN = 70


@dataclass(frozen=True, order=True)
class Unmapped:
    """A code, or a questionnaire, that no measure took: how many resources carry it, of how many people."""

    n: int
    n_people: int
    resource_type: str
    system: str
    code: str
    display: str = ""


@app.callback()
def codes() -> None:
    """Codes: what a server holds that no measure of the study took."""


@app.command(epilog=CODES)
@stops
def unmapped(
    snapshot: Annotated[
        str, typer.Option("--snapshot", help='The digest, or its first characters, or "latest".')
    ] = "latest",
    study: StudyOption = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many; the most frequent come first.")] = 20,
    out: OutOption = None,
) -> None:
    """The codes of Observations and the questionnaires that no measure took, the most frequent first.

    Example: [bold]crps-outcomes codes unmapped --snapshot latest --top 3[/bold]
    """
    found = unmapped_in(find(home_at(out), snapshot), load(locate(study)))
    table = Table("resources", "people", "type", "system", "code", "display as the source writes it")
    for one in found[:top]:
        name = system_name(one.system)
        system = one.system if name == "local code" else name
        table.add_row(
            f"{one.n:,}", f"{one.n_people:,}", one.resource_type, *map(_shown, (system, one.code, one.display))
        )
    Console().print(table)
    typer.echo(f"{len(found)} codes that no measure took, in {sum(one.n for one in found)} resources")


def unmapped_in(snapshot: Snapshot, study: Study) -> list[Unmapped]:
    """What no measure took, the most frequent first; each resource counts once, under the first of its codings."""
    seen: Counter[tuple[str, str, str]] = Counter()
    people: dict[tuple[str, str, str], set[str]] = {}
    displays: dict[tuple[str, str, str], Counter[str]] = {}
    for key, display, subject in _untaken(snapshot, Catalogue(study)):
        seen[key] += 1
        people.setdefault(key, set()).add(subject)
        displays.setdefault(key, Counter())[display] += 1
    found = (Unmapped(n, len(people[key]), *key, displays[key].most_common(1)[0][0]) for key, n in seen.items())
    return sorted(found, key=lambda one: (-one.n, one.resource_type, one.system, one.code))


def _untaken(snapshot: Snapshot, catalogue: Catalogue) -> Iterator[tuple[tuple[str, str, str], str, str]]:
    for one in _read(snapshot, "Observation"):
        if isinstance(one, fhir.Observation) and not is_taken(one, catalogue):
            first = one.code.coding[0] if one.code.coding else fhir.Coding(code="(words only)", display=one.code.text)
            yield ("Observation", first.system, first.code), first.display or one.code.text, subject_id(one)
    for other in _read(snapshot, "QuestionnaireResponse"):
        if isinstance(other, fhir.QuestionnaireResponse) and not is_taken(other, catalogue):
            key = ("QuestionnaireResponse", "", other.questionnaire.split("|")[0] or "(none named)")
            yield key, "", subject_id(other)


def _read(snapshot: Snapshot, resource_type: str) -> Iterable[fhir.Resource]:
    """The resources of a type that can be read; what cannot stands in the rejections of every report."""
    if resource_type not in snapshot.types():
        return
    for raw in snapshot.lines(resource_type):
        try:
            yield fhir.decode(resource_type, raw)
        except ValueError:
            continue


def _shown(text: str) -> str:
    """The source's text, fit for a terminal."""
    return escape(one_line(text, _SHOWN))
