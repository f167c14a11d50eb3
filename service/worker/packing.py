"""Updates and statistics as safetensors bytes: what the object store holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from safetensors.torch import load, save

from editor_core import Proposal, Update

_LEFT, _RIGHT, _EDITS = "left/", "right/", "edits"


def pack_updates(proposal: Proposal, edit_ids: Sequence[int]) -> bytes | None:
    """The factors by module, and beside them the edit id each row belongs to. None when there is no update."""
    if not proposal.updates:
        return None
    ids = torch.tensor([*edit_ids, -1])  # -1 is the last: a row that belongs to no edit
    tensors = {_EDITS: _edit_ids(ids, proposal.examples)}
    for name, update in proposal.updates.items():
        if name in proposal.examples_by_module:
            tensors[f"{_EDITS}/{name}"] = _edit_ids(ids, proposal.examples_of(name))
        tensors[_LEFT + name] = update.left.cpu().contiguous()
        tensors[_RIGHT + name] = update.right.cpu().contiguous()
    return save(tensors)


def _edit_ids(ids: torch.Tensor, examples: torch.Tensor) -> torch.Tensor:
    return ids[examples] if len(ids) > 1 else examples


def unpack_updates(data: bytes) -> dict[str, Update]:
    tensors = load(data)
    names = [name.removeprefix(_LEFT) for name in tensors if name.startswith(_LEFT)]
    return {name: Update(tensors[_LEFT + name], tensors[_RIGHT + name]) for name in names}


def unpack_owners(data: bytes) -> dict[str, torch.Tensor]:
    """By module, the id of the edit that each row of its factors belongs to, or -1: (N,) int64."""
    tensors = load(data)
    names = [name.removeprefix(_LEFT) for name in tensors if name.startswith(_LEFT)]
    return {name: tensors[own if (own := f"{_EDITS}/{name}") in tensors else _EDITS] for name in names}


def pack_statistics(state: Mapping[str, torch.Tensor]) -> bytes:
    return save({name: tensor.cpu().contiguous() for name, tensor in state.items()})


def unpack_statistics(data: bytes) -> dict[str, torch.Tensor]:
    return load(data)
