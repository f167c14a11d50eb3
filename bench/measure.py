"""Measuring: each run in a fresh process, the forms taking turns; medians of what they say.

This side never imports torch: on Linux a child's peak memory starts at its parent's.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
Run = dict[str, Any]


class Stopwatch:
    """Seconds by stage, in the order first entered, and how much of the machine others took meanwhile."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._others = 0.0

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start, others = time.perf_counter(), _seconds_of_others()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        self._others += _seconds_of_others() - others

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def cores_of_others(self) -> float:
        """Cores that other processes, or the hypervisor, held on average: near 0 when the figure can be trusted."""
        return max(self._others, 0.0) / self.total


def _seconds_of_others() -> float:
    """Processor seconds of everything but this process since the machine started; 0 where /proc/stat is missing."""
    if not Path("/proc/stat").exists():
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - time.process_time()


def peak_mib() -> float:
    """The most memory this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def interleaved(console: Console, title: str, commands: Mapping[str, Sequence[str]], repeats: int) -> dict[str, list[Run]]:
    """Run every command `repeats` times, A B A B …; each is `python -m` arguments and prints one JSON object last.

    The environment variable REPETITION tells a run which turn it is, from 0.
    """
    runs: dict[str, list[Run]] = {form: [] for form in commands}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=repeats * len(commands))
        for repetition in range(repeats):
            for form, arguments in commands.items():
                progress.update(task, description=f"{title}: {form}, run {repetition + 1} of {repeats}")
                runs[form].append(run_apart(arguments, repetition))
                progress.advance(task)
    return runs


def run_apart(arguments: Sequence[str], repetition: int) -> Run:
    """One process of `python -m` arguments that prints a JSON object last. Raises SystemExit when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=os.environ | {"REPETITION": str(repetition)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def first_repetition() -> bool:
    return os.environ.get("REPETITION", "0") == "0"


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """What is kept of one form's runs."""

    def of(field: str) -> list[float]:
        return [run[field] for run in runs]

    return {
        "median_s": statistics.median(of("seconds")),
        "fastest_s": min(of("seconds")),
        "runs_s": of("seconds"),
        "cores_of_others": of("cores_of_others"),
        "stages_s": {stage: statistics.median(run["stages"][stage] for run in runs) for stage in runs[0]["stages"]},
        "before_mib": statistics.median(of("before_mib")),
        "peak_mib": statistics.median(of("peak_mib")),
    }


def largest_difference(found: Path, expected: Path) -> float:
    """See `bench.difference`; in a process of its own, to keep this one small."""
    return float(run_apart(["bench.difference", str(found), str(expected)], repetition=0)["largest"])


def machine() -> dict[str, Any]:
    """What ran it: cores, processor, widest vectors, torch."""
    known = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in known.splitlines() if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "processor": names[0] if names else platform.machine(),
        "avx512": "avx512f" in known,
        "torch": version("torch"),
    }


def comparison(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table with what is measured on the left and one right-aligned column per form."""
    table = Table("", *columns, title=title, title_justify="left", title_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    return table


def write_result(folder: Path | None, name: str, result: Mapping[str, Any], console: Console) -> None:
    """Keep a result as JSON; None keeps none."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n")
    console.print(f"written to {os.path.relpath(path)}")
