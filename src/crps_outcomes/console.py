"""What all commands share: where the home folder is, and how an error is told."""

from __future__ import annotations

import os
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer
from rich.console import Console
from rich.markup import escape

from crps_outcomes import settings
from crps_outcomes.errors import EXIT_CODES, PipelineError
from crps_outcomes.failures import translate
from crps_outcomes.home import Home
from crps_outcomes.settings import HOME
from crps_outcomes.texts import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

Arguments = ParamSpec("Arguments")

_MEANINGS = (f"[bold]{code}[/] {meaning.replace(';', ',')}" for code, meaning in EXIT_CODES.items())
CODES = f"Exit codes: {'; '.join(_MEANINGS)}."

StudyOption = Annotated[
    Path | None, typer.Option("--study", help="Study folder. Without it: the one that comes with this installation.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help=f"Folder below which all is written. Without it: ${HOME}, else build.")
]


def home_at(out: Path | None) -> Home:
    """The home folder a command was told, else the environment's, else ``build``."""
    return Home.at(settings.home(os.environ, str(out) if out else None))


def stops(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Turn an error into one message on stderr and its exit code; never a traceback, never a foreign exception's text."""

    @wraps(command)
    def told(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except PipelineError as error:
            code = _tell(error)
        except (KeyboardInterrupt, SystemExit, typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:  # whoever reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return
        except Exception as error:  # noqa: BLE001 - its text may hold a patient's data
            code = _tell(translate(error, home_at(None).root, command.__name__))
        else:
            return
        raise typer.Exit(code)

    return told


def said(error: PipelineError) -> str:
    """The message with the line ends we wrote and without any other control, whatever it quotes."""
    return "\n".join(map(one_line, str(error).split("\n")))


def _tell(error: PipelineError) -> int:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]Stopped.[/] {escape(said(error))}")
    return error.exit_code
