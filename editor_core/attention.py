"""Attention for passes over many short spans on long caches: keys and values that query heads share are not copied for each.

The library repeats them head by head before its product when there is a mask, which is most of a short pass on a processor.
The result is the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "errata_grouped"
_ELSEWHERE = ("softcap", "position_bias", "s_aux")  # what some models add to the scores: left to the library


@contextmanager
def grouped_attention(model: Any) -> Iterator[None]:
    """Run the model with it for as long as the block lasts, if it runs with torch's own product otherwise."""
    config = model.config
    if config._attn_implementation != "sdpa":
        yield
        return
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"


def _forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """query: B × heads × A × d, key and value: B × shared heads × P × d, mask: B × 1 × A × P bool.

    Returns B × A × heads × d.
    """
    batch, heads, length, width = query.shape
    added = any(others.get(name) is not None for name in _ELSEWHERE)
    if attention_mask is None or attention_mask.dtype != torch.bool or attention_mask.shape[1] != 1 or dropout or added:
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **others
        )
        return found
    shared = key.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    scores = (query * scale).reshape(batch, shared, -1, width) @ key.transpose(-1, -2)
    scores = scores.view(batch, shared, heads // shared, length, -1)
    shut = ~attention_mask[:, :, None, :, : key.shape[2]]
    weights = scores.masked_fill(shut, torch.finfo(scores.dtype).min).softmax(-1, dtype=torch.float32).to(value.dtype)
    mixed = weights.view(batch, shared, -1, key.shape[2]) @ value
    return mixed.view(batch, heads, length, -1).transpose(1, 2), None


AttentionInterface.register(_NAME, _forward)
AttentionMaskInterface.register(_NAME, sdpa_mask)
