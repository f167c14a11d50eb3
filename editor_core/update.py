"""What an editing step produces: low-rank updates, and the proposal that carries them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from editor_core.config import Phase
from editor_core.statistics import Statistics


@dataclass(frozen=True, slots=True)
class Update:
    """The change of one weight, as two factors: Delta = left^T right.

    left   N × d_in  float32, solved keys
    right  N × d_out float32, target rows
    Row i of both belongs to answer token i, so any subset of rows is the exact share of the edits they come from.
    """

    left: torch.Tensor
    right: torch.Tensor

    def dense(self) -> torch.Tensor:
        """Delta, d_in × d_out float32."""
        return self.left.T @ self.right

    def share(self, rows: torch.Tensor) -> Update:
        """The part of this update that comes from the given rows (index or boolean mask)."""
        return Update(self.left[rows], self.right[rows])

    def norm(self) -> float:
        """||Delta||_F without forming it: sqrt(sum((L L^T) * (R R^T)))."""
        return math.sqrt(max(self.inner(self), 0.0))  # NaN stays NaN

    def inner(self, other: Update) -> float:
        """<Delta, Delta'>_F from the factors alone, N × N' in place of d_in × d_out."""
        lefts = self.left @ other.left.T
        rights = self.right @ other.right.T
        return (lefts * rights).sum(dtype=torch.float64).item()

    def is_finite(self) -> bool:
        return bool(torch.isfinite(self.left).all()) and bool(torch.isfinite(self.right).all())

    def rounded(self) -> Update:
        """As records keep it: every row as 8-bit integers times one float32 number (see `quantised`)."""
        return Update(dequantised(*quantised(self.left)), dequantised(*quantised(self.right)))

    @staticmethod
    def concatenate(parts: Sequence[Update]) -> Update:
        """The sum of several updates of one weight."""
        return Update(torch.cat([each.left for each in parts]), torch.cat([each.right for each in parts]))


def quantised(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N x d int8, N x 1 float32) of N x d float32: each row by its largest entry, symmetric, rounded to nearest."""
    scale = (rows.abs().amax(1, keepdim=True) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    return (rows / scale).round().to(torch.int8), scale


def dequantised(whole: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """N x d float32."""
    return whole.float() * scale


@dataclass(frozen=True, slots=True)
class Proposal:
    """Computed, not yet applied: the updates of a batch and the statistics that follow it.

    updates     by module name; empty when the batch is only observed
    statistics  the estimates after this batch
    phase       "edit" or "warmup"
    examples    (N,) int64: which example of the batch (counted through the mini-batches in order) each row comes from
    losses      mean cross-entropy (nats per answer token) of each mini-batch before the update
    parent      the editor's step this was computed on; `apply` refuses any other
    """

    updates: Mapping[str, Update]
    statistics: Statistics
    phase: Phase
    examples: torch.Tensor
    losses: tuple[float, ...]
    parent: int
    norms: Mapping[str, float] = field(default_factory=dict)

    def share(self, examples: Sequence[int]) -> dict[str, Update]:
        """The part of every update that the given examples brought in."""
        mine = torch.isin(self.examples, torch.as_tensor(examples, dtype=torch.int64))
        return {name: update.share(mine.to(update.left.device)) for name, update in self.updates.items()}
