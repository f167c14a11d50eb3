"""What processes say to each other through Redis, typed, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

AHEAD = 4  # questions that a worker takes beyond those that can run: others stay for whoever is free


@dataclass(frozen=True, slots=True)
class _Message:
    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """What a newer process adds is passed over. Raises ValueError or TypeError for anything that is not this message."""
        return cls._of(json.loads(text))

    @classmethod
    def _of(cls, values: Any) -> Self:
        if not isinstance(values, dict):
            raise TypeError("a message is a JSON object")
        return cls(**{each.name: values[each.name] for each in fields(cls) if each.name in values})


@dataclass(frozen=True, slots=True)
class GenerateRequest(_Message):
    """A question for any worker that serves at least min_revision.

    Times are seconds of the sender's clock: only how far they are apart means something to others. Since when it has waited,
    its entry in the stream says, by Redis' clock.

    The question is `tokens` where there are some, else `messages` (each with role and content), else `prompt`.

    goes_on         whether the answer goes on from the last of the messages; None: where that is the assistant's
    special_tokens  whether a plain prompt gets those that the tokenizer begins a text with
    is_read_only    nothing is said: the question's tokens are what is asked for
    logprobs        how many alternatives are reported with every token
    echo            the prompt's own tokens as well
    stream          tell what is said as it is said
    key_id          of the API key that asks
    """

    id: str
    reply_to: str
    prompt: str
    chat: bool
    max_tokens: int
    temperature: float
    min_revision: int
    sent_at: float
    deadline: float
    tokens: list[int] | None = None
    messages: list[dict[str, str]] | None = None
    top_p: float = 1.0
    stop: list[str] | None = None
    seed: int | None = None
    logprobs: int | None = None
    echo: bool = False
    stream: bool = False
    key_id: str = ""
    goes_on: bool | None = None
    special_tokens: bool = True
    is_read_only: bool = False


@dataclass(frozen=True, slots=True)
class TokenReply(_Message):
    """One token's text, where it begins in the whole text, its log probability and the likeliest tokens with theirs."""

    text: str
    start: int
    logprob: float | None
    top: list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class GenerateReply(_Message):
    """What is new of an answer, with the revision whose weights say it; or the code and detail of an error.

    Streamed answers come in several, whose texts and tokens follow each other; the last one has a finish_reason.

    number     of the replies to this question that say something, from 0: one that is missing, or comes twice, shows
    revisions  all that had a part in the answer, in order
    echoed     the prompt as the model read it
    prompt     its text, where it is echoed and was given as token ids
    ids        the question's token ids, where nothing else was asked for
    pieces     these as the tokenizer writes them
    """

    id: str
    text: str = ""
    revision: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""
    error_code: str = ""
    error_detail: str = ""
    revisions: list[int] | None = None
    tokens: list[TokenReply] | None = None
    echoed: list[TokenReply] | None = None
    number: int | None = None
    prompt: str = ""
    ids: list[int] | None = None
    pieces: list[str] | None = None

    @property
    def last(self) -> bool:
        """Whether nothing follows."""
        return bool(self.finish_reason or self.error_code)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        values = dict(json.loads(text))
        for name in ("tokens", "echoed"):
            if values.get(name) is not None:
                values[name] = [TokenReply._of(each) for each in values[name]]
        return cls._of(values)


@dataclass(frozen=True, slots=True)
class WorkerStatus(_Message):
    """How a worker is doing: state is "starting", "ready" or "draining"; detail is for people.

    consumer  as which it takes questions, another one each time it starts; empty: its name
    context_tokens  how long a question and its answer may be; 0: not known
    ready_at        Unix seconds; 0: not yet
    """

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
    consumer: str = ""
    context_tokens: int = 0
    ready_at: int = 0
