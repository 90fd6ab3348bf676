"""What a long step is doing: one line on stderr where a person watches, nothing where a log does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Told one sentence at a time; never an id.
Tell = Callable[[str], None]


def quiet(sentence: str) -> None:
    """Say nothing."""


# What shows progress cannot be a parameter of a flow, for those are stored; a flow's tasks find it here.
_CURRENT: ContextVar[Tell] = ContextVar("progress", default=quiet)


def current() -> Tell:
    """Whom the caller of a flow wants to be told."""
    return _CURRENT.get()


@contextmanager
def shown() -> Iterator[Tell]:
    """A moving line for the length of the block, on stderr, only when a person sits there."""
    if not sys.stderr.isatty():
        yield quiet
        return
    with Console(stderr=True).status("Starting") as line:

        def tell(sentence: str) -> None:
            line.update(escape(sentence))

        before = _CURRENT.set(tell)
        try:
            yield tell
        finally:
            _CURRENT.reset(before)
