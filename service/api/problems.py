"""One renderer for every error: problem+json (RFC 9457) with a stable `code`. Input is never echoed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import metrics
from service.errors import AnswerLost, ErrataError, NotFound, NotJson

log = structlog.get_logger()
OPENAI = "/v1/"
_OPENAI_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
MEDIA_TYPE = "application/problem+json"
MOST_ERRORS = 20  # are told of one request
MOST_VALUES = 200_000  # of one body
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# What pydantic calls a mistake -> what we call it.
_CODES = {
    "missing": "missing_field",
    "extra_forbidden": "unknown_field",
    "string_too_long": "too_long",
    "string_too_short": "empty",
    "too_many_bytes": "too_long",
    "too_long": "too_many",
    "too_short": "empty",
    "blank": "empty",
    "forbidden_character": "forbidden_character",
    "string_unicode": "bad_utf8",
    "bad_utf8": "bad_utf8",
    "too_deep": "too_deep",
    "unsupported": "unsupported",
    "json_invalid": "malformed_json",
}
# What FastAPI answers with a bare 400 when a body cannot be parsed.
_CAUSES = {UnicodeDecodeError: "bad_utf8", RecursionError: "malformed_json"}
_TURNED_AWAY = (401, 403, 429, 503)  # and 413, which is counted where it is sent
_HTTP_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 422: "too_many"}


class FieldError(BaseModel):
    """One mistake, and where it is."""

    field: str = Field(examples=["edits.0.prompt"])
    code: str = Field(examples=["too_long"])
    detail: str = Field(examples=["String should have at most 4000 characters"])


class Problem(BaseModel):
    """application/problem+json. `code` is stable; `title` and `detail` are for people."""

    type: str = Field("about:blank", examples=["about:blank"])
    title: str = Field(examples=["The request cannot be taken as it is"])
    status: int = Field(examples=[422])
    code: str = Field(examples=["too_long"])
    detail: str = Field(examples=["edits.0.prompt: String should have at most 4000 characters"])
    errors: list[FieldError] | None = None


def _rendered(path: str, problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """Under /v1 in the shape that OpenAI's clients read. What is turned away, and not wrong in itself, is counted."""
    if problem.status in _TURNED_AWAY:
        metrics.REQUESTS_REFUSED.labels(problem.code).inc()
    if path.startswith(OPENAI):
        status = 400 if problem.status == 422 else problem.status
        field = problem.errors[0].field if problem.errors else ""
        kind = _OPENAI_KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
        error = {"message": problem.detail, "type": kind, "param": field or None, "code": problem.code}
        return JSONResponse({"error": error}, status, headers)
    return JSONResponse(problem.model_dump(exclude_none=True), problem.status, headers, MEDIA_TYPE)


def install(app: FastAPI, max_body_bytes: int) -> None:
    """Make every error of this app a problem."""
    app.add_middleware(_FewValues)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=max_body_bytes)
    app.add_middleware(_TooLargeAsProblem, max_body_bytes=max_body_bytes)  # outside the one above, whose 413 is plain text
    app.add_exception_handler(ErrataError, _errata_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unforeseen)


class _FewValues:
    """Refuses a body of very many values: making sense of it would keep everybody else waiting."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_read = False

        async def counted() -> Message:
            nonlocal is_read
            if is_read:
                return await receive()  # that the client has gone
            parts, is_read = [await receive()], True
            while parts[-1].get("more_body"):
                parts.append(await receive())
            body = b"".join(each.get("body", b"") for each in parts)
            if parts[-1]["type"] != "http.request":
                return parts[-1]
            if _has_many_values(body):
                raise HTTPException(422, f"the body has more than {MOST_VALUES} values; send fewer at a time")
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, counted, send)


def _has_many_values(body: bytes) -> bool:
    """By its punctuation, without that in texts, which costs a fraction of reading it."""
    if _commas(body) <= MOST_VALUES:
        return False
    return body.count(b'"') > 4 * MOST_VALUES or _commas(_STRINGS.sub(b"", body)) > MOST_VALUES  # a name, a text: four quotes


def _commas(body: bytes) -> int:
    """At least as many as the values of a JSON text; more where texts in it have some."""
    return sum(body.count(each) for each in (b",", b"[", b"{"))


class _TooLargeAsProblem:
    """Answers for the body limit, which works below FastAPI and knows no error handlers."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        detail = f"the body is larger than {max_body_bytes} bytes; send fewer edits at a time"
        self._problem = Problem(title="The body is too large", status=413, code="body_too_large", detail=detail)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def watched(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == 413:
                refused = True
            elif not refused:
                await send(message)

        await self._app(scope, receive, watched)
        if refused:
            metrics.REQUESTS_REFUSED.labels(self._problem.code).inc()
            await _rendered(scope["path"], self._problem)(scope, receive, send)


async def _errata_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ErrataError)
    return refusal(request.url.path, error)


def refusal(path: str, error: ErrataError) -> JSONResponse:
    """The response for an error, also below FastAPI."""
    if error.status >= 500:
        log.warning("request failed", path=path, code=error.code, detail=error.detail)
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
    if isinstance(error, AnswerLost):
        headers["x-should-retry"] = "false"  # as OpenAI's clients read it: a question that ends workers is not to come back
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _rendered(path, Problem(title=error.title, status=error.status, code=error.code, detail=error.detail), headers)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes):  # nobody has parsed it
        wanted = "send the header Content-Type: application/json (curl: -H 'Content-Type: application/json')"
        return refusal(request.url.path, NotJson(f"the body does not say that it is JSON; {wanted}"))
    errors = [_field_error(each) for each in error.errors()[:MOST_ERRORS]]
    first = errors[0]
    if error.errors()[0]["loc"][0] == "path":
        return refusal(request.url.path, NotFound(f"there is nothing at this address: {first.detail}"))
    status = 400 if first.code in ("malformed_json", "bad_utf8") else 422
    detail = f"{first.field}: {first.detail}" if first.field else first.detail
    title = "The request cannot be taken as it is"
    return _rendered(request.url.path, Problem(title=title, status=status, code=first.code, detail=detail, errors=errors))


def _field_error(error: Any) -> FieldError:
    kind = str(error["type"])
    code = _CODES.get(kind) or (
        "wrong_type" if kind.endswith(("_type", "_parsing")) or kind == "int_from_float" else "invalid_value"
    )
    return FieldError(field=_path(error["loc"]), code=code, detail=str(error["msg"]).encode("utf-8", "replace").decode())


def _path(location: Sequence[object]) -> str:
    """The field as the caller wrote it: without where it was, and without the <tags> that our types give to their forms."""
    parts = [str(part)[:100] for part in location[1:]]  # a name may be as long as a body
    named = [part for part in parts if not (part.startswith("<") and part.endswith(">"))]
    return ".".join(named).encode("utf-8", "replace").decode()


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _CAUSES.get(type(error.__cause__)) or _HTTP_CODES.get(error.status_code, "http_error")
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed(request))
    return _rendered(
        request.url.path,
        Problem(title=code.replace("_", " "), status=error.status_code, code=code, detail=str(error.detail)),
        headers,
    )


def _allowed(request: Request) -> list[str]:
    """The methods that an address takes: of all its routes, where the framework names those of the first alone."""
    routes, scope = request.app.router.routes, request.scope
    return [each for each in _METHODS if any(route.matches({**scope, "method": each})[0] is Match.FULL for route in routes)]


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    log.error("unforeseen error", path=request.url.path, exc_info=error)
    detail = "this is a defect in Errata; the log of the api has the details"
    return _rendered(request.url.path, Problem(title=ErrataError.title, status=500, code=ErrataError.code, detail=detail))
