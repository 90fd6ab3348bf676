"""What one fault is: where it can stand, and the small function that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from faulty_server.answers import EXPORT_PLACES, REST_PLACES, SMART_PLACES, Answer, Inject, Json, Row, Scene, outcome

if TYPE_CHECKING:
    from pathlib import Path

Act = Callable[[Answer, Scene], Answer]
Rows = Callable[[list[Row], Any], list[Row]]


@dataclass(frozen=True)
class Variant:
    """One way in which a fault shows; ``name`` is its number, with a word where there are several ways.

    ``act`` spoils an answer, ``rows`` the resources of a page or file, ``data`` what the server holds, ``settings`` how
    it behaves, ``folder`` the files on disk, where ``rows`` and ``data`` have not done so.
    """

    name: str
    what: str
    places: tuple[str, ...] = ()
    act: Act | None = None
    rows: Rows | None = None
    data: Callable[[Sequence[Json], Inject], Sequence[Json]] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    folder: Callable[[Path, Inject], None] | None = None
    page: int | None = None  # where it stands if none is named; None: as is usual for the place
    option: Any = None
    resource_type: str = ""  # the only type it makes sense for

    @property
    def code(self) -> str:
        return self.name[:3]

    @property
    def sources(self) -> tuple[str, ...]:
        """Of ``rest``, ``export`` and ``folder``, those it can be injected for."""
        has = {*self.places}
        found = {
            "rest": has & {*REST_PLACES, *SMART_PLACES},
            "export": has & {*EXPORT_PLACES, *SMART_PLACES, "data"},
            "folder": self.folder or self.rows or self.data,
        }
        return tuple(name for name, is_so in found.items() if is_so)


def status(code: int, issue: str, **headers: str) -> Act:
    """An error with an OperationOutcome; the injection's option is more headers."""

    def act(_: Answer, scene: Scene) -> Answer:
        more = scene.option if isinstance(scene.option, dict) else {}
        return replace(outcome(code, issue), headers={**headers, **more})

    return act
