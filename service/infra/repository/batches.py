"""Batches: edits taken together."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, insert, select, update

from service.domain.edits import EditRecord, EditState
from service.infra.repository.edits import edit_of
from service.infra.repository.rows import Rows
from service.infra.tables import batches, edits


class BatchRows(Rows):
    async def insert_batch(self, epoch: int, tries: int = 1) -> int:
        statement = insert(batches).values(state="applying", epoch=epoch, tries=tries).returning(batches.c.id)
        created: int = (await self._connection.execute(statement)).scalar_one()
        return created

    async def interrupted_batches(self, epoch: int) -> list[tuple[int, int]]:
        """(id, tries) of batches that an earlier epoch left unfinished, oldest first."""
        statement = select(batches.c.id, batches.c.tries).where(batches.c.state == "applying", batches.c.epoch < epoch)
        return [(row.id, row.tries) for row in await self._connection.execute(statement.order_by(batches.c.id))]

    async def readopt_batch(self, batch_id: int, epoch: int, tries: int) -> None:
        statement = update(batches).where(batches.c.id == batch_id, batches.c.state == "applying")
        await self._connection.execute(statement.values(epoch=epoch, tries=tries))

    async def begin_batch(self, batch_id: int) -> list[EditRecord]:
        """Count another try of the batch, and another attempt of its edits."""
        await self._connection.execute(update(batches).where(batches.c.id == batch_id).values(tries=batches.c.tries + 1))
        statement = (
            update(edits)
            .where(edits.c.batch_id == batch_id, edits.c.state == EditState.APPLYING.value)
            .values(attempts=edits.c.attempts + 1)
            .returning(edits)
        )
        found = [edit_of(row) for row in (await self._connection.execute(statement)).mappings()]
        return sorted(found, key=lambda record: record.id)

    async def finish_batch(self, batch_id: int, state: str) -> bool:
        statement = update(batches).where(batches.c.id == batch_id, batches.c.state == "applying")
        return await self._changed(statement.values(state=state, finished_at=func.now())) == 1

    async def edits_of_batch(self, batch_id: int) -> list[EditRecord]:
        """All that were in it at its end, whatever they are now, oldest first."""
        statement = select(edits).where(edits.c.batch_id == batch_id).order_by(edits.c.id)
        return [edit_of(row) for row in (await self._connection.execute(statement)).mappings()]

    async def claim(self, edit_ids: Sequence[int], batch_id: int) -> list[EditRecord]:
        """accepted -> applying."""
        statement = (
            update(edits)
            .where(edits.c.id.in_(edit_ids), edits.c.state == EditState.ACCEPTED.value)
            .values(state=EditState.APPLYING.value, batch_id=batch_id, attempts=edits.c.attempts + 1)
            .returning(edits)
        )
        found = [edit_of(row) for row in (await self._connection.execute(statement)).mappings()]
        return sorted(found, key=lambda record: record.id)

    async def move_to_batch(self, edit_ids: Sequence[int], from_batch: int, to_batch: int) -> int:
        statement = (
            update(edits)
            .where(edits.c.id.in_(edit_ids), edits.c.batch_id == from_batch, edits.c.state == EditState.APPLYING.value)
            .values(batch_id=to_batch)
        )
        return await self._changed(statement)
