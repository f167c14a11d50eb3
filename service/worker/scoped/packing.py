"""Checkpoints of scoped edits as safetensors bytes: which edits are in force and where, and the statistics."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors.torch import load, save

from editor_core.scoped.in_force import EditsInForce
from editor_core.scoped.packed import PackedEdits

_EDITS, _STATISTICS = "edits/", "statistics/"


def pack_state(edits: EditsInForce, statistics: Mapping[str, torch.Tensor]) -> bytes:
    """The arrays of `PackedEdits`, and the statistics' tensors. Runs none of torch's parallel operations: on any thread."""
    tensors = {_EDITS + name: each for name, each in edits.packed().base.tensors().items()}
    tensors |= {_STATISTICS + name: each.cpu().contiguous() for name, each in statistics.items()}
    return save(tensors)


def unpack_state(data: bytes) -> tuple[EditsInForce, dict[str, torch.Tensor]]:
    """(edits in force, statistics). Raises KeyError or ValueError for bytes that are no such checkpoint."""
    tensors = load(data)
    statistics = {name: each.clone() for name, each in _under(tensors, _STATISTICS).items()}
    return EditsInForce.opened(PackedEdits.of(_under(tensors, _EDITS))), statistics


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
