"""Updates added to a pass of the model at some of its tokens alone; at all other tokens nothing is computed or written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn

from editor_core.modules import EditedModule
from editor_core.update import Update

Range = tuple[int, int, Mapping[str, Update]]  # tokens of the pass, from and to, and what is in force there
_OVERLAID = "_errata_overlaid"
_ranges: ContextVar[Sequence[Range]] = ContextVar("ranges", default=())


@contextmanager
def over(ranges: Sequence[Range]) -> Iterator[None]:
    """For as long as the block lasts, passes of 1 x T tokens have these updates in force."""
    token = _ranges.set(ranges)
    try:
        yield
    finally:
        _ranges.reset(token)


def overlay(modules: Sequence[EditedModule]) -> None:
    """Have a model's modules add what is in force: output[s:e] += (x[s:e] left^T) right, in the output's dtype.

    Those that do so already, or are copies of such, do it once all the same.
    """
    for each in modules:
        if not each.module.__dict__.get(_OVERLAID):
            each.module.__dict__[_OVERLAID] = True
            each.module.register_forward_hook(_adding(each.name))


def _adding(name: str) -> Any:
    def add(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
        ranges = _ranges.get()
        if not ranges:
            return None
        for start, end, updates in ranges:
            update = updates.get(name)
            if update is not None:
                x = inputs[0][0, start:end].to(update.left.dtype)
                output[0, start:end] += ((x @ update.left.T) @ update.right).to(output.dtype)
        return output

    return add
