"""Marks on subjects: slots in early blocks that open at the token that tells a fact's subject from everything else.

A few steps on their values, whitened by the lifelong statistics, leave a mark that attention carries to the end of any question
about the subject.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from editor_core.background import Background
from editor_core.change import NOBODY
from editor_core.editor import Editor
from editor_core.modules import EditedModule
from editor_core.normalise import Whitener
from editor_core.passages import rewound
from editor_core.slot_batch import OPEN, SlotBatch
from editor_core.slot_capture import SlotRows, answer_rows, captured, last_inputs
from editor_core.slot_keys import SHUT, by_owner, detectors, nearest, subject_positions
from editor_core.slot_policy import SlotPolicy
from editor_core.surroundings import NAME_SURROUNDINGS, Name, Surroundings
from editor_core.texts import token_ids

WHITENING_FLOOR = 1e-4  # of the largest eigenvalue of Sigma_v
SUBJECT_SHARPNESS = 2.0  # of detectors at subjects: the width of the ramp between shut and open is divided by it
OTHERS_WEIGHT = 10.0  # of what is read of another edit of the batch, in inputs of the background
MARKED = 0.5  # how far a slot opens at a subject that bears its mark
FAINT_MARK = 0.6  # a prompt's end scores at least so much without the mark where its slot would open for the wording
FURTHER_MARKS = 4  # steps at most for marks that have not arrived
HIGHEST_TO_DECIDE = 0.9  # threshold of a subject slot in the first block


class SubjectTeacher:
    """Makes and fits the subject slots of batches."""

    def __init__(self, editor: Editor, tokenizer: Any, policy: SlotPolicy, background: Background) -> None:
        self.editor, self.tokenizer, self.policy, self.background = editor, tokenizer, policy, background

    def teach(self, batch: SlotBatch, read: SlotRows) -> Iterator[str]:
        """Yields the phase of each step. Afterwards the passages start at the subjects."""
        modules = batch.modules(self.policy.subject_blocks)
        positions = subject_positions(self.tokenizer, batch.examples, read, self.background[modules[0].name], modules[0].name)
        around = self._surroundings(batch, modules[0], positions)
        batch.starts = [max(position, 1) for position in positions]
        deciding, *following = modules
        batch.first = around.first_named()
        marked = around.named_before() | self._marked_before(batch, deciding, read, positions)
        for module in modules:
            if module is deciding:
                made = self._deciding_detectors(batch, module.name, read, positions, around)
            else:
                made = self._following_detectors(batch, module.name, read, positions, around)
            batch.add(module.name, shut_where(marked, made), torch.arange(len(made)))
        batch.passages = [rewound(each, batch.sequences, batch.starts) for each in batch.passages]
        speed = {each.name: torch.zeros(len(batch.owners[each.name]), each.d_out) for each in modules}
        arrival = batch.modules(self.policy.answer_blocks)[0]
        edit_of = torch.tensor([each.edit for each in batch.examples])
        whitener: Whitener | None = None
        pending: Sequence[int] = range(len(batch.examples))
        for number in range(self.policy.subject_passes + FURTHER_MARKS):
            # the first pass watches every bank: the statistics see each fact once, before it is taught
            watched = self.editor.modules if number == 0 else [*modules, arrival]
            passages = [chosen for each in batch.passages if (chosen := each.of(pending)) is not None]
            with batch.draft:
                rows = captured(self.editor.model, watched, batch.examples, passages, quick=True)
            yield "capture"
            if number == 0:
                batch.rows = [answer_rows(rows, batch.examples)]
                batch.unmarked = rows
                estimate = self.editor.observe(batch.rows)[modules[0].shape]
                whitener = Whitener.of(estimate, WHITENING_FLOOR) if estimate.covariance_is_determined else None
            elif number < self.policy.subject_passes:
                for module in following:  # the marks made so far are in the inputs of the blocks after them
                    made = self._following_detectors(batch, module.name, rows, positions, around)
                    batch.set_detectors(module.name, shut_where(marked, made))
            run = torch.zeros(len(around.names), 1).index_fill_(0, edit_of[list(pending)], 1.0)
            for module in modules:
                slope = batch.slope(module.name, rows, whitener)
                step = slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-30)
                size = self.policy.subject_step * self.background[module.name].scale
                speed[module.name] = run * (self.policy.momentum * speed[module.name] - size * step)
                batch.move(module.name, speed[module.name])
            if number + 1 >= self.policy.subject_passes:
                pending = self._unarrived(batch, rows, arrival.name, pending)
            batch.passes += 1
            yield "solve"
            if not pending:
                break

    def _unarrived(self, batch: SlotBatch, rows: SlotRows, name: str, pending: Sequence[int]) -> list[int]:
        """Of the pending examples, those of edits whose mark hardly changes what an answer block reads at the prompt's end."""
        assert batch.unmarked is not None
        ends = torch.tensor([len(each.prompt) - 1 for each in batch.examples])
        now, before = (each.at(name, ends) for each in (rows, batch.unmarked))
        keys = now @ self.background[name].precision
        alike = (keys * before).sum(1) / (keys * now).sum(1)
        faint = {batch.examples[index].edit for index in pending if alike[index] > FAINT_MARK}
        return [index for index in pending if batch.examples[index].edit in faint]

    def _surroundings(self, batch: SlotBatch, first: EditedModule, positions: Sequence[int]) -> Surroundings:
        """What ends each edit's name in other surroundings, and the whole name in some: where no name is found, its last token
        alone, and nothing."""
        names: dict[int, Name] = {}
        for example, position in zip(batch.examples, positions, strict=True):
            if example.edit not in names:
                names[example.edit] = Name.ending_at(self.tokenizer, example.prompt, position)
        edits = [names[edit] for edit in sorted(names)]
        endings = [each for name in edits for each in name.endings_elsewhere(self.tokenizer)]
        ended = torch.tensor([bool(name.ending) for name in edits])[:, None, None]
        whole = [token_ids(self.tokenizer, f"{words} {name.text}", "plain") for name in edits for words in NAME_SURROUNDINGS]
        with batch.draft:
            at_endings = last_inputs(self.editor.model, first, endings).view(len(edits), -1, first.d_in)
            at_names = last_inputs(self.editor.model, first, whole).view(len(edits), len(NAME_SURROUNDINGS), -1)
        return Surroundings(at_endings * ended, at_names, edits)

    def _deciding_detectors(
        self, batch: SlotBatch, name: str, read: SlotRows, positions: Sequence[int], around: Surroundings
    ) -> torch.Tensor:
        """One detector an edit, for what the first subject block reads at the subject: it decides, by the words alone."""
        x, owners = self._at_subjects(batch, name, read, positions)
        earlier = batch.earlier_keys(name, self.background[name], SUBJECT_SHARPNESS)
        edit_of = torch.tensor([each.edit for each in batch.examples])[read.example]
        apart = torch.cat([around.other_names()[:, edit_of], torch.ones(len(around.names), len(earlier), dtype=torch.bool)], 1)
        alike = self._nearest(batch, name, x, owners, earlier)
        return SUBJECT_SHARPNESS * detectors(
            x,
            owners,
            self.background[name].against(read.inputs[name], OTHERS_WEIGHT),
            torch.full((len(around.names),), self.policy.lowest_first_threshold),
            self.policy.threshold_margin,
            torch.cat([around.endings, alike], 1),
            around.names_beside(x, owners),
            torch.cat([read.inputs[name], earlier]),
            apart,
            highest=HIGHEST_TO_DECIDE,
        )

    def _nearest(
        self, batch: SlotBatch, name: str, x: torch.Tensor, owners: torch.Tensor, earlier: torch.Tensor
    ) -> torch.Tensor:
        """Per edit, the keys of earlier edits that are most like what it reads at its subject: edits × NEAREST × d_in.

        Zeros in the place of those that are not like it, and of those whose slots open for it: they are of the same subject.
        """
        opened = (batch.earlier_gates(name, x) > OPEN).float()
        borne = torch.zeros(int(owners.max()) + 1, len(earlier)).index_add_(0, owners, opened) > 0
        return nearest(x, owners, earlier, self.background[name], borne)

    def _marked_before(
        self, batch: SlotBatch, deciding: EditedModule, read: SlotRows, positions: Sequence[int]
    ) -> torch.Tensor:
        """Which edits' subjects bear a mark already, in every example: one is enough, and a second would blur the first."""
        x, owners = self._at_subjects(batch, deciding.name, read, positions)
        opened = batch.earlier_gates(deciding.name, x)
        with batch.draft:
            marked_by = self.editor.masters.owners[deciding.name]
        open_enough = (opened > MARKED).any(1) if opened.shape[1] else torch.zeros(len(x), dtype=torch.bool)
        shut = torch.zeros(int(owners.max()) + 1).index_add_(0, owners, (~open_enough).float())
        for edit in (shut == 0).nonzero()[:, 0].tolist():
            bearing = (opened[owners == edit] > MARKED).any(0)
            batch.leans[edit] = frozenset(marked_by[bearing].tolist()) - {NOBODY}
        return shut == 0

    def _following_detectors(
        self, batch: SlotBatch, name: str, rows: SlotRows, positions: Sequence[int], around: Surroundings
    ) -> torch.Tensor:
        """The same for a block after it, which is to open for that mark, and so neither without it nor for another edit's.

        Before there are marks, for what the block reads at the subject.
        """
        x, owners = self._at_subjects(batch, name, rows, positions)
        earlier = batch.earlier_keys(name, self.background[name], SUBJECT_SHARPNESS)
        background, lookalikes = self.background[name], self._nearest(batch, name, x, owners, earlier)
        others, apart = earlier, torch.ones(len(around.names), len(earlier), dtype=torch.bool)
        if batch.unmarked is not None:
            unmarked, _ = by_owner(*self._at_subjects(batch, name, batch.unmarked, positions), len(around.names))
            lookalikes = torch.cat([unmarked, lookalikes], 1)
            others, apart = torch.cat([x, earlier]), torch.cat([around.other_names()[:, owners], apart], 1)
            background = background.against(others, OTHERS_WEIGHT)  # marks have much in common
            batch.marked[name] = x
        return SUBJECT_SHARPNESS * detectors(
            x,
            owners,
            background,
            torch.full((len(around.names),), self.policy.lowest_subject_threshold),
            self.policy.threshold_margin,
            lookalikes,
            others=others,
            apart=apart,
        )

    def _at_subjects(
        self, batch: SlotBatch, name: str, rows: SlotRows, positions: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What a block reads at the subject of every example: N × d_in, and its edit, (N,)."""
        at_subject = rows.position == torch.tensor(positions)[rows.example]
        owners = torch.tensor([each.edit for each in batch.examples])[rows.example[at_subject]]
        return rows.inputs[name][at_subject], owners


def shut_where(marked: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """The same detectors, those of the marked edits (edits,) opened by nothing."""
    made[marked, -1] = SHUT * SUBJECT_SHARPNESS
    return made
