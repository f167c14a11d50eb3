"""A whole service of real processes over a fresh database, which a test may kill and start again."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.e2e import parts

WAIT_S = 300.0  # generous: a shared machine may be ten times slower than it was


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """The first true value of `condition`; fails with `what` was waited for."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout_s:.0f} s in vain for {what}")


def send(process: ForkServerProcess, number: signal.Signals) -> None:
    psutil.Process(process.pid).send_signal(number)


class Service:
    """An api and a worker as child processes."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        port = free_port()
        self.environment = {**os.environ, **environment, "ERRATA_API_PORT": str(port), "ERRATA_WORKER_METRICS_PORT": "0"}
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300)
        self.log = folder / "service.log"
        self.processes: dict[str, ForkServerProcess] = {}

    def start(self, part: str) -> None:
        self.log.touch()
        self.processes[part] = parts.start([part], self.environment, str(self.log))

    def start_all(self) -> None:
        self.start("api")
        self.start("worker")
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """However long it takes (a first start reads the unedited model), as long as the log says that it goes on."""
        written, heard_at = 0, time.monotonic()
        while not self._ready():
            size, now = self.log.stat().st_size, time.monotonic()
            if size > written:
                written, heard_at = size, now
            assert now - heard_at < WAIT_S, f"{WAIT_S:.0f} s without news from the service; log: {self.log}"
            time.sleep(0.05)

    def _ready(self) -> bool:
        for part, process in self.processes.items():
            assert process.exitcode is None, f"{part} ended with {process.exitcode}:\n{self.log.read_text()[-3000:]}"
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def end(self, part: str, number: signal.Signals) -> int:
        process = self.processes.pop(part)
        send(process, number)
        process.join(60)
        assert process.exitcode is not None, f"{part} goes on 60 s after {number.name}; log: {self.log}"
        return process.exitcode

    def stop(self) -> None:
        for part in list(self.processes):
            self.end(part, signal.SIGTERM)
        self.http.close()

    def post(self, facts: list[dict[str, str]]) -> list[int]:
        answer = self.http.post("/edits", json={"edits": facts})
        assert answer.status_code == 202, answer.text
        return list(answer.json()["ids"])

    def edits(self) -> list[dict[str, Any]]:
        return list(self.http.get("/edits", params={"limit": 500}).json()["edits"])

    def wait_until_applied(self, ids: list[int]) -> list[dict[str, Any]]:
        def done() -> list[dict[str, Any]]:
            mine = [edit for edit in self.edits() if edit["id"] in ids]
            return mine if all(edit["state"] not in ("accepted", "applying") for edit in mine) else []

        return list(wait_for(done, f"edits {ids[0]} to {ids[-1]} to be finished; log: {self.log}"))

    def stats(self) -> dict[str, Any]:
        return dict(self.http.get("/stats").json())
