"""Notices questions that nobody works on any more: their worker has gone, or Redis has lost them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from service.domain.messages import GenerateReply
from service.errors import AnswerLost, ErrataError, ModelNotReady, StorageUnavailable
from service.infra.streams import GenerationChannel, Presence

CHECK_INTERVAL_S = 1.0
GONE_AFTER_S = 4.0  # beyond the four seconds that a status lasts: a worker that is paused for less is not given up
NOBODY_AFTER_S = 30.0  # without any worker; one that is started again says so earlier, although it has no model yet


@dataclass(eq=False, slots=True)
class Asked:
    """A question in the stream and what is heard of it.

    at_end         called with the last that is heard
    entry          its entry in the stream; empty while it is on its way there
    holder         the consumer that took it, as far as is known
    missing_since  when it was first seen in nobody's hands (monotonic seconds)
    """

    at_end: Callable[[], None] = lambda: None
    heard: asyncio.Queue[GenerateReply | ErrataError] = field(default_factory=asyncio.Queue)
    entry: str = ""
    holder: str = ""
    ended: bool = False
    replies: int = 0
    missing_since: float | None = None

    def hear(self, news: GenerateReply | ErrataError) -> None:
        """Nothing that comes after the end matters, nor what comes twice; an answer of which a part is missing is lost."""
        number = None if isinstance(news, ErrataError) else news.number
        if self.ended or (number is not None and number < self.replies):
            return
        if number is not None and number > self.replies:
            news = AnswerLost("a part of the answer has been lost", retry_after_s=1)
        self.replies += 1
        self.ended = isinstance(news, ErrataError) or news.last
        self.heard.put_nowait(news)
        if self.ended:
            self.at_end()


class Watch:
    """Looks after the open questions of one api process."""

    def __init__(self, channel: GenerationChannel, presence: Presence, asked: Mapping[str, Asked]) -> None:
        self._channel, self._presence, self._asked = channel, presence, asked
        self._nobody_since: float | None = None

    @property
    def watched(self) -> list[Asked]:
        """Those whose end has not been heard."""
        return [each for each in self._asked.values() if each.entry and not each.ended]

    async def run(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            await self._look()

    async def _look(self) -> None:
        asked = self.watched
        try:
            present = {worker.consumer or worker.name for worker in await self._presence.workers()} if asked else set()
            places = await self._channel.places([each.entry for each in asked])
        except StorageUnavailable:  # who is there says so again when Redis is back
            asked, present, places = [], set(), {}
            for each in self._asked.values():
                each.missing_since = None
        now = time.monotonic()
        self._nobody_since = None if present or not asked else self._nobody_since or now
        if self._nobody_since is not None and now - self._nobody_since >= NOBODY_AFTER_S:
            for each in asked:
                if places.get(each.entry) == "":
                    each.hear(ModelNotReady("no worker is there any more", retry_after_s=5))
        lost = [each for each in asked if self._is_lost(each, places.get(each.entry), present, now)]
        held = Counter(each.holder for each in lost)
        for each in lost:
            each.hear(_lost(each, was_alone=held[each.holder] == 1))

    def _is_lost(self, asked: Asked, place: str | None, present: set[str], now: float) -> bool:
        """place: the consumer that has it, empty where it waits for one, None where the stream does not know it."""
        asked.holder = place or asked.holder
        if place == "" or asked.holder in present:
            asked.missing_since = None
            return False
        if asked.missing_since is None:
            asked.missing_since = now
        return now - asked.missing_since >= GONE_AFTER_S


def _lost(asked: Asked, was_alone: bool) -> AnswerLost:
    if not asked.holder:
        return AnswerLost("Redis has lost this question", retry_after_s=1)
    lost = AnswerLost("the worker that had this question has gone", code="worker_lost", retry_after_s=1)
    lost.was_alone = was_alone
    return lost
