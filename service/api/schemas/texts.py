"""What all of them are made of: texts that can be stored, numbers of one kind, nothing unknown."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from service.settings import Settings

# White space by anybody's reading and control characters: what \s means differs from one dialect of patterns to the next.
_VISIBLE = r"[^\s\x00-\x20\x7f-\xa0\ufeff]"
USABLE = rf"^[^\x00]*{_VISIBLE}[^\x00]*$"

MOST_LEVELS, MOST_FIELDS, MOST_UNKNOWN = 32, 1000, 20  # of a body, an object, an object


def composed(text: str) -> str:
    """In Unicode's form NFC: however a text was typed, it is the same one, with the tokens that models have learnt."""
    return unicodedata.normalize("NFC", text)


def usable(text: str) -> str:
    """The text, composed. Raises PydanticCustomError for what Postgres cannot store, and for nothing but white space."""
    if "\x00" in text:
        raise PydanticCustomError("forbidden_character", "must not hold the character U+0000")
    if not re.search(_VISIBLE, text):
        raise PydanticCustomError("blank", "must hold something other than white space")
    return composed(text)


def few_bytes(text: str) -> str:
    """The text itself. Raises PydanticCustomError for one that is too long in UTF-8, which a schema cannot say."""
    if len(text.encode()) > LIMITS.max_target_bytes:
        raise PydanticCustomError(
            "too_many_bytes", "must have at most {most} bytes in UTF-8", {"most": LIMITS.max_target_bytes}
        )
    return text


def text(most: int) -> Any:
    return Field(min_length=1, max_length=most, json_schema_extra={"pattern": USABLE})


LIMITS = Settings()
MOST_WITHOUT = 10_000  # edits that a rebuild leaves out
MOST_ITEMS = max(MOST_WITHOUT, LIMITS.max_edits_per_request, LIMITS.max_prompt_tokens)  # of any list
Prompt = Annotated[str, text(LIMITS.max_prompt_chars), AfterValidator(usable)]
Target = Annotated[str, text(LIMITS.max_target_chars), AfterValidator(usable), AfterValidator(few_bytes)]
Name = Annotated[str, text(200), AfterValidator(usable)]
Stop = Annotated[str, Field(min_length=1, max_length=100)]


_Link = tuple[object, "_Link"] | None  # a name or a place, and where that stands


def readable(body: Any) -> None:
    """Raises PydanticCustomError for a body too deep or too broad, or with a text that UTF-8 cannot write: half of an emoji."""
    left: list[tuple[Any, int, _Link]] = [(body, 0, None)]
    while left:
        value, depth, link = left.pop()
        if isinstance(value, str):
            _encodable(value, link)
            continue
        if depth > MOST_LEVELS:
            raise PydanticCustomError("too_deep", "must not be nested deeper than {most} levels", {"most": MOST_LEVELS})
        if isinstance(value, dict):
            if len(value) > MOST_FIELDS:
                raise PydanticCustomError("too_long", "must not have more than {most} fields", {"most": MOST_FIELDS})
            left += [(name, depth, link) for name in value]
        elif len(value) > MOST_ITEMS:
            raise PydanticCustomError("too_long", "must not have lists of more than {most} items", {"most": MOST_ITEMS})
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        left += [(each, depth + 1, (name, link)) for name, each in inner if isinstance(each, str | dict | list)]


def _encodable(text: str, link: _Link) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        parts: list[str] = []
        while link is not None:
            parts.append(str(link[0])[:40])
            link = link[1]
        where = ".".join(reversed(parts)) or "a name"
        raise PydanticCustomError("bad_utf8", "{where} holds half of a surrogate pair", {"where": where}) from None


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(each) for each in value] if any(isinstance(each, float | list) for each in value) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


class In(BaseModel):
    """What comes in: nothing unknown, and everything of the type that it should have."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _readable(cls, values: Any) -> Any:
        """What can be read at all; and in JSON 2.0 is an integer."""
        if not isinstance(values, dict):
            return values
        readable(values)
        if len(unknown := values.keys() - cls.model_fields.keys()) > MOST_UNKNOWN:  # each would be a mistake to be told
            raise PydanticCustomError("extra_forbidden", "has {count} fields that are not known", {"count": len(unknown)})
        return {name: _whole(value) for name, value in values.items()}


class Out(BaseModel):
    model_config = ConfigDict(extra="forbid")
