"""A reader: serves what the ledger says and never writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from service.errors import NotReversible, StorageUnavailable
from service.infra.listening import keep_running
from service.infra.streams import HeadChannel
from service.worker.modes import AnyRestorer

log = structlog.get_logger()


class Follower:
    """Follows the head, at once when it is told of a new one and otherwise every interval_s."""

    def __init__(self, restorer: AnyRestorer, heads: HeadChannel, interval_s: float, on_revision: Callable[[], None]) -> None:
        self._restorer, self._heads, self._interval_s, self._on_revision = restorer, heads, interval_s, on_revision
        self._bell = asyncio.Event()
        self._draining = False

    def drain(self) -> None:
        """Follow no further."""
        self._draining = True
        self._bell.set()

    async def run(self) -> None:
        """Until drained. An unreachable store is survived; a damaged ledger is not."""
        listening = asyncio.create_task(keep_running("hearing of new revisions", self._listen))
        try:
            while not self._draining:
                self._bell.clear()
                try:
                    await self._restorer.follow()
                    self._on_revision()
                except StorageUnavailable as error:
                    log.warning("store unavailable", detail=error.detail)
                except NotReversible as error:  # a ledger of another mode, which its writer is about to take over
                    log.info("waiting for the writer", detail=error.detail)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._bell.wait(), self._interval_s)
        finally:
            listening.cancel()

    async def _listen(self) -> None:
        async for _ in self._heads.heard():
            self._bell.set()
