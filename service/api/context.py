"""What a route can reach, and the addresses and errors that several routes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import Depends, Header, Request

from service.api.middleware.access import changes_only_own, key_of, reads_only_own
from service.api.problems import Problem
from service.api.questions.generation import Questions
from service.bootstrap import Resources
from service.domain.callers import Caller
from service.errors import BadEncoding


@dataclass(frozen=True, slots=True)
class Context:
    resources: Resources
    questions: Questions


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Actor = Annotated[
    str | None,
    Header(
        alias="X-Errata-Actor",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$",
        description="Who asks for it, in the caller's own word: kept beside the id of the API key, and hashed with it.",
    ),
]


def own_key(request: Request) -> str | None:
    """Id of the key, where it may read only what it has asked for itself."""
    return key_of(request.scope) if reads_only_own(request.scope) else None


OwnKey = Annotated[str | None, Depends(own_key)]


def own_key_of_change(request: Request) -> str | None:
    """Id of the key, where it may change only what it has asked for itself, whatever it may read."""
    return key_of(request.scope) if changes_only_own(request.scope) else None


OwnKeyOfChange = Annotated[str | None, Depends(own_key_of_change)]


def key_id(request: Request) -> str:
    """Id of the key that has let the request through; empty where no keys are asked for."""
    return key_of(request.scope) or ""


KeyId = Annotated[str, Depends(key_id)]


def caller(request: Request, actor: Actor = None) -> Caller:
    """By the key that has let the request through, and by the caller's own word."""
    return Caller(key_id(request), actor or "")


AskedBy = Annotated[Caller, Depends(caller)]
Here = Annotated[Context, Depends(_context)]
IDEMPOTENCY = """What changes facts takes the header `Idempotency-Key`, 1 to 255 visible ASCII characters of your choice: the
same request with the same key gives the first answer again, with `replayed`; while the first is under way, 409; another
request with that key, 422."""
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        include_in_schema=False,  # whether one is taken depends on what was sent before: described in words, IDEMPOTENCY
    ),
]


def refuse_bad_utf8(request: Request) -> None:
    """A query string that is not UTF-8 would otherwise arrive with its bad bytes silently replaced."""
    try:
        unquote_to_bytes(request.scope["query_string"]).decode()
    except UnicodeDecodeError:
        raise BadEncoding("the query string is not UTF-8") from None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the errors a route may answer with; `Documented` gives them their media type."""
    return {status: {"model": Problem} for status in statuses}
