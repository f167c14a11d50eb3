"""A worker that was stopped in the middle of a transaction does not keep the lease beyond its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from service.bootstrap import Resources, build
from service.errors import StorageUnavailable
from service.infra.postgres import UnitOfWork
from service.ledger import lease, read
from service.ledger.lease import Lease
from service.settings import Settings

TTL_S, LONG_S = 1.0, 60.0
T = TypeVar("T")


@pytest.fixture
async def stopped(settings: Settings) -> AsyncIterator[Resources]:
    built = build(settings, "worker")
    yield built
    await built.close()


@asynccontextmanager
async def in_the_middle_of_a_commit(resources: Resources) -> AsyncIterator[tuple[UnitOfWork, Lease]]:
    """The holder of the lease, with its row locked and something written."""
    held = await lease.acquire(resources.database, "stopped", TTL_S)
    assert held is not None
    async with resources.database.transaction() as work:
        await lease.require(work, held)
        await work.repository.insert_batch(held.epoch)
        yield work, held


async def until(happened: Callable[[], Awaitable[T | None]]) -> T:
    """What it returns in the end. Below the time that a statement may wait for a lock."""
    async with asyncio.timeout(15):
        while True:
            if found := await happened():
                return found
            await asyncio.sleep(0.05)


async def test_the_lease_is_taken_over_and_what_the_stopped_one_wrote_is_not_there(
    resources: Resources, stopped: Resources
) -> None:
    async def take_over() -> None:
        async with in_the_middle_of_a_commit(stopped) as (work, old):
            new = await until(lambda: lease.acquire(resources.database, "next", TTL_S))
            assert new.epoch == old.epoch + 1
            await work.commit()

    with pytest.raises(StorageUnavailable):
        await take_over()
    async with resources.database.transaction() as work:
        assert await work.repository.interrupted_batches(100) == []


async def test_a_holder_that_still_does_something_and_who_is_no_worker_are_left_alone(
    settings: Settings, resources: Resources, stopped: Resources
) -> None:
    async def has_run_out() -> bool:
        found = (await read.stats(resources.database)).lease
        return found is not None and not found[2]

    async with in_the_middle_of_a_commit(stopped) as (work, _):
        await until(has_run_out)
        await work.repository.head()
        assert await lease.acquire(resources.database, "next", LONG_S) is None
        await work.commit()
    restoring = build(settings, "restore")
    async with restoring.database.transaction() as work:
        await work.repository.clear_lease()
        await until(has_run_out)
        assert await lease.acquire(resources.database, "next", 0.001) is None
        await work.commit()
    await restoring.close()
