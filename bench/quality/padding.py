"""Many sequences of token ids through a model at once: grouped by length, padded on the left so that all end together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch


def by_length(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Indices of sequences of similar length, at most `most` in a group, the shortest first."""
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    for start in range(0, len(order), most):
        yield order[start : start + most]


def left_padded(sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device | str) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask, B × T int64, for sequences of at least one token each."""
    width = max(len(sequence) for sequence in sequences)
    input_ids = torch.full((len(sequences), width), pad_id)
    attention_mask = torch.zeros(len(sequences), width, dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        input_ids[row, width - len(sequence) :] = torch.tensor(sequence)
        attention_mask[row, width - len(sequence) :] = 1
    return {"input_ids": input_ids.to(device), "attention_mask": attention_mask.to(device)}
