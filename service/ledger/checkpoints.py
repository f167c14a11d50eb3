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
        anchor, stored = await _anchor(work, window)
        if unneeded := sorted(number for number in stored if number < anchor):
            await work.repository.delete_checkpoints(unneeded)
        needed = await uses(work, window)
        await work.commit()
    return set(needed)


async def uses(work: UnitOfWork, window: int) -> dict[str, str]:
    """By name of an object that a restart, or a rollback within the window, may need: what it is."""
    anchor, stored = await _anchor(work, window)
    needed = _objects(await work.repository.revisions_after(-1, limit=2))  # a rebuild begins there
    after = anchor - 1
    while page := await work.repository.revisions_after(after):
        needed |= _objects(page)
        after = page[-1].number
    needed |= {name: f"checkpoint of revision {number}" for number, name in stored.items() if number >= anchor}
    records = await work.repository.needed_records(anchor)
    return needed | {name: f"record of edit {edit_id}" for name, edit_id in records.items()}


async def _anchor(work: UnitOfWork, window: int) -> tuple[int, dict[int, str]]:
    """(the newest checkpoint at or before the window's beginning, or 0; all checkpoints by revision)."""
    stored, head = await work.repository.checkpoints(), await work.repository.head()
    begin = max((head.number if head else 0) - window, 0)
    return max((number for number in stored if number <= begin), default=0), stored


def _objects(revisions: Iterable[Revision]) -> dict[str, str]:
    found = {}
    for each in revisions:
        for name, what in ((each.update_object, "update"), (each.statistics_object, "statistics")):
            if name is not None:
                found[name] = f"{what} of revision {each.number}"
    return found
