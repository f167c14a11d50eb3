"""Questions and answers."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from service.api.schemas.texts import LIMITS, In, Out, Prompt, Stop
from service.domain.messages import GenerateReply

MIN_REVISION = (
    "Wait until a worker serves at least this revision; 409 at once for one that is neither in the ledger nor the next to come."
)


class GenerateIn(In):
    """A question for the model as it is now."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "Who wrote the novel The Glass Harbour?", "max_tokens": 32}]}
    )

    prompt: Prompt
    max_tokens: int = Field(64, ge=1, le=LIMITS.max_new_tokens, description="At most this many tokens are generated.")
    temperature: float = Field(0.0, ge=0, le=5, description="0: the most likely answer, always.")
    top_p: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Sample from the likeliest tokens with this much of the probability; 0: the likeliest.",
    )
    seed: int | None = Field(None, ge=0, lt=2**63, description="Makes sampled answers repeatable.")
    stop: list[Stop] = Field(default=[], max_length=4, description="Texts that end the answer and are left out of it.")
    stream: bool = Field(False, description="Send the answer as server-sent events while it is made.")
    chat: bool = Field(False, description="Ask through the model's chat template instead of continuing the prompt.")
    min_revision: int = Field(0, ge=0, le=2**62, description=MIN_REVISION)


class Usage(Out):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, reply: GenerateReply) -> Usage:
        prompt, said = reply.prompt_tokens, reply.completion_tokens
        return cls(prompt_tokens=prompt, completion_tokens=said, total_tokens=prompt + said)


class GenerateOut(Out):
    text: str = Field(examples=["Mira Quillfeather"])
    revision: int = Field(description="The revision of the model that answered.", examples=[3])
    revisions: list[int] = Field(
        description="All revisions that had a part in it: more than one where weights changed in a long answer.", examples=[[3]]
    )
    finish_reason: Literal["stop", "length"]
    usage: Usage
