"""Sequences read up to some position once, and run on from there as often as wanted.

Teaching a fact runs the same few tokens again and again after the same prompt. What the model knows of the prompt is in its
cache of attention; it is computed once and every run branches off it. The beginning that a chat template gives to every prompt
is read once for all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import nn

TOGETHER_TOKENS = 2560


@dataclass(slots=True)
class Passage:
    """B sequences, cached up to their starts.

    chosen     indices of the sequences
    ids        B × A int64, from each one's start on, padded on the right
    positions  B × A int64, positions in the sequence
    read       B × A bool, which of these are not padding
    known      B × P int64, the position of every cached column; -1 is padding
    cache      the model's cache of attention, P columns, None for none; never written to, runs take a branch of it
    reaching   B × A × d, what reaches the first block that `from_block` runs; None until it has run once
    """

    chosen: list[int]
    ids: torch.Tensor
    positions: torch.Tensor
    read: torch.Tensor
    known: torch.Tensor
    cache: Any
    reaching: torch.Tensor | None = None

    def inputs(self) -> dict[str, Any]:
        """Arguments of the model's forward pass over the span; what it appends to the cache is not kept."""
        starts = self.positions[:, :1]
        attended = torch.cat([(self.known >= 0) & (self.known < starts), self.read], 1)
        return {
            "input_ids": self.ids,
            "attention_mask": attended.long(),
            "position_ids": self.positions,
            "past_key_values": branch(self.cache),
            "use_cache": True,
        }


def branch(cache: Any) -> Any:
    """A cache that holds the same tensors and can grow without the original growing: layers replace what they append to."""
    if cache is None:
        return None
    grown = copy.copy(cache)
    grown.layers = [copy.copy(layer) for layer in cache.layers]
    return grown


def shared_beginning(sequences: Sequence[Sequence[int]]) -> int:
    """How many first tokens all of them have in common."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*sequences, strict=False)))


@torch.no_grad()
def opened(
    model: Any, sequences: Sequence[Sequence[int]], starts: Sequence[int], group: list[int], beginnings: Sequence[int]
) -> Passage:
    """Read some of the sequences (`group`: which) up to their starts.

    starts      by sequence, at most its length; 0 leaves everything to the span
    beginnings  by sequence, how many first tokens may be read for all of them at once
    """
    device = model.device
    before = [sequences[index][: starts[index]] for index in group]
    common = min(shared_beginning(before), *(min(beginnings[index], max(starts[index] - 1, 0)) for index in group))
    cache, known = None, torch.empty(len(group), 0, dtype=torch.int64, device=device)
    if common:
        known = torch.arange(common, device=device).expand(len(group), -1)
        first = torch.tensor([list(before[0][:common])], device=device)
        cache = model.base_model(input_ids=first, use_cache=True).past_key_values
        cache.batch_repeat_interleave(len(group))
    width = max(map(len, before)) - common  # padded on the left, so that the spans begin in one column
    ids = torch.zeros(len(group), width, dtype=torch.int64)
    positions = torch.full((len(group), width), -1)
    for row, each in enumerate(before):
        ids[row, width - (len(each) - common) :] = torch.tensor(each[common:])
        positions[row, width - (len(each) - common) :] = torch.arange(common, len(each))
    known = torch.cat([known, positions.to(device)], 1)
    if not width:
        return Passage(group, *_span(sequences, starts, group, device), known, None)
    cache = model.base_model(
        input_ids=ids.to(device),
        attention_mask=(known >= 0).long(),
        position_ids=positions.clamp_min(0).to(device),
        past_key_values=cache,
        use_cache=True,
    ).past_key_values
    return Passage(group, *_span(sequences, starts, group, device), known, cache)


def spanning(sequences: Sequence[Sequence[int]], starts: Sequence[int], known: torch.Tensor, cache: Any) -> Passage:
    """All sequences from their starts on, on top of a cache of what is before (known: as in Passage)."""
    chosen = list(range(len(sequences)))
    return Passage(chosen, *_span(sequences, starts, chosen, known.device), known, cache)


def _span(
    sequences: Sequence[Sequence[int]], starts: Sequence[int], group: Sequence[int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """ids, positions and read of the sequences from their starts on."""
    spans = [torch.tensor(sequences[index][starts[index] :], dtype=torch.int64) for index in group]
    ids = nn.utils.rnn.pad_sequence(spans, batch_first=True)
    start = torch.tensor([starts[index] for index in group])[:, None]
    columns = torch.arange(ids.shape[1])
    read = columns < torch.tensor([len(span) for span in spans])[:, None]
    positions = torch.where(read, start + columns, start)
    return ids.to(device), positions.to(device), read.to(device)


@contextmanager
def from_block(model: nn.Module, name: str, passage: Passage) -> Iterator[None]:
    """Run only the layers from the named block's own on, with what reached them the first time; that time all run, unless
    the passage has it already.

    Exact as long as nothing below that block has changed in between. Where the blocks are in no list, all run every time.
    """
    layers, first = _layers(model, name)
    if first == 0:
        yield
        return
    if passage.reaching is None:
        with reaching_block(model, name) as found:
            yield
        passage.reaching = found[-1] if found else None
        return
    reaching = passage.reaching
    kept = [layer.__dict__.get("forward") for layer in layers[:first]]
    for layer in layers[:first]:
        layer.__dict__["forward"] = lambda hidden, *arguments, **others: reaching
    try:
        yield
    finally:
        for layer, forward in zip(layers[:first], kept, strict=True):
            if forward is None:
                del layer.__dict__["forward"]
            else:
                layer.__dict__["forward"] = forward


@contextmanager
def reaching_block(model: nn.Module, name: str) -> Iterator[list[torch.Tensor]]:
    """What comes to reach the named block's layer, pass by pass; nothing for the first layer, or one that is in no list."""
    layers, first = _layers(model, name)
    found: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            found.append(output.detach())

    handle = layers[first - 1].register_forward_hook(keep) if first else None
    try:
        yield found
    finally:
        if handle is not None:
            handle.remove()


def _layers(model: nn.Module, name: str) -> tuple[Any, int]:
    """The outermost list of layers that the block is in, and its place there; ((), 0) when it is in none."""
    parts = name.split(".")
    for end, part in enumerate(parts):
        if part.isdecimal():
            return model.get_submodule(".".join(parts[:end])), int(part)
    return (), 0


def alike(order: Sequence[tuple[int, ...]], widths: Sequence[int], together: int = TOGETHER_TOKENS) -> Iterator[list[int]]:
    """Indices by ascending `order`, in groups of `together` padded tokens at most, or of one sequence.

    Those whose order begins with different numbers (of tokens that can be read for all at once) are not put together.
    """
    group: list[int] = []
    for index in sorted(range(len(order)), key=lambda each: order[each]):
        width = max(widths[each] for each in [*group, index])
        if group and (width * (len(group) + 1) > together or order[index][0] != order[group[0]][0]):
            yield group
            group = []
        group.append(index)
    if group:
        yield group
