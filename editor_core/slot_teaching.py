"""Teaching: marks on subjects first, then answers where the marks arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from editor_core.answer_teaching import AnswerTeacher
from editor_core.background import Background
from editor_core.editor import Editor
from editor_core.greedy import foreseen
from editor_core.passages import advanced, alike, from_block, joined, opened
from editor_core.slot_batch import SlotBatch
from editor_core.slot_capture import READ_TOKENS, SlotRows, prompts_read, sequence_of
from editor_core.slot_policy import SlotPolicy
from editor_core.subject_teaching import SubjectTeacher
from editor_core.texts import Example, template_tokens


class SlotTeacher:
    """Makes and fits the slots of batches. Each method that takes steps yields the phase of each of them."""

    def __init__(self, editor: Editor, tokenizer: Any, policy: SlotPolicy, background: Background) -> None:
        self.editor, self.tokenizer, self.policy, self.background = editor, tokenizer, policy, background

    def read(self, batch: SlotBatch) -> SlotRows:
        """Every prompt is read once; what follows branches off the model's cache of it."""
        batch.sequences = [sequence_of(each) for each in batch.examples]
        batch.passages, read = prompts_read(
            self.editor.model,
            batch.modules(self.policy.subject_blocks),
            batch.examples,
            range(len(batch.examples)),
            self._beginnings(batch.examples),
        )
        return read

    def _beginnings(self, examples: Sequence[Example]) -> list[int]:
        """How many first tokens of each are the chat template's own."""
        known = {format: template_tokens(self.tokenizer, format) for format in self.policy.formats}
        return [known[each.format] for each in examples]

    def teach_subjects(self, batch: SlotBatch, read: SlotRows) -> Iterator[str]:
        yield from SubjectTeacher(self.editor, self.tokenizer, self.policy, self.background).teach(batch, read)

    def read_marked(self, batch: SlotBatch) -> None:
        """Everything once more, marks and all, and the contexts with it, which are examples from here on.

        Only answer blocks change afterwards, so what is taught and what is asked of it need run no block before them.
        """
        batch.examples = batch.examples + batch.contexts
        batch.sequences = [sequence_of(each) for each in batch.examples]
        batch.starts = [len(each.prompt) - 1 for each in batch.examples]
        beginnings = self._beginnings(batch.examples)
        own = [max(each, 1) for each in beginnings]
        lengths = [len(each) - begun for each, begun in zip(batch.sequences, own, strict=True)]
        first = batch.modules(self.policy.answer_blocks)[0].name
        with batch.draft:
            groups = alike(list(zip(beginnings, lengths, strict=True)), lengths, READ_TOKENS)
            batch.whole = [opened(self.editor.model, batch.sequences, own, group, beginnings) for group in groups]
            said = [advanced(self.editor.model, each, batch.sequences, batch.starts, first) for each in batch.whole]
        batch.passages = joined(said)

    def teach_whole(self, batch: SlotBatch, pending: Sequence[int]) -> None:
        """Teach the pending examples over their whole prompts from here on: what is being taught may open in them as well."""
        batch.passages = joined([chosen for each in batch.whole if (chosen := each.of(pending)) is not None])

    def said(self, batch: SlotBatch, asked: Sequence[int]) -> set[int]:
        """Of the examples asked for, those that are answered just as they were taught, from `read_marked` on."""
        answers = {index: each.answer for index, each in enumerate(batch.examples)}
        first = batch.modules(self.policy.answer_blocks)[0].name
        agreed: set[int] = set()
        with batch.draft:
            for passage in joined([chosen for each in batch.whole if (chosen := each.of(asked)) is not None]):
                with from_block(self.editor.model, first, passage):
                    agreed |= foreseen(self.editor.model, [passage], answers)
        return agreed

    def teach_answers(self, batch: SlotBatch, pending: Sequence[int], confidence: float, passes: int) -> Iterator[str]:
        """At most `passes` steps over the pending examples (indices), until each is at least this confident."""
        yield from AnswerTeacher(self.editor, self.policy, self.background).teach(batch, pending, confidence, passes)
