"""`python -m bench scale [--service]`: the command line.

`python -m bench scale --data clare.json`: names from a file of facts as far as it reaches, then made up. Every figure stands
beside its ratio to the first column. The model's own passes do not depend on the number of edits; without --service they are in
`teach and judge` alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.scale.in_process import measured_in_process
from bench.scale.service import measured_by_service

SIZES = (100, 1_000, 10_000, 100_000)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench scale", description=__doc__)
    parser.add_argument("--data", type=Path, help="JSON list of facts with `subject`; without it all names are made up")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--service", action="store_true", help="restart, tokens a second, edits and memory of a whole service")
    parser.add_argument("--out", type=Path, help="JSON file; default: bench/results/scale.json or scale-service.json")
    asked, console = parser.parse_args(arguments), Console()
    run = measured_by_service if asked.service else measured_in_process
    found = run(asked.data, sorted(asked.sizes), console)
    console.print(_table(sorted(asked.sizes), found))
    out: Path = asked.out or Path("bench/results") / ("scale-service.json" if asked.service else "scale.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"sizes": sorted(asked.sizes), **found}, indent=1) + "\n", encoding="utf-8")


def _table(sizes: Sequence[int], found: dict[str, list[float]]) -> Table:
    table = Table("", *(f"{size:,}" for size in sizes), title="beside so many edits in force (ratio to the first column)")
    for name, values in found.items():
        table.add_row(name, *(f"{value:.3g} ({value / values[0]:.2f})" if values[0] else f"{value:.3g}" for value in values))
    return table
