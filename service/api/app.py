"""The ASGI application."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from service import metrics
from service.api import edits, generate, health, ledger, operations, problems
from service.api.context import IDEMPOTENCY, Context
from service.api.documented import Documented
from service.api.middleware.access import Keyed, KnownKeys, hearing_of_revoked
from service.api.middleware.limited import ConcurrencyLimit, RateLimits, limits_of
from service.api.middleware.observed import Observed
from service.api.middleware.origins import EXPOSED, AllowedHosts, SameSite
from service.api.openai import models, tokens
from service.api.openai import routes as openai
from service.api.questions.generation import SLOW_S, Questions, listening
from service.api.questions.turns import Turns
from service.api.sockets import notice_the_gone
from service.bootstrap import build
from service.domain.messages import AHEAD
from service.settings import Settings

DESCRIPTION = f"""Keep a running language model's facts up to date.

A fact posted to `/edits` is taught to the model; `/generate` asks the model. Every answer says the revision
that gave it. Errors are `application/problem+json` with a stable `code`.

{IDEMPOTENCY}"""

KEEP_ALIVE_S = 75  # longer than proxies and pooled clients keep an idle connection


def create_app(settings: Settings) -> FastAPI:
    """Connects at start-up, and only then."""
    keys = KnownKeys()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        resources = build(settings, "api")
        questions = Questions(
            resources.generation,
            resources.presence,
            resources.database,
            timeout_s=settings.generate_timeout_s,
            max_waiting=settings.max_waiting_generations,
            max_waiting_per_key=settings.max_waiting_generations_per_key,
            turns=Turns(settings.max_running + AHEAD, settings.max_running_per_key, settings.kept_tokens // 2),
            at_once=settings.max_choices,
        )
        app.state.context = Context(resources, questions)
        metrics.watch_event_loop()
        async with listening(questions), hearing_of_revoked(keys, resources.revoked):
            yield
        await resources.close()

    app = Documented(
        keyed=settings.keys_required,
        redirect_slashes=False,  # to a host of the caller's choice
        title="Errata",
        version=version("errata-llm"),
        description=DESCRIPTION,
        lifespan=lifespan,
    )
    for module in (edits, operations, generate, openai, models, tokens, ledger, health):
        app.include_router(module.router)
    problems.install(app, settings.max_body_bytes)
    # Outside the body limit, so that what is refused is not read; each is outside those added before it.
    app.add_middleware(RateLimits, limits=limits_of(settings))
    if settings.max_concurrent_per_key:
        app.add_middleware(ConcurrencyLimit, most=settings.max_concurrent_per_key)
    if settings.keys_required:
        app.add_middleware(Keyed, keys=keys, reading_is_open=settings.reading_is_open)
    app.add_middleware(SameSite, allowed=settings.cors_origins)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),  # mirrored: Authorization, Idempotency-Key, and those that OpenAI's client tells of itself
            expose_headers=EXPOSED,
            allow_private_network=True,
        )
    app.add_middleware(AllowedHosts, names=settings.answered_hosts)
    app.add_middleware(Observed)
    return app


def server(settings: Settings) -> uvicorn.Server:
    """What serves the api on its address. Who is asking is what trusted proxies say, or else who is connected."""
    config = uvicorn.Config(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        log_level="warning",
        log_config=None,  # ours, which leaves secrets out
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips="*" if "*" in settings.trusted_proxies else list(settings.trusted_proxies),
    )
    return uvicorn.Server(config)


def run_api(settings: Settings) -> None:
    """Serve until SIGTERM. As `uvicorn.run`, which opens its socket itself. Raises SystemExit when it cannot start."""
    serving = server(settings)
    opened = serving.config.bind_socket()
    notice_the_gone(opened, settings.generate_timeout_s + SLOW_S)
    with suppress(KeyboardInterrupt):
        serving.run(sockets=[opened])
    if not serving.started:
        sys.exit(1)
