"""Attention for packed passes: a pass's tokens belong to several sequences, and each part of it looks at the rows of a common
memory that are its own.

Keys and values that query heads share are not copied for each. The library repeats them head by head before its product when
there is a mask, which is most of a short pass on a processor. The result is the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from editor_core.errors import UnsupportedModuleError

_PACKED = "errata_packed"
_ELSEWHERE = ("softcap", "position_bias", "s_aux")  # what some models add to the scores: left to the library


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens first to last - 1 of a packed pass: either one for each of `rows`, or a run of tokens of the only row.

    columns   of the memory's rows that may be looked at
    """

    first: int
    last: int
    rows: slice | torch.Tensor
    columns: int


_parts: ContextVar[Sequence[Part]] = ContextVar("parts", default=())


@contextmanager
def packed_attention(model: Any, parts: Sequence[Part]) -> Iterator[None]:
    """Run packed passes: keys and values are those of the whole memory, R × shared heads × C × d, the mask 1 × 1 × T × C.

    Raises UnsupportedModuleError for a model that does not run with torch's own product.
    """
    usual = model.config._attn_implementation
    if usual != "sdpa":
        raise UnsupportedModuleError(f"attention of kind {usual} cannot be packed")
    token = _parts.set(parts)
    try:
        model.config._attn_implementation = _PACKED
        yield
    finally:
        model.config._attn_implementation = usual
        _parts.reset(token)


def _grouped(
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


def _packed(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor, **others: Any
) -> tuple[torch.Tensor, None]:
    """query: 1 × heads × T × d, key and value: the memory, mask: 1 × 1 × T × C bool. Returns 1 × T × heads × d."""
    found = []
    for part in _parts.get():
        asked, mask = query[:, :, part.first : part.last], attention_mask[:, :, part.first : part.last, : part.columns]
        keys, values = (memory[part.rows, :, : part.columns] for memory in (key, value))
        several = len(keys) > 1
        if several:  # a token for each row: rows take the place of the batch
            asked, mask = asked.transpose(0, 2), mask.transpose(0, 2)
        mixed, _ = _grouped(module, asked, keys, values, mask, **others)
        found.append(mixed.transpose(0, 1) if several else mixed)
    return torch.cat(found, 1), None


AttentionInterface.register(_PACKED, _packed)
AttentionMaskInterface.register(_PACKED, sdpa_mask)
