"""Points in long computations at which something short may run in between, on the same thread.

Whoever computes says `breathe()`, or has a model say it before every layer, forwards and backwards; whoever has something to
run says so with `breathing`. Neither knows the other. What runs in between must leave what it interrupts as it was, and say for
itself whether it is differentiated; quick products (`editor_core.precision`) are off meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn

Between = Callable[[], None]
_between: ContextVar[Between | None] = ContextVar("between", default=None)


@contextmanager
def breathing(between: Between) -> Iterator[None]:
    """For as long as the block lasts, `between` is called at every breathing point that this thread comes to.

    It is not called from within itself. An error that it raises ends what it interrupts.
    """
    token = _between.set(between)
    try:
        yield
    finally:
        _between.reset(token)


def breathe() -> None:
    """A breathing point."""
    between = _between.get()
    if between is None:
        return
    token = _between.set(None)
    try:
        with torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext():
            between()
    finally:
        _between.reset(token)


def breathe_before(x: torch.Tensor) -> None:
    """Breathe again on the way back, where what was computed from x has been differentiated.

    Only where autograd works on the thread that asked it to, as it does on a processor.
    """
    if _between.get() is not None and torch.is_grad_enabled() and x.requires_grad:
        x.register_hook(_on_the_way_back)  # type: ignore[no-untyped-call]


def breathe_in(model: nn.Module) -> None:
    """From now on the model breathes before each of its layers and, where it is differentiated, behind each."""
    for module in model.modules():
        if not any(True for _ in module.children()):
            module.register_forward_pre_hook(_before)


def _before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    breathe()
    for each in inputs:
        if isinstance(each, torch.Tensor):
            breathe_before(each)


def _on_the_way_back(gradient: torch.Tensor) -> None:
    breathe()
