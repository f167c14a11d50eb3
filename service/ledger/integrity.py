"""Is everything as it must be? Questions to the ledger alone; nothing is changed."""

from __future__ import annotations

from service.infra.postgres import Database
from service.infra.repository.integrity import INVARIANTS


async def violations(database: Database) -> dict[str, tuple[int, list[str]]]:
    """By standing invariant: (how often it is broken, the first few in words). All in one snapshot."""
    async with database.snapshot() as work:
        return {name: await work.repository.violations(name) for name in INVARIANTS}


async def missing_triggers(database: Database) -> list[str]:
    """Triggers that refuse changes to history, and are not there or switched off."""
    async with database.transaction() as work:
        return await work.repository.missing_triggers()
