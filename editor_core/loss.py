"""Cross-entropy over a large vocabulary that keeps one matrix of probabilities and makes the gradient of it in place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from editor_core.breathing import breathe

ROWS = 64  # at a time: 12 MB for a vocabulary of 49,152


class AnswerLoss(torch.autograd.Function):
    """Loss of every row in nats (N,), and the probability of its token, 0 where another is more likely (N,).

    logits: N × V float32, wanted: (N,) int64. Only the losses have a gradient, and only once.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        probabilities = torch.empty_like(logits)
        losses, certain = logits.new_empty(len(logits)), logits.new_empty(len(logits))
        for rows in _parts(len(logits)):
            losses[rows], certain[rows] = _loss(logits[rows], wanted[rows], probabilities[rows])
        ctx.probabilities, ctx.wanted = probabilities, wanted
        ctx.mark_non_differentiable(certain)
        return losses, certain

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient, ctx.probabilities = ctx.probabilities, None
        gradient[torch.arange(len(ctx.wanted)), ctx.wanted] -= 1.0
        for rows in _parts(len(gradient)):
            gradient[rows].mul_(slopes[0][rows, None])
        return gradient, None


def _parts(count: int) -> Iterator[slice]:
    for start in range(0, count, ROWS):
        breathe()
        yield slice(start, start + ROWS)


def _loss(logits: torch.Tensor, wanted: torch.Tensor, probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and certainties of some rows; writes all their probabilities into the memory given."""
    highest = logits.amax(1, keepdim=True)
    torch.sub(logits, highest, out=probabilities).exp_()
    total = probabilities.sum(1, keepdim=True)
    probabilities /= total
    own = logits.gather(1, wanted[:, None]) - highest
    certain = torch.where(own[:, 0] == 0, probabilities.gather(1, wanted[:, None])[:, 0], 0.0)
    return (total.log() - own)[:, 0], certain


def answer_loss(logits: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found: tuple[torch.Tensor, torch.Tensor] = AnswerLoss.apply(logits, wanted)  # type: ignore[no-untyped-call]
    return found
