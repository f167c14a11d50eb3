"""Ledger and objects together, in one file and back. A backup is one moment's: the service may go on while it is made."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from service.errors import DatabaseNotEmpty, ErrataError, ObjectDamaged
from service.infra.archive import MANIFEST, ArchiveReader, ArchiveWriter, Manifest, TableEntry
from service.infra.objects import ObjectStore
from service.infra.postgres import Database, UnitOfWork
from service.infra.repository.copying import KEPT_ROWS, TABLES, columns
from service.ledger import object_owner
from service.ledger.checkpoints import uses

TRIES = 3  # an object may be pruned between the ledger's snapshot and its reading
IN_MEMORY_BYTES = 16 << 20  # of a table's rows; beyond it they wait on disk
Progress = Callable[[int, int], None]  # objects done, of how many


async def back_up(database: Database, objects: ObjectStore, file: Path, window: int, progress: Progress) -> Manifest:
    """Write the backup; what `file` was before stays until the new one is whole.

    Raises ObjectDamaged when an object that a restart or a rollback may need is missing or altered, ForeignObjects,
    StorageUnavailable.
    """
    for _ in range(TRIES - 1):
        with contextlib.suppress(ObjectDamaged):
            return await _back_up(database, objects, file, window, progress)
    return await _back_up(database, objects, file, window, progress)


async def _back_up(database: Database, objects: ObjectStore, file: Path, window: int, progress: Progress) -> Manifest:
    with ExitStack() as stack:
        dumps = {name: stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)) for name in TABLES}
        async with database.snapshot() as work:
            entries = {name: await _dump(work, name, dumps[name]) for name in TABLES}
            needed = tuple(sorted(await uses(work, window)))
            head, schema = await work.repository.head(), await work.repository.schema_version()
        if schema is None:
            raise ErrataError("the database has no tables: there is nothing to back up", code="no_ledger")
        await object_owner.check(database, objects)
        number, row_hash = (head.number, head.row_hash) if head else (None, None)
        manifest = Manifest(schema, number, row_hash, datetime.now(UTC).isoformat(), entries, needed)
        await asyncio.to_thread(_write, file, manifest, dumps, objects, progress)
    return manifest


async def _dump(work: UnitOfWork, table: str, into: IO[bytes]) -> TableEntry:
    digest, rows = hashlib.sha256(), 0
    async for part in work.repository.copy_out(table):
        digest.update(part)
        rows += part.count(b"\n")  # in COPY's text a new line is the end of a row, and nothing else
        into.write(part)
    return TableEntry(tuple(columns(table)), rows, digest.hexdigest())


def _write(file: Path, manifest: Manifest, dumps: Mapping[str, IO[bytes]], objects: ObjectStore, progress: Progress) -> None:
    writer = ArchiveWriter(file)
    try:
        writer.add(MANIFEST, manifest.to_json())
        for name, dump in dumps.items():
            writer.add_file(f"tables/{name}", dump, dump.seek(0, 2))
        for done, name in enumerate(manifest.objects, 1):
            writer.add(f"objects/{name}", objects.get(name))
            progress(done, len(manifest.objects))
        writer.finish()
    except BaseException:
        writer.give_up()
        raise


async def restore(database: Database, objects: ObjectStore, backup: ArchiveReader, progress: Progress) -> None:
    """Objects first, then all tables in one transaction: until that is committed the database is as empty as before.

    What is restored is a ledger of its own. Raises DatabaseNotEmpty, ForeignObjects when the object folder is another's,
    BackupDamaged, or ErrataError when the schema is another.
    """
    await _refuse_a_ledger(database, backup.manifest)
    await object_owner.claim(database, objects)
    names = backup.manifest.objects
    for done, name in enumerate(names, 1):
        await asyncio.to_thread(_put, objects, backup, name)
        progress(done, len(names))
    async with database.transaction() as work:
        await work.repository.close_to_others()
        await _require_empty(work)
        await work.repository.clear_lease()
        for table in TABLES:
            entry = backup.manifest.tables[table]
            await work.repository.copy_in(table, entry.columns, backup.checked(f"tables/{table}", entry.sha256))
        await work.repository.end_lease()
        await work.repository.continue_numbers()
        await work.commit()


def _put(objects: ObjectStore, backup: ArchiveReader, name: str) -> None:
    objects.put(b"".join(backup.checked(f"objects/{name}", name)))


async def _refuse_a_ledger(database: Database, manifest: Manifest) -> None:
    """Before anything is written."""
    async with database.transaction() as work:
        schema = await work.repository.schema_version()
        if schema != manifest.schema or set(manifest.tables) != set(TABLES):
            raise ErrataError(
                f"the backup has schema {manifest.schema}, the database {schema}: restore it with the version that made it, "
                "then upgrade",
                code="other_schema",
            )
        await _require_empty(work)


async def _require_empty(work: UnitOfWork) -> None:
    for table in TABLES:
        if table not in KEPT_ROWS and (count := await work.repository.rows_in(table)):
            raise DatabaseNotEmpty(f"{table} has {count} rows already; a backup is restored into an empty database alone")
