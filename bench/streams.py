"""One streamed chat answer after the other, of any server that speaks OpenAI's protocol, and when their pieces came."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Server:
    """Where it is, and what its requests must say besides the question."""

    name: str
    url: str
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Load:
    """What clients saw, over all rounds so far. Gaps are between two pieces of one answer."""

    tokens: int = 0
    seconds: float = 0.0
    firsts_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    of_several_revisions: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "tokens_per_second": self.tokens_per_second,
            "tokens": self.tokens,
            "answers": len(self.firsts_s),
            "failed": len(self.failures),
            "failures": self.failures[:5],
            "of_several_revisions": self.of_several_revisions,
            "first_token_median_s": _quantile(self.firsts_s, 50),
            "gap_median_s": _quantile(self.gaps_s, 50),
            "gap_p95_s": _quantile(self.gaps_s, 95),
            "gap_p99_s": _quantile(self.gaps_s, 99),
        }


def _quantile(values: Sequence[float], percent: int) -> float:
    """0 where nothing was measured."""
    return statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else sum(values)


async def read_along(
    server: Server,
    load: Load,
    prompts: Sequence[str],
    *,
    clients: int,
    answers: int,
    tokens: int,
    going_on: Callable[[], bool] = lambda: False,
) -> None:
    """So many clients ask so many greedy questions each, one after the other, and more for as long as `going_on` says."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S, limits=limits) as http:
        warming = Load()
        await _ask(http, server, "Hello", 2, warming)
        if warming.failures:
            load.failures += warming.failures
            return
        began = time.perf_counter()

        async def client(number: int) -> None:
            turn = 0
            while turn < answers or going_on():
                await _ask(http, server, prompts[(number + clients * turn) % len(prompts)], tokens, load)
                turn += 1

        await asyncio.gather(*(client(number) for number in range(clients)))
        load.seconds += time.perf_counter() - began


async def _ask(http: httpx.AsyncClient, server: Server, prompt: str, tokens: int, load: Load) -> None:
    messages = [{"role": "user", "content": prompt}]
    question = {"messages": messages, "max_tokens": tokens, "temperature": 0, "stream": True, **server.more}
    began = last = time.perf_counter()
    usage, revisions, first = None, list[int](), True
    try:
        async with http.stream("POST", "/v1/chat/completions", json=question) as response:
            if response.status_code != httpx.codes.OK:
                load.failures.append(f"{response.status_code} {(await response.aread()).decode()[:500]}")
                return
            async for line in response.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                if "error" in chunk:
                    load.failures.append(str(chunk["error"])[:500])
                    return
                usage, revisions = chunk.get("usage") or usage, chunk.get("revisions", revisions)
                if any(choice["delta"].get("content") for choice in chunk["choices"]):
                    now = time.perf_counter()
                    (load.firsts_s if first else load.gaps_s).append(now - (began if first else last))
                    first, last = False, now
    except httpx.TransportError as error:
        load.failures.append(f"{type(error).__name__} {error}")
        return
    if usage is None:
        load.failures.append("the answer had no end")
        return
    load.tokens += usage["completion_tokens"]
    load.of_several_revisions += len(revisions) > 1
