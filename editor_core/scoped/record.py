"""An edit's own record: scope, gate and update, complete in itself, as the object store keeps it.

What decides whether an edit is in force (`Address`) is small and stays in memory; the update is read when it is first needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load, save

from editor_core.scoped.gate import Gate
from editor_core.texts import Format
from editor_core.update import Update, dequantised, quantised

_HEADER, _LEFT, _RIGHT, _SCALE = "header", "left/", "right/", "scale/"


@dataclass(frozen=True, slots=True)
class Address:
    """Where an edit is in force, and what it says there.

    names    the subject as it is written, and its other names: the scope
    gate     which questions about it
    endings  folded last words of the wordings taught that are no questions: "is" of "our default port is"
    answers  by format: the answer's token ids, with what ends it
    """

    names: tuple[str, ...]
    gate: Gate
    endings: tuple[str, ...]
    answers: Mapping[Format, tuple[int, ...]]

    def to_bytes(self) -> bytes:
        """JSON line, then the gate's vectors as float16."""
        header = {
            "names": self.names,
            "questions": self.gate.questions,
            "thresholds": self.gate.thresholds,
            "shut": self.gate.shut,
            "endings": self.endings,
            "answers": self.answers,
        }
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
        return text + b"\n" + self.gate.vectors.to(torch.float16).contiguous().numpy().tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Address:
        text, _, vectors = bytes(data).partition(b"\n")
        header = json.loads(text)
        questions = tuple(header["questions"])
        numbers = torch.frombuffer(bytearray(vectors), dtype=torch.float16).float().view(len(questions), -1)
        gate = Gate(questions, numbers, tuple(header["thresholds"]), tuple(header["shut"]))
        answers = {format: tuple(tokens) for format, tokens in header["answers"].items()}
        return cls(tuple(header["names"]), gate, tuple(header["endings"]), answers)


@dataclass(frozen=True, slots=True)
class Record:
    """One edit: its address, and by module the update that is in force there."""

    address: Address
    updates: Mapping[str, Update]

    def to_bytes(self) -> bytes:
        """Safetensors: rows as 8-bit integers with a scale each, the address as bytes."""
        tensors = {_HEADER: torch.frombuffer(bytearray(self.address.to_bytes()), dtype=torch.uint8)}
        for name, update in self.updates.items():
            for side, rows in ((_LEFT, update.left), (_RIGHT, update.right)):
                tensors[side + name], tensors[_SCALE + side + name] = quantised(rows.cpu())
        return save(tensors)

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """Raises ValueError for bytes that are no record."""
        try:
            tensors = load(data)
            address = Address.from_bytes(tensors[_HEADER].numpy().tobytes())
        except Exception as error:
            raise ValueError(f"not an edit's record: {error}") from error
        names: Sequence[str] = [key.removeprefix(_LEFT) for key in tensors if key.startswith(_LEFT)]
        return cls(
            address, {name: Update(_rows(tensors, _LEFT + name), _rows(tensors, _RIGHT + name)) for name in sorted(names)}
        )

    @property
    def bytes_in_memory(self) -> int:
        return sum(each.left.numel() * 4 + each.right.numel() * 4 for each in self.updates.values())


def _rows(tensors: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    return dequantised(tensors[name], tensors[_SCALE + name])
