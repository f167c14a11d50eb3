"""Cutting a mini-batch in two: prompts, which are only read, and answers, which are differentiated.

A causal model's loss at the answer positions depends on a layer's output at an answer position only through
positions after it. So the backward pass may stop at each row's first answer position, exactly: the prompts run once
without a graph and leave their keys and values of attention in a cache, and the answers run on top of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

IGNORED_LABEL = -100
_NEEDED = {"past_key_values", "position_ids", "use_cache"}


@dataclass(frozen=True, slots=True)
class Span:
    """What is left to run with a graph: the model's arguments, and the labels aligned with them (B × A int64)."""

    inputs: Mapping[str, Any]
    labels: torch.Tensor


def answer_span(model: nn.Module, minibatch: Mapping[str, torch.Tensor]) -> Span:
    """The answer positions on top of the prompts' cache; the whole mini-batch where it cannot be cut.

    It cannot when a row begins with an answer, is padded on the left, or the model keeps no cache of attention.
    """
    labels, attention = minibatch["labels"], minibatch["attention_mask"]
    starts = (labels != IGNORED_LABEL).int().argmax(1)  # (B,) first answer position of each row
    lengths = attention.sum(1)
    columns = torch.arange(attention.shape[1], device=attention.device)
    right_padded = bool((attention == (columns < lengths[:, None])).all())
    decoder = getattr(model, "base_model", None)
    if not right_padded or int(starts.min()) < 1 or decoder is None or not _keeps_a_cache(decoder) or not _keeps_a_cache(model):
        inputs = {"input_ids": minibatch["input_ids"], "attention_mask": attention, "use_cache": False}
        return Span(inputs, labels)
    return cut(decoder, minibatch, starts, lengths)


def _keeps_a_cache(module: nn.Module) -> bool:
    return set(inspect.signature(module.forward).parameters) >= _NEEDED


def cut(decoder: Any, minibatch: Mapping[str, torch.Tensor], starts: torch.Tensor, lengths: torch.Tensor) -> Span:
    """The positions from starts (B,), each at least 1, to lengths (B,), on top of a cache of what is before them.

    What is before is padded on the left, so that every row's span begins in the same column.
    """
    ids, labels = minibatch["input_ids"], minibatch["labels"]
    device, width = ids.device, int(starts.max())
    before = torch.arange(width, device=device) - (width - starts[:, None])  # (B, P) position in the row; negative: padding
    prompt_mask = before >= 0
    prompt_positions = before.clamp_min(0)
    with torch.no_grad():
        cache = decoder(
            input_ids=ids.gather(1, prompt_positions),
            attention_mask=prompt_mask.long(),
            position_ids=prompt_positions,
            use_cache=True,
        ).past_key_values
    after = starts[:, None] + torch.arange(int((lengths - starts).max()), device=device)  # (B, A) position in the row
    answer_mask = after < lengths[:, None]
    positions = after.clamp_max(ids.shape[1] - 1)
    inputs = {
        "input_ids": ids.gather(1, positions),
        "attention_mask": torch.cat([prompt_mask, answer_mask], 1).long(),
        "position_ids": positions,
        "past_key_values": cache,
        "use_cache": True,
    }
    return Span(inputs, labels.gather(1, positions).masked_fill(~answer_mask, IGNORED_LABEL))
