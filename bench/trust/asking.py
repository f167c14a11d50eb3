"""Who is asked: a running service over HTTP, or a model in this process. Answers are greedy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from bench.quality.progress import Advance, in_parts

Messages = tuple[Mapping[str, str], ...]  # turns of a chat, each with role and content
Question = str | Messages  # a text to go on with, or a chat to answer

CLIENTS = 8
TIMEOUT_S, GIVE_UP_S = 300.0, 900.0  # of one request; of one question with all its repetitions
RETRY_S, LONGEST_RETRY_S = 2.0, 60.0
BUSY = (429, 503, 504)
AT_ONCE = 32  # questions that a model in this process is given together


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said, and why it ended: "stop", "length", or "failed" with the error."""

    text: str
    finish_reason: str
    error: str = ""

    @property
    def ended(self) -> bool:
        return self.finish_reason == "stop"


class Asker(Protocol):
    """Answers in the order of the questions. `max_tokens` is of each answer."""

    def plain(self, prompt: str, max_tokens: int) -> Answer: ...

    def chat(self, messages: Messages, max_tokens: int) -> Answer: ...

    def every(
        self,
        questions: Sequence[Question],
        max_tokens: int,
        advance: Advance,
    ) -> list[Answer]: ...


class Http:
    """A running service, asked by several clients at once. `url` has no path."""

    def __init__(self, url: str, clients: int = CLIENTS, api_key: str = "") -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_S, headers=headers)
        self._clients = clients

    def plain(self, prompt: str, max_tokens: int) -> Answer:
        """The continuation of a text, of at most `max_tokens` tokens."""
        choice = self._ask("/v1/completions", {"prompt": prompt}, max_tokens)
        if isinstance(choice, Answer):
            return choice
        return _answer(choice["text"], choice)

    def chat(self, messages: Messages, max_tokens: int) -> Answer:
        """The answer to the last turn, of at most `max_tokens` tokens."""
        choice = self._ask("/v1/chat/completions", {"messages": list(messages)}, max_tokens)
        if isinstance(choice, Answer):
            return choice
        return _answer(choice["message"]["content"], choice)

    def every(
        self,
        questions: Sequence[Question],
        max_tokens: int,
        advance: Advance,
    ) -> list[Answer]:
        """All answers. A question that comes several times is asked once."""

        def ask(question: Question) -> Answer:
            if isinstance(question, str):
                return self.plain(question, max_tokens)
            return self.chat(question, max_tokens)

        def ask_all(different: list[Question]) -> list[Answer]:
            answers = []
            with ThreadPoolExecutor(self._clients) as clients:
                for number, answer in enumerate(clients.map(ask, different), 1):
                    answers.append(answer)
                    advance(number / len(different))
            return answers

        return _each_once(questions, ask_all)

    def _ask(self, path: str, body: dict[str, Any], max_tokens: int) -> dict[str, Any] | Answer:
        """The first choice, or the answer that failed. While the service is busy it waits."""
        body = {"model": "errata", "max_tokens": max_tokens, "temperature": 0, **body}
        give_up_at = time.monotonic() + GIVE_UP_S
        while True:
            wait_s = RETRY_S
            try:
                response = self._http.post(path, json=body)
            except httpx.TransportError as error:
                trouble = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    return dict(response.json()["choices"][0])
                trouble = f"HTTP {response.status_code}: {response.text[:300]}"
                if response.status_code not in BUSY:
                    return Answer("", "failed", trouble)
                wait_s = retry_after_s(response.headers.get("Retry-After"))
            if time.monotonic() + wait_s > give_up_at:
                return Answer("", "failed", trouble)
            time.sleep(wait_s)


class Answering(Protocol):
    """What a model in this process has to offer."""

    def answers(self, questions: list[Question], max_tokens: int) -> list[Answer]:
        """One answer a question, in order, each greedy and of at most `max_tokens` tokens.

        A text is to be continued, turns are to be answered through the chat template.
        """


class InProcess:
    """A model in this process: >>> THE PLACE TO WIRE ONE IN: give an `Answering`. <<<"""

    def __init__(self, model: Answering, at_once: int = AT_ONCE) -> None:
        self._model, self._at_once = model, at_once

    def plain(self, prompt: str, max_tokens: int) -> Answer:
        """The continuation of a text, of at most `max_tokens` tokens."""
        return self._model.answers([prompt], max_tokens)[0]

    def chat(self, messages: Messages, max_tokens: int) -> Answer:
        """The answer to the last turn, of at most `max_tokens` tokens."""
        return self._model.answers([messages], max_tokens)[0]

    def every(
        self,
        questions: Sequence[Question],
        max_tokens: int,
        advance: Advance,
    ) -> list[Answer]:
        """All answers. A question that comes several times is asked once."""

        def ask_all(different: list[Question]) -> list[Answer]:
            return [
                answer
                for part in in_parts(different, self._at_once, advance)
                for answer in self._model.answers(list(part), max_tokens)
            ]

        return _each_once(questions, ask_all)


def retry_after_s(header: str | None) -> float:
    """Seconds that a Retry-After header asks for, at most a minute; 2 for a date or none."""
    try:
        return min(max(float(header or RETRY_S), 0.0), LONGEST_RETRY_S)
    except ValueError:
        return RETRY_S


def _answer(text: str | None, choice: Mapping[str, Any]) -> Answer:
    return Answer(text or "", choice["finish_reason"] or "")


def _each_once(
    questions: Sequence[Question],
    ask_all: Callable[[list[Question]], list[Answer]],
) -> list[Answer]:
    keys = [json.dumps(question) for question in questions]
    different = dict(zip(keys, questions, strict=True))
    answers = dict(zip(different, ask_all(list(different.values())), strict=True))
    return [answers[key] for key in keys]
