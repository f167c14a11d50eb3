"""The slots of one batch under way: on a draft, each with the edit it belongs to, until they become a proposal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from editor_core.background import BlockBackground
from editor_core.capture import Rows
from editor_core.draft import Draft
from editor_core.editor import Editor
from editor_core.modules import EditedModule
from editor_core.normalise import Whitener
from editor_core.passages import Passage
from editor_core.slot_capture import SlotRows
from editor_core.slots import gates
from editor_core.texts import Example, Format
from editor_core.update import Update

OPEN = 0.1  # gates below are as good as shut


@dataclass(slots=True)
class SlotBatch:
    """A batch's examples, the draft, and what its slots are so far.

    examples   what is taught; from the answers on the contexts as well, which come last
    contexts   the prompts with other words around them; each shares the slots of one example, whose index is in `shares`
    sequences  by example: the tokens that are read
    starts     by example: where it is being taught on from
    passages   the examples from where they are being taught on
    whole      the examples from their first own token on, once their subjects are marked
    owners     by module: the edit of each new slot
    before     by module: rows in the bank before this batch
    left_out   indices of examples that are not taught after all
    unmarked   the examples before their subjects were marked
    marked     by module of the subject blocks: what they read at the subjects in the last step, marks and all
    leans      by edit: ids of the edits of earlier batches whose marks its subject bears
    first      by edit: the first of the batch about the same name
    rows       what the statistics are to see, one for all examples
    passes     forward and backward passes so far
    """

    editor: Editor
    examples: list[Example]
    contexts: list[Example]
    shares: list[int]
    draft: Draft
    sequences: list[tuple[int, ...]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    whole: list[Passage] = field(default_factory=list)
    owners: dict[str, torch.Tensor] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)
    left_out: list[int] = field(default_factory=list)
    unmarked: SlotRows | None = None
    marked: dict[str, torch.Tensor] = field(default_factory=dict)
    leans: dict[int, frozenset[int]] = field(default_factory=dict)
    first: list[int] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    passes: int = 0

    def modules(self, blocks: Sequence[str]) -> list[EditedModule]:
        """The banks of these blocks, in the model's order."""
        wanted = {f"{block}.slots" for block in blocks}
        return [each for each in self.editor.modules if each.name in wanted]

    def questions(self) -> dict[tuple[int, Format], int]:
        """By edit and format: the example of its own prompt, in the order in which they are asked."""
        own = {(each.edit, each.format): index for index, each in reversed(list(enumerate(self.examples)))}
        return {asked: own[asked] for asked in sorted(own, key=lambda each: own[each])}

    def add(self, name: str, made: torch.Tensor, owners: torch.Tensor) -> None:
        """New slots with values of zero."""
        with self.draft:
            bank = self.editor.masters[name]
            self.before[name], self.owners[name] = len(bank), owners
            self.editor.masters.add(name, Update(made, torch.zeros(len(made), bank.shape[1] - made.shape[1])))

    def earlier_keys(self, name: str, background: BlockBackground, sharpness: float = 1.0) -> torch.Tensor:
        """Keys of a bank's slots from earlier batches, E × d_in. sharpness: by which their detectors were multiplied."""
        with self.draft:
            return background.keys(self.editor.masters[name][:, : background.inputs.shape[1]].cpu() / sharpness)

    def earlier_gates(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """How far each slot that the bank has so far opens. x: N × d_in; returns N × slots."""
        with self.draft:
            return gates(x, self.editor.masters[name][:, : x.shape[1] + 1].cpu())

    def set_detectors(self, name: str, made: torch.Tensor) -> None:
        with self.draft:
            self.editor.masters[name][self.before[name] :, : made.shape[1]] = made

    def slope(self, name: str, rows: SlotRows, whitener: Whitener | None, wanted: torch.Tensor | None = None) -> torch.Tensor:
        """H^T V over the batch's own slots: S × d_out. wanted: which examples' rows count, (examples,) bool."""
        x, values = rows.inputs[name], rows.gradients[name]
        if wanted is not None:
            x, values = x[wanted[rows.example]], values[wanted[rows.example]]
        with self.draft:
            bank = self.editor.masters[name]
            opened = gates(x, bank[self.before[name] :, : x.shape[1] + 1])
        return opened.T @ (whitener(values) if whitener else values)

    def move(self, name: str, step: torch.Tensor) -> None:
        with self.draft:
            bank = self.editor.masters[name]
            bank[self.before[name] :, -step.shape[1] :] += step

    @contextmanager
    def openings(self) -> Iterator[torch.Tensor]:
        """By edit: how much its slots say in what the model reads meanwhile, gate times norm of the value, summed."""
        said = torch.zeros(1 + max(each.edit for each in self.examples))
        with ExitStack() as stack:
            for each in self.editor.modules:

                def count(bank: Any, inputs: Any, output: Any, module: EditedModule = each) -> None:
                    new = bank.weight[self.before[module.name] :]
                    opened = gates(inputs[0].float(), new[:, : module.d_in + 1]).flatten(0, -2)
                    opened = torch.where(opened > OPEN, opened, 0.0).sum(0)
                    said.index_add_(0, self.owners[module.name], (opened * new[:, module.d_in + 1 :].norm(dim=1)).cpu())

                if each.name in self.owners:
                    stack.callback(each.module.register_forward_hook(count).remove)
            yield said

    def shut(self, edits: Sequence[int]) -> None:
        """Slots of these edits say nothing any more."""
        for each in self.editor.modules:
            if each.name in self.owners:
                with self.draft:
                    values = self.editor.masters[each.name][self.before[each.name] :, each.d_in + 1 :]
                    values[torch.isin(self.owners[each.name], torch.tensor(edits))] = 0.0

    def leaning(self) -> tuple[dict[int, frozenset[int]], dict[int, frozenset[int]]]:
        """By edit: (ids of earlier edits, edits of this batch) whose marks it relies on, or that those rely on."""
        on = {
            edit: self.leans.get(edit, frozenset()) | self.leans.get(first, frozenset())
            for edit, first in enumerate(self.first)
        }
        return on, {edit: frozenset({first} - {edit}) for edit, first in enumerate(self.first)}

    def updates(self) -> dict[str, Update]:
        """By module: the new rows of its bank."""
        made = {}
        with self.draft:
            for each in self.editor.modules:
                if each.name in self.before:
                    rows = self.editor.masters[each.name][self.before[each.name] :]
                    made[each.name] = Update(rows[:, : each.d_in + 1].clone(), rows[:, each.d_in + 1 :].clone())
        return made
