"""Taking edits together, giving them up, and taking an interrupted batch again as it was."""

from __future__ import annotations

from collections.abc import Sequence

from service.domain.edits import Batch, EditRecord, Failure
from service.errors import LedgerConflict
from service.infra.postgres import Database, UnitOfWork
from service.ledger.lease import Lease, require


async def claim(database: Database, lease: Lease, size: int) -> Batch | None:
    """The oldest accepted edits, at most `size`: accepted -> applying. None when there are none.

    A batch ends before a prompt that it already has: two targets for one prompt cannot both hold, and the later one is
    to have the last word.
    """
    async with database.transaction() as work:
        await require(work, lease)
        wanted = _until_a_prompt_repeats(await work.repository.accepted(size))
        if not wanted:
            return None
        batch_id = await work.repository.insert_batch(lease.epoch)
        edits = await work.repository.claim([record.id for record in wanted], batch_id)
        await work.commit()
    return Batch(batch_id, tuple(edits))


def _until_a_prompt_repeats(edits: Sequence[EditRecord]) -> list[EditRecord]:
    seen: set[str] = set()
    wanted: list[EditRecord] = []
    for record in edits:
        prompt = " ".join(record.edit.prompt.split()).casefold()
        if prompt in seen:
            break
        seen.add(prompt)
        wanted.append(record)
    return wanted


async def take_over_interrupted(database: Database, lease: Lease, max_attempts: int) -> list[Batch]:
    """Batches that an earlier epoch left half done, with the same edits, under this epoch.

    Edits that have been claimed max_attempts times fail: something about them may be what stops the worker.
    """
    taken: list[Batch] = []
    async with database.transaction() as work:
        await require(work, lease)
        for batch_id in await work.repository.interrupted_batches(lease.epoch):
            await work.repository.readopt_batch(batch_id, lease.epoch)
            edits = await work.repository.claim_again(batch_id)
            exhausted = [record for record in edits if record.attempts > max_attempts]
            for record in exhausted:
                detail = f"given up after {max_attempts} attempts, each of which ended with the worker"
                await work.repository.mark_failed(Failure(record.id, "attempts_exhausted", detail))
            left = tuple(record for record in edits if record not in exhausted)
            if left:
                taken.append(Batch(batch_id, left))
            else:
                await work.repository.finish_batch(batch_id, "failed")
        await work.commit()
    return taken


async def split(database: Database, lease: Lease, batch: Batch) -> tuple[Batch, Batch]:
    """Two batches of half the edits each, in place of one that could not be applied as a whole."""
    middle = len(batch.edits) // 2
    halves = (batch.edits[:middle], batch.edits[middle:])
    async with database.transaction() as work:
        await require(work, lease)
        made = [Batch(await work.repository.insert_batch(lease.epoch), half) for half in halves]
        for half in made:
            moved = await work.repository.move_to_batch([record.id for record in half.edits], batch.id, half.id)
            if moved != len(half.edits):
                raise LedgerConflict(f"batch {batch.id}: {moved} of {len(half.edits)} edits could be moved")
        await _finish(work, batch, "split")
        await work.commit()
    return made[0], made[1]


async def fail(database: Database, lease: Lease, batch: Batch, failures: Sequence[Failure]) -> Batch | None:
    """Mark these edits failed; the rest of the batch, or None when nothing is left of it."""
    failed = {failure.edit_id for failure in failures}
    left = tuple(record for record in batch.edits if record.id not in failed)
    async with database.transaction() as work:
        await require(work, lease)
        for failure in failures:
            if not await work.repository.mark_failed(failure):
                raise LedgerConflict(f"edit {failure.edit_id} is no longer being applied")
        if not left:
            await _finish(work, batch, "failed")
        await work.commit()
    return Batch(batch.id, left) if left else None


async def _finish(work: UnitOfWork, batch: Batch, state: str) -> None:
    if not await work.repository.finish_batch(batch.id, state):
        raise LedgerConflict(f"batch {batch.id} is already finished")
