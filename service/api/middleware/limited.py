"""How much anyone may ask for, by API key: rates, and questions under way at once. What is beyond is not read at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from limits import RateLimitItem, parse_many
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Request

from service.api.middleware.access import key_of
from service.api.problems import refusal
from service.domain.access import Scope, counted_as
from service.errors import RateLimited, TooManyAtOnce
from service.infra.rates import Allowance
from service.settings import Settings


def limits_of(settings: Settings) -> dict[Scope, list[RateLimitItem]]:
    """The rates that the settings set, by what is counted."""
    texts = {Scope.GENERATE: settings.rate_limit_generate, Scope.EDIT: settings.rate_limit_edits}
    return {kind: parse_many(text) for kind, text in texts.items() if text}


class RateLimits:
    """Counts by key, or by address where no keys are asked for. A batch of facts is one request."""

    def __init__(self, app: ASGIApp, limits: Mapping[Scope, Sequence[RateLimitItem]]) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, request: Request, receive: Receive, send: Send) -> None:
        kind = counted_as(request["method"], request["path"]) if request["type"] == "http" else None
        limits = self._limits.get(kind) if kind else None
        if not kind or not limits:
            await self._app(request, receive, send)
            return
        allowance = await request["app"].state.context.resources.rates.take(limits, kind.value, _caller(request))
        send = _telling(allowance, send)
        if allowance.taken:
            await self._app(request, receive, send)
            return
        detail = f"no more than {' and '.join(map(str, limits))}; try again in {allowance.reset_s} s"
        error = RateLimited(detail, retry_after_s=allowance.reset_s)
        await refusal(request["path"], error)(request, receive, send)


def _caller(request: Request) -> str:
    return key_of(request) or str((request["client"] or ["local"])[0])


def _telling(allowance: Allowance, send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["RateLimit-Limit"] = str(allowance.limit)
            headers["RateLimit-Remaining"] = str(allowance.remaining)
            headers["RateLimit-Reset"] = str(allowance.reset_s)
        await send(message)

    return with_headers


class ConcurrencyLimit:
    """Counts a key's questions from request to the end of the answer, streaming included, in this process."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most
        self._under_way: Counter[str] = Counter()

    async def __call__(self, request: Request, receive: Receive, send: Send) -> None:
        key = key_of(request)
        if key is None or counted_as(request["method"], request["path"]) is not Scope.GENERATE:
            await self._app(request, receive, send)
            return
        if self._under_way[key] >= self._most:
            error = TooManyAtOnce(f"{self._most} questions of this key are under way", retry_after_s=1)
            await refusal(request["path"], error)(request, receive, send)
            return
        self._under_way[key] += 1
        try:
            await self._app(request, receive, send)
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]
