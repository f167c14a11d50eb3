"""Accepting operations, and what the writer needs to carry them out in the order in which they were accepted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from service.domain.callers import Caller
from service.domain.edits import EditEvent, EditState
from service.domain.operations import NewOperation, OperationKind, OperationRecord, OperationState
from service.domain.revisions import RevisionKind, content_hash
from service.errors import LedgerConflict, NotFound, NotReversible, QueueFull
from service.infra.postgres import Database, UnitOfWork
from service.ledger.commit import Effects
from service.ledger.lease import Lease, require
from service.ledger.submit import begin_submission

MOST_ATTEMPTS = 10  # of an operation that ends its worker


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a request became. `replayed` when its Idempotency-Key had been used before, with the same body."""

    operation: OperationRecord
    replayed: bool


async def accept(
    database: Database,
    asked: NewOperation,
    *,
    idempotency_key: str | None,
    window: int,
    max_waiting: int | None = None,
    max_waiting_per_key: int | None = None,
) -> Accepted:
    """Write the operation in one transaction and commit.

    Raises NotFound, NotReversible, QueueFull, IdempotencyConflict or RequestInProgress; nothing is written then.
    """
    async with database.transaction() as work:
        asked_by = Caller(asked.key_id, asked.actor)
        submission_id, replayed = await begin_submission(work, idempotency_key, content_hash(asked.content()), asked_by)
        if not replayed:
            await _check(work, asked, window)
            await _check_room(work, asked, max_waiting, max_waiting_per_key)
            await work.repository.insert_operation(submission_id, asked, await work.repository.newest_edit())
        operation = await work.repository.operation_of_submission(submission_id)
        assert operation is not None
        await work.commit()
    return Accepted(operation, replayed)


async def _check(work: UnitOfWork, asked: NewOperation, window: int) -> None:
    """Refuse at once what can be seen to be impossible; the writer has the last word."""
    if asked.kind is OperationKind.ROLLBACK:
        assert asked.to_revision is not None
        await _check_revision(work, asked.to_revision, window)
        return
    wanted = [asked.edit_id] if asked.edit_id is not None else list(asked.without)
    known = await work.repository.edits_by_id(wanted)
    for edit_id in wanted:
        if edit_id not in known:
            raise NotFound(f"there is no edit {edit_id}", code="edit_not_found")
        state = known[edit_id].state
        if asked.kind is OperationKind.SUBTRACT and state in (EditState.FAILED, EditState.REVERTED, EditState.SUPERSEDED):
            raise NotReversible(f"edit {edit_id} is {state}: it is not in force", code="edit_not_applied")


async def _check_room(work: UnitOfWork, asked: NewOperation, most: int | None, most_per_key: int | None) -> None:
    """A key may have one rebuild waiting: another would do the same again."""
    count, of_key, rebuilds = await work.repository.unfinished_operations(asked.key_id)
    if most is not None and count >= most:
        raise QueueFull(f"{count} operations are waiting; try again later", code="too_many_operations", retry_after_s=10)
    if not asked.key_id:
        return
    if most_per_key is not None and of_key >= most_per_key:
        raise QueueFull(f"{of_key} operations of this key are waiting", code="too_many_operations", retry_after_s=10)
    if asked.kind is OperationKind.REBUILD and rebuilds:
        raise QueueFull("a rebuild of this key is waiting or under way", code="too_many_operations", retry_after_s=10)


async def _check_revision(work: UnitOfWork, number: int, window: int) -> None:
    head, wanted = await work.repository.head(), await work.repository.revision(number)
    if head is None or wanted is None:
        raise NotFound(f"there is no revision {number}", code="revision_not_found")
    if head.number - number > window:
        raise NotReversible(
            f"revision {number} is {head.number - number} revisions back and {window} are kept (ERRATA_ROLLBACK_WINDOW); "
            "POST /rebuild takes out edits of any age",
            code="beyond_window",
        )
    following = await work.repository.revision(number + 1)
    if wanted.kind is RevisionKind.BASE and following is not None and following.kind is RevisionKind.WARMUP:
        raise NotReversible("revision 0 is the model before its warm-up; go back to revision 1", code="before_warmup")


async def following(database: Database) -> tuple[OperationRecord | None, bool]:
    """(the oldest unfinished operation, whether all edits that were accepted before it are done with)."""
    async with database.transaction() as work:
        operation = await work.repository.next_operation()
        if operation is None:
            return None, False
        return operation, not await work.repository.pending_up_to(operation.after_edit)


async def begin(database: Database, lease: Lease, operation_id: int) -> OperationRecord:
    """accepted -> applying, counting the attempt; or failed, when it has ended its worker too often."""
    async with database.transaction() as work:
        await require(work, lease)
        operation = await work.repository.begin_operation(operation_id)
        if operation is None:
            raise LedgerConflict(f"operation {operation_id} is already finished")
        if operation.attempts > MOST_ATTEMPTS:
            detail = f"given up after {MOST_ATTEMPTS} attempts, each of which ended with the worker"
            await work.repository.fail_operation(operation_id, "attempts_exhausted", detail)
            operation = replace(operation, state=OperationState.FAILED)
        await work.commit()
    return operation


async def fail(database: Database, lease: Lease, operation: OperationRecord, code: str, detail: str) -> None:
    async with database.transaction() as work:
        await require(work, lease)
        if not await work.repository.fail_operation(operation.id, code, detail):
            raise LedgerConflict(f"operation {operation.id} is already finished")
        await work.commit()


async def cancel(database: Database, operation_id: int) -> OperationRecord:
    """accepted -> failed, as `cancelled`. Raises NotFound, or NotReversible for what a worker has begun."""
    async with database.transaction() as work:
        cancelled = await work.repository.cancel_operation(operation_id)
        found = await work.repository.operation(operation_id)
        await work.commit()
    if found is None:
        raise NotFound(f"there is no operation {operation_id}", code="operation_not_found")
    if not cancelled:
        raise NotReversible(f"operation {operation_id} is {found.state}: it does not wait any more", code="not_waiting")
    return found


async def forgive(database: Database, lease: Lease, operation_id: int) -> None:
    """Do not count the attempt under way: what interrupted it was not the operation's doing, as the worker lives."""
    async with database.transaction() as work:
        await require(work, lease)
        await work.repository.forgive_operation(operation_id)
        await work.commit()


async def effects_of_rollback(database: Database, to_revision: int, head: int) -> Effects:
    """What becomes of every edit when the state of a revision comes back."""
    async with database.transaction() as work:
        then, now = await work.repository.applied_at(to_revision), await work.repository.applied_at(head)
    return Effects(
        ended=dict.fromkeys(now.keys() - then.keys(), EditEvent.REVERTED),
        restored={edit_id: revision for edit_id, revision in then.items() if now.get(edit_id) != revision},
    )
