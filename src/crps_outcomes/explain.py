"""``crps-outcomes explain``: what is behind a printed number, on the terminal of the clinic."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from crps_outcomes.console import OutOption, StudyOption, home_at, stops
from crps_outcomes.study import load, locate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from crps_outcomes.explaining import Explanation

_SHOWN = 30
#: What is shown of each table; a person is shown by resources alone.
COLUMNS = {
    "outcomes": ("measure", "visit", "value", "baseline", "change", "percent_change", "state", "study_day"),
    "doses": ("given_on", "session", "series", "route", "dose_mg", "mg_per_kg", "flags"),
    "events": ("kind", "term", "onset_on", "severity", "is_serious", "session"),
    "observations": ("measure", "value", "unit", "taken_on"),
    "intercurrent": ("kind", "term", "study_day"),
    "treatments": ("treatment", "kind", "first_on", "is_earlier", "is_at_start"),
    "context": ("limb", "side", "years_since_onset", "budapest", "refractory"),
    "subjects": ("enrolled_on", "first_dose_on", "sex", "age_years", "crps_type", "exclusion"),
}
_NUMBERS = ("n", "n_missing", "k", "estimate", "lower", "upper", "sd")


@stops
def explain(
    run: Annotated[str, typer.Argument(help='The run: its id or folder, or "latest" for the newest internal one.')],
    estimate_id: Annotated[str, typer.Argument(help="The number's id: short, as report.html shows it, or long.")],
    study: StudyOption = None,
    out: OutOption = None,
    is_json: Annotated[bool, typer.Option("--json", help="Everything as JSON, every row of every table.")] = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """What is behind a printed number: its row, the rule, the rows of people, and the resources with their versions.

    It shows data of single people: for the clinic's own terminal. Numbers hidden in a release are not explained.

    Example: [bold]crps-outcomes explain latest E4k2m9qz[/bold]
    """
    from crps_outcomes import explaining  # noqa: PLC0415 - other commands need no statistics to start

    found = explaining.explain(home_at(out), load(locate(study)), run, estimate_id)
    if is_json:
        typer.echo(json.dumps(asdict(found), indent=2, default=str, ensure_ascii=False))
        return
    console = Console(highlight=False, soft_wrap=True)
    for line in told(found):
        console.print(escape(line))


def told(found: Explanation) -> Iterator[str]:
    """The walk from the number to its resources, line by line."""
    row = found.row
    yield f"{found.short_id}  {found.estimate_id}"
    yield f"run: {found.run}"
    yield f"number: {', '.join(f'{name} {row[name]}' for name in _NUMBERS if row.get(name))}"
    yield f"method: {row['method']}{'; ' + row['reason'] if row['reason'] else ''}"
    yield f"rule: {found.rule['described_in']}; declared in {', '.join(found.rule['declared_in'])}"
    yield from found.notes
    versions = dict(found.sources)
    for name, records in found.rows.items():
        yield f"{name.upper()}: {len(records)} rows{f', the first {_SHOWN} (all with --json)' if len(records) > _SHOWN else ''}"
        yield from _table(records[:_SHOWN], COLUMNS[name], versions)
    yield from [f"resources behind these rows: {len(versions)}"] if versions else []


def _table(records: Sequence[dict[str, Any]], columns: Sequence[str], versions: Mapping[str, str]) -> Iterator[str]:
    """The rows in columns, each known by its resources with their versions; columns that hold nothing are left out."""
    held = [name for name in columns if any(one[name] not in (None, "") for one in records)]
    lines = [
        [*held, "resources (version)"],
        *([*(_cell(one[name]) for name in held), _told(one, versions)] for one in records),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  " + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()


def _told(record: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    refs = str(record.get("source_refs") or record.get("source_ref") or "").split()
    return ", ".join(f"{ref} ({versions[ref]})" for ref in refs if ref in versions) or "none"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value).removesuffix(" 00:00:00")
