"""The layer above the editor that takes texts: one batch of edits becomes one proposal, in as many passes as it needs.

A single closed-form step seldom makes a fact hold, so the edits that do not yet hold go round again on draft weights;
the sum of all passes is one low-rank update, proposed and applied as one. Every edit is observed by the statistics
once, in its first pass, so their n is the sum of the answer tokens of all edits, whatever the number of passes.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from editor_core.answers import ANSWER_TOKENS, greedy_tokens, holds, may_hold
from editor_core.capture import Rows
from editor_core.change import Change
from editor_core.config import Phase
from editor_core.draft import Draft
from editor_core.editor import Editor
from editor_core.errors import EmptyBatchError
from editor_core.guard import CanaryDamage, Guard
from editor_core.side_effects import SideEffect, side_effects, unrelated_answers
from editor_core.statistics import Statistics
from editor_core.texts import JUST_THE_TARGET, Edit, Example, Format, encode, minibatches, rendered, token_ids
from editor_core.update import Proposal, Update

Answers = dict[Format, str]
BEFORE_TOKENS = 8  # of what the model said before an edit
ASKED_TOGETHER = 8  # edits, when they are asked while the model serves


@dataclass(frozen=True, slots=True)
class EditPolicy:
    """How texts are turned into steps.

    formats          in which formats a fact is edited and checked
    passes           at most this many passes over one batch; 1 with formats ("plain",) is the published recipe
    minibatch_size   edits × formats per forward and backward pass
    max_tokens       longest prompt + target accepted, in tokens
    requires_holding leave edits that do not hold out of the proposal
    chat_wording     what a chat answer says, "{}" being the target
    """

    formats: tuple[Format, ...] = ("plain", "chat")
    passes: int = 10
    minibatch_size: int = 10
    max_tokens: int = 1024
    requires_holding: bool = False
    chat_wording: str = JUST_THE_TARGET


@dataclass(frozen=True, slots=True)
class BatchProposal:
    """A batch's proposal with what the model says before and after, by edit. `proposal.examples` tags rows by edit.

    refused   edits that are not in the proposal: they do not hold, or do too much damage
    damaging  those of them that do too much damage, with how much
    """

    proposal: Proposal
    before: list[Answers]
    after: list[Answers]
    holds: list[dict[Format, bool]]
    passes: int
    refused: tuple[int, ...] = ()
    side_effects: list[tuple[SideEffect, ...]] = field(default_factory=list)  # by edit, of its own unrelated prompts
    damage: CanaryDamage | None = None
    damaging: Mapping[int, str] = field(default_factory=dict)

    def share(self, edit: int) -> dict[str, Update]:
        """What one edit brought into every update: its own rows, exactly."""
        return self.proposal.share([edit])


@dataclass(slots=True)
class BatchRun:
    """One batch on its way to a proposal. Drive it with `next`; the model is as committed whenever it yields.

    Each step yields the name of the phase it belongs to ("verify", "capture" or "solve"); when the iterator is
    exhausted, `outcome` is there.
    """

    steps: Iterator[str]
    taken: Change | None = None  # what is done to the draft before anything is taught
    outcome: BatchProposal | None = None

    def finish(self) -> BatchProposal:
        for _ in self.steps:
            pass
        assert self.outcome is not None
        return self.outcome


@dataclass(slots=True)
class _Parts:
    """What the passes have brought together so far."""

    proposals: list[Proposal] = field(default_factory=list)
    edits: list[torch.Tensor] = field(default_factory=list)  # per proposal, (N,): the edit each row comes from
    statistics: Statistics | None = None
    captures: int = 0

    def sum(self, phase: Phase, parent: int, apply: bool = True) -> Proposal:
        assert self.statistics is not None
        names = list(self.proposals[0].updates) if self.proposals and apply else []
        updates = {name: Update.concatenate([each.updates[name] for each in self.proposals]) for name in names}
        return Proposal(
            updates=updates,
            statistics=self.statistics,
            phase=phase,
            examples=torch.cat(self.edits) if names else torch.empty(0, dtype=torch.int64),
            losses=tuple(loss for each in self.proposals for loss in each.losses),
            parent=parent,
            norms={name: update.norm() for name, update in updates.items()},
        )


class FactEditor(ABC):
    """Edits given as texts become one proposal a batch. Leaves the model as it is; `editor.apply` makes a proposal real."""

    policy: Any  # the subclass's own

    def __init__(self, editor: Editor, tokenizer: Any, formats: tuple[Format, ...]) -> None:
        self.editor = editor
        self.tokenizer = tokenizer
        self.formats = formats
        self.guard: Guard | None = None

    def check(self, edit: Edit) -> None:
        """Raises EncodingError when this edit could not be turned into examples."""
        self._encode(edit, 0)

    def _example(self, edit: Edit, format: Format, index: int, max_tokens: int | None = None) -> Example:
        """One example as the policy words it. Raises EncodingError."""
        limit = self.policy.max_tokens if max_tokens is None else max_tokens
        return encode(self.tokenizer, edit, format, index, limit, self.policy.chat_wording)

    def propose(self, edits: Sequence[Edit]) -> BatchProposal:
        """A batch's proposal, all in one go. Raises EncodingError and everything `Editor.propose` raises."""
        return self.run(edits).finish()

    def tokens(self, edit: Edit) -> int:
        """How many answer tokens the statistics see of an edit. Raises EncodingError."""
        return sum(len(example.answer) for example in self._encode(edit, 0))

    def run(self, edits: Sequence[Edit], taken: Change | None = None) -> BatchRun:
        """The same in steps, between which the committed model can serve.

        taken: what is done to the weights first, above all others taken out; the proposal is for what is then there.
        """
        if not edits:
            raise EmptyBatchError("a batch needs at least one edit")
        run = BatchRun(steps=iter(()), taken=taken)
        run.steps = self._steps(edits, run)
        return run

    def holding(self, edits: Sequence[Edit]) -> Iterator[list[dict[Format, bool]]]:
        """Whether the model, as it is, says each edit's target, by format: a few edits a step, in order."""
        for start in range(0, len(edits), ASKED_TOGETHER):
            some = edits[start : start + ASKED_TOGETHER]
            yield self._held(some, self._ask(some))

    def _held(self, edits: Sequence[Edit], said: Sequence[Answers]) -> list[dict[Format, bool]]:
        return [
            {format: holds(each[format], edit.target, format) for format in self.formats}
            for edit, each in zip(edits, said, strict=True)
        ]

    @abstractmethod
    def warm_up(self, edits: Sequence[Edit], batch_size: int, apply: bool) -> Iterator[tuple[int, Proposal | None]]:
        """Let the statistics see edits; yields (edits seen, None) batch by batch, and last (all, the proposal)."""

    @abstractmethod
    def _encode(self, edit: Edit, index: int) -> list[Example]:
        """One edit's examples; raises EncodingError."""

    @abstractmethod
    def _steps(self, edits: Sequence[Edit], run: BatchRun) -> Iterator[str]:
        """The batch's steps, by phase; sets run.outcome at the end."""

    def _ask_unrelated(self, edits: Sequence[Edit]) -> list[str]:
        return unrelated_answers(self.editor.model, self.tokenizer, edits, self.formats)

    def _ask(self, edits: Sequence[Edit], foreseen: Container[int] | None = None) -> list[Answers]:
        """What the model says to every edit's prompt, up to where it has said the target, ANSWER_TOKENS at most.

        An answer that has begun with something else, where it was to begin with the target, is read for BEFORE_TOKENS.
        foreseen: of all edits' formats, in order, those that are known to be answered with just the target, where that can be
        known beforehand; None when nobody has looked.
        """
        asked = [(edit, format) for edit in edits for format in self.formats]

        def enough(index: int, said: list[int]) -> bool:
            edit, format = asked[index]
            text = self.tokenizer.decode(said, skip_special_tokens=True)
            lost = len(said) >= BEFORE_TOKENS and not may_hold(text, edit.target, format)
            return lost or holds(text, edit.target, format)

        prompts = [(edit.prompt, format) for edit, format in asked]
        guesses = {index: answer for index, each in enumerate(asked) if (answer := self._answer(*each))}
        agreed = None if foreseen is None else {index for index in guesses if index in foreseen}
        return self._by_edit(greedy_tokens(self.editor.model, self.tokenizer, prompts, ANSWER_TOKENS, enough, guesses, agreed))

    def _answer(self, edit: Edit, format: Format) -> tuple[int, ...]:
        """The target as the prompt's continuation; () where a tokenizer would merge it with the prompt's end, or it is long."""
        example = self._example(edit, format, 0, sys.maxsize)
        prompt = token_ids(self.tokenizer, rendered(self.tokenizer, edit.prompt, format), format)
        return example.answer if list(example.prompt) == prompt and len(example.answer) <= ANSWER_TOKENS else ()

    def _ask_before(self, edits: Sequence[Edit]) -> list[Answers]:
        """The first BEFORE_TOKENS of what the model says before the batch."""
        prompts = [(edit.prompt, format) for edit in edits for format in self.formats]
        return self._by_edit(greedy_tokens(self.editor.model, self.tokenizer, prompts, BEFORE_TOKENS))

    def _by_edit(self, said: Sequence[list[int]]) -> list[Answers]:
        texts = [text.strip() for text in self.tokenizer.batch_decode(said, skip_special_tokens=True)]
        size = len(self.formats)
        return [dict(zip(self.formats, texts[start : start + size], strict=True)) for start in range(0, len(texts), size)]


class TextEditor(FactEditor):
    """Proposes updates for edits given as texts. Leaves the model as it is; `editor.apply` makes a proposal real."""

    def __init__(self, editor: Editor, tokenizer: Any, policy: EditPolicy | None = None) -> None:
        self.policy = policy or EditPolicy()
        super().__init__(editor, tokenizer, self.policy.formats)

    def warm_up(self, edits: Sequence[Edit], batch_size: int, apply: bool) -> Iterator[tuple[int, Proposal | None]]:
        """Let the statistics see `edits` before the first edit; with `apply`, edit them too, as the papers do.

        Yields (edits seen so far, None) batch by batch, and last (all, the proposal of the whole warm-up).
        """
        draft, parts, parent = Draft(self.editor), _Parts(), self.editor.step
        for start in range(0, len(edits), batch_size):
            examples = [
                example for i, edit in enumerate(edits[start : start + batch_size]) for example in self._encode(edit, start + i)
            ]
            with draft:
                ordered, batches = minibatches(examples, self.policy.minibatch_size, self.tokenizer.pad_token_id)
                rows = self.editor.capture(batches)
                parts.statistics = self.editor.observe(rows)
                if apply:
                    part = self.editor.solve(rows, parts.statistics, "warmup")
                    self.editor.apply(part)
                    parts.proposals.append(part)
                    parts.edits.append(torch.tensor([ordered[i].edit for i in part.examples.tolist()]))
                else:
                    self.editor.statistics.adopt(parts.statistics)
            yield min(start + batch_size, len(edits)), None
        yield len(edits), parts.sum("warmup", parent, apply)

    def _encode(self, edit: Edit, index: int) -> list[Example]:
        return [self._example(edit, format, index) for format in self.policy.formats]

    def _steps(self, edits: Sequence[Edit], run: BatchRun) -> Iterator[str]:
        draft, parts, parent = Draft(self.editor), _Parts(), self.editor.step
        examples = [example for index, edit in enumerate(edits) for example in self._encode(edit, index)]
        before = self._ask_before(edits)  # the committed model's own answers
        if run.taken:
            with draft:
                self.editor.masters.change(run.taken)
        if self.guard:
            self.guard.begin()
        aside = self._ask_unrelated(edits)
        yield "verify"
        pending = examples
        while True:
            yield from self._passes(pending, draft, parts)
            with draft:
                after = self._ask(edits)
            held = self._held(edits, after)
            yield "verify"
            pending = [each for each in examples if not held[each.edit][each.format]]
            if not pending or parts.captures >= self.policy.passes:
                break
        refused = not_holding(held) if self.policy.requires_holding else ()
        proposal = parts.sum("edit", parent).without(refused)
        with draft:
            moved = side_effects(edits, self.policy.formats, aside, self._ask_unrelated(edits))
            damage = self.guard.check() if self.guard else None
        run.outcome = BatchProposal(proposal, before, after, held, len(parts.proposals), refused, moved, damage)

    def _passes(self, pending: Sequence[Example], draft: Draft, parts: _Parts) -> Iterator[str]:
        """Passes over the examples that the model does not yet answer token by token, until none is left.

        After a verification the first pass leaves nobody out: generation, the stricter judge, found all of these wanting.
        """
        forced = bool(parts.proposals)
        while pending and parts.captures < self.policy.passes:
            ordered, batches = minibatches(pending, self.policy.minibatch_size, self.tokenizer.pad_token_id)
            rows = []
            for minibatch in batches:
                with draft:
                    rows += self.editor.capture([minibatch])
                yield "capture"
            parts.captures += 1
            if parts.statistics is None:
                parts.statistics = self.editor.observe(rows)  # once per edit, before anything is left out
            if not forced:
                ordered, rows = _not_yet_held(ordered, rows)
            forced = False
            if not rows:
                return
            with draft:
                part = self.editor.solve(rows, parts.statistics, "edit")
                self.editor.apply(part)
            parts.proposals.append(part)
            parts.edits.append(torch.tensor([ordered[i].edit for i in part.examples.tolist()]))
            pending = ordered
            yield "solve"


def not_holding(held: Sequence[dict[Format, bool]]) -> tuple[int, ...]:
    """Indices of the edits that do not hold in every format."""
    return tuple(index for index, each in enumerate(held) if not all(each.values()))


def _not_yet_held(ordered: Sequence[Example], rows: Sequence[Rows]) -> tuple[list[Example], list[Rows]]:
    """The examples with an answer token the model does not yet prefer, and their rows alone."""
    left: list[Example] = []
    kept: list[Rows] = []
    start = 0
    for each in rows:
        wrong = torch.zeros(each.examples, dtype=torch.bool)
        wrong[each.example[~each.correct]] = True
        mine = ordered[start : start + each.examples]
        left += [example for example, is_wrong in zip(mine, wrong.tolist(), strict=True) if is_wrong]
        start += each.examples
        if bool(wrong.any()):
            kept.append(each.only_examples(wrong))
    return left, kept
