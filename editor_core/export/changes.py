"""The edited weights alone, in one safetensors file: each under its parameter's own name, float32, as the model stores it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from editor_core.masters import Masters
from editor_core.modules import EditedModule


def write_changes(path: Path, modules: tuple[EditedModule, ...], masters: Masters, metadata: Mapping[str, str]) -> None:
    tensors = {f"{module.name}.weight": masters[module.name].detach().cpu().contiguous() for module in modules}
    save_file(tensors, path, dict(metadata))


def read_changes(path: Path, modules: tuple[EditedModule, ...]) -> dict[str, torch.Tensor]:
    """The masters that a file holds, as `Masters.restore` takes them."""
    with safe_open(path, "pt") as file:
        return {module.name: file.get_tensor(f"{module.name}.weight") for module in modules}
