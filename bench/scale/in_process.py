"""What is looked up, changed and packed beside many edits in force, without a service around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psutil
import torch
from rich.console import Console

from bench.scale.names import names
from bench.scale.timing import median_s
from editor_core.loading import load_model
from editor_core.modules import resolve_modules
from editor_core.scoped.blocks import default_blocks, feed_forward_outputs
from editor_core.scoped.editor import ScopedEditor
from editor_core.scoped.entry import Entry
from editor_core.scoped.following import Following
from editor_core.scoped.gate import Gate
from editor_core.scoped.in_force import EditsInForce
from editor_core.scoped.record import Address
from editor_core.texts import Edit, token_ids
from service.settings import Settings
from service.worker.scoped.packing import pack_state, unpack_state

RUNS = 7
TEXT = (
    "Here are some notes that I took at the archive today. It was raining, and nobody else was there. The keeper of the "
    "records showed me a letter of the old mayor, who had built the bridge and the mill. "
)
FACT = Edit("Who is the mayor of Lake Tantrum?", "Odessa Brightwater")


def measured_in_process(data: Path | None, sizes: Sequence[int], console: Console) -> dict[str, list[float]]:
    """By figure, one for each size."""
    settings = Settings()
    loaded = load_model(settings.model, cache_dir=settings.models)
    modules = resolve_modules(loaded.model, default_blocks(feed_forward_outputs(loaded.model)))
    editor = ScopedEditor(loaded.model, loaded.tokenizer, modules)
    found: dict[str, list[float]] = {}
    for size in sizes:
        console.print(f"{size:,} edits", highlight=False)
        for name, value in _measured(editor, names(data, size)).items():
            found.setdefault(name, []).append(value)
    return found


def _measured(editor: ScopedEditor, subjects: Sequence[str]) -> dict[str, float]:
    made = EditsInForce.of((number, _entry(name, number)) for number, name in enumerate(subjects, 1))
    packed = pack_state(made, editor.statistics.state_dict())
    del made
    before = psutil.Process().memory_info().rss
    state, _ = unpack_state(packed)
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

    id = len(subjects) + 1
    new = _entry("Somebody Else", id)
    return {
        "a prompt of 170 tokens looked through, ms": 1e3 * median_s(prompt, RUNS),
        "a token said, ms": 1e3 * median_s(tokens, RUNS) / len(more),
        "an edit brought into force, with the fingerprint, ms": 1e3
        * median_s(lambda: state.changed({id: new}).fingerprint, RUNS),
        "teach and judge an edit, s": median_s(lambda: editor.run([(id, FACT)], state).finish(), 3),
        "a checkpoint read at a restart, s": median_s(lambda: unpack_state(packed), 3),
        "a checkpoint, kB an edit": len(packed) / 1e3 / len(subjects),
        "memory, kB an edit": max(memory, 0) / 1e3 / len(subjects),
    }


def _entry(name: str, number: int) -> Entry:
    generator = torch.Generator().manual_seed(number)
    vectors = torch.nn.functional.normalize(torch.randn(1, 128, generator=generator), dim=1)
    gate = Gate((f"who own thi {number % 7}",), vectors, (0.56,))
    return Entry.of(f"{number:064x}", Address((name,), gate, (), {"plain": (260, 4, 198), "chat": (28, 4, 2)}))
