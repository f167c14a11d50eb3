"""Places with the workers, handed out in turns between API keys: who asks much waits for itself."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Of one api process; all methods on its event loop.

    places   with one worker
    per_key  of these, how many one key may have; any number where no keys are asked for (an empty id)
    workers  how many there are
    """

    def __init__(self, places: int, per_key: int) -> None:
        self._places, self._per_key, self.workers = places, per_key, 1
        self._taken: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # whose turn is next comes first

    @asynccontextmanager
    async def place(self, key: str) -> AsyncIterator[Place]:
        """Wait for a place; it is given back at the end, if it has not been before."""
        if self._waiting.get(key) or not self._is_free(key):
            await self._wait(key)
        else:
            self._taken[key] += 1
        place = Place(self, key)
        try:
            yield place
        finally:
            place.give_back()

    async def _wait(self, key: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the place came in the same moment
                self.give_back(key)
            else:
                self._waiting[key].remove(turn)
                if not self._waiting[key]:
                    del self._waiting[key]
            raise

    def give_back(self, key: str) -> None:
        self._taken[key] -= 1
        if not self._taken[key]:
            del self._taken[key]
        self.hand_out()

    def hand_out(self) -> None:
        """Give free places to those who wait, one key after the other."""
        while (key := next((each for each in self._waiting if self._is_free(each)), None)) is not None:
            queue = self._waiting.pop(key)
            self._taken[key] += 1
            queue.popleft().set_result(None)
            if queue:
                self._waiting[key] = queue  # behind all others

    def _is_free(self, key: str) -> bool:
        if self._taken.total() >= self._places * self.workers:
            return False
        return not key or self._taken[key] < self._per_key * self.workers


class Place:
    """A place that somebody has."""

    def __init__(self, turns: Turns, key: str) -> None:
        self._turns, self._key, self._is_given_back = turns, key, False

    def give_back(self) -> None:
        """Once; a second time does nothing."""
        if not self._is_given_back:
            self._is_given_back = True
            self._turns.give_back(self._key)
