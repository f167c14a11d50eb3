"""One forward and backward pass that brings back keys and value gradients, and nothing else.

No weight gradient is formed, nothing below the lowest edited layer is differentiated, nothing before the first answer
position is (see `span`), and the vocabulary product is computed at answer positions only. The model leaves as it came:
hooks gone, flags and mode restored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from editor_core.errors import EmptyBatchError, NonFiniteUpdateError
from editor_core.modules import EditedModule
from editor_core.span import IGNORED_LABEL, Span, answer_span

Minibatch = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Rows:
    """What one mini-batch taught, at its N answer positions in row-major order.

    keys       by module: N × d_in float32, inputs of the layer
    gradients  by module: N × d_out float32, loss gradient at its output
    example    (N,) int64, row of the mini-batch each position belongs to
    correct    (N,) bool, whether the model's most likely token already is the label
    loss       mean cross-entropy in nats per answer token
    examples   rows of the mini-batch, B
    """

    keys: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]
    example: torch.Tensor
    correct: torch.Tensor
    loss: float
    examples: int

    def only_examples(self, wanted: torch.Tensor) -> Rows:
        """The rows of some examples alone, renumbered. wanted: (B,) bool."""
        rows = wanted[self.example]
        number = torch.cumsum(wanted, 0) - 1
        return Rows(
            {name: each[rows.to(each.device)] for name, each in self.keys.items()},
            {name: each[rows.to(each.device)] for name, each in self.gradients.items()},
            number[self.example[rows]],
            self.correct[rows],
            self.loss,
            int(wanted.sum()),
        )


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no parameter wanting a gradient, both put back afterwards."""
    modes = {module: module.training for module in model.modules()}
    wanting = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in wanting:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)
        for module, training in modes.items():
            module.training = training


class _Tap:
    """Forward hook of one edited layer: keeps its input at the answer positions, and its output as autograd sees it."""

    def __init__(self, mask: torch.Tensor) -> None:
        self.mask = mask
        self.keys: torch.Tensor | None = None
        self.output: torch.Tensor | None = None

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        self.keys = inputs[0].detach()[self.mask].float()
        # The first layer reached has nothing to differentiate below it: its output becomes the graph's leaf.
        self.output = output if output.requires_grad else output.detach().requires_grad_()
        return self.output


def _answer_logits(model: nn.Module, span: Span, mask: torch.Tensor, stack: ExitStack) -> torch.Tensor:
    """Logits at the answer positions, N × vocabulary, in float32. mask: where they are in the span, B × A."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if isinstance(head, nn.Module):

        def gather(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return inputs[0][mask], *inputs[1:]

        stack.callback(head.register_forward_pre_hook(gather).remove)
    logits = model(**span.inputs).logits
    if logits.dim() == 3:  # no separate head, or one that does more than project
        logits = logits[mask]
    return torch.as_tensor(logits).float()


def _to_device(minibatch: Minibatch, device: torch.device) -> dict[str, torch.Tensor]:
    missing = {"input_ids", "attention_mask", "labels"} - set(minibatch)
    if missing:
        raise EmptyBatchError(f"a mini-batch lacks {', '.join(sorted(missing))}")
    return {name: minibatch[name].to(device=device, dtype=torch.long) for name in ("input_ids", "attention_mask", "labels")}


def capture(model: nn.Module, modules: Sequence[EditedModule], minibatch: Minibatch, loss_tokens: float | None = None) -> Rows:
    """Keys and value gradients of one mini-batch.

    The gradients are of the summed cross-entropy divided by `loss_tokens`; None divides by the answer tokens there are.

    minibatch: input_ids, attention_mask, labels, each B × T integers; labels are -100 everywhere but at the positions that
    predict an answer token (the label is that token: already shifted).
    Raises EmptyBatchError without answer positions, NonFiniteUpdateError when the loss is not a number.
    """
    on_device = _to_device(minibatch, modules[0].weight.device)
    if not bool((on_device["labels"] != IGNORED_LABEL).any()):
        raise EmptyBatchError("a mini-batch has no answer position: every label is -100")
    with ExitStack() as stack, torch.enable_grad():
        stack.enter_context(frozen(model))
        span = answer_span(model, on_device)
        labels = span.labels
        mask = labels != IGNORED_LABEL  # (B, A)
        taps = {each.name: _Tap(mask) for each in modules}
        for each in modules:
            stack.callback(each.module.register_forward_hook(taps[each.name]).remove)
        logits = _answer_logits(model, span, mask, stack)
        answers = labels[mask].to(logits.device)
        loss = functional.cross_entropy(logits, answers)
        if not bool(torch.isfinite(loss)):
            raise NonFiniteUpdateError("the loss is not a finite number: the model answers with NaN or infinity")
        outputs = [tap.output for tap in taps.values()]
        weight = 1.0 if loss_tokens is None else len(answers) / loss_tokens
        gradients = torch.autograd.grad(loss * weight, [output for output in outputs if output is not None])
    return Rows(
        keys={name: tap.keys for name, tap in taps.items() if tap.keys is not None},
        gradients={name: grad[mask.to(grad.device)].float() for name, grad in zip(taps, gradients, strict=True)},
        example=mask.nonzero()[:, 0].cpu(),
        correct=(logits.detach().argmax(-1) == answers).cpu(),
        loss=loss.item(),
        examples=len(labels),
    )
