"""A model with scoped edits in this process's memory, at one revision. Its weights never change. Methods run on its thread.

It is there twice with the same weights: `model` answers, with the edits of that revision, while its twin is taught with.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from editor_core.breathing import breathe_in
from editor_core.errors import StatisticsMismatchError
from editor_core.loading import LoadedModel
from editor_core.modules import EditedModule, resolve_modules
from editor_core.parts import in_parts
from editor_core.scoped.editor import Learned, ScopedEditor
from editor_core.scoped.in_force import NOTHING_IN_FORCE, EditsInForce
from editor_core.scoped.served import ServedEdits
from editor_core.statistics import Statistics
from editor_core.twin import twin
from service.domain.revisions import ModuleNorms, NewRevision, RevisionKind, StatisticsSummary, content_hash
from service.infra.objects import ObjectStore
from service.settings import Settings
from service.worker.loading import load
from service.worker.packing import pack_statistics, unpack_statistics
from service.worker.scoped.packing import unpack_state
from service.worker.scoped.policy import scoped_policy, update_blocks
from service.worker.scoped.state import ScopedState

NO_REVISION = -1  # before the ledger was read
MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ScopedCandidate:
    """A state computed and packed, not yet committed.

    norms    by module: root of the summed squares of the new updates' Frobenius norms
    """

    state: ScopedState
    statistics: bytes
    fingerprint: str
    norms: Mapping[str, ModuleNorms]
    summaries: tuple[StatisticsSummary, ...]
    rows: int


class ScopedModel:
    """One model, its editor, and the number of the revision that it serves."""

    def __init__(self, loaded: LoadedModel, settings: Settings) -> None:
        self.name, self.settings, self.tokenizer = loaded.name, settings, loaded.tokenizer
        blocks = update_blocks(loaded, settings)
        self.model = twin(loaded.model, own=())
        policy = scoped_policy(loaded, settings)
        self.objects = ObjectStore(settings.objects)
        modules = resolve_modules(loaded.model, blocks)
        self.editor = ScopedEditor(loaded.model, loaded.tokenizer, modules, policy, read=self.objects.get)
        served = resolve_modules(self.model, blocks)
        self.served = ServedEdits(self.editor.rules, served, self.objects.get, settings.updates_kept_mb * MEGABYTE)
        breathe_in(loaded.model)
        in_parts(loaded.model)
        self.revision = NO_REVISION
        self._digest = _digest(self.editor.modules)
        self._empty = self.editor.statistics.copy()
        self.config_hash = content_hash(
            {"model": loaded.name, "dtype": settings.dtype, "mode": "scoped", "modules": blocks, "policy": repr(policy)}
        )

    @classmethod
    def load(cls, settings: Settings, progress: Callable[[str], None]) -> ScopedModel:
        """Raises ModelLoadError, or an EditorError when the configured modules are not in the model."""
        return cls(load(settings, progress), settings)

    # --- states ------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> ScopedState:
        """What is served."""
        return ScopedState(self.served.state, self.editor.statistics)

    @property
    def base(self) -> ScopedState:
        """The model as it was loaded, with statistics that have seen nothing."""
        return ScopedState(NOTHING_IN_FORCE, self._empty.copy())

    def fingerprint(self, edits: EditsInForce) -> str:
        """Of the model with these edits; equal only for the same records of the same edits of the same model."""
        return hashlib.sha256(f"{self._digest} {edits.fingerprint}".encode()).hexdigest()

    def statistics_of(self, data: bytes) -> Statistics:
        """Raises StatisticsMismatchError when they are not of this model's modules."""
        found = self._empty.copy()
        found.load_state_dict(unpack_statistics(data))
        return found

    def candidate(self, state: ScopedState, learned: Mapping[int, Learned] | None = None) -> ScopedCandidate:
        """Everything the commit point needs to know of a state; the model goes on as it is."""
        new = (learned or {}).values()
        norms = {
            each.name: ModuleNorms(
                sum(own.record.updates[each.name].norm() ** 2 for own in new if each.name in own.record.updates) ** 0.5,
                None,
                0.0,
            )
            for each in self.editor.modules
        }
        counts = [f"{each.d_in}x{each.d_out}" for each in self.editor.modules]
        summaries = tuple(
            StatisticsSummary(
                int(d_in), int(d_out), each.n, each.mean_norm, each.drift, each.condition, counts.count(f"{d_in}x{d_out}")
            )
            for (d_in, _, d_out), each in ((name.partition("x"), each) for name, each in state.statistics.summaries().items())
        )
        rows = sum(len(next(iter(own.record.updates.values())).left) for own in new if own.record.updates)
        statistics = pack_statistics(state.statistics.state_dict())
        fingerprint = self.fingerprint(state.edits)
        return ScopedCandidate(state, statistics, fingerprint, norms, summaries, rows)

    def adopt(self, state: ScopedState, revision: int) -> float:
        """Serve a state whose revision is committed, for whoever asks from now on; returns the seconds that it took."""
        began = time.perf_counter()
        self.served.state, self.revision = state.edits, revision
        self.editor.statistics = state.statistics
        return time.perf_counter() - began

    def new_revision(
        self,
        number: int,
        kind: RevisionKind,
        candidate: ScopedCandidate,
        statistics: str | None,
        passes: int = 0,
        source: int | None = None,
    ) -> NewRevision:
        """The row for a candidate whose statistics are stored under this hash."""
        return NewRevision(
            number=number,
            kind=kind,
            update_object=None,
            statistics_object=statistics,
            fingerprint=candidate.fingerprint,
            config_hash=self.config_hash,
            norms=candidate.norms,
            statistics=candidate.summaries,
            passes=passes,
            rows=candidate.rows,
            source=source,
        )

    def state_to_pack(self) -> tuple[EditsInForce, dict[str, torch.Tensor]]:
        """What is served, for `pack_state`, which need not run on this thread."""
        return self.served.state, self.editor.statistics.state_dict()

    def stored(self, data: bytes) -> ScopedState:
        """A state as a checkpoint has it. Raises StatisticsMismatchError when it is none of this model's."""
        try:
            edits, statistics = unpack_state(data)
        except (KeyError, ValueError) as error:
            raise StatisticsMismatchError(f"no checkpoint of scoped edits: {error}") from error
        found = self._empty.copy()
        found.load_state_dict(statistics)
        return ScopedState(edits, found)


def _digest(modules: Sequence[EditedModule]) -> str:
    """SHA-256 over the updated modules' names and weights as they were loaded."""
    digest = hashlib.sha256()
    for each in modules:
        weight: Any = each.weight.detach().float().cpu().contiguous()
        digest.update(f"{each.name} {tuple(weight.shape)}\n".encode())
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()
