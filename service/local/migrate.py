"""Bringing a database's schema to the newest revision."""

from __future__ import annotations

import signal
import tempfile
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config

from service.local.postgres import EmbeddedPostgres
from service.local.processes import end_server


def migrate(database_url: str) -> None:
    """`alembic upgrade head`, from an installed package as well as from a checkout."""
    command.upgrade(_config(database_url), "head")


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.set_main_option("sqlalchemy.url", database_url.replace("%", "%%"))
    return config


def check() -> None:
    """Build the schema in a throw-away Postgres and fail if the code's tables differ from what the migrations build."""
    with tempfile.TemporaryDirectory(prefix="errata-schema-") as folder:
        server = EmbeddedPostgres(Path(folder))
        url = server.start()
        try:
            command.upgrade(_config(url), "head")
            command.check(_config(url))
        finally:
            end_server(server.pid(), signal.SIGINT, 20)


if __name__ == "__main__":
    check()
