"""Who asks: the key in `Authorization: Bearer` is looked at before a body is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import refusal
from service.domain.access import LEDGER, ApiKey, is_open, needed, parts
from service.errors import ErrataError, Forbidden, Unauthenticated
from service.infra.listening import keep_running
from service.infra.postgres import Database
from service.infra.streams import RevokedChannel
from service.ledger.access import find_key

log = structlog.get_logger()
BELIEVED_FOR_S = 5.0  # so long may a revoked key go on, where Redis does not say that it is
REMEMBERED = 1000


class KnownKeys:
    """What the ledger said of keys a moment ago, and which have been revoked since this process began."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[float, ApiKey | None]] = {}
        self._revoked: set[str] = set()

    async def find(self, database: Database, id: str) -> ApiKey | None:
        """None for a key that is not known or has been revoked. Raises StorageUnavailable."""
        until, key = self._found.get(id, (0.0, None))
        if time.monotonic() > until:
            key = await find_key(database, id)
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            self._found[id] = (time.monotonic() + BELIEVED_FOR_S, key)
        return None if id in self._revoked else key

    async def listen(self, channel: RevokedChannel) -> None:
        """Hear of revoked keys. Raises RedisError when Redis goes away."""
        async for id in channel.heard():
            self._revoked.add(id)


@asynccontextmanager
async def hearing_of_revoked(keys: KnownKeys, channel: RevokedChannel) -> AsyncIterator[None]:
    task = asyncio.create_task(keep_running("hearing of revoked keys", lambda: keys.listen(channel)))
    try:
        yield
    finally:
        task.cancel()


def key_of(scope: Scope) -> str | None:
    """Id of the key that has let a request through; None where no keys are asked for."""
    id: str | None = scope.get("state", {}).get("api_key_id")
    return id


def reads_only_own(scope: Scope) -> bool:
    """Whether the key that has let a request through may read nothing of the ledger but what it has asked for itself."""
    return bool(scope.get("state", {}).get("reads_only_own"))


def changes_only_own(scope: Scope) -> bool:
    """Whether the key that has let a request through may cancel nothing but what it has asked for itself."""
    return bool(scope.get("state", {}).get("changes_only_own"))


class Keyed:
    """Lets a request through when its key allows it, and notes whose it is.

    reading_is_open: any key may read the ledger.
    """

    def __init__(self, app: ASGIApp, keys: KnownKeys, *, reading_is_open: bool = False) -> None:
        self._app, self._keys, self._reading_is_open = app, keys, reading_is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            key = await self._checked(scope)
            state = scope.setdefault("state", {})
            state["api_key_id"] = key.id
            state["reads_only_own"] = not self._reading_is_open and not key.allows(LEDGER)
            state["changes_only_own"] = not key.may_replace_any
            structlog.contextvars.bind_contextvars(key_id=key.id)
        except ErrataError as error:
            await refusal(scope["path"], error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _checked(self, scope: Scope) -> ApiKey:
        kind, _, shown = Headers(scope=scope).get("Authorization", "").partition(" ")
        found = parts(shown.strip()) if kind.lower() == "bearer" else None
        if found is None:
            raise Unauthenticated("this needs a key: Authorization: Bearer errata_…; `errata keys add` makes one")
        id, secret = found
        key = await self._keys.find(scope["app"].state.context.resources.database, id)
        if key is None or not key.opens(secret):
            raise Unauthenticated("this key is not known, has been revoked or has expired")
        wanted = needed(scope["method"], scope["path"], reading_is_open=self._reading_is_open)
        if not key.allows(wanted):
            named = " or ".join(each.value for each in wanted or ())
            raise Forbidden(f"the key {key.id} does not have the scope {named}")
        return key
