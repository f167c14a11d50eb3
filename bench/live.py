"""`python -m bench live`: what edits are worth, asked of a running service as its users would ask it.

No torch here and nothing of the editor: questions go to /generate, facts to /edits. `quality` measures more (probabilities,
tasks, cost) in its own process; this one measures what arrives, and with `--then` what is left of it many edits later.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import RESULTS, write_result
from bench.quality.facts import Fact, read_facts
from bench.quality.intervals import Share, wilson
from bench.quality.progress import Phases
from bench.quality.targets import SUCCESS, UNCHANGED, at_least
from service.cli.client import Client
from service.settings import Settings

FORMATS = ("plain", "chat")
ANSWER_TOKENS, UNCHANGED_TOKENS = 32, 12
ASKED_TOGETHER = 16
ASKING_S, WAITING_S = 0.5, 1.7  # about, a fact's questions and an edit: how the bar is divided
HELD_LATER = at_least(0.95)

Question = tuple[str, str]  # and its format


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench live", description="post facts to a running service and ask it")
    parser.add_argument("--data", type=Path, required=True, help="JSON list of facts, as for quality")
    parser.add_argument("--edits", type=int, default=100, help="how many of the facts to post")
    parser.add_argument("--start", type=int, default=0, help="number of the first fact, from 0")
    parser.add_argument("--then", type=Path, help="JSON list of objects with prompt and target: posted afterwards")
    parser.add_argument("--then-edits", type=int, default=900, help="how many of those")
    parser.add_argument("--every", type=int, default=100, help="of those, after how many the first facts are asked again")
    parser.add_argument("--url", default=Settings().api_url, help="where the service is")
    parser.add_argument("--json", type=Path, default=RESULTS / "live.json", help="where the figures go")
    asked = parser.parse_args(arguments)
    facts, client, console = read_facts(asked.data, asked.start, asked.edits), Client(asked.url), Console()
    more = json.loads(asked.then.read_text(encoding="utf-8"))[: asked.then_edits] if asked.then else []
    weights = {"before": ASKING_S, "posting": WAITING_S, "asking": 2 * ASKING_S, "after": ASKING_S}
    seconds = {name: weight * len(facts) for name, weight in weights.items()} | {"many more": WAITING_S * len(more)}
    figures: dict[str, Any] = {"edits": len(facts)}
    with Phases(console, seconds) as phases:
        with phases("before") as advance:
            before = _unrelated(client, facts, advance)
        with phases("posting") as advance:
            figures["failed"] = _post(client, [{"prompt": fact.prompt, "target": fact.target} for fact in facts], advance)
        with phases("asking") as advance:
            shares = _success(client, facts, advance)
        with phases("after") as advance:
            after = _unrelated(client, facts, advance)
        for format in FORMATS:
            shares[f"unrelated unchanged, {format}"] = Share.of(before[key] == after[key] for key in before if key[1] == format)
        _print(console, shares, figures["failed"])
        figures["figures"] = {name: share.as_json() for name, share in shares.items()}
        figures["later"] = []
        write_result(asked.json.parent, asked.json.stem, figures, console)
        if more:
            with phases("many more") as advance:
                for each in _later(client, facts, more, asked.every, before, advance):
                    figures["later"].append(each)
                    console.print(_in_words(each))
                    write_result(asked.json.parent, asked.json.stem, figures, console)


def _post(client: Client, facts: Sequence[dict[str, str]], advance: Callable[[float], None]) -> list[str]:
    """The prompts of those that fail."""
    failed = []
    ids = client.submit(facts)
    for number, edit in enumerate(client.finished(ids), 1):
        failed += [edit["prompt"]] if edit["state"] == "failed" else []
        advance(number / len(ids))
    return failed


def _later(
    client: Client,
    facts: Sequence[Fact],
    more: Sequence[dict[str, str]],
    every: int,
    before: dict[Question, str],
    advance: Callable[[float], None],
) -> Iterator[dict[str, Any]]:
    """After every so many of the further facts: how many of the first are still said, and which are not."""
    for start in range(0, len(more), every):
        some = more[start : start + every]
        began = time.perf_counter()
        failed = _post(
            client,
            [{"prompt": each["prompt"], "target": each["target"]} for each in some],
            _part_of(advance, start / len(more), len(some) / len(more)),
        )
        took_s = time.perf_counter() - began
        questions = [(fact.prompt, format) for format in FORMATS for fact in facts]
        said = _said(client, questions, ANSWER_TOKENS, lambda share: None)
        targets = {fact.prompt: fact.target for fact in facts}
        lost = [[*each, said[each]] for each in questions if not _holds(said[each], targets[each[0]], each[1])]
        unrelated = _unrelated(client, facts, lambda share: None)
        yield {
            "edits": len(facts) + start + len(some),
            "seconds_per_edit": took_s / len(some),
            "failed": failed,
            "held": {format: len(facts) - sum(each[1] == format for each in lost) for format in FORMATS},
            "of": len(facts),
            "lost": lost,
            "unrelated unchanged": {
                format: Share.of(before[key] == unrelated[key] for key in before if key[1] == format).as_json()
                for format in FORMATS
            },
        }


def _part_of(advance: Callable[[float], None], begin: float, share: float) -> Callable[[float], None]:
    return lambda done: advance(begin + share * done)


def _in_words(later: dict[str, Any]) -> str:
    held = ", ".join(
        f"[{'green' if HELD_LATER.met(count / later['of']) else 'red'}]{count}[/] in {format}"
        for format, count in later["held"].items()
    )
    unchanged = ", ".join(f"{share['share']:.2f}" for share in later["unrelated unchanged"].values())
    return (
        f"after {later['edits']} edits: of the first {later['of']} hold {held} (target {HELD_LATER.words}); "
        f"unrelated unchanged {unchanged}; {len(later['failed'])} failed, {later['seconds_per_edit']:.1f} s an edit"
    )


def _holds(said: str, target: str, format: str) -> bool:
    """A plain answer is to start with the target, a chat answer to contain it."""
    answer, wanted = said.strip().casefold(), target.strip().casefold()
    return answer.startswith(wanted) if format == "plain" else wanted in answer


def _said(client: Client, questions: Sequence[Question], tokens: int, advance: Callable[[float], None]) -> dict[Question, str]:
    """Asked by several clients at once."""

    def ask(question: Question) -> str:
        prompt, format = question
        return str(client.ask(prompt, max_tokens=tokens, chat=format == "chat")["text"])

    answers = {}
    with ThreadPoolExecutor(ASKED_TOGETHER) as clients:
        for number, (question, text) in enumerate(zip(questions, clients.map(ask, questions), strict=True), 1):
            answers[question] = text
            advance(number / len(questions))
    return answers


def _success(client: Client, facts: Sequence[Fact], advance: Callable[[float], None]) -> dict[str, Share]:
    questions = {(kind, format): [fact.questions()[kind] for fact in facts] for kind in SUCCESS for format in FORMATS}
    asked = [(text, format) for (_, format), each in questions.items() for text, _ in each]
    said = _said(client, asked, ANSWER_TOKENS, advance)
    return {
        f"{kind}, {format}": Share.of(_holds(said[text, format], target, format) for text, target in each)
        for (kind, format), each in questions.items()
    }


def _unrelated(client: Client, facts: Sequence[Fact], advance: Callable[[float], None]) -> dict[Question, str]:
    questions = [(fact.unrelated_prompt, format) for fact in facts for format in FORMATS]
    return _said(client, questions, UNCHANGED_TOKENS, advance)


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
