"""The embedded Postgres: found when it runs, started again when it has gone."""

from __future__ import annotations

import signal
import stat
import tempfile
from pathlib import Path

import psycopg
import pytest

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


@pytest.mark.parametrize(("mode", "then"), [(0o755, {0o755}), (0o711, {0o711}), (0o700, {0o700, 0o711})])
def test_folders_above_the_data_folder_are_left_as_they_are_but_for_the_way_through(mode: int, then: set[int]) -> None:
    """Root's Postgres runs as another user, who needs that way; another user's Postgres changes nothing."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(mode)
        server = EmbeddedPostgres(Path(parent) / ".errata")
        server.start()
        end_server(server.pid(), signal.SIGINT, 20)
        assert stat.S_IMODE(Path(parent).stat().st_mode) in then
