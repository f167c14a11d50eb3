"""The writer lease's one row. The database's clock decides."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert

from service.infra.repository.rows import Rows
from service.infra.tables import writer_lease


class LeaseRows(Rows):
    async def acquire_lease(self, holder: str, ttl_s: float) -> int | None:
        """The new epoch, or None while another holder's lease runs. The database's clock decides."""
        expires = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, ttl_s)
        statement = (
            postgres_insert(writer_lease)
            .values(id=1, holder=holder, epoch=1, expires_at=expires)
            .on_conflict_do_update(
                index_elements=["id"],
                set_={"holder": holder, "epoch": writer_lease.c.epoch + 1, "expires_at": expires},
                where=writer_lease.c.expires_at <= func.now(),
            )
            .returning(writer_lease.c.epoch)
        )
        epoch: int | None = (await self._connection.execute(statement)).scalar_one_or_none()
        return epoch

    async def renew_lease(self, holder: str, epoch: int, ttl_s: float) -> bool:
        """False when the lease is no longer this holder's, or has run out."""
        expires = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, ttl_s)
        return await self._change_lease(holder, epoch, expires)

    async def release_lease(self, holder: str, epoch: int) -> bool:
        return await self._change_lease(holder, epoch, func.now())

    async def _change_lease(self, holder: str, epoch: int, expires: Any) -> bool:
        mine = (writer_lease.c.holder == holder) & (writer_lease.c.epoch == epoch) & (writer_lease.c.expires_at > func.now())
        statement = update(writer_lease).where(mine).values(expires_at=expires)
        return (await self._connection.execute(statement)).rowcount == 1

    async def lock_lease(self, holder: str, epoch: int) -> bool:
        """Whether the lease is ours; if so nobody can take it until this transaction ends."""
        mine = (writer_lease.c.holder == holder) & (writer_lease.c.epoch == epoch) & (writer_lease.c.expires_at > func.now())
        statement = select(writer_lease.c.epoch).where(mine).with_for_update()
        return (await self._connection.execute(statement)).scalar_one_or_none() is not None

    async def lease(self) -> tuple[str, int, bool] | None:
        """(holder, epoch, whether it is still running)."""
        statement = select(writer_lease.c.holder, writer_lease.c.epoch, writer_lease.c.expires_at > func.now())
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else (row[0], row[1], row[2])
