"""`python -m bench live`: what edits are worth, asked of a running service as its users would ask it.

No torch here and nothing of the editor: questions go to /generate, facts to /edits. `quality` measures more (probabilities,
tasks, cost) in its own process; this one measures what arrives.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measure import RESULTS, write_result
from bench.quality.facts import Fact, read_facts
from bench.quality.intervals import Share, wilson
from bench.quality.progress import Phases
from bench.quality.targets import SUCCESS, UNCHANGED
from service.cli.client import Client
from service.settings import Settings

FORMATS = ("plain", "chat")
ANSWER_TOKENS, UNCHANGED_TOKENS = 32, 12
ASKING_S, WAITING_S = 1.0, 1.0  # about, a question and an edit: how the bar is divided


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench live", description="post facts to a running service and ask it")
    parser.add_argument("--data", type=Path, required=True, help="JSON list of facts, as for quality")
    parser.add_argument("--edits", type=int, default=100, help="how many of the facts to post")
    parser.add_argument("--start", type=int, default=0, help="number of the first fact, from 0")
    parser.add_argument("--url", default=Settings().api_url, help="where the service is")
    parser.add_argument("--json", type=Path, default=RESULTS / "live.json", help="where the figures go")
    asked = parser.parse_args(arguments)
    facts, client, console = read_facts(asked.data, asked.start, asked.edits), Client(asked.url), Console()
    weights = {"before": 0.4, "posting": WAITING_S, "asking": 4 * ASKING_S, "after": 0.4}
    with Phases(console, {name: weight * len(facts) for name, weight in weights.items()}) as phases:
        with phases("before") as advance:
            before = _unrelated(client, facts, advance)
        with phases("posting") as advance:
            failed = []
            ids = client.submit([{"prompt": fact.prompt, "target": fact.target} for fact in facts])
            for number, edit in enumerate(client.finished(ids), 1):
                failed += [edit["prompt"]] if edit["state"] == "failed" else []
                advance(number / len(ids))
        with phases("asking") as advance:
            shares = _success(client, facts, advance)
        with phases("after") as advance:
            after = _unrelated(client, facts, advance)
    for format in FORMATS:
        shares[f"unrelated unchanged, {format}"] = Share.of(before[key] == after[key] for key in before if key[1] == format)
    _print(console, shares, failed)
    figures = {name: share.as_json() for name, share in shares.items()}
    write_result(asked.json.parent, asked.json.stem, {"figures": figures, "failed": failed, "edits": len(facts)}, console)


def _success(client: Client, facts: Sequence[Fact], advance: Callable[[float], None]) -> dict[str, Share]:
    """A plain answer is to start with the target, a chat answer to contain it."""
    said: dict[str, list[bool]] = {f"{kind}, {format}": [] for kind in SUCCESS for format in FORMATS}
    for number, fact in enumerate(facts, 1):
        wanted = fact.target.strip().casefold()
        for kind in SUCCESS:
            for format in FORMATS:
                question = fact.questions()[kind][0]
                answer = client.ask(question, max_tokens=ANSWER_TOKENS, chat=format == "chat")["text"].strip().casefold()
                said[f"{kind}, {format}"].append(answer.startswith(wanted) if format == "plain" else wanted in answer)
        advance(number / len(facts))
    return {name: Share.of(outcomes) for name, outcomes in said.items()}


def _unrelated(client: Client, facts: Sequence[Fact], advance: Callable[[float], None]) -> dict[tuple[str, str], str]:
    answers = {}
    for number, fact in enumerate(facts, 1):
        for format in FORMATS:
            options = {"max_tokens": UNCHANGED_TOKENS, "chat": format == "chat"}
            answers[fact.unrelated_prompt, format] = client.ask(fact.unrelated_prompt, **options)["text"]
        advance(number / len(facts))
    return answers


def _print(console: Console, shares: dict[str, Share], failed: Sequence[str]) -> None:
    table = Table("", "target", "measured", "95 % interval")
    for name, share in shares.items():
        target = SUCCESS.get(name.partition(",")[0], UNCHANGED)
        low, high = wilson(share.successes, share.trials)
        style = "green" if target.met(share.value) else "red"
        table.add_row(name, target.words, f"[{style}]{share.value:.2f}[/]", f"{low:.2f} – {high:.2f}")
    console.print(table)
    if failed:
        console.print(f"{len(failed)} failed: {'; '.join(failed)}")
