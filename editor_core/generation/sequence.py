"""One sequence under way: what it wants, what has been said, and what its asker has not heard yet."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

import torch

from editor_core.generation.sampling import Sampling, Scored
from editor_core.generation.text import GrowingText
from editor_core.scoped.following import Following

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class News:
    """What is new of a sequence, and how it stands: it may go on while somebody is told.

    tokens     the new text's, with where each begins in the whole text
    said       how many tokens there are by now
    versions   of the weights that had a part in it so far, in order
    """

    text: str
    tokens: tuple[tuple[int, Scored], ...]
    finish_reason: FinishReason | None
    said: int
    versions: tuple[int, ...]


class Sequence:
    """Belongs to one batcher from `add` until it has ended.

    ids        the prompt's tokens
    tokens     these and what was said
    read       how many tokens the cache holds
    scores     of the prompt's tokens but the first, if asked for
    versions   of the weights that had a part in it, in order
    following  which edit is in force where, of a model with scoped edits
    failure    why it could not be begun, or cannot go on
    """

    def __init__(self, id: str, ids: list[int], sampling: Sampling, tokenizer: Any) -> None:
        self.id, self.ids, self.sampling = id, ids, sampling
        self.tokens = list(ids)
        self.generator: torch.Generator | None = sampling.generator()
        self.read = 0
        self.row = -1
        self.begun_at = 0  # version of the weights when it was begun
        self.said: list[Scored] = []
        self.scores: list[Scored] = []
        self.versions: list[int] = []
        self.finish_reason: FinishReason | None = None
        self.following: Following | None = None
        self.failure: Exception | None = None
        self._text = GrowingText(tokenizer, sampling.stop)
        self._told_text = self._told_tokens = 0
        self._ended_by_token = False

    @property
    def longest(self) -> int:
        """Tokens it may come to hold in the cache."""
        return len(self.ids) + self.sampling.max_tokens

    @property
    def text(self) -> str:
        """All that was said so far."""
        return self._text.text

    def beginning(self, ids: Collection[int]) -> int:
        """How many of these tokens it has read at its own beginning."""
        pairs = zip(self.tokens[: self.read], ids, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def is_read_alike(self, other: Sequence, length: int) -> bool:
        """Whether the same edits are in force at the first tokens of both."""
        return self._in_force(length) == other._in_force(length)

    def _in_force(self, length: int) -> list[tuple[int, int, str]]:
        spans = self.following.spans if self.following else ()
        return [(each.start, min(each.end, length), each.record) for each in spans if each.start < length]

    def under(self, version: int) -> None:
        """Weights of this version are about to be used."""
        if not self.versions or self.versions[-1] != version:
            self.versions.append(version)

    def say(self, token: Scored, ends: frozenset[int]) -> None:
        """The next token; one of `ends` ends the sequence and is no part of its text."""
        self.said.append(token)
        self.tokens.append(token.token)
        if token.token in ends:
            self._ended_by_token = True
            self.end("stop")
            return
        self._text.add(token.token)
        if self._text.stopped:
            self.end("stop")
        elif len(self.said) >= self.sampling.max_tokens:
            self.end("length")

    def end(self, reason: FinishReason) -> None:
        self._text.finish()
        self.finish_reason = "stop" if self._text.stopped else reason

    def news(self) -> News:
        """What has not been told yet; a text that may turn out to be a stop text is kept back."""
        until = len(self._text.text) if self.finish_reason else self._text.settled()
        tokens = []
        spoken = len(self.said) - self._ended_by_token
        while self._told_tokens < spoken:
            start = self._text.starts[self._told_tokens]
            if start >= until and not (self.finish_reason and not self._text.stopped):
                break
            tokens.append((start, self.said[self._told_tokens]))
            self._told_tokens += 1
        text, self._told_text = self._text.text[self._told_text : until], max(until, self._told_text)
        return News(text, tuple(tokens), self.finish_reason, len(self.said), tuple(self.versions))
