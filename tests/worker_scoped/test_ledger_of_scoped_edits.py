"""Every revision is the base model and the records in force: committed, restored, taken back, made again."""

from __future__ import annotations

import pytest

from service.domain.callers import Caller
from service.domain.edits import EditState, NewEdit, Outcome
from service.domain.operations import OperationKind, OperationState
from service.domain.revisions import NewRevision, RevisionKind
from service.errors import ObjectDamaged, ObjectsUnavailable
from service.ledger import batches, lease, read
from service.ledger.commit import commit_revision
from service.ledger.submit import Quotas, submit
from service.worker.scoped.restore import ScopedRestorer
from tests.worker_scoped.conftest import MAYOR, NEW_OWNER, OWNER, PORT, Desk, NewDesk


async def test_a_batch_is_one_revision_and_each_edit_has_its_own_record(desk: Desk) -> None:
    edits = await desk.edit(OWNER, MAYOR)
    assert [(each.state, each.revision, each.scope) for each in edits] == [
        (EditState.APPLIED, 1, ("Castle Orwin",)),
        (EditState.APPLIED, 1, ("Lake Tantrum",)),
    ]
    assert [each.holds for each in edits] == [{"plain": True, "chat": True}] * 2
    assert await desk.said("Who owns Castle Orwin?") == "Lady Maren Voss"
    assert len(set((await read.records_at(desk.database, 1)).values())) == 2
    await desk.head()


async def test_a_restart_serves_what_was_served(desk: Desk) -> None:
    await desk.edit(OWNER)
    await desk.edit(MAYOR)
    before = await desk.head()
    await desk.restart()
    assert await desk.head() == before
    assert await desk.said("Who is the mayor of Lake Tantrum?") == "Odessa Brightwater"


async def test_a_restart_from_a_checkpoint_is_the_same(new_desk: NewDesk) -> None:
    desk = await new_desk(checkpoint_every=1)
    await desk.edit(OWNER, MAYOR)
    assert list(await read.checkpoints(desk.database)) == [1]
    await desk.take_back(OperationKind.SUBTRACT, edit_id=1)
    before = await desk.head()
    await desk.restart()
    assert await desk.head() == before


async def test_the_newer_of_two_edits_of_one_question_wins_in_ledger_and_model(desk: Desk) -> None:
    await desk.edit(OWNER)
    await desk.edit(NEW_OWNER)
    assert await desk.states() == {1: "superseded", 2: "applied"}
    assert await desk.said("Who owns Castle Orwin?") == "Count Tibor Rask"
    await desk.head()


async def test_the_same_question_in_other_words_takes_the_place_of_the_older_edit(desk: Desk) -> None:
    await desk.edit(OWNER, NewEdit("When was Castle Orwin built?", "in 1412"))
    [count, _] = await desk.edit(NewEdit("Who is the owner of Castle Orwin?", "Count Tibor Rask"), MAYOR)
    assert await desk.states() == {1: "superseded", 2: "applied", 3: "applied", 4: "applied"}
    assert await desk.said("Who owns Castle Orwin?") == count.edit.target
    twice = (NewEdit("Who's the mayor of Lake Tantrum?", "Bo Lind"), NewEdit("Who is Lake Tantrum's mayor?", "Ada Rask"))
    await desk.edit(*twice)
    assert await desk.states() == {1: "superseded", 2: "applied", 3: "applied", 4: "superseded", 5: "superseded", 6: "applied"}
    assert await desk.said("Who is the mayor of Lake Tantrum?") == "Ada Rask"
    await desk.head()


async def test_what_another_edit_answers_is_reported_as_it_was_and_is(desk: Desk) -> None:
    await desk.edit(OWNER)
    [built] = await desk.edit(NewEdit("When was Castle Orwin built?", "in 1412", unrelated=(OWNER.prompt,)))
    assert built.state is EditState.APPLIED
    assert [(each.after.split("\n")[0], each.changed) for each in built.unrelated_answers] == [("Lady Maren Voss", False)] * 2
    [again] = await desk.edit(NEW_OWNER)
    assert (again.answers_before or {})["chat"] == "Lady Maren Voss"


async def test_taking_one_out_changes_no_other_and_a_rollback_brings_it_back_bit_for_bit(desk: Desk) -> None:
    await desk.edit(OWNER, MAYOR)
    both = await desk.head()
    await desk.take_back(OperationKind.SUBTRACT, edit_id=1)
    assert await desk.said("Who owns Castle Orwin?") != "Lady Maren Voss"
    assert await desk.said("Who is the mayor of Lake Tantrum?") == "Odessa Brightwater"
    await desk.take_back(OperationKind.ROLLBACK, to_revision=1)
    assert (await desk.head()).fingerprint == both.fingerprint
    assert await desk.said("Who owns Castle Orwin?") == "Lady Maren Voss"
    assert await desk.states() == {1: "applied", 2: "applied"}


async def test_a_rebuild_without_an_edit_leaves_the_others_records_as_they_were(desk: Desk) -> None:
    await desk.edit(OWNER, MAYOR)
    before = await read.records_at(desk.database, 1)
    done = await desk.take_back(OperationKind.REBUILD, without=(1,))
    assert done.state is OperationState.APPLIED
    assert await desk.states() == {1: "reverted", 2: "applied"}
    assert await read.records_at(desk.database, 2) == {2: before[2]}
    await desk.head()


async def test_a_lost_record_is_made_again_by_teaching_its_edit_alone(desk: Desk) -> None:
    await desk.edit(OWNER, MAYOR)
    before = await desk.head()
    lost = (await read.records_at(desk.database, 1))[1]
    desk.objects.path(lost).unlink()
    await desk.restart()
    assert await desk.head() == before
    assert desk.objects.get(lost)


async def test_who_may_not_mend_names_the_record_that_is_damaged(desk: Desk) -> None:
    await desk.edit(OWNER)
    lost = (await read.records_at(desk.database, 1))[1]
    path = desk.objects.path(lost)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    restorer = ScopedRestorer(desk.resident, desk.thread, desk.database, desk.objects, mends=False)
    desk.resident.revision = -1
    with pytest.raises(ObjectDamaged, match="record of edit 1"):
        await restorer.state_at(await read.get_revision(desk.database, 1))


async def test_a_ledger_of_another_mode_is_taken_over_in_one_revision(new_desk: NewDesk) -> None:
    desk = await new_desk(starts=False)
    held = await lease.acquire(desk.database, "an earlier version", 3600)
    assert held is not None
    rest = ("0" * 64, {}, ())  # of a configuration, norms, statistics
    await commit_revision(desk.database, held, NewRevision(0, RevisionKind.BASE, None, None, "1" * 64, *rest, passes=0, rows=0))
    await submit(desk.database, [OWNER], idempotency_key=None, quotas=Quotas(10))
    batch = await batches.claim(desk.database, held, 10)
    assert batch is not None
    new = NewRevision(1, RevisionKind.EDIT, "2" * 64, None, "3" * 64, *rest, passes=1, rows=1)
    await commit_revision(desk.database, held, new, batch=batch, outcomes=[Outcome(1, {}, {}, {})])
    await lease.release(desk.database, held)
    await desk.start()
    assert (await desk.head()).number == 2
    assert await desk.said("Who owns Castle Orwin?") == "Lady Maren Voss"
    events = await read.history(desk.database, 1)
    assert [(number, each.event.value) for number, each in events.items()] == [(1, "applied"), (2, "taught_again")]


async def test_records_outside_the_window_are_let_go_and_those_in_force_are_not(new_desk: NewDesk) -> None:
    desk = await new_desk(checkpoint_every=1, prune_every=1, rollback_window=1, prune_grace_s=0)
    await desk.edit(OWNER)
    [old] = (await read.records_at(desk.database, 1)).values()
    await desk.edit(NEW_OWNER)
    await desk.edit(MAYOR)
    await desk.edit(PORT)
    assert old not in set(desk.objects.names())
    await desk.restart()
    await desk.head()


BUILT = NewEdit("When was Castle Orwin built?", "in 1412", unrelated=("Who owns Castle Orwin?",))  # judged beside OWNER


async def test_a_damaged_record_of_another_edit_is_made_again_while_an_edit_is_judged(desk: Desk) -> None:
    await desk.edit(OWNER)
    [record] = (await read.records_at(desk.database, 1)).values()
    desk.objects.path(record).write_bytes(b"damaged")
    [built] = await desk.edit(BUILT)
    assert (built.state, built.attempts) == (EditState.APPLIED, 1)
    assert desk.objects.get(record)
    desk.resident.served.forget()
    assert await desk.said("Who owns Castle Orwin?") == "Lady Maren Voss"


async def test_an_edit_waits_for_a_record_of_anothers_that_cannot_be_made_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*arguments: object) -> None:
        raise ObjectDamaged("taught again, it is another")

    await desk.edit(OWNER)
    [record] = (await read.records_at(desk.database, 1)).values()
    content = desk.objects.get(record)
    desk.objects.path(record).unlink()
    monkeypatch.setattr(ScopedRestorer, "_made_again", lost)
    await submit(desk.database, [BUILT], idempotency_key=None, quotas=Quotas(10))
    batch = await batches.claim(desk.database, desk.held, 50)
    assert batch is not None
    with pytest.raises(ObjectsUnavailable, match="batch 2 waits: taught again, it is another"):
        await desk.applying.apply(desk.held, batch)
    assert await desk.states() == {1: "applied", 2: "applying"}
    desk.objects.put(content)  # from a backup
    await desk.applying.apply(desk.held, batch)
    assert await desk.states() == {1: "applied", 2: "applied"}


async def test_a_batch_that_takes_too_long_is_halved_until_an_edit_is_alone(new_desk: NewDesk) -> None:
    desk = await new_desk(batch_limit_s=1e-9)
    edits = await desk.edit(OWNER, BUILT)
    assert {each.failure_code for each in edits} == {"batch_timed_out"}
    assert len({each.batch_id for each in edits}) == 2


async def test_no_key_takes_the_place_of_anothers_fact_in_other_words(desk: Desk) -> None:
    for key, question in (("ann", OWNER), ("bob", NewEdit("Who is the owner of Castle Orwin?", "Bob"))):
        quotas = Quotas(10, replaces_own_only=True)
        await submit(desk.database, [question], idempotency_key=None, quotas=quotas, asked_by=Caller(key))
        batch = await batches.claim(desk.database, desk.held, 50)
        assert batch is not None
        await desk.applying.apply(desk.held, batch)
    assert (await read.get_edit(desk.database, 2)).failure_code == "not_your_fact"
    assert await desk.said("Who owns Castle Orwin?") == "Lady Maren Voss"
