"""A client that does not read is hung up on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from fastapi import Request
from starlette.types import Message

from service.api.questions.answering import event_stream


async def test_a_client_that_does_not_read_is_hung_up_on() -> None:
    ended = asyncio.Event()

    async def events() -> AsyncGenerator[str]:
        try:
            while True:
                yield "data: and on\n\n"
        finally:
            ended.set()

    async def silent() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def full(_: Message) -> None:
        await asyncio.Event().wait()

    scope = {"type": "http", "path": "/generate", "headers": []}
    response = await event_stream(Request(scope, silent), events(), longest_s=0.01)
    async with asyncio.timeout(60):
        await response(scope, silent, full)
    assert ended.is_set()
