"""One progress bar over a run of many phases, and how long each of them took."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.measure import Stopwatch

Item = TypeVar("Item")
Advance = Callable[[float], None]  # told which share of its phase is done, 0 to 1


class Phases:
    """`with phases("loading") as advance:` for phases given as {name: about how many seconds it takes}, in order."""

    def __init__(self, console: Console, weights: Mapping[str, float]) -> None:
        self.stopwatch = Stopwatch()
        self._weights = dict(weights)
        self._done = 0.0
        self._console = console
        columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(TextColumn("{task.description}"), *columns, console=console, transient=True)
        self._task = self._progress.add_task("", total=sum(weights.values()))

    def __enter__(self) -> Phases:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    @contextmanager
    def __call__(self, name: str) -> Iterator[Advance]:
        weight = self._weights[name]

        def advance(share: float) -> None:
            self._progress.update(self._task, completed=self._done + weight * share)

        self._progress.update(self._task, description=name)
        with self.stopwatch(name):
            yield advance
        advance(1.0)
        if not self._console.is_terminal:  # a file shows no bar
            self._console.print(f"{name}: {self.stopwatch.seconds[name]:.0f} s")
        self._done += weight


def in_parts(items: Sequence[Item], size: int, advance: Advance) -> Iterator[Sequence[Item]]:
    """The items, `size` at a time; advances when the caller comes for the next part."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
        advance(min(start + size, len(items)) / len(items))
