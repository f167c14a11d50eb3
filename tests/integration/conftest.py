from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from service.api.app import create_app
from service.bootstrap import Resources, build
from service.domain.messages import GenerateReply, GenerateRequest, WorkerStatus
from service.ledger import lease
from service.ledger.lease import Lease
from service.settings import Settings


@pytest.fixture
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    built = build(settings, "test")
    yield built
    await built.close()


@pytest.fixture
async def held(resources: Resources) -> Lease:
    """A writer lease with a long life."""
    acquired = await lease.acquire(resources.database, "test-writer", 60)
    assert acquired is not None
    return acquired


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@pytest.fixture
async def worker(settings: Settings) -> AsyncIterator[Resources]:
    """Stands in for a worker: takes questions and answers "Ann", or an error for a prompt that ends with !code, after what
    comes before it when it is streamed."""
    resources = build(settings, "worker")
    status = WorkerStatus("w", 1, "ready", "ready", "m", 5, True, 0, context_tokens=64, ready_at=1_700_000_000)
    await resources.presence.announce(status)
    ended = asyncio.Event()

    async def answer() -> None:
        questions = resources.generation.questions("w")
        while not ended.is_set():
            await resources.presence.announce(status)  # it is believed for some seconds only
            for entry, fields in await questions.read(count=10, block_ms=50):
                asked = GenerateRequest.from_json(fields["request"])
                for reply in _said(asked):
                    await resources.generation.reply(asked.reply_to, reply)
                await questions.done(entry)

    task = asyncio.create_task(answer())
    yield resources
    ended.set()
    await task
    await resources.close()


def _said(asked: GenerateRequest) -> list[GenerateReply]:
    begun, _, code = asked.prompt.partition("!")
    if not code:
        whole = GenerateReply(asked.id, text="Ann", revision=5, prompt_tokens=2, completion_tokens=1, finish_reason="stop")
        if asked.is_read_only:
            return [replace(whole, ids=[7, 8], pieces=["A", "nn"])]
        return [replace(whole, echoed=[])] if asked.echo else [whole]
    error = GenerateReply(asked.id, error_code=code, error_detail="no")
    return [GenerateReply(asked.id, text=begun, revision=5), error] if asked.stream and begun else [error]
