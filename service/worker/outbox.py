"""Replies on their way to the api processes: what gathers while one entry is being written goes into the next together.

What Redis does not take is kept, in its order, and tried again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

import structlog
from redis.exceptions import RedisError

from service.domain.messages import GenerateReply
from service.infra.streams import GenerationChannel

log = structlog.get_logger()
RETRY_S = 0.5
MOST_KEPT = 10_000  # of one api process: what it misses it knows by the numbers


class Outbox:
    """Never blocks the one who puts something in."""

    def __init__(self, channel: GenerationChannel) -> None:
        self._channel = channel
        self._gathered: dict[str, list[GenerateReply]] = defaultdict(list)
        self._something = asyncio.Event()
        self._sending = False

    def put(self, reply_to: str, reply: GenerateReply) -> None:
        self._gathered[reply_to].append(reply)
        self._something.set()

    @property
    def empty(self) -> bool:
        """Nothing waits and nothing is being sent."""
        return not self._gathered and not self._sending

    async def run(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            if not all([await self._send(reply_to) for reply_to in list(self._gathered)]):
                await asyncio.sleep(RETRY_S)
                self._something.set()

    async def _send(self, reply_to: str) -> bool:
        """Whether they have arrived. They may have although Redis did not say so; then they arrive twice."""
        replies, self._sending = self._gathered.pop(reply_to), True
        try:
            await self._channel.reply(reply_to, *replies)
        except RedisError as error:
            log.warning("answers not delivered yet", count=len(replies), detail=str(error))
            self._gathered[reply_to] = [*replies, *self._gathered.pop(reply_to, [])][-MOST_KEPT:]
            return False
        finally:
            self._sending = False
        return True
