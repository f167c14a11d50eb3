"""Flat cost: what an edit and an answer cost beside 100, 1,000, 10,000 and 100,000 edits in force.

`python -m bench scale --data clare.json`: names from a file of facts as far as it reaches, then made up. Every figure is the
median of several runs and stands beside its ratio to the first column. The model's own passes do not depend on the number of
edits and are not in it, but for `teach and judge`, which is a whole edit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import torch
from rich.console import Console
from rich.table import Table

from editor_core.loading import load_model
from editor_core.modules import resolve_modules
from editor_core.scoped.blocks import default_blocks, feed_forward_outputs
from editor_core.scoped.editor import ScopedEditor
from editor_core.scoped.following import Following
from editor_core.scoped.gate import Gate
from editor_core.scoped.in_force import EditsInForce, Entry
from editor_core.scoped.record import Address
from editor_core.texts import Edit, token_ids
from service.settings import Settings
from service.worker.scoped.packing import pack_state, unpack_state
from service.worker.scoped.state import ScopedState

SIZES = (100, 1_000, 10_000, 100_000)
TEXT = (
    "Here are some notes that I took at the archive today. It was raining, and nobody else was there. The keeper of the "
    "records showed me a letter of the old mayor, who had built the bridge and the mill. "
)
FACT = Edit("Who is the mayor of Lake Tantrum?", "Odessa Brightwater")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench scale", description=__doc__)
    parser.add_argument("--data", type=Path, help="JSON list of facts with `subject`; without it all names are made up")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--out", type=Path, default=Path("bench/results/scale.json"))
    asked, console = parser.parse_args(arguments), Console()
    settings = Settings()
    loaded = load_model(settings.model, cache_dir=settings.models)
    modules = resolve_modules(loaded.model, default_blocks(feed_forward_outputs(loaded.model)))
    editor = ScopedEditor(loaded.model, loaded.tokenizer, modules)
    found: dict[str, list[float]] = {}
    for size in asked.sizes:
        console.print(f"{size:,} edits", highlight=False)
        for name, value in _measured(editor, _names(asked.data, size)).items():
            found.setdefault(name, []).append(value)
    console.print(_table(asked.sizes, found))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps({"sizes": asked.sizes, **found}, indent=1) + "\n", encoding="utf-8")


def _names(data: Path | None, size: int) -> list[str]:
    """Of so many edits; several facts may have one subject."""
    real = [row["subject"] for row in json.loads(data.read_text(encoding="utf-8"))] if data else []
    return (real + [f"Kelm{number:x} Vard{number * 7919 % 65521:x}" for number in range(size)])[:size]


def _measured(editor: ScopedEditor, names: Sequence[str]) -> dict[str, float]:
    before = psutil.Process().memory_info().rss
    state = EditsInForce.of((number, _entry(name, number)) for number, name in enumerate(names, 1))
    memory = psutil.Process().memory_info().rss - before
    ids = token_ids(editor.tokenizer, TEXT * 3, "plain")
    more = token_ids(editor.tokenizer, TEXT, "plain")

    def prompt() -> Following:
        following = Following(editor.rules, state)
        following.begin(ids)
        return following

    following = prompt()

    def tokens() -> None:
        for token in more:
            following.said(token)

    packed = pack_state(ScopedState(state, editor.statistics))
    id = len(names) + 1
    new = _entry("Somebody Else", id)
    return {
        "a prompt of 170 tokens looked through, ms": 1e3 * _median(prompt),
        "a token said, ms": 1e3 * _median(tokens) / len(more),
        "an edit brought into force, with the fingerprint, ms": 1e3
        * _median(lambda: state.changed({len(names) + 1: new}).fingerprint),
        "teach and judge an edit, s": _median(lambda: editor.run([(len(names) + 1, FACT)], state).finish(), 3),
        "a checkpoint read at a restart, s": _median(lambda: unpack_state(packed), 3),
        "a checkpoint, kB an edit": len(packed) / 1e3 / len(names),
        "memory, kB an edit": max(memory, 0) / 1e3 / len(names),
    }


def _entry(name: str, number: int) -> Entry:
    generator = torch.Generator().manual_seed(number)
    vectors = torch.nn.functional.normalize(torch.randn(1, 128, generator=generator), dim=1)
    gate = Gate((f"who own thi {number % 7}",), vectors, (0.56,))
    return Entry.of(f"{number:064x}", Address((name,), gate, (), {"plain": (260, 4, 198), "chat": (28, 4, 2)}))


def _median(run: Callable[[], object], times: int = 7) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def _table(sizes: Sequence[int], found: dict[str, list[float]]) -> Table:
    table = Table("", *(f"{size:,}" for size in sizes), title="beside so many edits in force (ratio to the first column)")
    for name, values in found.items():
        table.add_row(name, *(f"{value:.3g} ({value / values[0]:.2f})" if values[0] else f"{value:.3g}" for value in values))
    return table
