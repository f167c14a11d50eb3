"""What the caller's own unrelated prompts are answered before and after a batch, edit by edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from editor_core.answers import greedy_answers
from editor_core.texts import Edit, Format

UNCHANGED_TOKENS = 12  # an answer is unchanged when its first so many greedy tokens are


@dataclass(frozen=True, slots=True)
class SideEffect:
    """One unrelated prompt in one format: the first UNCHANGED_TOKENS greedy tokens of its answer, as text."""

    prompt: str
    format: Format
    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


def unrelated_answers(model: nn.Module, tokenizer: Any, edits: Sequence[Edit], formats: Sequence[Format]) -> list[str]:
    """What the model says now to every unrelated prompt of every edit in every format, in that order."""
    asked = [(prompt, format) for edit in edits for prompt in edit.unrelated for format in formats]
    return greedy_answers(model, tokenizer, asked, UNCHANGED_TOKENS) if asked else []


def side_effects(
    edits: Sequence[Edit], formats: Sequence[Format], before: Sequence[str], after: Sequence[str]
) -> list[tuple[SideEffect, ...]]:
    """By edit, from two calls of `unrelated_answers`."""
    pairs = iter(zip(before, after, strict=True))
    return [
        tuple(SideEffect(prompt, format, *next(pairs)) for prompt in edit.unrelated for format in formats) for edit in edits
    ]
