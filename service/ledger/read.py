"""Questions to the ledger that change nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.domain.edits import EditRecord, EditState, EventRecord
from service.domain.operations import OperationRecord
from service.domain.revisions import Revision, StatisticsSummary
from service.errors import NotFound
from service.infra.postgres import Database


@dataclass(frozen=True, slots=True)
class LedgerStats:
    """The ledger at a glance."""

    edits_by_state: Mapping[EditState, int]
    oldest_pending_age_s: float
    head: Revision | None
    statistics: tuple[StatisticsSummary, ...]
    lease: tuple[str, int, bool] | None  # holder, epoch, running

    @property
    def queue_depth(self) -> int:
        return self.edits_by_state[EditState.ACCEPTED] + self.edits_by_state[EditState.APPLYING]


@dataclass(frozen=True, slots=True)
class Queue:
    """What is asked for every few seconds: nothing that takes longer the more edits there are."""

    depth: int
    oldest_pending_age_s: float
    head_number: int  # 0 before the first revision


async def queue(database: Database) -> Queue:
    async with database.transaction() as work:
        depth, age_s = await work.repository.pending_summary()
        head = await work.repository.head()
    return Queue(depth, age_s, head.number if head else 0)


async def ping(database: Database) -> None:
    """Raises StorageUnavailable."""
    await database.answers()


async def get_edit(database: Database, edit_id: int, own_key: str | None = None) -> EditRecord:
    """own_key: of a caller that sees its own edits only. Raises NotFound."""
    async with database.transaction() as work:
        record = await work.repository.edit(edit_id)
    if record is None or own_key not in (None, record.asked_by.key_id):
        raise NotFound(f"there is no edit {edit_id}", code="edit_not_found")
    return record


async def history(database: Database, edit_id: int) -> dict[int, EventRecord]:
    """By revision, oldest first: what it did to the edit. Raises NotFound."""
    async with database.transaction() as work:
        if await work.repository.edit(edit_id) is None:
            raise NotFound(f"there is no edit {edit_id}", code="edit_not_found")
        return await work.repository.events_about(edit_id)


async def list_edits(
    database: Database,
    *,
    after: int = 0,
    limit: int = 50,
    state: EditState | None = None,
    revision: int | None = None,
    submission_id: int | None = None,
    key_id: str | None = None,
) -> list[EditRecord]:
    """Oldest first. key_id: of one API key alone."""
    async with database.transaction() as work:
        return await work.repository.list_edits(
            after=after, limit=limit, state=state, revision=revision, submission_id=submission_id, key_id=key_id
        )


async def list_revisions(database: Database, *, before: int | None = None, limit: int = 50) -> list[Revision]:
    """Newest first."""
    async with database.transaction() as work:
        return await work.repository.list_revisions(before=before, limit=limit)


async def revisions_after(database: Database, number: int) -> list[Revision]:
    """Oldest first: what a worker at `number` has yet to apply."""
    found: list[Revision] = []
    async with database.transaction() as work:
        while page := await work.repository.revisions_after(found[-1].number if found else number):
            found += page
    return found


async def accepted_summary(database: Database, up_to: int | None = None) -> tuple[int, float]:
    """(edits waiting to be claimed with ids of at most `up_to`, age of the oldest in seconds)."""
    async with database.transaction() as work:
        return await work.repository.accepted_summary(up_to)


async def stats(database: Database) -> LedgerStats:
    async with database.transaction() as work:
        repository = work.repository
        head = await repository.head()
        return LedgerStats(
            edits_by_state=await repository.count_by_state(),
            oldest_pending_age_s=(await repository.pending_summary())[1],
            head=head,
            statistics=tuple(await repository.statistics_of(head.number)) if head else (),
            lease=await repository.lease(),
        )


async def get_operation(database: Database, operation_id: int, own_key: str | None = None) -> OperationRecord:
    """own_key: of a caller that sees its own operations only. Raises NotFound."""
    async with database.transaction() as work:
        found = await work.repository.operation(operation_id)
    if found is None or own_key not in (None, found.asked.key_id):
        raise NotFound(f"there is no operation {operation_id}", code="operation_not_found")
    return found


async def list_operations(
    database: Database, *, before: int | None = None, limit: int = 50, key_id: str | None = None
) -> list[OperationRecord]:
    """Newest first. key_id: of one API key alone."""
    async with database.transaction() as work:
        return await work.repository.list_operations(before=before, limit=limit, key_id=key_id)


async def get_revision(database: Database, number: int) -> Revision:
    """Raises NotFound."""
    async with database.transaction() as work:
        found = await work.repository.revision(number)
    if found is None:
        raise NotFound(f"there is no revision {number}", code="revision_not_found")
    return found


async def head(database: Database) -> Revision | None:
    async with database.transaction() as work:
        return await work.repository.head()


async def newest_to_come(database: Database) -> int:
    """Number of the head, or of the revision after it where edits or operations are waiting to become one."""
    async with database.transaction() as work:
        waiting = await work.repository.pending_count() or await work.repository.next_operation()
        head = await work.repository.head()  # after it: what is committed between the two must not be missed
    return (head.number if head else 0) + (1 if waiting else 0)


async def checkpoints(database: Database) -> dict[int, str]:
    """By revision: the object that holds its whole state."""
    async with database.transaction() as work:
        return await work.repository.checkpoints()


async def applied_at(database: Database, revision: int) -> dict[int, int]:
    """By id of every edit that is in the weights at a revision: the revision that taught it as it is there."""
    async with database.transaction() as work:
        return await work.repository.applied_at(revision)


async def records_at(database: Database, revision: int) -> dict[int, str]:
    """By id of every edit that is in the weights at a revision with a record of its own: the object that holds it."""
    async with database.transaction() as work:
        return await work.repository.records_at(revision)


async def records_changed(database: Database, after: int, up_to: int) -> dict[int, str | None]:
    """By id of every edit that revisions above `after` did something to: its record in force at `up_to`, or None."""
    async with database.transaction() as work:
        return await work.repository.records_changed(after, up_to)


async def records_before(database: Database, revision: int, edit_ids: Sequence[int]) -> dict[int, str | None]:
    """By id of each of these edits: its record in force at a revision, or None."""
    async with database.transaction() as work:
        return await work.repository.records_before(revision, edit_ids)


async def first_taught(database: Database) -> dict[int, int]:
    """By id of every edit that was ever in the weights: the revision that brought it there first."""
    async with database.transaction() as work:
        return await work.repository.first_taught()


async def applied_with_prompts(database: Database, prompts: Sequence[str]) -> list[EditRecord]:
    """Applied edits that ask the same as one of these prompts."""
    async with database.transaction() as work:
        return await work.repository.applied_with_prompts(prompts)


async def edits_by_id(database: Database, edit_ids: Sequence[int]) -> dict[int, EditRecord]:
    async with database.transaction() as work:
        return await work.repository.edits_by_id(edit_ids)
