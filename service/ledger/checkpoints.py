"""Which whole states are kept, and which objects a restart or a rollback within the window may need."""

from __future__ import annotations

from collections.abc import Iterable

from service.domain.revisions import Revision
from service.infra.postgres import Database, UnitOfWork
from service.ledger.lease import Lease, require


async def known(database: Database) -> dict[int, str]:
    """By revision: the object that holds its whole state."""
    async with database.transaction() as work:
        return await work.repository.checkpoints()


async def keep(database: Database, lease: Lease, revision: int, name: str, size_bytes: int) -> None:
    async with database.transaction() as work:
        await require(work, lease)
        await work.repository.insert_checkpoint(revision, name, size_bytes)
        await work.commit()


async def let_go(database: Database, lease: Lease, window: int) -> set[str]:
    """Forget checkpoints that no restart within the window needs; returns the objects that are needed."""
    async with database.transaction() as work:
        await require(work, lease)
        needed, unneeded = await _needed(work, window)
        if unneeded:
            await work.repository.delete_checkpoints(unneeded)
        await work.commit()
    return needed


async def needed(database: Database, window: int) -> set[str]:
    """Objects that a restart, or a rollback within the window, may need."""
    async with database.transaction() as work:
        return (await _needed(work, window))[0]


async def _needed(work: UnitOfWork, window: int) -> tuple[set[str], list[int]]:
    """(names of the objects needed, revisions of checkpoints that are not)."""
    repository = work.repository
    stored, head = await repository.checkpoints(), await repository.head()
    if head is None:
        return set(), []
    begin = max(head.number - window, 0)
    anchor = max((number for number in stored if number <= begin), default=0)
    names = _objects(await repository.revisions_after(-1, limit=2))  # a rebuild begins there
    after = anchor - 1
    while page := await repository.revisions_after(after):
        names |= _objects(page)
        after = page[-1].number
    kept = {number: name for number, name in stored.items() if number >= anchor}
    return names | set(kept.values()), sorted(stored.keys() - kept.keys())


def _objects(revisions: Iterable[Revision]) -> set[str]:
    names = {name for each in revisions for name in (each.update_object, each.statistics_object)}
    return {name for name in names if name is not None}
