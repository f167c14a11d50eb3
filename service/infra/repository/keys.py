"""All SQL about API keys."""

from __future__ import annotations

from sqlalchemy import RowMapping, func, insert, select, update

from service.domain.access import ApiKey, Scope
from service.infra.repository.rows import Rows
from service.infra.tables import api_keys


class KeyRows(Rows):
    async def add_key(self, key: ApiKey) -> None:
        values = {"id": key.id, "name": key.name, "secret_hash": key.secret_hash, "scopes": [each.value for each in key.scopes]}
        await self._connection.execute(insert(api_keys).values(**values))

    async def api_keys(self) -> list[ApiKey]:
        found = await self._connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))
        return [_key(row) for row in found.mappings()]

    async def api_key(self, id: str) -> ApiKey | None:
        row = (await self._connection.execute(select(api_keys).where(api_keys.c.id == id))).mappings().one_or_none()
        return _key(row) if row is not None else None

    async def revoke_key(self, id: str) -> bool:
        """False where there is no such key, or it has been revoked before."""
        statement = update(api_keys).where(api_keys.c.id == id, api_keys.c.revoked_at.is_(None)).values(revoked_at=func.now())
        return bool((await self._connection.execute(statement)).rowcount)


def _key(row: RowMapping) -> ApiKey:
    scopes = tuple(Scope(each) for each in row["scopes"])
    return ApiKey(row["id"], row["name"], row["secret_hash"], scopes, row["created_at"], row["revoked_at"])
