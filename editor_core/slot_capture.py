"""What slots learn from: block inputs and value gradients from some position of each example on, with its likelihood."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from editor_core.capture import TOGETHER_TOKENS, Tap, answer_logits, frozen
from editor_core.errors import NonFiniteUpdateError
from editor_core.modules import EditedModule
from editor_core.span import IGNORED_LABEL, cut
from editor_core.texts import Example


@dataclass(frozen=True, slots=True)
class SlotRows:
    """N positions of some examples.

    inputs       by module: N × d_in float32
    gradients    by module: N × d_out float32, of the summed cross-entropy of its example's answer
    example      (N,) int64, index into the examples
    position     (N,) int64, index into the example's tokens
    losses       by example: nats, summed over the answer
    confidence   by example: probability of its least likely answer token; 0 when another token is more likely
    """

    inputs: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]
    example: torch.Tensor
    position: torch.Tensor
    losses: torch.Tensor
    confidence: torch.Tensor


def capture_from(
    model: nn.Module, modules: Sequence[EditedModule], examples: Sequence[Example], starts: Sequence[int], pad_id: int
) -> SlotRows:
    """Forward and backward over every example, from its start (at least 1) on.

    Raises NonFiniteUpdateError when the loss is not a number.
    """
    losses, confidence = torch.zeros(len(examples)), torch.zeros(len(examples))
    inputs: dict[str, list[torch.Tensor]] = {each.name: [] for each in modules}
    gradients: dict[str, list[torch.Tensor]] = {each.name: [] for each in modules}
    owners, positions = [], []
    device = modules[0].weight.device
    for group in _together(examples, starts):
        start = torch.tensor([starts[index] for index in group])
        batch, lengths = _collated([examples[index] for index in group], pad_id)
        with ExitStack() as stack, torch.enable_grad():
            stack.enter_context(frozen(model))
            span = cut(
                getattr(model, "base_model", model),
                {name: tensor.to(device) for name, tensor in batch.items()},
                start.to(device),
                lengths.to(device),
            )
            width = span.labels.shape[1]
            read = torch.arange(width) < (lengths - start)[:, None]  # (B, A)
            taps = _taps(stack, modules, read.to(device))
            answers = span.labels != IGNORED_LABEL
            logits = answer_logits(model, span, answers, stack)
            wanted = span.labels[answers].to(logits.device)
            loss = functional.cross_entropy(logits, wanted, reduction="none")
            if not bool(torch.isfinite(loss).all()):
                raise NonFiniteUpdateError("the loss is not a finite number: the model answers with NaN or infinity")
            slopes = torch.autograd.grad(loss.sum(), [_output(tap) for tap in taps.values()])
        for (name, tap), slope in zip(taps.items(), slopes, strict=True):
            inputs[name].append(_keys(tap))
            gradients[name].append(slope[read.to(slope.device)].float())
        row = torch.tensor(group)
        owners.append(row[:, None].expand(-1, width)[read])
        positions.append((start[:, None] + torch.arange(width))[read])
        certain = torch.where(logits.detach().argmax(-1) == wanted, (-loss.detach()).exp(), 0.0).cpu()
        mine = answers.nonzero()[:, 0].cpu()
        losses[row] = torch.zeros(len(group)).index_add_(0, mine, loss.detach().cpu())
        confidence[row] = torch.ones(len(group)).scatter_reduce_(0, mine, certain, "amin")
    return SlotRows(
        {name: torch.cat(parts) for name, parts in inputs.items()},
        {name: torch.cat(parts) for name, parts in gradients.items()},
        torch.cat(owners),
        torch.cat(positions),
        losses,
        confidence,
    )


@torch.no_grad()
def read_prompts(model: Any, modules: Sequence[EditedModule], examples: Sequence[Example], pad_id: int) -> SlotRows:
    """Block inputs at every position of the prompts; nothing is differentiated, the gradients are empty."""
    inputs: dict[str, list[torch.Tensor]] = {each.name: [] for each in modules}
    owners, positions = [], []
    device = modules[0].weight.device
    for group in _together(examples, [0] * len(examples)):
        prompts = [Example(examples[index].prompt, (0,), examples[index].edit, examples[index].format) for index in group]
        batch, lengths = _collated(prompts, pad_id)
        read = torch.arange(batch["input_ids"].shape[1]) < lengths[:, None]
        with ExitStack() as stack:
            taps = _taps(stack, modules, read.to(device))
            model.base_model(
                input_ids=batch["input_ids"].to(device), attention_mask=batch["attention_mask"].to(device), use_cache=False
            )
        for name, tap in taps.items():
            inputs[name].append(_keys(tap))
        owners.append(torch.tensor(group)[:, None].expand(-1, read.shape[1])[read])
        positions.append(torch.arange(read.shape[1]).expand(len(group), -1)[read])
    nothing = torch.zeros(len(examples))
    return SlotRows(
        {name: torch.cat(parts) for name, parts in inputs.items()},
        {},
        torch.cat(owners),
        torch.cat(positions),
        nothing,
        nothing,
    )


def _taps(stack: ExitStack, modules: Sequence[EditedModule], read: torch.Tensor) -> dict[str, Tap]:
    taps = {each.name: Tap(read) for each in modules}
    for each in modules:
        stack.callback(each.module.register_forward_hook(taps[each.name]).remove)
    return taps


def _keys(tap: Tap) -> torch.Tensor:
    assert tap.keys is not None
    return tap.keys


def _output(tap: Tap) -> torch.Tensor:
    assert tap.output is not None
    return tap.output


def _together(examples: Sequence[Example], starts: Sequence[int]) -> Iterator[list[int]]:
    """Examples of like length, TOGETHER_TOKENS of padded text at most or one example."""
    order = sorted(range(len(examples)), key=lambda index: (len(examples[index]) - starts[index], len(examples[index])))
    group: list[int] = []
    for index in order:
        width = max(len(examples[each]) for each in [*group, index])
        if group and width * (len(group) + 1) > TOGETHER_TOKENS:
            yield group
            group = []
        group.append(index)
    yield group


def _collated(examples: Sequence[Example], pad_id: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A right-padded mini-batch and its lengths."""
    lengths = torch.tensor([len(each) for each in examples])
    width = int(lengths.max())
    ids = torch.full((len(examples), width), pad_id)
    labels = torch.full((len(examples), width), IGNORED_LABEL)
    for row, each in enumerate(examples):
        ids[row, : len(each)] = torch.tensor(each.prompt + each.answer[:-1])
        labels[row, len(each.prompt) - 1 : len(each)] = torch.tensor(each.answer)
    attention = (torch.arange(width) < lengths[:, None]).long()
    return {"input_ids": ids, "attention_mask": attention, "labels": labels}, lengths
