"""The changed tensors alone, in one safetensors file: slots row by row, or the edited weights as they are.

Beside an edited bank of block B, S slots: B.slots.detectors S × d_in, B.slots.thresholds S, B.slots.values S × d_out, all
float32, and B.slots.edits S int64: the id of the edit that each slot belongs to, -1 where it is not known. An edited matrix is
under its parameter's own name, float32, as the model stores it. Metadata: what the caller says, and k and w of the slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from editor_core.masters import Masters
from editor_core.modules import EditedModule
from editor_core.slots import RAMP, SHARPNESS

NO_EDIT = -1


def write_changes(
    path: Path,
    modules: tuple[EditedModule, ...],
    masters: Masters,
    edits: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
) -> None:
    """edits: by bank's name, (S,) int64. A bank without slots is left out."""
    tensors: dict[str, torch.Tensor] = {}
    for module in modules:
        master = masters[module.name].detach().cpu()
        if not module.is_bank:
            tensors[f"{module.name}.weight"] = master
        elif len(master):
            tensors |= _slots(module, master, edits.get(module.name))
    own = {"k": repr(SHARPNESS), "w": repr(RAMP)} if any(module.is_bank for module in modules) else {}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {**metadata, **own})


def read_changes(path: Path, modules: tuple[EditedModule, ...]) -> dict[str, torch.Tensor]:
    """The masters that a file holds, as `Masters.restore` takes them."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a mapping
    return {module.name: _master(module, tensors) for module in modules}


def _slots(module: EditedModule, rows: torch.Tensor, edits: torch.Tensor | None) -> dict[str, torch.Tensor]:
    return {
        f"{module.name}.detectors": rows[:, : module.d_in],
        f"{module.name}.thresholds": rows[:, module.d_in],
        f"{module.name}.values": rows[:, module.d_in + 1 :],
        f"{module.name}.edits": torch.full((len(rows),), NO_EDIT) if edits is None else edits,
    }


def _master(module: EditedModule, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    if not module.is_bank:
        return tensors[f"{module.name}.weight"]
    if f"{module.name}.detectors" not in tensors:
        return torch.zeros(0, module.d_in + 1 + module.d_out)
    detectors, thresholds, values = (tensors[f"{module.name}.{part}"] for part in ("detectors", "thresholds", "values"))
    return torch.cat([detectors, thresholds[:, None], values], 1)
