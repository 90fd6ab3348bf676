"""From a rendered report to one run folder: everything is written under a temporary name and appears by one rename."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from crps_outcomes.definitions import ROUNDED_TO
from crps_outcomes.errors import PipelineError
from crps_outcomes.home import private_folder, sync_folder, write_private
from crps_outcomes.traced import plain
from crps_outcomes.workbook import workbook

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crps_outcomes.disclosure import Releasable
    from crps_outcomes.home import Home
    from crps_outcomes.provenance import Provenance
    from crps_outcomes.report_model import ReportModel, Table
    from crps_outcomes.stages.render import Rendered

#: What spreadsheet programs read as the start of a formula, with the full-width forms, after blanks of any kind.
FORMULA = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def publish(  # noqa: PLR0913 - the parts of a run, where it goes, and whether it counts
    rendered: Rendered,
    model: ReportModel,
    releasable: Releasable,
    provenance: Provenance,
    home: Home,
    *,
    is_withdrawn: bool = False,
) -> Path:
    """The run folder: report.pdf and .html, tables/*.csv, estimates.csv, tables.xlsx with both, checklist.csv where there
    is one, three JSON files.

    The same provenance has the same folder. One that holds the same bytes already is kept; the pointer to the current
    run of this report and edition is set either way.

    Raises:
        PipelineError: a folder of that name holds other bytes, so the same inputs did not give the same report.
    """
    final = home.runs / provenance.run_id
    appear(contents(rendered, model, releasable, provenance), final)
    if not provenance.is_draft and not is_withdrawn:  # neither is anybody's current report
        point_to(home.runs, model.report, provenance.edition, final.name)
    return final


def contents(
    rendered: Rendered, model: ReportModel, releasable: Releasable, provenance: Provenance
) -> dict[str, bytes]:
    """Every file of the run by its name inside the folder. Names come from our own counters and section names."""
    rules = {
        "edition": releasable.edition, "rule": releasable.rule, "threshold": releasable.threshold,
        "rounded_to": ROUNDED_TO if releasable.is_rounded else None, "rules": releasable.rules,
    }  # fmt: skip
    about = {"title": model.title, "kind": model.kind, "pulled": model.pulled, "draft": model.draft}
    files = {
        "report.pdf": rendered.pdf,
        "report.html": rendered.html.encode(),
        **{name: text.encode() for name, text in attached(releasable, provenance).items()},
        "tables.xlsx": workbook(model, releasable.estimates),
        "disclosure.json": _json(rules).encode(),
        "about.json": _json(about).encode(),
    }
    if rendered.archive:
        files["report-archive.pdf"] = rendered.archive
    for section in model.sections:
        if section.id == "checklist" and section.tables:
            files["checklist.csv"] = csv_of_checklist([*section.tables.values()]).encode()
        for key, table in section.tables.items():
            if table.rows:
                files[f"tables/{table.number:02d}-{section.id}-{key}.csv"] = csv_of_table(table).encode()
    return files


def attached(releasable: Releasable, provenance: Provenance) -> dict[str, str]:
    """The data of a run as texts by file name: what an archive copy of the PDF carries too."""
    return {
        "estimates.csv": csv_of_frame(releasable.estimates),
        "provenance.json": _json(provenance.record),
    }


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def current(runs: Path, report: str, edition: str) -> Path | None:
    """The newest published run of a report and edition, or None, also where its folder is gone. Readers ask here and never list the folder."""
    pointer = runs / _pointer_name(report, edition)
    folder = runs / pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else None
    return folder if folder and folder.is_dir() else None


# --- CSV ------------------------------------------------------------------------------------------------------------


def csv_of_table(table: Table) -> str:
    """A table of the report as it is printed; every cell is text."""
    return _csv(
        [[plain(column.label) for column in table.columns], *([cell.plain for cell in row] for row in table.rows)]
    )


def csv_of_checklist(tables: Sequence[Table]) -> str:
    """All tables of the checklists under one head."""
    return csv_of_table(replace(tables[0], rows=tuple(line for table in tables for line in table.rows)))


def csv_of_frame(frame: pd.DataFrame) -> str:
    """A frame with its numbers as numbers and its texts as texts; a missing value is an empty field."""
    records = (["" if pd.isna(value) else value for value in row] for row in frame.itertuples(index=False, name=None))
    return _csv([[*frame.columns], *records])


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerows([_harmless(value) for value in line] for line in lines)
    return out.getvalue()


def _harmless(value: Any) -> Any:
    """Text that a spreadsheet would run gets an apostrophe in front; numbers stay numbers."""
    if isinstance(value, str) and FORMULA.match(value):
        return f"'{value}"
    return value


# --- one rename -----------------------------------------------------------------------------------------------------


def appear(files: Mapping[str, bytes], final: Path) -> None:
    """Write a run folder, all of it or nothing; one that holds the same bytes already is kept.

    Raises:
        PipelineError: a folder of that name holds other bytes.
    """
    if final.exists():
        if _read(final) != files:
            raise PipelineError(
                f"runs/{final.name}: exists with other bytes; the same inputs should give the same report"
            )
        return
    scratch = Path(tempfile.mkdtemp(prefix=".publishing-", dir=final.parent))
    try:
        for name, data in files.items():
            private_folder((scratch / name).parent)
            write_private(scratch / name, data)
        for folder in {(scratch / name).parent for name in files}:
            sync_folder(folder)
        scratch.rename(final)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    sync_folder(final.parent)


def point_to(runs: Path, report: str, edition: str, run_id: str | None) -> None:
    """Make a run the current one of its report and edition, or none."""
    pointer = runs / _pointer_name(report, edition)
    if run_id is None:
        pointer.unlink(missing_ok=True)
        sync_folder(runs)
        return
    fresh = runs / f".{pointer.name}.new"
    fresh.unlink(missing_ok=True)
    write_private(fresh, f"{run_id}\n".encode())
    fresh.replace(pointer)
    sync_folder(runs)


def _pointer_name(report: str, edition: str) -> str:
    return f"CURRENT-{report}-{edition}"


def _read(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
