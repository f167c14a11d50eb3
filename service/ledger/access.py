"""Making, listing, revoking and looking up API keys."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from service.domain.access import ApiKey, Scope, new_key
from service.errors import NotFound
from service.infra.postgres import Database


async def add_key(
    database: Database, name: str, scopes: Collection[Scope], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """The key and what its owner is shown, once."""
    key, shown = new_key(name, scopes, expires_at)
    async with database.transaction() as work:
        await work.repository.add_key(key)
        await work.commit()
    return key, shown


async def rotate_key(database: Database, id: str, expires_at: datetime | None = None) -> tuple[ApiKey, str]:
    """A key in the place of another, with its name, its scopes and its facts. The other goes on until it is revoked.

    Raises NotFound.
    """
    async with database.transaction() as work:
        old = await work.repository.api_key(id)
        if old is None or old.revoked_at is not None:
            raise NotFound(f"there is no key {id} that another could take the place of", code="key_not_found")
        key, shown = new_key(old.name, old.scopes, expires_at, old.owner)
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
