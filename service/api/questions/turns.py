"""Places with the workers, handed out in turns between API keys: who asks much waits for itself."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Of one api process; all methods on its event loop.

    places          with one worker
    per_key         of these, how many one key may have; any number where no keys are asked for (an empty id)
    tokens_per_key  how long its questions with one worker may be together; one alone may be longer
    workers         how many there are
    """

    def __init__(self, places: int, per_key: int, tokens_per_key: int) -> None:
        self._places, self._per_key, self._tokens_per_key, self.workers = places, per_key, tokens_per_key, 1
        self._taken: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._waiting: dict[str, deque[_Waiting]] = {}  # whose turn is next comes first

    @asynccontextmanager
    async def place(self, key: str, tokens: int = 0) -> AsyncIterator[Place]:
        """Wait for a place; it is given back at the end, if it has not been before.

        tokens: of question and answer, as far as is known.
        """
        if self._waiting.get(key) or not self._is_free(key, tokens):
            await self._wait(key, tokens)
        else:
            self._take(key, tokens)
        place = Place(self, key, tokens)
        try:
            yield place
        finally:
            place.give_back()

    async def _wait(self, key: str, tokens: int) -> None:
        waiting = _Waiting(asyncio.get_running_loop().create_future(), tokens)
        self._waiting.setdefault(key, deque()).append(waiting)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.done() and not waiting.turn.cancelled():  # the place came in the same moment
                self.give_back(key, tokens)
            else:
                self._waiting[key].remove(waiting)
                if not self._waiting[key]:
                    del self._waiting[key]
                self.hand_out()  # who was behind a long question may be short
            raise

    def _take(self, key: str, tokens: int) -> None:
        self._taken[key] += 1
        self._tokens[key] += tokens

    def give_back(self, key: str, tokens: int) -> None:
        self._taken[key] -= 1
        self._tokens[key] -= tokens
        if not self._taken[key]:
            del self._taken[key], self._tokens[key]
        self.hand_out()

    def hand_out(self) -> None:
        """Give free places to those who wait, one key after the other."""
        while (key := self._next()) is not None:
            queue = self._waiting.pop(key)
            waiting = queue.popleft()
            self._take(key, waiting.tokens)
            waiting.turn.set_result(None)
            if queue:
                self._waiting[key] = queue  # behind all others

    def _next(self) -> str | None:
        """The key whose turn it is, of those that may have another place."""
        return next((key for key, queue in self._waiting.items() if self._is_free(key, queue[0].tokens)), None)

    def _is_free(self, key: str, tokens: int) -> bool:
        if self._taken.total() >= self._places * self.workers:
            return False
        if not key or not self._taken[key]:
            return True
        is_short = self._tokens[key] + tokens <= self._tokens_per_key * self.workers
        return is_short and self._taken[key] < self._per_key * self.workers


class _Waiting:
    """Who waits, and for how long a question."""

    def __init__(self, turn: asyncio.Future[None], tokens: int) -> None:
        self.turn, self.tokens = turn, tokens


class Place:
    """A place that somebody has."""

    def __init__(self, turns: Turns, key: str, tokens: int) -> None:
        self._turns, self._key, self._tokens, self._is_given_back = turns, key, tokens, False

    def give_back(self) -> None:
        """Once; a second time does nothing."""
        if not self._is_given_back:
            self._is_given_back = True
            self._turns.give_back(self._key, self._tokens)
