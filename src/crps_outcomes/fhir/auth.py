"""Tokens for the FHIR server: none, or a bearer token from a private file or a named environment variable.

A token never stands in the study folder, in an argument list or in a message. It is asked for before every request,
so that a token another process renews in the file is used at once.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from crps_outcomes.errors import DefinitionError, SourceError

if TYPE_CHECKING:
    from pathlib import Path

Token = Callable[[], str]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def no_token() -> str:
    """For a server that asks for none."""
    return ""


def token_from_file(path: Path) -> Token:
    """The token in a file that only its owner may read.

    Raises:
        DefinitionError: the file is missing, or others may read it.
    """
    _refuse_open_file(path)

    def read() -> str:
        try:
            return _checked(path.read_text(encoding="utf-8").strip(), "the token file")
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError("the token file cannot be read any more; it should hold one line, the token") from error

    return read


def token_from_variable(name: str, environment: Mapping[str, str]) -> Token:
    """The token in an environment variable. The environment comes in by argument.

    Raises:
        DefinitionError: the variable is not set.
    """
    if not environment.get(name, "").strip():
        raise DefinitionError(f"environment variable {name}: not set; it should hold the server's bearer token")
    token = _checked(environment[name].strip(), f"environment variable {name}")
    return lambda: token


def _refuse_open_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise DefinitionError(f"{path}: no such token file; it should hold one line, the bearer token") from error
    if mode & _OTHERS:
        raise DefinitionError(f"{path}: others may read the token; it should have mode 0600 (chmod 600)")


def _checked(token: str, where: str) -> str:
    """A header must not carry a line break or anything outside ASCII."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise DefinitionError(f"{where}: not a bearer token; it should be one word of ASCII characters")
    return token
