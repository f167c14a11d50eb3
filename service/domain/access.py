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
from datetime import UTC, datetime
from enum import StrEnum

PREFIX = "errata"
LONGEST_NAME = 100
ASKING = ("/generate", "/tokenize", "/detokenize")
OPEN_PATHS = ("/livez", "/readyz", "/metrics", "/docs", "/redoc", "/openapi.json")


class Scope(StrEnum):
    """ADMIN allows everything. An EDIT key reads what became of its own edits, a READ or ROLLBACK key the whole ledger."""

    GENERATE = "generate"
    READ = "read"
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
    owner: str = ""  # id of the first key of those that took each other's place: facts belong to all of them
    expires_at: datetime | None = None

    def opens(self, secret: str) -> bool:
        """Whether this is its secret, in constant time, and it has neither been revoked nor expired."""
        return hmac.compare_digest(self.secret_hash, hashed(secret)) and self.revoked_at is None and not self.has_expired

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)

    @property
    def may_replace_any(self) -> bool:
        """Whoever may take facts back may replace them."""
        return Scope.ROLLBACK in self.scopes or Scope.ADMIN in self.scopes

    def allows(self, needed: Collection[Scope] | None) -> bool:
        """Whether one of these is among its scopes; None: any key will do."""
        return needed is None or Scope.ADMIN in self.scopes or not set(needed).isdisjoint(self.scopes)


def new_key(
    name: str, scopes: Collection[Scope], expires_at: datetime | None = None, owner: str | None = None
) -> tuple[ApiKey, str]:
    """A key and what its owner is shown, once. owner: of the key whose place it takes."""
    id, secret = secrets.token_hex(4), secrets.token_hex(24)
    ordered = tuple(scope for scope in Scope if scope in scopes)
    key = ApiKey(id, name, hashed(secret), ordered, owner=owner or id, expires_at=expires_at)
    return key, f"{PREFIX}_{id}_{secret}"


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
    if path in ASKING or (path.startswith("/v1/") and not path.startswith("/v1/models")):
        return Scope.GENERATE
    return None if method in ("GET", "HEAD", "OPTIONS") or is_open(path) else Scope.EDIT


LEDGER = (Scope.READ, Scope.ROLLBACK)
OWN = (*LEDGER, Scope.EDIT)  # the last of them for its own alone: the route sees to that


def needed(method: str, path: str, *, reading_is_open: bool = False) -> tuple[Scope, ...] | None:
    """Of which scopes a request needs one. A change that is not known here takes an admin.

    reading_is_open: any key may read the ledger.
    """
    first, _, rest = path.lstrip("/").partition("/")
    if path in ASKING or first == "v1":
        return (Scope.GENERATE,)
    if method in ("GET", "HEAD", "OPTIONS"):
        return None if reading_is_open or path == "/stats" else OWN if first in ("edits", "operations") else LEDGER
    if first == "edits":
        return (Scope.ROLLBACK,) if method == "DELETE" else (*OWN[1:],) if rest.endswith("/cancel") else (Scope.EDIT,)
    if path in ("/rollback", "/rebuild") or first == "operations":
        return (Scope.ROLLBACK,)
    return (Scope.ADMIN,)
