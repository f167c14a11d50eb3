"""What the unedited model says, kept to be compared with what it says after edits: the measure of damage.

Prompts that no edit is about are asked in every format served. The model is unharmed where its greedy answer begins with
the same tokens as before, its next-token probabilities have not moved, and plain text is as likely as it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bench.quality.likelihood import next_token_log_probs, next_token_log_probs_by_batch, perplexity
from editor_core.answers import greedy_tokens
from editor_core.errors import EmptyBatchError
from editor_core.side_effects import UNCHANGED_TOKENS
from editor_core.texts import Format


@dataclass(frozen=True, slots=True)
class Damage:
    """How far a model is from its reference.

    unchanged         by format: share of prompts whose first UNCHANGED_TOKENS greedy tokens are the reference's
    kl_nats           by format: KL(reference || model) of the next token, mean over prompts; infinite when the model says NaN
    perplexity_ratio  of the reference's plain texts, model / reference; None without texts
    changed           by format: the prompts answered differently, in the reference's order
    """

    unchanged: dict[Format, float]
    kl_nats: dict[Format, float]
    perplexity_ratio: float | None
    changed: dict[Format, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Reference:
    """What one model says to a set of prompts, and how likely it finds a set of plain texts.

    prompts     P texts, each asked in every format
    tokens      by format: the first UNCHANGED_TOKENS greedy token ids after each prompt, fewer where the answer ended
    log_probs   by format: of the next token after each prompt, P × V float32, nats (P 100, V 49,152: 20 MB)
    texts       plain texts, [] for none
    perplexity  of all texts together; None without texts
    """

    prompts: tuple[str, ...]
    tokens: Mapping[Format, list[list[int]]]
    log_probs: Mapping[Format, torch.Tensor]
    texts: tuple[str, ...]
    perplexity: float | None

    @classmethod
    def of(
        cls, model: nn.Module, tokenizer: Any, prompts: Sequence[str], formats: Sequence[Format], texts: Sequence[str] = ()
    ) -> Reference:
        """Ask this model. Raises EmptyBatchError without a prompt, EncodingError when no text has two tokens."""
        if not prompts:
            raise EmptyBatchError("a reference needs at least one prompt")
        asked = {format: _in_format(prompts, format) for format in formats}
        return cls(
            prompts=tuple(prompts),
            tokens={format: greedy_tokens(model, tokenizer, each, UNCHANGED_TOKENS) for format, each in asked.items()},
            log_probs={format: next_token_log_probs(model, tokenizer, each) for format, each in asked.items()},
            texts=tuple(texts),
            perplexity=perplexity(model, tokenizer, texts) if texts else None,
        )

    def compare(self, model: nn.Module, tokenizer: Any) -> Damage:
        """Ask `model` the same, in the same batches. The tokenizer is the reference's own."""
        changed = {format: self._changed(model, tokenizer, format) for format in self.tokens}
        return Damage(
            unchanged={format: (len(self.prompts) - len(each)) / len(self.prompts) for format, each in changed.items()},
            kl_nats={format: self._kl(model, tokenizer, format) for format in self.log_probs},
            perplexity_ratio=self._perplexity_ratio(model, tokenizer),
            changed=changed,
        )

    def _changed(self, model: nn.Module, tokenizer: Any, format: Format) -> tuple[str, ...]:
        said = greedy_tokens(model, tokenizer, _in_format(self.prompts, format), UNCHANGED_TOKENS)
        return tuple(
            prompt for prompt, before, after in zip(self.prompts, self.tokens[format], said, strict=True) if before != after
        )

    def _kl(self, model: nn.Module, tokenizer: Any, format: Format) -> float:
        total = 0.0
        for indices, edited in next_token_log_probs_by_batch(model, tokenizer, _in_format(self.prompts, format)):
            total += functional.kl_div(edited, self.log_probs[format][indices], reduction="sum", log_target=True).item()
        return max(total / len(self.prompts), 0.0) if math.isfinite(total) else math.inf

    def _perplexity_ratio(self, model: nn.Module, tokenizer: Any) -> float | None:
        return None if self.perplexity is None else perplexity(model, tokenizer, self.texts) / self.perplexity


def _in_format(prompts: Sequence[str], format: Format) -> list[tuple[str, Format]]:
    return [(prompt, format) for prompt in prompts]
