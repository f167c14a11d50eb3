"""Checkpoints of scoped edits as safetensors bytes: which edits are in force and where, and the statistics."""

from __future__ import annotations

import torch
from safetensors.torch import load, save

from editor_core.scoped.in_force import EditsInForce
from editor_core.scoped.packed import PackedEdits
from service.worker.scoped.state import ScopedState

_EDITS, _TOTAL, _STATISTICS = "edits/", "total", "statistics/"
_TOTAL_BYTES = 32


def pack_state(state: ScopedState) -> bytes:
    """The arrays of `PackedEdits`, the edits' total (32 bytes, little-endian) that their fingerprint is, and the statistics."""
    edits = state.edits.packed()
    tensors = {_EDITS + name: each for name, each in edits.base.tensors().items()}
    tensors[_TOTAL] = torch.frombuffer(bytearray(edits.total.to_bytes(_TOTAL_BYTES, "little")), dtype=torch.uint8)
    tensors |= {_STATISTICS + name: each.cpu().contiguous() for name, each in state.statistics.state_dict().items()}
    return save(tensors)


def unpack_state(data: bytes) -> tuple[EditsInForce, dict[str, torch.Tensor]]:
    """(edits in force, statistics). Raises KeyError or ValueError for bytes that are no such checkpoint."""
    tensors = load(data)
    base = PackedEdits.of(_under(tensors, _EDITS))
    total = int.from_bytes(tensors[_TOTAL].numpy().tobytes(), "little")
    statistics = {name: each.clone() for name, each in _under(tensors, _STATISTICS).items()}
    return EditsInForce(base, count=len(base), total=total), statistics


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
