"""Answers in the shapes that OpenAI's clients read."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from service.api.questions.generation import Question
from service.domain.messages import GenerateReply, TokenReply


class Shape(ABC):
    """Of one request's answer: the same id and time in all its parts."""

    kind, prefix = "", ""

    def __init__(self, model: str, questions: Sequence[Question], choices_each: int) -> None:
        self._model, self._questions, self._choices_each = model, questions, choices_each
        self._id, self._created = f"{self.prefix}-{uuid.uuid4().hex}", int(time.time())
        self._offsets = [0] * len(questions)

    def whole(self, answers: Sequence[GenerateReply]) -> dict[str, Any]:
        choices = [self._choice(index, answer) for index, answer in enumerate(answers)]
        return {**self._head(self.kind, answers), "choices": choices, "usage": self._usage(answers)}

    def chunk(self, index: int, reply: GenerateReply) -> dict[str, Any]:
        return {**self._head(self.chunk_kind, [reply]), "choices": [self._part(index, reply)]}

    def final_usage(self, answers: Sequence[GenerateReply]) -> dict[str, Any]:
        """The chunk after the last choice's end, for those who asked for it. Takes the last replies in the choices' order."""
        return {**self._head(self.chunk_kind, answers), "choices": [], "usage": self._usage(answers)}

    def _usage(self, answers: Sequence[GenerateReply]) -> dict[str, int]:
        """A prompt counts once, however many answers there are to it."""
        prompt = sum(each.prompt_tokens for each in answers[:: self._choices_each])
        said = sum(each.completion_tokens for each in answers)
        return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}

    def _head(self, kind: str, replies: Sequence[GenerateReply]) -> dict[str, Any]:
        revisions = sorted({each for reply in replies for each in reply.revisions or [reply.revision]})
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": "errata-r" + "+".join(map(str, revisions)),
            "revisions": revisions,
        }

    @property
    def chunk_kind(self) -> str:
        return self.kind

    @abstractmethod
    def _choice(self, index: int, answer: GenerateReply) -> dict[str, Any]:
        """One whole answer."""

    @abstractmethod
    def _part(self, index: int, reply: GenerateReply) -> dict[str, Any]:
        """What is new of one."""


class CompletionShape(Shape):
    kind, prefix = "text_completion", "cmpl"

    def _choice(self, index: int, answer: GenerateReply) -> dict[str, Any]:
        echoed = self._echoed(index, answer)
        self._offsets[index] += len(echoed)
        return {
            "index": index,
            "text": echoed + answer.text,
            "logprobs": self._logprobs(index, answer),
            "finish_reason": answer.finish_reason or None,
        }

    def _part(self, index: int, reply: GenerateReply) -> dict[str, Any]:
        return self._choice(index, reply)

    def _echoed(self, index: int, answer: GenerateReply) -> str:
        if answer.echoed is None:
            return ""
        return self._questions[index].prompt or answer.prompt

    def _logprobs(self, index: int, answer: GenerateReply) -> dict[str, Any] | None:
        if answer.tokens is None:
            return None
        echoed, said = answer.echoed or [], answer.tokens
        return {
            "tokens": [each.text for each in (*echoed, *said)],
            "token_logprobs": [each.logprob for each in (*echoed, *said)],
            "top_logprobs": [_by_text(each) for each in (*echoed, *said)],
            "text_offset": [each.start for each in echoed] + [each.start + self._offsets[index] for each in said],
        }


def _by_text(token: TokenReply) -> dict[str, float] | None:
    """The likeliest tokens and the token itself; where two look the same the likelier one is shown."""
    if token.logprob is None:
        return None
    found: dict[str, float] = {}
    for text, logprob in (*token.top, (token.text, token.logprob)):
        found.setdefault(text, logprob)
    return found


class ChatShape(Shape):
    kind, prefix = "chat.completion", "chatcmpl"

    @property
    def chunk_kind(self) -> str:
        return "chat.completion.chunk"

    def _choice(self, index: int, answer: GenerateReply) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": _content(answer),
            "finish_reason": answer.finish_reason,
        }

    def _part(self, index: int, reply: GenerateReply) -> dict[str, Any]:
        delta: dict[str, Any] = {"content": reply.text} if reply.text or not reply.last else {}
        if not self._offsets[index]:
            delta = {"role": "assistant", "content": reply.text}
        self._offsets[index] += 1
        return {"index": index, "delta": delta, "logprobs": _content(reply), "finish_reason": reply.finish_reason or None}


def _content(reply: GenerateReply) -> dict[str, Any] | None:
    if reply.tokens is None:
        return None
    return {
        "content": [
            {**_token(each.text, each.logprob), "top_logprobs": [_token(text, logprob) for text, logprob in each.top]}
            for each in reply.tokens
        ],
        "refusal": None,
    }


def _token(text: str, logprob: float | None) -> dict[str, Any]:
    """Bytes only where the token is whole characters."""
    return {"token": text, "logprob": logprob, "bytes": None if "�" in text else list(text.encode())}
