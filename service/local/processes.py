"""Pid files: who is running for this data folder, told apart from a stranger that got the same number."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import psutil


class PidFile:
    """Which process plays one part ("supervisor", "api", "worker") for one data folder."""

    def __init__(self, data_dir: Path, part: str) -> None:
        self.part = part
        self._path = data_dir / "run" / f"{part}.pid"

    def write(self, pid: int) -> None:
        """Number and start time: together they name a process for good."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(f"{pid} {psutil.Process(pid).create_time()}\n")

    def running(self) -> psutil.Process | None:
        """The process, or None when it has ended or the number now is somebody else's."""
        try:
            pid, created = self._path.read_text().split()
            process = psutil.Process(int(pid))
            alive = process.create_time() == float(created) and process.status() != psutil.STATUS_ZOMBIE
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None
        return process if alive else None

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def end(self, timeout_s: float) -> bool:
        """SIGTERM, then SIGKILL after timeout_s. True when there was something to end."""
        process = self.running()
        if process is None:
            self.remove()
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
            try:
                process.wait(timeout_s)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(10)
        self.remove()
        return True


def end_server(pid: int | None, number: signal.Signals, timeout_s: float) -> None:
    """Stop a database server by its pid and wait for it."""
    if pid is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        server = psutil.Process(pid)
        os.kill(pid, number)
        try:
            server.wait(timeout_s)
        except psutil.TimeoutExpired:
            server.kill()
