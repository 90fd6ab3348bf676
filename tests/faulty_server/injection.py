"""Where an injection stands: which of the places of its fault, which page, which type."""

from __future__ import annotations

from dataclasses import replace

from faulty_server.answers import EXPORT_PLACES, PLACES, TYPED, USUAL_PAGE, Inject
from faulty_server.faults import VARIANTS


def refuse_nonsense(inject: Inject) -> None:
    """A fault that stands nowhere would be a test that proves nothing."""
    if inject.code not in VARIANTS:
        raise ValueError(f"no fault {inject.code}; see CATALOGUE")
    if inject.at not in {"", *PLACES}:
        raise ValueError(f"no place {inject.at}; there are {', '.join(PLACES)}")


def full(inject: Inject) -> Inject:
    """With what the fault itself says about option and type, where the injection does not."""
    variant = VARIANTS[inject.code]
    option = variant.option if inject.option is None else inject.option
    return replace(inject, option=option, resource_type=variant.resource_type or inject.resource_type)


def stands(inject: Inject, at: str, name: str, page: int) -> bool:
    """Whether it strikes here; a page that is not named is the usual one of the place or of the fault."""
    if at not in _places(inject) or (at in TYPED and inject.resource_type != name):
        return False
    usual = VARIANTS[inject.code].page
    wanted = inject.page if isinstance(inject.page, int) else USUAL_PAGE.get(at, 0) if usual is None else usual
    return at in {"count", "metadata"} or wanted in {0, page}


def _places(inject: Inject) -> set[str]:
    """The place that is named, else the first of the fault in a search or login, and the first in an export."""
    if inject.at or inject.page == "count" or inject.resource_type == "metadata":
        return {inject.at or ("count" if inject.page == "count" else "metadata")}
    places = VARIANTS[inject.code].places
    own = [[one for one in places if one not in EXPORT_PLACES], [one for one in places if one in EXPORT_PLACES]]
    return {some[0] for some in own if some}
