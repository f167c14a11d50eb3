"""What a route can reach, and the addresses and errors that several routes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import Depends, Header, Request

from service.api.generation import Questions
from service.api.problems import MEDIA_TYPE, Problem
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
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Sending the same request again gives the first answer again; while it is under way, 409.",
    ),
]


def refuse_bad_utf8(request: Request) -> None:
    """A query string that is not UTF-8 would otherwise arrive with its bad bytes silently replaced."""
    try:
        unquote_to_bytes(request.scope["query_string"]).decode()
    except UnicodeDecodeError:
        raise BadEncoding("the query string is not UTF-8") from None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the errors a route may answer with."""
    return {status: {"model": Problem, "content": {MEDIA_TYPE: {}}} for status in statuses}
