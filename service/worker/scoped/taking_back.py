"""Operations on scoped edits: records leave force or come back, or are taught once more; each is a revision."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

from editor_core.errors import EditorError
from editor_core.scoped.editor import Learned
from editor_core.scoped.entry import Entry
from service import failpoints
from service.bootstrap import Resources
from service.domain.edits import EditEvent, EditRecord, EditState, Failure, Outcome
from service.domain.operations import OperationRecord
from service.domain.revisions import RevisionKind
from service.errors import NotReversible
from service.infra.objects import ObjectStore
from service.infra.postgres import Database
from service.ledger import operations, read
from service.ledger.commit import Effects, commit_revision
from service.ledger.lease import Lease
from service.worker.applying import record_state
from service.worker.model_thread import ModelThread
from service.worker.proposing import as_edit, code_of
from service.worker.scoped.applying import DOES_NOT_HOLD, outcome_of, said_instead
from service.worker.scoped.resident import ScopedCandidate, ScopedModel
from service.worker.scoped.restore import ScopedRestorer
from service.worker.scoped.state import ScopedState
from service.worker.taking_back import TakingBack

TAUGHT_TOGETHER = 10  # edits of a rebuild between two words on its progress


class ScopedTakingBack(TakingBack):
    """Carries operations out on a model with scoped edits."""

    _resident: Any  # a ScopedModel
    _restorer: Any  # a ScopedRestorer

    def __init__(
        self,
        resident: ScopedModel,
        thread: ModelThread,
        resources: Resources,
        objects: ObjectStore,
        progress: Callable[[str], None],
        on_revision: Callable[[], None],
    ) -> None:
        super().__init__(cast(Any, resident), thread, resources, objects, progress, on_revision)
        self._restorer = ScopedRestorer(resident, thread, resources.database, objects, progress)

    @property
    def resident(self) -> ScopedModel:
        found: ScopedModel = self._resident
        return found

    @property
    def thread(self) -> ModelThread:
        return self._thread

    @property
    def database(self) -> Database:
        return self._database

    async def _subtracted(self, edit_id: int) -> tuple[Any, Effects]:
        record = await read.get_edit(self._database, edit_id)
        if record.state is not EditState.APPLIED:
            raise NotReversible(f"edit {edit_id} is {record.state}: it is not in force", code="edit_not_applied")
        state = self._resident.state
        found = ScopedState(state.edits.changed({edit_id: None}), state.statistics)
        candidate = await self._thread.run(self._resident.candidate, found)
        return candidate, Effects(ended={edit_id: EditEvent.REVERTED})

    async def _rolled_back(self, number: int) -> tuple[Any, Effects]:
        state = await self._restorer.state_at(await read.get_revision(self._database, number))
        candidate = await self._thread.run(self._resident.candidate, state)
        return candidate, await operations.effects_of_rollback(self._database, number, self._resident.revision)

    async def _rebuilt(self, without: set[int]) -> tuple[Any, Effects]:
        """All that is applied taught once more; an edit whose record comes out the same is left as it is."""
        applied = await read.applied_at(self._database, self._resident.revision)
        wanted = await read.edits_by_id(self._database, sorted(applied.keys() - without))
        gone = dict.fromkeys(sorted(applied.keys() & without), EditEvent.REVERTED)
        return await self.taught_again([wanted[each] for each in sorted(wanted)], gone)

    async def taught_again(self, records: Sequence[EditRecord], gone: dict[int, EditEvent]) -> tuple[Any, Effects]:
        """The state in which just these edits are in force, each taught once more, with new statistics."""
        resident = self._resident
        statistics, edits = resident.base.statistics, resident.served.state
        entries: dict[int, Entry | None] = dict.fromkeys(edit for edit, _ in edits.rows())
        again: list[Outcome] = []
        failures: list[Failure] = []
        for start in range(0, len(records), TAUGHT_TOGETHER):
            self._progress(f"rebuilding: {start} of {len(records)} edits")
            for record in records[start : start + TAUGHT_TOGETHER]:
                try:
                    learned = await self._taught(record)
                except (EditorError, RuntimeError, ArithmeticError) as error:
                    failures.append(Failure(record.id, code_of(error), f"it could not be taught again: {error}"))
                    continue
                if resident.editor.policy.requires_holding and not learned.is_held:
                    failures.append(Failure(record.id, DOES_NOT_HOLD, said_instead(learned)))
                    continue
                name = await asyncio.to_thread(self._objects.put, learned.record.to_bytes())
                entries[record.id] = Entry.of(name, learned.record.address)
                for module in resident.editor.modules:
                    if module.name in learned.taught.rows:
                        statistics[module.shape].observe([learned.taught.rows[module.name]])
                before = edits.get(record.id)
                if before is None or before.record != name:
                    again.append(outcome_of(record.id, learned, name))
        state = ScopedState(edits.changed(entries), statistics)
        return await self._thread.run(resident.candidate, state), Effects(ended=gone, taught_again=again, failures=failures)

    async def _taught(self, record: EditRecord) -> Learned:
        run = await self._thread.run(self._resident.editor.run, [(record.id, as_edit(record))], self._resident.base.edits)
        [_ async for _ in self._thread.each(run.steps)]
        learned: Learned = run.learned[0]
        return learned

    async def _commit(
        self,
        held: Lease,
        operation: OperationRecord,
        candidate: Any,
        effects: Effects,
        source: int | None,
    ) -> None:
        await self.commit(held, candidate, effects, operation.asked.kind.revision_kind, source, operation)

    async def commit(
        self,
        held: Lease,
        candidate: ScopedCandidate,
        effects: Effects,
        kind: RevisionKind,
        source: int | None = None,
        operation: OperationRecord | None = None,
        number: int | None = None,
    ) -> None:
        """Commit a state as the next revision (or as this one), and serve it. Raises what `commit_revision` raises."""
        statistics = await asyncio.to_thread(self._objects.put, candidate.statistics)
        failpoints.hit("writer.persisted")
        number = self._resident.revision + 1 if number is None else number
        new = self._resident.new_revision(number, kind, candidate, statistics, 0, source)
        await commit_revision(self._database, held, new, effects=effects, operation=operation)
        await self._thread.exchange(self._resident.adopt, candidate.state, number)
        failpoints.hit("writer.applied")
        self._on_revision()
        await self._heads.publish(number)
        failpoints.hit("writer.published")
        record_state(candidate)
