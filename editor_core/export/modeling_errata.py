"""A model with memory slots: extra neurons of some feed-forward blocks, each silent but for the one key it was made for.

    s = d x - t
    gate = (silu(k s) - silu(k (s - w))) / (k w)        0 below the threshold t, 1 above t + w
    block(x) = mlp(x) + sum_i gate_i v_i

This file needs torch and transformers alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.models.llama.configuration_llama import LlamaConfig as BaseConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM as BaseModel

SHARPNESS = 30.0  # k
RAMP = 0.15  # w


class Slots(nn.Module):
    """The slots of one block. weight: slots × (d_in + 1 + d_out) float32, a slot's row is [d, t, v]."""

    def __init__(self, slots: int, d_in: int, d_out: int) -> None:
        super().__init__()
        self.d_in = d_in
        self.weight = nn.Parameter(torch.zeros(slots, d_in + 1 + d_out, dtype=torch.float32), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the slots add to the block's output. x: … × d_in; returns … × d_out in x's dtype."""
        detectors, thresholds, values = self.weight[:, : self.d_in], self.weight[:, self.d_in], self.weight[:, self.d_in + 1 :]
        score = x.float() @ detectors.T - thresholds
        gates = (functional.silu(SHARPNESS * score) - functional.silu(SHARPNESS * (score - RAMP))) / (SHARPNESS * RAMP)
        return (gates @ values).to(x.dtype)


def add_slots(block: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    """Forward hook of a block that has slots."""
    added: torch.Tensor = block.slots(inputs[0])
    return output + added


class ErrataConfig(BaseConfig):  # type: ignore[misc]
    """The model's own configuration, and errata_slots: how many slots each block has, by the block's name.

    A model type of its own keeps transformers from loading this folder as the unedited model.
    """

    model_type = "errata_llama"


class ErrataForCausalLM(BaseModel):  # type: ignore[misc]
    """The model's own class with the slots that its configuration names."""

    config_class = ErrataConfig
    _keep_in_fp32_modules_strict = ("slots",)  # detectors do not survive 8 bits of mantissa

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        for name, slots in config.errata_slots.items():
            block: Any = self.get_submodule(name)
            block.slots = Slots(slots, block.gate_proj.in_features, block.down_proj.out_features)
            block.register_forward_hook(add_slots)
