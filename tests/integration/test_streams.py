"""Redis may forget everything at any time; only latency is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from service.bootstrap import Resources
from service.domain.messages import GenerateReply, GenerateRequest, WorkerStatus
from service.errors import StorageUnavailable
from service.infra.keys import Keys
from service.infra.streams import Doorbell, GenerationChannel, Presence, connect

REQUEST = GenerateRequest("r1", "api-1", "Who?", False, 8, 0.0, 0, 1.0, 2.0)


async def forget(resources: Resources) -> None:
    """As a Redis without persistence does when it is restarted: this installation's keys are gone."""
    keys = [key async for key in resources.redis.scan_iter(f"{resources.settings.redis_prefix}:*")]
    await resources.redis.delete(*keys)


async def test_a_ring_before_anybody_listened_is_heard(resources: Resources) -> None:
    assert await resources.doorbell.ring([1, 2])
    heard = await resources.doorbell.listener("writer").read(count=10, block_ms=10)
    assert [fields for _, fields in heard] == [{"first": "1", "count": "2"}]


async def test_the_bell_works_again_after_redis_forgot_everything(resources: Resources) -> None:
    listener = resources.doorbell.listener("writer")
    await resources.doorbell.ring([1])
    await listener.read(count=10, block_ms=10)
    await forget(resources)
    await resources.doorbell.ring([2])
    assert [fields["first"] for _, fields in await listener.read(count=10, block_ms=10)] == ["2"]


async def test_a_question_goes_to_one_worker_alone(resources: Resources) -> None:
    await resources.generation.ask(REQUEST)
    one, other = (resources.generation.questions(name) for name in ("w1", "w2"))
    taken = [*await one.read(count=10, block_ms=10), *await other.read(count=10, block_ms=10)]
    assert [GenerateRequest.from_json(fields["request"]) for _, fields in taken] == [REQUEST]


async def test_answers_reach_the_api_that_asked(resources: Resources) -> None:
    reply = GenerateReply("r1", text="Ann", revision=3)
    await resources.generation.reply("api-1", reply)
    assert (await resources.generation.replies("api-1", [], 10))[1] == [reply]
    assert await resources.generation.replies("api-2", [], 10) == ([], [])


async def test_answers_are_heard_from_a_stream_that_was_made_anew_with_earlier_entries(resources: Resources) -> None:
    stream, before, after = Keys(resources.settings.redis_prefix).replies("api-1"), GenerateReply("r1"), GenerateReply("r2")
    await resources.redis.xadd(stream, {"0": before.to_json()}, id="99999999999999-0")  # of a clock that was ahead
    heard, replies = await resources.generation.replies("api-1", [], 10)
    await resources.redis.delete(stream)
    await resources.generation.reply("api-1", after)
    assert (replies, (await resources.generation.replies("api-1", heard, 10))[1]) == ([before], [after])


async def test_a_reply_that_is_not_understood_holds_up_no_other(resources: Resources) -> None:
    stream, reply = Keys(resources.settings.redis_prefix).replies("api-1"), GenerateReply("r1")
    await resources.redis.xadd(stream, {"0": "{", "1": '{"tokens": 7}', "2": reply.to_json()})
    assert (await resources.generation.replies("api-1", [], 10))[1] == [reply]


async def test_what_is_finished_is_not_kept(resources: Resources) -> None:
    keys, questions = Keys(resources.settings.redis_prefix), resources.generation.questions("w1")
    await resources.generation.ask(REQUEST)
    [(entry, _)] = await questions.read(count=10, block_ms=10)
    await questions.done(entry)
    assert await resources.redis.xlen(keys.generate) == 0
    heard: list[str] = []
    for piece in range(5):
        await resources.generation.reply("api-1", GenerateReply("r1", text=str(piece)))
        heard, _ = await resources.generation.replies("api-1", heard, 10)
    assert await resources.redis.xlen(keys.replies("api-1")) == 1


async def test_many_at_once_wait_for_a_connection(resources: Resources) -> None:
    assert all(await asyncio.gather(*(resources.redis.ping() for _ in range(300))))


async def test_a_worker_that_goes_silent_is_no_longer_counted(resources: Resources) -> None:
    status = WorkerStatus("w1", 1, "ready", "ready", "m", 0, True, 0)
    await resources.presence.announce(status)
    assert await resources.presence.workers() == [status]
    await resources.redis.delete(Keys(resources.settings.redis_prefix).worker("w1"))
    assert await resources.presence.workers() == []


async def test_without_redis_a_ring_is_lost_and_everything_else_says_so() -> None:
    away, keys = connect("unix:///nowhere/valkey.sock"), Keys("test")
    assert not await Doorbell(away, keys).ring([1])
    with pytest.raises(StorageUnavailable):
        await GenerationChannel(away, keys).ask(REQUEST)
    with pytest.raises(StorageUnavailable):
        await Presence(away, keys).workers()


async def test_a_silent_redis_does_not_hold_up_whoever_rings(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(silent, str(tmp_path / "silent.sock"))
    client = connect(f"unix://{tmp_path}/silent.sock")
    async with asyncio.timeout(10):
        assert await Doorbell(client, Keys("test")).ring([1]) is False
    await client.aclose()
    server.close()
