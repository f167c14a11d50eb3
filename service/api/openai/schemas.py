"""What OpenAI's clients send. Fields that would change the answer and that we cannot honour are refused, not ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from service.api.generation import Question
from service.api.schemas import usable
from service.settings import Settings

_LIMITS = Settings()
_MOST_CHARS = _LIMITS.max_prompt_tokens * 8
Text = Annotated[str, Field(max_length=_MOST_CHARS)]
Tokens = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=_LIMITS.max_prompt_tokens)]


class _Refusable(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StreamOptions(_Refusable):
    include_usage: bool = False
    include_obfuscation: bool = False


class _Request(_Refusable):
    """What both kinds of completions have in common."""

    model: str = Field(max_length=500, description="One of those that GET /v1/models lists.")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1, le=_LIMITS.max_choices)
    stop: str | list[Annotated[str, Field(min_length=1)]] | None = Field(None, max_length=400)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    min_revision: int = Field(0, ge=0, le=2**62, description="Ours: wait until a worker serves at least this revision.")
    # Taken, and of no effect on the answer.
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    # Refused unless they say what is the case anyway.
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None

    @model_validator(mode="after")
    def _honoured(self) -> Self:
        if self.frequency_penalty or self.presence_penalty or self.logit_bias:
            raise PydanticCustomError("unsupported", "penalties and logit_bias are not supported")
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("invalid_value", "stream_options goes with stream=true")
        for each in self.stops:
            usable(each, blank=True)
        if len(self.stops) > 4:
            raise PydanticCustomError("too_many", "at most 4 stop sequences")
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

    prompt: (
        Text
        | Annotated[list[Text], Field(max_length=_LIMITS.max_choices)]
        | Tokens
        | Annotated[list[Tokens], Field(max_length=_LIMITS.max_choices)]
    )
    max_tokens: int | None = Field(None, ge=0, le=_LIMITS.max_new_tokens)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.suffix or (self.best_of or 1) not in (1, self.choices_each):
            raise PydanticCustomError("unsupported", "suffix and best_of are not supported")
        if self.max_tokens == 0 and not self.echo:
            raise PydanticCustomError("invalid_value", "max_tokens=0 goes with echo=true")
        if not self.prompts or not all(self.prompts):
            raise PydanticCustomError("blank", "prompt must not be empty")
        for each in self.prompts:
            if isinstance(each, str):
                usable(each, blank=True)
        if len(self.prompts) * self.choices_each > _LIMITS.max_choices:
            raise PydanticCustomError("too_many", f"prompts × n is more than {_LIMITS.max_choices}")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """One or many, each a text or token ids."""
        given: Any = self.prompt
        many = isinstance(given, list) and not (given and isinstance(given[0], int))
        return list(given) if many else [given]

    def questions(self) -> list[Question]:
        """Choice by choice: all of the first prompt, then all of the second."""
        return [
            Question(
                prompt=prompt if isinstance(prompt, str) else "",
                tokens=prompt if isinstance(prompt, list) else None,
                max_tokens=16 if self.max_tokens is None else self.max_tokens,
                logprobs=self.logprobs,
                echo=bool(self.echo),
                **self._common(choice),
            )
            for prompt in self.prompts
            for choice in range(self.choices_each)
        ]


class TextPart(_Refusable):
    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """One turn; what is neither its role nor its text is not shown to the model."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]

    def plain(self) -> dict[str, str]:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": usable(text, blank=True)}


class ChatIn(_Request):
    """Body of POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, max_length=1000)
    max_tokens: int | None = Field(None, ge=1, le=_LIMITS.max_new_tokens)
    max_completion_tokens: int | None = Field(None, ge=1, le=_LIMITS.max_new_tokens)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.tools or self.response_format not in (None, {"type": "text"}):
            raise PydanticCustomError("unsupported", "tools and response_format are not supported")
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
                max_tokens=self.max_completion_tokens or self.max_tokens or _LIMITS.max_new_tokens,
                logprobs=(self.top_logprobs or 0) if self.logprobs else None,
                **self._common(choice),
            )
            for choice in range(self.choices_each)
        ]
