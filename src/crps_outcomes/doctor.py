"""What would let a secret or a patient's data out of this machine, found before it happens. Nothing is asked over a network.

A finding names a file, a line, a key or a variable, never the value that stands there.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from crps_outcomes import settings
from crps_outcomes.errors import DefinitionError
from crps_outcomes.fhir import auth
from crps_outcomes.study import CARD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SPEAKING = r"token|secret|passw(?:or)?d|api[_-]?key|private[_-]?key|credential|authorization|auth[_-]?string"
#: A key whose name speaks of a secret, and its value as TOML or YAML writes it.
_NAMED = re.compile(rf"""(?i)([\w.-]*(?:{_SPEAKING})[\w.-]*)["']?\s*[:=]\s*["']?([^\s"'#,}}\]]+)""")
#: A key that says where a secret is, not what it is; and a value that is filled in elsewhere.
_POINTS = re.compile(r"(?i)(file|path|block|host|url|kid)$")
_FILLED_IN = re.compile(r"^(\{\{|\$|null$|~$|true$|false$)", re.IGNORECASE)
#: What is a secret whatever it is called: a signed token, a private key, a header, a password in an address.
_SECRET_LOOKING = re.compile(
    r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY|\bBearer\s+[\w.~+/-]{16,}|\bBasic\s+[A-Za-z0-9+/]{16,}"
    r"|://[^/\s:@\"']+:[^/\s@\"']+@"
)
_PRIVATE_KEY = re.compile(r'-----BEGIN [A-Z ]*PRIVATE KEY|"d"\s*:\s*"')


class Finding(NamedTuple):
    """One check: whether it is in order, and what was found."""

    is_right: bool
    words: str

    def __str__(self) -> str:
        return f"{'in order' if self.is_right else 'WRONG'}: {self.words}"


def examine(environment: Mapping[str, str], home: Path, study: Path) -> list[Finding]:
    """Every check, one finding or more each.

    Args:
        environment: variables by name.
        home: the folder below which everything is written; it need not be there yet.
        study: the study folder.
    """
    checks = (
        _secret_files(environment), _sign_in(environment), _keys_in_variables(environment), _inline(study),
        _home_folder(home), _scheduler(environment), _own_server(environment),
    )  # fmt: skip
    return [finding for check in checks for finding in check]


def _secret_files(environment: Mapping[str, str]) -> Iterator[Finding]:
    named = [name for name in settings.SECRET_FILES if environment.get(name)]
    for name in named:
        yield _tried(f"{name}: only its owner may read it", auth.private_file, Path(environment[name]), "secret")
    if not named:
        yield _right("secret files: none is named")


def _sign_in(environment: Mapping[str, str]) -> Iterator[Finding]:
    yield _tried("signing in: at most one way is set, and whole", settings.access, environment)


def _keys_in_variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    found = sorted(name for name, value in environment.items() if _PRIVATE_KEY.search(value))
    for name in found:
        yield _wrong(f"{name}: holds a private key; it should name a file of mode 0600")
    if not found:
        yield _right("environment: no variable holds a private key")


def _inline(study: Path) -> Iterator[Finding]:
    files = [study / "prefect.yaml", *(path for folder in CARD for path in (study / folder).rglob("*"))]
    texts = sorted(path for path in files if path.suffix in {".toml", ".yaml", ".yml"} and path.is_file())
    places = [f"{path.relative_to(study)}:{place}" for path in texts for place in _secrets_in(path)]
    for place in places:
        yield _wrong(f"{place} looks like a secret; it should be in a file of mode 0600")
    if not places:
        yield _right(f"{study}: none of {len(texts)} files holds a secret")


def _secrets_in(path: Path) -> Iterator[str]:
    """Line and key of what looks like a secret."""
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        named = [] if line.lstrip().startswith("#") else _NAMED.findall(line)
        keys = [key for key, value in named if not _POINTS.search(key) and not _FILLED_IN.match(value)]
        if keys or _SECRET_LOOKING.search(line):
            yield f"{number}: {keys[0] if keys else 'a value'}"


def _home_folder(home: Path) -> Iterator[Finding]:
    if not home.exists():
        yield _right(f"{home}: not there yet; it is made for its owner only")
    elif home.stat().st_mode & _OTHERS:
        yield _wrong(f"{home}: others may look into the home folder; it should have mode 0700 (chmod 700)")
    else:
        yield _right(f"{home}: mode 0700")


def _scheduler(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Where runs are recorded: on this machine, or sealed and with a credential (T22)."""
    address = environment.get("PREFECT_API_URL", "")
    url = urlsplit(address)
    has_credential = any(environment.get(name) for name in ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"))
    if not address or url.hostname in _LOOPBACK:
        yield _right("PREFECT_API_URL: this machine")
    elif url.scheme != "https" or not has_credential:
        yield _wrong(
            "PREFECT_API_URL: another machine; it should be https, with PREFECT_API_AUTH_STRING or PREFECT_API_KEY set"
        )
    else:
        yield _right("PREFECT_API_URL: https, with a credential")


def _own_server(environment: Mapping[str, str]) -> Iterator[Finding]:
    """A Prefect server started with these variables: who may reach it (T22)."""
    is_open = environment.get("PREFECT_SERVER_API_HOST", _LOOPBACK[0]) not in _LOOPBACK
    if is_open and not environment.get("PREFECT_SERVER_API_AUTH_STRING"):
        yield _wrong("PREFECT_SERVER_API_HOST: open to the network; PREFECT_SERVER_API_AUTH_STRING should be set")
    else:
        yield _right("PREFECT_SERVER_API_HOST: this machine only, or with a credential")
    is_server = any(environment.get(name) for name in ("PREFECT_SERVER_API_HOST", "PREFECT_SERVER_API_AUTH_STRING"))
    if is_server and environment.get("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "").lower() not in {"true", "1"}:
        yield _wrong("PREFECT_SERVER_CSRF_PROTECTION_ENABLED: should be true, or a web page could start runs")
    else:
        yield _right("PREFECT_SERVER_CSRF_PROTECTION_ENABLED: on, or no server is set up here")


def _tried(promise: str, check: Callable[..., object], *arguments: Any) -> Finding:
    try:
        check(*arguments)
    except DefinitionError as error:
        return _wrong(str(error))
    return _right(promise)


def _right(words: str) -> Finding:
    return Finding(is_right=True, words=words)


def _wrong(words: str) -> Finding:
    return Finding(is_right=False, words=words)
