"""The ledger's identity: one row, made at first use and never changed."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as postgres_insert

from service.infra.repository.rows import Rows
from service.infra.tables import ledger_identity


class IdentityRows(Rows):
    async def identity(self) -> str | None:
        found: str | None = (await self._connection.execute(select(ledger_identity.c.identity))).scalar_one_or_none()
        return found

    async def insert_identity(self, identity: str) -> None:
        """Unless there is one."""
        await self._connection.execute(
            postgres_insert(ledger_identity).values(id=1, identity=identity).on_conflict_do_nothing()
        )
