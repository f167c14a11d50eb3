"""`python -m bench [step|solve]`: both comparisons, or one of them.

`python -m bench quality`: what edits by the published recipe are worth, in probabilities and tasks as well.
`python -m bench serve`: how fast that answers, beside `transformers serve` and plain generate(), and while it edits.
`python -m bench endurance`: whether answers stay whole and right while it edits. `python -m bench crowd`: whether it bears one.
`python -m bench restart`: how long a worker takes to come back.
`python -m bench taking-back`: what is left when facts are taken back from a running service.
`python -m bench trust`: what edits are worth to the people who use them, by whole answers.
`python -m bench scale`: what edits and answers cost beside 100 to 100,000 edits in force.
`python -m bench update`: the direction of a step, as it is and whitened by the lifelong covariance.
`python -m bench gate`: how the encoder of the gate's questions was trained, and how good it is.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from pathlib import Path

from rich.console import Console

from bench.measure import RESULTS
from bench.solve import FULL, QUICK, bench_solve
from bench.step import DATA_VARIABLE, bench_step

EDITS, QUICK_EDITS = 100, 20
COMMANDS = {  # imported when asked for: some bring torch along, which the others must not
    "quality": "bench.quality.command",
    "serve": "bench.serve",
    "endurance": "bench.endurance.command",
    "crowd": "bench.crowd.command",
    "restart": "bench.restart",
    "taking-back": "bench.taking_back",
    "trust": "bench.trust.command",
    "gate": "bench.gate.command",
    "scale": "bench.scale.command",
    "update": "bench.update",
}


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # what was started here is stopped as well
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        importlib.import_module(COMMANDS[sys.argv[1]]).main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"editor_core beside the direct form of its method; see also: {', '.join(COMMANDS)} --help",
    )
    parser.add_argument("which", nargs="?", choices=("step", "solve"), help="one of the two; both when left out")
    parser.add_argument("--data", type=Path, help=f"step: JSON list of objects with prompt and target (or {DATA_VARIABLE})")
    parser.add_argument("--cache-dir", type=Path, default=Path(".errata/models"), help="where the demo model is unpacked")
    parser.add_argument("--repeats", type=int, help="runs of each form; 3, or 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="small sizes, one run each; nothing is written without --results")
    parser.add_argument("--results", type=Path, help="folder for the JSON results; bench/results")
    asked = parser.parse_args()
    repeats = asked.repeats or (1 if asked.quick else 3)
    results = asked.results or (None if asked.quick else RESULTS)
    console = Console()
    if asked.which != "solve":
        edits = QUICK_EDITS if asked.quick else EDITS
        bench_step(console, asked.data, asked.cache_dir, results, repeats, edits)
    if asked.which != "step":
        bench_solve(console, results, repeats, QUICK if asked.quick else FULL)


if __name__ == "__main__":
    main()
