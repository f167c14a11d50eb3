"""What the ledger promises: accepted is kept, applied once, one writer at a time, history that cannot be changed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.bootstrap import Resources
from service.domain.edits import EditState, Failure, NewEdit, Outcome
from service.domain.revisions import (
    GENESIS_HASH,
    NewRevision,
    RevisionKind,
    StatisticsSummary,
    edits_hash,
    events_hash,
    row_hash,
)
from service.errors import IdempotencyConflict, LeaseLost, LedgerConflict, NotFound, QueueFull, RequestInProgress
from service.ledger import batches, lease, read
from service.ledger.commit import commit_revision
from service.ledger.lease import Lease
from service.ledger.submit import Quotas, Submission, begin_submission, submit

FACTS = [NewEdit(f"Who is number {number}?", f"Name {number}") for number in range(5)]


async def accept(resources: Resources, facts: list[NewEdit], key: str | None = None, limit: int = 1000) -> Submission:
    return await submit(resources.database, facts, idempotency_key=key, quotas=Quotas(limit))


def revision(number: int, kind: RevisionKind = RevisionKind.EDIT) -> NewRevision:
    summary = (StatisticsSummary(4, 2, n=10 * number, mean_norm=1.0, drift=0.5, condition=None),)
    return NewRevision(number, kind, "a" * 64, "b" * 64, f"{number:064x}", "c" * 64, {}, summary, passes=1, rows=3)


def outcomes(batch: batches.Batch) -> list[Outcome]:
    return [Outcome(record.id, {"plain": "?"}, {"plain": record.edit.target}, {"plain": True}) for record in batch.edits]


async def test_accepted_edits_are_there_in_order(resources: Resources) -> None:
    accepted = await accept(resources, FACTS)
    found = await read.list_edits(resources.database, submission_id=accepted.id)
    assert [record.edit for record in found] == FACTS
    assert {record.state for record in found} == {EditState.ACCEPTED}


async def test_the_same_key_and_body_gives_the_first_answer_again(resources: Resources) -> None:
    first, second = await accept(resources, FACTS, "key"), await accept(resources, FACTS, "key")
    assert [record.id for record in first.edits] == [record.id for record in second.edits]
    assert (first.replayed, second.replayed) == (False, True)
    assert len(await read.list_edits(resources.database)) == len(FACTS)


async def test_the_same_key_with_another_body_is_refused(resources: Resources) -> None:
    await accept(resources, FACTS, "key")
    with pytest.raises(IdempotencyConflict):
        await accept(resources, FACTS[:1], "key")


async def test_a_race_of_one_key_accepts_once(resources: Resources) -> None:
    racing = await asyncio.gather(*(accept(resources, FACTS, "key") for _ in range(8)), return_exceptions=True)
    accepted = [each for each in racing if isinstance(each, Submission)]
    assert len({submission.id for submission in accepted}) == 1
    assert sum(not submission.replayed for submission in accepted) == 1
    assert all(isinstance(each, RequestInProgress) for each in racing if each not in accepted)
    assert len(await read.list_edits(resources.database)) == len(FACTS)


async def test_while_a_request_is_under_way_its_key_is_refused_at_once(resources: Resources) -> None:
    async with resources.database.transaction() as work:
        await begin_submission(work, "key", "f" * 64)  # another connection, which has not committed
        with pytest.raises(RequestInProgress) as refused:
            await accept(resources, FACTS, "key")
        assert refused.value.retry_after_s
    assert not (await accept(resources, FACTS, "key")).replayed  # the other one never committed


async def test_a_full_queue_refuses_all_of_a_request(resources: Resources) -> None:
    await accept(resources, FACTS[:3], limit=4)
    with pytest.raises(QueueFull):
        await accept(resources, FACTS[:2], limit=4)
    assert len(await read.list_edits(resources.database)) == 3


async def test_keyset_pages_lose_and_repeat_nothing(resources: Resources) -> None:
    ids = [record.id for record in (await accept(resources, FACTS)).edits]
    seen: list[int] = []
    while page := await read.list_edits(resources.database, after=seen[-1] if seen else 0, limit=2):
        seen += [record.id for record in page]
    assert seen == ids


async def test_an_unknown_edit_is_not_found(resources: Resources) -> None:
    with pytest.raises(NotFound):
        await read.get_edit(resources.database, 404)


async def test_only_one_of_many_workers_gets_the_lease(resources: Resources) -> None:
    racing = await asyncio.gather(*(lease.acquire(resources.database, f"worker-{number}", 60) for number in range(8)))
    assert sum(acquired is not None for acquired in racing) == 1


async def test_a_released_lease_passes_on_with_a_greater_epoch(resources: Resources, held: Lease) -> None:
    await lease.release(resources.database, held)
    following = await lease.acquire(resources.database, "next", 60)
    assert following is not None
    assert following.epoch == held.epoch + 1
    with pytest.raises(LeaseLost):
        await lease.renew(resources.database, held)


async def test_a_worker_with_an_old_epoch_fails_at_the_commit_point(resources: Resources, held: Lease) -> None:
    await accept(resources, FACTS)
    await commit_revision(resources.database, held, revision(0, RevisionKind.BASE))
    batch = await batches.claim(resources.database, held, 50)
    assert batch is not None
    await lease.release(resources.database, held)
    await lease.acquire(resources.database, "next", 60)
    with pytest.raises(LeaseLost):
        await commit_revision(resources.database, held, revision(1), batch=batch, outcomes=outcomes(batch))
    head = (await read.stats(resources.database)).head
    assert head is not None
    assert head.number == 0
    assert {record.state for record in await read.list_edits(resources.database)} == {EditState.APPLYING}


async def test_an_interrupted_batch_is_taken_again_as_it_was_and_before_anything_newer(
    resources: Resources, held: Lease
) -> None:
    await accept(resources, FACTS[:3])
    interrupted = await batches.claim(resources.database, held, 50)
    await accept(resources, FACTS[3:])
    await lease.release(resources.database, held)
    following = await lease.acquire(resources.database, "next", 60)
    assert interrupted is not None
    assert following is not None
    [again] = await batches.take_over_interrupted(resources.database, following, max_tries=5)
    assert [record.id for record in again.edits] == [record.id for record in interrupted.edits]
    begun = await batches.begin(resources.database, following, again)
    assert ({record.attempts for record in begun.edits}, begun.tries) == ({2}, 2)
    newer = await batches.claim(resources.database, following, 50)
    assert newer is not None
    assert [record.edit for record in newer.edits] == FACTS[3:]


async def killed(resources: Resources, held: Lease, survived: tuple[int, ...] = ()) -> tuple[Lease, list[batches.Batch]]:
    """The next worker, and what it takes over from one that ended without a word."""
    await lease.release(resources.database, held)
    following = await lease.acquire(resources.database, "next", 60)
    assert following is not None
    return following, await batches.take_over_interrupted(resources.database, following, 3, survived)


async def test_a_batch_that_ends_its_workers_is_halved_until_the_culprit_fails_alone(resources: Resources, held: Lease) -> None:
    ids = [record.id for record in (await accept(resources, FACTS)).edits]
    culprit, deaths = ids[3], 0
    batch = await batches.claim(resources.database, held, 50)
    left = [batch]
    while left:
        batch = left.pop(0)
        assert batch is not None
        if culprit not in [record.id for record in batch.edits]:
            await batches.fail(
                resources.database, held, batch, [Failure(each.id, "stands_for_applied", "") for each in batch.edits]
            )
            continue
        held, taken = await killed(resources, held)
        deaths += 1
        left = [await batches.begin(resources.database, held, taken[0]), *taken[1:]] if taken else []
    found = await read.list_edits(resources.database)
    assert [record.id for record in found if record.failure_code == "attempts_exhausted"] == [culprit]
    assert {record.state for record in found} == {EditState.FAILED}
    assert deaths <= 2 + 3 + 3


async def test_a_batch_is_not_blamed_for_what_its_worker_survived(resources: Resources, held: Lease) -> None:
    await accept(resources, FACTS)
    batch = await batches.claim(resources.database, held, 50)
    assert batch is not None
    for _ in range(4):
        held, [batch] = await killed(resources, held, survived=(batch.id,))
        batch = await batches.begin(resources.database, held, batch)
    assert [record.edit for record in batch.edits] == FACTS


async def test_two_targets_for_one_prompt_never_share_a_batch(resources: Resources, held: Lease) -> None:
    one, other, third = NewEdit("Who  is it?", "Ann"), NewEdit("who is it?", "Bob"), NewEdit("And this?", "Cy")
    await accept(resources, [one, other, third])
    first, second = [await batches.claim(resources.database, held, 50) for _ in range(2)]
    assert first is not None
    assert second is not None
    assert [[r.edit.target for r in batch.edits] for batch in (first, second)] == [["Ann"], ["Bob", "Cy"]]


async def test_a_commit_is_whole_or_nothing(resources: Resources, held: Lease) -> None:
    await accept(resources, FACTS)
    await commit_revision(resources.database, held, revision(0, RevisionKind.BASE))
    batch = await batches.claim(resources.database, held, 50)
    assert batch is not None
    await batches.fail(resources.database, held, batch, [Failure(batch.edits[-1].id, "test", "taken away meanwhile")])
    with pytest.raises(LedgerConflict):
        await commit_revision(resources.database, held, revision(1), batch=batch, outcomes=outcomes(batch))
    stats = await read.stats(resources.database)
    assert stats.head is not None
    assert stats.head.number == 0
    assert stats.edits_by_state[EditState.APPLIED] == 0


async def test_a_batch_is_committed_once(resources: Resources, held: Lease) -> None:
    await accept(resources, FACTS)
    await commit_revision(resources.database, held, revision(0, RevisionKind.BASE))
    batch = await batches.claim(resources.database, held, 50)
    assert batch is not None
    await commit_revision(resources.database, held, revision(1), batch=batch, outcomes=outcomes(batch))
    for number in (1, 2):
        with pytest.raises(LedgerConflict):
            await commit_revision(resources.database, held, revision(number), batch=batch, outcomes=outcomes(batch))


async def test_a_split_batch_keeps_every_edit(resources: Resources, held: Lease) -> None:
    await accept(resources, FACTS)
    batch = await batches.claim(resources.database, held, 50)
    assert batch is not None
    one, other = await batches.split(resources.database, held, batch)
    assert [record.edit for half in (one, other) for record in half.edits] == FACTS
    assert await batches.take_over_interrupted(resources.database, replace(held), 5) == []


async def test_each_revision_is_hash_chained_to_the_one_before(resources: Resources, held: Lease) -> None:
    await accept(resources, FACTS)
    await commit_revision(resources.database, held, revision(0, RevisionKind.BASE))
    batch = await batches.claim(resources.database, held, 50)
    assert batch is not None
    await commit_revision(resources.database, held, revision(1), batch=batch, outcomes=outcomes(batch))
    base, first = await read.revisions_after(resources.database, -1)
    assert base.previous_hash == GENESIS_HASH
    assert first.previous_hash == base.row_hash
    edits = edits_hash((record.id, record.edit.content()) for record in batch.edits)
    assert first.edits_hash == edits
    async with resources.database.transaction() as work:
        events = await work.repository.events_of(1)
    assert first.events_hash == events_hash(events.values())
    assert {edit_id: each.event for edit_id, each in events.items()} == {each.id: "applied" for each in batch.edits}
    assert [base.row_hash, first.row_hash] == [row_hash(base), row_hash(first)]
    for altered in ({"passes": 9}, {"actor": "somebody"}, {"fingerprint": "0" * 64}, {"statistics_hash": "0" * 64}):
        assert row_hash(replace(first, **altered)) != first.row_hash


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE revisions SET rows = 0",
        "DELETE FROM revisions",
        "TRUNCATE statistics",
        "UPDATE statistics SET n = 0",
        "UPDATE edit_events SET event = 'reverted'",
        "DELETE FROM edit_events",
        "UPDATE edits SET prompt = 'another'",
        "UPDATE edits SET target = 'another'",
        "UPDATE edits SET subject = 'another'",
        """UPDATE edits SET aliases = '["another"]'""",
        "DELETE FROM edits",
        "UPDATE submissions SET idempotency_key = NULL",
        "DELETE FROM submissions",
        "DELETE FROM batches",
        "DELETE FROM operations",
        "TRUNCATE edits CASCADE",
    ],
)
async def test_history_is_refused_any_change_by_the_database_itself(resources: Resources, held: Lease, change: str) -> None:
    await commit_revision(resources.database, held, revision(0, RevisionKind.BASE))
    await accept(resources, FACTS)
    async with resources.database.transaction() as work:
        with pytest.raises(DBAPIError, match="append-only"):
            await work._connection.execute(text(change))
