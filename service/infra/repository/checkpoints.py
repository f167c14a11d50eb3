"""Which whole states are stored."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert

from service.infra.repository.rows import Rows
from service.infra.tables import checkpoints


class CheckpointRows(Rows):
    async def insert_checkpoint(self, revision: int, name: str, size_bytes: int) -> None:
        """In the place of one that is there already."""
        values = {"object": name, "bytes": size_bytes}
        statement = postgres_insert(checkpoints).values(revision=revision, **values)
        await self._connection.execute(statement.on_conflict_do_update(index_elements=["revision"], set_=values))

    async def checkpoints(self) -> dict[int, str]:
        """By revision: the object's name."""
        statement = select(checkpoints.c.revision, checkpoints.c.object)
        return {row.revision: row.object for row in await self._connection.execute(statement)}

    async def delete_checkpoints(self, revisions: Sequence[int]) -> None:
        await self._connection.execute(delete(checkpoints).where(checkpoints.c.revision.in_(revisions)))
