"""The embedded Postgres: found when it runs, started again when it has gone."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg

from service.local.postgres import EmbeddedPostgres
from service.local.processes import end_server


def test_a_postgres_that_was_killed_is_revived_by_the_process_that_started_it(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    url = server.start()
    end_server(server.pid(), signal.SIGQUIT, 20)
    assert server.pid() is None
    server.revive()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    end_server(server.pid(), signal.SIGINT, 20)
