"""`errata verify`: one line for each thing that holds, and what does not, named."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Iterator

from service.bootstrap import Resources, build
from service.cli import show
from service.errors import ErrataError
from service.ledger.verify import Check, checks
from service.settings import Settings


@contextlib.contextmanager
def with_database(settings: Settings, *, new: bool = False) -> Iterator[Settings]:
    """The settings with the embedded Postgres in them where no other is named, started for as long as it is needed.

    new: it may have to be made first.
    """
    if settings.database_url:
        yield settings
        return
    from service.local.postgres import EmbeddedPostgres
    from service.local.processes import end_server

    if not new and not (settings.data_dir / "postgres").is_dir():
        raise ErrataError(f"there is no ledger in {settings.data_dir}, and DATABASE_URL is not set", code="not_configured")
    server = EmbeddedPostgres(settings.data_dir)
    was_running = server.pid() is not None
    try:
        yield settings.model_copy(update={"database_url": server.start()})
    finally:
        if not was_running:
            end_server(server.pid(), signal.SIGINT, 20)


async def verify(settings: Settings, weights: bool, deep: bool) -> bool:
    """Whether everything holds. Raises ErrataError when the ledger cannot be read, ModelLoadError."""
    resources = build(settings.model_copy(update={"redis_url": settings.redis_url or "unix:///nowhere"}), "verify")
    everything = True
    try:
        async for check in _all(resources, weights, deep):
            everything &= check.holds
            _show(check)
    finally:
        await resources.close()
    return everything


async def _all(resources: Resources, weights: bool, deep: bool) -> AsyncIterator[Check]:
    async for check in checks(resources.database, resources.objects(), resources.settings.rollback_window):
        yield check
    if weights:
        from service.worker.verify import weight_checks

        with show.console.status("loading the model") as status:
            async for check in weight_checks(resources, status.update, deep):
                yield check


def _show(check: Check) -> None:
    mark = "[green]ok[/]    " if check.holds else "[red]WRONG[/] "
    first, *more = check.wrong or [check.summary]
    show.console.print(f"{mark} {check.name}: {show.escape(first)}", highlight=False, soft_wrap=True)
    for each in more:
        show.console.print(f"        {show.escape(each)}", highlight=False, soft_wrap=True)
