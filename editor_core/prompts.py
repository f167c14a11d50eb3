"""Questions as the model reads them: token ids, and which of them can be read together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from editor_core.passages import TOGETHER_TOKENS, Passage, alike, opened
from editor_core.texts import Format, rendered, template_tokens, token_ids


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts in their formats.

    sequences   token ids
    beginnings  how many first tokens of each are the chat template's own
    """

    sequences: list[list[int]]
    beginnings: list[int]

    @classmethod
    def of(cls, tokenizer: Any, prompts: Sequence[tuple[str, Format]]) -> Prompts:
        templates = {format: template_tokens(tokenizer, format) for format in {format for _, format in prompts}}
        sequences = [token_ids(tokenizer, rendered(tokenizer, prompt, format), format) for prompt, format in prompts]
        return cls(sequences, [templates[format] for _, format in prompts])

    @property
    def starts(self) -> list[int]:
        """Of each, the place of its last token."""
        return [len(each) - 1 for each in self.sequences]

    def followed_by(self, guesses: Mapping[int, Sequence[int]]) -> list[list[int]]:
        """The sequences with what is guessed to follow, by index; without its last token, which is said and not read."""
        return [[*each, *guesses.get(index, ())[:-1]] for index, each in enumerate(self.sequences)]

    def read(self, model: Any, together: int = TOGETHER_TOKENS) -> Iterator[Passage]:
        """All of them up to their last token, in groups of about `together` tokens."""
        own = [len(each) - shared for each, shared in zip(self.sequences, self.beginnings, strict=True)]
        for group in alike(list(zip(self.beginnings, own, strict=True)), own, together):
            yield opened(model, self.sequences, self.starts, group, self.beginnings)
