"""The service's commands as real processes that start at once: forked from one that has imported everything already."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.e2e.parts_preloaded"])


@dataclass(frozen=True, slots=True)
class Done:
    """What a command that has ended wrote, standard output and error together, and its exit code."""

    returncode: int
    stdout: str


def start(arguments: list[str], environment: Mapping[str, str], log: str) -> ForkServerProcess:
    """As `errata` with these arguments, or "replay". The process is a child of the fork server; its exit code arrives all the
    same. environment: all of it."""
    process = _CONTEXT.Process(target=_run, args=(arguments, dict(environment), log), daemon=True)
    process.start()
    return process


def errata(environment: Mapping[str, str], *arguments: str) -> Done:
    """Run a command to its end."""
    with tempfile.NamedTemporaryFile() as output:
        process = start(list(arguments), {**environment, "COLUMNS": "160"}, output.name)
        process.join()
        return Done(process.exitcode or 0, Path(output.name).read_text())


def _run(arguments: list[str], environment: dict[str, str], log: str) -> None:
    import asyncio

    from service import failpoints

    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    failpoints._ACTIVE = failpoints._parsed(environment.get(failpoints.VARIABLE, ""))
    if arguments == ["replay"]:
        from service.settings import Settings
        from tests.chaos.replay import replay

        asyncio.run(replay(Settings()))
        sys.exit(0)
    from service.cli.main import app

    app(arguments, prog_name="errata")
