"""The writer: holds the lease, and takes batches and operations from the ledger in the order in which they were accepted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import structlog

from service import failpoints, metrics
from service.bootstrap import Resources
from service.domain.edits import Batch
from service.errors import LeaseLost, NotReversible, StorageUnavailable
from service.infra.listening import keep_running
from service.infra.objects import ObjectStore
from service.ledger import batches, lease, operations, read
from service.ledger.lease import Lease
from service.worker.model_thread import ModelThread
from service.worker.modes import Resident, applying_for, restorer_for, taking_back_for
from service.worker.resident import ResidentModel
from service.worker.scoped.beginning import begin_ledger as begin_scoped_ledger
from service.worker.scoped.beginning import follow_or_take_over
from service.worker.scoped.restore import ScopedRestorer
from service.worker.scoped.taking_back import ScopedTakingBack
from service.worker.upkeep import Upkeep
from service.worker.warmup import begin_ledger, warm_up

log = structlog.get_logger()
BELL_BLOCK_MS = 1000
STORE_WAIT_S, LONGEST_STORE_WAIT_S = 1.0, 30.0


class Writer:
    """Writes for as long as it holds the lease; otherwise waits for it. `on_revision` is called after each change."""

    def __init__(
        self,
        name: str,
        resident: Resident,
        thread: ModelThread,
        resources: Resources,
        objects: ObjectStore,
        progress: Callable[[str], None],
        on_revision: Callable[[], None],
    ) -> None:
        self.name = name
        self.lease: Lease | None = None
        self._resident, self._thread, self._objects = resident, thread, objects
        self._resources, self._database, self._settings = resources, resources.database, resources.settings
        self._progress, self._on_revision = progress, on_revision
        self._set_aside: list[tuple[float, Batch]] = []  # interrupted batches, each with the time at which it is taken again
        self._bell = asyncio.Event()
        self._draining = asyncio.Event()
        self._store_wait_s = STORE_WAIT_S
        self._restorer = restorer_for(resident, thread, self._database, objects, progress)
        self._applying = applying_for(resident, thread, resources, objects, on_revision)
        self._taking_back = taking_back_for(resident, thread, resources, objects, progress, on_revision)
        self.upkeep = Upkeep(resident, thread, self._database, objects, self._settings)

    def drain(self) -> None:
        """Finish the batch under way, take no other."""
        self._draining.set()
        self._bell.set()

    async def run(self) -> None:
        """Until drained. A lost lease or an unreachable store is survived; a damaged ledger is not."""
        listening = asyncio.create_task(keep_running("hearing the doorbell", self._listen))
        try:
            while not self._draining.is_set():
                try:
                    await self._take_a_turn()
                except LeaseLost as error:
                    log.warning("lease lost", detail=error.detail)
                except StorageUnavailable as error:
                    log.warning("store unavailable", detail=error.detail)
                    metrics.STORE_UNAVAILABLE.inc()
                    self._progress(f"waiting for a store: {error.detail}")
                    await self._pause(self._store_wait_s)
                    self._store_wait_s = min(2 * self._store_wait_s, LONGEST_STORE_WAIT_S)
        finally:
            listening.cancel()

    async def _take_a_turn(self) -> None:
        """One spell of writing: from getting the lease to losing it or being drained."""
        held = await lease.acquire(self._database, self.name, self._settings.lease_ttl_s)
        if held is None:
            await self._follow_others()
            self._store_is_back()
            await self._pause(self._settings.lease_ttl_s / 5)
            return
        log.info("lease acquired", epoch=held.epoch)
        async with self._renewing(held):
            await self._begin(held)
            self._on_revision()
            await self._take_up_interrupted(held)
            while not self._draining.is_set():
                await self.upkeep.look_around()
                has_taken = await self._take_set_aside(held) or await self._take_next(held)
                self._store_is_back()
                if has_taken:
                    await self.upkeep.after_revision(held)

    def _store_is_back(self) -> None:
        if self._store_wait_s > STORE_WAIT_S:
            self._store_wait_s = STORE_WAIT_S
            self._progress("ready")

    async def _begin(self, held: Lease) -> None:
        """Serve the head; begin a ledger that is empty."""
        if isinstance(self._restorer, ScopedRestorer) and isinstance(self._taking_back, ScopedTakingBack):
            await follow_or_take_over(self._restorer, self._taking_back, held)
            await begin_scoped_ledger(self._taking_back, held)
            return
        resident = self._resident
        assert isinstance(resident, ResidentModel)
        await self._restorer.follow()
        await begin_ledger(resident, self._thread, self._database, held)
        await warm_up(resident, self._thread, self._database, self._objects, held, self._settings, self._progress)

    async def _follow_others(self) -> None:
        """Another worker writes."""
        try:
            await self._restorer.follow()
        except NotReversible as error:  # it has a ledger of another mode to take over first
            log.info("waiting for the writer", detail=error.detail)
        self._on_revision()

    async def _take_up_interrupted(self, held: Lease) -> None:
        """What an earlier epoch left half done goes first, as it was or, where it ends workers, halved."""
        interrupted = await batches.take_over_interrupted(
            self._database, held, self._settings.max_attempts, survived=self._applying.under_way
        )
        self._applying.under_way.clear()
        if self._taking_back.under_way is not None:
            await operations.forgive(self._database, held, self._taking_back.under_way)
            self._taking_back.under_way = None
        now = asyncio.get_running_loop().time()
        self._set_aside = [(now + batches.set_aside_s(batch), batch) for batch in interrupted]

    async def _take_set_aside(self, held: Lease) -> bool:
        """An interrupted batch whose time has come."""
        now = asyncio.get_running_loop().time()
        due = next((each for each in self._set_aside if each[0] <= now), None)
        if due is None:
            return False
        self._set_aside.remove(due)
        batch = due[1]
        log.info("interrupted batch taken again", batch=batch.id, edits=len(batch.edits), tries=batch.tries)
        await self._applying.apply(held, await batches.begin(self._database, held, batch))
        return True

    @contextlib.asynccontextmanager
    async def _renewing(self, held: Lease) -> AsyncIterator[None]:
        """Keep the lease while the block runs, and give it back at the end."""
        self.lease = held
        metrics.LEASE_HELD.set(1)
        renewing = asyncio.create_task(keep_running("renewing the lease", lambda: self._renew(held), held.ttl_s / 4))
        try:
            yield
        finally:
            renewing.cancel()
            self.lease = None
            metrics.LEASE_HELD.set(0)
            with contextlib.suppress(StorageUnavailable):
                await lease.release(self._database, held)

    async def _renew(self, held: Lease) -> None:
        while True:
            await asyncio.sleep(held.ttl_s / 4)
            try:
                await lease.renew(self._database, held)
            except StorageUnavailable as error:
                log.warning("lease not renewed", detail=error.detail)
            except LeaseLost:
                self._bell.set()  # the writer notices at its next transaction
                return

    async def _take_next(self, held: Lease) -> bool:
        """A batch of edits, or an operation when no edit accepted before it is left; False when there was neither."""
        operation, is_due = await operations.following(self._database)
        if operation is not None and is_due:
            await self._taking_back.carry_out(held, operation.id)
            return True
        batch = await self._next_batch(held, operation.after_edit if operation else None)
        if batch is not None:
            failpoints.hit("writer.claimed", [record.edit.prompt for record in batch.edits])
            await self._applying.apply(held, batch)
        return batch is not None

    async def _next_batch(self, held: Lease, up_to: int | None) -> Batch | None:
        """Claim when a batch is full or the oldest edit has waited long enough; else wait for the bell or the sweep.

        up_to: the newest edit that may be claimed, where an operation is waiting for it.
        """
        count, age_s = await read.accepted_summary(self._database, up_to)
        is_waited_for = up_to is not None
        if count >= self._settings.batch_size or (count and (is_waited_for or age_s >= self._settings.batch_linger_s)):
            return await batches.claim(self._database, held, self._settings.batch_size, up_to)
        wait_s = max(self._settings.batch_linger_s - age_s, 0.01) if count else self._settings.sweep_interval_s
        await self._pause(wait_s)
        if not count:
            await lease.renew(self._database, held)  # find out that the lease was lost even when there is nothing to do
        return None

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._bell.wait(), seconds)
        if not self._draining.is_set():
            self._bell.clear()

    async def _listen(self) -> None:
        """Hear the doorbell. What it says does not matter: the ledger alone decides what is queued."""
        doorbell = self._resources.doorbell.listener(self.name)
        while True:
            rings = await doorbell.read(count=100, block_ms=BELL_BLOCK_MS)
            if rings:
                self._bell.set()
                await doorbell.done(*(entry for entry, _ in rings))
