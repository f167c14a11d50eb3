"""One run: ask while editing, then judge."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.endurance import judging
from bench.endurance.asking import Answer, ask_all
from bench.endurance.editing import Editing
from bench.endurance.questions import drawn
from bench.measure import RESULTS, ROOT, write_result
from bench.promises import Promise, show
from bench.ready import require_ready
from service.cli.client import Client
from service.local.ledger import local_ledger
from service.settings import Settings

FACTS = ROOT / "service" / "facts"


def main(arguments: Sequence[str]) -> None:
    """Exit code 1 when a promise is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m bench endurance",
        description="ask a running service while it edits, and judge every answer; with the service's own environment",
    )
    parser.add_argument("--url", default=Settings().api_url, help="where the service is")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--questions", type=int, default=24, help="different ones among the requests")
    parser.add_argument("--tokens", type=int, default=32, help="of an answer, at most; each question has its own limit")
    parser.add_argument("--facts", type=Path, help="JSON list of objects with prompt and target; default: the project's own")
    parser.add_argument("--revisions", type=int, default=10, help="rebuilt in the end, besides those whose answers differ")
    parser.add_argument("--seed", type=int, default=1, help="of what is asked")
    parser.add_argument("--json", type=Path, default=RESULTS / "endurance.json", help="where the figures go")
    asked, console = parser.parse_args(arguments), Console()
    require_ready(asked.url)
    facts = json.loads(asked.facts.read_text()) if asked.facts else _lines("warmup.jsonl")
    facts = [{"prompt": each["prompt"], "target": each["target"]} for each in facts]
    prompts = [each["prompt"] for each in (*_lines("canary.jsonl"), *facts[:50]) if "prompt" in each]
    chance = random.Random(asked.seed)
    pool = drawn(prompts, asked.questions, asked.tokens, chance)
    client, editing, began = Client(asked.url), Editing(asked.url, facts), time.monotonic()
    first = client.stats()["head"]["number"]
    with _bar(console, "asking while editing", asked.requests) as heard:
        editing.start()
        found = asyncio.run(ask_all(asked.url, pool, asked.requests, asked.clients, chance, heard))
        editing.stop()
    seconds, head = time.monotonic() - began, client.stats()["head"]["number"]
    promises = [
        judging.of_the_editing(found, head - first),
        *judging.of_the_stream(found, asked.requests, head),
        *_recomputed(console, found.answers, asked.revisions, chance),
    ]
    show(console, promises)
    edits = ", ".join(f"{count} {state}" for state, count in sorted(editing.outcomes.items()))
    console.print(f"{editing.batches} batches ({edits}) in {seconds:.0f} s", highlight=False)
    figures = {
        "settings": {name: getattr(asked, name) for name in ("requests", "clients", "questions", "tokens", "seed")},
        "seconds": seconds,
        "revisions": head - first,
        "edits": dict(editing.outcomes),
        "tokens": sum(each.tokens for each in found.answers),
        "promises": {each.name: each.as_json() for each in promises},
    }
    write_result(asked.json.parent, asked.json.stem, figures, console)
    if any(each.broken for each in promises):
        raise SystemExit(1)


def _recomputed(console: Console, answers: Sequence[Answer], revisions: int, chance: random.Random) -> list[Promise]:
    """What differs is always recomputed; of the rest, everything that was said at some revisions."""
    from bench.endurance.recomputed import Claim, doubts  # brings torch along

    places = judging.by_place(answers)
    several = [each for each in answers if not each.trouble and len(each.revisions) > 1]
    known = judging.revisions_of(places, several)
    sample = set(chance.sample(known, min(revisions, len(known))))
    claims: dict[int, dict[Claim, None]] = {}
    for (revision, question), texts in places.items():
        if revision in sample or len(texts) > 1:
            claims.setdefault(revision, {}).update({Claim(question, *text): None for text in texts})
    for each in several:
        if each.revisions[0] in sample:
            claims.setdefault(each.revisions[0], {})[Claim(each.question, each.first_text)] = None
    ordered = {revision: list(claims[revision]) for revision in sorted(claims)}
    count = sum(map(len, ordered.values()))
    with _bar(console, "asking the rebuilt model", count) as judged, _settings() as settings:
        found = doubts(settings, ordered, judged)
    differing = {
        (revision, question): next(filter(None, (found[revision, Claim(question, *text)] for text in texts)), "")
        for (revision, question), texts in places.items()
        if len(texts) > 1
    }
    wrong = [f"revision {revision}, {claim.question}: {doubt}" for (revision, claim), doubt in found.items() if doubt]
    return [
        judging.alike(places, differing),
        judging.texts_of_others(places),
        Promise("the weights of that revision say so", f"{count:,} texts at {len(ordered)} of {len(known)} revisions", wrong),
    ]


@contextmanager
def _settings() -> Iterator[Settings]:
    """Those of the service: its database is the data folder's own where none is named."""
    settings = Settings()
    if settings.database_url:
        yield settings
        return
    with local_ledger(settings) as own:
        yield own


def _lines(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FACTS / name).read_text().splitlines() if line]


@contextmanager
def _bar(console: Console, doing: str, total: int) -> Iterator[Callable[[], None]]:
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
