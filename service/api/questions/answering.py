"""Answers on their way to a client: several at once, as server-sent events, and only for as long as the client is there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import structlog
from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from service.api.questions.generation import Question, Questions
from service.domain.messages import GenerateReply
from service.errors import ClientGone, ErrataError

log = structlog.get_logger()
T = TypeVar("T")
DONE = "data: [DONE]\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # or a proxy would gather the events


async def together(
    questions: Questions, asked: Sequence[Question], *, stream: bool
) -> AsyncGenerator[tuple[int, GenerateReply]]:
    """All replies to several questions as they come, each with its question's index, some questions at a time.

    Raises what the first to fail raises.
    """
    # Of one place, so that what a slow client has not taken waits where it counts as waiting: among the open questions.
    heard: asyncio.Queue[tuple[int, GenerateReply | Exception | None]] = asyncio.Queue(1)
    places = asyncio.Semaphore(questions.at_once)  # one request does not fill the queue

    async def follow(index: int, question: Question) -> None:
        try:
            async with places, aclosing(questions.stream(question, stream=stream)) as replies:
                async for reply in replies:
                    await heard.put((index, reply))
            await heard.put((index, None))
        except Exception as error:  # raised again below, where somebody listens
            await heard.put((index, error))

    following = [asyncio.create_task(follow(index, question)) for index, question in enumerate(asked)]
    left = len(following)
    try:
        while left:
            index, found = await heard.get()
            if isinstance(found, Exception):
                raise found
            if found is None:
                left -= 1
            else:
                yield index, found
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)


async def all_answers(questions: Questions, asked: Sequence[Question]) -> list[GenerateReply]:
    """The whole answers, in the order of the questions."""
    async with aclosing(together(questions, asked, stream=False)) as replies:
        answers = {index: reply async for index, reply in replies}
    return [answers[index] for index in range(len(asked))]


async def while_here(request: Request, work: Awaitable[T]) -> T:
    """What the work comes to, unless the client hangs up: then the work is cancelled. Raises ClientGone."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_left(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone("the client has hung up")
        return working.result()
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def event_stream(request: Request, events: AsyncGenerator[str], longest_s: float) -> Response:
    """A response that begins with the first event, so that what goes wrong before it has a status of its own.

    A client that has not taken all of it after longest_s is hung up on.
    """
    try:
        first = await while_here(request, anext(events))
    except BaseException:
        await events.aclose()
        raise
    return _Events(first, events, longest_s)


class _Events(StreamingResponse):
    """Ends the source when the client hangs up, also while there is nothing to send, or does not read."""

    def __init__(self, first: str, events: AsyncGenerator[str], longest_s: float) -> None:
        self._events, self._longest_s = events, longest_s
        super().__init__(_with_errors(first, events), headers=HEADERS, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self.stream_response(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            ended, _ = await asyncio.wait({sending, leaving}, timeout=self._longest_s, return_when=asyncio.FIRST_COMPLETED)
            if not ended:
                log.warning("hung up on a client that does not read", path=scope["path"], after_s=self._longest_s)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            await self._events.aclose()


async def _with_errors(first: str, events: AsyncIterator[str]) -> AsyncIterator[str]:
    """The status has been sent: an error can only be the last event."""
    yield first
    try:
        async for each in events:
            yield each
    except ErrataError as error:
        log.warning("answer broken off", code=error.code, detail=error.detail)
        yield event({"error": {"message": error.detail, "type": "server_error", "param": None, "code": error.code}})


def event(data: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
