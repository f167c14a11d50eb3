"""Commands for what runs on this machine: everything together, or one process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from service.cli import show
from service.cli.beginning import fail, needing, quieten_libraries, settings_for
from service.cli.client import ApiError, Client
from service.errors import ErrataError
from service.settings import Settings

START_TIMEOUT_S = 900.0  # a large model may have to come over the network first
STOP_TIMEOUT_S = 150.0


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Go on in the background, return when it is ready.")] = False,
) -> None:
    """Run everything on this machine: Postgres, Valkey, migrations, api and worker."""
    settings = settings_for("supervisor")
    with needing("local"):
        from service.local.processes import PidFile
        from service.local.supervisor import Supervisor, log_path, require_free_port

    running = PidFile(settings.data_dir, "supervisor").running()
    if running is None and not detach:
        show.console.print(f"Starting; {settings.api_url} when ready. Ctrl-C stops everything.", highlight=False)
        try:
            asyncio.run(Supervisor(settings).run())
        except ErrataError as error:
            fail(error.detail)
        return
    process: subprocess.Popen[bytes] | None = None
    log = log_path(settings.data_dir)
    if running is None:
        if PidFile(settings.data_dir, "api").running() is None:  # else it is our own, left over, and will be ended
            try:  # what answers there would be taken for what is started here
                require_free_port(settings.api_host, settings.api_port, "ERRATA_API_PORT")
            except ErrataError as error:
                fail(error.detail)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            command = [sys.executable, "-m", "service.cli", "up"]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    _wait_until_ready(settings, process, log)
    show.console.print(
        f"[green]ready[/] {settings.api_url}  (docs: {settings.api_url}/docs, log: {log})", highlight=False, soft_wrap=True
    )


def _wait_until_ready(settings: Settings, process: subprocess.Popen[bytes] | None, log: Path) -> None:
    client, deadline = Client(settings.api_url, api_key=settings.api_key), time.monotonic() + START_TIMEOUT_S

    def done() -> tuple[bool, str]:
        if process is not None and process.poll() is not None:
            fail(f"it did not start; the end of {log}:\n" + log.read_text(errors="replace")[-1500:])
        if time.monotonic() > deadline:
            fail(f"not ready after {START_TIMEOUT_S:.0f} s; see {log}")
        return client.ready()

    show.wait_until(done, lambda: time.sleep(0.3))


def stop() -> None:
    """Stop everything that `errata up` started for this data folder."""
    settings = settings_for()
    with needing("local"):
        from service.local.processes import PidFile
        from service.local.supervisor import PARTS, Supervisor

    found = PidFile(settings.data_dir, "supervisor").end(STOP_TIMEOUT_S)
    left_over = [part for part in PARTS if PidFile(settings.data_dir, part).end(60)]
    if not found:
        Supervisor(settings).stop_servers()
    show.console.print("stopped" if found or left_over else "nothing was running")


def status() -> None:
    """Queue, head revision, statistics, workers and processes."""
    settings = settings_for()
    with needing("local"):
        from service.local.processes import PidFile

    parts = {part: PidFile(settings.data_dir, part).running() for part in ("supervisor", "api", "worker")}
    processes = {part: process.pid if process else None for part, process in parts.items()}
    try:
        show.console.print(show.stats_tables(Client(settings.api_url, api_key=settings.api_key).stats(), processes))
    except ApiError as error:
        fail(str(error))


def api() -> None:
    """Run the api in the foreground."""
    settings = settings_for("api")
    from service.api.app import run_api

    try:
        run_api(settings)
    except ErrataError as error:
        fail(error.detail)


def worker(
    role: Annotated[str | None, typer.Option(help="writer or reader; default: ERRATA_WORKER_ROLE, or writer.")] = None,
) -> None:
    """Run a worker in the foreground."""
    if role is not None:
        os.environ["ERRATA_WORKER_ROLE"] = role
    settings = settings_for("worker")
    quieten_libraries()
    with needing("worker"):
        from service.worker.main import run_worker

    try:
        with asyncio.Runner(loop_factory=_quick_loop()) as runner:
            runner.run(run_worker(settings))
    except ErrataError as error:
        fail(f"{error.code}: {error.detail}")


def _quick_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, as uvicorn chooses for the api, where there is one; else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def migrate() -> None:
    """Bring the database's schema to the newest revision."""
    settings = settings_for("migrate")
    if not settings.database_url:
        fail("DATABASE_URL is not set")
    from service.infra.migrate import migrate as upgrade

    upgrade(settings.database_url)
