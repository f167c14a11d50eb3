"""Asking a worker and waiting for its answer: one reader of this process's reply stream serves all who wait."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator

import structlog
from redis.exceptions import RedisError

from service.api.schemas import GenerateIn
from service.domain.messages import GenerateReply, GenerateRequest
from service.errors import ErrataError, GenerationTimeout, InvalidInput, ModelNotReady, QueueFull, RevisionNotReached
from service.infra.streams import GenerationChannel, Presence

log = structlog.get_logger()
BLOCK_MS = 5000
_ERRORS: dict[str, type[ErrataError]] = {
    "prompt_too_long": InvalidInput,
    "empty_prompt": InvalidInput,
    "no_chat_template": InvalidInput,
    "revision_not_reached": RevisionNotReached,
}


class Questions:
    """The open questions of this api process."""

    def __init__(self, channel: GenerationChannel, presence: Presence, *, timeout_s: float, max_waiting: int) -> None:
        self._channel, self._presence = channel, presence
        self._timeout_s, self._max_waiting = timeout_s, max_waiting
        self._api_id = uuid.uuid4().hex
        self._waiting: dict[str, asyncio.Future[GenerateReply]] = {}

    async def listen(self) -> None:
        """Bring answers to those who wait, for as long as the process runs."""
        after = "0"
        while True:
            try:
                for entry, reply in await self._channel.replies(self._api_id, after, BLOCK_MS):
                    after = entry
                    waiting = self._waiting.pop(reply.id, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(reply)
            except RedisError as error:
                log.warning("answers cannot be read", detail=str(error))
                after = "0"  # a Redis that lost its data numbers entries anew
                await asyncio.sleep(0.5)

    async def ask(self, question: GenerateIn) -> GenerateReply:
        """The answer.

        Raises ModelNotReady, QueueFull, GenerationTimeout, RevisionNotReached, InvalidInput or StorageUnavailable.
        """
        if not any(worker.state == "ready" for worker in await self._presence.workers()):
            raise ModelNotReady("no worker has the model ready; GET /readyz says what it is waiting for", retry_after_s=5)
        if len(self._waiting) >= self._max_waiting:
            raise QueueFull(
                f"{len(self._waiting)} questions are waiting for an answer", code="too_many_questions", retry_after_s=2
            )
        now = time.time()
        request = GenerateRequest(
            id=uuid.uuid4().hex, reply_to=self._api_id, sent_at=now, deadline=now + self._timeout_s, **question.model_dump()
        )
        waiting = self._waiting[request.id] = asyncio.get_running_loop().create_future()
        try:
            await self._channel.ask(request)
            reply: GenerateReply = await asyncio.wait_for(waiting, self._timeout_s + 0.5)
        except TimeoutError:
            raise GenerationTimeout(f"no answer within {self._timeout_s:.0f} s", retry_after_s=5) from None
        finally:
            self._waiting.pop(request.id, None)
        if reply.error_code:
            raise _ERRORS.get(reply.error_code, ErrataError)(reply.error_detail, code=reply.error_code)
        return reply


@contextlib.asynccontextmanager
async def listening(questions: Questions) -> AsyncIterator[None]:
    task = asyncio.create_task(questions.listen())
    try:
        yield
    finally:
        task.cancel()
