"""The model of paper mode in this process's memory, at one revision, with its editor. Every method runs on the model thread.

It is there twice, with the same weights but for the edited ones. `model` answers, at the revision of that number, whatever
the editor does to its own meanwhile; only `adopt` changes what it says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch

from editor_core import Statistics, Update
from editor_core.breathing import breathe_in
from editor_core.change import Change
from editor_core.draft import Draft
from editor_core.errors import StaleProposalError
from editor_core.loading import LoadedModel
from editor_core.modules import resolve_modules
from editor_core.parts import in_parts
from editor_core.twin import twin
from service.domain.revisions import ModuleNorms, NewRevision, RevisionKind, StatisticsSummary
from service.settings import Settings
from service.worker.editors import build_editor, config_hash
from service.worker.loading import load
from service.worker.packing import StoredState, pack_change, pack_state, pack_statistics

__all__ = ["NO_REVISION", "Candidate", "ResidentModel", "load"]
NO_REVISION = -1  # before the ledger was read
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A revision computed and packed, not yet committed: the weights wait in a draft.

    update    what it does to its parent; None when nothing, or when the state is known as a whole
    state     everything, of revisions that do not follow from their parent
    """

    draft: Draft
    updates: Mapping[str, Update]
    update: bytes | None
    state: bytes | None
    statistics: bytes
    fingerprint: str
    norms: dict[str, ModuleNorms]
    summaries: tuple[StatisticsSummary, ...]
    rows: int


class ResidentModel:
    """One model, its editor, and the number of the revision that its weights are."""

    def __init__(self, loaded: LoadedModel, settings: Settings) -> None:
        self.name, self.settings = loaded.name, settings
        self.tokenizer = loaded.tokenizer
        self.text_editor = build_editor(loaded, settings)
        self.editor = self.text_editor.editor
        names = [each.name for each in self.editor.modules]
        self.model = twin(loaded.model, own=names)
        self._served = resolve_modules(self.model, names)
        self.editor.masters.publish(self._served)
        breathe_in(loaded.model)
        in_parts(loaded.model)
        self.config_hash = config_hash(loaded.name, self.text_editor, settings)
        self.revision = NO_REVISION
        self._empty = self.editor.statistics.copy()
        self._last_updates: Mapping[str, Update] = {}

    @classmethod
    def load(cls, settings: Settings, progress: Callable[[str], None]) -> ResidentModel:
        """Raises ModelLoadError, or an EditorError when the configured modules are not in the model."""
        return cls(load(settings, progress), settings)

    # --- states, each on a draft ---------------------------------------------------------------------------------

    def copy(self) -> Draft:
        """The weights as they are served."""
        return Draft(self.editor)

    def base(self) -> Draft:
        """The model as it was loaded, with statistics that have seen nothing."""
        draft = Draft(self.editor)
        with draft:
            self.editor.masters.restore_base()
            self.editor.statistics.adopt(self._empty)
            self.editor.step += 1
        return draft

    def stored(self, state: StoredState) -> Draft:
        """A whole state as a checkpoint has it. Raises StatisticsMismatchError when it is not of this editor's modules."""
        draft = Draft(self.editor)
        with draft:
            self.editor.masters.restore(state.weights)
            self.editor.statistics.load_state_dict(state.statistics)
            self.editor.step += 1
        return draft

    def change(self, draft: Draft, change: Change, statistics: Statistics | None = None) -> None:
        with draft:
            self.editor.change(change, statistics)

    def load_statistics(self, draft: Draft, statistics: Mapping[str, torch.Tensor]) -> None:
        with draft:
            self.editor.statistics.load_state_dict(statistics)

    def fingerprint(self, draft: Draft) -> str:
        with draft:
            return self.editor.masters.fingerprint()

    def pack_statistics(self, draft: Draft) -> bytes:
        with draft:
            return pack_statistics(self.editor.statistics.state_dict())

    def pack_state(self, draft: Draft | None = None) -> bytes:
        """Of a draft, or of the weights as they are served."""
        with draft or nullcontext():
            return pack_state(self.editor.masters, self.editor.statistics)

    def within(self, draft: Draft, steps: Iterator[T]) -> Iterator[T]:
        """The same steps, each taken as if the draft were what is served."""
        while True:
            with draft:
                step = next(steps, None)
            if step is None:
                return
            yield step

    # --- from a draft to what is served --------------------------------------------------------------------------

    def prepare(
        self, change: Change, statistics: Statistics | None, norms: Mapping[str, float], parent: int | None = None
    ) -> Candidate:
        """Everything the commit point needs to know of a change; the model goes on as it is.

        norms: of what the change does to each module. parent: the editor's step that it was computed on.
        Raises StaleProposalError when the editor has moved on since.
        """
        if parent is not None and parent != self.editor.step:
            raise StaleProposalError(f"this was computed at step {parent}; the editor is at {self.editor.step}")
        draft = Draft(self.editor)
        self.change(draft, change, statistics)
        cosines = {
            name: self._cosine(name, change.updates[name], norm) for name, norm in norms.items() if name in change.updates
        }
        return self._candidate(draft, change, pack_change(change), None, norms, cosines)

    def prepare_whole(self, draft: Draft) -> Candidate:
        """The same of a state that does not follow from the one that is served."""
        with draft:
            state = pack_state(self.editor.masters, self.editor.statistics)
            norms = dict.fromkeys(self.editor.masters.distance_from_base(), 0.0)
        return self._candidate(draft, Change(), None, state, norms, {})

    def _candidate(
        self,
        draft: Draft,
        change: Change,
        update: bytes | None,
        state: bytes | None,
        norms: Mapping[str, float],
        cosines: Mapping[str, float | None],
    ) -> Candidate:
        with draft:
            fingerprint = self.editor.masters.fingerprint()
            distances = self.editor.masters.distance_from_base()
            statistics = pack_statistics(self.editor.statistics.state_dict())
            summaries = self.editor.statistics.summaries()
        modules = [f"{each.d_in}x{each.d_out}" for each in self.editor.modules]
        return Candidate(
            draft=draft,
            updates=change.updates,
            update=update,
            state=state,
            statistics=statistics,
            fingerprint=fingerprint,
            norms={name: ModuleNorms(norm, cosines.get(name), distances[name]) for name, norm in norms.items()},
            summaries=tuple(
                StatisticsSummary(
                    int(d_in), int(d_out), each.n, each.mean_norm, each.drift, each.condition, modules.count(f"{d_in}x{d_out}")
                )
                for (d_in, _, d_out), each in ((shape.partition("x"), each) for shape, each in summaries.items())
            ),
            rows=max((len(update.left) for update in change.updates.values()), default=0),  # every module has them all
        )

    def _cosine(self, name: str, update: Update, norm: float) -> float | None:
        last = self._last_updates.get(name)
        if last is None or norm == 0 or (before := last.norm()) == 0:
            return None
        return update.inner(last) / (norm * before)

    def adopt(self, draft: Draft, revision: int, updates: Mapping[str, Update]) -> float:
        """Serve a draft whose revision is committed; returns the seconds that nothing else could run."""
        began = time.perf_counter()
        draft.keep()
        self.editor.masters.publish(self._served)
        self.revision = revision
        self._last_updates = updates or self._last_updates
        return time.perf_counter() - began

    def new_revision(
        self,
        number: int,
        kind: RevisionKind,
        candidate: Candidate,
        objects: tuple[str | None, str],
        passes: int,
        source: int | None = None,
        checkpoint: str | None = None,
    ) -> NewRevision:
        """The row for a candidate whose (update, statistics) are stored under these hashes, and its state, where it is."""
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
            rows=candidate.rows,
            source=source,
            checkpoint=checkpoint,
            checkpoint_bytes=len(candidate.state or b""),
        )
