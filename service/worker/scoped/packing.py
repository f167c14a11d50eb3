"""Checkpoints of scoped edits as safetensors bytes: which edits are in force and where, and the statistics."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from safetensors.torch import load, save

from editor_core.scoped.in_force import EditsInForce, Entry
from service.worker.scoped.state import ScopedState

_STATISTICS = "statistics/"


def pack_state(state: ScopedState) -> bytes:
    """ids int64 (n), records uint8 (n x 32), sizes int32 (n x 2) of names and addresses, and both one after the other."""
    rows = sorted(state.edits.rows())
    names = [" | ".join(entry.keys).encode() for _, entry in rows]
    tensors = {
        "ids": torch.tensor([edit for edit, _ in rows], dtype=torch.int64),
        "records": _bytes(b"".join(bytes.fromhex(entry.record) for _, entry in rows)),
        "sizes": torch.tensor(
            [[len(name), len(entry.address)] for name, (_, entry) in zip(names, rows, strict=True)], dtype=torch.int32
        ),
        "names": _bytes(b"".join(names)),
        "addresses": _bytes(b"".join(entry.address for _, entry in rows)),
    }
    tensors |= {_STATISTICS + name: each.cpu().contiguous() for name, each in state.statistics.state_dict().items()}
    return save(tensors)


def unpack_state(data: bytes) -> tuple[EditsInForce, dict[str, torch.Tensor]]:
    """(edits in force, statistics). Raises KeyError or ValueError for bytes that are no such checkpoint."""
    tensors = load(data)
    statistics = {
        name.removeprefix(_STATISTICS): each.clone() for name, each in tensors.items() if name.startswith(_STATISTICS)
    }
    return EditsInForce.of(_entries(tensors)), statistics


def _entries(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[int, Entry]]:
    records, names, addresses = (tensors[each].numpy().tobytes() for each in ("records", "names", "addresses"))
    name_at = address_at = 0
    for place, (edit, (name, address)) in enumerate(
        zip(tensors["ids"].tolist(), tensors["sizes"].reshape(-1, 2).tolist(), strict=True)
    ):
        keys = names[name_at : name_at + name].decode()
        yield (
            edit,
            Entry(
                records[32 * place : 32 * place + 32].hex(),
                tuple(keys.split(" | ")) if keys else (),
                addresses[address_at : address_at + address],
            ),
        )
        name_at, address_at = name_at + name, address_at + address


def _bytes(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
