"""A service of real processes with a Postgres and a Valkey of its own, each of which can be killed, stopped and started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from service.failpoints import POINTS
from service.infra.migrate import migrate
from service.local.postgres import EmbeddedPostgres
from service.local.processes import end_server
from service.local.valkey import EmbeddedValkey
from tests.chaos.client import POISON
from tests.e2e.service_processes import free_port

WORKERS = ("worker-1", "worker-2")  # one writes; when it is stopped past its lease the other takes over
PARTS = (*WORKERS, "api", "postgres", "valkey")
ARROWS = tuple(point for point in POINTS if not point.startswith(("api.", "submit.")))  # of a worker
RETRY_S, STOP_S = 0.5, 60.0


class System:
    """One folder, its servers and its processes."""

    def __init__(self, folder: Path, environment: Mapping[str, str], chance: random.Random, arrow_share: float) -> None:
        """arrow_share: of the starts of a worker, how many are to end at a random failpoint."""
        self.folder, self._chance, self._arrow_share = folder, chance, arrow_share
        self.postgres, self.valkey = EmbeddedPostgres(folder), EmbeddedValkey(folder)
        self.log = folder / "service.log"
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        own = {"ERRATA_DATA_DIR": str(folder), "ERRATA_API_PORT": str(port), "ERRATA_WORKER_METRICS_PORT": "0"}
        self.environment = {**os.environ, **environment, **own}

    def start(self) -> None:
        """Servers, schema, processes."""
        self.environment |= {"DATABASE_URL": self.postgres.start(), "REDIS_URL": self.valkey.start()}
        migrate(self.environment["DATABASE_URL"])
        for part in (*WORKERS, "api"):
            self._start_child(part)

    def _start_child(self, part: str, more: Sequence[str] = ()) -> None:
        """more: failpoints, besides the one that poison sets off."""
        points = ",".join([f"writer.begun[{POISON}]=kill", *more])
        with self.log.open("ab") as output:
            command = [sys.executable, "-m", "service.cli", part.partition("-")[0]]
            environment = {**self.environment, "ERRATA_FAILPOINTS": points if part in WORKERS else ""}
            self._children[part] = subprocess.Popen(command, env=environment, stdout=output, stderr=output)

    def ended(self, part: str) -> int | None:
        """The exit code of a process that has ended; None of one that runs, and of servers."""
        child = self._children.get(part)
        return None if child is None else child.poll()

    def signal(self, part: str, number: signal.Signals, whole: bool = True) -> None:
        """To a part; whole: and to the processes that it started."""
        for process in self._processes(part, whole):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def limit_files(self, size: int) -> None:
        """The size in bytes up to which the workers that run now may write files: with 0 a disk is as good as full."""
        for part in WORKERS:
            for process in self._processes(part, whole=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.rlimit(psutil.RLIMIT_FSIZE, (size, process.rlimit(psutil.RLIMIT_FSIZE)[1]))

    def _processes(self, part: str, whole: bool) -> list[psutil.Process]:
        pid = {"postgres": self.postgres.pid, "valkey": self._valkey_pid}.get(part, lambda: self._children[part].pid)()
        try:
            process = psutil.Process(pid) if pid is not None else None
            return [] if process is None else [process, *(process.children(recursive=True) if whole else ())]
        except psutil.NoSuchProcess:
            return []

    def _valkey_pid(self) -> int | None:
        """From its file: a stopped server does not answer."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((self.folder / "valkey" / "valkey.pid").read_text())
        return None

    def wipe_valkey(self) -> None:
        """Its data, while it is down."""
        shutil.rmtree(self.folder / "valkey" / "appendonlydir", ignore_errors=True)

    async def revive(self, part: str, arrows: bool = True) -> None:
        """Start a part that was killed, however often it takes. arrows: a worker may be told to die at one."""
        if part in ("postgres", "valkey"):
            await self._revive_server(part)
            return
        child = self._children[part]
        if child.poll() is None:
            child.kill()
        await asyncio.to_thread(child.wait)
        dying = arrows and part in WORKERS and self._chance.random() < self._arrow_share
        self._start_child(part, [f"{self._chance.choice(ARROWS)}=kill"] if dying else [])

    async def _revive_server(self, part: str) -> None:
        server = self.postgres if part == "postgres" else self.valkey
        for _ in range(120):
            try:
                await asyncio.to_thread(server.revive)
                return
            except Exception as error:  # processes of the one before are still ending, or it is still recovering
                last = error
                await asyncio.sleep(RETRY_S)
        raise last

    def stop_children(self) -> dict[str, int]:
        """By part: its exit code after SIGTERM."""
        for child in self._children.values():
            child.terminate()
        codes = {}
        for part, child in self._children.items():
            try:
                codes[part] = child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                codes[part] = child.wait()
        return codes

    def stop(self) -> None:
        """Everything, whatever state it is in."""
        for part in PARTS:
            with contextlib.suppress(KeyError):
                self.signal(part, signal.SIGCONT)
        self.stop_children()
        end_server(self.valkey.pid(), signal.SIGTERM, 10)
        end_server(self.postgres.pid(), signal.SIGINT, 20)
