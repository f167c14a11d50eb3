"""Clients that ask one question after the other and keep everything they are told."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from bench.endurance.questions import Question

TIMEOUT_S = 300


@dataclass(slots=True)
class Answer:
    """All that a stream said.

    pieces      text and revision of each event, the last one included
    revisions   all that had a part in it, as its last event says
    trouble     why there is no whole answer; empty otherwise
    """

    question: Question
    pieces: list[tuple[str, int]] = field(default_factory=list)
    revisions: tuple[int, ...] = ()
    finish_reason: str = ""
    tokens: int = 0
    trouble: str = ""

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)

    @property
    def first_text(self) -> str:
        """What was told while the first of its revisions was the only one."""
        return "".join(text for text, revision in self.pieces if revision == self.revisions[0])


@dataclass(slots=True)
class Asked:
    answers: list[Answer] = field(default_factory=list)
    refused: int = 0  # 429s, after which the question was asked again


async def ask_all(
    url: str, pool: Sequence[Question], requests: int, clients: int, chance: random.Random, heard: Callable[[], None]
) -> Asked:
    """So many questions of the pool, in any order, from so many clients at once."""
    asked, left = Asked(), [chance.choice(pool) for _ in range(requests)]
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits) as http:

        async def client() -> None:
            while left:
                asked.answers.append(await _answer(http, left.pop(), asked))
                heard()

        await asyncio.gather(*(client() for _ in range(clients)))
    return asked


async def _answer(http: httpx.AsyncClient, question: Question, asked: Asked) -> Answer:
    while True:
        answer = Answer(question)
        try:
            async with http.stream("POST", "/generate", json=question.body()) as response:
                if response.status_code == httpx.codes.OK:
                    await _listen(response, answer)
                    return answer
                if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                    answer.trouble = f"{response.status_code} {(await response.aread()).decode()[:300]}"
                    return answer
                wait_s = float(response.headers["Retry-After"])
        except httpx.TransportError as error:
            answer.trouble = f"{type(error).__name__} {error}"
            return answer
        asked.refused += 1
        await asyncio.sleep(wait_s)


async def _listen(response: httpx.Response, answer: Answer) -> None:
    answer.trouble = "the stream ended without an end"
    async for line in response.aiter_lines():
        if not line.startswith("data: "):
            continue
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            answer.trouble = str(event["error"])
            return
        if not answer.trouble:
            answer.trouble = "the stream went on after its end"
            return
        answer.pieces.append((event["text"], event["revision"]))
        if "finish_reason" in event:
            answer.trouble, answer.finish_reason = "", event["finish_reason"]
            answer.revisions, answer.tokens = tuple(event["revisions"]), event["usage"]["completion_tokens"]
