"""The command line: ``crps-outcomes demo | synthesize | check | doctor | run | pull | snapshot |
measures | measure | codes | explain | faults | status | withdraw | patient | who``.

Messages and progress go to stderr; stdout ends with the folder of the run. The clock and the environment are read here
and in ``flows/`` only.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from crps_outcomes import (
    codes,
    explain,
    faults,
    measures,
    orchestration,
    patients,
    progress,
    settings,
    shelves,
    snapshots,
    who,
)
from crps_outcomes.console import CODES, OutOption, StudyOption, home_at, stops
from crps_outcomes.deployments import read as read_deployments
from crps_outcomes.doctor import examine
from crps_outcomes.params import Edition, Method, NightlyParams, parse
from crps_outcomes.patient_list import list_for
from crps_outcomes.settings import PATIENT_LIST, TOKEN_FILE, TOKEN_HOST
from crps_outcomes.study import load, locate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crps_outcomes.home import Home
    from crps_outcomes.study import Study

NIGHTLY = ("flows/nightly.py", "nightly_outcomes")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Outcomes reporting for intramuscular ketamine in Complex Regional Pain Syndrome, from FHIR to PDF.",
    epilog=CODES,
)
app.add_typer(faults.app, name="faults")
app.add_typer(snapshots.app, name="snapshot")
app.add_typer(codes.app, name="codes")
app.add_typer(measures.app, name="measure")
app.command("measures", epilog=CODES)(measures.measures)
app.command("patient", epilog=CODES)(patients.patient)
app.command("explain", epilog=CODES)(explain.explain)
app.command("who", epilog=CODES)(who.who)
app.command("status", epilog=shelves.STATUS_CODES)(shelves.status)
app.command("withdraw", epilog=CODES)(shelves.withdraw)

ReportOption = Annotated[
    list[str] | None, typer.Option("--report", help="Report to make; may be repeated. Without it: evidence.")
]
AsOfOption = Annotated[
    str | None,
    typer.Option("--as-of", help="The day the report speaks of, YYYY-MM-DD. Without it: the newest day in the data."),
]
EditionOption = Annotated[Edition, typer.Option("--edition", help="internal shows small cells, release hides them.")]
SourceOption = Annotated[
    str, typer.Option("--source", help="Address of a FHIR R4 server, or a folder of NDJSON files or Bundles.")
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option("--token-file", help="File with the server's bearer token, mode 600. Or set $CRPS_OUTCOMES_TOKEN."),
]
TokenHostOption = Annotated[
    str | None, typer.Option("--accept-token-host", help="Host that may give the token, if it is not the server's own.")
]
PatientListOption = Annotated[
    Path | None,
    typer.Option(
        "--patients",
        help=f'CSV file with the enrolled, mode 600, where the protocol\'s selector is "list". Or set ${PATIENT_LIST}.',
    ),
]
MethodOption = Annotated[
    Method, typer.Option("--method", help="How a server is read: by REST search, or by Bulk Data export.")
]
WholeOption = Annotated[
    bool, typer.Option("--whole", help="Ask for everything, not only for what changed since the last pull.")
]
LangOption = Annotated[
    str | None, typer.Option("--lang", help="en-GB, en-US or de, for dates and labels. Without it: the protocol's.")
]
PaperOption = Annotated[str | None, typer.Option("--paper", help="A4 or Letter. Without it: the protocol's.")]
ArchiveOption = Annotated[
    bool | None,
    typer.Option(
        "--archive/--no-archive", help="Also a PDF/A-3 with the data in it. Without it: as the protocol says."
    ),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show the scheduler's own log.")]
PatientsOption = Annotated[int, typer.Option("--patients", min=1, help="How many people.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same people.")]


def main() -> None:
    """The entry point of the ``crps-outcomes`` command."""
    os.umask(0o077)  # all that is written may hold patient data
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that child processes are stopped
    app()


@app.command(epilog=CODES)
@stops
def demo(  # noqa: PLR0913 - one argument per option of the command
    patients: PatientsOption = 80,
    seed: SeedOption = 7,
    report: ReportOption = None,
    edition: EditionOption = Edition.internal,
    out: OutOption = None,
    *,
    verbose: VerboseOption = False,
) -> None:
    """Invent a cohort, serve it from a real FHIR server on this machine, and make the report from that server.

    Example: [bold]crps-outcomes demo --patients 40[/bold]
    """
    from crps_outcomes.demo_server import serve  # noqa: PLC0415 - the FHIR server is an extra of the installation

    started = time.monotonic()
    with _prefect(home := home_at(out), is_verbose=verbose) as ready, progress.shown() as tell:
        tell("Inventing patients")
        cohort = _synthesize(patients, seed, home.root / "demo" / f"cohort-{patients}-{seed}", load(locate()))
        with serve(cohort.folder, home.root / "demo" / "server", progress=tell) as address:
            tell("Waiting for the scheduler")
            wanted = {"source": address, "edition": edition, "home": str(home.root), "as_of": cohort.ends_on}
            runs = _report(parse(NightlyParams, {**wanted, "reports": report or ["evidence"]}), ready)
    typer.echo(f"{patients} synthetic patients, from nothing to report in {time.monotonic() - started:.0f} s")
    _show(runs, load(locate()))


@app.command(epilog=CODES)
@stops
def synthesize(
    patients: PatientsOption,
    seed: SeedOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for the NDJSON files and the truth behind them.")],
    study: StudyOption = None,
) -> None:
    """Write a cohort of invented people as FHIR R4 resources, one NDJSON file per type.

    Example: [bold]crps-outcomes synthesize --patients 200 --seed 1 --out build/cohort[/bold]
    """
    cohort = _synthesize(patients, seed, out, load(locate(study)))
    typer.echo(str(cohort.folder.resolve()))


@app.command(epilog=CODES)
@stops
def check(study: StudyOption = None) -> None:
    """Read the study folder and prefect.yaml as a compiler would: every mistake with file, line and key.

    Example: [bold]crps-outcomes check --study my-clinic[/bold]
    """
    root = locate(study)
    found = settings.checked(root)
    typer.echo("\n".join(_summary(found)))
    if (root / "prefect.yaml").is_file():
        names = ", ".join(deployment.name for deployment in read_deployments(root / "prefect.yaml").deployments)
        typer.echo(f"deployments: {names}")
    typer.echo(f"{root}: in order")


@app.command(epilog="Exit codes: [bold]0[/] in order; [bold]1[/] something is wrong.")
@stops
def doctor(study: StudyOption = None, out: OutOption = None) -> None:
    """Look for secrets where they do not belong, files others may read, and a scheduler open to others.

    Example: [bold]crps-outcomes doctor --study my-clinic[/bold]
    """
    findings = examine(os.environ, settings.home(os.environ, str(out) if out else None), locate(study))
    typer.echo("\n".join(map(str, findings)))
    if not all(one.is_right for one in findings):
        raise typer.Exit(1)


@app.command(epilog=CODES)
@stops
def run(  # noqa: PLR0913, PLR0917 - one argument per option of the command
    source: SourceOption,
    study: StudyOption = None,
    report: ReportOption = None,
    as_of: AsOfOption = None,
    edition: EditionOption = Edition.internal,
    out: OutOption = None,
    token_file: TokenFileOption = None,
    accept_token_host: TokenHostOption = None,
    method: MethodOption = Method.search,
    patients: PatientListOption = None,
    lang: LangOption = None,
    paper: PaperOption = None,
    *,
    archive: ArchiveOption = None,
    whole: WholeOption = False,
    draft: Annotated[
        bool,
        typer.Option(
            "--draft", help="If data are missing, make a report marked DRAFT - INCOMPLETE; still exit code 4."
        ),
    ] = False,
    verbose: VerboseOption = False,
) -> None:
    """Pull from a FHIR server or a folder, and make the report; the last line is the folder it is in.

    Example: [bold]crps-outcomes run --source https://fhir.example.org/r4 --edition release[/bold]
    """
    wanted = {"source": _where(source), "reports": report or ["evidence"], "as_of": as_of, "edition": edition}
    home = home_at(out)
    folders = {"study": str(study.resolve()) if study else None, "home": str(home.root)}
    form = {"lang": lang, "paper": paper, "archive": archive}
    params = parse(NightlyParams, {**wanted, **folders, **form, "method": method, "whole": whole, "draft": draft})
    selector = load(settings.study(params)).protocol.enrolment.selector
    _offer(token_file, accept_token_host, patients)
    list_for(selector, settings.patients(os.environ))
    with _prefect(home, is_verbose=verbose) as ready, progress.shown():
        runs = _report(params, ready)
    _show(runs, load(settings.study(params)))


@app.command(epilog=CODES)
@stops
def pull(  # noqa: PLR0913, PLR0917 - one argument per option of the command
    source: SourceOption,
    study: StudyOption = None,
    out: OutOption = None,
    token_file: TokenFileOption = None,
    accept_token_host: TokenHostOption = None,
    method: MethodOption = Method.search,
    patients: PatientListOption = None,
    *,
    whole: WholeOption = False,
) -> None:
    """Take a snapshot of everything about the enrolled, and make no report; the last line is its digest.

    Example: [bold]crps-outcomes pull --source https://fhir.example.org/r4 --method export[/bold]
    """
    from crps_outcomes import pulls  # noqa: PLC0415 - what the other commands leave to the flow

    _offer(token_file, accept_token_host, patients)
    asked = pulls.Asked(_where(source), method.value, is_whole=whole)
    with progress.shown() as tell:
        access, chosen = settings.access(os.environ), settings.patients(os.environ)
        digest = pulls.pull(home_at(out).root, locate(study), asked, access, tell, patients=chosen)
    typer.echo(digest)


def _where(source: str) -> str:
    return source if "://" in source else str(Path(source).resolve())


@contextmanager
def _prefect(home: Home, *, is_verbose: bool) -> Iterator[Callable[[], None]]:
    for name, value in orchestration.settings(home.prefect, is_verbose=is_verbose).items():
        os.environ.setdefault(name, value)
    with orchestration.server(os.environ, home.prefect) as ready:
        yield ready


def _report(params: NightlyParams, ready: Callable[[], None]) -> list[Path]:
    file, function = NIGHTLY
    return [Path(folder) for folder in orchestration.run_flow(locate() / file, function, params, ready)]


class _Cohort(NamedTuple):
    """Invented people on disk, and the last day of their data: a server dates what it stores by its own clock."""

    folder: Path
    ends_on: str


def _synthesize(patients: int, seed: int, folder: Path, study: Study) -> _Cohort:
    from crps_outcomes.synthetic import Options, generate, write_ndjson  # noqa: PLC0415 - only two commands need it

    options = Options(patients=patients, seed=seed)
    write_ndjson(generate(options, study), folder)
    return _Cohort(folder, options.ends_on.isoformat())


def _offer(token_file: Path | None, token_host: str | None, patients: Path | None) -> None:
    """Tell the flow how to sign in, and who is listed: by its environment, never by parameters, for those are stored."""
    files = {TOKEN_FILE: token_file, PATIENT_LIST: patients}
    os.environ |= {name: str(file.resolve()) for name, file in files.items() if file}
    os.environ |= {TOKEN_HOST: token_host} if token_host else {}
    settings.access(os.environ)  # refuses a file that is not there, or that others may read, before anything starts


def _summary(study: Study) -> Iterator[str]:
    protocol = study.protocol
    codes = Counter(row.state for rows in study.codelists.values() for row in rows)
    yield f"protocol: {protocol.title}, version {protocol.version}{' (example)' if protocol.is_example else ''}"
    yield f"enrolment: by {protocol.enrolment.selector}"
    yield f"visits: {', '.join(f'{visit.label} (days {visit.window_days[0]}-{visit.window_days[1]})' for visit in protocol.visits)}"
    yield f"outcomes: {', '.join(one.id for one in study.reported)}"
    yield f"measures: {len(study.measures)} in the catalogue (crps-outcomes measures lists them)"
    yield f"tables: {_tables(study)}"
    yield f"codelists: {', '.join(sorted(study.codelists))}; codes {', '.join(f'{n} {state}' for state, n in sorted(codes.items()))}"
    yield f"reports: {', '.join(f'{one.id} ({len(one.sections)} sections)' for one in study.reports.values())}"


def _tables(study: Study) -> str:
    wanted = sorted({one.score.table for one in study.measures.values() if one.score.table})
    return ", ".join(f"{name}{'' if name in study.tables else ' (not supplied)'}" for name in wanted) or "none wanted"


def _show(runs: Sequence[Path], study: Study) -> None:
    from crps_outcomes.pipeline import release_in_words  # noqa: PLC0415 - what the other commands leave to the flow

    for run_folder in runs:
        if words := release_in_words(run_folder, study):
            typer.echo(words)
        for name in ("report.pdf", "report.html"):
            typer.echo(f"{name}: {run_folder / name}")
    for run_folder in runs:
        typer.echo(str(run_folder))
