"""``crps-outcomes explain``: what is behind a printed number, on the terminal of the clinic."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crps_outcomes import explaining
from crps_outcomes.console import CODES, OutOption, StudyOption, home_at, stops
from crps_outcomes.study import load, locate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crps_outcomes.explaining import Explanation

_SHOWN = 30
#: Columns of a table that say the same in every row, or are the source references that follow by themselves.
_LEFT_OUT = {"subject_id", "source_refs", "source_ref"}
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
    found = explaining.explain(home_at(out), load(locate(study)), run, estimate_id)
    if is_json:
        typer.echo(json.dumps(asdict(found), indent=2, default=str, ensure_ascii=False))
        return
    console = Console(highlight=False)
    for line in told(found):
        console.print(line if isinstance(line, Table) else escape(line), soft_wrap=True)


def told(found: Explanation) -> Iterator[str | Table]:
    """The walk from the number to its resources, as lines and tables."""
    row = found.row
    yield f"{found.short_id}  {found.estimate_id}"
    yield f"run: {found.run}"
    yield f"number: {', '.join(f'{name} {row[name]}' for name in _NUMBERS if row[name] != '')}"
    yield f"method: {row['method']}{'; ' + row['reason'] if row['reason'] else ''}"
    yield f"rule: {found.rule['described_in']}; declared in {', '.join(found.rule['declared_in'])}"
    yield from found.notes
    for name, records in found.rows.items():
        yield f"{name.upper()}: {len(records)} rows{f', the first {_SHOWN}' if len(records) > _SHOWN else ''}"
        yield _table(records[:_SHOWN])
    if found.sources:
        yield f"resources: {len(found.sources)}, with their versions in the snapshot"
        yield from (f"  {ref}  {version}" for ref, version in islice(found.sources, _SHOWN))
        yield from [f"  ... {len(found.sources) - _SHOWN} more with --json"] if len(found.sources) > _SHOWN else []


def _table(records: Sequence[dict[str, Any]]) -> Table:
    """The rows, each known by its resources; the columns that hold anything."""
    columns = [
        name for name in records[0] if name not in _LEFT_OUT and any(one[name] not in (None, "") for one in records)
    ]
    table = Table("resources", *columns)
    for one in records:
        refs = str(one.get("source_refs") or one.get("source_ref") or "none")
        table.add_row(escape(refs), *(escape(_cell(one[name])) for name in columns))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value).removesuffix(" 00:00:00")
