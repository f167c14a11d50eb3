"""Taking edits together, giving them up, and taking an interrupted batch again: as it was, or halved when it ends workers.

A worker that dies says little of the edit that it was at: it may have been killed. Only an edit that is alone in its batch
fails for it, and only after many tries, between which it is set aside longer and longer while others go first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from service.domain.edits import Batch, EditRecord, EditState, Failure, same_prompt
from service.errors import LedgerConflict
from service.infra.postgres import Database, UnitOfWork
from service.ledger.lease import Lease, require

TRIES_TOGETHER = 2  # of a batch that ends its worker, before it is halved
LONGEST_ASIDE_S = 60.0
BATCH_BYTES = 16_384  # of texts: an edit with forty long ones takes the time of fifty without


async def claim(database: Database, lease: Lease, size: int, up_to: int | None = None) -> Batch | None:
    """Accepted edits, at most `size`, with ids of at most `up_to`: accepted -> applying. None when there are none.

    Each API key's in the order in which they were accepted; the keys take turns.
    """
    async with database.transaction() as work:
        await require(work, lease)
        wanted = in_turns(await work.repository.accepted_by_key(size, up_to), size)
        if not wanted:
            return None
        batch_id = await work.repository.insert_batch(lease.epoch)
        edits = await work.repository.claim([record.id for record in wanted], batch_id)
        await work.commit()
    return Batch(batch_id, tuple(edits))


def in_turns(waiting: Mapping[str, Sequence[EditRecord]], size: int) -> list[EditRecord]:
    """One edit of each key after the other, at most `size`, and no more once their texts have BATCH_BYTES; whose oldest edit is
    oldest goes first.

    waiting: by key, oldest first. A key's turns end before a prompt that the batch has already: two targets for one prompt
    cannot both hold, and the later one is to have the last word.
    """
    seen: set[str] = set()
    wanted: list[EditRecord] = []
    queues = [deque(each) for each in sorted(waiting.values(), key=lambda each: each[0].id if each else 0)]
    left = BATCH_BYTES
    while queues and len(wanted) < size:
        going = []
        for queue in queues[: size - len(wanted)]:
            if queue and left > 0 and (prompt := same_prompt(queue[0].edit.prompt)) not in seen:
                seen.add(prompt)
                wanted.append(queue.popleft())
                left -= wanted[-1].edit.bytes
                going.append(queue)
        queues = going
    return wanted


async def take_over_interrupted(database: Database, lease: Lease, max_tries: int, survived: Container[int] = ()) -> list[Batch]:
    """Batches that an earlier epoch left half done, with the same edits, under this epoch, oldest first.

    One that has ended its worker twice is halved, until the edit that does so is alone; that one fails after max_tries.
    survived: batches that were interrupted while their worker lived on, which is not held against them.
    """
    taken: list[Batch] = []
    async with database.transaction() as work:
        await require(work, lease)
        for batch_id, counted in await work.repository.interrupted_batches(lease.epoch):
            tries = counted - 1 if batch_id in survived else counted
            await work.repository.readopt_batch(batch_id, lease.epoch, tries)
            edits = [each for each in await work.repository.edits_of_batch(batch_id) if each.state is EditState.APPLYING]
            batch = Batch(batch_id, tuple(edits), tries)
            if not edits:
                await _finish(work, batch, "failed")
            elif len(edits) > 1 and tries >= TRIES_TOGETHER:
                taken += await _halve(work, lease, batch, tries=1)
            elif len(edits) == 1 and tries >= max_tries:
                detail = (
                    f"given up after {tries} tries, each of which ended with the worker; "
                    "POST /edits/{id}/retry takes it up again"
                )
                await work.repository.mark_failed(Failure(edits[0].id, "attempts_exhausted", detail))
                await _finish(work, batch, "failed")
            else:
                taken.append(batch)
        await work.commit()
    return taken


async def begin(database: Database, lease: Lease, batch: Batch) -> Batch:
    """Count another try, before anything of it could end the worker."""
    async with database.transaction() as work:
        await require(work, lease)
        edits = await work.repository.begin_batch(batch.id)
        await work.commit()
    return Batch(batch.id, tuple(edits), batch.tries + 1)


def set_aside_s(batch: Batch) -> float:
    """How long an interrupted batch is left alone: nothing at first, then twice as long after every death of its worker."""
    return min(2.0 ** (batch.tries - 1), LONGEST_ASIDE_S) if len(batch.edits) == 1 and batch.tries > 1 else 0.0


async def split(database: Database, lease: Lease, batch: Batch) -> tuple[Batch, Batch]:
    """Two batches of half the edits each, in place of one that could not be applied as a whole."""
    async with database.transaction() as work:
        await require(work, lease)
        made = await _halve(work, lease, batch, tries=0)
        await work.commit()
    return made


async def _halve(work: UnitOfWork, lease: Lease, batch: Batch, tries: int) -> tuple[Batch, Batch]:
    middle = len(batch.edits) // 2
    halves = (batch.edits[:middle], batch.edits[middle:])
    one, other = [Batch(await work.repository.insert_batch(lease.epoch, tries), half, tries) for half in halves]
    for half in (one, other):
        moved = await work.repository.move_to_batch([record.id for record in half.edits], batch.id, half.id)
        if moved != len(half.edits):
            raise LedgerConflict(f"batch {batch.id}: {moved} of {len(half.edits)} edits could be moved")
    await _finish(work, batch, "split")
    return one, other


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
    return replace(batch, edits=left) if left else None


async def _finish(work: UnitOfWork, batch: Batch, state: str) -> None:
    if not await work.repository.finish_batch(batch.id, state):
        raise LedgerConflict(f"batch {batch.id} is already finished")
