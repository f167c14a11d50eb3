"""What a long run promises, whether it was kept, and the places where it was not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Promise:
    """`figure` says what was looked at; `broken` is empty when the promise was kept."""

    name: str
    figure: str
    broken: Sequence[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {"figure": self.figure, "kept": not self.broken, "broken": list(self.broken)}


def show(console: Console, promises: Sequence[Promise]) -> None:
    table = Table("promise", "", "figure")
    for each in promises:
        kept = f"[red]BROKEN {len(each.broken)}[/]" if each.broken else "[green]kept[/]"
        table.add_row(each.name, kept, escape(each.figure))
    console.print(table)
    for each in promises:
        for line in each.broken[:SHOWN]:
            console.print(f"[red]{each.name}[/]: {escape(line)}", soft_wrap=True, highlight=False)
