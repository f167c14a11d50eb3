"""Accepting edits: when this returns they are committed, whatever happens next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service import failpoints
from service.domain.edits import EditRecord, NewEdit
from service.domain.revisions import content_hash
from service.errors import IdempotencyConflict, QueueFull, RequestInProgress
from service.infra.postgres import Database, UnitOfWork


@dataclass(frozen=True, slots=True)
class Submission:
    """What one request became. `replayed` when its Idempotency-Key had been used before, with the same body."""

    id: int
    edits: tuple[EditRecord, ...]
    replayed: bool


async def submit(
    database: Database, new: Sequence[NewEdit], *, idempotency_key: str | None, max_queued_edits: int
) -> Submission:
    """Write the edits in one transaction and commit.

    Raises QueueFull, IdempotencyConflict when the key was used with another body, RequestInProgress when a request with this
    key is under way; nothing is written then.
    """
    body_hash = content_hash([each.content() for each in new])
    async with database.transaction() as work:
        repository = work.repository
        submission_id, replayed = await begin_submission(work, idempotency_key, body_hash)
        if replayed:
            return Submission(submission_id, tuple(await repository.edits_of_submission(submission_id)), replayed=True)
        waiting = await repository.pending_count()
        if waiting + len(new) > max_queued_edits:
            raise QueueFull(
                f"{waiting} edits are waiting and {len(new)} more would exceed {max_queued_edits}; try again later",
                retry_after_s=10,
            )
        await repository.insert_edits(submission_id, new)
        edits = tuple(await repository.edits_of_submission(submission_id))
        failpoints.hit("submit.before_commit")
        await work.commit()
    failpoints.hit("submit.after_commit")
    return Submission(submission_id, edits, replayed=False)


async def begin_submission(work: UnitOfWork, idempotency_key: str | None, body_hash: str) -> tuple[int, bool]:
    """(the submission's id, whether it was there already). Raises IdempotencyConflict or RequestInProgress."""
    repository = work.repository
    if idempotency_key is not None and not await repository.take_key(idempotency_key):
        raise RequestInProgress(f"a request with Idempotency-Key {idempotency_key!r} is under way", retry_after_s=1)
    created = await repository.insert_submission(idempotency_key, body_hash)
    if created is not None:
        return created, False
    assert idempotency_key is not None
    known_id, known_hash = await repository.submission_by_key(idempotency_key)
    if known_hash != body_hash:
        raise IdempotencyConflict(f"Idempotency-Key {idempotency_key!r} belongs to another request; use a new key")
    return known_id, True
