"""All SQL about API keys."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import RowMapping, func, insert, select, update

from service.domain.access import ApiKey, Scope
from service.infra.repository.rows import Rows
from service.infra.tables import api_keys


class KeyRows(Rows):
    async def add_key(self, key: ApiKey) -> None:
        values = {name: getattr(key, name) for name in ("id", "name", "secret_hash", "owner", "expires_at")}
        values["scopes"] = [each.value for each in key.scopes]
        await self._connection.execute(insert(api_keys).values(**values))

    async def api_keys(self) -> list[ApiKey]:
        found = await self._connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))
        return [_key(row) for row in found.mappings()]

    async def api_key(self, id: str) -> ApiKey | None:
        row = (await self._connection.execute(select(api_keys).where(api_keys.c.id == id))).mappings().one_or_none()
        return _key(row) if row is not None else None

    async def api_keys_by_id(self, ids: Collection[str]) -> dict[str, ApiKey]:
        found = await self._connection.execute(select(api_keys).where(api_keys.c.id.in_(ids)))
        return {row["id"]: _key(row) for row in found.mappings()}

    async def revoke_key(self, id: str) -> bool:
        """False where there is no such key, or it has been revoked before."""
        statement = update(api_keys).where(api_keys.c.id == id, api_keys.c.revoked_at.is_(None)).values(revoked_at=func.now())
        return bool((await self._connection.execute(statement)).rowcount)


def _key(row: RowMapping) -> ApiKey:
    scopes = tuple(Scope(each) for each in row["scopes"])
    times = {name: row[name] for name in ("created_at", "revoked_at", "expires_at")}
    return ApiKey(row["id"], row["name"], row["secret_hash"], scopes, owner=row["owner"], **times)
