"""Memory slots: extra neurons of a feed-forward block, each silent but for the one key it was made for.

A feed-forward block is a key-value memory (Geva et al., 2021): neuron i adds act(g_i x) (u_i x) v_i to the residual
stream. A linear update of `down_proj` shares the neurons that are there, so it answers, faintly, to every other key as well;
a few hundred such whispers change what the model says. A slot is a neuron of its own whose key is a linear discriminant,
    d = M^-1 x0 / (x0^T M^-1 x0),   M = mean of x x^T over what the unedited model usually reads,
which is 1 at its own key x0 and about 1 / sqrt(x0^T M^-1 x0), a few hundredths, elsewhere; what is below a threshold
is cut off by the activation instead of being added up. With s = d x - t:

    gate(x) = (silu(k s) - silu(k (s - w))) / (k w)      0 below the threshold t, 1 above t + w, but for a few hundredths
    block(x) = mlp(x) + sum_i gate_i(x) v_i

A slot is two further neurons with a bias. (Using a direction of x that is nearly constant in place of the bias, so that blocks
without biases could take slots in, was tried: it is constant on questions and not on other texts, and opens slots there.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from editor_core.errors import UnsupportedModuleError

SHARPNESS = 30.0  # k
RAMP = 0.15  # w: from shut to fully open
GATED_PARTS = ("gate_proj", "up_proj", "down_proj")


class SlotBank(nn.Module):
    """The slots of one block.

    weight   slots × (d_in + 1 + d_out) float32, a slot's row is [d, t, v]. No rows: no slots yet.
    """

    def __init__(self, d_in: int, d_out: int, device: torch.device) -> None:
        super().__init__()
        self.d_in, self.d_out = d_in, d_out
        self.weight = nn.Parameter(torch.zeros(0, d_in + 1 + d_out, device=device), requires_grad=False)
        self.silent = False
        self.host_digest = ""
        self.hook: RemovableHandle | None = None  # of the block, once attached

    @property
    def count(self) -> int:
        """Slots in the bank."""
        return len(self.weight)

    def gates(self, x: torch.Tensor) -> torch.Tensor:
        """How far each slot opens. x: … × d_in; returns … × slots, float32."""
        return gates(x.float(), self.weight[:, : self.d_in + 1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the slots add to the block's output. x: … × d_in; returns … × d_out in x's dtype."""
        if self.silent or self.count == 0:
            return x.new_zeros(*x.shape[:-1], self.d_out)
        return (self.gates(x) @ self.weight[:, self.d_in + 1 :]).to(x.dtype)


def gates(x: torch.Tensor, detectors: torch.Tensor) -> torch.Tensor:
    """gate(x) of every detector. x: … × d_in, detectors: S × (d_in + 1), rows [d, t]; returns … × S."""
    score = x @ detectors[:, :-1].T - detectors[:, -1]
    return (functional.silu(SHARPNESS * score) - functional.silu(SHARPNESS * (score - RAMP))) / (SHARPNESS * RAMP)


def attach_slots(model: nn.Module, blocks: Sequence[str]) -> tuple[str, ...]:
    """Give each named feed-forward block an empty bank; returns the banks' module names, in order.

    Raises UnsupportedModuleError for a block that is not gated (gate_proj, up_proj, down_proj).
    """
    named = dict(model.named_modules())
    names = []
    for block in blocks:
        host: Any = named.get(block)
        if host is None or not all(isinstance(getattr(host, part, None), nn.Linear) for part in GATED_PARTS):
            raise UnsupportedModuleError(f"{block} is not a gated feed-forward block with {', '.join(GATED_PARTS)}")
        if not hasattr(host, "slots"):
            bank = SlotBank(host.gate_proj.in_features, host.down_proj.out_features, host.down_proj.weight.device)
            bank.host_digest = block_digest(host)
            host.add_module("slots", bank)
            bank.hook = host.register_forward_hook(_add_slots)
        names.append(f"{block}.slots")
    return tuple(names)


def detach_slots(model: nn.Module, banks: Iterable[str] | None = None) -> None:
    """Take banks (by module name; None for all) off their blocks again, with the slots that are in them."""
    for name in list(banks_of(model)) if banks is None else banks:
        host: Any = model.get_submodule(name.rpartition(".")[0])
        host.slots.hook.remove()
        del host.slots


def _add_slots(host: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
    bank: SlotBank = host.slots
    if (bank.silent or bank.count == 0) and not bank._forward_hooks:
        return None  # nothing to add, and nobody watches
    added: torch.Tensor = bank(inputs[0])
    return output + added


def block_digest(host: Any) -> str:
    """SHA-256 of the block's own weights: a bank belongs to one model."""
    digest = hashlib.sha256()
    for part in GATED_PARTS:
        weight = getattr(host, part).weight.detach()
        digest.update(weight.float().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def banks_of(model: nn.Module) -> dict[str, SlotBank]:
    return {name: module for name, module in model.named_modules() if isinstance(module, SlotBank)}


@contextmanager
def without_slots(model: nn.Module) -> Iterator[None]:
    """The unedited model, for as long as the block lasts."""
    banks = list(banks_of(model).values())
    before = [bank.silent for bank in banks]
    for bank in banks:
        bank.silent = True
    try:
        yield
    finally:
        for bank, silent in zip(banks, before, strict=True):
            bank.silent = silent
