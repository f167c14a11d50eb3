"""API keys: what they look like, what they allow, and what a request needs.

A key is errata_ID_SECRET: a name to find it by, an id to speak of it by, and 192 random bits, of which the SHA-256 is kept. A
secret of that many bits needs no slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

PREFIX = "errata"
LONGEST_NAME = 100
OPEN_PATHS = ("/livez", "/readyz", "/metrics", "/docs", "/redoc", "/openapi.json")


class Scope(StrEnum):
    """ADMIN allows everything."""

    GENERATE = "generate"
    EDIT = "edit"
    ROLLBACK = "rollback"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: str
    name: str
    secret_hash: str
    scopes: tuple[Scope, ...]
    created_at: datetime | None = None
    revoked_at: datetime | None = None

    def opens(self, secret: str) -> bool:
        """Whether this is its secret, in constant time, and it has not been revoked."""
        return hmac.compare_digest(self.secret_hash, hashed(secret)) and self.revoked_at is None

    def allows(self, needed: Scope | None) -> bool:
        """None: any key will do."""
        return needed is None or needed in self.scopes or Scope.ADMIN in self.scopes


def new_key(name: str, scopes: Collection[Scope]) -> tuple[ApiKey, str]:
    """A key and what its owner is shown, once."""
    id, secret = secrets.token_hex(4), secrets.token_hex(24)
    ordered = tuple(scope for scope in Scope if scope in scopes)
    return ApiKey(id, name, hashed(secret), ordered), f"{PREFIX}_{id}_{secret}"


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def parts(shown: str) -> tuple[str, str] | None:
    """(id, secret) of what a caller shows, or None for anything that is no key."""
    prefix, _, rest = shown.partition("_")
    id, _, secret = rest.partition("_")
    return (id, secret) if prefix == PREFIX and id and secret and shown.isascii() else None


def is_open(path: str) -> bool:
    """Whether a path asks for no key: health, metrics and the interface's description."""
    return path in OPEN_PATHS or path.startswith("/docs/")


def counted_as(method: str, path: str) -> Scope | None:
    """Whose rate a request takes from: GENERATE for asking, EDIT for all that changes the ledger, None for reading."""
    if path == "/generate" or (path.startswith("/v1/") and not path.startswith("/v1/models")):
        return Scope.GENERATE
    return None if method in ("GET", "HEAD", "OPTIONS") or is_open(path) else Scope.EDIT


def needed(method: str, path: str) -> Scope | None:
    """What a request needs. Reading the ledger takes any key; a change that is not known here takes an admin."""
    if path == "/generate" or path.startswith("/v1/"):
        return Scope.GENERATE
    if method in ("GET", "HEAD"):
        return None
    if path == "/edits":
        return Scope.EDIT
    if path in ("/rollback", "/rebuild") or (method == "DELETE" and path.startswith("/edits/")):
        return Scope.ROLLBACK
    return Scope.ADMIN
