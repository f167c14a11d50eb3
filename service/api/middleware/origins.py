"""Where a request comes from, by Host and Origin: no web page makes a browser edit the model behind its user's back.

A page whose name is made to point at this machine (DNS rebinding) is told by its Host, one of another site by its Origin.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from fnmatch import fnmatchcase

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import refusal
from service.domain.access import is_open
from service.errors import HostNotAllowed, OriginNotAllowed

READING = ("GET", "HEAD", "OPTIONS")
EXPOSED = ("X-Request-Id", "Location", "Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")


class AllowedHosts:
    """Lets a request through that is addressed to loopback or to one of these names, in which * stands for anything.

    What asks for no key is answered under any name, and so is a request without a Host, which no browser sends.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app, self._names = app, [name.strip("[]").lower() for name in names]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"]):
            hosts = [_name(each) for each in Headers(scope=scope).getlist("Host")]
            refused = [each for each in hosts if not self._is_allowed(each)]
            if refused:
                detail = f"the header Host says {refused[0][:100]!r}, which this service does not answer to; name it in "
                await refusal(scope["path"], HostNotAllowed(detail + "ERRATA_ALLOWED_HOSTS"))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_allowed(self, host: str) -> bool:
        return host == "localhost" or _is_loopback(host) or any(fnmatchcase(host, name) for name in self._names)


class SameSite:
    """Refuses what changes something and is sent by a page of a site other than the one that it is sent to."""

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app, self._allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in READING:
            headers = Headers(scope=scope)
            foreign = [each for each in headers.getlist("Origin") if not self._is_allowed(each, headers.get("Host", ""))]
            if foreign:
                detail = f"pages of {foreign[0][:100]!r} may not ask this; name that origin in ERRATA_CORS_ORIGINS if they may"
                await refusal(scope["path"], OriginNotAllowed(detail))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_allowed(self, origin: str, host: str) -> bool:
        own = (f"http://{host}".lower(), f"https://{host}".lower())  # which of them, a proxy in between may not say
        return origin.lower() in own or origin in self._allowed or "*" in self._allowed


def _name(host: str) -> str:
    """The header's value without port, brackets and the dot of a name that is whole."""
    name, _, port = host.strip().lower().rpartition(":")
    whole = name if name and port.isdigit() and (name.endswith("]") or ":" not in name) else host.strip().lower()
    return whole.strip("[]").removesuffix(".")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
