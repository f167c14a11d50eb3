"""An object folder belongs to one ledger, and what is removed from it is what that ledger does not need at that moment."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Container
from dataclasses import replace
from pathlib import Path

import pytest

from service.bootstrap import Resources, build
from service.domain.revisions import RevisionKind
from service.errors import ForeignObjects, LeaseLost
from service.infra.archive import ArchiveReader
from service.infra.objects import OWNER, ObjectStore
from service.ledger import checkpoints, lease, object_owner, read
from service.ledger.backup import back_up, restore
from service.ledger.commit import commit_revision
from service.ledger.lease import Lease
from service.ledger.pruning import prune
from service.ledger.verify import checks
from service.settings import Settings
from service.worker.main import Worker
from tests.conftest import Servers
from tests.integration.test_ledger import revision

LONG_AGO = 1_000_000_000


@pytest.fixture
async def other(settings: Settings, servers: Servers) -> AsyncIterator[Resources]:
    """Another ledger over the same folder."""
    built = build(settings.model_copy(update={"database_url": servers.new_database()}), "other")
    yield built
    await built.close()


def put_long_ago(objects: ObjectStore, data: bytes) -> str:
    name = objects.put(data)
    os.utime(objects.path(name), (LONG_AGO, LONG_AGO))
    return name


def nobody(done: int, total: int) -> None:
    """Looks at the progress."""


class Meanwhile(ObjectStore):
    """A folder in which something happens between the looking through and the removing."""

    happens: Callable[[], object]

    def unneeded(self, needed: Container[str], grace_s: float) -> list[Path]:
        found = super().unneeded(needed, grace_s)
        self.happens()
        return found


@pytest.fixture
def meanwhile(settings: Settings) -> Meanwhile:
    return Meanwhile(settings.objects)


async def test_a_folder_that_another_ledger_uses_is_refused_with_what_to_do(resources: Resources, other: Resources) -> None:
    await object_owner.claim(resources.database, resources.objects())
    await object_owner.claim(resources.database, resources.objects())  # at its next start
    with pytest.raises(ForeignObjects, match=f"ERRATA_OBJECT_DIR .*remove .*{OWNER}"):
        await object_owner.claim(other.database, other.objects())
    with pytest.raises(ForeignObjects):
        await object_owner.check(other.database, other.objects())
    await object_owner.check(resources.database, resources.objects())


async def test_of_two_ledgers_that_come_at_once_one_gets_the_folder(resources: Resources, other: Resources) -> None:
    both = [object_owner.claim(each.database, each.objects()) for each in (resources, other, resources, other)]
    found = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(each).__name__ for each in found) == ["ForeignObjects", "ForeignObjects", "NoneType", "NoneType"]
    assert [each.name for each in resources.settings.objects.iterdir()] == [OWNER]


async def test_a_folder_from_before_there_were_owners_is_the_first_comers(resources: Resources, other: Resources) -> None:
    name = resources.objects().put(b"factors")
    await object_owner.check(other.database, other.objects())
    await object_owner.claim(resources.database, resources.objects())
    assert resources.objects().get(name) == b"factors"
    with pytest.raises(ForeignObjects):
        await object_owner.claim(other.database, other.objects())


async def test_a_folder_is_handed_over_by_removing_the_file(resources: Resources, other: Resources) -> None:
    await object_owner.claim(resources.database, resources.objects())
    (resources.settings.objects / OWNER).unlink()
    await object_owner.claim(other.database, other.objects())
    with pytest.raises(ForeignObjects):
        await object_owner.claim(resources.database, resources.objects())


@pytest.mark.parametrize("content", ["", "{}", "[]", "not json", '{"ledger": null}'])
async def test_a_file_that_names_no_ledger_is_not_written_over(resources: Resources, content: str) -> None:
    resources.objects()
    (resources.settings.objects / OWNER).write_text(content)
    with pytest.raises(ForeignObjects):
        await object_owner.claim(resources.database, resources.objects())
    assert (resources.settings.objects / OWNER).read_text() == content


async def test_a_restored_ledger_gets_the_first_ones_folder_only_when_that_is_handed_over(
    resources: Resources, other: Resources, held: Lease, tmp_path: Path
) -> None:
    objects, file = resources.objects(), tmp_path / "backup.tar"
    await object_owner.claim(resources.database, objects)
    base = replace(revision(0, RevisionKind.BASE), update_object=None, statistics_object=None)
    await commit_revision(resources.database, held, base)
    await checkpoints.keep(resources.database, held, 0, objects.put(b"state"), 5)
    await back_up(resources.database, objects, file, 200, nobody)
    with pytest.raises(ForeignObjects):
        await restore(other.database, other.objects(), ArchiveReader(file), nobody)
    assert await read.head(other.database) is None
    (resources.settings.objects / OWNER).unlink()
    await restore(other.database, other.objects(), ArchiveReader(file), nobody)
    await object_owner.claim(other.database, other.objects())
    with pytest.raises(ForeignObjects):
        await object_owner.claim(resources.database, objects)


async def test_a_worker_over_anothers_folder_does_not_start(resources: Resources, other: Resources) -> None:
    await object_owner.claim(resources.database, resources.objects())
    async with asyncio.timeout(60):
        with pytest.raises(ForeignObjects):
            await Worker(other).run()


async def test_verify_says_that_the_folder_is_anothers(resources: Resources, other: Resources) -> None:
    await object_owner.claim(resources.database, resources.objects())
    with pytest.raises(ForeignObjects):
        await object_owner.claim(other.database, other.objects())
    wrong = {each.name: each.wrong async for each in checks(other.database, other.objects(), 200) if each.wrong}
    assert list(wrong) == ["objects"]
    assert "belongs to" in wrong["objects"][0]


async def test_what_is_needed_by_a_commit_since_the_looking_through_is_kept(
    resources: Resources, held: Lease, meanwhile: Meanwhile
) -> None:
    gone, wanted = put_long_ago(meanwhile, b"gone"), put_long_ago(meanwhile, b"wanted")
    await commit_revision(resources.database, held, revision(0, RevisionKind.BASE))
    loop = asyncio.get_running_loop()

    def commit() -> None:
        asyncio.run_coroutine_threadsafe(checkpoints.keep(resources.database, held, 0, wanted, 6), loop).result()

    meanwhile.happens = commit
    assert await prune(resources.database, held, meanwhile, 200, 60) == (1, 4)
    assert meanwhile.get(wanted) == b"wanted"
    assert gone not in set(meanwhile.names())


async def test_what_is_put_again_since_the_looking_through_is_kept(
    resources: Resources, held: Lease, meanwhile: Meanwhile
) -> None:
    name = put_long_ago(meanwhile, b"about to be committed")
    meanwhile.happens = lambda: meanwhile.put(b"about to be committed")
    assert await prune(resources.database, held, meanwhile, 200, 60) == (0, 0)
    assert meanwhile.get(name) == b"about to be committed"


async def test_nothing_is_removed_from_a_folder_that_was_handed_over(
    resources: Resources, held: Lease, meanwhile: Meanwhile
) -> None:
    name = put_long_ago(meanwhile, b"another's now")
    await object_owner.claim(resources.database, meanwhile)
    meanwhile.happens = lambda: (resources.settings.objects / OWNER).write_text(json.dumps({"ledger": "another"}))
    with pytest.raises(ForeignObjects):
        await prune(resources.database, held, meanwhile, 200, 60)
    assert meanwhile.get(name) == b"another's now"


async def test_nothing_is_removed_by_who_has_lost_the_lease(resources: Resources, held: Lease, meanwhile: Meanwhile) -> None:
    name = put_long_ago(meanwhile, b"the next writer decides")
    loop = asyncio.get_running_loop()

    def lose() -> None:
        asyncio.run_coroutine_threadsafe(lease.release(resources.database, held), loop).result()

    meanwhile.happens = lose
    with pytest.raises(LeaseLost):
        await prune(resources.database, held, meanwhile, 200, 60)
    assert meanwhile.get(name) == b"the next writer decides"
