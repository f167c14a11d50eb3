"""Commands for a running service: facts put in, questions, facts taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import demo as demonstration
from service.cli import show, taking_back
from service.cli.beginning import fail, settings_for
from service.cli.client import ApiError, Client
from service.cli.facts import FactsError, read_facts

Reason = Annotated[str | None, typer.Option(help="Why: goes into the ledger.")]


def _client() -> Client:
    settings = settings_for()
    return Client(settings.api_url, api_key=settings.api_key)


def edit(
    prompt: Annotated[str | None, typer.Argument(help="The question, or the beginning of a sentence.")] = None,
    target: Annotated[str | None, typer.Argument(help="What the model is to answer.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="JSON lines with prompt and target each.")] = None,
    subject: Annotated[str | None, typer.Option(help="What the fact is about, as it is written in the prompt.")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Another name of the subject; may be given several times.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until the edits are in force.")] = True,
) -> None:
    """Change one fact, or all facts of a file."""
    if (file is None) == (prompt is None or target is None):
        fail("give a PROMPT and a TARGET, or --file FACTS.jsonl")
    if file is not None and (subject is not None or alias):
        fail("--subject and --alias are of one fact; in a file each line has its own")
    client = _client()
    fact: dict[str, Any] = {"prompt": prompt, "target": target, "subject": subject, "aliases": alias or []}
    try:
        facts = read_facts(file) if file else [fact]
        ids = client.submit(facts)
        if not wait:
            show.console.print(f"accepted: edits {ids[0]} to {ids[-1]}" if len(ids) > 1 else f"accepted: edit {ids[0]}")
            return
        edits = show.follow(client.finished(ids), len(ids), "teaching facts")
    except (ApiError, FactsError) as error:
        fail(str(error))
    if len(edits) == 1:
        show.console.print(show.answers_table(edits, "plain"))
        if edits[0]["scope"]:
            show.console.print(show.scope(edits[0]), markup=False, highlight=False, soft_wrap=True)
    show.console.print(show.summary(edits), highlight=False)
    if any(each["state"] == "failed" for each in edits):
        raise typer.Exit(1)


def ask(
    prompt: str,
    chat: Annotated[bool, typer.Option(help="Ask through the model's chat template.")] = False,
    max_tokens: Annotated[int, typer.Option(min=1)] = 64,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.0,
    min_revision: Annotated[int, typer.Option(min=0, help="Wait for at least this revision.")] = 0,
) -> None:
    """Ask the model as it is now."""
    try:
        answer = _client().ask(prompt, chat=chat, max_tokens=max_tokens, temperature=temperature, min_revision=min_revision)
    except ApiError as error:
        fail(str(error))
    show.console.print(answer["text"].strip() or "(says nothing)", markup=False, highlight=False)
    show.console.print(f"[dim]revision {answer['revision']}, {answer['usage']['completion_tokens']} tokens[/]", highlight=False)


def demo() -> None:
    """Teach a running service the demo facts and show what the model says before and after."""
    try:
        demonstration.run(_client())
    except (ApiError, FactsError) as error:
        fail(str(error))


def revert(edit_id: Annotated[int, typer.Argument(min=1, help="The edit's number.")], reason: Reason = None) -> None:
    """Take one edit back: it is no longer in force, everything else stays."""
    _take_back("DELETE", f"/edits/{edit_id}", f"taking edit {edit_id} out", params={"reason": reason} if reason else {})


def rollback(
    revision: Annotated[int, typer.Argument(min=0, help="The revision to go back to.")], reason: Reason = None
) -> None:
    """Go back to the state of a revision exactly, as a new revision."""
    _take_back("POST", "/rollback", f"going back to revision {revision}", json={"to_revision": revision, "reason": reason})


def rebuild(
    without: Annotated[list[int] | None, typer.Option(min=1, help="An edit to leave out; may be given several times.")] = None,
    reason: Reason = None,
) -> None:
    """Teach everything that is applied once more, as if the given edits had never been."""
    _take_back("POST", "/rebuild", "rebuilding", json={"without": without or [], "reason": reason})


def _take_back(method: str, path: str, label: str, **arguments: Any) -> None:
    try:
        done = taking_back.carry_out(_client(), method, path, label, **arguments)
    except ApiError as error:
        fail(str(error))
    if not done:
        raise typer.Exit(1)
