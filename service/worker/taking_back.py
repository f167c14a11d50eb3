"""Operations, each carried to its commit as a revision of its own: subtract, rollback, rebuild."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog

from editor_core.change import Change
from editor_core.errors import EditorError
from service import failpoints, metrics
from service.bootstrap import Resources
from service.domain.edits import EditEvent, EditState
from service.domain.operations import OperationKind, OperationRecord, OperationState
from service.domain.revisions import RevisionKind
from service.errors import ErrataError, LeaseLost, LedgerConflict, NotReversible, StorageUnavailable
from service.infra.objects import ObjectStore
from service.ledger import operations, read
from service.ledger.commit import Effects, commit_revision
from service.ledger.lease import Lease
from service.worker.applying import persist, record_state
from service.worker.model_thread import ModelThread
from service.worker.proposing import code_of
from service.worker.rebuilding import groups, replay_groups
from service.worker.resident import Candidate, ResidentModel
from service.worker.restore import Restorer
from service.worker.shares import Shares

log = structlog.get_logger()
REBUILD_INSTEAD = "POST /rebuild without it does the same from the beginning"


class TakingBack:
    """Carries operations out. `on_revision` is called after each change of what is served."""

    def __init__(
        self,
        resident: ResidentModel,
        thread: ModelThread,
        resources: Resources,
        objects: ObjectStore,
        progress: Callable[[str], None],
        on_revision: Callable[[], None],
    ) -> None:
        self._resident, self._thread, self._objects = resident, thread, objects
        self._database, self._heads = resources.database, resources.heads
        self._progress, self._on_revision = progress, on_revision
        self._shares = Shares(resident, resources.database, objects)
        self._restorer = Restorer(resident, thread, resources.database, objects, progress)
        self.under_way: int | None = None  # an operation begun here, which has not ended this process

    async def carry_out(self, held: Lease, operation_id: int) -> None:
        """Commit what the operation asks for, or the reason why it cannot be done."""
        operation = await operations.begin(self._database, held, operation_id)
        if operation.state is OperationState.FAILED:
            metrics.OPERATIONS.labels(operation.asked.kind.value, "failed").inc()
            return
        self.under_way = operation.id
        failpoints.hit("operation.begun")
        await self._carry_out(held, operation)
        self.under_way = None

    async def _carry_out(self, held: Lease, operation: OperationRecord) -> None:
        kind = operation.asked.kind
        began = time.perf_counter()
        try:
            candidate, effects, source = await self._prepared(operation)
            await self._commit(held, operation, candidate, effects, source)
        except (LeaseLost, StorageUnavailable, LedgerConflict):
            raise
        except (ErrataError, EditorError, RuntimeError, ArithmeticError) as error:
            code, detail = (error.code, error.detail) if isinstance(error, ErrataError) else (code_of(error), str(error))
            await operations.fail(self._database, held, operation, code, detail)
            metrics.OPERATIONS.labels(kind.value, "failed").inc()
            log.warning("operation failed", operation=operation.id, kind=kind.value, code=code, detail=detail[:500])
            return
        finally:
            self._progress("ready")
        metrics.OPERATIONS.labels(kind.value, "applied").inc()
        log.info(
            "operation applied",
            operation=operation.id,
            kind=kind.value,
            revision=self._resident.revision,
            seconds=round(time.perf_counter() - began, 2),
            fingerprint=candidate.fingerprint[:16],
        )

    async def _prepared(self, operation: OperationRecord) -> tuple[Candidate, Effects, int | None]:
        """(the state to come, what becomes of the edits, the revision whose state it is)."""
        match operation.asked.kind:
            case OperationKind.SUBTRACT:
                assert operation.asked.edit_id is not None
                return *await self._subtracted(operation.asked.edit_id), None
            case OperationKind.ROLLBACK:
                assert operation.asked.to_revision is not None
                return *await self._rolled_back(operation.asked.to_revision), operation.asked.to_revision
            case OperationKind.REBUILD:
                return *await self._rebuilt(set(operation.asked.without)), None

    async def _subtracted(self, edit_id: int) -> tuple[Candidate, Effects]:
        record = await read.get_edit(self._database, edit_id)
        if record.state is not EditState.APPLIED:
            raise NotReversible(f"edit {edit_id} is {record.state}: it is not in the weights", code="edit_not_applied")
        taken = await self._shares.of([record])
        if taken is None:
            raise NotReversible(
                f"what edit {edit_id} brought into the weights is not known by itself any more: its update is beyond the "
                f"rollback window, or a rebuild has come after it; {REBUILD_INSTEAD}",
                code="share_gone",
            )
        norms = await self._thread.run(self._norms, taken)
        candidate = await self._thread.run(self._resident.prepare, taken, None, norms)
        return candidate, Effects(ended={edit_id: EditEvent.REVERTED})

    def _norms(self, change: Change) -> Mapping[str, float]:
        """Of what is taken out."""
        modules = [each.name for each in self._resident.editor.modules]
        return {**dict.fromkeys(modules, 0.0), **{name: each.norm() for name, each in change.updates.items()}}

    async def _rolled_back(self, number: int) -> tuple[Candidate, Effects]:
        wanted = await read.get_revision(self._database, number)
        draft = await self._restorer.draft_at(wanted)
        candidate = await self._thread.run(self._resident.prepare_whole, draft)
        return candidate, await operations.effects_of_rollback(self._database, number, self._resident.revision)

    async def _rebuilt(self, without: set[int]) -> tuple[Candidate, Effects]:
        applied_at = await read.applied_at(self._database, self._resident.revision)
        wanted = await read.edits_by_id(self._database, sorted(applied_at.keys() - without))
        draft = await self._restorer.draft_at(await self._restorer.first())
        batches = groups(wanted, await read.first_taught(self._database))
        await replay_groups(self._resident, self._thread, draft, batches, self._progress)
        candidate = await self._thread.run(self._resident.prepare_whole, draft)
        gone = dict.fromkeys(sorted(applied_at.keys() & without), EditEvent.REVERTED)
        return candidate, Effects(ended=gone)

    async def _commit(
        self, held: Lease, operation: OperationRecord, candidate: Candidate, effects: Effects, source: int | None
    ) -> None:
        checkpoint = await asyncio.to_thread(self._objects.put, candidate.state) if candidate.state else None
        update, statistics = await persist(self._objects, candidate)
        kind = operation.asked.kind.revision_kind
        if kind is RevisionKind.REBUILD:
            update = checkpoint  # nothing else says what its weights are
        failpoints.hit("writer.persisted")
        number = self._resident.revision + 1
        new = self._resident.new_revision(number, kind, candidate, (update, statistics), 0, source, checkpoint)
        await commit_revision(self._database, held, new, effects=effects, operation=operation)
        await self._thread.change(self._resident.adopt, candidate.draft, number, candidate.updates)
        failpoints.hit("writer.applied")
        self._on_revision()
        await self._heads.publish(number)
        failpoints.hit("writer.published")
        record_state(candidate)
