"""A backup brings ledger and objects back as they were at one moment, or says why it cannot."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from service.errors import BackupDamaged, DatabaseNotEmpty, ObjectDamaged
from service.infra.archive import ArchiveReader
from service.infra.objects import ObjectStore
from service.infra.postgres import Database, create_engine
from service.ledger import lease, read
from service.ledger.backup import back_up, restore
from service.ledger.verify import checks
from tests.conftest import Servers
from tests.worker.conftest import FACTS, Desk, NewDesk


def nobody(done: int, total: int) -> None:
    """Looks at the progress."""


async def save(desk: Desk, file: Path) -> None:
    await back_up(desk.database, desk.objects, file, desk.settings.rollback_window, nobody)


async def bring_back(file: Path, url: str, objects: Path) -> None:
    database, backup = Database(create_engine(url, "test")), ArchiveReader(file)
    try:
        await restore(database, ObjectStore(objects), backup, nobody)
    finally:
        backup.close()
        await database.close()


def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    with psycopg.connect(url) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        ledgers = {name for (name,) in names} - {"writer_lease", "ledger_identity"}
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in ledgers}


@pytest.fixture
async def desk(new_desk: NewDesk) -> Desk:
    """With something in every table."""
    made = await new_desk(checkpoint_every=2)
    await made.edit(*FACTS[:2])
    await made.edit(FACTS[0], FACTS[3])  # the first takes an earlier one's place
    await made.subtract(2)
    return made


async def test_what_was_backed_up_is_restored_verified_and_gone_on_with(
    desk: Desk, new_desk: NewDesk, servers: Servers, tmp_path: Path
) -> None:
    await save(desk, tmp_path / "backup.tar")
    head, before = await desk.head(), rows(desk.settings.database_url)
    await desk.edit(FACTS[5])  # the service went on: this is not in the backup
    url, objects = servers.new_database(), tmp_path / "other"
    await bring_back(tmp_path / "backup.tar", url, objects)
    assert rows(url) == before
    restored = await new_desk(database_url=url, object_dir=objects)
    assert await restored.head() == head
    assert restored.held.epoch > desk.held.epoch
    wrong = [check.wrong async for check in checks(restored.database, restored.objects, 200) if check.wrong]
    assert wrong == []
    [again] = await restored.edit(FACTS[5])
    assert (again.state, again.id) == ("applied", 5)
    assert (await restored.head()).fingerprint == (await desk.head()).fingerprint


async def test_a_backup_is_of_one_moment_while_the_service_goes_on(
    desk: Desk, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.ledger import backup

    dump, number = backup._dump, (await desk.head()).number

    async def dump_and_edit(work: object, table: str, *others: object) -> object:
        found = await dump(work, table, *others)  # type: ignore[arg-type]
        if table == "submissions":
            await desk.edit(FACTS[6])
        return found

    monkeypatch.setattr(backup, "_dump", dump_and_edit)
    await save(desk, tmp_path / "backup.tar")
    url = servers.new_database()
    await bring_back(tmp_path / "backup.tar", url, tmp_path / "other")
    database = Database(create_engine(url, "test"))
    head = await read.head(database)
    assert head is not None
    assert head.number == number
    assert [each.wrong async for each in checks(database, ObjectStore(tmp_path / "other"), 200) if each.wrong] == []
    await database.close()


async def test_a_database_that_has_a_ledger_is_left_alone(desk: Desk, tmp_path: Path) -> None:
    await save(desk, tmp_path / "backup.tar")
    before = rows(desk.settings.database_url)
    with pytest.raises(DatabaseNotEmpty):
        await bring_back(tmp_path / "backup.tar", desk.settings.database_url, tmp_path / "other")
    assert rows(desk.settings.database_url) == before
    assert not list(ObjectStore(tmp_path / "other").names())


def alter_object(file: Path) -> None:
    _flip(file, lambda name: name.startswith("objects/"))


def alter_table(file: Path) -> None:
    _flip(file, lambda name: name == "tables/edits")


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _flip(file: Path, chosen: Callable[[str], bool]) -> None:
    """A byte in the middle of a member."""
    with tarfile.open(file) as archive:
        member = next(each for each in archive.getmembers() if chosen(each.name))
    data = bytearray(file.read_bytes())
    data[member.offset_data + member.size // 2] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [alter_object, alter_table, cut_off])
async def test_a_damaged_backup_is_refused_and_the_database_stays_empty(
    desk: Desk, servers: Servers, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    file, url = tmp_path / "backup.tar", servers.new_database()
    await save(desk, file)
    damage(file)
    with pytest.raises(BackupDamaged):
        await bring_back(file, url, tmp_path / "other")
    database = Database(create_engine(url, "test"))
    assert await read.head(database) is None
    assert await lease.acquire(database, "somebody", 10) is not None
    await database.close()


async def test_an_object_that_is_missing_is_named_and_the_backup_before_is_kept(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    await save(desk, file)
    before = file.read_bytes()
    update = (await read.get_revision(desk.database, 2)).update_object
    assert update is not None
    desk.objects.path(update).unlink()
    with pytest.raises(ObjectDamaged, match=update):
        await save(desk, file)
    assert file.read_bytes() == before
    assert "unfinished" not in " ".join(os.listdir(tmp_path))
