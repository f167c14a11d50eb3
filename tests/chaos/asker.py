"""Somebody who asks all the while: plain questions, which must be answered, and bombs, which must hurt nobody else."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

import httpx

TIMEOUT_S = 150.0  # beyond the api's own deadline: it has to say something before
BUSY = (429, 503, 504)  # an innocent question may hear that the service is not there, not that it was wrong


@dataclass(frozen=True, slots=True)
class Bomb:
    """A body that has ended workers or api processes, or failed other people's answers, and what it must be answered."""

    name: str
    path: str
    body: str
    statuses: tuple[int, ...]


BOMBS = (
    Bomb("half an emoji", "/generate", '{"prompt": "Hi \\ud83d", "max_tokens": 2}', (400, 422)),
    Bomb("half an emoji in a part", "/v1/completions", '{"model": "errata", "prompt": ["\\udc00"]}', (400,)),
    Bomb("brackets", "/generate", "[" * 5000 + "]" * 5000, (400, 422)),
    Bomb("no nucleus", "/generate", '{"prompt": "Who?", "max_tokens": 4, "temperature": 1, "top_p": 1e-300}', (200, 422)),
    Bomb("no warmth", "/generate", '{"prompt": "Who?", "max_tokens": 4, "temperature": 1e-40}', (200, 422)),
    Bomb("no such token", "/v1/completions", '{"model": "errata", "prompt": [[999999999]], "max_tokens": 2}', (400,)),
    Bomb("many at once", "/v1/completions", '{"model": "errata", "prompt": "Who?", "n": 32, "max_tokens": 8}', (200, 400)),
    Bomb("too long", "/generate", '{"prompt": "' + "x " * 1990 + '", "max_tokens": 1}', (200, 422)),
)


class Asker:
    """`wrong` holds answers that must not be; `answers` counts them by kind and status."""

    def __init__(self, url: str, seed: int) -> None:
        self.url, self._seed = url, seed
        self.wrong: list[str] = []
        self.answers: Counter[str] = Counter()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self, name: str) -> None:
        """One of several, until told to stop."""
        chance = random.Random(f"{self._seed} {name}")
        async with httpx.AsyncClient(base_url=self.url, timeout=TIMEOUT_S) as http:
            while not self._stopping.is_set():
                await asyncio.sleep(chance.expovariate(2))
                if chance.random() < 0.3:
                    bomb = chance.choice(BOMBS)
                    await self._ask(http, bomb.name, bomb.path, bomb.body, bomb.statuses)
                else:
                    body = f'{{"prompt": "Which harbour is number {chance.randrange(40)} on the list?", "max_tokens": 8}}'
                    await self._ask(http, "question", "/generate", body, (200,))

    async def _ask(self, http: httpx.AsyncClient, name: str, path: str, body: str, expected: tuple[int, ...]) -> None:
        try:
            answer = await http.post(path, content=body, headers={"Content-Type": "application/json"})
        except httpx.TimeoutException:
            self.wrong.append(f"{name}: nothing was said in {TIMEOUT_S:g} s")
        except httpx.TransportError as error:  # an api process that was killed
            self.answers[f"{name}: {type(error).__name__}"] += 1
        else:
            self.answers[f"{name}: {answer.status_code}"] += 1
            if answer.status_code not in (*expected, *BUSY):
                self.wrong.append(f"{name}: {answer.status_code} {answer.text[:300]}")
