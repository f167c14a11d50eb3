"""The model in this process's memory, at one revision, with its editor. Every method runs on the model thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from editor_core import Proposal, Update
from editor_core.draft import Draft
from editor_core.loading import LoadedModel, load_model
from editor_core.slot_editor import SlotEditor
from service.domain.revisions import ModuleNorms, NewRevision, RevisionKind, StatisticsSummary
from service.errors import FingerprintMismatch
from service.settings import Settings
from service.worker.editors import build_editor, config_hash
from service.worker.packing import pack_statistics, pack_updates

NO_REVISION = -1  # before the ledger was read


@dataclass(frozen=True, slots=True)
class Candidate:
    """A revision computed and packed, not yet committed: the weights wait in a draft."""

    draft: Draft
    proposal: Proposal
    updates: bytes | None
    statistics: bytes
    fingerprint: str
    norms: dict[str, ModuleNorms]
    summaries: tuple[StatisticsSummary, ...]


def load(settings: Settings, progress: Callable[[str], None]) -> LoadedModel:
    """The model that the settings name, as they want it. Raises ModelLoadError."""
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    dtype: torch.dtype = getattr(torch, settings.dtype)
    return load_model(settings.model, cache_dir=settings.models, dtype=dtype, device=settings.device, progress=progress)


class ResidentModel:
    """One model, its editor, and the number of the revision that its weights are."""

    def __init__(self, loaded: LoadedModel, settings: Settings) -> None:
        self.name = loaded.name
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.text_editor = build_editor(loaded, settings)
        self.editor = self.text_editor.editor
        self.config_hash = config_hash(loaded.name, self.text_editor, settings)
        self.revision = NO_REVISION
        self._last_updates: Mapping[str, Update] = {}

    @classmethod
    def load(cls, settings: Settings, progress: Callable[[str], None]) -> ResidentModel:
        """Raises ModelLoadError, or an EditorError when the configured modules are not in the model."""
        return cls(load(settings, progress), settings)

    def prepare_editing(self, progress: Callable[[str], None]) -> None:
        """What editing needs to know of the unedited model, from a file or collected now (minutes, once a model)."""
        if isinstance(self.text_editor, SlotEditor):
            self.text_editor.background(lambda share: progress(f"reading what the unedited model says: {share:.0%}"))

    def prepare(self, proposal: Proposal, edit_ids: Sequence[int] = ()) -> Candidate:
        """Everything the commit point needs to know of a proposal; the model goes on as it is."""
        draft = Draft(self.editor)
        with draft:
            self.editor.apply(proposal)
            fingerprint = self.editor.masters.fingerprint()
            distances = self.editor.masters.distance_from_base()
            state = self.editor.statistics.state_dict()
            summaries = self.editor.statistics.summaries()
        return Candidate(
            draft=draft,
            proposal=proposal,
            updates=pack_updates(proposal, edit_ids),
            statistics=pack_statistics(state),
            fingerprint=fingerprint,
            norms={
                name: ModuleNorms(norm, self._cosine(name, proposal.updates[name], norm), distances[name])
                for name, norm in proposal.norms.items()
            },
            summaries=tuple(
                StatisticsSummary(int(d_in), int(d_out), each.n, each.mean_norm, each.drift, each.condition)
                for (d_in, _, d_out), each in ((shape.partition("x"), each) for shape, each in summaries.items())
            ),
        )

    def _cosine(self, name: str, update: Update, norm: float) -> float | None:
        last = self._last_updates.get(name)
        if last is None or norm == 0 or (before := last.norm()) == 0:
            return None
        return update.inner(last) / (norm * before)

    def adopt(self, candidate: Candidate, revision: int) -> float:
        """Serve a candidate that has been committed; returns the seconds that nothing else could run."""
        began = time.perf_counter()
        candidate.draft.keep()
        self.revision = revision
        self._last_updates = candidate.proposal.updates or self._last_updates
        return time.perf_counter() - began

    def apply_revision(self, number: int, updates: Mapping[str, Update]) -> None:
        """Add a revision that was committed before, by this process or another."""
        for name, update in updates.items():
            self.editor.masters.add(name, update)
        self.editor.step += 1
        self.revision = number
        self._last_updates = updates or self._last_updates

    def settle(self, statistics: Mapping[str, torch.Tensor] | None, fingerprint: str) -> None:
        """After following the ledger: take over the head's statistics and compare the weights with its fingerprint.

        Raises FingerprintMismatch.
        """
        found = self.editor.masters.fingerprint()
        if found != fingerprint:
            raise FingerprintMismatch(
                f"the weights rebuilt for revision {self.revision} have fingerprint {found[:16]}…, "
                f"the ledger says {fingerprint[:16]}…"
            )
        if statistics is not None:
            self.editor.statistics.load_state_dict(statistics)

    def new_revision(
        self, number: int, kind: RevisionKind, candidate: Candidate, objects: tuple[str | None, str], passes: int
    ) -> NewRevision:
        """The row for a candidate whose (updates, statistics) are stored under these hashes."""
        return NewRevision(
            number=number,
            kind=kind,
            update_object=objects[0],
            statistics_object=objects[1],
            fingerprint=candidate.fingerprint,
            config_hash=self.config_hash,
            norms=candidate.norms,
            statistics=candidate.summaries,
            passes=passes,
            rows=candidate.proposal.rows,
        )
