"""`python -m bench serve`: a running service beside `transformers serve` and plain `generate()`, with the ratios between them.

The service is one that runs already (`errata up`), with the model that `--model` names. All are asked the same questions, one
greedy answer of the same length after the other; they take turns, and a peer is stopped for as long as it is not its turn.
With --facts they are posted to the service in batches while the clients of a last round read on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.measure import RESULTS, ROOT, run_apart, write_result
from bench.peers import PEERS, Peer, running
from bench.ready import require_ready
from bench.streams import Load, Server, read_along
from service.cli.client import Client
from service.settings import Settings

QUESTIONS = ROOT / "service" / "facts" / "canary.jsonl"
BATCH = 50
OURS = "errata"


@dataclass(frozen=True, slots=True)
class Ratio:
    """What is compared, what came out, and what it is to be."""

    name: str
    value: float
    least: float = 0.0
    most: float = math.inf

    @property
    def wanted(self) -> str:
        if self.least:
            return f"at least {self.least:g}"
        return f"at most {self.most:g}" if self.most < math.inf else ""

    @property
    def met(self) -> bool:
        return self.least <= self.value <= self.most


@dataclass(slots=True)
class Figures:
    """By server and round, and of plain generate()."""

    loads: dict[tuple[str, str], Load] = field(default_factory=dict)
    generate_tokens: int = 0
    generate_seconds: float = 0.0
    cores_of_others: float = 0.0

    def ratios(self, one: str, many: str, editing: str) -> list[Ratio]:
        """What is promised. A server that failed has no part in it."""
        speed = {key: load.tokens_per_second for key, load in self.loads.items() if not load.failures}
        peers = [value for (name, round), value in speed.items() if name != OURS and round == many]
        ours_one, ours_many = speed.get((OURS, one), 0.0), speed.get((OURS, many), 0.0)
        found = [Ratio("one client / generate()", ours_one / self.generate_speed, least=0.9)]
        if ours_one:
            found.append(Ratio(f"{many} / one", ours_many / ours_one, least=5.0))
        if peers:
            found.append(Ratio(f"{many} / the best peer's", ours_many / max(peers), least=1.0))
        if (OURS, editing) in self.loads:
            while_editing, without = (self.loads[OURS, round].as_json() for round in (editing, many))
            found.append(Ratio("95 % gap while editing / without", while_editing["gap_p95_s"] / without["gap_p95_s"], most=2.0))
            found.append(Ratio("99 % gap while editing / without", while_editing["gap_p99_s"] / without["gap_p99_s"]))
        return found

    @property
    def generate_speed(self) -> float:
        return self.generate_tokens / self.generate_seconds

    def as_json(self) -> dict[str, Any]:
        rounds: dict[str, dict[str, Any]] = {}
        for (name, round), load in self.loads.items():
            rounds.setdefault(name, {})[round] = load.as_json()
        return {"generate()": {"tokens_per_second": self.generate_speed, "cores_of_others": self.cores_of_others}, **rounds}


def main(arguments: Sequence[str]) -> None:
    asked, console = _arguments(arguments), Console()
    require_ready(asked.url)
    one, many = "1 client", f"{asked.clients} clients"
    editing, figures = f"{many}, editing", Figures()
    source, cache_dir = asked.model, str(asked.cache_dir.resolve())
    folder = Path(run_apart(["bench.model_folder", source, cache_dir], 0)["folder"])
    generating = ["bench.serve_worker", source, cache_dir, str(asked.answers), str(asked.tokens)]
    with running(list(PEERS) if asked.peers else [], folder) as peers, _steps(console, len(peers), asked) as step:
        ours = Server(OURS, asked.url, {"model": "errata", "stream_options": {"include_usage": True}})
        turns = [Turn(ours), *map(Turn.of, peers)]
        for number in range(asked.rounds):
            step("generate()")
            run = run_apart(generating, number)
            figures.generate_tokens += run["tokens"]
            figures.generate_seconds += run["seconds"]
            figures.cores_of_others = max(figures.cores_of_others, run["cores_of_others"])
            for name, clients in ((one, 1), (many, asked.clients)):
                for turn in turns if number % 2 == 0 else reversed(turns):
                    step(f"{turn.server.name}, {name}")
                    load = figures.loads.setdefault((turn.server.name, name), Load())
                    turn.take(load, clients, asked)
        if asked.facts:
            step(f"{OURS}, {editing}")
            figures.loads[OURS, editing] = Load()
            asyncio.run(_while_editing(asked, ours, figures.loads[OURS, editing]))
    ratios = figures.ratios(one, many, editing)
    _print(console, figures, ratios)
    settings = {name: getattr(asked, name) for name in ("clients", "answers", "tokens", "rounds")}
    write_result(
        asked.json.parent,
        asked.json.stem,
        {"settings": settings, **figures.as_json(), "ratios": {each.name: each.value for each in ratios}},
        console,
    )


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench serve", description="how fast a running service answers")
    parser.add_argument("--url", default=Settings().api_url, help="where the service is")
    parser.add_argument("--model", default="demo", help="for the others: what the service serves, as ERRATA_MODEL")
    parser.add_argument("--cache-dir", type=Path, default=Path(".errata/models"), help="where models are unpacked")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--answers", type=int, default=2, help="of each client in a round, and of generate()")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer, at most")
    parser.add_argument("--rounds", type=int, default=2, help="in which everybody has one turn alone and one with all clients")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="without transformers serve")
    parser.add_argument("--facts", type=Path, help="JSON list of objects with prompt and target, edited in the last round")
    parser.add_argument("--json", type=Path, default=RESULTS / "serve.json", help="where the figures go")
    return parser.parse_args(arguments)


@dataclass(frozen=True, slots=True)
class Turn:
    """A server whose turn it may be; a peer is woken for it."""

    server: Server
    peer: Peer | None = None

    @classmethod
    def of(cls, peer: Peer) -> Turn:
        return cls(peer.server, peer)

    def take(self, load: Load, clients: int, asked: argparse.Namespace) -> None:
        reading = partial(read_along, clients=clients, answers=asked.answers, tokens=asked.tokens)
        if self.peer is None:
            asyncio.run(reading(self.server, load, prompts()))
            return
        with self.peer.awake() as server:
            asyncio.run(reading(server, load, prompts()))


def prompts() -> list[str]:
    return [line["prompt"] for line in map(json.loads, QUESTIONS.read_text().splitlines()) if "prompt" in line]


async def _while_editing(asked: argparse.Namespace, server: Server, load: Load) -> None:
    facts = json.loads(asked.facts.read_text())
    editing = asyncio.create_task(asyncio.to_thread(_edit, asked.url, facts))
    sizes = {"clients": asked.clients, "answers": asked.answers, "tokens": asked.tokens}
    await read_along(server, load, prompts(), **sizes, going_on=lambda: not editing.done())
    await editing


def _edit(url: str, facts: list[dict[str, str]]) -> None:
    client = Client(url)
    for start in range(0, len(facts), BATCH):
        batch = [{"prompt": each["prompt"], "target": each["target"]} for each in facts[start : start + BATCH]]
        for _ in client.finished(client.submit(batch)):
            pass


@contextmanager
def _steps(console: Console, peers: int, asked: argparse.Namespace) -> Iterator[Any]:
    """A bar; told what begins now."""
    total = asked.rounds * (1 + 2 * (1 + peers)) + bool(asked.facts)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total, completed=-1)

        def step(doing: str) -> None:
            progress.advance(task)
            progress.update(task, description=doing)

        yield step


def _print(console: Console, figures: Figures, ratios: Sequence[Ratio]) -> None:
    table = Table("", "tokens/s", "tokens", "first, ms", "gap, ms", "95 %", "99 %", "answers", "failed", "mixed")
    table.columns[0].no_wrap = True
    table.add_row("generate()", f"{figures.generate_speed:.1f}", str(figures.generate_tokens))
    for (name, round), load in figures.loads.items():
        each = load.as_json()
        times = [f"{1000 * each[key]:.0f}" for key in ("first_token_median_s", "gap_median_s", "gap_p95_s", "gap_p99_s")]
        counts = [str(each[key]) for key in ("answers", "failed", "of_several_revisions")]
        table.add_row(f"{name}, {round}", f"{each['tokens_per_second']:.1f}", str(load.tokens), *times, *counts)
    console.print(table)
    for (name, round), load in figures.loads.items():
        if load.failures:
            console.print(f"[red]{name}, {round}[/]: {load.failures[0]}", soft_wrap=True, highlight=False)
    for each in ratios:
        wanted = f" ({each.wanted})" if each.wanted else ""
        console.print(f"{each.name}: [{'green' if each.met else 'red'}]{each.value:.2f}[/]{wanted}", highlight=False)
    console.print(f"cores taken by others while generate() ran, at most: {figures.cores_of_others:.2f}", highlight=False)
