"""What OpenAI's clients send. Fields that would change the answer and that we cannot honour are refused, not ignored."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from service.api.openai.fields import LENGTH, Only, OpenAIIn, not_too_long, one_or_several, unless
from service.api.openai.turns import GOES_ON_OR_NOT, Turns
from service.api.questions.generation import Question
from service.api.schemas.generation import MIN_REVISION
from service.api.schemas.texts import In
from service.settings import Settings

_LIMITS = Settings()
_AT_MOST = f"No answer has more than {_LIMITS.max_new_tokens}, whatever is asked for."

Prompt = Annotated[str, Field(min_length=1), AfterValidator(not_too_long)]
Tokens = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**31)]],
    Field(min_length=1, max_length=_LIMITS.max_prompt_tokens, description=LENGTH, fail_fast=True),
]


def _shape(prompt: Any) -> str:
    """What a prompt looks like, so that what is wrong with it is said of that shape alone."""
    if not isinstance(prompt, list):
        return "<text>"
    first = prompt[0] if prompt else ""
    return "<token lists>" if isinstance(first, list) else "<tokens>" if isinstance(first, int | float) else "<texts>"


_Many = Field(min_length=1, max_length=_LIMITS.max_choices, fail_fast=True)  # what is wrong with 1,000 takes a second to say
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
    Discriminator(one_or_several),
]


_USAGE_IS_STREAMED = unless("stream", stream_options={"type": "null"})


class StreamOptions(In):
    include_usage: bool = False
    include_obfuscation: bool = False


class _Request(OpenAIIn):
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

    model_config = ConfigDict(json_schema_extra={"allOf": [_USAGE_IS_STREAMED, unless("echo", max_tokens={"minimum": 1})]})

    prompt: Prompts = Field(description=f"One or several, each a text or token ids. {LENGTH}")
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


class ChatIn(Turns, _Request):
    """Body of POST /v1/chat/completions."""

    model_config = ConfigDict(
        json_schema_extra={"allOf": [*GOES_ON_OR_NOT, _USAGE_IS_STREAMED, unless("logprobs", top_logprobs={"maximum": 0})]}
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
    chat_template_kwargs: Annotated[Any, Only([{}])] = None

    @model_validator(mode="after")
    def _calls_no_tool(self) -> Self:
        if self.tools and self.tool_choice != "none":
            raise PydanticCustomError("unsupported", "tools are not supported here, but with tool_choice none")
        return self

    @model_validator(mode="after")
    def _likely_tokens_are_told(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise PydanticCustomError("invalid_value", "top_logprobs goes with logprobs=true")
        return self

    def questions(self) -> list[Question]:
        return [
            Question(
                messages=self.plain_turns(),
                chat=True,
                goes_on=self.goes_on,
                max_tokens=min(self.max_completion_tokens or self.max_tokens or _LIMITS.max_new_tokens, _LIMITS.max_new_tokens),
                logprobs=(self.top_logprobs or 0) if self.logprobs else None,
                **self._common(choice),
            )
            for choice in range(self.choices_each)
        ]
