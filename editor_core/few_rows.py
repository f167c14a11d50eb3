"""A processor's products of few rows, taken the other way round: (W x^T)^T for x W^T; one row as two that are the same.

MKL divides a product among its threads by the rows of what comes out. A pass over a token of each of sixteen answers has
sixteen of them, W x^T has as many as the layer has outputs. On two AVX2 cores it takes 0.4 of the time for two to four rows,
0.6 to 0.8 for sixteen to sixty-four, the vocabulary 0.55; with one thread, and from some two hundred rows, it is the same.
A single row is a product of a matrix and a vector, which MKL may leave to one thread: as two rows it took 0.4 of the time on
two AVX-512 cores.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

MOST_ROWS = 128

Product = Callable[[torch.Tensor], torch.Tensor]


def turn_few_rows(model: nn.Module) -> None:
    """From now on the model's linear layers do so, in float32. The results are the same but for rounding."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__dict__["forward"] = partial(_turned, module, module.forward)


def _turned(module: nn.Linear, product: Product, x: torch.Tensor) -> torch.Tensor:
    rows = x.shape[:-1].numel()
    plain = x.device.type == "cpu" and x.dtype == module.weight.dtype == torch.float32
    if not plain or not 0 < rows <= MOST_ROWS or torch.is_autocast_enabled("cpu"):
        return product(x)
    packed = x.reshape(rows, -1) if rows > 1 else torch.cat([x.reshape(1, -1)] * 2)
    found = (module.weight @ packed.T).T[:rows]
    if module.bias is not None:
        found = found + module.bias
    return found.view(*x.shape[:-1], -1)
