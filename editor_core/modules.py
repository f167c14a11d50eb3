"""Finding the layers to edit, and seeing nn.Linear and Conv1D the same way: as a d_in × d_out matrix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from editor_core.errors import UnknownModuleError, UnsupportedModuleError


@dataclass(frozen=True, slots=True)
class EditedModule:
    """One edited layer. `input_major` is True when the stored weight is d_in × d_out (Conv1D), False for nn.Linear."""

    name: str
    module: nn.Module
    d_in: int
    d_out: int
    input_major: bool

    @property
    def shape(self) -> tuple[int, int]:
        return self.d_in, self.d_out

    @property
    def weight(self) -> nn.Parameter:
        weight = self.module.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    def as_stored(self, dense: torch.Tensor) -> torch.Tensor:
        """A d_in × d_out update in the orientation of the stored weight (a view, no copy)."""
        return dense if self.input_major else dense.T

    def product(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the layer makes of inputs (N x d_in) without its bias: N x d_out, float32."""
        weight = self.weight.float()
        return inputs @ (weight if self.input_major else weight.T)


def _is_conv1d(module: nn.Module) -> bool:
    # transformers' Conv1D, told by its name and its `nf` so that this package needs no import of it here.
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def _resolve(name: str, named: dict[str, nn.Module]) -> EditedModule:
    module = named.get(name)
    if module is None:
        near = difflib.get_close_matches(name, named, n=3)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise UnknownModuleError(f"the model has no module {name!r}{hint}")
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Linear) and isinstance(weight, nn.Parameter) and weight.is_floating_point():
        return EditedModule(name, module, module.in_features, module.out_features, input_major=False)
    if _is_conv1d(module) and isinstance(weight, nn.Parameter):
        return EditedModule(name, module, weight.shape[0], weight.shape[1], input_major=True)
    raise UnsupportedModuleError(
        f"{name} is a {type(module).__name__}; only nn.Linear and Conv1D with floating-point weights can be edited"
    )


def resolve_modules(model: nn.Module, names: Iterable[str]) -> tuple[EditedModule, ...]:
    """The named layers, in the order given.

    Raises UnknownModuleError, or UnsupportedModuleError (wrong kind, or a weight that other modules share).
    """
    named = dict(model.named_modules())
    edited = tuple(_resolve(name, named) for name in names)
    owners: dict[int, list[str]] = {}
    for name, module in named.items():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    for each in edited:
        sharing = [other for other in owners[id(each.weight)] if other != each.name]
        if sharing:
            raise UnsupportedModuleError(f"{each.name} shares its weight with {', '.join(sharing)}; editing it would edit both")
    return edited
