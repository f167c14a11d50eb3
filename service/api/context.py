"""What a route can reach, and the addresses and errors that several routes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import Depends, Header, Request

from service.api.generation import Questions
from service.api.problems import Problem
from service.bootstrap import Resources
from service.errors import BadEncoding


@dataclass(frozen=True, slots=True)
class Context:
    resources: Resources
    questions: Questions


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


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
