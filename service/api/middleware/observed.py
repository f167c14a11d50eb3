"""Around every request: an id to speak of it by, a count and a time. Plain ASGI: a client's hanging up passes through."""

from __future__ import annotations

import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import metrics

HEADER = "X-Request-Id"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_TAKEN = re.compile(r"[\x21-\x7e]{1,128}")


class Observed:
    """Counts and times answers by route; echoes the caller's X-Request-Id or makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get(HEADER, "")
        id = asked if _TAKEN.fullmatch(asked) else uuid.uuid4().hex
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = id
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            path = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in METHODS else "other"  # labels cost memory
            metrics.HTTP_REQUESTS.labels(method, path, str(status)).inc()
            metrics.HTTP_SECONDS.labels(method, path).observe(time.perf_counter() - began)
