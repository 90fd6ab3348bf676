"""Where a run finds what it needs: from its parameters, and from the environment that ``cli.py`` and ``flows/`` hand in.

The environment holds what must not be a flow's parameter, for those are stored by the scheduler in plain text for ever.
"""

from __future__ import annotations

from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from crps_outcomes import patient_list, sections
from crps_outcomes.errors import DefinitionError
from crps_outcomes.fhir import auth
from crps_outcomes.study import load, locate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crps_outcomes.definitions import ReportDefinition
    from crps_outcomes.params import CommonParams
    from crps_outcomes.study import Study

HOME = "CRPS_OUTCOMES_HOME"  # folder below which all is written; without it, build
SOURCE = "CRPS_OUTCOMES_SOURCE"  # address or folder that a scheduled run pulls from
TOKEN = "CRPS_OUTCOMES_TOKEN"  # noqa: S105 - the name of a variable: the server's bearer token
TOKEN_FILE = "CRPS_OUTCOMES_TOKEN_FILE"  # noqa: S105 - the name of a variable: a file, mode 0600, with the token
PATIENT_LIST = patient_list.VARIABLE  # file, mode 0600, with the enrolled, where the protocol's selector is "list"
CA_FILE = "CRPS_OUTCOMES_CA_FILE"  # certificates to trust beside the system's, for a hospital's own authority


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
    return root


def checked(root: Path) -> Study:
    """The study in a folder, read as a whole, and its reports held against the sections there are.

    Raises:
        DefinitionError: every mistake found, each with its file and key.
    """
    found = load(root)
    mistakes = [mistake for one in found.reports.values() for mistake in _section_mistakes(root, one)]
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


def token(environment: Mapping[str, str]) -> auth.Token:
    """What gives the server's bearer token, if there is one.

    Raises:
        DefinitionError: the token file is missing, or others may read it.
    """
    if environment.get(TOKEN_FILE):
        return auth.token_from_file(Path(environment[TOKEN_FILE]))
    return auth.token_from_variable(TOKEN, environment) if environment.get(TOKEN) else auth.no_token


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
