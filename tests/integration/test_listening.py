"""Whoever listens goes on listening, whatever happens meanwhile, and says so when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest
from redis.exceptions import ConnectionError as RedisGone

from service.api.app import create_app
from service.bootstrap import Resources
from service.domain.messages import GenerateReply
from service.infra.listening import keep_running
from service.infra.streams import GenerationChannel
from service.settings import Settings
from service.worker import outbox
from service.worker.outbox import Outbox


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - of tasks that tell nobody
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("error", [RedisGone("away"), RuntimeError("a mistake"), None])
async def test_what_ends_or_fails_begins_again(error: Exception | None) -> None:
    begun: list[int] = []

    async def listen() -> None:
        begun.append(1)
        if error is not None:
            raise error

    task = asyncio.create_task(keep_running("a test", listen, pause_s=0))
    await eventually(lambda: len(begun) > 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_api_that_does_not_hear_answers_is_not_ready_until_it_does(
    settings: Settings, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        questions = app.state.context.questions
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            with monkeypatch.context() as deaf:

                async def replies(*_: object) -> None:
                    raise RuntimeError("a mistake")

                deaf.setattr(GenerationChannel, "replies", replies)
                await eventually(lambda: not questions.is_listening)
                answer = await client.get("/readyz")
                assert (answer.status_code, answer.json()["checks"]["answers"]["ok"]) == (503, False)
            await eventually(lambda: questions.is_listening)
            assert (await client.get("/readyz")).status_code == 200
            assert (await client.get("/generate", params={"prompt": "Who?"})).json()["text"] == "Ann"


async def test_what_redis_does_not_take_arrives_later_and_in_its_order(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "RETRY_S", 0.01)
    failures = [RedisGone("away")] * 3

    class Stumbling(GenerationChannel):
        async def reply(self, reply_to: str, *replies: GenerateReply) -> None:
            if failures:
                box.put(reply_to, GenerateReply("r1", text=str(4 - len(failures))))
                raise failures.pop()
            await resources.generation.reply(reply_to, *replies)

    box = Outbox(Stumbling(resources.redis, None))  # type: ignore[arg-type]
    box.put("api-1", GenerateReply("r1", text="0"))
    task = asyncio.create_task(box.run())
    await eventually(lambda: box.empty)
    task.cancel()
    assert [reply.text for reply in (await resources.generation.replies("api-1", [], 10))[1]] == ["0", "1", "2", "3"]
