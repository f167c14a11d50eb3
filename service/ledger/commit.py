"""The commit point: one transaction in which a revision, its statistics and the states of its edits become true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from service import failpoints
from service.domain.callers import Caller, distinct
from service.domain.edits import Batch, EditEvent, EditState, EventRecord, Failure, Outcome
from service.domain.operations import OperationRecord
from service.domain.revisions import (
    GENESIS_HASH,
    NewRevision,
    Revision,
    content_hash,
    edits_hash,
    events_hash,
    row_hash,
    statistics_hash,
)
from service.errors import LedgerConflict
from service.infra.postgres import Database, UnitOfWork
from service.ledger.lease import Lease, require

_ENDED = {EditEvent.REVERTED: EditState.REVERTED, EditEvent.SUPERSEDED: EditState.SUPERSEDED}


@dataclass(frozen=True, slots=True)
class Effects:
    """What a revision does to edits that are not of its batch.

    ended         by edit id: REVERTED or SUPERSEDED
    restored      by id of an edit that is back as it was: the revision that had taught it
    taught_again  what came of applied edits that stay where they are, and were taught anew
    failures      applied edits that do not hold any more
    """

    ended: Mapping[int, EditEvent] = field(default_factory=dict)
    restored: Mapping[int, int] = field(default_factory=dict)
    taught_again: Sequence[Outcome] = ()
    failures: Sequence[Failure] = ()

    def events(self) -> dict[int, EditEvent]:
        return {
            **self.ended,
            **dict.fromkeys(self.restored, EditEvent.RESTORED),
            **{outcome.edit_id: EditEvent.TAUGHT_AGAIN for outcome in self.taught_again},
            **{failure.edit_id: EditEvent.FAILED for failure in self.failures},
        }


NO_EFFECTS = Effects()


async def commit_revision(
    database: Database,
    lease: Lease,
    new: NewRevision,
    *,
    batch: Batch | None = None,
    outcomes: Sequence[Outcome] = (),
    refused: Sequence[Failure] = (),
    effects: Effects = NO_EFFECTS,
    operation: OperationRecord | None = None,
) -> None:
    """Commit `new` as the child of the present head, its batch's edits as applied, its operation as done.

    refused: edits that were taught with the batch and are not in it. The statistics may have seen them, so that they fail here
    and not before: killed in between, the batch would be taken again without them and give other weights.

    Raises LeaseLost when the epoch is over, LedgerConflict when the head is not new.number - 1 or an edit is no longer
    what it was. Nothing is written then.
    """
    failpoints.hit("commit.before", [record.edit.prompt for record in (batch.edits if batch else ())])
    async with database.transaction() as work:
        await require(work, lease)
        head = await work.repository.head()
        if new.number != (0 if head is None else head.number + 1):
            raise LedgerConflict(f"revision {new.number} cannot follow {'nothing' if head is None else head.number}")
        if sorted(record.id for record in (batch.edits if batch else ())) != sorted(each.edit_id for each in outcomes):
            raise LedgerConflict("the outcomes are not those of the batch")
        if batch is not None and not await work.repository.finish_batch(batch.id, "committed"):
            raise LedgerConflict(f"batch {batch.id} is already finished")
        events = await _events(work, outcomes, effects)
        await _insert(work, lease, new, head, batch, operation, events)
        await _move(work, new.number, batch, outcomes, effects)
        for failure in refused:
            if not await work.repository.mark_failed(failure):
                raise LedgerConflict(f"edit {failure.edit_id} is no longer being applied")
        await work.repository.insert_events(new.number, events)
        if operation is not None and not await work.repository.finish_operation(operation.id, new.number):
            raise LedgerConflict(f"operation {operation.id} is no longer being applied")
        if new.checkpoint is not None:
            await work.repository.insert_checkpoint(new.number, new.checkpoint, new.checkpoint_bytes)
        await work.commit()
    failpoints.hit("commit.after")


async def _events(work: UnitOfWork, outcomes: Sequence[Outcome], effects: Effects) -> list[EventRecord]:
    """Of every edit that the revision does something to, by id."""
    events = {**{each.edit_id: EditEvent.APPLIED for each in outcomes}, **effects.events()}
    known = await work.repository.edits_by_id(sorted(events))
    records = await work.repository.records_taught_at(list(effects.restored.items()))
    taught = {each.edit_id: each for each in (*outcomes, *effects.taught_again)}
    found = []
    for edit_id, event in sorted(events.items()):
        own = content_hash(known[edit_id].content())
        if (outcome := taught.get(edit_id)) is not None:
            came_to = content_hash(outcome.content())
            found.append(
                EventRecord(edit_id, event, content_hash=own, outcome_hash=came_to, record_object=outcome.record_object)
            )
        else:
            taught_at, record = effects.restored.get(edit_id), records.get(edit_id)
            found.append(EventRecord(edit_id, event, content_hash=own, taught_at=taught_at, record_object=record))
    return found


async def _insert(
    work: UnitOfWork,
    lease: Lease,
    new: NewRevision,
    head: Revision | None,
    batch: Batch | None,
    operation: OperationRecord | None,
    events: Sequence[EventRecord],
) -> None:
    """The revision's row, chained to the head's. Its edits are those of its batch, or all that it did something to."""
    edit_ids = sorted(record.id for record in batch.edits) if batch else [each.edit_id for each in events]
    known = {record.id: record for record in batch.edits} if batch else await work.repository.edits_by_id(edit_ids)
    row = Revision(
        number=new.number,
        kind=new.kind,
        batch_id=batch.id if batch else None,
        epoch=lease.epoch,
        update_object=new.update_object,
        statistics_object=new.statistics_object,
        fingerprint=new.fingerprint,
        config_hash=new.config_hash,
        norms=new.norms,
        passes=new.passes,
        rows=new.rows,
        edit_ids=tuple(edit_ids),
        edits_hash=edits_hash((edit_id, known[edit_id].content()) for edit_id in edit_ids),
        previous_hash=GENESIS_HASH if head is None else head.row_hash,
        row_hash="",
        created_at=datetime.now(UTC),
        source=new.source,
        operation_id=operation.id if operation else None,
        actor=operation.asked.actor if operation else None,
        reason=operation.asked.reason if operation else None,
        events_hash=events_hash(events),
        statistics_hash=statistics_hash(new.statistics),
        asked_by=_asked_by(batch, operation),
    )
    await work.repository.insert_revision(replace(row, row_hash=row_hash(row)), new.statistics)


def _asked_by(batch: Batch | None, operation: OperationRecord | None) -> tuple[Caller, ...]:
    if operation is not None:
        return distinct([Caller(operation.asked.key_id, operation.asked.actor)])
    return distinct(record.asked_by for record in batch.edits) if batch else ()


async def _move(work: UnitOfWork, number: int, batch: Batch | None, outcomes: Sequence[Outcome], effects: Effects) -> None:
    """The states of the edits, each from the one it must have been in."""
    for outcome in outcomes:
        assert batch is not None
        if not await work.repository.mark_applied(outcome, batch.id, number):
            raise LedgerConflict(f"edit {outcome.edit_id} is no longer being applied in batch {batch.id}")
    for edit_id, event in effects.ended.items():
        if not await work.repository.mark_ended(edit_id, _ENDED[event], number):
            raise LedgerConflict(f"edit {edit_id} is not applied")
    for outcome in effects.taught_again:
        if not await work.repository.mark_taught_again(outcome, number):
            raise LedgerConflict(f"edit {outcome.edit_id} is not applied")
    for failure in effects.failures:
        unseen = replace(failure, tokens=None)  # the statistics have seen it when it was applied
        if not await work.repository.mark_failed(unseen, EditState.APPLIED):
            raise LedgerConflict(f"edit {failure.edit_id} is not applied")
    if await work.repository.mark_restored(effects.restored) != len(effects.restored):
        raise LedgerConflict("an edit to be restored is applied already")
