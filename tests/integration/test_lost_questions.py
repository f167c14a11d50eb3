"""A worker that goes away, or a Redis that forgets: whoever asked is told, or has an answer from another worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest

from service.api.questions import watch
from service.api.questions.generation import Question, Questions, listening
from service.api.questions.turns import Turns
from service.bootstrap import Resources
from service.domain.messages import GenerateReply, GenerateRequest, WorkerStatus
from service.errors import AnswerLost, ModelNotReady
from service.infra.keys import Keys


class StandIn:
    """A worker that takes questions, and says what a test has it say."""

    def __init__(self, resources: Resources, name: str) -> None:
        self._resources, self._questions = resources, resources.generation.questions(name)
        self._status = WorkerStatus(name, 1, "ready", "ready", "m", 5, True, 0)
        self._announcing = asyncio.create_task(self._announce())

    async def _announce(self) -> None:
        while True:
            await self._resources.presence.announce(self._status)
            await asyncio.sleep(0.5)

    async def take(self, count: int = 1) -> list[GenerateRequest]:
        found: list[GenerateRequest] = []
        async with asyncio.timeout(60):
            while len(found) < count:
                for _, fields in await self._questions.read(count=count - len(found), block_ms=100):
                    found.append(GenerateRequest.from_json(fields["request"]))
        return found

    async def what_waits(self) -> list[object]:
        return list(await self._questions.read(count=10, block_ms=50))

    async def say(self, asked: GenerateRequest, text: str, finish_reason: str = "stop", number: int | None = None) -> None:
        reply = GenerateReply(asked.id, text, 5, finish_reason=finish_reason, number=number)
        await self._resources.generation.reply(asked.reply_to, reply)

    async def go_silent(self) -> None:
        self._announcing.cancel()
        await asyncio.gather(self._announcing, return_exceptions=True)
        await self._resources.presence.leave(self._status.name)

    def be_back(self) -> None:
        self._announcing = asyncio.create_task(self._announce())


@pytest.fixture
async def questions(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Questions]:
    monkeypatch.setattr(watch, "CHECK_INTERVAL_S", 0.02)
    monkeypatch.setattr(watch, "GONE_AFTER_S", 0.2)
    questions = Questions(
        resources.generation,
        resources.presence,
        resources.database,
        timeout_s=100,
        max_waiting=10,
        max_waiting_per_key=10,
        turns=Turns(10, 10, 10_000),
        at_once=4,
    )
    async with listening(questions):
        yield questions


@pytest.fixture
async def workers(resources: Resources) -> AsyncIterator[Callable[[str], StandIn]]:
    made: list[StandIn] = []

    def make(name: str) -> StandIn:
        made.append(StandIn(resources, name))
        return made[-1]

    yield make
    for each in made:
        await each.go_silent()


def asking(questions: Questions, prompt: str = "Who?") -> asyncio.Task[GenerateReply]:
    return asyncio.create_task(questions.ask(Question(prompt)))


async def test_a_question_of_a_worker_that_has_gone_is_answered_by_another(
    questions: Questions, workers: Callable[[str], StandIn]
) -> None:
    first, answer = workers("w1"), asking(questions)
    [lost] = await first.take()
    await first.go_silent()
    second = workers("w2")
    [asked] = await second.take()
    await first.say(lost, "Too late")
    await second.say(asked, "Ann")
    assert ((await answer).text, asked.prompt) == ("Ann", "Who?")


async def test_a_question_that_ends_two_workers_is_asked_no_third_time(
    questions: Questions, workers: Callable[[str], StandIn], resources: Resources
) -> None:
    answer = asking(questions)
    for name in ("w1", "w2"):
        worker = workers(name)
        await worker.take()
        await worker.go_silent()
    workers("w3")
    with pytest.raises(AnswerLost) as told:
        await answer
    assert (told.value.status, told.value.code) == (503, "worker_lost")
    assert await resources.redis.xlen(Keys(resources.settings.redis_prefix).generate) == 0


async def test_an_answer_that_was_begun_is_not_begun_anew(questions: Questions, workers: Callable[[str], StandIn]) -> None:
    worker = workers("w1")
    async with aclosing(questions.stream(Question("Who?"))) as replies:
        first = asyncio.ensure_future(anext(replies))
        [asked] = await worker.take()
        await worker.say(asked, "An", finish_reason="")
        assert (await first).text == "An"
        await worker.go_silent()
        workers("w2")
        with pytest.raises(AnswerLost):
            await anext(replies)


async def test_what_comes_twice_is_told_once(questions: Questions, workers: Callable[[str], StandIn]) -> None:
    worker = workers("w1")
    async with aclosing(questions.stream(Question("Who?"))) as replies:
        first = asyncio.ensure_future(anext(replies))
        [asked] = await worker.take()
        for number, text in enumerate(("An", "n")):
            for _ in range(2):
                await worker.say(asked, text, finish_reason="stop" if number else "", number=number)
        assert [(await first).text, *[each.text async for each in replies]] == ["An", "n"]


async def test_an_answer_of_which_a_part_was_lost_is_not_told_as_whole(
    questions: Questions, workers: Callable[[str], StandIn]
) -> None:
    worker = workers("w1")
    async with aclosing(questions.stream(Question("Who?"))) as replies:
        first = asyncio.ensure_future(anext(replies))
        [asked] = await worker.take()
        await worker.say(asked, "An", finish_reason="", number=0)
        assert (await first).text == "An"
        await worker.say(asked, "a", number=2)
        with pytest.raises(AnswerLost):
            await anext(replies)


async def test_a_worker_that_pauses_keeps_its_questions(
    questions: Questions, workers: Callable[[str], StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "GONE_AFTER_S", 60)
    worker, answer = workers("w1"), asking(questions)
    [asked] = await worker.take()
    [watched] = questions.watch.watched
    await worker.go_silent()
    await until(lambda: watched.missing_since is not None)
    worker.be_back()
    await until(lambda: watched.missing_since is None)
    await worker.say(asked, "Ann")
    assert (await answer).text == "Ann"


async def test_questions_that_were_lost_twice_together_are_asked_one_at_a_time(
    questions: Questions, workers: Callable[[str], StandIn]
) -> None:
    answers = [asking(questions, f"Number {number}") for number in range(3)]
    for name in ("w1", "w2"):
        worker = workers(name)
        await worker.take(3)
        await worker.go_silent()
    worker = workers("w3")
    for waiting in (2, 1, 0):
        [asked] = await worker.take()
        assert await worker.what_waits() == []
        await worker.say(asked, asked.prompt)
        await until(lambda left=waiting: questions.open.total() == left)  # type: ignore[misc]
    assert sorted([(await each).text for each in answers]) == ["Number 0", "Number 1", "Number 2"]


async def test_a_question_that_redis_forgot_is_asked_again(
    questions: Questions, workers: Callable[[str], StandIn], resources: Resources
) -> None:
    answer = asking(questions)
    await until(lambda: any(each.entry for each in questions.watch.watched))
    await resources.redis.delete(Keys(resources.settings.redis_prefix).generate)
    worker = workers("w1")
    [asked] = await worker.take()
    await worker.say(asked, "Ann")
    assert (await answer).text == "Ann"


async def test_without_any_worker_nobody_waits_for_a_deadline(questions: Questions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "NOBODY_AFTER_S", 0.2)
    with pytest.raises(ModelNotReady):
        await questions.ask(Question("Who?"))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - of what the service itself looks at now and then
            await asyncio.sleep(0.01)
