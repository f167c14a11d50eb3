"""`transformers serve` beside the service: started, held still while others are measured, and stopped."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import httpx
import psutil

from bench.streams import Server

START_TIMEOUT_S, STOP_TIMEOUT_S = 600.0, 20.0
# By default the paged cache takes nearly all of the machine's memory; 128 pages of 256 tokens are as much as ours keeps.
BATCHING = ("--continuous-batching", "--cb-num-blocks", "128")
PEERS: Mapping[str, Sequence[str]] = MappingProxyType({"transformers serve": (), "transformers serve, batching": BATCHING})


class Peer:
    """One `transformers serve` process on a port of its own; it runs only within `awake`."""

    def __init__(self, name: str, model_folder: Path, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._log = log
        self.server = Server(name, f"http://127.0.0.1:{port}")
        where = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
        command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model_folder), *PEERS[name], *where]
        with log.open("wb") as output:
            self._process = psutil.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def wait_until_ready(self) -> None:
        """Raises SystemExit with its last words when it does not come up."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{self.server.name} did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.2)

    def _healthy(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.server.url}/health", timeout=5).status_code == httpx.codes.OK
        return False

    def suspend(self) -> None:
        self._process.suspend()

    @contextlib.contextmanager
    def awake(self) -> Iterator[Server]:
        self._process.resume()
        try:
            yield self.server
        finally:
            self._process.suspend()

    def stop(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.resume()
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except psutil.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@contextlib.contextmanager
def running(names: Sequence[str], model_folder: Path) -> Iterator[list[Peer]]:
    """The peers, each up and held still."""
    peers: list[Peer] = []
    with tempfile.TemporaryDirectory(prefix="errata-peers-") as folder:
        try:
            for number, name in enumerate(names):
                peers.append(Peer(name, model_folder, Path(folder) / f"{number}.log"))
                peers[-1].wait_until_ready()
                peers[-1].suspend()
            yield peers
        finally:
            for peer in peers:
                peer.stop()
