"""The layer above the editor that takes texts: one batch of edits becomes one proposal, as the method was published.

One pass over the batch, in plain format. It is tried on draft weights, so that the facts can be asked for before it is applied.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from editor_core.answers import ANSWER_TOKENS, greedy_tokens, holds, may_hold
from editor_core.capture import Minibatch, Rows
from editor_core.change import Change
from editor_core.draft import Draft
from editor_core.editor import Editor
from editor_core.errors import EmptyBatchError
from editor_core.side_effects import SideEffect, side_effects, unrelated_answers
from editor_core.texts import Edit, Example, Format, encode, minibatches, rendered, token_ids
from editor_core.update import Proposal, Update

Answers = dict[Format, str]
PLAIN: Format = "plain"
FORMATS: tuple[Format, ...] = (PLAIN,)
BEFORE_TOKENS = 8  # of what the model said before an edit


@dataclass(frozen=True, slots=True)
class EditPolicy:
    """How texts are turned into steps.

    minibatch_size  edits per forward and backward pass
    max_tokens      longest prompt + target accepted, in tokens
    """

    minibatch_size: int = 10
    max_tokens: int = 1024


@dataclass(frozen=True, slots=True)
class BatchProposal:
    """A batch's proposal with what the model says before and after, by edit. `proposal.examples` tags rows by edit.

    side_effects  by edit, of its own unrelated prompts
    """

    proposal: Proposal
    before: list[Answers]
    after: list[Answers]
    holds: list[dict[Format, bool]]
    side_effects: list[tuple[SideEffect, ...]]


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


class TextEditor:
    """Edits given as texts become one proposal a batch. Leaves the model as it is; `editor.apply` makes a proposal real."""

    def __init__(self, editor: Editor, tokenizer: Any, policy: EditPolicy | None = None) -> None:
        self.editor = editor
        self.tokenizer = tokenizer
        self.policy = policy or EditPolicy()

    def check(self, edit: Edit) -> None:
        """Raises EncodingError when this edit could not be turned into an example."""
        self._example(edit, 0)

    def tokens(self, edit: Edit) -> int:
        """How many answer tokens the statistics see of an edit. Raises EncodingError."""
        return len(self._example(edit, 0).answer)

    def propose(self, edits: Sequence[Edit]) -> BatchProposal:
        """A batch's proposal, all in one go. Raises EncodingError and everything `Editor.propose` raises."""
        return self.run(edits).finish()

    def run(self, edits: Sequence[Edit], taken: Change | None = None) -> BatchRun:
        """The same in steps, between which the committed model can serve.

        taken: what is done to the weights first, above all others taken out; the proposal is for what is then there.
        """
        if not edits:
            raise EmptyBatchError("a batch needs at least one edit")
        run = BatchRun(steps=iter(()), taken=taken)
        run.steps = self._steps(edits, run)
        return run

    def warm_up(self, edits: Sequence[Edit], batch_size: int) -> Iterator[tuple[int, Proposal | None]]:
        """Edit these before the first edit, with v normalised per dimension, as the papers do.

        Yields (edits seen so far, None) batch by batch, and last (all, the proposal of the whole warm-up).
        """
        draft, parent = Draft(self.editor), self.editor.step
        parts: list[Proposal] = []
        for start in range(0, len(edits), batch_size):
            ordered, batches = self._minibatches(edits[start : start + batch_size], start)
            with draft:
                rows = self.editor.capture(batches)
                part = self.editor.solve(rows, self.editor.observe(rows), "warmup")
                self.editor.apply(part)
            parts.append(_by_edit(part, ordered))
            yield min(start + batch_size, len(edits)), None
        yield len(edits), _sum(parts, parent)

    def _steps(self, edits: Sequence[Edit], run: BatchRun) -> Iterator[str]:
        draft = Draft(self.editor)
        ordered, batches = self._minibatches(edits)
        before = self._ask_before(edits)  # the committed model's own answers
        if run.taken:
            with draft:
                self.editor.masters.change(run.taken)
        aside = unrelated_answers(self.editor.model, self.tokenizer, edits, FORMATS)
        yield "verify"
        rows: list[Rows] = []
        for minibatch in batches:
            with draft:
                rows += self.editor.capture([minibatch])
            yield "capture"
        with draft:
            proposal = self.editor.solve(rows, self.editor.observe(rows), "edit")
            self.editor.apply(proposal)
        yield "solve"
        with draft:
            after = self._ask(edits)
        yield "verify"
        with draft:
            now = unrelated_answers(self.editor.model, self.tokenizer, edits, FORMATS)
        held = [{PLAIN: holds(said[PLAIN], edit.target, PLAIN)} for edit, said in zip(edits, after, strict=True)]
        moved = side_effects(edits, FORMATS, aside, now)
        run.outcome = BatchProposal(_by_edit(proposal, ordered), before, after, held, moved)

    def _example(self, edit: Edit, index: int) -> Example:
        return encode(self.tokenizer, edit, PLAIN, index, self.policy.max_tokens)

    def _minibatches(self, edits: Sequence[Edit], first: int = 0) -> tuple[list[Example], list[Minibatch]]:
        """Examples longest first, which know their edits as counted from `first` on, and the mini-batches made of them."""
        examples = [self._example(edit, index) for index, edit in enumerate(edits, first)]
        ordered, batches = minibatches(examples, self.policy.minibatch_size, self.tokenizer.pad_token_id)
        return ordered, list(batches)

    def _ask_before(self, edits: Sequence[Edit]) -> list[Answers]:
        """The first BEFORE_TOKENS of what the model says before the batch."""
        prompts = [(edit.prompt, PLAIN) for edit in edits]
        return self._texts(greedy_tokens(self.editor.model, self.tokenizer, prompts, BEFORE_TOKENS))

    def _ask(self, edits: Sequence[Edit]) -> list[Answers]:
        """What the model says to every edit's prompt, up to where it has said the target, ANSWER_TOKENS at most.

        An answer that has begun with something else is read for BEFORE_TOKENS.
        """

        def enough(index: int, said: list[int]) -> bool:
            text = self.tokenizer.decode(said, skip_special_tokens=True)
            lost = len(said) >= BEFORE_TOKENS and not may_hold(text, edits[index].target, PLAIN)
            return lost or holds(text, edits[index].target, PLAIN)

        prompts = [(edit.prompt, PLAIN) for edit in edits]
        guesses = {index: answer for index, edit in enumerate(edits) if (answer := self._answer(edit))}
        return self._texts(greedy_tokens(self.editor.model, self.tokenizer, prompts, ANSWER_TOKENS, enough, guesses))

    def _answer(self, edit: Edit) -> tuple[int, ...]:
        """The target as the prompt's continuation; () where a tokenizer would merge it with the prompt's end, or it is long."""
        example = encode(self.tokenizer, edit, PLAIN, 0, sys.maxsize)
        prompt = token_ids(self.tokenizer, rendered(self.tokenizer, edit.prompt, PLAIN), PLAIN)
        return example.answer if list(example.prompt) == prompt and len(example.answer) <= ANSWER_TOKENS else ()

    def _texts(self, said: Sequence[list[int]]) -> list[Answers]:
        return [{PLAIN: text.strip()} for text in self.tokenizer.batch_decode(said, skip_special_tokens=True)]


def _by_edit(part: Proposal, ordered: Sequence[Example]) -> Proposal:
    """The same with its rows tagged by edit in place of by example."""
    return replace(part, examples=torch.tensor([ordered[each].edit for each in part.examples.tolist()]))


def _sum(parts: Sequence[Proposal], parent: int) -> Proposal:
    """What several proposals, each computed after the one before it, come to."""
    updates = {name: Update.concatenate([each.updates[name] for each in parts]) for name in parts[0].updates}
    return replace(
        parts[-1],
        updates=updates,
        examples=torch.cat([each.examples for each in parts]),
        losses=tuple(loss for each in parts for loss in each.losses),
        parent=parent,
        norms={name: update.norm() for name, update in updates.items()},
    )
