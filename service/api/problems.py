"""One renderer for every error: problem+json (RFC 9457) with a stable `code`. Input is never echoed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from service.errors import ErrataError

log = structlog.get_logger()
MEDIA_TYPE = "application/problem+json"

# What pydantic calls a mistake -> what we call it.
_CODES = {
    "missing": "missing_field",
    "extra_forbidden": "unknown_field",
    "string_too_long": "too_long",
    "string_too_short": "empty",
    "too_long": "too_many",
    "too_short": "empty",
    "blank": "empty",
    "forbidden_character": "forbidden_character",
    "string_unicode": "bad_utf8",
    "bad_utf8": "bad_utf8",
    "json_invalid": "malformed_json",
}
_HTTP_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


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


def _rendered(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(problem.model_dump(exclude_none=True), problem.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of this app a problem."""
    app.add_exception_handler(ErrataError, _errata_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unforeseen)


async def _errata_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ErrataError)
    if error.status >= 500:
        log.warning("request failed", path=request.url.path, code=error.code, detail=error.detail)
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else None
    return _rendered(Problem(title=error.title, status=error.status, code=error.code, detail=error.detail), headers)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [_field_error(each) for each in error.errors()]
    first = errors[0]
    status = 400 if first.code in ("malformed_json", "bad_utf8") else 422
    detail = f"{first.field}: {first.detail}" if first.field else first.detail
    title = "The request cannot be taken as it is"
    return _rendered(Problem(title=title, status=status, code=first.code, detail=detail, errors=errors))


def _field_error(error: Any) -> FieldError:
    kind = str(error["type"])
    code = _CODES.get(kind) or (
        "wrong_type" if kind.endswith(("_type", "_parsing")) or kind == "int_from_float" else "invalid_value"
    )
    return FieldError(field=_path(error["loc"]), code=code, detail=str(error["msg"]).encode("utf-8", "replace").decode())


def _path(location: Sequence[object]) -> str:
    """The field as the caller wrote it: without "body", without the tag of one-or-many."""
    parts = [str(part) for part in location if part not in ("body", "query", "path", "header", "one", "many")]
    return ".".join(parts).encode("utf-8", "replace").decode()


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "http_error")
    headers = dict(error.headers) if error.headers else None
    return _rendered(
        Problem(title=code.replace("_", " "), status=error.status_code, code=code, detail=str(error.detail)), headers
    )


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    log.error("unforeseen error", path=request.url.path, exc_info=error)
    detail = "this is a defect in Errata; the log of the api has the details"
    return _rendered(Problem(title=ErrataError.title, status=500, code=ErrataError.code, detail=detail))
