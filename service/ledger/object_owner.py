"""An object folder belongs to one ledger: another that removed what it does not need would remove the first one's objects.

A restored backup is another ledger. A copy of the database by other means (pg_dump, a template) is the same one.
"""

from __future__ import annotations

import asyncio
import uuid

from service.infra.objects import ObjectStore
from service.infra.postgres import Database


async def claim(database: Database, objects: ObjectStore) -> None:
    """Before objects are written: make the folder this ledger's, unless it is another's.

    Raises ForeignObjects, ObjectsUnavailable or StorageUnavailable.
    """
    await asyncio.to_thread(objects.claim, await _own_identity(database))


async def check(database: Database, objects: ObjectStore) -> None:
    """Before objects are read. Raises ForeignObjects when the folder is another ledger's; one that is nobody's will do."""
    async with database.transaction() as work:
        identity = await work.repository.identity()
    if identity is not None:
        await asyncio.to_thread(objects.require_owner, identity)


async def _own_identity(database: Database) -> str:
    async with database.transaction() as work:
        identity = await work.repository.identity()
        if identity is None:
            await work.repository.insert_identity(uuid.uuid4().hex)
            await work.commit()
    if identity is not None:
        return identity
    async with database.transaction() as work:
        identity = await work.repository.identity()  # ours, or that of another process that was quicker
    assert identity is not None
    return identity
