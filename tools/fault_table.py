"""Write docs/faults.md: what a pull makes of every fault of the catalogue (`make faults-table`)."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

import fault_table  # noqa: E402 - found through the line above


def main() -> None:
    """Run every pull and write the page."""
    peers = (ROOT / "benchmarks" / "peers_under_faults.md").read_text(encoding="utf-8")
    (ROOT / "docs" / "faults.md").write_text(fault_table.page(peers), encoding="utf-8")


if __name__ == "__main__":
    main()
