"""`errata backup FILE` and `errata restore FILE`."""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from service.bootstrap import Resources, build
from service.cli import show
from service.infra.archive import ArchiveReader, Manifest
from service.infra.migrate import migrate
from service.ledger import backup as use_case
from service.settings import Settings


def _resources(settings: Settings, process: str) -> Resources:
    """Redis has no part in it."""
    return build(settings.model_copy(update={"redis_url": settings.redis_url or "unix:///nowhere"}), process)


async def back_up(settings: Settings, file: Path) -> Manifest:
    """Raises ErrataError."""
    resources = _resources(settings, "backup")
    try:
        with Progress(console=show.console, transient=True) as progress:
            task = progress.add_task("objects")
            return await use_case.back_up(
                resources.database,
                resources.objects(),
                file,
                settings.rollback_window,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
    finally:
        await resources.close()


def migrate_for(settings: Settings) -> None:
    """Before the event loop runs: Alembic has its own."""
    migrate(settings.database_url)


async def restore(settings: Settings, file: Path) -> Manifest:
    """Raises ErrataError."""
    reader, resources = ArchiveReader(file), _resources(settings, "restore")
    try:
        with Progress(console=show.console, transient=True) as progress:
            task = progress.add_task("objects")
            await use_case.restore(
                resources.database,
                resources.objects(),
                reader,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
    finally:
        reader.close()
        await resources.close()
    return reader.manifest


def summary(done: str, manifest: Manifest, file: Path) -> str:
    rows = sum(each.rows for each in manifest.tables.values())
    head = "no revision yet" if manifest.head is None else f"head revision {manifest.head}, row hash {manifest.row_hash}"
    return f"{done} {file}: {rows} rows, {len(manifest.objects)} objects, {head}"
