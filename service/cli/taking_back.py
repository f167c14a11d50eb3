"""`errata revert`, `errata rollback`, `errata rebuild`: take facts back, and wait until the model has done it."""

from __future__ import annotations

import getpass
import time
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from service.cli import show
from service.cli.client import Client

POLL_INTERVAL_S = 0.3


def carry_out(client: Client, method: str, path: str, label: str, **arguments: Any) -> bool:
    """Ask for it, wait, and show what became of it; whether it was done. Raises ApiError."""
    before = client.stats()["head"]
    operation = client.operation(method, path, _actor(), **arguments)
    done = _waited_for(client, operation, label)
    if done["state"] == "failed":
        failure = done["failure"]
        show.console.print(f"[red]not done:[/] {show.escape(failure['detail'])} ({failure['code']})", highlight=False)
        return False
    revision = client.revision(done["revision"])
    show.console.print(_what_was_done(done, revision, before))
    edits = client.edits(revision["edit_ids"][:50])
    if edits:
        show.console.print(_edits_table(edits, revision))
    return True


def _actor() -> str:
    """As a header can carry it."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return "anonymous"
    return name.encode("ascii", "replace").decode() or "anonymous"


def _waited_for(client: Client, operation: dict[str, Any], label: str) -> dict[str, Any]:
    found = operation

    def finished() -> tuple[bool, str]:
        nonlocal found
        found = client.get_operation(operation["id"])
        details = (
            [worker["detail"] for worker in client.stats()["workers"] if worker["writer"]] if found["revision"] is None else []
        )
        doing = f": {details[0]}" if details and details[0] != "ready" else ""
        return found["state"] in ("applied", "failed"), f"{label} ({found['state']}{doing})"

    show.wait_until(finished, lambda: time.sleep(POLL_INTERVAL_S))
    return found


def _what_was_done(operation: dict[str, Any], revision: dict[str, Any], before: dict[str, Any] | None) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    was = f" (was {before['number']})" if before else ""
    grid.add_row("revision", f"[green]{revision['number']}[/]{was}: {operation['kind']}")
    if revision["source"] is not None:
        grid.add_row("state of", f"revision {revision['source']}, bit for bit")
    grid.add_row("fingerprint", revision["fingerprint"][:32] + "…")
    grid.add_row("by", show.escape(operation["actor"]))
    grid.add_row("why", show.escape(operation["reason"] or "(no reason given)"))
    return grid


def _edits_table(edits: Sequence[dict[str, Any]], revision: dict[str, Any]) -> Table:
    """Of a subtract, an edit that is applied was taught again: it shared something with the one taken out."""
    total = len(revision["edit_ids"])
    more = f", the first {len(edits)} of {total}" if total > len(edits) else ""
    table = Table(title=f"What became of the facts{more}", title_justify="left")
    table.add_column("edit", justify="right")
    for heading in ("question", "answer", "now"):
        table.add_column(heading, overflow="fold")
    for edit in edits:
        colour = {"applied": "green", "failed": "red"}.get(edit["state"], "yellow")
        prompt, target = (show.escape(show.first_line(edit[part], 70)) for part in ("prompt", "target"))
        again = " (taught again)" if (revision["kind"], edit["state"]) == ("subtract", "applied") else ""
        table.add_row(str(edit["id"]), prompt, target, f"[{colour}]{edit['state']}{again}[/]")
    return table
