"""A whole service of this bench's own: a temporary data folder, embedded Postgres and Valkey."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from service.cli.client import Client
from service.settings import Settings

START_TIMEOUT_S, STOP_TIMEOUT_S = 1800.0, 150.0
LAST_WORDS = 3000  # characters of its log, where it does not come up
# Settings of the caller's own service, which this one must not share.
NOT_OURS = (
    *("DATABASE_URL", "ERRATA_DATABASE_URL", "REDIS_URL", "ERRATA_REDIS_URL", "ERRATA_SERVER_URL"),
    *("ERRATA_OBJECT_DIR", "ERRATA_PUBLISHED_HOST", "ERRATA_REQUIRE_KEYS"),
    *("ERRATA_RATE_LIMIT_GENERATE", "ERRATA_RATE_LIMIT_EDITS", "ERRATA_WORKER_ROLE"),
)


@contextlib.contextmanager
def own_service(console: Console, edit_mode: str | None) -> Iterator[str]:
    """Its URL, as soon as it is ready; it is stopped and removed afterwards. Parameters and errors as in `service_in`."""
    folder = tempfile.TemporaryDirectory(prefix="errata-bench-", ignore_cleanup_errors=True)
    with folder as path, service_in(Path(path), console, edit_mode) as (url, _):
        yield url


@contextlib.contextmanager
def service_in(folder: Path, console: Console, edit_mode: str | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The URL of a service whose data are in this folder, and its process, as soon as it is ready; it is stopped afterwards.

    edit_mode   for ERRATA_EDIT_MODE; None: as in the environment, or the default
    Raises SystemExit with the end of its log when it does not come up.
    """
    port = _free_port()
    environment = environment_of(folder, port, edit_mode)
    url, log = f"http://127.0.0.1:{port}", folder / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "up"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(console, url, process, log)
        yield url, process
    finally:
        _stop(process, environment)


def environment_of(folder: Path, port: int, edit_mode: str | None) -> dict[str, str]:
    """This process's environment, with what makes the service one of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    own = {
        "ERRATA_DATA_DIR": str(folder / "data"),
        "ERRATA_MODEL_CACHE_DIR": str(Settings().models.resolve()),
        "ERRATA_API_HOST": "127.0.0.1",
        "ERRATA_API_PORT": str(port),
        "ERRATA_WORKER_METRICS_PORT": "0",
    }
    return {**kept, **own, **({"ERRATA_EDIT_MODE": edit_mode} if edit_mode else {})}


def _wait_until_ready(
    console: Console,
    url: str,
    process: subprocess.Popen[bytes],
    log: Path,
) -> None:
    client, deadline = Client(url), time.monotonic() + START_TIMEOUT_S
    with console.status("starting a service") as status:
        while True:
            is_ready, waiting = client.ready()
            if is_ready:
                return
            if process.poll() is not None or time.monotonic() > deadline:
                last_words = log.read_text(errors="replace")[-LAST_WORDS:]
                raise SystemExit(f"the service did not start:\n{last_words}")
            status.update(f"starting a service: {waiting}")
            time.sleep(0.5)


def _stop(process: subprocess.Popen[bytes], environment: dict[str, str]) -> None:
    """The supervisor ends its parts. `errata stop` ends what it left when it had to be killed."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    stop = [sys.executable, "-m", "service.cli", "stop"]
    subprocess.run(stop, env=environment, capture_output=True, check=False)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
