"""What an editing step produces: low-rank updates, and the proposal that carries them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

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

    @staticmethod
    def concatenate(parts: Sequence[Update]) -> Update:
        """The sum of several updates of one weight."""
        return Update(torch.cat([each.left for each in parts]), torch.cat([each.right for each in parts]))


@dataclass(frozen=True, slots=True)
class Proposal:
    """Computed, not yet applied: the updates of a batch and the statistics that follow it.

    updates     by module name; empty when the batch is only observed
    statistics  the estimates after this batch
    phase       "edit" or "warmup"
    examples    (N,) int64: which example of the batch (counted through the mini-batches in order) each row comes from
    examples_by_module   the same for modules whose updates have rows of their own (banks of memory slots)
    leans_on     by example: ids of the edits of earlier batches whose subject marks its slots rely on
    leans_within by example: examples of this batch whose marks they rely on
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
    examples_by_module: Mapping[str, torch.Tensor] = field(default_factory=dict)
    leans_on: Mapping[int, frozenset[int]] = field(default_factory=dict)
    leans_within: Mapping[int, frozenset[int]] = field(default_factory=dict)

    def examples_of(self, name: str) -> torch.Tensor:
        """Which example each row of one module's update comes from, (N,) int64; -1 belongs to none."""
        return self.examples_by_module.get(name, self.examples)

    def share(self, examples: Sequence[int]) -> dict[str, Update]:
        """The part of every update that the given examples brought in."""
        wanted = torch.as_tensor(examples, dtype=torch.int64)
        return {
            name: update.share(torch.isin(self.examples_of(name), wanted).to(update.left.device))
            for name, update in self.updates.items()
        }

    def without(self, examples: Sequence[int]) -> Proposal:
        """This proposal with the given examples' own rows taken out; the statistics have seen them all the same."""
        if not examples:
            return self
        gone = torch.as_tensor(examples, dtype=torch.int64)
        left = {name: ~torch.isin(self.examples_of(name), gone) for name in self.updates}
        updates = {name: update.share(left[name].to(update.left.device)) for name, update in self.updates.items()}
        return replace(
            self,
            updates=updates,
            norms={name: self._norm(name, update) for name, update in updates.items()},
            examples=self.examples[~torch.isin(self.examples, gone)],
            examples_by_module={name: each[left[name]] for name, each in self.examples_by_module.items()},
            leans_on={index: on for index, on in self.leans_on.items() if index not in examples},
            leans_within={index: on - set(examples) for index, on in self.leans_within.items() if index not in examples},
        )

    def _norm(self, name: str, update: Update) -> float:
        """As `norms` has it: of the values alone where rows are slots."""
        return float(update.right.norm()) if name in self.examples_by_module else update.norm()

    @property
    def rows(self) -> int:
        """Rows of all updates' left factors, those that several modules share counted once."""
        return len(self.examples) + sum(len(each) for each in self.examples_by_module.values())
