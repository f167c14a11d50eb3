"""`python -m bench serve`: a running service's tokens per second and gaps between tokens, beside plain `generate()`.

The service is one that runs already (`errata up`), with the model that `--model` names. With --facts they are posted in batches
while the clients of a last round read on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from bench.measure import RESULTS, ROOT, interleaved, write_result
from service.cli.client import Client
from service.settings import Settings

QUESTIONS = ROOT / "service" / "facts" / "canary.jsonl"
BATCH = 50


@dataclass(slots=True)
class Load:
    """What a round's clients saw. Gaps are between two events of one answer."""

    tokens: int = 0
    seconds: float = 0.0
    firsts_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    of_several_revisions: int = 0
    failed: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "tokens_per_second": self.tokens / self.seconds,
            "answers": len(self.firsts_s),
            "failed": self.failed,
            "of_several_revisions": self.of_several_revisions,
            "first_token_median_s": statistics.median(self.firsts_s),
            "gap_median_s": statistics.median(self.gaps_s),
            "gap_p95_s": statistics.quantiles(self.gaps_s, n=20)[-1],
            "gap_p99_s": statistics.quantiles(self.gaps_s, n=100)[-1],
        }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench serve", description="how fast a running service answers")
    parser.add_argument("--url", default=Settings().api_url, help="where the service is")
    parser.add_argument("--model", default="demo", help="for plain generate(): what the service serves, as ERRATA_MODEL")
    parser.add_argument("--cache-dir", type=Path, default=Path(".errata/models"), help="where models are unpacked")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--answers", type=int, default=4, help="of each client, and of generate()")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer, at most")
    parser.add_argument("--facts", type=Path, help="JSON list of objects with prompt and target, edited in the last round")
    parser.add_argument("--json", type=Path, default=RESULTS / "serve.json", help="where the figures go")
    asked, console = parser.parse_args(arguments), Console()
    plain = [asked.model, str(asked.cache_dir.resolve()), str(asked.answers), str(asked.tokens)]
    [run] = interleaved(console, "generate()", {"generate": ["bench.serve_worker", *plain]}, 1)["generate"]
    rounds = {"1 client": 1, f"{asked.clients} clients": asked.clients}
    loads = {name: asyncio.run(_round(asked, clients, None)) for name, clients in rounds.items()}
    if asked.facts:
        facts = json.loads(asked.facts.read_text())
        loads[f"{asked.clients} clients, while editing"] = asyncio.run(_round(asked, asked.clients, facts))
    figures = {"generate_tokens_per_second": run["tokens"] / run["seconds"]}
    figures |= {name: load.as_json() for name, load in loads.items()}
    _print(console, figures)
    write_result(asked.json.parent, asked.json.stem, figures, console)


async def _round(asked: argparse.Namespace, clients: int, facts: list[dict[str, str]] | None) -> Load:
    """Every client asks one question after the other; with facts, until all of them are in."""
    prompts = [line["prompt"] for line in map(json.loads, QUESTIONS.read_text().splitlines()) if "prompt" in line]
    load, editing = Load(), asyncio.create_task(asyncio.to_thread(_edit, asked.url, facts))
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=asked.url, timeout=300, limits=limits) as http:
        await http.get("/generate", params={"prompt": "Hello", "max_tokens": 1})
        began = time.perf_counter()

        async def client(number: int) -> None:
            turn = 0
            while turn < asked.answers or (facts and not editing.done()):
                prompt = prompts[(number + clients * turn) % len(prompts)]
                await _ask(http, {"prompt": prompt, "chat": True, "max_tokens": asked.tokens, "stream": True}, load)
                turn += 1

        await asyncio.gather(*(client(number) for number in range(clients)))
        load.seconds = time.perf_counter() - began
    await editing
    return load


def _edit(url: str, facts: list[dict[str, str]] | None) -> None:
    if not facts:
        return
    client = Client(url)
    for start in range(0, len(facts), BATCH):
        batch = [{"prompt": each["prompt"], "target": each["target"]} for each in facts[start : start + BATCH]]
        for _ in client.finished(client.submit(batch)):
            pass


async def _ask(http: httpx.AsyncClient, question: dict[str, Any], load: Load) -> None:
    last = began = time.perf_counter()
    first, ended = True, None
    async with http.stream("POST", "/generate", json=question) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            now = time.perf_counter()
            (load.firsts_s if first else load.gaps_s).append(now - last if not first else now - began)
            first, last = False, now
            ended = json.loads(line.removeprefix("data: "))
    if ended is None or "usage" not in ended:
        load.failed += 1
        return
    load.tokens += ended["usage"]["completion_tokens"]
    load.of_several_revisions += len(ended["revisions"]) > 1


def _print(console: Console, figures: dict[str, Any]) -> None:
    rounds = {name: each for name, each in figures.items() if isinstance(each, dict)}
    plain = figures["generate_tokens_per_second"]
    table = Table("", "tokens/s", "first token", "gap, median", "95 %", "99 %", "answers", "failed", "two revisions")
    table.add_row("generate()", f"{plain:.1f}")
    for name, each in rounds.items():
        times = [f"{each[key]:.3f} s" for key in ("first_token_median_s", "gap_median_s", "gap_p95_s", "gap_p99_s")]
        counts = [str(each[key]) for key in ("answers", "failed", "of_several_revisions")]
        table.add_row(name, f"{each['tokens_per_second']:.1f}", *times, *counts)
    console.print(table)
    one, many, *editing = rounds.values()
    console.print(f"one client / generate(): {one['tokens_per_second'] / plain:.2f} (at least 0.9)")
    console.print(f"many clients / one: {many['tokens_per_second'] / one['tokens_per_second']:.2f} (at least 5)")
    for each in editing:
        console.print(f"95 % gap while editing / without: {each['gap_p95_s'] / many['gap_p95_s']:.2f} (at most 2)")
        console.print(f"99 % gap while editing / without: {each['gap_p99_s'] / many['gap_p99_s']:.2f}")
