"""Greedy continuation of many sequences at once, in which a sequence leaves as soon as enough of it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from editor_core.capture import answer_logits
from editor_core.passages import Passage
from editor_core.span import IGNORED_LABEL, Span

Enough = Callable[[int, list[int]], bool]  # told a sequence's index and what has been said; True ends it


@torch.inference_mode()
def foreseen(model: Any, passages: Sequence[Passage], guesses: Mapping[int, Sequence[int]]) -> set[int]:
    """Indices of the sequences that greedy continuation goes on with exactly as guessed.

    A greedy token depends on the tokens before it alone, so one pass over the guess decides, in place of one pass a token: the
    verifying half of speculative decoding (Leviathan et al., 2023). Every passage's spans end with the guess, but for its last
    token, and have a token before it.
    """
    agreed: set[int] = set()
    for passage in passages:
        lengths = passage.read.sum(1).tolist()
        wanted = torch.full(passage.ids.shape, IGNORED_LABEL)
        for row, (index, length) in enumerate(zip(passage.chosen, lengths, strict=True)):
            wanted[row, length - len(guesses[index]) : length] = torch.tensor(guesses[index])
        wanted = wanted.to(passage.ids.device)
        asked = wanted != IGNORED_LABEL
        with ExitStack() as stack:
            logits = answer_logits(model, Span(passage.inputs(), wanted), asked, stack)
        right = torch.ones_like(asked)
        right[asked] = logits.argmax(-1) == wanted[asked]
        agreed |= {index for index, row in zip(passage.chosen, right.all(1).tolist(), strict=True) if row}
    return agreed


@torch.inference_mode()
def continued(
    model: Any, passages: Sequence[Passage], max_tokens: int, enough: Enough = lambda index, said: False
) -> dict[int, list[int]]:
    """By index of the sequence: at most max_tokens greedy tokens after it, without the end token that ended it.

    Every passage's spans are of one length, with their last token the last of the sequence.
    """
    ends = end_tokens(model)
    said: dict[int, list[int]] = {}
    for passage in passages:
        said |= {index: [] for index in passage.chosen}
        _continue(model, passage, max_tokens, ends, enough, said)
    return said


def _continue(
    model: Any, passage: Passage, max_tokens: int, ends: frozenset[int], enough: Enough, said: dict[int, list[int]]
) -> None:
    inputs, going = passage.inputs(), list(passage.chosen)
    ids, positions, attended = inputs["input_ids"], inputs["position_ids"][:, -1:], inputs["attention_mask"]
    cache = inputs["past_key_values"]
    position_ids = inputs["position_ids"]
    for _ in range(max_tokens):
        output = model(
            input_ids=ids,
            attention_mask=attended,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, tokens = output.past_key_values, output.logits[:, -1].argmax(-1)
        stay = []
        for row, (index, token) in enumerate(zip(going, tokens.tolist(), strict=True)):
            if token in ends:
                continue
            said[index].append(token)
            if not enough(index, said[index]):
                stay.append(row)
        if not stay:
            return
        positions = positions + 1
        attended = torch.nn.functional.pad(attended, (0, 1), value=1)
        if len(stay) < len(going):
            kept = torch.tensor(stay, device=tokens.device)
            cache.batch_select_indices(kept)
            tokens, positions, attended = tokens[kept], positions[kept], attended[kept]
            going = [going[row] for row in stay]
        ids, position_ids = tokens[:, None], positions


def end_tokens(model: Any) -> frozenset[int]:
    """The tokens at which the model's own `generate` stops."""
    ends = model.generation_config.eos_token_id
    return frozenset(() if ends is None else (ends,) if isinstance(ends, int) else ends)
