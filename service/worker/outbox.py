"""Replies on their way to the api processes: what gathers while one entry is being written goes into the next together."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import structlog
from redis.exceptions import RedisError

from service.domain.messages import GenerateReply
from service.infra.streams import GenerationChannel

log = structlog.get_logger()


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
            gathered, self._gathered, self._sending = self._gathered, defaultdict(list), True
            for reply_to, replies in gathered.items():
                try:
                    await self._channel.reply(reply_to, *replies)
                except RedisError as error:
                    log.warning("answers not delivered", count=len(replies), detail=str(error))
            self._sending = False
