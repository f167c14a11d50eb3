"""Teaching: marks on subjects first, then answers where the marks arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from editor_core.answer_teaching import AnswerTeacher
from editor_core.background import Background
from editor_core.editor import Editor
from editor_core.passages import advanced, alike, joined, opened
from editor_core.precision import quick_products
from editor_core.slot_batch import SlotBatch
from editor_core.slot_capture import SlotRows, prompts_read, sequence_of
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

    def read_again(self, batch: SlotBatch, pending: Sequence[int]) -> None:
        """Teach the pending examples over their whole prompts from here on: what is being taught may open in them as well."""
        beginnings = self._beginnings(batch.examples)
        batch.starts = [max(each, 1) for each in beginnings]
        lengths = [len(batch.sequences[index]) for index in pending]
        order = [(beginnings[index], length) for index, length in zip(pending, lengths, strict=True)]
        with batch.draft, quick_products(batch.passages[0].ids.device):
            groups = [[pending[member] for member in group] for group in alike(order, lengths)]
            read = [opened(self.editor.model, batch.sequences, batch.starts, group, beginnings) for group in groups]
        batch.passages = joined(read)

    def teach_subjects(self, batch: SlotBatch, read: SlotRows) -> Iterator[str]:
        yield from SubjectTeacher(self.editor, self.tokenizer, self.policy, self.background).teach(batch, read)
        batch.starts = [len(each.prompt) - 1 for each in batch.examples]  # only what is said changes from here on
        with batch.draft, quick_products(batch.passages[0].ids.device):
            batch.passages = [advanced(self.editor.model, each, batch.sequences, batch.starts) for each in batch.passages]

    def add_contexts(self, batch: SlotBatch) -> None:
        """From here on the contexts are examples as well."""
        first = len(batch.examples)
        batch.examples = batch.examples + batch.contexts
        batch.starts = [len(each.prompt) - 1 for each in batch.examples]
        batch.sequences = [sequence_of(each) for each in batch.examples]
        lengths = [len(each) for each in batch.contexts]
        for group in alike([(0, length) for length in lengths], lengths):
            chosen = [first + index for index in group]
            with batch.draft, quick_products(batch.passages[0].ids.device):
                batch.passages.append(
                    opened(self.editor.model, batch.sequences, batch.starts, chosen, [0] * len(batch.examples))
                )
        batch.passages = joined(batch.passages)

    def teach_answers(self, batch: SlotBatch, pending: Sequence[int], confidence: float, passes: int) -> Iterator[str]:
        """At most `passes` steps over the pending examples (indices), until each is at least this confident."""
        yield from AnswerTeacher(self.editor, self.policy, self.background).teach(batch, pending, confidence, passes)
