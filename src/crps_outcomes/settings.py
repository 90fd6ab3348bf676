"""Where a run finds what it needs: from its parameters, and from the environment that ``cli.py`` and ``flows/`` hand in.

The environment holds what must not be a flow's parameter, for those are stored by the scheduler in plain text for ever.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from crps_outcomes import patient_list, sections
from crps_outcomes.errors import DefinitionError
from crps_outcomes.fhir import auth
from crps_outcomes.language import catalogue_mistakes
from crps_outcomes.study import load, locate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from crps_outcomes.definitions import ReportDefinition
    from crps_outcomes.params import CommonParams
    from crps_outcomes.study import Study

HOME = "CRPS_OUTCOMES_HOME"  # folder below which all is written; without it, build
SOURCE = "CRPS_OUTCOMES_SOURCE"  # address or folder that a scheduled run pulls from
TOKEN = "CRPS_OUTCOMES_TOKEN"  # noqa: S105 - the name of a variable: the server's bearer token
TOKEN_FILE = "CRPS_OUTCOMES_TOKEN_FILE"  # noqa: S105 - the name of a variable: a file, mode 0600, with the token
TOKEN_BLOCK = "CRPS_OUTCOMES_TOKEN_BLOCK"  # noqa: S105 - the name of a variable: a Prefect Secret block with the token
BASIC_USER = "CRPS_OUTCOMES_BASIC_USER"
BASIC_PASSWORD = "CRPS_OUTCOMES_BASIC_PASSWORD"  # noqa: S105 - the name of a variable
BASIC_PASSWORD_FILE = "CRPS_OUTCOMES_BASIC_PASSWORD_FILE"  # noqa: S105 - the name of a variable
SMART_CLIENT_ID = "CRPS_OUTCOMES_SMART_CLIENT_ID"
SMART_KEY_FILE = "CRPS_OUTCOMES_SMART_KEY_FILE"  # private key: PEM, JWK or JWKS
SMART_KID = "CRPS_OUTCOMES_SMART_KID"  # which key, by its name at the server
SMART_ALG = "CRPS_OUTCOMES_SMART_ALG"  # RS384 or ES384, if the file holds both
TOKEN_URL = "CRPS_OUTCOMES_TOKEN_URL"  # noqa: S105 - token endpoint, where the server does not name it
TOKEN_HOST = "CRPS_OUTCOMES_TOKEN_HOST"  # noqa: S105 - host of the token endpoint, if it is not the server's own
PATIENT_LIST = patient_list.VARIABLE  # file, mode 0600, with the enrolled, where the protocol's selector is "list"
CA_FILE = "CRPS_OUTCOMES_CA_FILE"  # certificates to trust beside the system's, for a hospital's own authority
ALLOWED_ORIGINS = "CRPS_OUTCOMES_ALLOWED_ORIGINS"  # where else pages and files may be, without the token; by spaces

#: Variables that name a file with a secret.
SECRET_FILES = (TOKEN_FILE, BASIC_PASSWORD_FILE, SMART_KEY_FILE)
#: Each is a way to sign in; at most one may be set.
_WAYS = (TOKEN, TOKEN_FILE, TOKEN_BLOCK, BASIC_USER, SMART_CLIENT_ID)


def home(environment: Mapping[str, str], asked: str | None = None) -> Path:
    """The home folder: the one asked for, else the environment's, else ``build`` here."""
    return Path(asked or environment.get(HOME) or "build").resolve()


def study(params: CommonParams) -> Path:
    """The study folder, read and checked together with the reports asked for: before anything is pulled.

    Raises:
        DefinitionError: a mistake in the study folder, or a report it does not have.
    """
    root = locate(Path(params.study) if params.study else None)
    reports = checked(root).reports
    for name in params.reports:
        if name not in reports:
            raise DefinitionError(f'reports: no report "{name}"; there are {", ".join(sorted(reports))}')
        if reports[name].about == "person":
            raise DefinitionError(
                f"reports: {name} is about single people, so it is never part of a run or of a release edition; "
                f"crps-outcomes {name} makes it, in the internal edition"
            )
    return root


def checked(root: Path) -> Study:
    """The study in a folder, read as a whole, and its reports held against the sections there are.

    Raises:
        DefinitionError: every mistake found, each with its file and key.
    """
    found = load(root)
    mistakes = [mistake for one in found.reports.values() for mistake in _section_mistakes(root, one)]
    mistakes += catalogue_mistakes(root)
    if mistakes:
        raise DefinitionError("\n".join(mistakes))
    return found


def _section_mistakes(root: Path, report: ReportDefinition) -> Iterator[str]:
    known = {module.name for module in iter_modules(sections.__path__)}
    for name in report.sections:
        if name not in known:
            yield f'reports/{report.id}.toml: sections: no section "{name}"; there are {", ".join(sorted(known))}'
        elif not (root / "templates" / "sections" / f"{name}.html.j2").is_file():
            yield f'reports/{report.id}.toml: sections: "{name}" needs templates/sections/{name}.html.j2'


def source(environment: Mapping[str, str], asked: str | None = None) -> str:
    """Address or folder to pull from.

    Raises:
        DefinitionError: there is none.
    """
    found = asked or environment.get(SOURCE)
    if not found:
        raise DefinitionError(f"no source to pull from; the parameter source or the variable {SOURCE} should name one")
    return found


def access(environment: Mapping[str, str], load_block: Callable[[str], str] | None = None) -> dict[str, Any]:
    """How a server may be reached: the fields of `RestSource` that the environment sets.

    Args:
        environment: variables by name.
        load_block: gives the text of a Prefect Secret block. Only a flow has one; without it a block stays unread.

    Raises:
        DefinitionError: two ways to sign in at once, half of one, or a secret's file that others may read.
    """
    return {
        "credential": _credential(environment, load_block),
        "ca_file": ca_file(environment),
        "allowed_origins": tuple(environment.get(ALLOWED_ORIGINS, "").replace(",", " ").split()),
        "proxies": proxies(environment),
    }


def _credential(environment: Mapping[str, str], load_block: Callable[[str], str] | None) -> auth.Login:
    ways = [name for name in _WAYS if environment.get(name)]
    if len(ways) > 1:
        raise DefinitionError(f"{' and '.join(ways)}: more than one way to sign in; only one should be set")
    _refuse_halves(environment)
    make: dict[str, Callable[[str], auth.Login]] = {
        TOKEN: lambda _: auth.bearer_from_variable(TOKEN, environment),
        TOKEN_FILE: lambda path: auth.bearer_from_file(Path(path)),
        TOKEN_BLOCK: lambda name: _from_block(name, load_block),
        BASIC_USER: lambda user: auth.basic(user, _password(environment)),
        SMART_CLIENT_ID: lambda client: _smart(client, environment),
    }
    return make[ways[0]](environment[ways[0]]) if ways else auth.no_credential


def _refuse_halves(environment: Mapping[str, str]) -> None:
    passwords = [name for name in (BASIC_PASSWORD, BASIC_PASSWORD_FILE) if environment.get(name)]
    keys = [SMART_KEY_FILE] if environment.get(SMART_KEY_FILE) else []
    if len(passwords) != bool(environment.get(BASIC_USER)):
        raise DefinitionError(f"{BASIC_USER} and either {BASIC_PASSWORD_FILE} or {BASIC_PASSWORD} belong together")
    if len(keys) != bool(environment.get(SMART_CLIENT_ID)):
        raise DefinitionError(f"{SMART_CLIENT_ID} and {SMART_KEY_FILE} belong together")


def _password(environment: Mapping[str, str]) -> Path | str:
    file = environment.get(BASIC_PASSWORD_FILE)
    return Path(file) if file else environment[BASIC_PASSWORD]


def _from_block(name: str, load: Callable[[str], str] | None) -> auth.Login:
    if load is None:
        return auth.no_credential
    try:
        token = load(name)
    except Exception:  # noqa: BLE001 - its text may hold the secret
        raise DefinitionError(f"{TOKEN_BLOCK}: no Secret block of that name can be loaded") from None
    return auth.bearer(token, f"the block named by {TOKEN_BLOCK}")


def _smart(client_id: str, environment: Mapping[str, str]) -> auth.Login:
    from crps_outcomes.fhir.keys import signing_key  # noqa: PLC0415 - only SMART loads cryptography and an HTTP client
    from crps_outcomes.fhir.smart import SmartBackend  # noqa: PLC0415

    kid, algorithm = environment.get(SMART_KID, ""), environment.get(SMART_ALG, "")
    key = signing_key(Path(environment[SMART_KEY_FILE]), kid=kid, algorithm=algorithm)
    return SmartBackend(client_id, key, environment.get(TOKEN_URL, ""), environment.get(TOKEN_HOST, ""))


def proxies(environment: Mapping[str, str]) -> dict[str, str | None]:
    """The proxies of HTTPS_PROXY, HTTP_PROXY and ALL_PROXY (or in lower case), and what NO_PROXY exempts.

    Raises:
        DefinitionError: a proxy that is not asked over http or https.
    """
    exempt = [one for one in _either(environment, "no_proxy").replace(",", " ").split() if one]
    if "*" in exempt:
        return {}
    found = {f"{scheme}://": _either(environment, f"{scheme}_proxy") for scheme in ("https", "http", "all")}
    routes = {
        pattern: address if "://" in address else f"http://{address}" for pattern, address in found.items() if address
    }
    if not all(address.lower().startswith(("http://", "https://")) for address in routes.values()):
        raise DefinitionError("a proxy should be http://host:port or https://host:port; no other kind is spoken here")
    return {**routes, **{_exemption(one): None for one in exempt}}


def _either(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper(), "")


def _exemption(host: str) -> str:
    """NO_PROXY as httpx writes it: a name stands for itself and all below it, an address for itself."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return f"all://*{host}" if host.startswith(".") or host.lower() != "localhost" else f"all://{host}"
    return f"all://[{address}]" if address.version == 6 else f"all://{address}"


def ca_file(environment: Mapping[str, str]) -> Path | None:
    """The certificates to trust beside the system's.

    Raises:
        DefinitionError: the file is not there.
    """
    path = Path(environment[CA_FILE]) if environment.get(CA_FILE) else None
    if path is not None and not path.is_file():
        raise DefinitionError(f"{CA_FILE}: {path} is not a file; it should hold certificates in PEM form")
    return path


def patients(environment: Mapping[str, str]) -> Path | None:
    """The file with the list of the enrolled, if there is one; `patient_list` judges it."""
    return Path(environment[PATIENT_LIST]) if environment.get(PATIENT_LIST) else None
