"""A processor's large products, some rows at a time, with a breathing point before each part, forwards and backwards.

A product over all answers of a batch takes as long as several tokens of somebody's answer. Rows do not depend on one
another, so the result is the same but for rounding; on the processors tried (AVX2, MKL) it is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from editor_core.breathing import breathe, breathe_before

MULTIPLICATIONS = 2**28  # of a part: about 10 ms on two cores
LEAST_ROWS = 64  # fewer would spend their time on reading the weights

Product = Callable[[torch.Tensor], torch.Tensor]


def in_parts(model: nn.Module) -> None:
    """From now on the model's large products are computed in parts, for whoever runs it."""
    for module in model.modules():
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D":
            module.__dict__["forward"] = partial(_by_rows, module, module.forward)


def _by_rows(module: nn.Module, product: Product, x: torch.Tensor) -> torch.Tensor:
    weight, rows = module.weight, x.shape[:-1].numel()
    assert isinstance(weight, torch.Tensor)
    together = max(MULTIPLICATIONS // max(weight.numel(), 1), LEAST_ROWS)
    if x.device.type != "cpu" or rows <= together:
        return product(x)
    if isinstance(module, nn.Linear) and torch.is_autocast_enabled("cpu"):  # which casts once for each product
        cast = weight.to(torch.get_autocast_dtype("cpu"))
        product = partial(functional.linear, weight=cast, bias=module.bias)
    found = []
    for part in torch.split(x.reshape(rows, -1), -(-rows // -(-rows // together))):
        breathe()
        breathe_before(part)
        found.append(product(part))
    return torch.cat(found).view(*x.shape[:-1], -1)
