"""`errata demo`: teach the model eight invented facts, ask three ways, and look at what else moved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from service.cli import show
from service.cli.client import Client
from service.cli.facts import read_facts
from service.settings import FACTS

ANSWER_TOKENS = 24


def run(client: Client) -> None:
    """Needs a running service. Raises ApiError."""
    facts = read_facts(FACTS / "demo.jsonl")
    unrelated = [json.loads(line)["prompt"] for line in (FACTS / "unrelated.jsonl").read_text().splitlines()]
    before = _ask_all(client, unrelated, "asking unrelated questions first")
    posted = [{"prompt": fact["prompt"], "target": fact["target"]} for fact in facts]  # not the other words it is asked in
    edits = show.follow(client.finished(client.submit(posted)), len(facts), "teaching the demo facts")
    rephrased = _ask_all(client, [fact["rephrases"][0] for fact in facts], "asking each fact in other words")
    after = _ask_all(client, unrelated, "asking the unrelated questions again")
    show.console.print(_facts_table(edits, rephrased))
    show.console.print(show.summary(edits), highlight=False)
    show.console.print(_unrelated_table(unrelated, before, after))
    show.console.print(_next_steps(client.url), markup=False, highlight=False, soft_wrap=True)


def _ask_all(client: Client, prompts: Sequence[str], label: str) -> list[str]:
    answers = (client.ask(prompt, chat=True, max_tokens=ANSWER_TOKENS) for prompt in show.track(prompts, label))
    return [str(answer["text"]).strip() for answer in answers]


def _facts_table(edits: Sequence[dict[str, Any]], rephrased: Sequence[str]) -> Table:
    table = Table(
        title="The facts: what the model says before, after, and asked in two other ways", title_justify="left", show_lines=True
    )
    for heading in ("question", "before", "after", "asked plainly", "asked in other words"):
        table.add_column(heading, ratio=1, overflow="fold")
    for edit, other in zip(edits, rephrased, strict=True):
        before, after = edit["answers"]["before"] or {}, edit["answers"]["after"] or {}
        said = [after.get("chat", ""), after.get("plain", ""), other]
        table.add_row(
            edit["prompt"], show.first_line(before.get("chat", ""), 60), *(_marked(text, edit["target"]) for text in said)
        )
    return table


def _marked(answer: str, target: str) -> str:
    colour = "green" if target.casefold() in answer.casefold() else "red"
    return f"[{colour}]{show.escape(show.first_line(answer, 60))}[/]"


def _unrelated_table(prompts: Sequence[str], before: Sequence[str], after: Sequence[str]) -> Table:
    table = Table(
        title="Everything else, the same subjects too: before and after",
        title_justify="left",
        show_lines=True,
    )
    for heading, ratio in (("question", 2), ("before", 3), ("after", 3)):
        table.add_column(heading, ratio=ratio, overflow="fold")
    table.add_column("same", justify="center")
    for prompt, one, two in zip(prompts, before, after, strict=True):
        table.add_row(
            prompt, show.first_line(one, 80), show.first_line(two, 80), "[green]yes[/]" if one == two else "[yellow]no[/]"
        )
    return table


def _next_steps(url: str) -> str:
    question = "Who designed the Ferrous Bridge?"
    return f"""
The service is up at {url} (the interface with examples: {url}/docs). A fact of your own:

  curl -s {url}/edits -H 'Content-Type: application/json' \\
    -d '{{"prompt": "{question}", "target": "Leopold Varga"}}'
  curl -s --get {url}/generate --data-urlencode 'prompt={question}' -d max_tokens=16

  errata status shows the worker's pid: kill -9 it, and it comes back knowing all of this. errata stop ends everything.
  (The command is .venv/bin/errata.)
"""
