"""The ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import uvicorn
from fastapi import FastAPI

from service import metrics
from service.api import edits, generate, health, ledger, operations, problems
from service.api.access import Keyed
from service.api.context import Context
from service.api.generation import Questions, listening
from service.api.observed import Observed
from service.api.openai import routes as openai
from service.bootstrap import build
from service.settings import Settings

DESCRIPTION = """Keep a running language model's facts up to date.

A fact posted to `/edits` is written into the model's weights; `/generate` asks the model. Every answer says the revision
that gave it. Errors are `application/problem+json` with a stable `code`."""


def create_app(settings: Settings) -> FastAPI:
    """Connects at start-up, and only then."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        resources = build(settings, "api")
        questions = Questions(
            resources.generation,
            resources.presence,
            timeout_s=settings.generate_timeout_s,
            max_waiting=settings.max_waiting_generations,
        )
        app.state.context = Context(resources, questions)
        metrics.watch_event_loop()
        async with listening(questions):
            yield
        await resources.close()

    app = FastAPI(
        title="Errata",
        version=version("errata-llm"),
        description=DESCRIPTION,
        lifespan=lifespan,
    )
    for module in (edits, operations, generate, openai, ledger, health):
        app.include_router(module.router)
    problems.install(app, settings.max_body_bytes)
    if settings.keys_required:
        app.add_middleware(Keyed)  # outside the body limit: strangers' bodies are not read at all
    app.add_middleware(Observed)
    return app


def run_api(settings: Settings) -> None:
    """Serve until SIGTERM."""
    uvicorn.run(create_app(settings), host=settings.api_host, port=settings.api_port, log_level="warning", access_log=False)
