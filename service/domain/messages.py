"""What processes say to each other through Redis, typed, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class _Message:
    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Raises ValueError or TypeError for anything that is not this message."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class GenerateRequest(_Message):
    """A question for any worker that serves at least min_revision. Times are Unix seconds."""

    id: str
    reply_to: str
    prompt: str
    chat: bool
    max_tokens: int
    temperature: float
    min_revision: int
    sent_at: float
    deadline: float


@dataclass(frozen=True, slots=True)
class GenerateReply(_Message):
    """The answer with the revision that gave it, or the code and detail of an error."""

    id: str
    text: str = ""
    revision: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""
    error_code: str = ""
    error_detail: str = ""


@dataclass(frozen=True, slots=True)
class WorkerStatus(_Message):
    """How a worker is doing: state is "starting", "ready" or "draining"; detail is for people."""

    name: str
    pid: int
    state: str
    detail: str
    model: str
    revision: int
    writer: bool
    metrics_port: int
    object_files: int = 0
    object_bytes: int = 0
