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

_LEFT, _RIGHT, _EDITS, _REMOVED = "left/", "right/", "edits/", "removed/"
_WEIGHTS, _OWNERS, _STATISTICS = "weights/", "owners/", "statistics/"
_LEANS, _TAKEN = "leans", "taken"
_SHARED_EDITS = "edits"  # of objects written before changes could take anything out


def pack_change(change: Change) -> bytes | None:
    """The factors by module, beside them the edit id each row belongs to, and what is taken out. None when nothing changes."""
    tensors: dict[str, torch.Tensor] = {}
    for name, update in change.updates.items():
        tensors[_LEFT + name], tensors[_RIGHT + name] = update.left, update.right
        tensors[_EDITS + name] = change.owners[name]
    tensors |= {_REMOVED + name: rows for name, rows in change.removed.items()}
    if not tensors:
        return None
    tensors[_LEANS] = _pairs(change.leans)
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
        removed=_under(tensors, _REMOVED),
        leans=_by_edit(tensors.get(_LEANS)),
        taken=tuple(tensors[_TAKEN].tolist()) if _TAKEN in tensors else (),
    )


@dataclass(frozen=True, slots=True)
class StoredState:
    """Everything that is at one revision. weights, owners and leans as Masters has them; statistics flat."""

    weights: Mapping[str, torch.Tensor]
    owners: Mapping[str, torch.Tensor]
    leans: Mapping[int, tuple[int, ...]]
    statistics: Mapping[str, torch.Tensor]


def pack_state(masters: Masters, statistics: Statistics) -> bytes:
    tensors = {_WEIGHTS + name: tensor for name, tensor in masters.snapshot().items()}
    tensors |= {_OWNERS + name: tensor for name, tensor in masters.owners.items()}
    tensors |= {_STATISTICS + name: tensor for name, tensor in statistics.state_dict().items()}
    tensors[_LEANS] = _pairs(masters.leans)
    return save(_on_host(tensors))


def unpack_state(data: bytes) -> StoredState:
    tensors = _loaded(data)
    return StoredState(
        _under(tensors, _WEIGHTS), _under(tensors, _OWNERS), _by_edit(tensors.get(_LEANS)), _under(tensors, _STATISTICS)
    )


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


def _pairs(leans: Mapping[int, tuple[int, ...]]) -> torch.Tensor:
    """(K, 2) int64: an edit, and one that it leans on."""
    found = [(edit, other) for edit, on in sorted(leans.items()) for other in on]
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 2)


def _by_edit(pairs: torch.Tensor | None) -> dict[int, tuple[int, ...]]:
    found: dict[int, tuple[int, ...]] = {}
    for edit, other in [] if pairs is None else pairs.tolist():
        found[edit] = (*found.get(edit, ()), other)
    return found
