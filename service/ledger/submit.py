"""Accepting edits: when this returns they are committed, whatever happens next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.domain.edits import EditRecord, NewEdit
from service.domain.revisions import content_hash
from service.errors import IdempotencyConflict, QueueFull
from service.infra.postgres import Database


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

    Raises QueueFull, or IdempotencyConflict when the key was used with another body; nothing is written then.
    """
    body_hash = content_hash([each.content() for each in new])
    async with database.transaction() as work:
        repository = work.repository
        submission_id = await repository.insert_submission(idempotency_key, body_hash)
        if submission_id is None:
            assert idempotency_key is not None
            known_id, known_hash = await repository.submission_by_key(idempotency_key)
            if known_hash != body_hash:
                raise IdempotencyConflict(f"Idempotency-Key {idempotency_key!r} belongs to another set of edits; use a new key")
            return Submission(known_id, tuple(await repository.edits_of_submission(known_id)), replayed=True)
        waiting = await repository.pending_count()
        if waiting + len(new) > max_queued_edits:
            raise QueueFull(
                f"{waiting} edits are waiting and {len(new)} more would exceed {max_queued_edits}; try again later",
                retry_after_s=10,
            )
        await repository.insert_edits(submission_id, new)
        edits = tuple(await repository.edits_of_submission(submission_id))
        await work.commit()
    return Submission(submission_id, edits, replayed=False)
