"""float32 masters of the edited matrices: what is summed, hashed and stored. The model serves a cast of them.

Steps of 1e-6 added to bfloat16 weights mostly round away, and subtracting them later is not exact; so the sum is
kept in float32. Where the model is float32 already its parameter *is* the master.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch

from editor_core.breathing import breathe
from editor_core.change import Change
from editor_core.errors import StatisticsMismatchError
from editor_core.modules import EditedModule
from editor_core.update import Update

HASHED_AT_ONCE = 2**22  # numbers


class Masters:
    """The edited weights, in the orientation in which the model stores them."""

    def __init__(self, modules: Iterable[EditedModule]) -> None:
        self._modules = {each.name: each for each in modules}
        # The base model's own values: ||W - W0|| is measured against them, and a rebuild starts from them.
        # A model below float32 is served from the memory it was loaded into, so there they need memory of their own.
        self._base = {name: _kept(each.weight.detach()) for name, each in self._modules.items()}
        # Fresh memory even for a float32 model: a file mapped into memory is not aligned as torch's own is, and matrix
        # products may differ in the last bit with alignment.
        self._master = {name: base.to(torch.float32, copy=True) for name, base in self._base.items()}
        for name in self._modules:
            self._serve(name)

    def add(self, name: str, update: Update) -> None:
        """Add an update to one master and serve the result."""
        master = self._master[name]
        master += self._modules[name].as_stored(update.dense()).to(master.device)
        self._serve(name)

    def change(self, change: Change) -> None:
        """Add everything that a change brings, and serve the result."""
        for name, update in change.updates.items():
            self.add(name, update)

    def __getitem__(self, name: str) -> torch.Tensor:
        """One master itself, as stored: what is written to it is served at once only by a float32 model."""
        return self._master[name]

    def base(self, name: str) -> torch.Tensor:
        """One weight as the model was loaded, float32, as stored: a copy."""
        return self._base[name].to(torch.float32, copy=True)

    def difference(self, name: str) -> torch.Tensor:
        """W - W0, float32, as stored."""
        return self._master[name] - self.base(name)

    def _serve(self, name: str) -> None:
        weight, master = self._modules[name].weight, self._master[name]
        if weight.dtype == master.dtype:
            weight.data = master
        else:
            weight.data.copy_(master)

    def publish(self, modules: Iterable[EditedModule]) -> None:
        """Have the same modules of another model serve these weights: float32 ones are the masters themselves.

        Those may not be written to as long as the other model answers: changes are made on drafts.
        """
        for each in modules:
            each.weight.data = self._master[each.name].to(each.weight.dtype)

    def exchange(self, others: dict[str, torch.Tensor]) -> None:
        """Change places with another full set of masters (as from `snapshot`), which then holds what was served so far."""
        for name, other in others.items():
            others[name], self._master[name] = self._master[name], other
            self._serve(name)

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Copies of all masters, as stored, float32, on the CPU or wherever the model is."""
        copies = {}
        for name, master in self._master.items():
            breathe()
            copies[name] = master.clone()
        return copies

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put every master to the given absolute values, bit for bit.

        Raises StatisticsMismatchError, with nothing changed, when names or shapes differ.
        """
        if {name: tensor.shape for name, tensor in state.items()} != {
            name: master.shape for name, master in self._master.items()
        }:
            raise StatisticsMismatchError("the stored weights are not those of this editor's modules")
        for name, tensor in state.items():
            self._master[name].copy_(tensor)
            self._serve(name)

    def restore_base(self) -> None:
        """Back to the model as it was loaded."""
        self.restore({name: base.float() for name, base in self._base.items()})

    def distance_from_base(self) -> dict[str, float]:
        """||W - W0||_F by module: the one norm that the method's theory does not bound."""
        distances = {}
        for name, master in self._master.items():
            breathe()
            distances[name] = float((master - self._base[name].float()).norm())
        return distances

    def fingerprint(self) -> str:
        """SHA-256 over names, shapes and float32 bytes of all masters: equal only for bit-identical weights."""
        digest = hashlib.sha256()
        for name in sorted(self._master):
            master = self._master[name]
            digest.update(f"{name} {tuple(master.shape)}\n".encode())
            for part in torch.split(master.flatten(), HASHED_AT_ONCE):
                breathe()
                digest.update(part.cpu().numpy().tobytes())
        return digest.hexdigest()


def _kept(base: torch.Tensor) -> torch.Tensor:
    return base if base.dtype == torch.float32 else base.clone()
