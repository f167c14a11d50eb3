"""The writer lease's one row. The database's clock decides."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert

from service.infra.repository.rows import Rows
from service.infra.tables import writer_lease

# Whoever locks a row or has changed it, and has not ended its transaction, is in its xmax.
STOPPED_HOLDERS = """
    SELECT pg_terminate_backend(pid) FROM writer_lease
    JOIN pg_locks ON locktype = 'transactionid' AND transactionid = writer_lease.xmax AND granted
    JOIN pg_stat_activity USING (pid)
    WHERE expires_at <= now() AND state_change <= now() - make_interval(secs => :ttl_s)
        AND application_name = 'errata-worker' AND pid <> pg_backend_pid()
"""


class LeaseRows(Rows):
    async def acquire_lease(self, holder: str, ttl_s: float) -> int | None:
        """The new epoch, or None while another holder's lease runs or its row is locked. The database's clock decides."""
        expires = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, ttl_s)
        free = select(writer_lease.c.id).where(writer_lease.c.expires_at <= func.now()).with_for_update(skip_locked=True)
        taken = (
            update(writer_lease)
            .where(writer_lease.c.id.in_(free.scalar_subquery()))
            .values(holder=holder, epoch=writer_lease.c.epoch + 1, expires_at=expires)
            .returning(writer_lease.c.epoch)
        )
        epoch: int | None = (await self._connection.execute(taken)).scalar_one_or_none()
        if epoch is None and await self.lease() is None:
            first = postgres_insert(writer_lease).values(id=1, holder=holder, epoch=1, expires_at=expires)
            made = first.on_conflict_do_nothing().returning(writer_lease.c.epoch)
            epoch = (await self._connection.execute(made)).scalar_one_or_none()
        return epoch

    async def end_stopped_holder(self, ttl_s: float) -> int:
        """End sessions of workers that keep the row of a lease that has run out locked, and have done nothing for ttl_s.

        Returns how many there were. What their transactions wrote is rolled back.
        """
        found = await self._connection.execute(text(STOPPED_HOLDERS), {"ttl_s": ttl_s})
        return len(found.all())

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
