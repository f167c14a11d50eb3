"""One run: waves of clients, quiet after each, then a verdict."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.crowd.judging import Wave, promises
from bench.crowd.watching import Watch
from bench.measure import RESULTS, ROOT, write_result
from bench.promises import show
from bench.ready import require_ready
from service.settings import Settings

QUIET_WITHIN_S = 120.0  # of the last client's going
LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def main(arguments: Sequence[str]) -> None:
    """Exit code 1 when a promise is broken."""
    settings = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m bench crowd",
        description="more clients than a running service can answer; start that with ERRATA_MAX_WAITING_GENERATIONS "
        "well below --clients, so that it has somebody to refuse",
    )
    parser.add_argument("--url", default=settings.api_url, help="where the service is")
    worker = f"http://127.0.0.1:{settings.worker_metrics_port}/metrics"
    parser.add_argument("--worker", default=worker, help="the worker's metrics")
    parser.add_argument("--clients", type=int, default=200, help="a tenth of whom hang up midway")
    parser.add_argument("--minutes", type=float, default=2.0, help="of each wave")
    parser.add_argument("--waves", type=int, default=2, help="at least two, to compare what is left after them")
    parser.add_argument("--tokens", type=int, default=48, help="of an answer, at most")
    parser.add_argument("--json", type=Path, default=RESULTS / "crowd.json", help="where the figures go")
    asked, console = parser.parse_args(arguments), Console()
    require_ready(asked.url)
    processes = {"api": f"{asked.url}/metrics", "worker": asked.worker}
    waves: list[Wave] = []
    with Watch(processes) as watch:
        before = watch.sample()
        for number in range(1, asked.waves + 1):
            found = _wave(console, asked, f"wave {number} of {asked.waves}")
            waves.append(Wave(Counter(found["counts"]), found["failures"], watch.quiet(QUIET_WITHIN_S)))
    kept = promises(before, waves, list(processes))
    memory = {
        process: {
            "before_mib": before.memory_mib(process),
            "peak_mib": watch.peak_mib[process],
            "after_waves_mib": [wave.after.memory_mib(process) for wave in waves],
        }
        for process in processes
    }
    _print_memory(console, memory)
    show(console, kept)
    figures = {
        "settings": {name: getattr(asked, name) for name in ("clients", "minutes", "waves", "tokens")},
        "memory": memory,
        "counts": [dict(wave.counts) for wave in waves],
        "promises": {each.name: each.as_json() for each in kept},
    }
    write_result(asked.json.parent, asked.json.stem, figures, console)
    if any(each.broken for each in kept):
        raise SystemExit(1)


def _wave(console: Console, asked: argparse.Namespace, name: str) -> dict[str, Any]:
    """Raises SystemExit with locust's last words when it fails."""
    with tempfile.TemporaryDirectory(prefix="errata-crowd-") as folder:
        out, log = Path(folder) / "found.json", Path(folder) / "locust.log"
        sizes = {"users": asked.clients, "spawn-rate": max(asked.clients // 10, 1), "run-time": f"{int(asked.minutes * 60)}s"}
        wishes = {"host": asked.url, "tokens": asked.tokens, "out": out, "exit-code-on-error": 0, "stop-timeout": 60, **sizes}
        options = [f"--{option}={value}" for option, value in wishes.items()]
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary", *options]
        with log.open("wb") as output:
            path = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
            locust = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | path)
        try:
            _show_until_it_ends(console, locust, name, asked.minutes * 60)
        finally:  # whatever ends this one, the crowd goes home
            locust.terminate()
        if not out.exists():
            raise SystemExit(f"locust failed:\n{log.read_text()[-3000:]}")
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def _show_until_it_ends(console: Console, locust: subprocess.Popen[bytes], name: str, seconds: float) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    began = time.monotonic()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=seconds)
        while locust.poll() is None:
            progress.update(task, completed=time.monotonic() - began)
            try:
                locust.wait(0.5)
            except subprocess.TimeoutExpired:
                continue


def _print_memory(console: Console, memory: dict[str, dict[str, Any]]) -> None:
    table = Table(
        "memory, MiB",
        "before",
        "peak",
        *(f"after wave {number + 1}" for number in range(len(memory["api"]["after_waves_mib"]))),
    )
    for process, each in memory.items():
        table.add_row(process, *(f"{value:.0f}" for value in (each["before_mib"], each["peak_mib"], *each["after_waves_mib"])))
    console.print(table)
