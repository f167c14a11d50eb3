"""The worker process: load the model, restore its revision, then write and serve until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
from prometheus_client import start_http_server
from redis.exceptions import RedisError

from service import metrics
from service.bootstrap import Resources, build
from service.domain.messages import WorkerStatus
from service.errors import StorageUnavailable
from service.infra.listening import keep_running
from service.infra.objects import ObjectStore
from service.ledger import object_owner, read
from service.settings import Settings
from service.worker.follower import Follower
from service.worker.model_thread import ModelThread
from service.worker.modes import AnyRestorer, Resident, load_resident, restorer_for
from service.worker.questions import context_tokens
from service.worker.serving import Generations
from service.worker.writer import Writer

log = structlog.get_logger()
DRAIN_TIMEOUT_S = 45.0
ANNOUNCE_INTERVAL_S = 1.0
ANNOUNCE_TIMEOUT_S = 2.0  # on a connection that is dead: the next goes over another


class Worker:
    """One worker's parts and how it is doing."""

    def __init__(self, resources: Resources) -> None:
        self._resources, self._settings = resources, resources.settings
        self.name = resources.settings.worker_name or f"{socket.gethostname()}-{os.getpid()}"
        self._consumer = f"{self.name}-{uuid.uuid4().hex[:8]}"  # in a container the next worker may have the same name and pid
        self._thread = ModelThread()
        self._state, self._detail, self._ready_at = "starting", "starting", 0
        self._resident: Resident | None = None
        self._writer: Writer | None = None
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT, or until a part fails in a way that a restart must look at."""
        metrics.watch_event_loop()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        announcing = asyncio.create_task(keep_running("announcing", self._announce))
        try:
            working = asyncio.create_task(self._work())
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not working.done():
                working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
        finally:
            announcing.cancel()
            with contextlib.suppress(RedisError):
                await self._resources.presence.leave(self.name)
            self._thread.close()

    async def _work(self) -> None:
        objects = self._resources.objects()
        await self._patiently(partial(self._own, objects))
        resident = self._resident = await self._thread.run(load_resident, self._settings, self._progress)
        restorer = restorer_for(resident, self._thread, self._resources.database, objects, self._progress)
        if self._settings.worker_role == "reader" or self._settings.edit_mode == "paper":
            await self._patiently(restorer.follow)  # a writer of scoped edits follows once it may take a ledger over
        generations = Generations(self._consumer, resident, self._thread, self._resources.generation, self._settings)
        following = self._following(restorer, objects, generations)
        serving: asyncio.Task[None] | None = None
        writing = asyncio.create_task(following.run())
        watching = asyncio.create_task(keep_running("watching the queue", self._watch_queue))
        try:
            await self._until_warm(writing)
            serving = asyncio.create_task(generations.run())
            self._state, self._detail, self._ready_at = "ready", "ready", int(time.time())
            log.info("ready", model=resident.name, revision=resident.revision)
            done, _ = await asyncio.wait({writing, serving}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # raises what ended it
        except asyncio.CancelledError:
            self._state, self._detail = "draining", "finishing what was begun"
            log.info("draining")
            following.drain()
            if serving is not None:  # else there is nothing yet that anybody waits for
                await asyncio.wait({writing}, timeout=DRAIN_TIMEOUT_S)
            await generations.drain(DRAIN_TIMEOUT_S)
            raise
        finally:
            for part in (writing, watching, serving):
                if part is not None:
                    part.cancel()

    async def _own(self, objects: ObjectStore) -> None:
        """Raises ForeignObjects: what this worker would remove or read is another ledger's."""
        own = object_owner.check if self._settings.worker_role == "reader" else object_owner.claim
        await own(self._resources.database, objects)

    def _following(self, restorer: AnyRestorer, objects: ObjectStore, generations: Generations) -> Writer | Follower:
        """What keeps the weights up to date: writing them, or reading what another has written."""
        assert self._resident is not None
        if self._settings.worker_role == "reader":
            heads, interval_s = self._resources.heads, self._settings.sweep_interval_s
            return Follower(restorer, heads, interval_s, lambda: self._moved(generations))
        self._writer = Writer(
            self.name, self._resident, self._thread, self._resources, objects, self._progress, lambda: self._moved(generations)
        )
        return self._writer

    def _moved(self, generations: Generations) -> None:
        assert self._resident is not None
        metrics.APPLIED_REVISION.set(max(self._resident.revision, 0))
        generations.revision_changed()

    async def _until_warm(self, writing: asyncio.Task[None]) -> None:
        """A ledger that has no revision yet is begun by whoever holds the lease: this worker or another."""
        assert self._resident is not None
        first = 1 if self._settings.warmup_is_applied else 0
        while self._resident.revision < first:
            if writing.done():
                writing.result()
            await asyncio.sleep(0.1)

    async def _patiently(self, attempt: Callable[[], Awaitable[object]]) -> None:
        """Try until Postgres answers."""
        while True:
            try:
                await attempt()
                return
            except StorageUnavailable as error:
                self._progress(f"waiting for a store: {error.detail}")
                await asyncio.sleep(1.0)

    def _progress(self, message: str) -> None:
        """From any thread."""
        if message != self._detail:
            self._detail = message
            log.info("progress", detail=message)

    async def _announce(self) -> None:
        while True:
            resident, writer = self._resident, self._writer
            status = WorkerStatus(
                name=self.name,
                pid=os.getpid(),
                state=self._state,
                detail=self._detail,
                model=resident.name if resident else self._settings.model,
                revision=resident.revision if resident else -1,
                writer=writer is not None and writer.lease is not None,
                metrics_port=self._settings.worker_metrics_port,
                object_files=writer.upkeep.usage[0] if writer else 0,
                object_bytes=writer.upkeep.usage[1] if writer else 0,
                consumer=self._consumer,
                context_tokens=context_tokens(resident.model, self._settings.max_prompt_tokens) if resident else 0,
                ready_at=self._ready_at,
            )
            with contextlib.suppress(RedisError, TimeoutError):
                async with asyncio.timeout(ANNOUNCE_TIMEOUT_S):
                    await self._resources.presence.announce(status)
            await asyncio.sleep(ANNOUNCE_INTERVAL_S)

    async def _watch_queue(self) -> None:
        while True:
            with contextlib.suppress(StorageUnavailable):
                queue = await read.queue(self._resources.database)
                metrics.EDIT_QUEUE_DEPTH.set(queue.depth)
                metrics.EDIT_OLDEST_PENDING.set(queue.oldest_pending_age_s)
                metrics.HEAD_REVISION.set(queue.head_number)
            await asyncio.sleep(self._settings.sweep_interval_s)


async def run_worker(settings: Settings) -> None:
    """Build, run, close. Raises what made the worker stop."""
    resources = build(settings, "worker")
    if settings.worker_metrics_port:
        start_http_server(settings.worker_metrics_port, settings.worker_metrics_host)
    try:
        await Worker(resources).run()
    finally:
        await resources.close()
