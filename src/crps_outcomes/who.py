"""``crps-outcomes who``: from a code on an action list back to the person, on the machine that holds the key."""

from __future__ import annotations

from typing import Annotated

import typer

from crps_outcomes import pseudonyms
from crps_outcomes import resources as fhir
from crps_outcomes.console import OutOption, home_at, stops
from crps_outcomes.errors import DefinitionError
from crps_outcomes.snapshots import find


@stops
def who(
    code: Annotated[str, typer.Argument(help="The code on the list, such as 7QK2-M9XA.")], out: OutOption = None
) -> None:
    """The Patient behind a code of an action list, looked for in the newest snapshot.

    Example: [bold]crps-outcomes who 7QK2-M9XA[/bold]
    """
    home = home_at(out)
    records = find(home, "latest").lines("Patient")
    found = pseudonyms.person(home, code, (fhir.decode("Patient", raw).id for raw in records))
    if not found:
        raise DefinitionError(
            "no person of the newest snapshot has this code; it should be one of this home folder's lists"
        )
    typer.echo("\n".join(f"Patient/{subject}" for subject in found))
