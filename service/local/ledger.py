"""The ledger of this machine, for commands that need nothing else of the service."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import ErrataError
from service.local.postgres import EmbeddedPostgres
from service.local.processes import end_server
from service.settings import Settings


@contextmanager
def local_ledger(settings: Settings, new: bool = False) -> Iterator[Settings]:
    """The settings with the URL of the data folder's own Postgres, which is started if need be for as long as the block lasts.

    new: it may be made here; otherwise raises ErrataError when there is none.
    """
    if not new and not (settings.data_dir / "postgres").is_dir():
        raise ErrataError(
            f"there is no ledger in {settings.data_dir}; set ERRATA_DATA_DIR to the folder of the service, or DATABASE_URL",
            code="no_ledger",
        )
    server = EmbeddedPostgres(settings.data_dir)
    was_running = server.pid() is not None
    url = server.start()
    try:
        yield settings.model_copy(update={"database_url": url})
    finally:
        if not was_running:
            end_server(server.pid(), signal.SIGINT, 20)
