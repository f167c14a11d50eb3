"""What slots learn from: block inputs and value gradients from some position of each example on, with its likelihood."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from editor_core.attention import grouped_attention
from editor_core.capture import Rows, Tap, answer_logits, frozen
from editor_core.errors import NonFiniteUpdateError
from editor_core.loss import answer_loss
from editor_core.modules import EditedModule
from editor_core.padding import by_length
from editor_core.passages import Passage, alike, from_block, joined, opened, rewound
from editor_core.precision import quick_products
from editor_core.span import IGNORED_LABEL, Span
from editor_core.texts import Example

SEQUENCES_TOGETHER = 128
READ_TOKENS = 500  # prompts are read in groups of like lengths, for padding's sake, and then put together
Token = tuple[int, int]  # an example, and which token of its answer


@dataclass(frozen=True, slots=True)
class SlotRows:
    """N positions of some of the examples.

    inputs       by module: N × d_in float32
    gradients    by module: N × d_out float32, of the summed cross-entropy of its example's answer
    example      (N,) int64, index into the examples
    position     (N,) int64, index into the example's tokens
    losses       by example: nats, summed over the answer; 0 for examples that were not run
    confidence   by example: probability of its least likely answer token; 0 when another token is more likely, 1 when not run
    sure         by answer token that was asked for, (example, which token of its answer): its probability, 0 likewise
    """

    inputs: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]
    example: torch.Tensor
    position: torch.Tensor
    losses: torch.Tensor
    confidence: torch.Tensor
    sure: Mapping[Token, float] = field(default_factory=dict)

    def at(self, name: str, positions: torch.Tensor) -> torch.Tensor:
        """What a module reads at one position of each example, (examples × d_in); zeros for examples that were not run."""
        there = self.position == positions[self.example]
        found = torch.zeros(len(positions), self.inputs[name].shape[1])
        found[self.example[there]] = self.inputs[name][there]
        return found


def answer_rows(rows: SlotRows, examples: Sequence[Example]) -> Rows:
    """The positions that say the answers alone, as the statistics know them."""
    first = torch.tensor([len(each.prompt) - 1 for each in examples])
    answer = rows.position >= first[rows.example]
    return Rows(
        {name: each[answer] for name, each in rows.inputs.items()},
        {name: each[answer] for name, each in rows.gradients.items()},
        rows.example[answer],
        torch.zeros(int(answer.sum()), dtype=torch.bool),
        float(rows.losses.sum() / answer.sum()),
        len(examples),
    )


def sequence_of(example: Example) -> tuple[int, ...]:
    """The tokens that are read: the last token of the answer is only predicted."""
    return example.prompt + example.answer[:-1]


def prompts_read(
    model: Any,
    modules: Sequence[EditedModule],
    examples: Sequence[Example],
    chosen: Sequence[int],
    beginnings: Sequence[int],
) -> tuple[list[Passage], SlotRows]:
    """Passages over the chosen examples that start at their last prompt token, and the block inputs met on the way there.

    beginnings: by example, how many first tokens are the chat template's own; they are read once, and are not in the rows,
    which hold no gradients.
    """
    sequences = [sequence_of(each) for each in examples]
    ends = [len(each.prompt) for each in examples]
    own = [len(examples[index]) - beginnings[index] for index in chosen]
    groups = alike(list(zip((beginnings[index] for index in chosen), own, strict=True)), own, READ_TOKENS)
    passages: dict[int, list[Passage]] = defaultdict(list)
    inputs: dict[str, list[torch.Tensor]] = {each.name: [] for each in modules}
    owners, positions = [], []
    for members in groups:
        group = [chosen[member] for member in members]
        with _watched(modules) as seen:
            passage = opened(model, sequences, ends, group, beginnings)
        width = seen[modules[0].name].shape[1]
        position = passage.known[:, -width:]
        read = position >= 0
        for name, x in seen.items():
            inputs[name].append(x[read].float())
        owners.append(torch.tensor(group)[:, None].expand(-1, width)[read.cpu()])
        positions.append(position[read].cpu())
        passages[beginnings[group[0]]].append(rewound(passage, sequences, [end - 1 for end in ends]))
    nothing = torch.zeros(len(examples))
    together = [part for alike_begun in passages.values() for part in joined(alike_begun)]
    return together, SlotRows(
        {name: torch.cat(parts) for name, parts in inputs.items()},
        {},
        torch.cat(owners),
        torch.cat(positions),
        nothing,
        nothing + 1,
    )


class _Enough(Exception):
    """All that was wanted of a forward pass is there."""


@torch.no_grad()
def last_inputs(model: Any, module: EditedModule, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """What a module reads at the last token of every sequence: S × d_in float32, on the CPU. No block after it runs.

    In bfloat16 where the processor is faster at it.
    """
    found = torch.empty(len(sequences), module.d_in)
    for indices in by_length([len(each) for each in sequences], SEQUENCES_TOGETHER):
        with quick_products(model.device):
            found[indices] = _last_inputs(model, module, [sequences[index] for index in indices])
    return found


def _last_inputs(model: Any, module: EditedModule, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(each) for each in sequences], batch_first=True)
    last = torch.tensor([len(each) - 1 for each in sequences])
    found: list[torch.Tensor] = []

    def keep(hooked: nn.Module, inputs: Any, output: Any) -> None:
        found.append(inputs[0][torch.arange(len(last)), last.to(inputs[0].device)].float().cpu())
        raise _Enough

    handle = module.module.register_forward_hook(keep)
    try:
        with suppress(_Enough):
            model.base_model(input_ids=ids.to(model.device), use_cache=False)
    finally:
        handle.remove()
    return found[0]


@contextmanager
def _watched(modules: Sequence[EditedModule]) -> Iterator[dict[str, torch.Tensor]]:
    """What each module reads last, by name."""
    seen: dict[str, torch.Tensor] = {}
    with ExitStack() as stack:
        for each in modules:

            def keep(module: nn.Module, inputs: Any, output: Any, name: str = each.name) -> None:
                seen[name] = inputs[0].detach()

            stack.callback(each.module.register_forward_hook(keep).remove)
        yield seen


def captured(
    model: nn.Module,
    modules: Sequence[EditedModule],
    examples: Sequence[Example],
    passages: Sequence[Passage],
    quick: bool = False,
    done: Container[Token] = (),
) -> SlotRows:
    """Forward and backward over every passage. Layers below the first module run once a passage: see `from_block`.

    quick: in bfloat16 where the processor is faster at it. done: answer tokens that are not asked for; losses and
    confidence are without them.

    Raises NonFiniteUpdateError when the loss is not a number.
    """
    losses, confidence = torch.zeros(len(examples)), torch.ones(len(examples))
    inputs: dict[str, list[torch.Tensor]] = {each.name: [] for each in modules}
    gradients: dict[str, list[torch.Tensor]] = {each.name: [] for each in modules}
    owners, positions = [], []
    sure: dict[Token, float] = {}
    for passage in passages:
        labels, offsets = _labels(examples, passage, done)
        if not bool((offsets >= 0).any()):
            continue
        taps, slopes, loss, certain = _differentiated(model, modules, passage, labels, quick)
        for (name, tap), slope in zip(taps.items(), slopes, strict=True):
            assert tap.keys is not None
            inputs[name].append(tap.keys)
            gradients[name].append(slope[passage.read.to(slope.device)].float())
        row, read = torch.tensor(passage.chosen), passage.read.cpu()
        owners.append(row[:, None].expand(-1, read.shape[1])[read])
        positions.append(passage.positions.cpu()[read])
        mine = (offsets >= 0).nonzero()[:, 0]
        losses[row] = torch.zeros(len(row)).index_add_(0, mine, loss)
        confidence[row] = torch.ones(len(row)).scatter_reduce_(0, mine, certain, "amin")
        sure |= zip(zip(row[mine].tolist(), offsets[offsets >= 0].tolist(), strict=True), certain.tolist(), strict=True)
    return SlotRows(
        {name: torch.cat(parts) for name, parts in inputs.items()},
        {name: torch.cat(parts) for name, parts in gradients.items()},
        torch.cat(owners),
        torch.cat(positions),
        losses,
        confidence,
        sure,
    )


def _differentiated(
    model: nn.Module, modules: Sequence[EditedModule], passage: Passage, labels: torch.Tensor, quick: bool
) -> tuple[dict[str, Tap], tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor]:
    """One passage: by module its tap and the slope of its output (B × A × d_out), and of every label its loss in nats and its
    probability as `answer_loss` has it, on the CPU."""
    with ExitStack() as stack, torch.enable_grad():
        stack.enter_context(frozen(model))
        stack.enter_context(grouped_attention(model))
        if quick:
            stack.enter_context(quick_products(passage.ids.device))
        stack.enter_context(from_block(model, modules[0].name, passage))
        taps = {each.name: Tap(passage.read) for each in modules}
        for each in modules:
            stack.callback(each.module.register_forward_hook(taps[each.name]).remove)
        answers = labels != IGNORED_LABEL
        logits = answer_logits(model, Span(passage.inputs(), labels), answers, stack)
        loss, certain = answer_loss(logits, labels[answers].to(logits.device))
        if not bool(torch.isfinite(loss).all()):
            raise NonFiniteUpdateError("the loss is not a finite number: the model answers with NaN or infinity")
        slopes = torch.autograd.grad(loss.sum(), [tap.output for tap in taps.values() if tap.output is not None])
    return taps, slopes, loss.detach().cpu(), certain.cpu()


def _labels(examples: Sequence[Example], passage: Passage, done: Container[Token]) -> tuple[torch.Tensor, torch.Tensor]:
    """B × A: the answer token that each position is to predict, and which token of the answer that is; -1 for none."""
    labels, offsets = torch.full(passage.ids.shape, IGNORED_LABEL), torch.full(passage.ids.shape, -1)
    for row, (index, start) in enumerate(zip(passage.chosen, passage.positions[:, 0].tolist(), strict=True)):
        example = examples[index]
        first = len(example.prompt) - 1 - start
        for offset, token in enumerate(example.answer):
            if (index, offset) not in done:
                labels[row, first + offset], offsets[row, first + offset] = token, offset
    return labels.to(passage.ids.device), offsets
