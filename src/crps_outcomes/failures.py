"""The one boundary between the pipeline and whatever runs it: an unforeseen failure leaves without its words.

The text of a foreign exception may hold a patient's data, and an orchestrator stores exception texts for ever. So what
leaves is a `PipelineError` with the name of the failure's class; where it happened is written to a file in the home
folder: files, lines and functions of the code, no values.
"""

from __future__ import annotations

import traceback
from errno import errorcode
from functools import wraps
from hashlib import sha256
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from crps_outcomes.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def bounded(
    step: str,
) -> Callable[[Callable[Concatenate[Path, Arguments], Result]], Callable[Concatenate[Path, Arguments], Result]]:
    """Let only PipelineErrors out of a function whose first argument is the home folder, and nothing behind them."""

    def bind(
        function: Callable[Concatenate[Path, Arguments], Result],
    ) -> Callable[Concatenate[Path, Arguments], Result]:
        @wraps(function)
        def guarded(home: Path, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            try:
                return function(home, *args, **kwargs)
            except PipelineError as known:
                safe = known
            except Exception as unforeseen:  # noqa: BLE001 - that is what a boundary is for
                safe = translate(unforeseen, home, step)
            safe.__context__ = None
            raise safe from None

        return guarded

    return bind


def translate(error: Exception, home: Path, step: str) -> PipelineError:
    """The error that stands for an unforeseen one: its class, and the file that says where it happened."""
    try:
        where = str(record(error, home, step))
    except OSError as full:
        where = f"not written, {_called(full)}"
    return PipelineError(f"{step}: unforeseen {_called(error)}; where in the code it happened: {where}")


def _called(error: BaseException) -> str:
    """The class of an error, and the system's or the database's name for it, if it has one."""
    code = errorcode.get(error.errno or 0, "") if isinstance(error, OSError) else ""
    code = code or getattr(getattr(error, "orig", None), "sqlite_errorname", "")
    return f"{type(error).__name__} {code}".rstrip()


def record(error: Exception, home: Path, step: str) -> Path:
    """Write where an error happened. The name comes from the content: the same failure twice is one file."""
    text = "\n".join([f"{step}: {type(error).__name__}", *_places(error)]) + "\n"
    folder = home / "failures"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{sha256(text.encode()).hexdigest()[:12]}.txt"
    path.write_text(text, encoding="utf-8")
    return path.resolve()


def _places(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
    cause = error.__cause__ or error.__context__
    return lines if cause is None else [*lines, f"after {type(cause).__name__}", *_places(cause)]
