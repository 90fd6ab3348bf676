"""Who we are to the FHIR server: nobody, a bearer token or a name and password, from a private file or a variable.

A secret never stands in the study folder, in an argument list or in a message. It is asked for before every request,
so that a token another process renews in its file is used at once. SMART Backend Services stand in `smart`.
"""

from __future__ import annotations

import stat
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from crps_outcomes.errors import DefinitionError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from crps_outcomes.fhir.client import Client

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Credential(Protocol):
    """What stands in the Authorization header. Shared by all threads of a pull."""

    def header(self) -> str:
        """The header's value, renewed ahead of its end; "" for none."""

    def renew(self, rejected: str) -> bool:
        """After a 401 to ``rejected``: whether it is worth asking again, once."""


class Login(Protocol):
    """How a credential is come by once the server is known."""

    def sign_in(self, client: Client, resource_types: Sequence[str]) -> Credential:
        """The credential for reading these types; ``client`` sends no Authorization of its own.

        Raises:
            SourceError: the server does not give it.
        """


@dataclass(frozen=True)
class _Known:
    """A header that needs no server: read anew for every request."""

    read: Callable[[], str] = field(repr=False)

    def sign_in(self, _client: Client, _resource_types: Sequence[str]) -> Self:
        return self

    def header(self) -> str:
        return self.read()

    def renew(self, rejected: str) -> bool:  # noqa: ARG002 - the file may hold a new token by now; if not, one more 401
        return True


no_credential = _Known(lambda: "")


def bearer_from_file(path: Path) -> Login:
    """The token in a file that only its owner may read.

    Raises:
        DefinitionError: the file is missing, or others may read it.
    """
    private_file(path, "bearer token")
    return _Known(lambda: _bearer(_line(path), "the token file"))


def bearer(token: str, where: str) -> Login:
    """The token itself; ``where`` it came from, for messages.

    Raises:
        DefinitionError: it is no token.
    """
    header = _bearer(token.strip(), where)
    return _Known(lambda: header)


def bearer_from_variable(name: str, environment: Mapping[str, str]) -> Login:
    """The token in an environment variable. The environment comes in by argument.

    Raises:
        DefinitionError: the variable is not set, or holds no token.
    """
    return bearer(environment.get(name, ""), f"environment variable {name}")


def basic(user: str, password: Path | str) -> Login:
    """A user's name, and the password or the file that holds it, which only its owner may read.

    Raises:
        DefinitionError: the file is missing, others may read it, or the name holds a colon.
    """
    if not user or ":" in user or not user.isprintable():
        raise DefinitionError("the user of the FHIR server: not a name; it should be printable and hold no colon")
    if isinstance(password, str):
        header = _basic(user, password)
        return _Known(lambda: header)
    private_file(password, "password")
    return _Known(lambda: _basic(user, _line(password)))


def private_file(path: Path, what: str) -> Path:
    """The file, if it is there and only its owner may read it (T5).

    Raises:
        DefinitionError: it is missing, or others may read it.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise DefinitionError(f"{path}: no such file; it should hold the {what}") from error
    if not stat.S_ISREG(mode):
        raise DefinitionError(f"{path}: not a file; it should hold the {what}")
    if mode & _OTHERS:
        raise DefinitionError(f"{path}: others may read the {what}; it should have mode 0600 (chmod 600)")
    return path


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError("a secret's file cannot be read any more; it should hold one line") from error


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def _bearer(token: str, where: str) -> str:
    """A header must not carry a line break or anything outside ASCII."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise DefinitionError(f"{where}: not a bearer token; it should be one word of ASCII characters")
    return f"Bearer {token}"
