"""Slots as plain neurons, where a model's feed-forward blocks have biases to offer: nothing but transformers is needed then.

A slot adds (silu(k s) - silu(k (s - w))) / (k w) v with s = d x - t (see `editor_core.slots`). Those are two neurons more:

    gate row  k d    bias  -k t           up row  0    bias  1    down column  +v / (k w)
    gate row  k d    bias  -k (t + w)     up row  0    bias  1    down column  -v / (k w)

A configuration has one intermediate size for all blocks, so all become as wide as the widest; what is left over is zeros.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from editor_core.slot_defaults import gated_blocks
from editor_core.slots import GATED_PARTS, RAMP, SHARPNESS, banks_of, detach_slots

NEURONS = 2  # of one slot
MULTIPLE = 64  # widths that matrix products and quantisers like


def folded_width(model: Any) -> int:
    """The intermediate size that all blocks need."""
    most = max((bank.count for bank in banks_of(model).values()), default=0)
    wanted = int(model.config.intermediate_size) + NEURONS * most
    return -(-wanted // MULTIPLE) * MULTIPLE if most else wanted


def why_not_foldable(model: Any) -> str:
    """What stands in the way of folding this model's slots, in words; "" when nothing does."""
    config = model.config
    if not hasattr(config, "mlp_bias") or not isinstance(getattr(config, "intermediate_size", None), int):
        return f"a {config.model_type} model's feed-forward blocks have no biases (mlp_bias)"
    if getattr(config, "hidden_act", None) not in ("silu", "swish"):
        return f"its activation is {getattr(config, 'hidden_act', 'unknown')}, and a slot is made of SiLU"
    if _shapes(_skeleton(model)) != _folded_shapes(model):
        return f"a {config.model_type} model's configuration does not describe the widened blocks"
    return ""


@torch.no_grad()
def fold_slots(model: Any) -> None:
    """Turn the slots of all banks into neurons of their blocks and drop the banks. `why_not_foldable` must have been "".

    The blocks' own dtype is kept: what is gained in float32 may be lost below it.
    """
    width, rows = folded_width(model), {name.rpartition(".")[0]: bank.weight for name, bank in banks_of(model).items()}
    for name in gated_blocks(model):
        block: Any = model.get_submodule(name)
        no_slots = torch.zeros(0, block.gate_proj.in_features + 1 + block.down_proj.out_features)
        _widen(block, rows.get(name, no_slots), width)
    detach_slots(model)
    model.config.intermediate_size = width
    model.config.mlp_bias = True


def _widen(block: Any, slots: torch.Tensor, width: int) -> None:
    """Give a gated block `width` neurons: its own, two a slot (rows [d, t, v]), and silent ones."""
    d_in = block.gate_proj.in_features
    detectors, thresholds, values = slots[:, :d_in], slots[:, d_in], slots[:, d_in + 1 :]
    gate = torch.cat([SHARPNESS * detectors] * NEURONS)
    gate_bias = torch.cat([-SHARPNESS * thresholds, -SHARPNESS * (thresholds + RAMP)])
    columns = torch.cat([values, -values]) / (SHARPNESS * RAMP)
    _replace(block.gate_proj, _grown(block.gate_proj.weight, gate, width), _grown(_bias(block.gate_proj), gate_bias, width))
    up, up_bias = torch.zeros_like(gate), torch.ones_like(gate_bias)
    _replace(block.up_proj, _grown(block.up_proj.weight, up, width), _grown(_bias(block.up_proj), up_bias, width))
    _replace(block.down_proj, _grown(block.down_proj.weight.T, columns, width).T, _bias(block.down_proj))


def _grown(own: torch.Tensor, rows: torch.Tensor, length: int) -> torch.Tensor:
    """`own` with rows below it, and zeros below those."""
    silent = own.new_zeros(length - len(own) - len(rows), *own.shape[1:])
    return torch.cat([own, rows.to(own), silent])


def _bias(linear: nn.Linear) -> torch.Tensor:
    return linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias


def _replace(linear: nn.Linear, weight: torch.Tensor, bias: torch.Tensor) -> None:
    linear.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    linear.bias = nn.Parameter(bias.contiguous(), requires_grad=False)
    linear.out_features, linear.in_features = weight.shape


def _skeleton(model: Any) -> nn.Module:
    """What transformers makes of the widened configuration, without memory for its weights."""
    config = copy.deepcopy(model.config)
    config.intermediate_size, config.mlp_bias = folded_width(model), True
    with torch.device("meta"):
        skeleton: nn.Module = type(model)(config)
    return skeleton


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _folded_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Of all parameters as `fold_slots` will leave them."""
    width, banks = folded_width(model), banks_of(model)
    shapes = {name: shape for name, shape in _shapes(model).items() if name.rpartition(".")[0] not in banks}
    for name in gated_blocks(model):
        block: Any = model.get_submodule(name)
        d_in, d_out = block.gate_proj.in_features, block.down_proj.out_features
        for part, shape in zip(GATED_PARTS, ((width, d_in), (width, d_in), (d_out, width)), strict=True):
            shapes[f"{name}.{part}.weight"], shapes[f"{name}.{part}.bias"] = shape, shape[:1]
    return shapes
