"""The api and the worker as real processes that start at once: forked from one that has imported everything already."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.e2e.parts_preloaded"])


def start(part: str, environment: Mapping[str, str], log: str) -> ForkServerProcess:
    """part: "api", "worker" or "replay". The process is a child of the fork server; its exit code arrives all the same."""
    process = _CONTEXT.Process(target=_run, args=(part, dict(environment), log), daemon=True)
    process.start()
    return process


def _run(part: str, environment: dict[str, str], log: str) -> None:
    import asyncio

    from service import failpoints
    from service.logs import configure_logs
    from service.settings import Settings

    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    failpoints._ACTIVE = failpoints._parsed(environment.get(failpoints.VARIABLE, ""))
    settings = Settings()
    configure_logs(part, "info", "text")
    if part == "replay":
        from tests.chaos.replay import replay

        asyncio.run(replay(settings))
    elif part == "api":
        from service.api.app import run_api

        run_api(settings)
    else:
        from service.worker.main import run_worker

        asyncio.run(run_worker(settings))
    sys.exit(0)
