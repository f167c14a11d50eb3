"""`errata up`: embedded servers, migrations, api and worker, kept running until told to stop, with one log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import structlog

from service.errors import ErrataError
from service.infra.keys import Keys
from service.infra.migrate import migrate
from service.infra.streams import Presence, connect
from service.local.postgres import EmbeddedPostgres
from service.local.processes import PidFile, end_server
from service.local.valkey import EmbeddedValkey
from service.settings import Settings

log = structlog.get_logger()
PARTS = ("api", "worker")
CHILD_STOP_TIMEOUT_S = 60.0
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.5, 30.0
HEALTHY_AFTER_S = 60.0  # a child that ran this long begins its backoff anew
SERVER_CHECK_INTERVAL_S = 2.0


class Supervisor:
    """Runs the parts of one data folder. Children that end are started again, waiting longer each time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._data_dir = settings.data_dir.resolve()
        self._postgres = None if settings.database_url else EmbeddedPostgres(settings.data_dir)
        self._valkey = None if settings.redis_url else EmbeddedValkey(settings.data_dir)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises ErrataError when something cannot be started at all."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        self._data_dir.mkdir(parents=True, exist_ok=True)
        PidFile(self._data_dir, "supervisor").write(os.getpid())
        try:
            for part in PARTS:  # left over from a supervisor that was killed
                if PidFile(self._data_dir, part).end(CHILD_STOP_TIMEOUT_S):
                    log.info("left-over process ended", part=part)
            require_free_port(self._settings.api_host, self._settings.api_port, "ERRATA_API_PORT")
            environment = await asyncio.to_thread(self._start_servers)
            keeping = [asyncio.create_task(self._keep(part, environment)) for part in PARTS]
            keeping.append(asyncio.create_task(self._keep_servers()))
            await self._stopping.wait()
            log.info("stopping")
            await asyncio.gather(*keeping)
        finally:
            await asyncio.to_thread(self.stop_servers)
            PidFile(self._data_dir, "supervisor").remove()

    def _start_servers(self) -> dict[str, str]:
        """Start or find the embedded servers and migrate; returns the children's environment."""
        database_url = self._postgres.start() if self._postgres else self._settings.database_url
        redis_url = self._valkey.start() if self._valkey else self._settings.redis_url
        log.info(
            "servers running",
            postgres="embedded" if self._postgres else "outside",
            redis="embedded" if self._valkey else "outside",
        )
        migrate(database_url)
        return {**os.environ, "DATABASE_URL": database_url, "REDIS_URL": redis_url, "ERRATA_DATA_DIR": str(self._data_dir)}

    async def _keep(self, part: str, environment: dict[str, str]) -> None:
        """Run one child for as long as nobody says stop."""
        backoff_s = FIRST_BACKOFF_S
        loop = asyncio.get_running_loop()
        if part == "worker":
            await self._forget_workers(environment["REDIS_URL"])
        while not self._stopping.is_set():
            began = loop.time()
            child = await asyncio.create_subprocess_exec(sys.executable, "-m", "service.cli", part, env=environment)
            PidFile(self._data_dir, part).write(child.pid)
            await self._until_it_ends(child)
            if part == "worker":
                await self._forget_workers(environment["REDIS_URL"])
            if self._stopping.is_set():
                break
            backoff_s = FIRST_BACKOFF_S if loop.time() - began > HEALTHY_AFTER_S else min(backoff_s * 2, LAST_BACKOFF_S)
            log.warning("process ended, starting it again", part=part, exit_code=child.returncode, in_s=backoff_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff_s)
        PidFile(self._data_dir, part).remove()

    async def _forget_workers(self, redis_url: str) -> None:
        """A worker that was killed could not say that it is gone."""
        redis = connect(redis_url)
        await Presence(redis, Keys(self._settings.redis_prefix)).forget_all()
        await redis.aclose()

    async def _until_it_ends(self, child: asyncio.subprocess.Process) -> None:
        ending = asyncio.create_task(child.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ending.done():
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            try:
                await asyncio.wait_for(asyncio.shield(ending), CHILD_STOP_TIMEOUT_S)
            except TimeoutError:
                child.kill()
        await ending

    async def _keep_servers(self) -> None:
        """Start an embedded server again when it has gone."""
        while not self._stopping.is_set():
            for server in (self._postgres, self._valkey):
                if server is not None:
                    try:
                        await asyncio.to_thread(server.revive)
                    except Exception as error:  # try again at the next check; the children say what they miss
                        log.warning("server could not be started again", server=type(server).__name__, detail=str(error)[:500])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), SERVER_CHECK_INTERVAL_S)

    def stop_servers(self) -> None:
        """End the embedded servers, cleanly."""
        if self._valkey:
            end_server(self._valkey.pid(), signal.SIGTERM, 10)
        if self._postgres:
            end_server(self._postgres.pid(), signal.SIGINT, 20)  # SIGINT is Postgres' fast shutdown


def require_free_port(host: str, port: int, setting: str) -> None:
    """Raises ErrataError when something else listens there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ErrataError(
                f"port {port} on {host} cannot be used ({error.strerror}); choose another with {setting}", code="port_in_use"
            ) from None


def log_path(data_dir: Path) -> Path:
    return data_dir / "errata.log"
