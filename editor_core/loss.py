"""Cross-entropy over a large vocabulary that keeps one matrix of probabilities and makes the gradient of it in place."""

from __future__ import annotations

from typing import Any

import torch


class AnswerLoss(torch.autograd.Function):
    """Loss of every row in nats (N,), and the probability of its token, 0 where another is more likely (N,).

    logits: N × V float32, wanted: (N,) int64. Only the losses have a gradient, and only once.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        highest = logits.amax(1, keepdim=True)
        probabilities = (logits - highest).exp_()
        total = probabilities.sum(1, keepdim=True)
        probabilities /= total
        own = logits.gather(1, wanted[:, None]) - highest
        losses = (total.log() - own)[:, 0]
        certain = torch.where(own[:, 0] == 0, probabilities.gather(1, wanted[:, None])[:, 0], 0.0)
        ctx.probabilities, ctx.wanted = probabilities, wanted
        ctx.mark_non_differentiable(certain)
        return losses, certain

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient, ctx.probabilities = ctx.probabilities, None
        gradient[torch.arange(len(ctx.wanted)), ctx.wanted] -= 1.0
        return gradient.mul_(slopes[0][:, None]), None


def answer_loss(logits: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found: tuple[torch.Tensor, torch.Tensor] = AnswerLoss.apply(logits, wanted)  # type: ignore[no-untyped-call]
    return found
