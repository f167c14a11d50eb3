"""Accepting edits: when this returns they are committed, whatever happens next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service import failpoints
from service.domain.callers import NOBODY, Caller
from service.domain.edits import EditRecord, EditState, Failure, NewEdit
from service.domain.revisions import content_hash
from service.errors import Forbidden, IdempotencyConflict, NotFound, NotReversible, QueueFull, RequestInProgress
from service.infra.postgres import Database, UnitOfWork
from service.ledger import fact_owners


@dataclass(frozen=True, slots=True)
class Submission:
    """What one request became. `replayed` when its Idempotency-Key had been used before, with the same body."""

    id: int
    edits: tuple[EditRecord, ...]
    replayed: bool


@dataclass(frozen=True, slots=True)
class Quotas:
    """edits: waiting or being applied, of all and of one API key; replaces_own_only: whether a key is held to its own facts."""

    edits: int
    edits_per_key: int | None = None
    replaces_own_only: bool = False


async def submit(
    database: Database, new: Sequence[NewEdit], *, idempotency_key: str | None, quotas: Quotas, asked_by: Caller = NOBODY
) -> Submission:
    """Write the edits in one transaction and commit.

    Raises QueueFull, Forbidden for a fact of another key's, IdempotencyConflict when the key was used with another body,
    RequestInProgress when a request with this key is under way; nothing is written then.
    """
    body_hash = content_hash([each.content() for each in new])
    async with database.transaction() as work:
        repository = work.repository
        submission_id, replayed = await begin_submission(work, idempotency_key, body_hash, asked_by)
        if replayed:
            return Submission(submission_id, tuple(await repository.edits_of_submission(submission_id)), replayed=True)
        await _check_room(work, len(new), quotas, asked_by.key_id)
        if quotas.replaces_own_only:
            await _check_own(work, new, asked_by.key_id)
        await repository.insert_edits(submission_id, new, asked_by)
        edits = tuple(await repository.edits_of_submission(submission_id))
        failpoints.hit("submit.before_commit")
        await work.commit()
    failpoints.hit("submit.after_commit")
    return Submission(submission_id, edits, replayed=False)


async def cancel_edit(database: Database, edit_id: int, own_key: str | None = None) -> EditRecord:
    """accepted -> failed, as `cancelled`. own_key: of a caller that sees its own edits only.

    Raises NotFound, or NotReversible for what a worker has taken.
    """
    async with database.transaction() as work:
        found = await work.repository.edit(edit_id)
        if found is None or own_key not in (None, found.asked_by.key_id):
            raise NotFound(f"there is no edit {edit_id}", code="edit_not_found")
        cancelled = await work.repository.mark_failed(Failure(edit_id, "cancelled", "by its caller"), EditState.ACCEPTED)
        after = await work.repository.edit(edit_id)
        await work.commit()
    assert after is not None
    if not cancelled:
        raise NotReversible(f"edit {edit_id} is {after.state}: it does not wait any more", code="not_waiting")
    return after


async def _check_room(work: UnitOfWork, count: int, quotas: Quotas, key_id: str) -> None:
    limits: list[tuple[str, str | None, int]] = [("", None, quotas.edits)]
    if key_id and quotas.edits_per_key is not None:
        limits.append((" of this key", key_id, quotas.edits_per_key))
    for whose, key, most in limits:
        waiting = await work.repository.pending_count(key)
        if waiting + count > most:
            raise QueueFull(
                f"{waiting} edits{whose} are waiting and {count} more would exceed {most}; try again later", retry_after_s=10
            )


async def _check_own(work: UnitOfWork, new: Sequence[NewEdit], key_id: str) -> None:
    if foreign := await fact_owners.of_others(work, key_id, new):
        raise Forbidden(
            f"a fact of another key answers {foreign[0].edit.prompt[:200]!r}; a key with the scope rollback may replace it",
            code="not_your_fact",
        )


async def begin_submission(
    work: UnitOfWork, idempotency_key: str | None, body_hash: str, asked_by: Caller = NOBODY
) -> tuple[int, bool]:
    """(the submission's id, whether it was there already). Raises IdempotencyConflict or RequestInProgress."""
    repository = work.repository
    if idempotency_key is not None and not await repository.take_key(asked_by.key_id, idempotency_key):
        raise RequestInProgress(f"a request with Idempotency-Key {idempotency_key!r} is under way", retry_after_s=1)
    created = await repository.insert_submission(idempotency_key, body_hash, asked_by)
    if created is not None:
        return created, False
    assert idempotency_key is not None
    known_id, known_hash = await repository.submission_by_key(asked_by.key_id, idempotency_key)
    if known_hash != body_hash:
        raise IdempotencyConflict(f"Idempotency-Key {idempotency_key!r} belongs to another request; use a new key")
    return known_id, True
