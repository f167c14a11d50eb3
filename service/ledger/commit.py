"""The commit point: one transaction in which a revision, its statistics and the states of its edits become true."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from service.domain.edits import Batch, Outcome
from service.domain.revisions import GENESIS_HASH, NewRevision, edits_hash, row_hash
from service.errors import LedgerConflict
from service.infra.postgres import Database
from service.ledger.lease import Lease, require


async def commit_revision(
    database: Database, lease: Lease, new: NewRevision, *, batch: Batch | None = None, outcomes: Sequence[Outcome] = ()
) -> None:
    """Commit `new` as the child of the present head, and its batch's edits as applied.

    Raises LeaseLost when the epoch is over, LedgerConflict when the head is not new.number - 1 or an edit is no longer
    being applied. Nothing is written then.
    """
    async with database.transaction() as work:
        await require(work, lease)
        head = await work.repository.head()
        if new.number != (0 if head is None else head.number + 1):
            raise LedgerConflict(f"revision {new.number} cannot follow {'nothing' if head is None else head.number}")
        records = {record.id: record for record in batch.edits} if batch else {}
        if sorted(records) != sorted(outcome.edit_id for outcome in outcomes):
            raise LedgerConflict("the outcomes are not those of the batch")
        if batch is not None and not await work.repository.finish_batch(batch.id, "committed"):
            raise LedgerConflict(f"batch {batch.id} is already finished")
        edit_ids = sorted(records)
        edits = edits_hash((edit_id, records[edit_id].edit.content()) for edit_id in edit_ids)
        previous = GENESIS_HASH if head is None else head.row_hash
        created_at = datetime.now(UTC)
        batch_id = batch.id if batch else None
        await work.repository.insert_revision(
            new,
            batch_id=batch_id,
            epoch=lease.epoch,
            edit_ids=edit_ids,
            edits_hash=edits,
            previous_hash=previous,
            row_hash=row_hash(
                previous, new, batch_id=batch_id, epoch=lease.epoch, edits=edits, edit_ids=edit_ids, created_at=created_at
            ),
            created_at=created_at,
        )
        if batch is not None:
            for outcome in outcomes:
                if not await work.repository.mark_applied(outcome, batch.id, new.number):
                    raise LedgerConflict(f"edit {outcome.edit_id} is no longer being applied in batch {batch.id}")
        await work.commit()
