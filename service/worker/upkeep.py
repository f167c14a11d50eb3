"""What the writer does between batches: checkpoints, letting go of objects that nobody needs, standing invariants."""

from __future__ import annotations

import asyncio
import time

import structlog

from service import failpoints, metrics
from service.errors import ErrataError, ObjectsUnavailable
from service.infra.objects import ObjectStore
from service.infra.postgres import Database
from service.ledger import checkpoints, integrity, read
from service.ledger.lease import Lease
from service.ledger.pruning import prune
from service.settings import Settings
from service.worker.model_thread import ModelThread
from service.worker.modes import Resident
from service.worker.scoped.packing import pack_state
from service.worker.scoped.resident import ScopedModel

log = structlog.get_logger()
NEVER = -1
# What takes longer the more edits there are is done the less often, so that its cost an edit, or a second, stays flat.
CHANGED_SHARE = 0.005  # of the scoped edits in force: that many have changed when a checkpoint is written
PRUNED_SHARE = 0.002  # of the object files: so many revisions from one removal of old objects to the next
LOOKING_SHARE = 0.01  # of the time


class Upkeep:
    def __init__(
        self, resident: Resident, thread: ModelThread, database: Database, objects: ObjectStore, settings: Settings
    ) -> None:
        self._resident, self._thread, self._database, self._objects = resident, thread, database, objects
        self._settings = settings
        self.usage = (0, 0)  # of the object store: files, bytes
        self._looks_at = time.monotonic() + settings.invariants_interval_s
        self._pruned_at = NEVER

    async def after_revision(self, held: Lease) -> None:
        """Write a checkpoint when one is due, and prune. A full disk must not keep edits from being applied."""
        try:
            if await self._checkpoint_is_due():
                await self._write_checkpoint(held)
            if self._pruned_at == NEVER:
                self._pruned_at = self._resident.revision - 1
            every = max(self._settings.prune_every, min(self.usage[0] * PRUNED_SHARE, self._settings.rollback_window))
            if self._resident.revision - self._pruned_at >= every:
                await self._prune(held)
        except (OSError, ObjectsUnavailable) as error:
            log.warning("no checkpoint could be written", detail=str(error))

    async def _checkpoint_is_due(self) -> bool:
        """By revisions; with many scoped edits not before a share of them has changed, so that the cost an edit stays flat."""
        newest = max(await checkpoints.known(self._database), default=0)
        if self._resident.revision - newest < self._settings.checkpoint_every:
            return False
        if not isinstance(self._resident, ScopedModel):
            return True
        wanted = len(self._resident.served.state) * CHANGED_SHARE
        return wanted < self._settings.checkpoint_every or (
            len(await read.records_changed(self._database, newest, self._resident.revision)) >= wanted
        )

    async def _write_checkpoint(self, held: Lease) -> None:
        began = time.perf_counter()
        number = self._resident.revision
        if isinstance(self._resident, ScopedModel):  # what it serves is never written to: answers need not wait
            edits, statistics = await self._thread.run(self._resident.state_to_pack)
            state = await asyncio.to_thread(pack_state, edits, statistics)
        else:
            state = await self._thread.run(self._resident.pack_state)
        name = await asyncio.to_thread(self._objects.put, state)
        failpoints.hit("checkpoint.before")
        await checkpoints.keep(self._database, held, number, name, len(state))
        metrics.CHECKPOINT_REVISION.set(number)
        log.info("checkpoint", revision=number, bytes=len(state), seconds=round(time.perf_counter() - began, 2))

    async def _prune(self, held: Lease) -> None:
        failpoints.hit("prune.before")
        self._pruned_at = self._resident.revision
        window, grace_s = self._settings.rollback_window, self._settings.prune_grace_s
        removed, freed = await prune(self._database, held, self._objects, window, grace_s)
        await self._measure()
        if removed:
            log.info("objects pruned", removed=removed, freed_bytes=freed, left=self.usage[0], bytes=self.usage[1])

    async def _measure(self) -> None:
        self.usage = await asyncio.to_thread(self._objects.usage)
        metrics.OBJECT_FILES.set(self.usage[0])
        metrics.OBJECT_BYTES.set(self.usage[1])

    async def look_around(self) -> None:
        """Check the standing invariants and measure the disk, now and then."""
        began = time.monotonic()
        if began < self._looks_at:
            return
        try:
            await self._measure()
            for name, (count, words) in (await integrity.violations(self._database)).items():
                metrics.INVARIANT_VIOLATIONS.labels(name).set(count)
                if count:
                    log.error("the ledger is not as it must be", invariant=name, count=count, first="; ".join(words))
        except ErrataError as error:
            log.warning("invariants not checked", detail=error.detail)
        ended = time.monotonic()
        self._looks_at = ended + max(self._settings.invariants_interval_s, (ended - began) / LOOKING_SHARE)
