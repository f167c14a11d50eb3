"""Redis Streams: the doorbell that says "look into the ledger", and the channel for questions and answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Container, Mapping, Sequence
from typing import Any

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from service.domain.messages import GenerateReply, GenerateRequest, WorkerStatus
from service.errors import StorageUnavailable
from service.infra.keys import WORKERS, WRITERS, Keys

log = structlog.get_logger()
DOORBELL_LENGTH = 1_000  # a bell, not a queue: how many old rings are kept does not matter
GENERATE_LENGTH = 10_000
REPLIES_LENGTH = 10_000
REPLIES_TTL_S = 300
STATUS_TTL_S = 4
RING_TIMEOUT_S = 1.0  # whoever posts is waiting for it
LONGEST_BLOCK_S = 5.0  # of any blocking read
CONNECTIONS = 20  # of one process, of which blocking reads and subscriptions hold four


def connect(url: str) -> Redis:
    """One client for everything. Its read timeout is above any blocking read, so that a silent Redis is noticed.

    Whoever comes when all connections are in use waits for one: many asking at once is no reason to fail.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=LONGEST_BLOCK_S * 3,
        decode_responses=True,
        socket_connect_timeout=3,
        socket_timeout=LONGEST_BLOCK_S * 3,
        health_check_interval=15,
        retry=Retry(NoBackoff(), 1),
    )
    return Redis.from_pool(pool)


def _unavailable(error: Exception) -> StorageUnavailable:
    return StorageUnavailable(f"Redis: {error}", retry_after_s=2)


async def ping(redis: Redis) -> None:
    try:
        await _done(redis.ping())
    except RedisError as error:
        raise _unavailable(error) from error


async def _done(result: Any) -> Any:
    """redis-py types commands as maybe-awaitable; here they always are."""
    return await result if isinstance(result, Awaitable) else result


class Group:
    """One consumer of one stream's group, which makes the group anew whenever Redis has forgotten it."""

    def __init__(self, redis: Redis, stream: str, group: str, consumer: str) -> None:
        self._redis, self._stream, self._group, self._consumer = redis, stream, group, consumer

    async def read(self, count: int, block_ms: int) -> list[tuple[str, dict[str, str]]]:
        """New entries of this group, waiting at most block_ms. Raises RedisError when Redis is away."""
        try:
            found = await self._read(count, block_ms)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self._create()
            found = await self._read(count, block_ms)
        return [entry for _, entries in _pairs(found) for entry in entries]

    async def _read(self, count: int, block_ms: int) -> Any:
        return await self._redis.xreadgroup(self._group, self._consumer, {self._stream: ">"}, count=count, block=block_ms)

    async def _create(self) -> None:
        with contextlib.suppress(ResponseError):  # BUSYGROUP: another consumer was faster
            await self._redis.xgroup_create(self._stream, self._group, id="0", mkstream=True)

    async def take_over(self, idle_ms: int) -> list[tuple[str, dict[str, str]]]:
        """Entries that another consumer took and, for idle_ms, has not finished."""
        try:
            found = await self._redis.xautoclaim(self._stream, self._group, self._consumer, min_idle_time=idle_ms, count=50)
        except ResponseError:
            return []
        return [(entry, fields) for entry, fields in found[1] if fields]

    async def handed_out(self, known: Container[str]) -> list[tuple[str, dict[str, str]]]:
        """What Redis has given to this consumer, beside what is known: the connection may have broken on the way.

        Raises RedisError.
        """
        try:
            pending = await self._redis.xpending_range(self._stream, self._group, "-", "+", GENERATE_LENGTH, self._consumer)
            if all(each["message_id"] in known for each in pending):
                return []
            found = await self._redis.xreadgroup(self._group, self._consumer, {self._stream: "0"})
        except ResponseError:  # there is no group yet
            return []
        return [(entry, fields) for _, entries in _pairs(found) for entry, fields in entries if fields and entry not in known]

    async def forget_consumers(self, idle_ms: int) -> None:
        """Those that have taken nothing and not asked for so long; each start of a worker makes another. Raises RedisError."""
        try:
            found = await self._redis.xinfo_consumers(self._stream, self._group)
        except ResponseError:  # there is no group yet
            return
        for each in found:
            if not each["pending"] and each["idle"] > idle_ms:
                await self._redis.xgroup_delconsumer(self._stream, self._group, each["name"])

    async def waited_s(self, entries: Sequence[str]) -> list[float]:
        """Seconds since each was put into the stream, all by Redis' clock, whatever the clocks of others. Raises RedisError."""
        seconds, microseconds = await _done(self._redis.time())
        return [max(seconds + microseconds / 1e6 - _position(entry)[0] / 1e3, 0.0) for entry in entries]

    async def done(self, *entries: str) -> None:
        """What is finished is not kept: there is one group a stream."""
        if not entries:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xack(self._stream, self._group, *entries)
            pipe.xdel(self._stream, *entries)
            await pipe.execute()


def _pairs(found: Any) -> Sequence[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """RESP2 answers with a list of pairs, RESP3 with a mapping of lists of lists."""
    if not found:
        return []
    if isinstance(found, dict):
        return [
            (stream, entries[0] if entries and isinstance(entries[0], list) else entries) for stream, entries in found.items()
        ]
    return list(found)


def _understood(text: str) -> list[GenerateReply]:
    """One reply, or none where it is not understood: others must not wait for it."""
    try:
        return [GenerateReply.from_json(text)]
    except (ValueError, TypeError, RecursionError) as error:
        log.warning("a reply was not understood", detail=str(error))
        return []


def _position(entry: str) -> tuple[int, int]:
    """Entries in their order."""
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number)


def _is_to_come(entry: str, group: Mapping[str, Any]) -> bool:
    """Whether the group has yet to read it: it is after what was read last, and there is something left to read."""
    return _position(entry) > _position(group["last-delivered-id"]) and group.get("lag") != 0


class Doorbell:
    """Rings the writer. A lost ring costs the sweep interval, nothing else."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    async def ring(self, edit_ids: Sequence[int]) -> bool:
        """False when Redis is away or silent; the edits are safe all the same."""
        fields: dict[Any, Any] = {"first": str(edit_ids[0]), "count": str(len(edit_ids))}
        try:
            async with asyncio.timeout(RING_TIMEOUT_S):
                await self._redis.xadd(self._keys.doorbell, fields, maxlen=DOORBELL_LENGTH, approximate=True)
        except (RedisError, TimeoutError):
            return False
        return True

    def listener(self, consumer: str) -> Group:
        return Group(self._redis, self._keys.doorbell, WRITERS, consumer)


async def _heard(redis: Redis, channel: str) -> AsyncIterator[str]:
    """What is published from now on. Raises RedisError when Redis goes away."""
    async with redis.pubsub(ignore_subscribe_messages=True) as subscription:
        await subscription.subscribe(channel)
        while True:
            message = await subscription.get_message(timeout=LONGEST_BLOCK_S)
            if message is not None:
                yield str(message["data"])


class GenerationChannel:
    """Questions to whichever worker is free, answers to the api process that asked."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    async def ask(self, request: GenerateRequest) -> str:
        """The question's entry in the stream. Raises StorageUnavailable."""
        fields: dict[Any, Any] = {"request": request.to_json()}
        try:
            entry = await self._redis.xadd(self._keys.generate, fields, maxlen=GENERATE_LENGTH, approximate=True)
        except RedisError as error:
            raise _unavailable(error) from error
        return str(entry)

    async def withdraw(self, request_id: str, entry: str) -> None:
        """Nobody waits for it any more: let no worker take it, and tell those that have. Unheard, it costs an answer's time."""
        with contextlib.suppress(RedisError):
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.publish(self._keys.cancelled, request_id)
                if entry:
                    pipe.xack(self._keys.generate, WORKERS, entry)
                    pipe.xdel(self._keys.generate, entry)
                await pipe.execute(raise_on_error=False)

    async def places(self, entries: Sequence[str]) -> dict[str, str]:
        """Which consumer has each question, empty where it still waits. What is missing is finished, or Redis has lost it.

        Raises StorageUnavailable.
        """
        if not entries:
            return {}
        ordered = sorted(entries, key=_position)
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.xpending_range(self._keys.generate, WORKERS, ordered[0], ordered[-1], GENERATE_LENGTH)
                pipe.xinfo_groups(self._keys.generate)
                pending, groups = await pipe.execute(raise_on_error=False)
        except RedisError as error:
            raise _unavailable(error) from error
        if isinstance(groups, ResponseError):  # there is no such stream
            return {}
        for failure in (groups, pending):
            if isinstance(failure, RedisError) and "NOGROUP" not in str(failure):
                raise _unavailable(failure)
        taken = {} if isinstance(pending, RedisError) else {each["message_id"]: str(each["consumer"]) for each in pending}
        group = next((each for each in groups if each["name"] == WORKERS), None)
        waiting = dict.fromkeys((each for each in entries if group is None or _is_to_come(each, group)), "")
        return {**waiting, **{entry: taken[entry] for entry in entries if entry in taken}}

    def questions(self, consumer: str) -> Group:
        return Group(self._redis, self._keys.generate, WORKERS, consumer)

    async def reply(self, reply_to: str, *replies: GenerateReply) -> None:
        """Several at a time go in one entry. Raises RedisError."""
        stream = self._keys.replies(reply_to)
        fields: dict[Any, Any] = {str(number): reply.to_json() for number, reply in enumerate(replies)}
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(stream, fields, maxlen=REPLIES_LENGTH, approximate=True)
            pipe.expire(stream, REPLIES_TTL_S)
            await pipe.execute()

    async def replies(self, api_id: str, heard: Sequence[str], block_ms: int) -> tuple[list[str], list[GenerateReply]]:
        """Entries that are in the stream and the replies in them, waiting at most block_ms. Those heard are deleted first.

        Nothing else is remembered of what was read, so a stream that Redis has lost and made anew is read like any other.
        Raises RedisError.
        """
        stream = self._keys.replies(api_id)
        async with self._redis.pipeline(transaction=False) as pipe:  # one way there and back, for it is gone every token
            if heard:
                pipe.xdel(stream, *heard)
            pipe.xread({stream: "0"}, count=100, block=block_ms)
            *_, found = await pipe.execute()
        read = [entry for _, entries in _pairs(found) for entry in entries]
        return [entry for entry, _ in read], [
            reply for _, fields in read for text in fields.values() for reply in _understood(text)
        ]

    async def cancellations(self) -> AsyncIterator[str]:
        """Ids of questions whose askers go, from now on. Raises RedisError when Redis goes away."""
        async for id in _heard(self._redis, self._keys.cancelled):
            yield id


class Presence:
    """Workers say how they are every second or two; a status that is not refreshed goes away by itself."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    async def announce(self, status: WorkerStatus) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.sadd(self._keys.workers, status.name)
            pipe.set(self._keys.worker(status.name), status.to_json(), ex=STATUS_TTL_S)
            await pipe.execute()

    async def leave(self, name: str) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.srem(self._keys.workers, name)
            pipe.delete(self._keys.worker(name))
            await pipe.execute()

    async def forget_all(self) -> None:
        """When a worker has ended, perhaps killed: whoever lives says so again in a second."""
        with contextlib.suppress(RedisError):
            names = await _done(self._redis.smembers(self._keys.workers))
            await _done(self._redis.delete(self._keys.workers, *(self._keys.worker(name) for name in names)))

    async def workers(self) -> list[WorkerStatus]:
        """Raises StorageUnavailable when Redis is away."""
        try:
            names = sorted(await _done(self._redis.smembers(self._keys.workers)))
            if not names:
                return []
            found = await _done(self._redis.mget([self._keys.worker(name) for name in names]))
            gone = [name for name, status in zip(names, found, strict=True) if status is None]
            if gone:
                await _done(self._redis.srem(self._keys.workers, *gone))
        except RedisError as error:
            raise _unavailable(error) from error
        return [WorkerStatus.from_json(status) for status in found if status is not None]


class HeadChannel:
    """Says that there is a new head revision."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    async def publish(self, number: int) -> None:
        with contextlib.suppress(RedisError):
            await _done(self._redis.publish(self._keys.head, str(number)))

    async def heard(self) -> AsyncIterator[str]:
        """Numbers of new heads, from now on. Raises RedisError when Redis goes away."""
        async for number in _heard(self._redis, self._keys.head):
            yield number


class RevokedChannel:
    """Says which API key has been revoked, so that no api process goes on believing what it remembers of it."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    async def publish(self, id: str) -> bool:
        """Whether anybody heard. Unheard, it costs the few seconds that keys are remembered."""
        try:
            return bool(await _done(self._redis.publish(self._keys.revoked, id)))
        except RedisError:
            return False

    async def heard(self) -> AsyncIterator[str]:
        """Ids of revoked keys, from now on. Raises RedisError when Redis goes away."""
        async for id in _heard(self._redis, self._keys.revoked):
            yield id
