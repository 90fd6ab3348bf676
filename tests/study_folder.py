"""A copy of the study folder whose reports are short: all rows are estimated, and few pages are laid out."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from crps_outcomes.study import CARD, locate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def short_study(root: Path, numbers: dict[str, int] | None = None, **reports: Sequence[str]) -> Path:
    """The copy, below ``root``: each report named has these sections alone, and the protocol these numbers."""
    study = root / "study"
    for folder in CARD:
        shutil.copytree(locate() / folder, study / folder)
    for name, sections in reports.items():
        _edit(study / "reports" / f"{name}.toml", r"sections = \[.*?\]", f"sections = {[*sections]}")
    for name, number in (numbers or {}).items():
        _edit(study / "mappings" / "protocol.toml", rf"(?m)^{name} = \d+", f"{name} = {number}")
    return study


def _edit(file: Path, pattern: str, text: str) -> None:
    changed, n = re.subn(pattern, text, file.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert n == 1, f"{file.name}: {pattern}"
    file.write_text(changed, encoding="utf-8")
