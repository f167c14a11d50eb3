"""The editor: propose an update without touching the model, then apply it.

One code path for StableEdit and ULTRAEDIT; they differ in the variance, the normalisation of v and the ridge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from editor_core.breathing import breathe
from editor_core.capture import Minibatch, Rows, capture
from editor_core.change import Change
from editor_core.config import EditorConfig, Phase
from editor_core.errors import ConfigError, EmptyBatchError, NonFiniteUpdateError, StaleProposalError, UpdateTooLargeError
from editor_core.masters import Masters
from editor_core.modules import EditedModule, resolve_modules
from editor_core.normalise import Whitener, standardise
from editor_core.solve import solve_keys, target_rows
from editor_core.statistics import Shape, Statistics
from editor_core.update import Proposal, Update


class Editor:
    """Edits the named linear layers of one model.

    model   any causal language model called as model(input_ids=…, attention_mask=…).logits
    config  see EditorConfig

    Raises UnknownModuleError or UnsupportedModuleError for a module that cannot be edited.
    """

    def __init__(self, model: nn.Module, config: EditorConfig) -> None:
        self.model = model
        self.config = config
        self.modules: tuple[EditedModule, ...] = resolve_modules(model, config.modules)
        self.masters = Masters(self.modules)
        device = self.modules[0].weight.device
        self.statistics = Statistics((each.shape for each in self.modules), whitens=config.whitens, device=device)
        self.step = 0

    def propose(self, minibatches: Sequence[Minibatch], phase: Phase = "edit") -> Proposal:
        """The update of one batch, model and statistics untouched.

        minibatches: dicts of input_ids, attention_mask, labels (B × T integers, labels already shifted, -100 elsewhere).
        phase "warmup" normalises v per dimension, as the method does before its first edit.
        Raises EmptyBatchError, NonFiniteUpdateError or UpdateTooLargeError.
        """
        if phase not in ("edit", "warmup"):
            raise ConfigError(f"phase is 'edit' or 'warmup', not {phase!r}")
        rows = self.capture(minibatches)
        statistics = self.observe(rows)
        return self.solve(rows, statistics, phase)

    def capture(self, minibatches: Sequence[Minibatch]) -> list[Rows]:
        """Keys and value gradients of every mini-batch, in order."""
        if not minibatches:
            raise EmptyBatchError("a batch needs at least one mini-batch")
        return capture(self.model, self.modules, minibatches)

    def observe(self, rows: Sequence[Rows]) -> Statistics:
        """The statistics as they will be after these rows; the editor's own stay as they are."""
        after = self.statistics.copy()
        for shape, names in self._names_by_shape().items():
            breathe()
            # mini-batch by mini-batch and layer by layer, as the authors do
            after[shape].observe([(each.keys[name], each.gradients[name]) for each in rows for name in names])
        return after

    def solve(self, rows: Sequence[Rows], statistics: Statistics, phase: Phase) -> Proposal:
        """Normalise by `statistics` and solve for each module's update."""
        updates: dict[str, Update] = {}
        for shape, names in self._names_by_shape().items():
            estimate = statistics[shape]
            key_mean, key_std = estimate.key_moments()
            whitener = Whitener.of(estimate) if phase == "edit" and estimate.covariance_is_determined else None
            if whitener is not None:
                estimate.condition = whitener.condition
            for name in names:
                breathe()
                keys = torch.cat([each.keys[name] for each in rows])
                values = torch.cat([each.gradients[name] for each in rows])
                normalised = whitener(values) if whitener else standardise(values, *estimate.value_moments())
                right = target_rows(standardise(keys, key_mean, key_std), normalised, self.config.lr)
                updates[name] = Update(solve_keys(keys, self.config.alpha), right)
        return Proposal(
            updates=updates,
            statistics=statistics,
            phase=phase,
            examples=_example_of_each_row(rows),
            losses=tuple(each.loss for each in rows),
            parent=self.step,
            norms=self._checked_norms(updates),
        )

    def apply(self, proposal: Proposal) -> None:
        """Make a proposal real: add its updates to the weights and take over its statistics.

        Raises StaleProposalError when the editor moved on since it was computed (so a proposal applies at most once), and
        NonFiniteUpdateError, with nothing changed.
        """
        if proposal.parent != self.step:
            raise StaleProposalError(f"this proposal was computed at step {proposal.parent}; the editor is at {self.step}")
        self.change(Change.of(proposal), proposal.statistics)

    def change(self, change: Change, statistics: Statistics | None = None) -> None:
        """Do to the weights what a revision does, and take over its statistics where they are given.

        Raises NonFiniteUpdateError, with nothing changed.
        """
        for name, update in change.updates.items():  # all of them before the first is applied
            if not update.is_finite():
                raise NonFiniteUpdateError(f"the update of {name} is NaN or infinite")
        self.masters.change(change)
        if statistics is not None:
            self.statistics.adopt(statistics)
        self.step += 1

    def _names_by_shape(self) -> dict[Shape, list[str]]:
        names: dict[Shape, list[str]] = {}
        for each in self.modules:
            names.setdefault(each.shape, []).append(each.name)
        return names

    def _checked_norms(self, updates: Mapping[str, Update]) -> dict[str, float]:
        norms = {}
        for name, update in updates.items():
            norm = update.norm()  # finite only if every entry of both factors is
            if not math.isfinite(norm):
                raise NonFiniteUpdateError(f"the update of {name} is NaN or infinite")
            if self.config.max_update_norm is not None and norm > self.config.max_update_norm:
                raise UpdateTooLargeError(f"the update of {name} has norm {norm:.3g}, above {self.config.max_update_norm:.3g}")
            norms[name] = norm
        return norms


def _example_of_each_row(rows: Sequence[Rows]) -> torch.Tensor:
    """Examples counted through the mini-batches in order: (N,) int64."""
    parts, before = [], 0
    for each in rows:
        parts.append(each.example + before)
        before += each.examples
    return torch.cat(parts)
