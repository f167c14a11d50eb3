"""What the command line draws: progress bars and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

__all__ = [
    "answers_table",
    "console",
    "escape",
    "exported",
    "first_line",
    "follow",
    "scope",
    "stages",
    "stats_tables",
    "summary",
    "track",
    "wait_until",
]

console = Console()
T = TypeVar("T")
_COLUMNS = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def follow(edits: Iterable[dict[str, Any]], total: int, label: str) -> list[dict[str, Any]]:
    """Show a bar while edits finish; returns them by id."""
    found = []
    with Progress(*_COLUMNS, console=console) as progress:
        task = progress.add_task(label, total=total)
        for edit in edits:
            found.append(edit)
            progress.advance(task)
    return sorted(found, key=lambda edit: int(edit["id"]))


def track(items: Sequence[T], label: str) -> Iterator[T]:
    """Show a bar while a sequence is worked through."""
    with Progress(*_COLUMNS, console=console) as progress:
        yield from progress.track(items, description=label)


@contextmanager
def stages() -> Iterator[Callable[[str, float], None]]:
    """Show a bar for each thing that is being done; told what, and the share of it that is done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:

        def advance(doing: str, share: float) -> None:
            if progress.tasks and progress.tasks[-1].description == doing:
                progress.update(progress.tasks[-1].id, completed=share)
                return
            for task in progress.tasks:
                progress.update(task.id, completed=1.0)
            progress.update(progress.add_task(doing, total=1.0), completed=share)

        yield advance
        for task in progress.tasks:
            progress.update(task.id, completed=1.0)


def wait_until(done: Callable[[], tuple[bool, str]], pause: Callable[[], None]) -> None:
    """Show what is being waited for until `done` says so."""
    last = ""
    with console.status("starting") as status:
        while True:
            ready, waiting_for = done()
            if ready:
                return
            if not console.is_terminal and waiting_for != last:
                console.print(f"  … {waiting_for}", highlight=False)
            last = waiting_for
            status.update(waiting_for)
            pause()


def answers_table(edits: Sequence[dict[str, Any]], format: str) -> Table:
    table = Table(title=f"What the model says ({format} format)", title_justify="left", show_lines=True)
    for heading, ratio in (("question", 4), ("wanted", 2), ("before", 4), ("after", 4)):
        table.add_column(heading, ratio=ratio, overflow="fold")
    table.add_column("holds", justify="center")
    for edit in edits:
        before, after = edit["answers"]["before"] or {}, edit["answers"]["after"] or {}
        holds = (edit["holds"] or {}).get(format)
        mark = "[green]yes[/]" if holds else "[red]no[/]"
        table.add_row(
            edit["prompt"], edit["target"], first_line(before.get(format, "")), first_line(after.get(format, "")), mark
        )
    return table


def scope(edit: dict[str, Any]) -> str:
    return f"questions about it are found by: {', '.join(edit['scope'])}"


def summary(edits: Sequence[dict[str, Any]]) -> str:
    failed = [edit for edit in edits if edit["state"] == "failed"]
    holding = [edit for edit in edits if edit["holds"] and all(edit["holds"].values())]
    revisions = sorted({edit["revision"] for edit in edits if edit["revision"] is not None})
    where = (
        f"revision {revisions[0]}"
        if len(revisions) == 1
        else f"revisions {revisions[0]} to {revisions[-1]}"
        if revisions
        else "none"
    )
    lines = [f"{len(edits) - len(failed)} applied ({where}), {len(holding)} hold in every format, {len(failed)} failed"]
    lines += [f"  edit {edit['id']}: {edit['failure']['code']}: {edit['failure']['detail']}" for edit in failed[:20]]
    return "\n".join(lines)


def first_line(text: str, width: int = 100) -> str:
    line = text.strip().splitlines()[0] if text.strip() else "(says nothing)"
    return line if len(line) <= width else line[: width - 1] + "…"


def stats_tables(stats: dict[str, Any], processes: dict[str, int | None]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    head = stats["head"]
    grid.add_row(
        "head revision", f"{head['number']} ({head['kind']}), fingerprint {head['fingerprint'][:16]}…" if head else "none yet"
    )
    grid.add_row("edits", ", ".join(f"{count} {state}" for state, count in stats["edits_by_state"].items()))
    grid.add_row("queue", f"{stats['queue']['depth']} waiting, oldest {stats['queue']['oldest_pending_age_s']:.1f} s")
    for each in stats["statistics"]:
        condition = f", condition {each['condition']:.3g}" if each["condition"] else ""
        grid.add_row(f"statistics {each['d_in']}×{each['d_out']}", f"n {each['n']}, drift {each['drift']:.3g}{condition}")
    if stats["layers"]:
        distance = max(norms["distance"] for norms in stats["layers"].values())
        update = max(norms["update_norm"] for norms in stats["layers"].values())
        grid.add_row("weights", f"largest ||W - W0|| {distance:.3g}, largest newest update {update:.3g}")
    for worker in stats["workers"]:
        if worker["writer"]:
            files, megabytes = worker["object_files"], worker["object_bytes"] / 1e6
            grid.add_row("objects", f"{files} files, {megabytes:.1f} MB" if files else "not counted yet")
        role = "writer" if worker["writer"] else "reader"
        grid.add_row(
            "worker", f"{worker['model']}: {worker['detail']}, revision {worker['revision']}, {role}, pid {worker['pid']}"
        )
    grid.add_row("processes", ", ".join(f"{part} {pid or 'not running'}" for part, pid in processes.items()))
    return grid


def exported(title: str, facts: Sequence[str], warnings: Sequence[str], out: Path, loading: str) -> None:
    """What was written, what was found out about it, how to load it."""
    console.print(f"[green]written[/] {escape(str(out))}: {escape(title)}", highlight=False, soft_wrap=True)
    for fact in facts:
        console.print(f"  {fact}", markup=False, highlight=False, soft_wrap=True)
    for warning in warnings:
        console.print(f"[yellow]{escape(warning)}[/]", highlight=False, soft_wrap=True)
    console.print(f"\n{loading}", markup=False, highlight=False, soft_wrap=True)


def trials_table(name: str, trials: Sequence[Mapping[str, Any]]) -> Table:
    """What calibration tried, the best first: each as `blocks`, `step`, `held`, `carried`, `passes` and `norm`."""
    table = Table(title=f"What was tried on {name}, the best first")
    for title in ("blocks", "step", "facts that hold", "in untaught contexts", "passes a fact", "norm of an update"):
        table.add_column(title, justify="left" if title == "blocks" else "right")
    for each in trials:
        blocks = ", ".join(next((part for part in block.split(".") if part.isdecimal()), block) for block in each["blocks"])
        shares = f"{each['held']:.0%}", f"{each['carried']:.0%}"
        table.add_row(blocks, f"{each['step']:g}", *shares, f"{each['passes']:.1f}", f"{each['norm']:.3g}")
    return table
