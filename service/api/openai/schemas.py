"""What OpenAI's clients send. Fields that would change the answer and that we cannot honour are refused, not ignored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from service.api.generation import Question
from service.api.schemas.generation import MIN_REVISION
from service.api.schemas.texts import In
from service.settings import Settings

_LIMITS = Settings()
_MOST_CHARS = _LIMITS.max_prompt_tokens * 8
_AT_MOST = f"No answer has more than {_LIMITS.max_new_tokens}, whatever is asked for."
_LENGTH = f"At most {_LIMITS.max_prompt_tokens} tokens, and what the model reads."


def _not_too_long(text: str) -> str:
    """A guard before anything is tokenised. The limit that counts is one of tokens, which JSON Schema cannot say."""
    if len(text) > _MOST_CHARS:
        raise PydanticCustomError("string_too_long", f"must not have more than {_MOST_CHARS} characters")
    return text


Text = Annotated[str, AfterValidator(_not_too_long)]
Prompt = Annotated[str, Field(min_length=1), AfterValidator(_not_too_long)]
Tokens = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**31)]],
    Field(min_length=1, max_length=_LIMITS.max_prompt_tokens, description=_LENGTH),
]


def _shape(prompt: Any) -> str:
    """What a prompt looks like, so that what is wrong with it is said of that shape alone."""
    if not isinstance(prompt, list):
        return "<text>"
    first = prompt[0] if prompt else ""
    return "<token lists>" if isinstance(first, list) else "<tokens>" if isinstance(first, int | float) else "<texts>"


def _one_or_several(value: Any) -> str:
    return "<several>" if isinstance(value, list) else "<one>"


_Many = Field(min_length=1, max_length=_LIMITS.max_choices)
Prompts = Annotated[
    Annotated[Prompt, Tag("<text>")]
    | Annotated[list[Prompt], _Many, Tag("<texts>")]
    | Annotated[Tokens, Tag("<tokens>")]
    | Annotated[list[Tokens], _Many, Tag("<token lists>")],
    Discriminator(_shape),
]


Stops = Annotated[
    Annotated[str, Field(max_length=400), Tag("<one>")]
    | Annotated[list[Annotated[str, Field(min_length=1, max_length=400)]], Field(max_length=16), Tag("<several>")],
    Discriminator(_one_or_several),
]


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


def _unless(flag: str, **properties: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of an object whose properties are as given unless the flag is set."""
    return {"anyOf": [{"properties": properties}, {"properties": {flag: {"const": True}}, "required": [flag]}]}


_USAGE_IS_STREAMED = _unless("stream", stream_options={"type": "null"})


class StreamOptions(In):
    include_usage: bool = False
    include_obfuscation: bool = False


class _Request(In):
    """What both kinds of completions have in common."""

    model: str = Field(max_length=500, description='One of those that GET /v1/models lists; "errata" is whatever is served.')
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1, description="0: the likeliest token.")
    top_k: int | None = Field(None, description="Of no effect at temperature 0; elsewhere refused, unless 0 or -1.")
    n: int | None = Field(None, ge=1, le=_LIMITS.max_choices, description="Answers to each prompt.")
    stop: Stops | None = Field(None, description="Texts that end the answer and are left out of it.")
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    min_revision: int = Field(0, ge=0, le=2**62, description=f"Ours. {MIN_REVISION}")
    # Taken, and of no effect on the answer.
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    # Refused unless they say what is the case anyway.
    frequency_penalty: Annotated[Any, Only([0])] = None
    presence_penalty: Annotated[Any, Only([0])] = None
    logit_bias: Annotated[Any, Only([{}])] = None
    repetition_penalty: Annotated[Any, Only([1])] = None
    min_p: Annotated[Any, Only([0])] = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_absence(cls, values: Any) -> Any:
        return {name: each for name, each in values.items() if each is not None} if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _draws_from_all(self) -> Self:
        if self.top_k is not None and self.top_k > 0 and self.temperature != 0:
            raise PydanticCustomError("unsupported", "top_k is not supported here but at temperature 0")
        return self

    @model_validator(mode="after")
    def _usage_is_streamed(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("invalid_value", "stream_options goes with stream=true")
        return self

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) and self.stop else list(self.stop or ())

    @property
    def choices_each(self) -> int:
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def _common(self, choice: int) -> dict[str, Any]:
        return {
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "stop": self.stops or None,
            "seed": None if self.seed is None else (self.seed + choice) % 2**63,
            "min_revision": self.min_revision,
        }


class CompletionIn(_Request):
    """Body of POST /v1/completions."""

    model_config = ConfigDict(json_schema_extra={"allOf": [_USAGE_IS_STREAMED, _unless("echo", max_tokens={"minimum": 1})]})

    prompt: Prompts = Field(description=f"One or several, each a text or token ids. {_LENGTH}")
    max_tokens: int | None = Field(None, ge=0, description=_AT_MOST)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None
    best_of: Annotated[Any, Only([1])] = None
    suffix: Annotated[Any, Only([""])] = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.max_tokens == 0 and not self.echo:
            raise PydanticCustomError("invalid_value", "max_tokens=0 goes with echo=true")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """One or many, each a text or token ids."""
        given: Any = self.prompt
        return [given] if _shape(given) in ("<text>", "<tokens>") else list(given)

    def questions(self) -> list[Question]:
        """Choice by choice: all of the first prompt, then all of the second."""
        return [
            Question(
                prompt=prompt if isinstance(prompt, str) else "",
                tokens=prompt if isinstance(prompt, list) else None,
                max_tokens=min(16 if self.max_tokens is None else self.max_tokens, _LIMITS.max_new_tokens),
                logprobs=self.logprobs,
                echo=bool(self.echo),
                **self._common(choice),
            )
            for prompt in self.prompts
            for choice in range(self.choices_each)
        ]


_ROLES = {"developer": "system", "tool": "user", "function": "user"}  # as templates know them


class TextPart(BaseModel):
    """What is neither its type nor its text (`cache_control`) is not shown to the model."""

    model_config = ConfigDict(extra="ignore", strict=True)

    type: Literal["text"]
    text: Text


class Function(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    name: Text
    arguments: Text = ""


class ToolCall(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    function: Function


class Message(BaseModel):
    """One turn; what is neither its role nor its text is not shown to the model."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: (
        Annotated[Annotated[Text, Tag("<one>")] | Annotated[list[TextPart], Tag("<several>")], Discriminator(_one_or_several)]
        | None
    ) = None
    tool_calls: list[ToolCall] | None = None

    def plain(self) -> dict[str, str]:
        """With the calls and results of tools as text: the model knows no tools."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        calls = [f"{each.function.name}({each.function.arguments})" for each in self.tool_calls or ()]
        return {"role": _ROLES.get(self.role, self.role), "content": "\n".join(filter(None, [text, *calls]))}


class ChatIn(_Request):
    """Body of POST /v1/chat/completions."""

    model_config = ConfigDict(
        json_schema_extra={"allOf": [_USAGE_IS_STREAMED, _unless("logprobs", top_logprobs={"maximum": 0})]}
    )

    messages: list[Message] = Field(
        min_length=1,
        max_length=1000,
        description=f"{_LENGTH} A last turn of the assistant's is the beginning of the answer, which goes on from there.",
    )
    max_tokens: int | None = Field(None, ge=1, description=_AT_MOST)
    max_completion_tokens: int | None = Field(None, ge=1, description=_AT_MOST)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: Annotated[Any, Only([{"type": "text"}])] = None
    tools: list[dict[str, Any]] | None = Field(None, description='Not supported, but with tool_choice "none".')
    tool_choice: Annotated[Any, Only(["none", "auto"])] = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[Any, Only([[]])] = None
    function_call: Annotated[Any, Only(["none", "auto"])] = None
    modalities: Annotated[Any, Only([["text"]])] = None
    web_search_options: Annotated[Any, Only([])] = None
    continue_final_message: Annotated[Any, Only([True, False])] = None
    add_generation_prompt: Annotated[Any, Only([True])] = None
    chat_template_kwargs: Annotated[Any, Only([{}])] = None

    @model_validator(mode="after")
    def _calls_no_tool(self) -> Self:
        if self.tools and self.tool_choice != "none":
            raise PydanticCustomError("unsupported", "tools are not supported here, but with tool_choice none")
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise PydanticCustomError("invalid_value", "top_logprobs goes with logprobs=true")
        turns = [message.plain() for message in self.messages]
        if sum(len(turn["content"]) for turn in turns) > _MOST_CHARS:
            raise PydanticCustomError("string_too_long", f"the messages are longer than {_MOST_CHARS} characters")
        return self

    def questions(self) -> list[Question]:
        return [
            Question(
                messages=[message.plain() for message in self.messages],
                chat=True,
                max_tokens=min(self.max_completion_tokens or self.max_tokens or _LIMITS.max_new_tokens, _LIMITS.max_new_tokens),
                logprobs=(self.top_logprobs or 0) if self.logprobs else None,
                **self._common(choice),
            )
            for choice in range(self.choices_each)
        ]
