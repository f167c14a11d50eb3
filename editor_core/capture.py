"""Forward and backward passes that bring back keys and value gradients, and nothing else.

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
TOGETHER_TOKENS = 640  # examples run together up to this many tokens: products of few rows leave a processor idle


@dataclass(frozen=True, slots=True)
class Rows:
    """What one mini-batch taught, at its N answer positions in row-major order.

    keys       by module: N × d_in float32, inputs of the layer
    gradients  by module: N × d_out float32, loss gradient at its output
    example    (N,) int64, row of the mini-batch each position belongs to
    loss       mean cross-entropy in nats per answer token
    examples   rows of the mini-batch, B
    """

    keys: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]
    example: torch.Tensor
    loss: float
    examples: int


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


class Tap:
    """Forward hook of one edited layer: keeps its input at the positions of a mask (B × A), and its output for autograd."""

    def __init__(self, mask: torch.Tensor) -> None:
        self.mask = mask
        self.keys: torch.Tensor | None = None
        self.output: torch.Tensor | None = None

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        self.keys = inputs[0].detach()[self.mask].float()
        # The first layer reached has nothing to differentiate below it: its output becomes the graph's leaf.
        self.output = output if output.requires_grad else output.detach().requires_grad_()
        return self.output


def answer_logits(model: nn.Module, span: Span, mask: torch.Tensor, stack: ExitStack) -> torch.Tensor:
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


def capture(model: nn.Module, modules: Sequence[EditedModule], minibatches: Sequence[Minibatch]) -> list[Rows]:
    """Keys and value gradients of several mini-batches, one Rows each, in order.

    The gradients are of the mean cross-entropy over a mini-batch's answer tokens.
    Small mini-batches run through the model together, which changes no row: examples do not see each other.

    minibatches: input_ids, attention_mask, labels, each B × T integers; labels are -100 everywhere but at the positions that
    predict an answer token (the label is that token: already shifted).
    Raises EmptyBatchError without answer positions, NonFiniteUpdateError when the loss is not a number.
    """
    on_device = [_to_device(each, modules[0].weight.device) for each in minibatches]
    counts = [int((each["labels"] != IGNORED_LABEL).sum()) for each in on_device]  # answer tokens of each mini-batch
    if not all(counts):
        raise EmptyBatchError("a mini-batch has no answer position: every label is -100")
    everything = _joined(on_device)
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor([len(each["labels"]) for each in on_device]))
    divisor = torch.tensor(counts, dtype=torch.float32)[owner]  # by example
    parts = [_capture_together(model, modules, everything, chosen, divisor) for chosen in _of_like_length(everything)]
    example = torch.cat([part.example for part in parts])
    back = torch.argsort(example, stable=True)  # the order in which the caller gave them
    whole = _Captured(
        keys={each.name: torch.cat([part.keys[each.name] for part in parts])[back] for each in modules},
        gradients={each.name: torch.cat([part.gradients[each.name] for part in parts])[back] for each in modules},
        losses=torch.cat([part.losses for part in parts])[back],
        example=example[back],
    )
    return _by_minibatch(whole, counts, [len(each["labels"]) for each in on_device])


@dataclass(frozen=True, slots=True)
class _Captured:
    """Rows of some examples; `example` counts through all mini-batches, `losses` is per answer token in nats."""

    keys: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]
    losses: torch.Tensor
    example: torch.Tensor


def _joined(minibatches: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """One mini-batch of all rows, padded on the right to one width."""
    width = max(each["labels"].shape[1] for each in minibatches)
    filler = {"input_ids": 0, "attention_mask": 0, "labels": IGNORED_LABEL}
    return {
        name: torch.cat([functional.pad(each[name], (0, width - each[name].shape[1]), value=value) for each in minibatches])
        for name, value in filler.items()
    }


def _of_like_length(everything: Mapping[str, torch.Tensor]) -> Iterator[torch.Tensor]:
    """Examples that run through the model together: alike in the length of their prompts, so that little is padding."""
    starts = (everything["labels"] != IGNORED_LABEL).int().argmax(1).cpu()
    lengths = everything["attention_mask"].shape[1] - everything["attention_mask"].flip(1).argmax(1).cpu()
    order = torch.argsort(starts, descending=True, stable=True).tolist()
    group: list[int] = []
    for index in order:
        width = max(int(lengths[each]) for each in [*group, index])
        if group and width * (len(group) + 1) > TOGETHER_TOKENS:
            yield torch.tensor(group)
            group = []
        group.append(index)
    yield torch.tensor(group)


def _capture_together(
    model: nn.Module,
    modules: Sequence[EditedModule],
    everything: Mapping[str, torch.Tensor],
    chosen: torch.Tensor,
    divisor: torch.Tensor,
) -> _Captured:
    """One forward and backward pass over the chosen examples; each example's loss is divided by its divisor."""
    device = everything["labels"].device
    batch = {name: tensor[chosen.to(device)] for name, tensor in everything.items()}
    used = int(batch["attention_mask"].any(0).nonzero().max()) + 1
    batch = {name: tensor[:, :used] for name, tensor in batch.items()}
    with ExitStack() as stack, torch.enable_grad():
        stack.enter_context(frozen(model))
        span = answer_span(model, batch)
        mask = span.labels != IGNORED_LABEL  # (B, A)
        taps = {each.name: Tap(mask) for each in modules}
        for each in modules:
            stack.callback(each.module.register_forward_hook(taps[each.name]).remove)
        logits = answer_logits(model, span, mask, stack)
        answers = span.labels[mask].to(logits.device)
        losses = functional.cross_entropy(logits, answers, reduction="none")
        if not bool(torch.isfinite(losses).all()):
            raise NonFiniteUpdateError("the loss is not a finite number: the model answers with NaN or infinity")
        example = chosen[mask.nonzero()[:, 0].cpu()]
        outputs = [tap.output for tap in taps.values() if tap.output is not None]
        gradients = torch.autograd.grad((losses / divisor[example].to(losses.device)).sum(), outputs)
    return _Captured(
        keys={name: tap.keys for name, tap in taps.items() if tap.keys is not None},
        gradients={name: grad[mask.to(grad.device)].float() for name, grad in zip(taps, gradients, strict=True)},
        losses=losses.detach().cpu(),
        example=example,
    )


def _by_minibatch(whole: _Captured, counts: Sequence[int], sizes: Sequence[int]) -> list[Rows]:
    """Cut the rows of all mini-batches into one Rows each. counts: answer tokens; sizes: examples."""
    rows, start, first = [], 0, 0
    for count, size in zip(counts, sizes, strict=True):
        mine = slice(start, start + count)
        rows.append(
            Rows(
                keys={name: each[mine] for name, each in whole.keys.items()},
                gradients={name: each[mine] for name, each in whole.gradients.items()},
                example=whole.example[mine] - first,
                loss=whole.losses[mine].mean().item(),
                examples=size,
            )
        )
        start, first = start + count, first + size
    return rows
