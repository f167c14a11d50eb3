"""Edits given as texts, written into memory slots: subject slots make the question unmistakable, answer slots answer it.

1. Subject slots, in early blocks, open at the token that tells the fact's subject from everything else. A few steps on their
   values, whitened by the lifelong statistics, leave a mark that attention carries to the end of any question about it.
2. Answer slots, in late blocks, open at the positions that say the answer, where that mark makes the input unlike any
   other's; so they open for rephrased questions too. Their values take Polyak steps (the loss over the squared slope) until
   every token of the answer is likely enough.
3. The model is asked, by generation. What does not hold is taught again, a few rounds.

A step is the ridge update of StableEdit in the slots' own key space: with H the gates (N × S), Delta = (H^T H + alpha I)^-1
H^T V. Slots are open or shut and hardly ever two at once, so H^T H is diagonal but for noise and the step is H^T V, scaled.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Container, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from editor_core.background import Background, Progress, collect_background
from editor_core.change import NOBODY, Change
from editor_core.config import Phase
from editor_core.decoys import with_decoys
from editor_core.draft import Draft
from editor_core.editor import Editor
from editor_core.errors import EncodingError, NonFiniteUpdateError, TooMuchDamageError, UpdateTooLargeError
from editor_core.greedy import continued
from editor_core.guard import CanaryDamage
from editor_core.nearness import nearest_edits
from editor_core.passages import rewound
from editor_core.side_effects import side_effects
from editor_core.slot_batch import SlotBatch
from editor_core.slot_policy import SlotPolicy
from editor_core.slot_teaching import SlotTeacher
from editor_core.statistics import Statistics
from editor_core.subject_teaching import SUBJECT_SHARPNESS
from editor_core.text_editor import BEFORE_TOKENS, Answers, BatchProposal, BatchRun, FactEditor, not_holding
from editor_core.texts import Edit, Example, Format, minibatches
from editor_core.update import Proposal, Update

WARMUP_MINIBATCH = 10
SURER = 0.25  # of what is missing to 1, added to the confidence asked for in every further round


class SlotEditor(FactEditor):
    """Proposes slots for edits given as texts. Leaves the model as it is; `editor.apply` makes a proposal real."""

    def __init__(
        self, editor: Editor, tokenizer: Any, policy: SlotPolicy, folder: Path | None = None, decoys: Sequence[Edit] = ()
    ) -> None:
        """folder: where backgrounds are kept. decoys: facts that stand for other edits, for answer slots to be shut at."""
        super().__init__(editor, tokenizer, policy.formats)
        self.policy = policy
        self._folder = folder
        self._decoys = tuple(decoys)
        self._background: Background | None = None
        self._decoyed = False

    def background(self, progress: Progress = lambda share: None) -> Background:
        """Collected at first use, or read from the folder."""
        if self._background is None:
            self._background = collect_background(
                self.editor.model, self.tokenizer, self.editor.modules, self.policy.formats, self._folder, progress
            )
        return self._background

    def _teacher(self) -> SlotTeacher:
        """With the decoys beside the background, once they are there."""
        teacher = SlotTeacher(self.editor, self.tokenizer, self.policy, self.background())
        if self._decoys and not self._decoyed:
            teacher.background = self._background = with_decoys(teacher, self._batch, self._decoys, self._folder)
            self._decoyed = True
        return teacher

    def warm_up(self, edits: Sequence[Edit], batch_size: int, apply: bool = False) -> Iterator[tuple[int, Proposal | None]]:
        """Let the statistics see `edits` and collect the background; the proposal at the end changes no weight.

        Yields (edits seen so far, None) batch by batch, and last (all, the proposal). `apply` teaches nothing: slots of facts
        that nobody asked for would only take room.
        """
        parent, statistics = self.editor.step, self.editor.statistics.copy()
        self.background()
        draft = Draft(self.editor)
        for start in range(0, len(edits), batch_size):
            chosen = edits[start : start + batch_size]
            examples = [
                self._example(edit, format, start + i) for i, edit in enumerate(chosen) for format in self.policy.formats
            ]
            with draft:
                _, batches = minibatches(examples, WARMUP_MINIBATCH, self.tokenizer.pad_token_id)
                statistics = self.editor.observe(self.editor.capture(batches))
                self.editor.statistics.adopt(statistics)
            yield min(start + batch_size, len(edits)), None
        self._teacher()
        yield len(edits), self._proposal("warmup", {}, {}, statistics, parent)

    # --- one batch -----------------------------------------------------------------------------------------------

    def _encode(self, edit: Edit, index: int) -> list[Example]:
        asked = [edit, *(replace(edit, prompt=prompt) for prompt in edit.rephrases)]
        examples = [self._example(each, format, index) for each in asked for format in self.policy.formats]
        if any(len(each.prompt) < 2 for each in examples):
            raise EncodingError("a prompt of one token says nothing that a slot could tell from other prompts; make it longer")
        return examples

    def _asked(
        self, batch: SlotBatch, edits: Sequence[Edit], foreseen: Container[int] | None = None
    ) -> tuple[list[Answers], list[dict[Format, bool]]]:
        """What the draft says to the edits' prompts, and in which formats that holds. foreseen: see `_ask`."""
        with batch.draft:
            said = self._ask(edits, foreseen)
        return said, self._held(edits, said)

    def _refused(self, held: Sequence[dict[Format, bool]]) -> tuple[int, ...]:
        return not_holding(held) if self.policy.requires_holding else ()

    def _batch(self, edits: Sequence[Edit]) -> SlotBatch:
        examples = [example for index, edit in enumerate(edits) for example in self._encode(edit, index)]
        contexts, shares = [], []
        for index, each in enumerate(examples):
            if each.format == "plain" and (index == 0 or examples[index - 1].edit != each.edit):
                for context in self.policy.contexts:
                    around = replace(edits[each.edit], prompt=context.format(edits[each.edit].prompt.strip()))
                    example = self._example(around, each.format, each.edit, sys.maxsize)
                    fits = len(example.prompt) + len(example.answer) <= self.policy.max_tokens
                    if fits and example.answer == each.answer:  # else the tokenizer parts the target from it elsewhere
                        contexts.append(example)
                        shares.append(index)
        return SlotBatch(self.editor, examples, contexts, shares, Draft(self.editor))

    def taken_out(self, edits: Sequence[int]) -> Change:
        """What takes these edits' rows (ids) out of the committed weights.

        A subject's mark stays for as long as an edit that is left leans on it, and goes with the last of them.
        """
        masters, gone = self.editor.masters, set(edits)
        answers = [f"{block}.slots" for block in self.policy.answer_blocks]
        left = {owner for name in answers for owner in masters.owners[name].tolist()} - gone
        needed = left | {on for edit in left for on in masters.leans.get(edit, ())} | {NOBODY}
        kept = {name: left | {NOBODY} if name in answers else needed for name in masters.owners}
        removed = {
            name: torch.tensor([row for row, owner in enumerate(owners.tolist()) if owner not in kept[name]], dtype=torch.int64)
            for name, owners in masters.owners.items()
        }
        return Change(removed={name: rows for name, rows in removed.items() if len(rows)}, taken=tuple(edits))

    def near(self, edits: Collection[int], most: int) -> list[int]:
        """Ids of up to `most` other edits that come nearest to opening the slots of these (ids) in the committed weights."""
        sharpness = {f"{block}.slots": SUBJECT_SHARPNESS for block in self.policy.subject_blocks}
        return nearest_edits(self.editor.masters, self.background(), sharpness, edits, most)

    def _steps(self, edits: Sequence[Edit], run: BatchRun) -> Iterator[str]:
        parent = self.editor.step
        batch = self._batch(edits)
        if run.taken:
            with batch.draft:
                self.editor.masters.change(run.taken)
        teacher = self._teacher()
        yield "capture"
        aside = self._ask_unrelated(edits)
        if self.guard:
            self.guard.begin()
        yield "verify"
        with batch.draft:  # what is taken out first is not to be read as if it were still there
            subjects = teacher.read(batch)
        yield "capture"
        before = self._ask_before(edits) if run.taken else self._said_before(batch)
        yield "verify"
        yield from teacher.teach_subjects(batch, subjects)
        teacher.read_marked(batch)
        yield "capture"
        yield from teacher.teach_answers(batch, range(len(batch.examples)), self.policy.confidence, self.policy.answer_passes)
        after, held = yield from self._rounds(teacher, batch, edits)
        refused = self._refused(held)
        shut: tuple[int, ...] = ()
        damage, damaging = yield from self._within_limits(batch, refused)
        while shut != (refused := tuple(sorted({*refused, *damaging}))):  # what is left must hold without what was refused
            shut = refused
            batch.shut(shut)
            if left := [index for index in range(len(edits)) if index not in shut]:
                said, holding = self._asked(batch, [edits[index] for index in left])
                for index, text, holds_now in zip(left, said, holding, strict=True):
                    after[index], held[index] = text, holds_now
                yield "verify"
            refused = self._refused(held)
        kept = torch.tensor([each.edit not in refused for each in batch.examples[: len(batch.examples) - len(batch.contexts)]])
        statistics = self.editor.observe([rows.only_examples(kept) for rows in batch.rows])
        proposal = self._proposal("edit", batch.updates(), dict(batch.owners), statistics, parent, batch.leaning())
        proposal = proposal.without(refused)
        with batch.draft:
            moved = side_effects(edits, self.policy.formats, aside, self._ask_unrelated(edits))
        run.outcome = BatchProposal(proposal, before, after, held, batch.passes, refused, moved, damage, damaging)

    def _within_limits(
        self, batch: SlotBatch, refused: Sequence[int]
    ) -> Generator[str, None, tuple[CanaryDamage | None, dict[int, str]]]:
        """The damage to the canary set once the edits that do most of it are shut, and those edits, with the guard's words.

        Slots that stay shut there do none, so nobody has to be taught anew to find out whose fault it is.
        """
        batch.shut(refused)
        damaging: dict[int, str] = {}
        while self.guard:
            with batch.draft, batch.openings() as said:
                try:
                    return self.guard.check(), damaging
                except TooMuchDamageError as error:
                    said[[*refused, *damaging]] = 0.0
                    worst = int(said.argmax())
                    if not said[worst] > 0:
                        raise
                    damaging[worst] = str(error)
            batch.shut([worst])
            yield "verify"
        return None, damaging

    def _rounds(
        self, teacher: SlotTeacher, batch: SlotBatch, edits: Sequence[Edit]
    ) -> Generator[str, None, tuple[list[Answers], list[dict[Format, bool]]]]:
        """Teach again what is not said, for as long as rounds are left; at the end all edits are asked thoroughly.

        Returns what they say, and in which formats that holds.
        """
        left, confidence = self.policy.rounds, self.policy.confidence
        questions = batch.questions()
        asked = {index: edit for (edit, format), index in questions.items() if self._answer(edits[edit], format)}
        agreed = teacher.said(batch, list(asked))
        yield "verify"
        lacking = {edit for index, edit in asked.items() if index not in agreed}
        while True:
            taught = bool(lacking and left)
            while lacking and left:
                left, confidence = left - 1, confidence + SURER * (1 - confidence)
                pending = [i for i, each in enumerate(batch.examples) if each.edit in lacking and i not in batch.left_out]
                teacher.teach_whole(batch, pending)
                yield from teacher.teach_answers(batch, pending, confidence, max(self.policy.answer_passes // 2, 1))
                again = [index for index, edit in asked.items() if edit in lacking]
                lacking = {asked[index] for index in set(again) - teacher.said(batch, again)}
                yield "verify"
            if taught:
                agreed = teacher.said(batch, list(asked))
            after, held = self._asked(batch, edits, {place for place, each in enumerate(questions.values()) if each in agreed})
            yield "verify"
            lacking = set(not_holding(held))
            if not left or not lacking:
                return after, held

    def _said_before(self, batch: SlotBatch) -> list[Answers]:
        """What the committed model says to the prompts. Answers may not be in the batch's own spans: those hold the targets."""
        prompts = [each.prompt for each in batch.examples]
        starts = [len(prompt) - 1 for prompt in prompts]
        said = continued(self.editor.model, [rewound(each, prompts, starts) for each in batch.passages], BEFORE_TOKENS)
        return self._by_edit([said[index] for index in batch.questions().values()])

    def _proposal(
        self,
        phase: Phase,
        updates: dict[str, Update],
        owners: dict[str, torch.Tensor],
        statistics: Statistics,
        parent: int,
        leaning: tuple[dict[int, frozenset[int]], dict[int, frozenset[int]]] = ({}, {}),
    ) -> Proposal:
        norms = {name: float(update.right.norm()) for name, update in updates.items()}
        bound = self.editor.config.max_update_norm
        for name, norm in norms.items():
            if not math.isfinite(norm) or not updates[name].is_finite():
                raise NonFiniteUpdateError(f"the update of {name} is NaN or infinite")
            if bound is not None and norm > bound:
                raise UpdateTooLargeError(f"the update of {name} has norm {norm:.3g}, above {bound:.3g}")
        return Proposal(
            updates=updates,
            statistics=statistics,
            phase=phase,
            examples=torch.empty(0, dtype=torch.int64),
            losses=(),
            parent=parent,
            norms=norms,
            examples_by_module=owners,
            leans_on=leaning[0],
            leans_within=leaning[1],
        )
