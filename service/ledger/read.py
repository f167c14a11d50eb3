"""Questions to the ledger that change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.domain.edits import EditRecord, EditState
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


async def ping(database: Database) -> None:
    """Raises StorageUnavailable."""
    async with database.transaction() as work:
        await work.repository.ping()


async def get_edit(database: Database, edit_id: int) -> EditRecord:
    """Raises NotFound."""
    async with database.transaction() as work:
        record = await work.repository.edit(edit_id)
    if record is None:
        raise NotFound(f"there is no edit {edit_id}", code="edit_not_found")
    return record


async def list_edits(
    database: Database,
    *,
    after: int = 0,
    limit: int = 50,
    state: EditState | None = None,
    revision: int | None = None,
    submission_id: int | None = None,
) -> list[EditRecord]:
    async with database.transaction() as work:
        return await work.repository.list_edits(
            after=after, limit=limit, state=state, revision=revision, submission_id=submission_id
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


async def accepted_summary(database: Database) -> tuple[int, float]:
    """(edits waiting to be claimed, age of the oldest in seconds)."""
    async with database.transaction() as work:
        return await work.repository.accepted_summary()


async def stats(database: Database) -> LedgerStats:
    async with database.transaction() as work:
        repository = work.repository
        head = await repository.head()
        return LedgerStats(
            edits_by_state=await repository.count_by_state(),
            oldest_pending_age_s=await repository.oldest_pending_age_s(),
            head=head,
            statistics=tuple(await repository.statistics_of(head.number)) if head else (),
            lease=await repository.lease(),
        )
