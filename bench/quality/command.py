"""`python -m bench quality`: the command line, the table and the JSON file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.measure import RESULTS, write_result
from bench.quality.run import Asked, measure
from bench.quality.table import print_table


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench quality", description="what the published recipe is worth, and what it costs"
    )
    parser.add_argument(
        "--data", type=_file, required=True, help="JSON list of facts with their rephrases and unrelated questions"
    )
    parser.add_argument("--edits", type=_count, default=100, help="how many of the facts to edit")
    parser.add_argument("--start", type=int, default=0, help="number of the first fact, from 0")
    parser.add_argument("--batch-size", type=_count, default=50)
    parser.add_argument("--model", default="demo", help="as ERRATA_MODEL")
    parser.add_argument("--cache-dir", type=Path, default=Path(".errata/models"), help="where models are unpacked")
    parser.add_argument("--downstream", type=_file, help="JSON object of lists of items: cola, mrpc, rte, sst2, nli, mmlu")
    parser.add_argument("--downstream-items", type=_count, default=100, help="at most so many items of each task")
    parser.add_argument("--texts", type=_file, help="plain texts, one a line; sentences of the downstream file when left out")
    parser.add_argument("--seed", type=int, default=0, help="which items and texts are drawn")
    parser.add_argument("--json", type=Path, default=RESULTS / "quality.json", help="where the figures go")
    asked = vars(parser.parse_args(arguments))
    to = asked.pop("json")
    console = Console()
    figures = measure(console, Asked(**asked))
    print_table(console, figures)
    write_result(to.parent, to.name.removesuffix(".json"), figures, console)


def _file(name: str) -> Path:
    if not (path := Path(name)).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {path}")
    return path


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number above 0 is needed, not {text!r}")
    return int(text)
