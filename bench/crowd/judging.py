"""What a crowd may leave behind: nothing, and no more after the last wave than after the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.crowd.watching import FILES, TASKS, Sample
from bench.promises import Promise

GROWTH = 1.1  # of memory, from the end of the first wave to the end of the last
SPARE_FILES, SPARE_TASKS = 8, 2  # a scrape's connection, a pool's; an acknowledgement
READ, LEFT, REFUSED = "read to the end", "hung up midway", "refused: 429"


@dataclass(frozen=True, slots=True)
class Wave:
    """What its clients saw, and the service when the last of them had gone."""

    counts: Counter[str]
    failures: Sequence[str]
    after: Sample


def promises(before: Sample, waves: Sequence[Wave], processes: Sequence[str]) -> list[Promise]:
    counts: Counter[str] = sum((wave.counts for wave in waves), Counter())
    left = [
        f"wave {number}: {value:g} {what}" for number, wave in enumerate(waves, 1) for what, value in wave.after.left.items()
    ]
    missing = [f"nobody was: {name}" for name in (READ, LEFT, REFUSED) if not counts[name]]
    return [
        Promise(
            "answers and 429s with Retry-After, nothing else",
            ", ".join(f"{count:,} {name}" for name, count in counts.items()),
            [failure for wave in waves for failure in wave.failures] + missing,
        ),
        Promise("nothing is left of a question when its client has gone", f"after each of {len(waves)} waves", left),
        _no_more("tasks", TASKS, before, waves[-1].after, SPARE_TASKS, processes),
        _no_more("open files and connections", FILES, waves[0].after, waves[-1].after, SPARE_FILES, processes),
        _memory(waves, processes),
    ]


def _no_more(what: str, metric: str, before: Sample, after: Sample, spare: int, processes: Sequence[str]) -> Promise:
    pairs = {process: (before.of(process, metric), after.of(process, metric)) for process in processes}
    return Promise(
        f"no more {what} than before",
        ", ".join(f"{process} {one:g} → {other:g}" for process, (one, other) in pairs.items()),
        [f"{process}: {one:g} → {other:g}" for process, (one, other) in pairs.items() if other > one + spare],
    )


def _memory(waves: Sequence[Wave], processes: Sequence[str]) -> Promise:
    """A first wave fills caches and pools; another one must find room in them."""
    pairs = {process: (waves[0].after.memory_mib(process), waves[-1].after.memory_mib(process)) for process in processes}
    words = {process: f"{process} {first:.0f} → {last:.0f} MiB" for process, (first, last) in pairs.items()}
    grown = [words[process] for process, (first, last) in pairs.items() if last > first * GROWTH]
    return Promise("memory is bounded: first wave → last", ", ".join(words.values()), grown)
