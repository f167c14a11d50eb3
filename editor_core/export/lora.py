"""Edited matrices as a PEFT adapter: the best approximation of every weight's change at a given rank, with its error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from editor_core.masters import Masters
from editor_core.modules import EditedModule

PREFIX = "base_model.model."  # what PEFT puts before the model's own names
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True, slots=True)
class ModuleError:
    """Of one weight: ||Delta||_F, and ||Delta - B A||_F of the adapter's factors."""

    name: str
    norm: float
    error: float

    @property
    def relative(self) -> float:
        return self.error / self.norm if self.norm else 0.0


@dataclass(frozen=True, slots=True)
class Adapter:
    """What was written: its rank, and how far off it is."""

    rank: int
    modules: tuple[ModuleError, ...]

    @property
    def relative(self) -> float:
        """The error of all modules together, as a share of the change of all modules together."""
        norm = math.hypot(*(each.norm for each in self.modules))
        return math.hypot(*(each.error for each in self.modules)) / norm if norm else 0.0


@torch.no_grad()
def write_adapter(
    folder: Path,
    modules: tuple[EditedModule, ...],
    masters: Masters,
    rank: int,
    base_model: str,
    progress: Callable[[float], None] = lambda share: None,
) -> Adapter:
    """adapter_model.safetensors and adapter_config.json. A rank beyond the largest weight's is lowered to it."""
    rank = min(rank, max(min(module.shape) for module in modules))
    tensors: dict[str, torch.Tensor] = {}
    errors = []
    for done, module in enumerate(modules):
        change = masters.difference(module.name)
        delta = (change.T if module.input_major else change).double()  # d_out × d_in
        b, a = (factor.float() for factor in factors(delta, rank))
        tensors[f"{PREFIX}{module.name}.lora_A.weight"] = a.cpu().contiguous()
        tensors[f"{PREFIX}{module.name}.lora_B.weight"] = b.cpu().contiguous()
        errors.append(ModuleError(module.name, delta.norm().item(), (delta - b.double() @ a.double()).norm().item()))
        progress((done + 1) / len(modules))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(_config(modules, rank, base_model), indent=2) + "\n", encoding="utf-8")
    return Adapter(rank, tuple(errors))


def factors(delta: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, A), d_out × rank and rank × d_in, whose product is the nearest of that rank (Eckart and Young, 1936).

    One factor is orthonormal and the other is delta projected on it, so at full rank nothing is lost. The leading singular
    vectors of the shorter side come from its Gram matrix: give it float64. Beyond full rank the factors are filled with zeros.
    """
    d_out, d_in = delta.shape
    kept = min(rank, d_out, d_in)
    if d_out <= d_in:
        b = torch.linalg.eigh(delta @ delta.T).eigenvectors[:, -kept:].flip(1)  # ascending, so the leading ones are last
        a = b.T @ delta
    else:
        a = torch.linalg.eigh(delta.T @ delta).eigenvectors[:, -kept:].flip(1).T
        b = delta @ a.T
    return torch.nn.functional.pad(b, (0, rank - kept)), torch.nn.functional.pad(a, (0, 0, 0, rank - kept))


def read_adapter(folder: Path, modules: tuple[EditedModule, ...], masters: Masters) -> dict[str, torch.Tensor]:
    """The masters that the base model has under an adapter, as `Masters.restore` takes them."""
    tensors = load_file(folder / WEIGHTS)
    found = {}
    for module in modules:
        a, b = (tensors[f"{PREFIX}{module.name}.lora_{factor}.weight"] for factor in "AB")
        found[module.name] = masters.base(module.name).cpu() + module.as_stored((b @ a).T)
    return found


def _config(modules: tuple[EditedModule, ...], rank: int, base_model: str) -> dict[str, object]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": rank,  # PEFT multiplies by lora_alpha / r
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": modules[0].input_major,
        "target_modules": [module.name for module in modules],
        "inference_mode": True,
    }
