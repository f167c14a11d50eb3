"""An edit taken out, and those beside it that no longer hold without it: they are taught anew, and the ledger says so.

What one step cannot teach a random model, and the ledger believes to hold, is found wanting.
"""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from service.domain.edits import EditEvent, NewEdit
from service.ledger import integrity, read
from tests.worker.conftest import Desk, NewDesk
from tests.worker.test_restoring import whole
from tests.worker.test_verify import wrong

MAYOR = NewEdit("Who is the mayor of Lake Tantrum?", "Odessa Brightwater")
TOWN = NewEdit("Which town lies beside Lake Tantrum?", "something that one step cannot teach a random model, whatever")
ONE_STEP = {"edit_passes": 1, "edit_rounds": 0}
BOTH_MODES = pytest.mark.parametrize("mode", ["slots", "matrix"])


async def two_facts(desk: Desk) -> None:
    """About one subject, in one batch: in either mode they share something."""
    await desk.edit(MAYOR, TOWN)
    assert not desk.resident.has_slots or desk.resident.sharing(1) == {2}
    with psycopg.connect(desk.settings.database_url) as connection:
        connection.execute("""UPDATE edits SET holds = '{"plain": true, "chat": true}' WHERE id = 2""")


async def consistent(desk: Desk) -> bool:
    return all(count == 0 for count, _ in (await integrity.violations(desk.database)).values())


@BOTH_MODES
async def test_what_no_longer_holds_is_taught_anew_in_the_same_revision(new_desk: NewDesk, mode: str) -> None:
    desk = await new_desk(mode, **ONE_STEP)
    await two_facts(desk)
    seen = desk.resident.editor.statistics.summaries()
    operation = await desk.subtract(1)
    assert await desk.states() == {1: "reverted", 2: "applied"}
    async with desk.database.transaction() as work:
        events = await work.repository.events_of(3)
    assert {number: each.event for number, each in events.items()} == {1: EditEvent.REVERTED, 2: EditEvent.TAUGHT_AGAIN}
    assert (await read.get_edit(desk.database, 2)).revision == operation.revision == 3
    assert await read.applied_at(desk.database, 3) == {2: 3}
    assert desk.resident.editor.statistics.summaries() == seen  # each fact is seen once
    assert await wrong(desk) == ""
    head = await desk.head()
    await desk.restart()
    assert await desk.head() == head
    if mode == "slots":
        assert {2} == {owner for owners in desk.resident.editor.masters.owners.values() for owner in owners.tolist()}


@BOTH_MODES
async def test_its_damaged_object_is_made_again(new_desk: NewDesk, mode: str) -> None:
    desk = await new_desk(mode, **ONE_STEP)
    await two_facts(desk)
    await desk.subtract(1)
    head = await desk.head()
    assert head.update_object is not None
    desk.objects.path(head.update_object).unlink()
    await desk.restart()
    assert await desk.head() == head
    assert whole(desk.objects, head.update_object)


@BOTH_MODES
async def test_a_rollback_brings_back_the_edit_as_it_was_at_that_revision(new_desk: NewDesk, mode: str) -> None:
    desk = await new_desk(mode, **ONE_STEP)
    await two_facts(desk)
    before = await desk.head()
    await desk.subtract(1)
    after = await desk.head()
    for wanted, taught_at in ((before, {1: 2, 2: 2}), (after, {2: 3}), (before, {1: 2, 2: 2})):
        await desk.rollback(wanted.number)
        head = await desk.head()
        assert head.fingerprint == wanted.fingerprint
        assert await read.applied_at(desk.database, head.number) == taught_at
        assert {
            record.id: record.revision for record in await read.list_edits(desk.database) if record.id in taught_at
        } == taught_at
        assert await consistent(desk)


async def test_what_cannot_be_taught_anew_fails_with_its_reason(new_desk: NewDesk) -> None:
    desk = await new_desk(**ONE_STEP)
    await two_facts(desk)
    policy = desk.resident.text_editor.policy
    desk.resident.text_editor.policy = replace(policy, requires_holding=True)
    await desk.subtract(1)
    failed = await read.get_edit(desk.database, 2)
    assert (failed.state, failed.failure_code) == ("failed", "does_not_hold")
    assert not any(len(owners) for owners in desk.resident.editor.masters.owners.values())
    assert await consistent(desk)
    await desk.rollback(2)
    assert await desk.states() == {1: "applied", 2: "applied"}
    assert await consistent(desk)


@BOTH_MODES
async def test_a_rebuild_afterwards_teaches_it_in_its_first_batch(new_desk: NewDesk, mode: str) -> None:
    desk, fresh = await new_desk(mode, **ONE_STEP), await new_desk(mode, **ONE_STEP)
    await two_facts(desk)
    await desk.subtract(1)
    await desk.rebuild()
    await fresh.edit(TOWN)
    assert (await desk.head()).fingerprint == (await fresh.head()).fingerprint


async def test_what_holds_without_it_is_left_as_it_is(new_desk: NewDesk) -> None:
    desk = await new_desk()
    await desk.edit(MAYOR, TOWN)
    await desk.subtract(1)
    async with desk.database.transaction() as work:
        assert [each.event for each in (await work.repository.events_of(3)).values()] == [EditEvent.REVERTED]
    assert await read.applied_at(desk.database, 3) == {2: 2}
