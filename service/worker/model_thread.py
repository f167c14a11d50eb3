"""The one thread that may touch the model. Work is done in the order it was asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ModelThread:
    """Runs functions one after another, off the event loop."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))

    async def each(
        self, steps: Iterator[T], after: Callable[[float], Awaitable[None]] | None = None
    ) -> AsyncIterator[tuple[T, float]]:
        """Drive an iterator one step at a time, so that other work fits in between: (step, seconds it took).

        after: is told how long a step took, and waited for before the next.
        """
        while True:
            found = await self.run(_timed_next, steps)
            if found is None:
                return
            yield found
            if after is not None:
                await after(found[1])

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def _timed_next(steps: Iterator[T]) -> tuple[T, float] | None:
    """A StopIteration cannot cross a future, so the end is None."""
    began = time.perf_counter()
    for step in steps:
        return step, time.perf_counter() - began
    return None
