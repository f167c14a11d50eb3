"""The writer lease: which one worker may write, and since which epoch. The database's clock decides."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from service.errors import LeaseLost
from service.infra.postgres import Database, UnitOfWork

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Lease:
    """Held by `holder` since `epoch`, until it runs out or another takes it."""

    holder: str
    epoch: int
    ttl_s: float


async def acquire(database: Database, holder: str, ttl_s: float) -> Lease | None:
    """The lease under a new epoch, or None while somebody else's runs.

    A worker that was stopped in the middle of a transaction, or whose host is gone, does not keep a lease that has run out.
    """
    async with database.transaction() as work:
        if ended := await work.repository.end_stopped_holder(ttl_s):
            log.warning("a worker that had stopped kept the lease's row; its session was ended", sessions=ended)
        epoch = await work.repository.acquire_lease(holder, ttl_s)
        await work.commit()
    return None if epoch is None else Lease(holder, epoch, ttl_s)


async def renew(database: Database, lease: Lease) -> None:
    """Raises LeaseLost when it ran out or was taken."""
    async with database.transaction() as work:
        if not await work.repository.renew_lease(lease.holder, lease.epoch, lease.ttl_s):
            raise LeaseLost(f"epoch {lease.epoch} is over: the lease ran out or another worker took it")
        await work.commit()


async def release(database: Database, lease: Lease) -> None:
    """Let the next worker begin at once. Says nothing when the lease was lost already."""
    async with database.transaction() as work:
        await work.repository.release_lease(lease.holder, lease.epoch)
        await work.commit()


async def require(work: UnitOfWork, lease: Lease) -> None:
    """Hold the lease's row until this transaction ends. Raises LeaseLost."""
    if not await work.repository.lock_lease(lease.holder, lease.epoch):
        raise LeaseLost(f"epoch {lease.epoch} is over: the lease ran out or another worker took it")
