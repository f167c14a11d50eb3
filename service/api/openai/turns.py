"""Conversations as OpenAI's clients send them, and whether the answer goes on from the last turn or follows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from service.api.openai.fields import LENGTH, MOST_CHARS, OpenAIIn, Text, one_or_several, unless

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
        Annotated[
            Annotated[Text, Tag("<one>")] | Annotated[list[TextPart], Field(fail_fast=True), Tag("<several>")],
            Discriminator(one_or_several),
        ]
        | None
    ) = None
    tool_calls: list[ToolCall] | None = None

    def plain(self) -> dict[str, str]:
        """With the calls and results of tools as text: the model knows no tools."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        calls = [f"{each.function.name}({each.function.arguments})" for each in self.tool_calls or ()]
        return {"role": _ROLES.get(self.role, self.role), "content": "\n".join(filter(None, [text, *calls]))}


_BOTH = {name: {"const": True} for name in ("continue_final_message", "add_generation_prompt")}
GOES_ON_OR_NOT: list[dict[str, Any]] = [
    unless("continue_final_message", add_generation_prompt={"enum": [True, None]}),
    {"not": {"properties": _BOTH, "required": list(_BOTH)}},
]


class Turns(OpenAIIn):
    """The part of a body that is the conversation, with vLLM's names for how it ends."""

    messages: list[Message] = Field(
        fail_fast=True,
        min_length=1,
        max_length=1000,
        description=f"{LENGTH} A last turn of the assistant's is the beginning of the answer, which goes on from there.",
    )
    continue_final_message: bool | None = Field(
        None, description="Whether the answer goes on from the last turn; by default where that is the assistant's."
    )
    add_generation_prompt: bool | None = Field(
        None, description="true: the answer is a turn of its own; false goes with continue_final_message."
    )

    @model_validator(mode="after")
    def _goes_on_or_not(self) -> Self:
        if self.continue_final_message and self.add_generation_prompt:
            raise PydanticCustomError("invalid_value", "continue_final_message and add_generation_prompt exclude each other")
        if self.add_generation_prompt is False and not self.continue_final_message:
            raise PydanticCustomError("unsupported", "add_generation_prompt=false goes with continue_final_message=true")
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if sum(len(turn["content"]) for turn in self.plain_turns()) > MOST_CHARS:
            raise PydanticCustomError("string_too_long", f"the messages are longer than {MOST_CHARS} characters")
        return self

    @property
    def goes_on(self) -> bool | None:
        """Whether the answer goes on from the last turn; None: where that is the assistant's."""
        return False if self.add_generation_prompt else self.continue_final_message

    def plain_turns(self) -> list[dict[str, str]]:
        return [message.plain() for message in self.messages]
