"""The description at /openapi.json: what FastAPI gathers from the routes, and what it gets wrong of errors, keys and bounds."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from service.api.problems import MEDIA_TYPE, OPENAI
from service.domain.access import is_open, needed

PROBLEM = {"$ref": "#/components/schemas/Problem"}
OPENAI_ERROR = {"$ref": "#/components/schemas/ErrorOut"}
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
FRAMEWORKS_OWN = "HTTPValidationError"  # FastAPI's shape of a 422, added wherever none is described; nothing answers with it


class Documented(FastAPI):
    """keyed: whether requests need a key."""

    def __init__(self, *, keyed: bool, **options: Any) -> None:
        self._keyed, self._completed = keyed, dict[str, Any]()
        super().__init__(**options)

    def openapi(self) -> dict[str, Any]:
        schema = super().openapi()  # the same object until routes change
        if schema is not self._completed:
            self._complete(schema)
            self._completed = schema
        return schema

    def _complete(self, schema: dict[str, Any]) -> None:
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                responses = operation["responses"]
                if FRAMEWORKS_OWN in str(responses.get("422")):
                    del responses["422"]
                if not is_open(path):
                    _may_be_turned_away(operation, method, _error(path))
                if self._keyed and not is_open(path):
                    _ask_for_a_key(operation, _error(path), scoped=needed(method.upper(), path) is not None)
                for response in responses.values():
                    _as_problem(response)
        _with_whole_bounds(schema)
        for name in (FRAMEWORKS_OWN, "ValidationError"):
            schema["components"]["schemas"].pop(name, None)
        if self._keyed:
            described = "A key with the scope that the route needs; `errata keys add` makes one."
            schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": described}}


def _error(path: str) -> dict[str, Any]:
    return {"application/json": {"schema": OPENAI_ERROR}} if path.startswith(OPENAI) else {MEDIA_TYPE: {"schema": PROBLEM}}


def _may_be_turned_away(operation: dict[str, Any], method: str, content: dict[str, Any]) -> None:
    operation["responses"]["421"] = {"description": "A Host that is not this service's", "content": content}
    if method != "get":
        operation["responses"]["403"] = {"description": "An Origin that may not ask", "content": content}
    if "requestBody" in operation:
        operation["responses"]["415"] = {"description": "A body that is not said to be JSON", "content": content}


def _ask_for_a_key(operation: dict[str, Any], content: dict[str, Any], scoped: bool) -> None:
    operation["security"] = [{"key": []}]
    operation["responses"]["401"] = {"description": "No key, or none that is known", "content": content}
    if scoped:
        operation["responses"]["403"] = {
            "description": "The key lacks the scope, or the Origin may not ask",
            "content": content,
        }


def _as_problem(response: dict[str, Any]) -> None:
    """FastAPI files a model under the media type of a route's success."""
    if any(each.get("schema") == PROBLEM for each in response.get("content", {}).values()):
        response["content"] = {MEDIA_TYPE: {"schema": PROBLEM}}


def _with_whole_bounds(part: Any) -> None:
    """FastAPI makes every bound a float, and 2^62 as a float is written as 4.611686018427388e+18: more than it is."""
    if isinstance(part, list):
        for each in part:
            _with_whole_bounds(each)
    elif isinstance(part, dict):
        for name, value in part.items():
            if name in BOUNDS and isinstance(value, float) and value.is_integer():
                part[name] = int(value)
            else:
                _with_whole_bounds(value)
