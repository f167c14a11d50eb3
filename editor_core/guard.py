"""The guard rail: a batch may not move what the model says to a canary set of prompts and texts.

Measured on the draft before it is proposed, against the unedited model: KL of the next token after every canary prompt in
every format, and perplexity of the canary texts. What counts is how much *this batch* adds to the damage done before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from editor_core.draft import Draft
from editor_core.editor import Editor
from editor_core.errors import TooMuchDamageError
from editor_core.likelihood import next_token_log_probs, perplexity
from editor_core.texts import Format

KEPT = 4  # measurements: those of the committed weights, and of drafts that may be next

_Weights = dict[str, tuple[tuple[int, ...], float]]


@dataclass(frozen=True, slots=True)
class Canary:
    """What is watched, and how far one batch may move it."""

    prompts: Sequence[str]
    texts: Sequence[str]
    max_kl_nats: float = 0.05
    max_perplexity_change: float = 0.01


@dataclass(frozen=True, slots=True)
class CanaryDamage:
    """Against the unedited model. kl_nats: KL(unedited || edited), mean over prompts; perplexity_ratio: edited / unedited."""

    kl_nats: dict[Format, float]
    perplexity_ratio: float


class Guard:
    """Holds what the unedited model says to the canary set, and the damage that the committed model has done to it."""

    def __init__(self, editor: Editor, tokenizer: Any, formats: Sequence[Format], canary: Canary) -> None:
        self._editor, self._tokenizer, self._formats, self._canary = editor, tokenizer, formats, canary
        self._reference: dict[Format, torch.Tensor] = {}
        self._perplexity = 1.0
        self._measured: list[tuple[_Weights, CanaryDamage]] = []  # the last measurements, and for which weights
        self._committed = CanaryDamage({}, 1.0)

    def begin(self) -> None:
        """Before a batch, with the committed weights served: know the damage so far."""
        if not self._reference:
            with Draft(self._editor):
                self._editor.masters.restore_base()
                self._reference = {format: self._log_probs(format) for format in self._formats}
                self._perplexity = perplexity(self._editor.model, self._tokenizer, self._canary.texts)
        weights = self._weights()
        known = [
            damage for measured, damage in self._measured if measured == weights
        ]  # a draft of before, committed, or no news
        self._committed = known[-1] if known else self._measure()
        self._keep(weights, self._committed)

    def check(self) -> CanaryDamage:
        """With the draft served: its damage. Raises TooMuchDamageError when the batch adds more than the limits allow."""
        before, after = self._committed, self._measure()
        self._keep(self._weights(), after)
        for format in self._formats:
            added = after.kl_nats[format] - before.kl_nats[format]
            if not added <= self._canary.max_kl_nats:  # NaN is too much as well
                raise TooMuchDamageError(
                    f"it moves answers to unrelated questions in {format} format by {added:.3g} nats (KL of the next token); "
                    f"the limit is {self._canary.max_kl_nats:g}"
                )
        change = abs(after.perplexity_ratio / before.perplexity_ratio - 1)
        if not change <= self._canary.max_perplexity_change:
            raise TooMuchDamageError(
                f"it changes the perplexity of plain text by {change:.2%}; "
                f"the limit is {self._canary.max_perplexity_change:.2%}"
            )
        return after

    def _keep(self, weights: _Weights, damage: CanaryDamage) -> None:
        self._measured = [*self._measured[1 - KEPT :], (weights, damage)]

    def _weights(self) -> _Weights:
        """Tells weights apart: by module, the shape and the distance from the base."""
        distances = self._editor.masters.distance_from_base()
        return {name: (tuple(self._editor.masters[name].shape), distance) for name, distance in distances.items()}

    def _measure(self) -> CanaryDamage:
        moved = {format: self._kl(self._reference[format], self._log_probs(format)) for format in self._formats}
        now = perplexity(self._editor.model, self._tokenizer, self._canary.texts)
        return CanaryDamage(moved, now / self._perplexity)

    def _log_probs(self, format: Format) -> torch.Tensor:
        return next_token_log_probs(self._editor.model, self._tokenizer, [(prompt, format) for prompt in self._canary.prompts])

    @staticmethod
    def _kl(reference: torch.Tensor, now: torch.Tensor) -> float:
        return float(functional.kl_div(now, reference, log_target=True, reduction="none").sum(-1).mean())
