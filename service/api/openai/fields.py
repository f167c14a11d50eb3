"""What bodies of OpenAI's clients are made of: fields that may be null, and some that may only say what is the case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from service.api.schemas.texts import In, composed
from service.settings import Settings

_LIMITS = Settings()
MOST_CHARS = _LIMITS.max_prompt_tokens * 8
LENGTH = f"At most {_LIMITS.max_prompt_tokens} tokens, and what the model reads."


def not_too_long(text: str) -> str:
    """The text, composed. A guard before anything is tokenised: the limit that counts is one of tokens.

    Raises PydanticCustomError.
    """
    if len(text) > MOST_CHARS:
        raise PydanticCustomError("string_too_long", f"must not have more than {MOST_CHARS} characters")
    return composed(text)


Text = Annotated[str, AfterValidator(not_too_long)]


def one_or_several(value: Any) -> str:
    return "<several>" if isinstance(value, list) else "<one>"


@dataclass(frozen=True)
class Only:
    """Of a field that clients send and that we cannot honour: it may be null, or say what is the case anyway."""

    accepted: Sequence[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._checked)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": [*self.accepted, None], "description": "Not supported."}

    def _checked(self, value: Any) -> Any:
        same = [each for each in self.accepted if each == value and isinstance(each, bool) == isinstance(value, bool)]
        if value is not None and not same:
            raise PydanticCustomError("unsupported", "is not supported here")
        return value


def unless(flag: str, **properties: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of an object whose properties are as given unless the flag is set."""
    return {"anyOf": [{"properties": properties}, {"properties": {flag: {"const": True}}, "required": [flag]}]}


class OpenAIIn(In):
    """A body in which null is absence."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absence(cls, values: Any) -> Any:
        return {name: each for name, each in values.items() if each is not None} if isinstance(values, dict) else values
