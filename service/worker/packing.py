"""Changes, statistics and whole states as safetensors bytes: what the object store holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors.torch import load, save

from editor_core import Update
from editor_core.change import Change
from editor_core.masters import Masters
from editor_core.statistics import Statistics

_LEFT, _RIGHT, _EDITS, _TAKEN = "left/", "right/", "edits/", "taken"
_WEIGHTS, _STATISTICS = "weights/", "statistics/"
_SHARED_EDITS = "edits"  # of objects written before changes could take anything out


def pack_change(change: Change) -> bytes | None:
    """The factors by module, beside them the edit id each row belongs to, and what is taken out. None when nothing changes."""
    tensors: dict[str, torch.Tensor] = {}
    for name, update in change.updates.items():
        tensors[_LEFT + name], tensors[_RIGHT + name] = update.left, update.right
        tensors[_EDITS + name] = change.owners[name]
    if not tensors:
        return None
    tensors[_TAKEN] = torch.tensor(change.taken, dtype=torch.int64)
    return save(_on_host(tensors))


def unpack_change(data: bytes) -> Change:
    tensors = _loaded(data)
    left, right = _under(tensors, _LEFT), _under(tensors, _RIGHT)
    shared = tensors.get(_SHARED_EDITS)
    owners = _under(tensors, _EDITS) | (
        {} if shared is None else {name: shared for name in left if _EDITS + name not in tensors}
    )
    return Change(
        updates={name: Update(left[name], right[name]) for name in left},
        owners=owners,
        taken=tuple(tensors[_TAKEN].tolist()) if _TAKEN in tensors else (),
    )


@dataclass(frozen=True, slots=True)
class StoredState:
    """Everything that is at one revision. weights as Masters has them; statistics flat."""

    weights: Mapping[str, torch.Tensor]
    statistics: Mapping[str, torch.Tensor]


def pack_state(masters: Masters, statistics: Statistics) -> bytes:
    tensors = {_WEIGHTS + name: tensor for name, tensor in masters.snapshot().items()}
    tensors |= {_STATISTICS + name: tensor for name, tensor in statistics.state_dict().items()}
    return save(_on_host(tensors))


def unpack_state(data: bytes) -> StoredState:
    tensors = _loaded(data)
    return StoredState(_under(tensors, _WEIGHTS), _under(tensors, _STATISTICS))


def pack_statistics(state: Mapping[str, torch.Tensor]) -> bytes:
    return save(_on_host(state))


def unpack_statistics(data: bytes) -> dict[str, torch.Tensor]:
    return _loaded(data)


def _loaded(data: bytes) -> dict[str, torch.Tensor]:
    """In memory of torch's own: products may differ in the last bit with alignment."""
    return {name: tensor.clone() for name, tensor in load(data).items()}


def _on_host(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def _under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
