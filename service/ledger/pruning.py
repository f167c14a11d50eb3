"""Removing objects that no restart and no rollback within the window needs."""

from __future__ import annotations

import asyncio

from service.infra.objects import ObjectStore
from service.infra.postgres import Database
from service.ledger import object_owner
from service.ledger.checkpoints import let_go, uses
from service.ledger.lease import Lease, require

REMOVED_TOGETHER = 200  # files; the lease is held meanwhile, and cannot be renewed


async def prune(database: Database, lease: Lease, objects: ObjectStore, window: int, grace_s: float) -> tuple[int, int]:
    """Returns (files removed, their bytes). What has come to be needed since the folder was looked through is kept.

    Raises ForeignObjects, LeaseLost, ObjectsUnavailable or StorageUnavailable.
    """
    found = await asyncio.to_thread(objects.unneeded, await let_go(database, lease, window), grace_s)
    removed = freed = 0
    for start in range(0, len(found), REMOVED_TOGETHER):
        await object_owner.claim(database, objects)
        async with database.transaction() as work:
            await require(work, lease)  # nobody else commits until these are gone
            needed = await uses(work, window)
            some = [file for file in found[start : start + REMOVED_TOGETHER] if file.name not in needed]
            count, size = await asyncio.to_thread(objects.remove, some, grace_s)
        removed, freed = removed + count, freed + size
    return removed, freed
