"""Answers: slots in late blocks, at the positions that say them, where the mark on the subject arrives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from editor_core.background import Background
from editor_core.editor import Editor
from editor_core.slot_batch import SlotBatch
from editor_core.slot_capture import SlotRows, Token, captured
from editor_core.slot_keys import LEAST_ALIKE, detectors, nearest
from editor_core.slot_policy import SlotPolicy

HIGHEST_FOR_UNMARKED = 0.6  # the threshold that shuts an answer's slot to its own question without the mark, where one can
UNEVEN = 1.5  # the highest score of a slot's own inputs, the lowest being 1, with which all of them are its own
OVERRELAXED = 2.0  # times as far as Polyak's rule


class AnswerTeacher:
    """Makes and fits the answer slots of batches."""

    def __init__(self, editor: Editor, policy: SlotPolicy, background: Background) -> None:
        self.editor, self.policy, self.background = editor, policy, background

    def teach(self, batch: SlotBatch, pending: Sequence[int], confidence: float, passes: int) -> Iterator[str]:
        """At most `passes` steps over the pending examples (indices), until each is at least this confident."""
        modules = batch.modules(self.policy.answer_blocks)
        done: set[Token] = set()
        pace = Pace(1 + max(each.edit for each in batch.examples))
        for _ in range(passes):
            passages = [chosen for each in batch.passages if (chosen := each.of(pending)) is not None]
            with batch.draft:
                rows = captured(self.editor.model, modules, batch.examples, passages, quick=True, done=done)
            batch.passes += 1
            yield "capture"
            if not all(module.name in batch.owners for module in modules):
                batch.left_out = self._unlike(batch, rows)
                self._add_slots(batch, rows)
            wanting = rows.confidence < confidence
            wanting[batch.left_out] = False
            if not bool(wanting.any()):
                return
            self._polyak_step(batch, rows, wanting, pace)
            done |= {token for token, probability in rows.sure.items() if probability >= confidence}
            pending = wanting.nonzero()[:, 0].tolist()
            yield "solve"

    def _unlike(self, batch: SlotBatch, rows: SlotRows) -> list[int]:
        """Contexts in which the model reads its question so differently that no slot could serve both: they are not taught."""
        name = batch.modules(self.policy.answer_blocks)[0].name
        x = rows.at(name, torch.tensor([len(each.prompt) - 1 for each in batch.examples]))
        own = x[batch.shares] @ self.background[name].precision
        alike = (x[len(x) - len(batch.shares) :] * own).sum(1) / (x[batch.shares] * own).sum(1)
        return (len(x) - len(batch.shares) + (alike < LEAST_ALIKE).nonzero()[:, 0]).tolist()

    def _add_slots(self, batch: SlotBatch, rows: SlotRows) -> None:
        """One slot for each token of each answer; an answer's slots serve the contexts of its prompt as well."""
        first = torch.tensor([len(each.prompt) - 1 for each in batch.examples])[rows.example]
        says = (rows.position >= first) & ~torch.isin(rows.example, torch.tensor(batch.left_out))
        offset = (rows.position - first)[says]
        shared = torch.tensor([*range(len(batch.examples) - len(batch.shares)), *batch.shares])[rows.example[says]]
        of_slot, slot = torch.unique(torch.stack([shared, offset], 1), dim=0, return_inverse=True)
        floor = torch.where(of_slot[:, 1] == 0, self.policy.lowest_threshold, self.policy.lowest_later_threshold)
        edit_of = torch.tensor([each.edit for each in batch.examples])[of_slot[:, 0]]
        assert batch.unmarked is not None
        places = zip(batch.unmarked.example.tolist(), batch.unmarked.position.tolist(), strict=True)
        row_of = {place: row for row, place in enumerate(places)}
        unmarked = [row_of[index, len(batch.examples[index].prompt) - 1 + offset] for index, offset in of_slot.tolist()]
        in_context = rows.example[says] >= len(batch.examples) - len(batch.shares)
        says_token = torch.tensor([batch.examples[index].answer[offset] for index, offset in of_slot.tolist()])
        confusable = (edit_of == edit_of[:, None]) & (says_token != says_token[:, None])
        for module in batch.modules(self.policy.answer_blocks):
            x, kept = rows.inputs[module.name][says], torch.ones(len(slot), dtype=torch.bool)
            background = self.background[module.name]
            earlier = batch.earlier_keys(module.name, background)
            alike = nearest(x, slot, earlier, background)
            centres = torch.zeros(len(of_slot), x.shape[1]).index_add_(0, slot, x) / torch.bincount(slot)[:, None]
            elsewhere_in_answer = nearest(x, slot, centres, background, ~confusable)
            without_mark = batch.unmarked.inputs[module.name][unmarked][:, None]
            for _ in range(2):
                made = detectors(
                    x[kept],
                    slot[kept],
                    background,
                    floor,
                    self.policy.threshold_margin,
                    torch.cat([without_mark, alike, elsewhere_in_answer], 1),
                    others=earlier,
                    highest_for_lookalikes=HIGHEST_FOR_UNMARKED,
                )
                # a slot whose own inputs are far apart rests on little: it does without the context
                highest = torch.zeros(len(made)).scatter_reduce_(0, slot, (x * made[slot, :-1]).sum(1), "amax")
                if not bool((uneven := (highest > UNEVEN)[slot] & in_context & kept).any()):
                    break
                kept &= ~uneven
            batch.add(module.name, made, edit_of)

    def _polyak_step(self, batch: SlotBatch, rows: SlotRows, wanting: torch.Tensor, pace: Pace) -> None:
        """v -= pace g loss / sum |g|^2 by edit, over the slots of all answer blocks; no step larger than answer_step."""
        edit_of = torch.tensor([each.edit for each in batch.examples])
        loss = torch.zeros(len(pace.factor)).index_add_(0, edit_of[wanting], rows.losses[wanting])
        far = loss * pace.at(loss)
        steepness, slopes = torch.zeros(len(loss)), {}
        for module in batch.modules(self.policy.answer_blocks):
            slope = batch.slope(module.name, rows, None, wanting)
            slopes[module.name] = slope = slope * self.background[module.name].scale
            steepness.index_add_(0, batch.owners[module.name], slope.square().sum(1))
        for name, slope in slopes.items():
            scale = self.background[name].scale
            step = -(far / steepness.clamp_min(1e-12))[batch.owners[name], None] * slope * scale
            longest = self.policy.answer_step * scale
            batch.move(name, step * (longest / step.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1))


class Pace:
    """How many times as far as Polyak's rule each edit steps: twice, and half as far again whenever its loss has risen.

    The rule follows the loss along a straight line; cross-entropy then gains about half of what is missing.
    """

    def __init__(self, edits: int) -> None:
        self.factor = torch.full((edits,), OVERRELAXED)
        self._before = torch.full((edits,), torch.inf)

    def at(self, loss: torch.Tensor) -> torch.Tensor:
        """The factors for steps at these losses, (edits,)."""
        self.factor = torch.where(loss > self._before, self.factor / 2, self.factor)
        self._before = loss
        return self.factor
