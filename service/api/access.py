"""Who asks: the key in `Authorization: Bearer` is looked at before a body is read."""

from __future__ import annotations

import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import refusal
from service.domain.access import ApiKey, is_open, needed, parts
from service.errors import ErrataError, Forbidden, Unauthenticated
from service.infra.postgres import Database
from service.ledger.access import find_key

BELIEVED_FOR_S = 5.0  # so long may a revoked key go on
REMEMBERED = 1000


class Keyed:
    """Lets a request through when its key allows it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._known: dict[str, tuple[float, ApiKey | None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            await self._check(scope)
        except ErrataError as error:
            await refusal(scope["path"], error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        kind, _, shown = Headers(scope=scope).get("Authorization", "").partition(" ")
        found = parts(shown.strip()) if kind.lower() == "bearer" else None
        if found is None:
            raise Unauthenticated("this needs a key: Authorization: Bearer errata_…; `errata keys add` makes one")
        id, secret = found
        key = await self._key(scope["app"].state.context.resources.database, id)
        if key is None or not key.opens(secret):
            raise Unauthenticated("this key is not known, or has been revoked")
        wanted = needed(scope["method"], scope["path"])
        if not key.allows(wanted):
            raise Forbidden(f"the key {key.id} does not have the scope {wanted.value if wanted else ''}")

    async def _key(self, database: Database, id: str) -> ApiKey | None:
        until, key = self._known.get(id, (0.0, None))
        if time.monotonic() > until:
            key = await find_key(database, id)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[id] = (time.monotonic() + BELIEVED_FOR_S, key)
        return key
