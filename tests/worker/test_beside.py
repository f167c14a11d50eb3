"""New facts beside those that are applied: what they push out is taught anew, or else the newer fact stays.

What one step cannot teach a random model, and the ledger believes to hold, is found wanting. Nor does such a model know a
subject again in another batch, as a real one does: who shares a mark is said here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from editor_core.change import Change
from service.domain.edits import EditEvent, EditRecord, NewEdit
from service.ledger import integrity, read
from service.worker.teaching_anew import Settled, TeachingAnew
from tests.worker.conftest import Desk, NewDesk
from tests.worker.test_restoring import whole
from tests.worker.test_verify import wrong

MAYOR = NewEdit("Who is the mayor of Lake Tantrum?", "Odessa Brightwater")
TOWN = NewEdit("Which town lies beside Lake Tantrum?", "something that one step cannot teach a random model, whatever")
DEPTH = NewEdit("How deep is Lake Tantrum?", "Ninety metres")
TREE = NewEdit("What is the tallest tree in the garden of Anne?", "An elm")
ONE_STEP = {"edit_passes": 1, "edit_rounds": 0}


def sharing(desk: Desk, edit_id: int) -> None:
    """Whatever is taught next is about the same subject as this edit, which the ledger believes to hold."""
    shared = desk.resident.sharing()
    desk.resident.sharing = lambda *edits, draft=None: shared | {edit_id}  # type: ignore[method-assign]
    believed(desk, edit_id)


async def with_two_lost(new_desk: NewDesk) -> Desk:
    """Whatever is taught next is about the same subject as edits 1 and 2."""
    desk = await new_desk(**ONE_STEP)
    await desk.edit(TOWN, DEPTH)
    sharing(desk, 1)
    sharing(desk, 2)
    return desk


def believed(desk: Desk, edit_id: int) -> None:
    """The ledger believes that this edit holds in both formats."""
    with psycopg.connect(desk.settings.database_url) as connection:
        connection.execute("""UPDATE edits SET holds = '{"plain": true, "chat": true}' WHERE id = %s""", [edit_id])


async def events(desk: Desk, revision: int) -> dict[int, EditEvent]:
    async with desk.database.transaction() as work:
        return {number: each.event for number, each in (await work.repository.events_of(revision)).items()}


def owners_in(change: Change) -> set[int]:
    """Ids of the edits that a change has rows of."""
    return {owner for each in change.owners.values() for owner in each.tolist()}


async def consistent(desk: Desk) -> bool:
    return all(count == 0 for count, _ in (await integrity.violations(desk.database)).values())


async def test_what_a_new_fact_pushes_out_is_taught_anew_in_its_revision(new_desk: NewDesk) -> None:
    desk = await new_desk(**ONE_STEP)
    await desk.edit(TOWN)
    sharing(desk, 1)
    await desk.edit(MAYOR)
    assert await events(desk, 3) == {1: EditEvent.TAUGHT_AGAIN, 2: EditEvent.APPLIED}
    assert await read.applied_at(desk.database, 3) == {1: 3, 2: 3}
    assert await wrong(desk) == ""
    head = await desk.head()
    await desk.restart()
    assert await desk.head() == head


async def test_the_damaged_object_of_such_a_revision_is_made_again(new_desk: NewDesk) -> None:
    desk = await new_desk(**ONE_STEP)
    await desk.edit(TOWN)
    sharing(desk, 1)
    await desk.edit(MAYOR)
    head = await desk.head()
    assert head.update_object is not None
    desk.objects.path(head.update_object).unlink()
    await desk.restart()
    assert await desk.head() == head
    assert whole(desk.objects, head.update_object)


async def test_what_is_superseded_meanwhile_is_out_and_what_shared_its_mark_is_asked(new_desk: NewDesk) -> None:
    desk = await new_desk(**ONE_STEP)
    await desk.edit(MAYOR, DEPTH)
    await desk.edit(TOWN)
    sharing(desk, 3)
    await desk.edit(MAYOR)
    assert await events(desk, 4) == {1: EditEvent.SUPERSEDED, 3: EditEvent.TAUGHT_AGAIN, 4: EditEvent.APPLIED}
    owners = {owner for each in desk.resident.editor.masters.owners.values() for owner in each.tolist()}
    assert owners >= {2, 3, 4}
    assert await wrong(desk) == ""
    head = await desk.head()
    await desk.restart()
    assert await desk.head() == head


async def test_of_two_facts_that_contradict_each_other_the_newer_stays(
    new_desk: NewDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await new_desk(**ONE_STEP)
    await desk.edit(TOWN)
    sharing(desk, 1)

    async def not_both(_: TeachingAnew, change: Change, records: Sequence[EditRecord], *more: Any) -> list[EditRecord]:
        return [each for each in records if each.id == 1 or 1 in owners_in(change)]

    monkeypatch.setattr(TeachingAnew, "worse", not_both)
    await desk.edit(MAYOR)
    failed = await read.get_edit(desk.database, 1)
    assert (failed.state, failed.failure_code) == ("failed", "outdone")
    assert await desk.states() == {1: "failed", 2: "applied"}
    assert await consistent(desk)
    await desk.rollback(2)
    assert await desk.states() == {1: "applied", 2: "reverted"}
    assert await consistent(desk)


async def test_of_several_that_are_lost_only_those_fail_that_would_cost_another(
    new_desk: NewDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await with_two_lost(new_desk)

    async def beside_the_first(_: TeachingAnew, change: Change, records: Sequence[EditRecord], *more: Any) -> list[EditRecord]:
        return [each for each in records if each.id < 3 or 1 in owners_in(change)]

    monkeypatch.setattr(TeachingAnew, "worse", beside_the_first)
    await desk.edit(MAYOR)
    assert await desk.states() == {1: "failed", 2: "applied", 3: "applied"}
    assert await events(desk, 3) == {1: EditEvent.FAILED, 2: EditEvent.TAUGHT_AGAIN, 3: EditEvent.APPLIED}
    assert await consistent(desk)


async def test_those_at_odds_are_taught_together_and_who_is_innocent_by_himself(
    new_desk: NewDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await with_two_lost(new_desk)
    teach, together = TeachingAnew.taught, list[set[int]]()

    async def taught(self: TeachingAnew, records: Sequence[EditRecord], *more: Any) -> Settled:
        together.append({each.id for each in records})
        return await teach(self, records, *more)

    async def new_one_without_old_one(
        _: TeachingAnew, change: Change, records: Sequence[EditRecord], *more: Any
    ) -> list[EditRecord]:
        known = {1, 3} in together or 1 not in change.taken
        return [each for each in records if (each.id < 3 and not together) or (each.id == 3 and not known)]

    monkeypatch.setattr(TeachingAnew, "taught", taught)
    monkeypatch.setattr(TeachingAnew, "worse", new_one_without_old_one)
    await desk.edit(MAYOR)
    assert together == [{1, 2}, {1}, {1, 3}, {2}]
    assert await desk.states() == {1: "applied", 2: "applied", 3: "applied"}
    assert await events(desk, 3) == {1: EditEvent.TAUGHT_AGAIN, 2: EditEvent.TAUGHT_AGAIN, 3: EditEvent.APPLIED}
    assert await consistent(desk)
    assert await wrong(desk) == ""
    head = await desk.head()
    assert head.update_object is not None
    desk.objects.path(head.update_object).unlink()
    together.clear()
    await desk.restart()
    assert await desk.head() == head


async def test_a_new_fact_that_crowds_out_one_about_another_subject_is_refused(
    new_desk: NewDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await new_desk(**ONE_STEP, asked_again=10)
    await desk.edit(TOWN)
    believed(desk, 1)

    async def not_both(_: TeachingAnew, change: Change, records: Sequence[EditRecord], *more: Any) -> list[EditRecord]:
        crowding = {2, 4} & owners_in(change)
        return [each for each in records if crowding and (each.id == 1 or (each.id in crowding and 1 in owners_in(change)))]

    monkeypatch.setattr(TeachingAnew, "worse", not_both)
    await desk.edit(TREE, MAYOR)
    refused = await read.get_edit(desk.database, 2)
    assert (refused.state, refused.failure_code) == ("failed", "crowds_out")
    assert await desk.states() == {1: "applied", 2: "failed", 3: "applied"}
    assert 2 not in {owner for each in desk.resident.editor.masters.owners.values() for owner in each.tolist()}
    assert await consistent(desk)
    head = await desk.head()
    assert head.update_object is not None
    desk.objects.path(head.update_object).unlink()
    await desk.restart()
    assert await desk.head() == head
    await desk.edit(TREE)
    assert (await desk.states())[4] == "failed"  # alone, nothing is left of its batch


async def test_what_shares_nothing_with_a_new_fact_is_asked_by_lot(new_desk: NewDesk) -> None:
    desk = await new_desk(**ONE_STEP, asked_again=1)
    await desk.edit(TOWN)
    believed(desk, 1)
    await desk.edit(MAYOR)
    assert await events(desk, 3) == {1: EditEvent.TAUGHT_AGAIN, 2: EditEvent.APPLIED}


async def test_what_still_holds_is_left_as_it_is(new_desk: NewDesk) -> None:
    desk = await new_desk()
    await desk.edit(MAYOR)
    await desk.edit(TREE)
    assert await read.applied_at(desk.database, 3) == {1: 2, 2: 3}
