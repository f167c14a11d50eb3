"""Whole answers of a model with edits in force, greedily, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from editor_core.breathing import breathe
from editor_core.generation.batcher import Batcher
from editor_core.generation.sampling import Sampling
from editor_core.generation.sequence import Sequence as Sequence_
from editor_core.scoped.served import ServedEdits

PREFILL_TOKENS = 512  # nobody waits for the next token of an answer meanwhile


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt's token ids, and how many tokens of its answer are read at most."""

    ids: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """is_ended: the model ended it by itself."""

    text: str
    is_ended: bool


def answers(model: Any, tokenizer: Any, asked: Sequence[Asked], edits: ServedEdits | None) -> list[Answer]:
    """In order. Raises what reading a record raises."""
    if not asked:
        return []
    batcher = Batcher(model, prefill_tokens=PREFILL_TOKENS, edits=edits)
    sequences = [
        Sequence_(str(index), list(each.ids), Sampling(each.max_tokens), tokenizer) for index, each in enumerate(asked)
    ]
    for each in sequences:
        batcher.add(each)
    while batcher.busy:
        breathe()
        for each in batcher.step(0):
            if each.failure is not None:
                raise each.failure
    return [Answer(each.text, each.finish_reason == "stop") for each in sequences]
