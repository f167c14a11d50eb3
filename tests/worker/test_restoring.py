"""Rebuilt exactly: from checkpoints, past damaged objects, and never with a doubt."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from service.errors import ObjectDamaged
from service.infra.objects import ObjectStore
from service.ledger import read
from service.worker.restore import Restorer
from tests.worker.conftest import FACTS, Desk, NewDesk


def flip_a_byte(objects: ObjectStore, name: str) -> None:
    path = objects.path(name)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def whole(objects: ObjectStore, name: str) -> bool:
    path: Path = objects.path(name)
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == name


async def some_revisions(desk: Desk, count: int) -> None:
    for fact in FACTS[:count]:
        await desk.edit(fact)


async def test_a_restart_reads_nothing_from_before_the_newest_checkpoint(new_desk: NewDesk) -> None:
    desk = await new_desk(checkpoint_every=3)
    await some_revisions(desk, 6)
    assert sorted(await read.checkpoints(desk.database)) == [3, 6]
    for revision in await read.revisions_after(desk.database, 0):
        if revision.number < 6 and revision.update_object:
            desk.objects.path(revision.update_object).unlink()
    head = await desk.head()
    await desk.restart()
    assert await desk.head() == head


async def test_past_a_damaged_checkpoint_the_one_before_it_is_used(new_desk: NewDesk) -> None:
    desk = await new_desk(checkpoint_every=3)
    await some_revisions(desk, 6)
    damaged = (await read.checkpoints(desk.database))[6]
    flip_a_byte(desk.objects, damaged)
    head = await desk.head()
    await desk.restart()
    assert await desk.head() == head
    assert desk.resident.editor.statistics.summaries()
    assert whole(desk.objects, damaged)


async def test_a_rollback_whose_source_is_pruned_is_made_again_by_replaying(new_desk: NewDesk) -> None:
    desk = await new_desk(checkpoint_every=2, rollback_window=2, prune_every=1, prune_grace_s=0)
    await some_revisions(desk, 4)
    await desk.rollback(4)  # as revision 6
    for fact in FACTS[4:6]:
        await desk.edit(fact)
    known = await read.checkpoints(desk.database)
    assert min(known) == 6
    for name in known.values():
        flip_a_byte(desk.objects, name)
    head = await desk.head()
    await desk.restart()
    assert await desk.head() == head
    assert all(whole(desk.objects, name) for name in known.values())


async def test_a_damaged_object_is_made_again_bit_for_bit_by_replaying_its_edits(new_desk: NewDesk) -> None:
    desk = await new_desk()
    await some_revisions(desk, 2)
    await desk.edit(FACTS[0])  # once more: it supersedes the first
    await some_revisions(desk, 1)
    revisions = await read.revisions_after(desk.database, 1)
    names = [name for each in revisions for name in (each.update_object, each.statistics_object) if name]
    flip_a_byte(desk.objects, names[2])
    desk.objects.path(names[4]).unlink()
    desk.objects.path(names[-1]).unlink()
    head, seen = await desk.head(), desk.resident.editor.statistics.summaries()
    await desk.restart()
    assert await desk.head() == head
    assert desk.resident.editor.statistics.summaries() == seen
    assert whole(desk.objects, names[2])
    assert whole(desk.objects, names[4])
    assert whole(desk.objects, names[-1])


async def test_a_rebuilds_lost_state_is_made_again(new_desk: NewDesk) -> None:
    desk = await new_desk()
    await some_revisions(desk, 3)
    await desk.rebuild(2)
    await desk.edit(FACTS[5])
    head = await desk.head()
    [name] = set((await read.checkpoints(desk.database)).values())
    desk.objects.path(name).unlink()
    await desk.restart()
    assert await desk.head() == head
    assert whole(desk.objects, name)


async def test_without_mending_a_missing_object_is_named_and_nothing_is_served(new_desk: NewDesk) -> None:
    desk = await new_desk()
    await some_revisions(desk, 2)
    [record] = await desk.edit(FACTS[4])
    assert record.revision is not None
    await desk.subtract(record.id)
    applied = await read.get_revision(desk.database, record.revision)
    assert applied.update_object is not None
    desk.objects.path(applied.update_object).unlink()
    unmended = Restorer(await _another(desk), desk.thread, desk.database, desk.objects, mends=False)
    with pytest.raises(ObjectDamaged, match=applied.update_object):
        await unmended.follow()


async def _another(desk: Desk):  # type: ignore[no-untyped-def]
    from service.worker.resident import ResidentModel

    return await desk.thread.run(ResidentModel.load, desk.settings, print)


async def test_old_objects_are_let_go_and_everything_in_the_window_still_works(new_desk: NewDesk) -> None:
    desk = await new_desk(checkpoint_every=2, rollback_window=4, prune_every=1, prune_grace_s=0)
    await some_revisions(desk, 12)
    head = await desk.head()
    files, size = desk.objects.usage()
    assert min(await read.checkpoints(desk.database)) == 8
    assert files <= 2 * 6 + 3 + 2  # updates and statistics since the anchor, checkpoints, the warm-up's
    assert size > 0
    wanted = await read.get_revision(desk.database, head.number - 4)
    await desk.restart()
    assert await desk.head() == head
    await desk.rollback(wanted.number)
    assert (await desk.head()).fingerprint == wanted.fingerprint
    with pytest.raises(Exception, match="rebuild"):
        await desk.rollback(3)
    operation = await desk.rebuild(1)
    assert operation.failure_detail is None


async def test_an_object_that_is_about_to_be_committed_is_not_pruned(new_desk: NewDesk) -> None:
    desk = await new_desk(prune_every=1)
    name = desk.objects.put(b"a proposal under way")
    await some_revisions(desk, 1)
    assert whole(desk.objects, name)
