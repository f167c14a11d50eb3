"""The one thread that may touch the model. Work is done in the order it was asked for, but answering fits into its breaths.

Work that takes long comes to breathing points (`editor_core.breathing`). At each, an answering step that waits is run if
answers are due one, on the same thread, so there is nothing to lock. It finds the model that answers as it is served.

It is also the only one whose products use several cores. Each thread that multiplies has helpers of its own, and as soon as
there are more of them than cores, the runtime (libgomp) lets them sleep between products instead of spin, and each product
waits for one to wake. On two cores a step of sixteen answers took 0.14 s, and 0.3 s once the main thread had copied one
large tensor.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

import torch

from editor_core.breathing import breathing

CORES = torch.get_num_threads()  # as this process begins: what it may use
P = ParamSpec("P")
T = TypeVar("T")


class Readers(Protocol):
    """Those who answer with the weights while others change them."""

    def edited(self, took_s: float) -> bool:
        """Others had the model for so many more seconds; whether answers are due a step now. On the model thread."""

    async def turn(self) -> None:
        """Wait until answers have had their share of the time."""

    def window(self) -> AbstractAsyncContextManager[None]:
        """In which the weights may change."""


class ModelThread:
    """Runs functions off the event loop."""

    def __init__(self) -> None:
        self.readers: Readers | None = None
        self.longest_stretch_s = 0.0  # between two breathing points; whoever reads it may set it back
        torch.set_num_threads(1)  # of whoever makes it
        self._executor = ThreadPoolExecutor(1, "model", initializer=torch.set_num_threads, initargs=(CORES,))
        self._steps: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._breathed_at = self._answered_s = 0.0
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Answers may be given in its breaths, so it must not touch the model that answers."""
        return await self._in_turn(self._with_breaths, partial(function, *args, **kwargs))

    async def answer(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a step of the answers: in a breath of what is under way, or else when its turn comes."""
        future: Future[T] = Future()
        self._steps.append((future, partial(function, *args, **kwargs)))
        self._executor.submit(self._answer_next)
        return await asyncio.wrap_future(future)

    async def change(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what changes the weights that are served, in one piece, when those who read them say so."""
        if self.readers is None:
            return await self._in_turn(function, *args, **kwargs)
        async with self.readers.window():
            return await self._in_turn(function, *args, **kwargs)

    async def exchange(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what only exchanges what is served for those who ask from now on: nobody has to be waited for."""
        return await self._in_turn(function, *args, **kwargs)

    async def each(self, steps: Iterator[T]) -> AsyncIterator[tuple[T, float]]:
        """Drive an iterator one step at a time: (step, seconds it took, without the answers given meanwhile).

        Those who read get their share before the next step.
        """
        while True:
            found = await self.run(self._timed_next, steps)
            if found is None:
                return
            yield found
            if self.readers is not None:
                await self.readers.turn()

    def close(self) -> None:
        """What is under way ends at its next breathing point: nobody waits for it any more."""
        self._closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _in_turn(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(function, *args, **kwargs))

    # --- on the thread -----------------------------------------------------------------------------------------------

    def _with_breaths(self, function: Callable[[], T]) -> T:
        self._breathed_at = time.perf_counter()
        try:
            with breathing(self._breathe):
                return function()
        finally:
            self._is_due()

    def _breathe(self) -> None:
        if self._closed:
            raise asyncio.CancelledError
        if self._is_due() and self._steps:
            began = time.perf_counter()
            self._answer_next()
            self._breathed_at = time.perf_counter()
            self._answered_s += self._breathed_at - began

    def _is_due(self) -> bool:
        """Account for the time since the last breath."""
        now = time.perf_counter()
        took_s, self._breathed_at = now - self._breathed_at, now
        self.longest_stretch_s = max(self.longest_stretch_s, took_s)
        return self.readers is not None and self.readers.edited(took_s)

    def _answer_next(self) -> None:
        """What goes wrong is for whoever waits for the step, and nothing to whom it interrupts."""
        if not self._steps:
            return  # it was run in a breath
        future, function = self._steps.popleft()
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = function()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _timed_next(self, steps: Iterator[T]) -> tuple[T, float] | None:
        """A StopIteration cannot cross a future, so the end is None."""
        began, answered_s = time.perf_counter(), self._answered_s
        for step in steps:
            return step, time.perf_counter() - began - (self._answered_s - answered_s)
        return None
