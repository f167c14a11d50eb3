"""`make schema`: do the code's tables and the migrations still agree?"""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path

from alembic import command

from service.infra.migrate import alembic_config, migrate
from service.local.postgres import EmbeddedPostgres
from service.local.processes import end_server


def check() -> None:
    """Build the schema in a throw-away Postgres; alembic fails if the code's tables differ from what the migrations build."""
    with tempfile.TemporaryDirectory(prefix="errata-schema-") as folder:
        server = EmbeddedPostgres(Path(folder))
        url = server.start()
        try:
            migrate(url)
            command.check(alembic_config(url))
        finally:
            end_server(server.pid(), signal.SIGINT, 20)


if __name__ == "__main__":
    check()
