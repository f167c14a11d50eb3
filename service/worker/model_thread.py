"""The one thread that may touch the model. Work is done in the order it was asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Readers(Protocol):
    """Those who answer with the weights while others change them."""

    async def turn(self, took_s: float) -> None:
        """Wait until they have had their share of the time, after others took so many seconds."""

    def window(self) -> AbstractAsyncContextManager[None]:
        """In which the weights may change."""


class ModelThread:
    """Runs functions one after another, off the event loop."""

    def __init__(self) -> None:
        self.readers: Readers | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))

    async def change(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what changes the weights that are served, when those who read them say so."""
        if self.readers is None:
            return await self.run(function, *args, **kwargs)
        async with self.readers.window():
            return await self.run(function, *args, **kwargs)

    async def each(self, steps: Iterator[T]) -> AsyncIterator[tuple[T, float]]:
        """Drive an iterator one step at a time, so that other work fits in between: (step, seconds it took).

        Those who read get their turn before the next step.
        """
        while True:
            found = await self.run(_timed_next, steps)
            if found is None:
                return
            yield found
            if self.readers is not None:
                await self.readers.turn(found[1])

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def _timed_next(steps: Iterator[T]) -> tuple[T, float] | None:
    """A StopIteration cannot cross a future, so the end is None."""
    began = time.perf_counter()
    for step in steps:
        return step, time.perf_counter() - began
    return None
