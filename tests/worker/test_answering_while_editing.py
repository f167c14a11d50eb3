"""Answers go on while a batch is being taught, at the revision that they say."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import pytest

from editor_core.generation import Batcher, News, Sampling, Sequence
from service.worker.engine import Engine, Ticket
from tests.worker.conftest import FACTS, Desk, NewDesk

QUESTION = "Which harbour is number 3 on the list?"


def asked(desk: Desk, max_tokens: int) -> Sequence:
    tokenizer = desk.resident.tokenizer
    return Sequence(uuid.uuid4().hex, list(tokenizer(QUESTION)["input_ids"]), Sampling(max_tokens), tokenizer)


class Client:
    """Asks one question and waits for the whole answer."""

    def __init__(self, desk: Desk, max_tokens: int) -> None:
        self.sequence = asked(desk, max_tokens)
        self.begun = asyncio.Event()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ask(self, engine: Engine) -> list[int]:
        engine.submit(Ticket(self.sequence, self._told, self._failed, time.monotonic(), time.monotonic() + 600))
        await self._ended
        return self.said

    @property
    def said(self) -> list[int]:
        return [each.token for each in self.sequence.said]

    def _told(self, news: News) -> None:
        self.begun.set()
        if news.finish_reason:
            self._ended.set_result(None)

    def _failed(self, code: str, detail: str) -> None:
        self._ended.set_exception(RuntimeError(f"{code}: {detail}"))


@pytest.fixture
async def desk(new_desk: NewDesk) -> Desk:
    return await new_desk(drain_limit_s=0.0, edit_share=0.2)


@pytest.fixture
async def engine(desk: Desk) -> AsyncIterator[Engine]:
    engine = Engine(desk.resident, desk.thread, desk.settings)
    running = asyncio.create_task(engine.run())
    yield engine
    running.cancel()


def said_alone(desk: Desk, max_tokens: int) -> list[int]:
    sequence = asked(desk, max_tokens)
    batcher = Batcher(desk.resident.model)
    batcher.add(sequence)
    while batcher.busy:
        batcher.step(desk.resident.revision)
    return [each.token for each in sequence.said]


async def test_answers_while_a_batch_is_taught_are_those_without_it_and_the_batch_is_the_same(
    desk: Desk, engine: Engine, new_desk: NewDesk
) -> None:
    quiet = await new_desk()
    await quiet.edit(*FACTS[:1])
    alone = await desk.thread.answer(said_alone, desk, 6)
    answered: list[Client] = []
    editing = asyncio.create_task(desk.edit(*FACTS[:1]))
    while not editing.done():
        answered.append(Client(desk, 6))
        await answered[-1].ask(engine)
    await editing
    after = Client(desk, 6)
    await after.ask(engine)
    before = [each for each in answered if each.sequence.versions == [1]]
    assert len(before) > 1
    assert all(each.said == alone for each in before)
    assert after.sequence.versions == [2]
    assert after.said == await desk.thread.answer(said_alone, desk, 6)
    assert (await desk.head()).fingerprint == (await quiet.head()).fingerprint


async def test_an_answer_over_a_commit_says_both_revisions_and_one_after_it_the_new_one(desk: Desk, engine: Engine) -> None:
    long, after = Client(desk, 400), Client(desk, 6)
    answering = asyncio.create_task(long.ask(engine))
    await long.begun.wait()
    draft = await desk.thread.run(desk.resident.copy)
    await desk.thread.change(desk.resident.adopt, draft, 2, {})
    await after.ask(engine)
    await answering
    assert long.sequence.versions == [1, 2]
    assert after.sequence.versions == [2]


@pytest.mark.parametrize("step", ["say", "news", "_told"])
async def test_a_question_that_fails_at_a_step_fails_alone(desk: Desk, engine: Engine, step: str) -> None:
    def fail(*arguments: object) -> None:
        raise UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "half an emoji")

    failing, other = Client(desk, 6), Client(desk, 6)
    setattr(failing if step == "_told" else failing.sequence, step, fail)
    alone = await desk.thread.answer(said_alone, desk, 6)
    failed, said = await asyncio.gather(failing.ask(engine), other.ask(engine), return_exceptions=True)
    assert "generation_failed" in str(failed)
    assert said == alone
    assert engine.load == 0


async def test_nothing_is_owed_while_nobody_asks(desk: Desk, engine: Engine) -> None:
    assert not engine.edited(1.0)
    await engine.turn()
