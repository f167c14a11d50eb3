"""Taking facts back: what leaves, what stays, and that the ledger says so."""

from __future__ import annotations

import pytest

from service.domain.edits import NewEdit
from service.domain.operations import OperationState
from service.domain.revisions import RevisionKind
from service.ledger import integrity, read
from tests.worker.conftest import FACTS, NewDesk


@pytest.mark.parametrize("mode", ["slots", "matrix"])
async def test_a_rollback_gives_the_revisions_fingerprint_and_its_edits_exactly(new_desk: NewDesk, mode: str) -> None:
    desk = await new_desk(mode)
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


@pytest.mark.parametrize("mode", ["slots", "matrix"])
async def test_a_rollback_can_itself_be_rolled_back(new_desk: NewDesk, mode: str) -> None:
    desk = await new_desk(mode)
    await desk.edit(*FACTS[:2])
    await desk.edit(*FACTS[2:4])
    newest = await desk.head()
    await desk.rollback(1)
    await desk.rollback(newest.number)
    assert (await desk.head()).fingerprint == newest.fingerprint
    assert set((await desk.states()).values()) == {"applied"}
    await desk.edit(*FACTS[4:6])
    assert all(count == 0 for count, _ in (await integrity.violations(desk.database)).values())


async def test_a_subtracted_edit_leaves_the_rows_of_all_others_as_they_are(new_desk: NewDesk) -> None:
    desk = await new_desk()
    await desk.edit(*FACTS[:3])
    await desk.edit(*FACTS[3:6])
    masters = desk.resident.editor.masters
    before = {name: (masters[name].clone(), owners) for name, owners in masters.owners.items()}
    assert (await desk.subtract(2)).state is OperationState.APPLIED
    for name, (rows, owners) in before.items():
        assert (owners == 2).any()
        assert masters[name].equal(rows[owners != 2])
        assert masters.owners[name].equal(owners[owners != 2])
    assert await desk.states() == {1: "applied", 2: "reverted", 3: "applied", 4: "applied", 5: "applied", 6: "applied"}
    await desk.restart()
    assert (await desk.head()).kind is RevisionKind.SUBTRACT


async def test_the_only_edit_subtracted_gives_back_the_unedited_weights(new_desk: NewDesk) -> None:
    desk = await new_desk()
    unedited = (await desk.head()).fingerprint
    await desk.edit(FACTS[0])
    assert (await desk.head()).fingerprint != unedited
    await desk.subtract(1)
    assert (await desk.head()).fingerprint == unedited


async def test_in_matrix_mode_a_share_is_subtracted_to_within_rounding(new_desk: NewDesk) -> None:
    desk = await new_desk("matrix")
    before = desk.resident.editor.masters.distance_from_base()
    await desk.edit(FACTS[0])
    edited = desk.resident.editor.masters.distance_from_base()
    await desk.subtract(1)
    after = desk.resident.editor.masters.distance_from_base()
    assert all(before[name] == 0 and after[name] < 1e-3 * edited[name] for name in edited)
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


@pytest.mark.parametrize("mode", ["slots", "matrix"])
async def test_a_rebuild_is_as_if_the_edit_had_never_been(new_desk: NewDesk, mode: str) -> None:
    desk, fresh = await new_desk(mode), await new_desk(mode)
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


@pytest.mark.parametrize("mode", ["slots", "matrix"])
async def test_a_new_edit_of_the_same_prompt_takes_the_old_ones_place(new_desk: NewDesk, mode: str) -> None:
    desk = await new_desk(mode)
    await desk.edit(*FACTS[:2])
    again = NewEdit(FACTS[0].prompt.upper().replace(" ", "  "), "Another port")
    [record] = await desk.edit(again)
    assert (record.state, record.revision) == ("applied", 3)
    old = await read.get_edit(desk.database, 1)
    assert (old.state, old.revision, old.ended_by) == ("superseded", 2, 3)
    if mode == "slots":
        assert not any((owners == 1).any() for owners in desk.resident.editor.masters.owners.values())
    await desk.restart()
    await desk.head()
    await desk.rollback(2)
    assert await desk.states() == {1: "applied", 2: "applied", 3: "reverted"}
    assert all(count == 0 for count, _ in (await integrity.violations(desk.database)).values())


async def test_when_the_new_edit_does_not_hold_the_old_one_stays_as_it_was(new_desk: NewDesk) -> None:
    desk = await new_desk()
    await desk.edit(FACTS[0])
    before = await desk.head()
    desk.resident.text_editor.policy = _strict(desk.resident.text_editor.policy)
    [refused] = await desk.edit(NewEdit(FACTS[0].prompt, "something that a few steps cannot teach a random model, whatever"))
    assert (refused.state, refused.failure_code) == ("failed", "does_not_hold")
    assert await desk.states() == {1: "applied", 2: "failed"}
    assert (await desk.head()).fingerprint == before.fingerprint


def _strict(policy: object) -> object:
    from dataclasses import replace

    return replace(policy, requires_holding=True, answer_passes=1, rounds=0)  # type: ignore[type-var]
