"""float32 masters of the edited matrices: what is summed, hashed and stored. The model serves a cast of them.

Steps of 1e-6 added to bfloat16 weights mostly round away, and subtracting them later is not exact; so the sum is
kept in float32. Where the model is float32 already its parameter *is* the master.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch

from editor_core.breathing import breathe
from editor_core.change import NOBODY, Change
from editor_core.errors import StatisticsMismatchError
from editor_core.modules import EditedModule
from editor_core.slots import SlotBank
from editor_core.update import Update

HASHED_AT_ONCE = 2**22  # numbers


class Masters:
    """The edited weights, in the orientation in which the model stores them.

    owners  by bank of memory slots: (rows,) int64, the id of the edit that each row belongs to, or NOBODY
    leans   by edit id: the edits whose subject marks it relies on
    """

    def __init__(self, modules: Iterable[EditedModule]) -> None:
        self._modules = {each.name: each for each in modules}
        # The base model's own values: ||W - W0|| is measured against them, and a rebuild starts from them.
        # A model below float32 is served from the memory it was loaded into, so there they need memory of their own.
        self._base = {name: _kept(each.weight.detach()) for name, each in self._modules.items()}
        # Fresh memory even for a float32 model: a file mapped into memory is not aligned as torch's own is, and matrix
        # products may differ in the last bit with alignment.
        self._master = {name: base.to(torch.float32, copy=True) for name, base in self._base.items()}
        self.owners = self._nobodys(self._master)
        self.leans: dict[int, tuple[int, ...]] = {}
        for name in self._modules:
            self._serve(name)

    def add(self, name: str, update: Update, owners: torch.Tensor | None = None) -> None:
        """Add an update to one master and serve the result. owners: (N,) int64, by row; of a bank alone."""
        if name in self.owners:
            mine = torch.full((len(update.left),), NOBODY) if owners is None else owners.cpu()
            self.owners[name] = torch.cat([self.owners[name], mine])
        self._master[name] = self._modules[name].updated(self._master[name], update)
        self._serve(name)

    def change(self, change: Change) -> None:
        """Take out what goes, add what comes, and serve the result."""
        for name, rows in change.removed.items():
            kept = torch.ones(len(self._master[name]), dtype=torch.bool)
            kept[rows] = False
            self._master[name] = self._master[name][kept.to(self._master[name].device)]
            self.owners[name] = self.owners[name][kept]
            self._serve(name)
        for name, update in change.updates.items():
            self.add(name, update, change.owners.get(name))
        left = {edit: on for edit, on in self.leans.items() if edit not in change.taken}
        self.leans = {**left, **change.leans}

    def sharing(self, edit: int) -> frozenset[int]:
        """Ids of the other edits that rely on a subject mark which this one relies on, whoever's it is."""
        marks = {edit, *self.leans.get(edit, ())}
        found = marks.union(one for one, on in self.leans.items() if not marks.isdisjoint({one, *on}))
        return frozenset(found - {edit})

    def edits(self) -> list[int]:
        """Ids of the edits that have rows of their own in a bank, in order."""
        found = set().union(*(owners.tolist() for owners in self.owners.values())) if self.owners else set()
        return sorted(found - {NOBODY})

    def _nobodys(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: torch.full((len(state[name]),), NOBODY) for name, each in self._modules.items() if each.is_bank}

    def __getitem__(self, name: str) -> torch.Tensor:
        """One master itself, as stored: what is written to it is served at once only by a float32 model."""
        return self._master[name]

    def base(self, name: str) -> torch.Tensor:
        """One weight as the model was loaded, float32, as stored: a copy."""
        return self._base[name].to(torch.float32, copy=True)

    def difference(self, name: str) -> torch.Tensor:
        """W - W0 of a matrix, float32, as stored."""
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

    def restore(
        self,
        state: Mapping[str, torch.Tensor],
        owners: Mapping[str, torch.Tensor] | None = None,
        leans: Mapping[int, tuple[int, ...]] | None = None,
    ) -> None:
        """Put every master to the given absolute values, bit for bit. Without owners, rows belong to nobody.

        Raises StatisticsMismatchError, with nothing changed, when names or shapes differ.
        """
        if {name: self._shape(name, tensor) for name, tensor in state.items()} != {
            name: self._shape(name, master) for name, master in self._master.items()
        }:
            raise StatisticsMismatchError("the stored weights are not those of this editor's modules")
        whose = self._nobodys(state) if owners is None else {name: each.clone() for name, each in owners.items()}
        if {name: len(each) for name, each in whose.items()} != {name: len(state[name]) for name in self.owners}:
            raise StatisticsMismatchError("the stored owners are not those of the stored rows")
        self.owners, self.leans = whose, dict(leans or {})
        for name, tensor in state.items():
            if self._modules[name].is_bank:
                self._master[name] = tensor.to(self._master[name].device, copy=True)
            else:
                self._master[name].copy_(tensor)
            self._serve(name)

    def _shape(self, name: str, master: torch.Tensor) -> tuple[int, ...]:
        """What cannot change while a model is edited: a bank may have any number of rows."""
        known = self._modules.get(name)
        return tuple(master.shape[1:]) if known is not None and known.is_bank else tuple(master.shape)

    def restore_base(self) -> None:
        """Back to the model as it was loaded."""
        self.restore({name: base.float() for name, base in self._base.items()})

    def distance_from_base(self) -> dict[str, float]:
        """||W - W0||_F by module: the one norm that the method's theory does not bound."""
        distances = {}
        for name, master in self._master.items():
            breathe()
            distances[name] = self._modules[name].distance(master, self._base[name])
        return distances

    def fingerprint(self) -> str:
        """SHA-256 over names, shapes and float32 bytes of all masters: equal only for bit-identical weights."""
        digest = hashlib.sha256()
        for name in sorted(self._master):
            master = self._master[name]
            digest.update(f"{name} {tuple(master.shape)}\n".encode())
            module = self._modules[name].module
            if isinstance(module, SlotBank):
                digest.update(module.host_digest.encode())  # a bank says nothing without the block it is in
            for part in torch.split(master.flatten(), HASHED_AT_ONCE):
                breathe()
                digest.update(part.cpu().numpy().tobytes())
        return digest.hexdigest()


def _kept(base: torch.Tensor) -> torch.Tensor:
    return base if base.dtype == torch.float32 else base.clone()
