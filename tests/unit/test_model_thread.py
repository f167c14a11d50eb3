"""The model's thread: answering fits into the breaths of what takes long, a change of what is served does not."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from editor_core.breathing import breathe
from service.worker.model_thread import ModelThread


class Impatient:
    """Readers who always want a step, and let weights change at any time."""

    def edited(self, took_s: float) -> bool:
        return True

    async def turn(self) -> None:
        """Nothing is owed."""

    @contextlib.asynccontextmanager
    async def window(self) -> AsyncIterator[None]:
        yield


@pytest.fixture
def thread() -> Iterator[ModelThread]:
    thread = ModelThread()
    thread.readers = Impatient()
    yield thread
    thread.close()


def breathing_until(event: threading.Event) -> str:
    while not event.is_set():
        breathe()
    return "done"


async def test_an_answer_is_given_in_a_breath_of_what_is_under_way(thread: ModelThread) -> None:
    given = threading.Event()
    job = asyncio.create_task(thread.run(breathing_until, given))
    await thread.answer(given.set)
    assert await job == "done"


async def test_what_goes_wrong_in_an_answer_is_not_the_jobs(thread: ModelThread) -> None:
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise ZeroDivisionError

    job = asyncio.create_task(thread.run(breathing_until, failed))
    with pytest.raises(ZeroDivisionError):
        await thread.answer(fail)
    assert await job == "done"


async def test_what_goes_wrong_in_a_job_is_not_the_answers(thread: ModelThread) -> None:
    given = threading.Event()

    def fail() -> None:
        breathing_until(given)
        raise ZeroDivisionError

    job = asyncio.create_task(thread.run(fail))
    await thread.answer(given.set)
    with pytest.raises(ZeroDivisionError):
        await job
    assert await thread.answer(lambda: "the next") == "the next"


async def test_what_is_served_never_changes_in_a_breath(thread: ModelThread) -> None:
    given, order = threading.Event(), list[str]()

    def long() -> None:
        breathing_until(given)
        order.append("job")

    job = asyncio.create_task(thread.run(long))
    await asyncio.sleep(0)  # it is the first in the queue
    change = asyncio.create_task(thread.change(order.append, "change"))
    await asyncio.sleep(0)
    await thread.answer(given.set)
    await asyncio.gather(job, change)
    assert order == ["job", "change"]


async def test_no_answer_is_given_within_a_change(thread: ModelThread) -> None:
    order = list[str]()
    waiting = threading.Event()

    def change() -> None:
        waiting.wait()
        breathe()
        order.append("change")

    changing = asyncio.create_task(thread.change(change))
    await asyncio.sleep(0)
    answering = asyncio.create_task(thread.answer(order.append, "answer"))
    await asyncio.sleep(0)
    waiting.set()
    await asyncio.gather(changing, answering)
    assert order == ["change", "answer"]


async def test_an_answer_that_nobody_waits_for_any_more_is_not_given(thread: ModelThread) -> None:
    hold, given = threading.Event(), list[int]()
    thread.readers = None  # nothing fits into a breath
    job = asyncio.create_task(thread.run(hold.wait))
    answering = asyncio.create_task(thread.answer(given.append, 1))
    await asyncio.sleep(0)
    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)
    hold.set()
    await job
    await thread.run(given.append, 2)
    assert given == [2]


async def test_a_closed_thread_ends_what_is_under_way_at_its_next_breath(thread: ModelThread) -> None:
    never = threading.Event()
    job = asyncio.create_task(thread.run(breathing_until, never))
    await asyncio.sleep(0)
    thread.close()
    with pytest.raises(asyncio.CancelledError):
        await job
