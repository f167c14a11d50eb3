"""What is answered under /v1, as its description has it; `shapes` builds it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.api.schemas.generation import Usage


class _Answered(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ModelOut(_Answered):
    id: str = Field(examples=["demo"])
    object: Literal["model"]
    created: int = Field(description="Unix seconds since which it has been ready.")
    owned_by: str
    max_model_len: int | None = Field(description="Tokens of a question and its answer together.")


class ModelsOut(_Answered):
    object: Literal["list"]
    data: list[ModelOut]


class _Completed(_Answered):
    """What both kinds of completions have in common."""

    id: str
    created: int = Field(description="Unix seconds.")
    model: str
    system_fingerprint: str = Field(examples=["errata-r3"])
    revisions: list[int] = Field(description="All revisions of the model that had a part in the answers.", examples=[[3]])
    usage: Usage


class CompletionLogprobs(_Answered):
    """Parallel lists, an entry a token. Nothing comes before a prompt's first token, so that one has neither."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(_Answered):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"]


class CompletionOut(_Completed):
    object: Literal["text_completion"]
    choices: list[CompletionChoice]


class LikelyToken(_Answered):
    token: str
    logprob: float
    bytes: list[int] | None = Field(description="Null for a token that is a part of a character.")


class ChatToken(LikelyToken):
    top_logprobs: list[LikelyToken]


class ChatLogprobs(_Answered):
    content: list[ChatToken]
    refusal: None


class ChatMessage(_Answered):
    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(_Answered):
    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]


class ChatCompletionOut(_Completed):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]
