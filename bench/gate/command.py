"""`python -m bench gate train` and `python -m bench gate judge FACTS.json`: the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from bench.gate.judging import rarity_for, scores, tokenizer, ways
from bench.gate.pairs import REPHRASE, hard_pairs, pairs_of
from bench.gate.table import by_others, by_threshold
from bench.gate.training import STEPS, train
from bench.quality.progress import Phases
from bench.trust.facts import read_facts
from editor_core.scoped.encoder import TRAINED
from editor_core.scoped.gate import THRESHOLD

OUT = Path(".errata/question_encoder.safetensors")
THRESHOLDS = (*(each / 100 for each in range(40, 100, 5)), THRESHOLD)


def main(arguments: Sequence[str]) -> None:
    asked, console = _parser().parse_args(arguments), Console()
    if asked.what == "train":
        loss = train(console, asked.steps, asked.seed, asked.out)
        console.print(f"last loss {loss:.2f}; written to {asked.out}", highlight=False)
    else:
        judge(console, asked)


def judge(console: Console, asked: argparse.Namespace) -> None:
    """Prints how many gates open, by threshold; nothing is written."""
    torch.set_num_threads(1)  # a question is so short that threads wait for each other
    facts, rarity = read_facts(asked.facts, asked.start, asked.count), rarity_for(tokenizer())
    pairs = [*(pair for fact in facts for pair in pairs_of(fact, rarity)), *hard_pairs()]
    compared = ways(asked.trained)
    found = {}
    with Phases(console, {way.name: 1.0 for way in compared}) as phase:
        for way in compared:
            with phase(way.name) as advance:
                found[way.name] = scores(pairs, way, advance)
    missed = sum(pair.sort == REPHRASE and pair.asked is None for pair in pairs)
    text = (
        f"## The gate on {len(facts)} facts of {asked.facts.name}",
        "Shares of questions that open it: rephrases and hard pairs that ask the same should, "
        "the others should not. The 4 are asked of facts too that answer just them.",
        f"{missed} rephrases do not name the subject that is found in the prompt: none opens.",
        by_threshold(found, sorted(set(asked.thresholds))),
        by_others(found),
    )
    console.print("\n\n".join(text), markup=False, highlight=False, soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench gate",
        description="the encoder of the gate's questions: how it was trained, how good it is",
    )
    commands = parser.add_subparsers(dest="what", required=True)
    add = commands.add_parser("train", help="train the encoder (minutes)").add_argument
    add("--steps", type=_count, default=STEPS)
    add("--seed", type=int, default=0, help="of the projection, dropout and what is drawn")
    add("--out", type=Path, default=OUT, help=f"the safetensors file; {OUT}")
    add = commands.add_parser("judge", help="how many questions open gates").add_argument
    add("facts", type=_file, help="JSON list of {subject, prompt, rephrase, target}")
    add("--start", type=int, default=0, help="number of the first fact, from 0")
    add("--count", type=_count, help="how many facts, at most; all when left out")
    add("--trained", type=_file, default=TRAINED, help="what `train` wrote; the product's own")
    add("--thresholds", type=_hundredths, nargs="+", default=THRESHOLDS, help="cosines")
    return parser


def _file(name: str) -> Path:
    if not (path := Path(name)).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {path}")
    return path


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number above 0 is needed, not {text!r}")
    return int(text)


def _hundredths(text: str) -> float:
    return round(float(text), 2)
