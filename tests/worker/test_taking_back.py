"""Taking facts back: what leaves, what stays, and that the ledger says so."""

from __future__ import annotations

import pytest
import torch

from service.domain.edits import NewEdit
from service.domain.operations import OperationState
from service.domain.revisions import RevisionKind
from service.ledger import integrity, read
from service.worker.packing import unpack_change
from tests.worker.conftest import FACTS, NewDesk


async def test_a_rollback_gives_the_revisions_fingerprint_and_its_edits_exactly(new_desk: NewDesk) -> None:
    desk = await new_desk()
    for start in range(0, 6, 2):
        await desk.edit(*FACTS[start : start + 2])
    before, states = await read.get_revision(desk.database, 3), {1: "applied", 2: "applied", 3: "applied", 4: "applied"}
    operation = await desk.rollback(3)
    assert (operation.state, operation.revision) == (OperationState.APPLIED, 5)
    head = await desk.head()
    assert (head.fingerprint, head.kind, head.source) == (before.fingerprint, RevisionKind.ROLLBACK, 3)
    assert (head.actor, head.reason) == ("a test", "to see")
    assert await desk.states() == {**states, 5: "reverted", 6: "reverted"}
    assert await read.applied_at(desk.database, 5) == await read.applied_at(desk.database, 3)
    await desk.restart()
    assert (await desk.head()).fingerprint == before.fingerprint


async def test_a_rollback_can_itself_be_rolled_back(new_desk: NewDesk) -> None:
    desk = await new_desk()
    await desk.edit(*FACTS[:2])
    await desk.edit(*FACTS[2:4])
    newest = await desk.head()
    await desk.rollback(1)
    await desk.rollback(newest.number)
    assert (await desk.head()).fingerprint == newest.fingerprint
    assert set((await desk.states()).values()) == {"applied"}
    await desk.edit(*FACTS[4:6])
    assert all(count == 0 for count, _ in (await integrity.violations(desk.database)).values())


async def test_a_subtracted_edit_leaves_what_the_others_brought(new_desk: NewDesk) -> None:
    desk = await new_desk()
    await desk.edit(*FACTS[:3])
    batch = await read.get_revision(desk.database, 2)
    assert batch.update_object is not None
    change = unpack_change(desk.objects.get(batch.update_object))
    await desk.edit(*FACTS[3:6])
    masters = desk.resident.editor.masters
    before = masters.snapshot()
    assert (await desk.subtract(2)).state is OperationState.APPLIED
    for module in desk.resident.editor.modules:
        share = change.updates[module.name].share(change.owners[module.name] == 2)
        assert share.norm() > 0
        torch.testing.assert_close(masters[module.name], before[module.name] - module.as_stored(share.dense()))
    assert await desk.states() == {1: "applied", 2: "reverted", 3: "applied", 4: "applied", 5: "applied", 6: "applied"}
    await desk.restart()
    assert (await desk.head()).kind is RevisionKind.SUBTRACT


async def test_the_only_edit_subtracted_gives_back_the_unedited_weights_to_within_rounding(new_desk: NewDesk) -> None:
    desk = await new_desk()
    masters = desk.resident.editor.masters
    before = masters.snapshot()
    await desk.edit(FACTS[0])
    edited = masters.snapshot()
    await desk.subtract(1)
    after = masters.snapshot()
    assert all((after[name] - before[name]).norm() < 1e-5 * (edited[name] - before[name]).norm() for name in before)
    await desk.restart()
    await desk.head()


async def test_an_edit_that_is_not_in_the_weights_cannot_be_subtracted(new_desk: NewDesk) -> None:
    desk = await new_desk()
    await desk.edit(*FACTS[:2])
    first = await desk.head()
    operations = [await desk.subtract(1)]
    with pytest.raises(Exception, match="reverted"):
        await desk.subtract(1)
    await desk.rollback(first.number)
    operations.append(await desk.subtract(1))
    assert {operation.state for operation in operations} == {OperationState.APPLIED}


async def test_a_rebuild_is_as_if_the_edit_had_never_been(new_desk: NewDesk) -> None:
    desk, fresh = await new_desk(), await new_desk()
    for start in range(0, 6, 2):
        await desk.edit(*FACTS[start : start + 2])
    for batch in (FACTS[:2], FACTS[3:4], FACTS[4:6]):
        await fresh.edit(*batch)
    operation = await desk.rebuild(3)
    assert operation.state is OperationState.APPLIED
    head, other = await desk.head(), await fresh.head()
    assert head.fingerprint == other.fingerprint
    assert desk.resident.editor.statistics.summaries() == fresh.resident.editor.statistics.summaries()
    assert await desk.states() == {1: "applied", 2: "applied", 3: "reverted", 4: "applied", 5: "applied", 6: "applied"}
    await desk.restart()
    await desk.head()


async def test_a_new_edit_of_the_same_prompt_takes_the_old_ones_place(new_desk: NewDesk) -> None:
    desk = await new_desk()
    await desk.edit(*FACTS[:2])
    again = NewEdit(FACTS[0].prompt.upper().replace(" ", "  "), "Another port")
    [record] = await desk.edit(again)
    assert (record.state, record.revision) == ("applied", 3)
    old = await read.get_edit(desk.database, 1)
    assert (old.state, old.revision, old.ended_by) == ("superseded", 2, 3)
    assert record.revision is not None
    update = (await read.get_revision(desk.database, record.revision)).update_object
    assert update is not None
    assert unpack_change(desk.objects.get(update)).taken == (1,)
    await desk.restart()
    await desk.head()
    await desk.rollback(2)
    assert await desk.states() == {1: "applied", 2: "applied", 3: "reverted"}
    assert all(count == 0 for count, _ in (await integrity.violations(desk.database)).values())
