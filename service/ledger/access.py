"""Making, listing, revoking and looking up API keys."""

from __future__ import annotations

from collections.abc import Collection

from service.domain.access import ApiKey, Scope, new_key
from service.errors import NotFound
from service.infra.postgres import Database


async def add_key(database: Database, name: str, scopes: Collection[Scope]) -> tuple[ApiKey, str]:
    """The key and what its owner is shown, once."""
    key, shown = new_key(name, scopes)
    async with database.transaction() as work:
        await work.repository.add_key(key)
        await work.commit()
    return key, shown


async def list_keys(database: Database) -> list[ApiKey]:
    async with database.transaction() as work:
        return await work.repository.api_keys()


async def find_key(database: Database, id: str) -> ApiKey | None:
    async with database.transaction() as work:
        return await work.repository.api_key(id)


async def revoke_key(database: Database, id: str) -> None:
    """Raises NotFound."""
    async with database.transaction() as work:
        if not await work.repository.revoke_key(id):
            raise NotFound(f"there is no key {id} that could be revoked", code="key_not_found")
        await work.commit()
